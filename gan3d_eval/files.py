"""How files are written and read: atomically, as strict JSON, hashed by content.

Everything that gan3d leaves on disk goes through here, so that a kill at any moment leaves either the old file or the
new one, never half of either. This module knows nothing of voxels or runs.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import lzma
import math
import os
import re
import secrets
import shlex
import shutil
import tempfile
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import pandas as pd
from numpy.typing import NDArray

__all__ = [
    "UNREADABLE",
    "Gan3dError",
    "atomic_directory",
    "atomic_file",
    "content_hash",
    "drafts",
    "file_hash",
    "in_shell",
    "is_held",
    "read_json",
    "read_table",
    "refuse_closed",
    "refuse_ours",
    "refuse_taken",
    "refuse_target",
    "row_hashes",
    "safe_name",
    "write_json",
]


DATASET_FILES = ("dataset.json", "shapes.csv", "voxels.npy", "rejected.csv")
"""What a dataset directory holds; the first says that it is one."""
UNREADABLE = (
    OSError,
    ValueError,
    EOFError,
    LookupError,
    MemoryError,
    NotImplementedError,
    RuntimeError,
    SyntaxError,
    lzma.LZMAError,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)
"""What damaged or hostile archives make NumPy and zipfile raise."""


class Gan3dError(ValueError):
    """Base of every error that a user can cause: one line with path, what was found, what was expected, what to do."""

    exit_code = 1


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success flush it to disk and rename it over `path`.

    If the block raises (a full disk, ctrl-C) the temporary file is removed and what stood at `path` stays as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _beside(path)
    try:
        temporary.touch(exist_ok=False)
        try:
            yield temporary
            with temporary.open("rb+") as written:
                os.fsync(written.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as fault:
        if fault.filename in {None, str(temporary)}:  # a full disk, mostly: the user knows `path`, not our temporary name
            raise OSError(fault.errno, fault.strerror or str(fault), str(path)) from None
        raise


@contextlib.contextmanager
def drafts(folder: Path) -> Iterator[Path]:
    """Yield a hidden folder in `folder`. When all is done what lies in it moves there, in place of what had its names.

    If the block raises, all stays as it was: pictures of one run of a verb do not stand among those of another.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".drafts-", dir=folder) as hidden:
        yield Path(hidden)
        for path in sorted(Path(hidden).iterdir()):
            path.replace(folder / path.name)


@contextlib.contextmanager
def atomic_directory(path: Path, force: bool = False, names: Sequence[str] = DATASET_FILES) -> Iterator[Path]:
    """Yield a temporary directory beside `path`; on success rename it to `path`.

    Raises
    ------
    Gan3dError
        `path` exists and `force` is false, or it does not hold the first of `names`, or holds others than these: only a
        directory of the same kind is ever replaced, and removed only after the new one is whole. One that somebody else made
        meanwhile is refused as well.
    """
    refuse_target(path, force, names)
    temporary = _beside(path)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        refuse_target(path, force, names)
        if path.exists():
            old = temporary.with_suffix(".old")
            path.rename(old)
            try:
                temporary.rename(path)
            except OSError:
                old.rename(path)
                raise
            shutil.rmtree(old)
        else:
            temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def refuse_target(path: Path, force: bool = False, names: Sequence[str] = DATASET_FILES) -> None:
    """Raise Gan3dError if a directory of this kind must not be written at `path` (see `atomic_directory`)."""
    if not path.exists():
        return
    if not (path / names[0]).is_file():
        raise Gan3dError(f"{path} already exists, and holds no {names[0]}, so it is something else; choose another name")
    if not force:
        raise Gan3dError(f"{path} already exists; choose another name, or pass --force to replace it")
    if others := sorted(entry.name for entry in path.iterdir() if entry.name not in names and not entry.name.startswith(".")):
        raise Gan3dError(f"{path} holds other things too, which --force would delete ({', '.join(others[:3])}); move them")


def refuse_ours(folder: Path) -> None:
    """Raise Gan3dError if `folder` is a dataset or a run, in which other files have no place."""
    if any((folder / mark).is_file() for mark in ("dataset.json", "run.json")):
        raise Gan3dError(f"{folder} is a dataset or a run; choose a folder of its own")


