"""Voxel files of other programs: read `.mat`, `.binvox`, `.npy`, `.npz`, `.npy.gz`; write `.mat` and `.binvox`.

Untrusted files are data: nothing is unpickled, and no file may promise more than it can hold or memory has. Grids come as they
lie in the file, axes x, y, z of the file; which axis is up is for the caller to know (`turn_up`).
"""

from __future__ import annotations

import gzip
import io
import math
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray
from scipy import io as scipy_io

from gan3d_eval.files import UNREADABLE, Gan3dError, atomic_file
from gan3d_eval.hdf5 import parse_hdf5
from gan3d_eval.mat5 import parse_mat5
from gan3d_eval.npy import npy_header, parse_arrays, parse_npy
from gan3d_eval.packing import packed_bytes, unpack
from gan3d_eval.trust import HDF5, HDF5_BLOCK, RESAVE, check_promise, check_size

__all__ = ["VOXEL_SUFFIXES", "VoxelError", "only_grids", "parse_voxels", "suffix_of", "turn_up", "write_binvox", "write_mat"]

VOXEL_SUFFIXES = frozenset({".mat", ".binvox", ".npy", ".npz", ".npy.gz"})
MAT_NAMES = ("Volume", "instance", "voxels")  # the slides', 3DShapeNets', others'
MAX_SIDE = 512
"""Voxels along an axis of a binvox file: `voxels.MAX_RESOLUTION`, which stands above this module."""
MOST = 2**40
"""Bytes: no limit but what the file's size can hold and the memory has."""


class VoxelError(Gan3dError):
    """Grids or a dataset directory that are not what they should be."""


def suffix_of(name: str) -> str:
    """The format that a file name ends in, in lower case; `.npy.gz` counts as one."""
    name = name.lower()
    return ".npy.gz" if name.endswith(".npy.gz") else PurePosixPath(name).suffix


def turn_up(grids: NDArray[Any]) -> NDArray[Any]:
    """Turn grids `(…, d, d, d)` with y up to z up: (x, y, z) → (x, −z, y), a turn and not a mirror."""
    return np.flip(np.swapaxes(grids, -1, -2), -2)


def parse_voxels(stream: BinaryIO, suffix: str, most: int = MOST) -> dict[str, NDArray[Any]]:
    """Parse a voxel file of the format `suffix` (one of `VOXEL_SUFFIXES`, or `.h5`) from an open, seekable stream.

    Parameters
    ----------
    most : int
        Bytes of numbers that may be read.

    Returns
    -------
    dict
        Arrays by name; of `.npy` and `.binvox`, the one array under the name "".

    Raises
    ------
    VoxelError
        Truncated, another format, objects instead of numbers, or more than the file can hold, `most` or the memory.
    """
    if suffix not in VOXEL_SUFFIXES | {".h5"}:
        raise VoxelError(f"is no file of voxels; expected one of {', '.join(sorted(VOXEL_SUFFIXES))}")
    try:
        stored = check_size(stream, most)
        if suffix == ".binvox":
            return {"": _parse_binvox(stream.read(), most)}
        if suffix in {".mat", ".h5"}:
            return _parse_mat(stream, most)
        return _parse_numpy(stream, suffix, stored, most)
    except VoxelError:
        raise
    except (*UNREADABLE, AttributeError, TypeError) as fault:
        reason = (str(fault).strip() or type(fault).__name__).splitlines()[0]
        if isinstance(fault, Gan3dError):
            raise VoxelError(reason) from None
        if "allow_pickle" in reason:
            raise VoxelError(f"holds Python objects (a pickle), which are not read (allow_pickle=False); {RESAVE}") from None
        raise VoxelError(f"is damaged, or no {suffix} ({reason}); copy it or save it again") from None


def _parse_numpy(stream: BinaryIO, suffix: str, stored: int, most: int) -> dict[str, NDArray[Any]]:
    """NumPy's formats; what is promised is checked before it is unpacked or room is made for it.

    An `.npy` on disk is not copied: it is mapped, read-only.
    """
    zipped = suffix != ".npy.gz" and stream.read(2) == b"PK"
    stream.seek(0)
    if zipped:
        return _own_samples(parse_arrays(stream, most), most)
    inside = cast(BinaryIO, gzip.GzipFile(fileobj=stream)) if suffix == ".npy.gz" else stream
    shape, fortran, dtype = npy_header(inside)
    size = math.prod(shape) * dtype.itemsize
    check_promise(size, stored, most)
    if isinstance(inside, io.BufferedReader) and not dtype.hasobject and 0 < size <= stored - inside.tell():
        return {"": np.memmap(inside, dtype, "r", inside.tell(), shape, "F" if fortran else "C")}
    inside.seek(0)
    return {"": parse_npy(inside, stored if inside is stream else size)}


