"""NumPy's own files, `.npy` and `.npz`, read without unpickling anything and believed no further than their size reaches."""

from __future__ import annotations

import math
import sys
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from gan3d_eval.files import UNREADABLE, Gan3dError
from gan3d_eval.trust import SLACK, check_memory, check_promise, check_size

__all__ = ["npy_header", "parse_arrays", "parse_npy", "read_arrays"]


def read_arrays(path: Path, error: type[Gan3dError] = Gan3dError, required: tuple[str, ...] = ()) -> dict[str, NDArray[Any]]:
    """Read the arrays of an `.npz`, or the one of an `.npy` under the name "".

    Raises
    ------
    error
        Missing, truncated, another format, objects instead of numbers, a promise of more than the file can hold, or a
        `required` array is not there.
    """
    try:
        with path.open("rb") as stream:
            arrays = parse_arrays(stream)
    except FileNotFoundError:
        raise error(f"{path} is missing") from None
    except UNREADABLE as fault:
        raise error(f"{path} is truncated, or no .npz or .npy of numbers ({fault})") from None
    if missing := [key for key in required if key not in arrays]:
        raise error(
            f"{path} lacks {', '.join(missing)}; it holds {', '.join(filter(None, arrays)) or 'one array without a name'}"
        )
    return arrays


def parse_arrays(stream: BinaryIO, most: int = sys.maxsize) -> dict[str, NDArray[Any]]:
    """Parse an `.npz`, or an `.npy` under the name "", of at most `most` bytes of numbers, never more than memory holds.

    One of `UNREADABLE` says what is wrong with it.
    """
    stored = check_size(stream, most)
    if stream.read(2) != b"PK":
        stream.seek(0)
        return {"": parse_npy(stream, stored)}
    with zipfile.ZipFile(stream) as archive:
        check_promise(sum(member.file_size for member in archive.infolist()), stored, most)
        arrays = {}
        for member in archive.infolist():
            if member.filename.endswith(".npy"):
                with archive.open(member) as file:
                    arrays[member.filename.removesuffix(".npy")] = parse_npy(file, member.file_size)
    return arrays


def parse_npy(stream: Any, size: int) -> NDArray[Any]:
    """Parse an `.npy` of `size` bytes; errors as in `parse_arrays`."""
    shape, _, dtype = npy_header(stream)
    promised = dtype.itemsize * math.prod(shape)
    check_memory(promised)
    if promised > size:
        raise Gan3dError(f"promises {promised:,} bytes of numbers and has {size:,}")
    # no bytes are promised by these, and who counts their rows would make a name for each
    if dtype.itemsize == 0 or max(shape, default=0) > max(size, SLACK):
        raise Gan3dError(f"promises an array of {shape} and {dtype.itemsize} bytes each, and has {size:,} bytes")
    stream.seek(0)
    return np.asarray(np.lib.format.read_array(stream, allow_pickle=False))


def npy_header(stream: Any) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether in Fortran's order, and dtype that an `.npy` promises; its numbers begin where the stream then stands."""
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return read(stream)
