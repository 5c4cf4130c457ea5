"""How long judging takes: nn-check and compare on real shapes, cold and with what the cache saves; and far larger data."""

from __future__ import annotations

import functools
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from gan3d_eval.cache import NO_CACHE, Cache
from gan3d_eval.compare import compare
from gan3d_eval.distances import nearest
from gan3d_eval.nn_check import nn_check
from gan3d_eval.voxels import VoxelSet

__all__ = ["bench_eval"]

MILLION = 10**6


def bench_eval(dataset: Path, n: int, draws: int, mapped: int) -> Iterator[str]:
    """Judge half of the held-out and left-over shapes as if they were samples; yields a line for each measurement.

    Parameters
    ----------
    n : int
        Samples, and held-out shapes: drawn from the test split, then from the training split, which gets what is left.
    draws : int
        Of `compare`.
    mapped : int
        Shapes at 64³ of a file that is searched through a memory map, to say what a million cost.
    """
    shapes = VoxelSet.open(dataset).without_empty()
    order = np.concatenate([np.flatnonzero(shapes.table["split"].eq(split)) for split in ("test", "train")])
    random = np.random.default_rng(0)
    chosen = random.permutation(order[: 2 * n])
    test, gen = (shapes.take(np.sort(part)) for part in (chosen[:n], chosen[n:]))
    train = shapes.take(np.sort(order[2 * n :]))
    label = f"{len(gen)} samples, {len(test)} held out, {len(train)} training shapes at {shapes.resolution}³"
    verbs: dict[str, Callable[[Cache], Any]] = {
        "nn-check, five distances": lambda cache: nn_check(train, test, gen, cache=cache),
        f"compare, {draws} draws": lambda cache: compare(train, test, gen, draws, cache=cache),
    }
    nn_check(train.take(range(len(train))[:50]), test, gen.take(range(len(gen))[:20]))  # compiles what is not compiled yet
    with tempfile.TemporaryDirectory() as folder:
        for name, verb in verbs.items():
            cold = _seconds(functools.partial(verb, NO_CACHE))
            verb(Cache(Path(folder)))
            warm = _seconds(functools.partial(verb, Cache(Path(folder))))
            memory = f"largest memory {_peak():.2f} GiB, of which packed shapes {shapes.packed.nbytes / 2**30:.2f} GiB"
            yield f"{name}; {label}: {cold:.1f} s, {warm:.1f} s once the data's own part is cached; {memory}"
        yield from _mapped(Path(folder), mapped, n, random)


def _mapped(folder: Path, count: int, n: int, random: np.random.Generator) -> Iterator[str]:
    """Search a file that is read block by block."""
    packed = np.lib.format.open_memmap(folder / "voxels.npy", "w+", np.uint8, (count, 64**3 // 8))
    for i in range(0, count, 1000):
        packed[i : i + 1000] = random.integers(0, 256, packed[i : i + 1000].shape, np.uint8)
    packed.flush()
    del packed
    database, before = np.load(folder / "voxels.npy", mmap_mode="r"), _peak()
    queries = np.array(database[:n])
    seconds = _seconds(lambda: nearest(queries, database, 3))
    more = max(0.0, _peak() - before)
    yield (
        f"L1 of {n} samples in a memory map of {count} shapes at 64³ ({database.nbytes / 1e9:.2f} GB): {seconds:.1f} s, "
        f"{more:.2f} GiB of memory more; a million shapes ({MILLION * database.shape[1] / 1e9:.0f} GB): "
        f"{seconds * MILLION / count / 60:.0f} min"
    )


def _seconds(call: Callable[[], Any]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def _peak() -> float:
    """Most memory that this process ever had, GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