def _own_samples(arrays: dict[str, NDArray[Any]], most: int) -> dict[str, NDArray[Any]]:
    """Of a sample file of ours, packed grids beside their `resolution`: these grids, or the probabilities kept with them."""
    packed, side = arrays.get("occupancy"), arrays.get("resolution")
    if packed is None or side is None or side.ndim or side.dtype.kind != "i" or packed.ndim != 2 or packed.dtype != np.uint8:
        return arrays
    if not 0 < side <= MAX_SIDE or packed.shape[1] != packed_bytes(int(side)):
        raise VoxelError(f"holds packed grids of {packed.shape[1]} bytes, which none of resolution {side} has")
    if "probability" in arrays:
        return {"probability": arrays["probability"]}
    check_promise(len(packed) * int(side) ** 3, 8 * packed.nbytes, most)
    return {"occupancy": unpack(packed, int(side))}


def only_grids(arrays: dict[str, NDArray[Any]]) -> NDArray[Any]:
    """The one array of a file that can be grids; VoxelError, without the file's name, if there are none or several."""
    grids = [array for array in arrays.values() if array.ndim >= 3]
    if len(grids) != 1:
        held = ", ".join(f"{name} {array.shape}".strip() for name, array in arrays.items()) or "nothing"
        hint = "expected one, or labelled ones in a file that is passed itself"
        raise VoxelError(f"holds {len(grids)} arrays that could be grids ({held}); {hint}")
    return grids[0]


def _parse_mat(stream: BinaryIO, most: int) -> dict[str, NDArray[Any]]:
    """The grids of a `.mat`: the variable with a known name, else all numeric ones with three axes or more."""
    head = stream.read(HDF5_BLOCK + len(HDF5))
    stream.seek(0)
    if head.startswith((b"MATLAB 7.3", HDF5)) or head[HDF5_BLOCK:] == HDF5:
        arrays, held = parse_hdf5(stream, MAT_NAMES, most), "no grid at its top"
    else:
        arrays, held = parse_mat5(stream.read(), MAT_NAMES, most)
    if not arrays:
        raise VoxelError(f"holds no grid called {', '.join(MAT_NAMES)}, nor another; found {held}")
    return arrays


def _parse_binvox(data: bytes, most: int) -> NDArray[np.bool_]:
    """Occupancy `(d, d, d) bool`, axes x, y, z (P. Min, binvox: run lengths, y fastest, then z, then x)."""
    head, mark, body = data.partition(b"data\n")
    lines = [line.split() for line in head.splitlines()]
    if not data.startswith(b"#binvox") or not mark:
        raise VoxelError("is no binvox file: it has no header '#binvox' … 'data'")
    sides = [[int(n) for n in line[1:]] for line in lines if line and line[0] == b"dim"]
    if len(sides) != 1 or len(sides[0]) != 3 or not all(1 <= n <= MAX_SIDE for n in sides[0]):
        raise VoxelError(f"has binvox dimensions {sides}; expected 'dim' and three numbers from 1 to {MAX_SIDE}")
    runs = np.frombuffer(body[: len(body) // 2 * 2], np.uint8).reshape(-1, 2)
    total, expected = int(runs[:, 1].sum(dtype=np.int64)), int(np.prod(sides[0]))
    if total != expected or len(body) % 2:
        raise VoxelError(f"has runs for {total} voxels; its header promises {expected}: truncated or damaged")
    check_promise(expected, len(data), most)
    return np.repeat(runs[:, 0] > 0, runs[:, 1]).reshape(sides[0]).transpose(0, 2, 1)


def write_binvox(path: Path, grid: NDArray[np.bool_], up: str = "z") -> None:
    """Write one grid `(d, d, d) bool`, z up, as binvox with the given axis up; atomically."""
    if up == "y":
        grid = np.flip(np.swapaxes(grid, -1, -2), -1)  # the inverse of turn_up
    flat = grid.transpose(0, 2, 1).reshape(-1).view(np.uint8)
    starts = np.concatenate([[0], np.flatnonzero(np.diff(flat)) + 1])
    lengths = np.diff(np.append(starts, len(flat)))
    pieces = -(-lengths // 255)  # a run is at most 255 long
    values, counts = np.repeat(flat[starts], pieces), np.full(pieces.sum(), 255, np.uint8)
    counts[np.cumsum(pieces) - 1] = lengths - 255 * (pieces - 1)
    sides = " ".join(str(n) for n in grid.shape)
    with atomic_file(path) as temporary:
        header = f"#binvox 1\ndim {sides}\ntranslate 0 0 0\nscale 1\ndata\n".encode()
        temporary.write_bytes(header + np.stack([values, counts], axis=1).tobytes())


def write_mat(path: Path, grid: NDArray[np.bool_]) -> None:
    """Write one grid as the variable `Volume` (uint8) of a MATLAB 5 file, and nothing else; atomically."""
    with atomic_file(path) as temporary, temporary.open("wb") as file:
        scipy_io.savemat(cast(str, file), {"Volume": grid.astype(np.uint8)}, do_compression=True)
