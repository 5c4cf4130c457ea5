"""The one layout in which grids travel: eight voxels to a byte, most significant bit first, C order.

`np.packbits` of a C-ordered boolean grid is the dataset file (memory-mapped), the batch that is sent to the training device,
the samples file, and the row that faiss's binary index searches. On binary grids L1 = Hamming distance, so nothing is
expanded to be compared.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["halves", "pack", "packed_bytes", "unpack", "volumes"]


def packed_bytes(resolution: int) -> int:
    """Bytes of one packed grid: d³/8, rounded up (an odd d leaves zero bits at the end, which no distance sees)."""
    return (resolution**3 + 7) // 8


def pack(grids: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Pack `(n, d, d, d) bool` into `(n, ⌈d³/8⌉) uint8`."""
    return np.packbits(grids.reshape(len(grids), -1), axis=1)


def unpack(packed: NDArray[np.uint8], resolution: int) -> NDArray[np.bool_]:
    """Undo `pack`: `(n, ⌈d³/8⌉) uint8` → `(n, d, d, d) bool`."""
    bits = np.unpackbits(packed, axis=1, count=resolution**3).view(np.bool_)
    return bits.reshape(-1, resolution, resolution, resolution)


def volumes(packed: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Occupied voxels of each packed row, `(n,) int64`, in voxels."""
    counts = [np.bitwise_count(packed[i : i + 4096]).sum(axis=1, dtype=np.int64) for i in range(0, len(packed), 4096)]
    return np.concatenate(counts) if counts else np.zeros(0, np.int64)


def halves(probabilities: NDArray[np.floating], threshold: float) -> NDArray[np.float16]:
    """Probabilities as they are kept, in float16: rounded so that the voxels above `threshold` are the same as before."""
    kept, cut = probabilities.astype(np.float16), np.float16(threshold)
    kept[(probabilities > threshold) & (kept <= cut)] = np.nextafter(cut, np.float16(1))
    return kept
