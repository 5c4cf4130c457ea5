"""Distances between binary grids on packed bits: exact L1 neighbours through faiss, Jaccard from the same numbers.

On binary grids L1 = Hamming distance = squared L2: the number of voxels in which two shapes differ. faiss's
`IndexBinaryFlat` compares packed rows by exhaustive search, so the answer is exact, 32 × smaller than in float32.
"""

from __future__ import annotations

import faiss
import numpy as np
from numpy.typing import NDArray

from gan3d_eval.voxels import VoxelError

__all__ = ["jaccard_from_l1", "matrix", "nearest"]


def nearest(queries: NDArray[np.uint8], database: NDArray[np.uint8], k: int = 1) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The k nearest rows of `database` under L1, for each query.

    Parameters
    ----------
    queries : (n, b) uint8
        Packed grids (see `voxels.pack`).
    database : (m, b) uint8
    k : int
        1 ≤ k ≤ m (faiss itself would pad with row −1).

    Returns
    -------
    distances : (n, k) int64
        L1 in voxels, ascending.
    rows : (n, k) int64
        Rows of `database`; among equal distances the order is faiss's.

    Raises
    ------
    VoxelError
        Empty inputs, rows of different length, or k out of range.
    """
    if len(queries) == 0 or len(database) == 0 or queries.shape[1] != database.shape[1]:
        raise VoxelError(f"cannot compare packed grids of shapes {queries.shape} and {database.shape}")
    if not 1 <= k <= len(database):
        raise VoxelError(f"{k} neighbours asked for, but there are {len(database)} shapes to choose from")
    index = faiss.IndexBinaryFlat(database.shape[1] * 8)
    index.add(np.ascontiguousarray(database))
    distances, rows = index.search(np.ascontiguousarray(queries), k)
    return distances.astype(np.int64), rows


def matrix(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> NDArray[np.int64]:
    """L1 in voxels between each packed row of `a` `(n, w) uint8` and each of `b` `(m, w)`: `(n, m) int64`."""
    distances, rows = nearest(a, b, len(b))
    full = np.empty_like(distances)
    np.put_along_axis(full, rows, distances, axis=1)
    return full


def jaccard_from_l1(l1: NDArray[np.int64], volume_a: NDArray[np.int64], volume_b: NDArray[np.int64]) -> NDArray[np.float64]:
    """Jaccard distance 1 − IoU in [0, 1] of shapes whose L1 and volumes (voxels) are known; 0 for two empty shapes.

    Exact: |A ∪ B| = (|A| + |B| + L1)/2 and |A ∩ B| = (|A| + |B| − L1)/2, so 1 − IoU = 2 L1/(|A| + |B| + L1).
    """
    total = volume_a + volume_b + l1
    jaccard: NDArray[np.float64] = np.divide(2.0 * l1, total, out=np.zeros(np.shape(total)), where=total > 0)
    return jaccard
