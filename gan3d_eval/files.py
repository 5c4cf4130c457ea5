"""How files are written and read: atomically, as strict JSON, hashed by content.

Everything that gan3d leaves on disk goes through here, so that a kill at any moment leaves either the old file or the
new one, never half of either. This module knows nothing of voxels or runs.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import re
import secrets
import shutil
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "UNREADABLE",
    "Gan3dError",
    "atomic_directory",
    "atomic_file",
    "check_memory",
    "content_hash",
    "file_hash",
    "npy_header",
    "parse_arrays",
    "read_arrays",
    "read_json",
    "refuse_closed",
    "refuse_target",
    "row_hashes",
    "safe_name",
    "write_json",
]


UNREADABLE = (
    OSError,
    ValueError,
    EOFError,
    LookupError,
    MemoryError,
    NotImplementedError,
    RuntimeError,
    SyntaxError,
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
def atomic_directory(path: Path, marker: str, force: bool = False) -> Iterator[Path]:
    """Yield a temporary directory beside `path`; on success rename it to `path`.

    Raises
    ------
    Gan3dError
        `path` exists and `force` is false, or it does not hold the file `marker`: only a directory of the same kind is ever
        replaced, and removed only after the new one is whole. One that somebody else made meanwhile is refused as well.
    """
    refuse_target(path, marker, force)
    temporary = _beside(path)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        refuse_target(path, marker, force)
        if path.exists():
            old = temporary.with_suffix(".old")
            path.rename(old)
            temporary.rename(path)
            shutil.rmtree(old)
        else:
            temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def refuse_target(path: Path, marker: str, force: bool) -> None:
    """Raise Gan3dError if a directory of this kind must not be written at `path` (see `atomic_directory`)."""
    if path.exists() and not force:
        raise Gan3dError(f"{path} already exists; choose another name, or pass --force to replace it")
    if path.exists() and not (path / marker).is_file():
        raise Gan3dError(f"{path} is not replaced: it holds no {marker}, so it is something else; choose another name")


def refuse_closed(folder: Path) -> None:
    """Raise Gan3dError if results cannot be written into `folder`: before the work, not after it."""
    if not os.access(folder, os.W_OK):
        raise Gan3dError(f"{folder} cannot be written to, and results belong there; judge a copy of it")


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


def read_arrays(path: Path, error: type[Gan3dError] = Gan3dError, required: tuple[str, ...] = ()) -> dict[str, NDArray[Any]]:
    """Read the arrays of an `.npz`, or the one of an `.npy` under the name "", without unpickling anything.

    Raises
    ------
    error
        Missing, truncated, another format, objects instead of numbers, or a `required` array is not there.
    """
    try:
        with path.open("rb") as stream:
            arrays = parse_arrays(stream)
    except FileNotFoundError:
        raise error(f"{path} is missing") from None
    except UNREADABLE as fault:
        raise error(f"{path} is truncated, or no .npz or .npy of numbers ({fault})") from None
    if missing := [key for key in required if key not in arrays]:
        raise error(f"{path} lacks {', '.join(missing)}; it holds {', '.join(arrays)}")
    return arrays


def parse_arrays(stream: BinaryIO) -> dict[str, NDArray[Any]]:
    """Parse an `.npz`, or an `.npy` under the name ""; one of `UNREADABLE` says what is wrong with it."""
    if stream.read(2) != b"PK":
        stream.seek(0)
        return {"": _parse_npy(stream)}
    with zipfile.ZipFile(stream) as archive:
        check_memory(sum(member.file_size for member in archive.infolist()))
        arrays = {}
        for member in archive.namelist():
            if member.endswith(".npy"):
                with archive.open(member) as file:
                    arrays[member.removesuffix(".npy")] = _parse_npy(file)
    return arrays


def _parse_npy(stream: Any) -> NDArray[Any]:
    """One `.npy`, whose header is believed only as far as memory reaches."""
    shape, _, dtype = npy_header(stream)
    check_memory(dtype.itemsize * math.prod(shape))
    stream.seek(0)
    return np.asarray(np.lib.format.read_array(stream, allow_pickle=False))


def npy_header(stream: Any) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether in Fortran's order, and dtype that an `.npy` promises; its numbers begin where the stream then stands."""
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return read(stream)


def check_memory(size: int) -> None:
    """Refuse (Gan3dError) `size` bytes that a header promises and memory cannot hold: a bomb, or a damaged header."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if size > memory:
        raise Gan3dError(f"promises {size / 2**30:.0f} GiB of numbers, and memory has {memory / 2**30:.0f} GiB")


def content_hash(*arrays: NDArray[Any]) -> str:
    """SHA-256 over dtype, shape and C-ordered bytes of `arrays`, in order: equal content, equal hash, on any machine."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        for start in range(0, len(array), 4096):  # rows in blocks, so that a memory map is never read whole
            digest.update(np.ascontiguousarray(array[start : start + 4096]).data)
    return digest.hexdigest()


def row_hashes(rows: NDArray[Any]) -> list[bytes]:
    """A hash of each row: equal rows, equal hashes, and for all purposes the other way round (128 bits of BLAKE2b)."""
    return [hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in rows]


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
