"""Numeric arrays in MATLAB 5 files (`.mat` of versions 6 and 7), read byte by byte within bounds.

SciPy's reader is compiled and believes what stands in the file: damaged files crash it. This one knows numeric and logical
arrays alone, which is what grids are; cells, structures, characters, sparse and complex arrays are passed over.

Format: MathWorks, "MAT-File Format" (2024), "MAT-File Level 5".
"""

from __future__ import annotations

import dataclasses
import math
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gan3d_eval.files import Gan3dError
from gan3d_eval.trust import check_promise

__all__ = ["parse_mat5"]

HEADER = 128
STORED = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
"""Types of numbers as they are kept; MATLAB keeps an array of doubles in bytes if these hold it."""
INT8, INT32, UINT32, MATRIX, COMPRESSED = 1, 5, 6, 14, 15
CLASSES = range(6, 16)
"""double, single, int8 … uint64; logical is uint8 with a flag."""
COMPLEX = 0x0800
FRONT = 1024
"""Bytes of an array that hold its class, shape and name."""
MOST_VARIABLES, MOST_AXES = 10_000, 8


@dataclasses.dataclass(frozen=True)
class _Variable:
    """An array whose numbers have not been read."""

    name: str
    shape: tuple[int, ...]
    body: bytes
    """Of the whole array, perhaps compressed."""
    packed: bool
    size: int
    """Bytes that it has unpacked."""
    at: int
    """Where its numbers begin, in these."""


def parse_mat5(data: bytes, names: tuple[str, ...], most: int) -> tuple[dict[str, NDArray[Any]], str]:
    """The first array called one of `names`, else all numeric ones with three axes or more; and what the file holds, in words.

    Raises
    ------
    Gan3dError
        Another format, truncated, or more promised than the file can hold.
    """
    mark = data[126:128]
    if len(data) < HEADER or mark not in {b"IM", b"MI"}:
        raise Gan3dError("is no MATLAB file of version 6 or 7; save it again in Matlab with: save(…, '-v7')")
    order = "<" if mark == b"IM" else ">"
    try:
        variables = {variable.name: variable for variable in _variables(data, order)}
        known = [name for name in names if name in variables][:1]
        known = known or [name for name, variable in variables.items() if len(variable.shape) >= 3]
        check_promise(sum(variables[name].size for name in known), len(data), most)  # together: each is read by itself
        arrays = {name: _numbers(variables[name], order) for name in known}
    except (struct.error, zlib.error, ValueError, OverflowError) as fault:
        if isinstance(fault, Gan3dError):
            raise
        raise Gan3dError(f"is truncated or damaged ({fault})") from None
    return arrays, ", ".join(f"{v.name} {v.shape}" for v in list(variables.values())[:8]) or "nothing of numbers"


def _variables(data: bytes, order: str) -> Iterator[_Variable]:
    """The numeric arrays of a file, one after the other."""
    at = HEADER
    for _ in range(MOST_VARIABLES):
        if at + 8 > len(data):
            return
        kind, size = struct.unpack_from(f"{order}II", data, at)
        body = data[at + 8 : at + 8 + size]
        if len(body) < size:
            raise Gan3dError(f"is truncated: {size} bytes promised at {at}, {len(body)} there")
        at += 8 + size + (0 if kind == COMPRESSED else -size % 8)
        front, packed = body, kind == COMPRESSED
        if packed:
            unpacked = zlib.decompressobj().decompress(body, FRONT)
            kind, size = struct.unpack_from(f"{order}II", unpacked)
            front = unpacked[8:]
        if kind == MATRIX and (found := _front(front[:FRONT], order)):
            name, shape, begin = found
            yield _Variable(name, shape, body, packed, size, begin)


def _front(front: bytes, order: str) -> tuple[str, tuple[int, ...], int] | None:
    """Name, shape, and where the numbers begin; None of what is no plain array of numbers."""
    kind, size, at, after = _tag(front, 0, order)
    if kind != UINT32 or size != 8:
        return None
    (flags,) = struct.unpack_from(f"{order}I", front, at)
    kind, size, at, after = _tag(front, after, order)
    if flags & 0xFF not in CLASSES or flags & COMPLEX or kind != INT32 or not 8 <= size <= 4 * MOST_AXES:
        return None
    shape = struct.unpack_from(f"{order}{size // 4}i", front, at)
    kind, size, at, after = _tag(front, after, order)
    if kind != INT8 or min(shape) < 1 or after > len(front):
        return None
    return front[at : at + size].decode("latin-1"), shape, after


def _tag(data: bytes, at: int, order: str) -> tuple[int, int, int, int]:
    """Of the element at `at`: type, bytes, where they begin, where the next does. Four bytes fit into the tag itself."""
    (first,) = struct.unpack_from(f"{order}I", data, at)
    if first >> 16:
        return first & 0xFFFF, first >> 16, at + 4, at + 8
    (size,) = struct.unpack_from(f"{order}I", data, at + 4)
    return first, size, at + 8, at + 8 + size + (-size % 8)


def _numbers(variable: _Variable, order: str) -> NDArray[Any]:
    """The array, in the type in which it is kept."""
    body = variable.body
    if variable.packed:
        body = zlib.decompressobj().decompress(body, variable.size + 8)[8:]
    kind, size, at, _ = _tag(body, variable.at, order)
    if kind not in STORED:
        raise Gan3dError(f"keeps the numbers of {variable.name} as type {kind}, which is none of numbers")
    dtype = np.dtype(order + STORED[kind])
    if size != math.prod(variable.shape) * dtype.itemsize or at + size > len(body):
        raise Gan3dError(f"promises {variable.shape} for {variable.name} and holds {size} bytes: truncated or damaged")
    return np.frombuffer(body, dtype, math.prod(variable.shape), at).reshape(variable.shape, order="F")