def refuse_closed(folder: Path, way_out: str = "and what is made belongs there; take a copy of it") -> None:
    """Raise Gan3dError if nothing can be written into `folder`, which may not be there yet: before the work, not after it."""
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not there.is_dir():
        raise Gan3dError(f"{there} is a file, and no folder can be made there; choose another place")
    if not os.access(there, os.W_OK):
        raise Gan3dError(f"{there if there.name else there.absolute()} cannot be written to, {way_out}")


def refuse_taken(path: Path) -> None:
    """Raise Gan3dError if no run can be made at `path`: something stands there, or nothing can be written."""
    if path.exists():
        raise Gan3dError(f"{path} already exists; a run never overwrites another: choose a new name")
    refuse_closed(path, "and the run belongs there; choose another place")


def is_held(lock: Path) -> bool:
    """Whether a process holds the lock file."""
    if not lock.exists():
        return False
    mine = filelock.FileLock(lock, timeout=0)
    try:
        mine.acquire()
    except OSError:  # held; or on a disk where we may not ask, and then it is taken for held
        return True
    mine.release()
    return False


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write `value` as indented UTF-8 JSON, atomically. NaN and infinity are a programming error and raise ValueError."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False, default=_plain)
    with atomic_file(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def read_json(path: Path, error: type[Gan3dError] = Gan3dError) -> dict[str, Any]:
    """Read a JSON object; anything else at `path`, NaN and infinity too, raises `error` with the place of the fault."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"), parse_constant=_no_number)
    except FileNotFoundError:
        raise error(f"{path} is missing") from None
    except (ValueError, RecursionError) as fault:
        raise error(f"{path} is not valid JSON: {fault}") from None
    if not isinstance(value, dict):
        raise error(f"{path} holds a JSON {type(value).__name__}, expected an object")
    return value


def content_hash(*arrays: NDArray[Any]) -> str:
    """SHA-256 over dtype, shape and C-ordered bytes of `arrays`, in order: equal content, equal hash, on any machine."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        for start in range(0, len(array), 4096):  # rows in blocks, so that a memory map is never read whole
            digest.update(np.ascontiguousarray(array[start : start + 4096]).data)
    return digest.hexdigest()


def read_table(source: Any, **options: Any) -> pd.DataFrame:
    """`pandas.read_csv`; ValueError for rows longer than their header, of which that takes the first columns for an index."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)
        try:
            table: pd.DataFrame = pd.read_csv(source, index_col=False, **options)
        except pd.errors.ParserWarning:
            raise ValueError("rows have more fields than their header") from None
    return table


def row_hashes(rows: NDArray[Any]) -> list[bytes]:
    """A hash of each row: equal rows, equal hashes, and for all purposes the other way round (128 bits of BLAKE2b)."""
    return [hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in rows]


def in_shell(path: Path | str) -> str:
    """A path as it stands in a command that can be pasted into a shell."""
    return shlex.quote(str(path))


def safe_name(text: str) -> str:
    """`text` as part of a file's name: all but letters, digits, `_`, `.` and `-` becomes `-`, so that it names no folder."""
    return re.sub(r"[^\w.-]+", "-", text)


def check_space(folder: Path, needed: int, what: str, fault: type[Gan3dError] = Gan3dError, advice: str = "") -> None:
    """`fault` where the disk of `folder` has less than `needed` bytes free for `what`."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise fault(f"{what} needs {needed / 1e6:,.1f} MB, the disk has {free / 1e6:,.1f} MB free; free some{advice}")


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _plain(value: Any) -> Any:
    """Turn NumPy scalars and paths into what JSON knows."""
    if isinstance(value, np.generic):
        plain = value.item()
        if isinstance(plain, float) and not math.isfinite(plain):
            raise ValueError(f"{plain} cannot be written to JSON")
        return plain
    if isinstance(value, Path):
        return value.as_posix()
    raise TypeError(f"{type(value).__name__} cannot be written to JSON")


def _no_number(constant: str) -> None:
    """Python's reader takes NaN and infinity, which JSON does not know."""
    raise ValueError(f"{constant} is no number")


def _beside(path: Path) -> Path:
    """A new name in the directory of `path`, for what is to be renamed to it."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
