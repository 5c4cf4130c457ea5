"""A conversion in pieces: on all cores or on a cluster, in bounded memory, and never done twice after a kill."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import shutil
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from joblib import Parallel, delayed
from numpy.typing import NDArray

from gan3d_eval.run_dir import atomic_file
from gan3d_eval.voxels import VoxelError, parse_voxels
from gan3d_model.data.convert import Part, Row, Task, convert

__all__ = ["Parts", "alone", "deaf_to_ctrl_c", "progress", "spread_over", "work"]

CONNECT_SECONDS = 20
SMALL = 4_000_000
"""Bytes of files below which one process does all."""


class Parts:
    """Finished parts in a hidden folder beside the target, one file each, kept until the dataset stands."""

    def __init__(self, folder: Path, plan: dict[str, Any], say: Callable[[str], None]) -> None:
        """Take up `folder` if it was begun with the same `plan` (source, settings, version); else begin anew."""
        self.folder = folder
        key = hashlib.sha256(json.dumps(plan, sort_keys=True, default=str).encode()).hexdigest()
        mark = folder / "plan.txt"
        if folder.exists() and not mark.exists() and any(folder.iterdir()):
            raise VoxelError(f"{folder} is in the way: parts of a dataset are kept there while it is made; move it elsewhere")
        if mark.exists() and mark.read_text() != key:
            shutil.rmtree(folder)
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_file(mark) as temporary:
            temporary.write_text(key)
        if done := self.numbers():
            say(f"goes on after {len(done)} finished parts of an earlier, interrupted call")

    def numbers(self) -> set[int]:
        """Numbers of the finished parts."""
        return {int(path.stem.split("-")[1]) for path in self.folder.glob("part-*.npz")}

    def save(self, part: Part) -> None:
        """Write one part, atomically."""
        text = np.frombuffer(json.dumps(part.rows).encode(), np.uint8)
        with atomic_file(self._path(part.number)) as temporary, temporary.open("wb") as file:
            np.savez(file, rows=text, packed=part.packed)

    def save_rejected(self, rows: list[Row]) -> None:
        """Keep the rows of files that could not even be tried, as part 0."""
        self.save(Part(0, rows, np.zeros((0, 0), np.uint8), len(rows)))

    def rows(self) -> list[Row]:
        """The rows of all parts, in order."""
        return [row for number in sorted(self.numbers()) for row in self._load(number)[0]]

    def grids(self) -> Iterator[NDArray[np.uint8]]:
        """The packed usable grids, part after part."""
        for number in sorted(self.numbers() - {0}):
            yield self._load(number)[1]

    def remove(self) -> None:
        """Delete the folder; the dataset stands."""
        shutil.rmtree(self.folder)

    def _path(self, number: int) -> Path:
        return self.folder / f"part-{number:06d}.npz"

    def _load(self, number: int) -> tuple[list[Row], NDArray[np.uint8]]:
        with self._path(number).open("rb") as stream:
            arrays = parse_voxels(stream, ".npz")
        return json.loads(arrays["rows"].tobytes()), arrays["packed"]


@contextlib.contextmanager
def alone(target: Path) -> Iterator[None]:
    """Keep a second call from making the same target at the same time."""
    lock = FileLock(target.parent / f".{target.name}.lock")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        if not Path(lock.lock_file).exists():  # nobody holds what cannot be made: a place like /proc
            raise VoxelError(
                f"{target} cannot be made: no file can be written to {target.parent}; choose another place"
            ) from None
        raise VoxelError(f"{target} is being made by another process; wait for it, or choose another place") from None
    except OSError as fault:
        raise VoxelError(f"{target} cannot be made: {target.parent}: {fault.strerror}; choose another place") from None
    try:
        yield
    finally:
        with contextlib.suppress(PermissionError):  # Windows removes no open file
            Path(lock.lock_file).unlink(missing_ok=True)  # while it is held: once released, it could be another call's
        lock.release()


def work(tasks: list[Task], scheduler: str | None) -> Iterator[Part]:
    """Convert all tasks, on this machine's cores or on the Dask cluster at `scheduler`; parts come as they are done."""
    if not scheduler:
        # Few bytes: starting processes would take longer than the work.
        jobs = 1 if sum(item.size for task in tasks for item in task.items) < SMALL else -1
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=r"\d+ tasks", category=UserWarning)  # that an error left undone
            pool = Parallel(n_jobs=jobs, return_as="generator_unordered")
            with deaf_to_ctrl_c():
                parts = pool(delayed(_convert_beside)(os.getpid(), task) for task in tasks)
            yield from parts
        return
    with _cluster(scheduler) as (client, as_completed, killed):
        try:
            for future, part in as_completed(client.map(convert, tasks, pure=False, retries=2), with_results=True):
                future.release()  # a finished part is on our disk; workers need not keep it
                yield part
        except (killed, ImportError, AttributeError) as fault:
            raise VoxelError(
                f"the cluster gave up ({fault}); workers need this version of gan3d. The same call goes on"
            ) from None


