"""Grids in HDF5 files: MATLAB 7.3's `.mat`, and `.h5` of anybody.

The structure is read by pyfive, which is Python and cannot be made to touch memory that is not its own; the HDF5 library
itself crashes on about one of a thousand damaged files. The numbers are read here, so that nothing unpacks to more than was
checked. Only plain data sets at the top of the file are taken: no links, no data in other files, no virtual data sets, no
numbers that were promised and never written.
"""

from __future__ import annotations

import io
import math
import struct
import warnings
import zlib
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from gan3d_eval.files import Gan3dError
from gan3d_eval.trust import check_promise

__all__ = ["parse_hdf5"]

DEFLATE, SHUFFLE, FLETCHER32 = 1, 2, 3
"""HDF5's numbers of the filters that are undone here."""
COMPACT, CONTIGUOUS, CHUNKED = 0, 1, 2
"""How a data set lies in its file."""
EXTERNAL = 7
"""The header message of data in other files."""
MAX_READS, READ_TWICE = 100_000, 8
DAMAGE = (
    ArithmeticError, AssertionError, AttributeError, LookupError, MemoryError, OSError, RuntimeError, TypeError, ValueError,
    struct.error, zlib.error,
)  # fmt: skip
"""What damaged files make pyfive raise."""


class _Metered(io.BytesIO):
    """Bytes that may be read a few times over, and not for ever: structures can refer to themselves."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.left, self.reads = READ_TWICE * len(data) + 2**20, MAX_READS

    def read(self, size: int | None = -1, /) -> bytes:
        found = super().read(size)
        self.left, self.reads = self.left - len(found), self.reads - 1
        if self.left < 0 or self.reads < 0:
            raise Gan3dError("refers to the same parts again and again: damaged, or made to be read for ever")
        return found


def parse_hdf5(stream: BinaryIO, names: tuple[str, ...], most: int) -> dict[str, NDArray[Any]]:
    """The first data set called one of `names`, else all numeric ones with three axes or more, at the top of the file.

    MATLAB writes axes in reverse; they are turned back, as SciPy does for its older formats.

    Raises
    ------
    Gan3dError
        Damage, external or virtual data, unknown filters, promises that the file cannot keep.
    """
    import pyfive

    data = stream.read()
    try:
        with warnings.catch_warnings(action="ignore"):  # of attributes that pyfive does not know
            arrays = _arrays(data, names, most)
    except (*DAMAGE, pyfive.core.InvalidHDF5File) as fault:
        if isinstance(fault, Gan3dError):
            raise
        reason = f"{fault}" if isinstance(fault, NotImplementedError | RuntimeError) else f"damaged: {type(fault).__name__}"
        raise Gan3dError(
            f"cannot be read as HDF5 ({reason}); save it again in Matlab with: save(…, '-v7'), or with h5py's libver='earliest'"
        ) from None
    return {name: array.T if data.startswith(b"MATLAB 7.3") else array for name, array in arrays.items()}


def _arrays(data: bytes, names: tuple[str, ...], most: int) -> dict[str, NDArray[Any]]:
    """The data sets that are asked for, as they lie."""
    import pyfive

    file = pyfive.File(_Metered(data))
    sets = {}
    for name in [name for name, target in file._links.items() if not isinstance(target, str)]:  # those that are no soft links
        found = file.get_lazy_view(name)
        if isinstance(found, pyfive.Dataset) and found.dtype.kind in "biuf" and len(found.shape or ()) >= 3:
            sets[name] = found
    known = [name for name in names if name in sets][:1] or list(sets)
    # of all together: a hundred names may stand for one data set, and each is read by itself
    check_promise(sum(math.prod(map(int, sets[name].shape)) * sets[name].dtype.itemsize for name in known), len(data), most)
    return {name: _numbers(name, sets[name], data[file.userblock_size :], most) for name in known}


def _numbers(name: str, found: Any, data: bytes, most: int) -> NDArray[Any]:
    """The array of a data set, whose numbers are all in this file."""
    objects, shape, dtype = found.file._get_dataobjects(found.file._links[name]), tuple(map(int, found.shape)), found.dtype
    if objects.find_msg_type(EXTERNAL) or found.id.layout_class not in {COMPACT, CONTIGUOUS, CHUNKED}:
        raise Gan3dError(f"keeps {name} in other files, which are not opened; copy the data into it")
    if found.id.layout_class == CHUNKED:
        return _chunked(name, found, data, most)
    if found.id.layout_class == CONTIGUOUS:
        offset = int(found.id.data_offset)
        if offset + math.prod(shape) * dtype.itemsize > len(data):
            raise Gan3dError(f"promises {shape} for {name} and does not hold it: never written, or truncated")
        return np.frombuffer(data, dtype, math.prod(shape), offset).reshape(shape)
    return np.asarray(found[()])


def _chunked(name: str, found: Any, data: bytes, most: int) -> NDArray[Any]:
    """A data set in pieces, each packed by itself; pieces at the far edges reach over them."""
    chunk, shape, dtype = tuple(map(int, found.chunks)), tuple(map(int, found.shape)), found.dtype
    filters = [int(step["filter_id"]) for step in found.id.filter_pipeline or ()]
    if unknown := set(filters) - {DEFLATE, SHUFFLE, FLETCHER32}:
        raise Gan3dError(f"packs {name} with filter {min(unknown)}; expected none, deflate, shuffle or fletcher32")
    if len(chunk) != len(shape) or min(chunk) < 1:
        raise Gan3dError(f"has {name} of shape {shape} in pieces of {chunk}")
    index = found.id.index
    pieces = math.prod(-(-s // c) for s, c in zip(shape, chunk, strict=True))
    if len(index) != pieces:
        raise Gan3dError(f"holds {len(index)} of the {pieces} pieces of {name}: the others were never written")
    check_promise(pieces * math.prod(chunk) * dtype.itemsize, len(data), most)
    array = np.empty(shape, dtype)
    for start, place in index.items():
        if len(start) != len(shape) or any(a % c or a >= s for a, c, s in zip(start, chunk, shape, strict=True)):
            raise Gan3dError(f"has a piece of {name} at {start}, outside of its shape {shape}")
        raw = data[place.byte_offset : place.byte_offset + place.size]
        for number in reversed(range(len(filters))):
            if not place.filter_mask >> number & 1:
                raw = _undo(filters[number], raw, math.prod(chunk) * dtype.itemsize, dtype.itemsize)
        piece = np.frombuffer(raw, dtype, math.prod(chunk)).reshape(chunk)
        room = tuple(slice(a, a + c) for a, c in zip(start, chunk, strict=True))
        array[room] = piece[tuple(slice(0, s - a) for a, s in zip(start, shape, strict=True))]
    return array


def _undo(number: int, raw: bytes, size: int, itemsize: int) -> bytes:
    """Undo one filter on a piece that unpacks to `size` bytes (and a checksum of four)."""
    if number == DEFLATE:
        return zlib.decompressobj().decompress(raw, size + 4)
    if number == FLETCHER32:
        return raw[:-4]
    whole = len(raw) // itemsize * itemsize
    return np.frombuffer(raw[:whole], np.uint8).reshape(itemsize, -1).T.tobytes() + raw[whole:]
