"""Distances between shapes: exact L1 neighbours on packed bits, Jaccard from the same numbers, L1 of probabilities.

On binary grids L1 = Hamming distance = squared L2: the number of voxels in which two shapes differ. faiss's
`IndexBinaryFlat` compares packed rows by exhaustive search, so the answer is exact, 32 × smaller than in float32.

Databases are searched in blocks, so that a memory map larger than memory is read once and never held whole.
"""

from __future__ import annotations

import dataclasses
import mmap
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from gan3d_eval.voxels import VoxelError

__all__ = ["Piece", "Spread", "in_process", "jaccard_from_l1", "matrix", "near_duplicates", "nearest", "nearest_soft"]

BLOCK = 2**28
"""Bytes of the database that are searched at a time."""
ONE_SHAPE = 0.5
"""Samples that differ by at most this share of what they differ from the training set by are one shape."""
STRETCHES = 128  # of a packed grid, whose numbers of voxels are compared before the grids are
Found = tuple[NDArray[np.int64], NDArray[np.int64]]


@dataclasses.dataclass(frozen=True)
class Piece:
    """Consecutive rows of a database: themselves, or where in a file they are, so that another machine can read them."""

    first: int
    k: int
    shape: tuple[int, int]
    rows: NDArray[np.uint8] | None = None
    path: Path | None = None
    offset: int = 0

    def load(self) -> NDArray[np.uint8]:
        """The rows."""
        if self.path is None:
            return np.ascontiguousarray(self.rows)
        return np.fromfile(self.path, np.uint8, self.shape[0] * self.shape[1], offset=self.offset).reshape(self.shape)


Spread = Callable[[Callable[[Piece, Any], Found], Sequence[Piece], Any], Iterable[Found]]
"""Calls a function with each piece and what all share, here or elsewhere, and gives the results in order."""


def in_process(function: Callable[[Piece, Any], Found], pieces: Sequence[Piece], shared: Any) -> Iterator[Found]:
    """Piece after piece, each read when its turn comes."""
    return (function(piece, shared) for piece in pieces)