@contextlib.contextmanager
def deaf_to_ctrl_c() -> Iterator[None]:
    """Processes that begin in here never hear ctrl-C, which a shell sends to all: one that is still importing would print a
    traceback. This one hears it again afterwards (a fiftieth of a second later), and ends them.
    """
    if threading.current_thread() is not threading.main_thread():  # which alone may say what a signal does
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # (a mask would be lifted by the resource tracker's start)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _convert_beside(parent: int, task: Task) -> Part:
    """Convert in a worker process that ends with its parent: after kill -9 of that, it would wait for work for ever."""
    if os.getpid() != parent:
        _end_with(parent)
    return convert(task)


@functools.cache
def _end_with(parent: int) -> None:
    """Start a thread that ends this process when it is no longer a child of `parent`."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextlib.contextmanager
def _cluster(scheduler: str) -> Iterator[tuple[Any, Any, type[Exception]]]:
    """A client of the Dask scheduler, and what else is needed of `distributed`, which is an extra."""
    try:
        from distributed import Client, KilledWorker, as_completed
    except ImportError:
        raise VoxelError("--scheduler needs Dask; install it with: pip install 'gan3d[cluster]'") from None
    try:
        client = Client(scheduler, timeout=CONNECT_SECONDS)
    except (OSError, ValueError) as fault:
        raise VoxelError(f"no Dask scheduler answers at {scheduler} ({fault}); expected e.g. tcp://host:8786") from None
    with client:
        yield client, as_completed, KilledWorker


@contextlib.contextmanager
def spread_over(scheduler: str) -> Iterator[Callable[..., list[Any]]]:
    """Yield what calls `function(piece, shared)` for every piece on the workers of a Dask cluster: results in order."""
    with _cluster(scheduler) as (client, _, killed):

        def spread(function: Callable[..., Any], pieces: Sequence[Any], shared: Any) -> list[Any]:
            try:
                return list(client.gather(client.map(function, pieces, shared=shared, pure=False, retries=2)))
            except (killed, ImportError, AttributeError, OSError) as fault:
                raise VoxelError(
                    f"the cluster gave up ({fault}); workers need this version of gan3d, and the dataset under the same path"
                ) from None

        yield spread


def progress(parts: Iterable[Part], total: int, done: int, unit: str, say: Callable[[str], None]) -> Iterator[Part]:
    """Pass parts on, and say every few seconds how far it is, how fast, and how long it will take."""
    start: float | None = None  # of the second part: before the first, workers are started
    last = time.monotonic()
    for part in parts:
        done += part.files
        now = time.monotonic()
        if start is None:
            start, before = now, done
        elif now - last >= 3 or done == total:
            rate = (done - before) / max(now - start, 1e-9)
            say(f"{done}/{total} {unit}, {rate:.0f}/s" + (f", {(total - done) / rate:.0f} s left" if done < total else ""))
            last = now
        yield part