def nearest(
    queries: NDArray[np.uint8], database: NDArray[np.uint8], k: int = 1, block: int = BLOCK, spread: Spread = in_process
) -> Found:
    """The k nearest rows of `database` under L1, for each query.

    Parameters
    ----------
    queries : (n, b) uint8
        Packed grids (see `voxels.pack`).
    database : (m, b) uint8
        May be a memory map: `block` bytes of it are in memory at a time.
    k : int
        1 ≤ k ≤ m (faiss itself would pad with row −1).
    spread : Spread
        Who searches the blocks: this process, one after the other, or workers of a cluster, which read a memory map's file
        themselves. The answer is the same.

    Returns
    -------
    distances : (n, k) int64
        L1 in voxels, ascending.
    rows : (n, k) int64
        Rows of `database`; of equally near ones the first, whatever the block.

    Raises
    ------
    VoxelError
        Empty inputs, rows of different length, or k out of range.
    """
    if len(queries) == 0 or len(database) == 0 or queries.shape[1] != database.shape[1]:
        raise VoxelError(f"cannot compare packed grids of shapes {queries.shape} and {database.shape}")
    _check_k(k, len(database))
    size = max(1, block // database.shape[1])
    pieces = [_piece(database, i, min(i + size, len(database)), k) for i in range(0, len(database), size)]
    found: Found = np.zeros((len(queries), 0), np.int64), np.zeros((len(queries), 0), np.int64)
    for distances, rows in spread(_search, pieces, np.ascontiguousarray(queries)):
        found = _merge(found, distances, rows, k)
    return found


def _piece(database: NDArray[np.uint8], start: int, stop: int, k: int) -> Piece:
    """Rows start … stop of the database; of a memory map only where they are."""
    rows = database[start:stop]
    if not isinstance(rows, np.memmap) or rows.filename is None or not rows.flags.c_contiguous:
        return Piece(start, k, rows.shape, rows)
    mapped = np.frombuffer(rows._mmap, np.uint8)  # type: ignore[attr-defined]  # the view's own offset is that of its parent
    skipped = rows.offset - rows.offset % mmap.ALLOCATIONGRANULARITY
    offset = skipped + rows.__array_interface__["data"][0] - mapped.__array_interface__["data"][0]
    return Piece(start, k, rows.shape, path=Path(rows.filename), offset=offset)


def _search(piece: Piece, shared: NDArray[np.uint8]) -> Found:
    """The k nearest rows of one piece, numbered as in the whole, for the queries that all pieces share."""
    index = faiss.IndexBinaryFlat(piece.shape[1] * 8)
    index.add(piece.load())
    distances, rows = index.search(shared, min(piece.k, index.ntotal))
    return distances.astype(np.int64), rows + piece.first


def _check_k(k: int, n: int) -> None:
    if not 1 <= k <= n:
        raise VoxelError(f"{k} neighbours asked for, but there are {n} shapes to choose from")


def _merge(
    found: tuple[Any, NDArray[np.int64]], distances: Any, rows: NDArray[np.int64], k: int
) -> tuple[Any, NDArray[np.int64]]:
    """The k nearest of those found before and these, by distance, then by row."""
    distances, rows = np.hstack([found[0], distances]), np.hstack([found[1], rows])
    order = np.lexsort((rows, distances), axis=1)[:, :k]
    return np.take_along_axis(distances, order, axis=1), np.take_along_axis(rows, order, axis=1)


def matrix(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> NDArray[np.int64]:
    """L1 in voxels between each packed row of `a` `(n, w) uint8` and each of `b` `(m, w)`: `(n, m) int64`."""
    distances, rows = nearest(a, b, len(b))
    full = np.empty_like(distances)
    np.put_along_axis(full, rows, distances, axis=1)
    return full


def near_duplicates(packed: NDArray[np.uint8], far: NDArray[Any], share: float = ONE_SHAPE) -> NDArray[np.intp]:
    """For each shape the first one that it repeats, or all but repeats; itself if there is none.

    Two shapes are one where they differ by at most half as much as either differs from its nearest training shape: by the
    triangle inequality these two distances are then alike within half of themselves, and tell the same story twice. Of 100
    held-out monitors, sofas, chairs and tables 93 to 100 are different ones by that, of a collapsed generator's samples few.

    Parameters
    ----------
    packed : (n, w) uint8
        Packed grids.
    far : (n,)
        L1 of each to its nearest training shape, in voxels.
    share : float

    Returns
    -------
    rows : (n,) intp
        In [0, n); a shape that stands for others stands for itself.
    """
    starts = np.unique(np.linspace(0, packed.shape[1], STRETCHES, endpoint=False).astype(np.intp))
    blocks = (np.bitwise_count(packed[i : i + 1024]) for i in range(0, len(packed), 1024))
    counts = np.concatenate([np.add.reduceat(block, starts, axis=1, dtype=np.int32) for block in blocks])
    rows, kept = np.arange(len(packed)), np.zeros(0, np.intp)
    for row in range(len(packed)):
        within = share * np.minimum(far[kept], far[row])
        # Two rows differ in each stretch by at least as much as their counts there do: few are left to be compared.
        left = np.flatnonzero(np.abs(counts[kept] - counts[row]).sum(axis=1) <= within)
        l1 = np.bitwise_count(packed[kept[left]] ^ packed[row]).sum(axis=1, dtype=np.int64)
        if (like := left[l1 <= within[left]]).size:
            rows[row] = kept[like[0]]
        else:
            kept = np.append(kept, row)
    return rows


def jaccard_from_l1(l1: NDArray[np.int64], volume_a: NDArray[np.int64], volume_b: NDArray[np.int64]) -> NDArray[np.float64]:
    """Jaccard distance 1 − IoU in [0, 1] of shapes whose L1 and volumes (voxels) are known; 0 for two empty shapes.

    Exact: |A ∪ B| = (|A| + |B| + L1)/2 and |A ∩ B| = (|A| + |B| − L1)/2, so 1 − IoU = 2 L1/(|A| + |B| + L1).
    """
    total = volume_a + volume_b + l1
    jaccard: NDArray[np.float64] = np.divide(2.0 * l1, total, out=np.zeros(np.shape(total)), where=total > 0)
    return jaccard


def nearest_soft(
    probabilities: NDArray[np.floating], database: NDArray[np.uint8], k: int = 1, block: int = BLOCK
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The k nearest rows of `database` under the L1 of probabilities: Σ |p − x| = Σ p + Σ x − 2 ⟨p, x⟩, exact for binary x.

    Parameters
    ----------
    probabilities : (n, v) or (n, d, d, d), in [0, 1]
        Before any threshold.
    database : (m, ⌈v/8⌉) uint8
        Packed grids, unpacked in blocks of about `block` bytes.
    k : int

    Returns
    -------
    distances : (n, k) float64
        In voxels; float32 sums, so good to about 1e-5 of the number of voxels.
    rows : (n, k) int64

    Raises
    ------
    VoxelError
        NaN, or anything outside [0, 1]; sizes that do not fit; k out of range.
    """
    p = np.ascontiguousarray(probabilities.reshape(len(probabilities), -1), dtype=np.float32)
    if not len(p) or -(-p.shape[1] // 8) != database.shape[1]:
        raise VoxelError(f"cannot compare probabilities {probabilities.shape} with packed grids {database.shape}")
    if not ((p >= 0) & (p <= 1)).all():  # NaN fails as well
        raise VoxelError("probabilities hold NaN, or values outside [0, 1]")
    _check_k(k, len(database))
    size, total = max(1, block // (4 * p.shape[1])), p.sum(axis=1, dtype=np.float64)
    found: tuple[NDArray[np.float64], NDArray[np.int64]] = np.zeros((len(p), 0)), np.zeros((len(p), 0), np.int64)
    for start in range(0, len(database), size):
        x = np.unpackbits(database[start : start + size], axis=1, count=p.shape[1]).astype(np.float32)
        l1 = np.maximum(total[:, None] + x.sum(axis=1, dtype=np.float64) - 2.0 * (p @ x.T), 0)  # by rounding it can be less
        found = _merge(found, l1, np.broadcast_to(np.arange(start, start + len(x)), l1.shape), k)
    return found
