"""The training set in clusters of alike shapes, and which of them any shape belongs to: the cells of C_T."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gan3d_eval.voxels import VoxelSet

__all__ = ["cells", "pooled"]

SIDE = 8  # grids are pooled to so many blocks along each axis
PER_CELL, MOST = 40, 10
FITTED_TO = 20_000
"""Training shapes that the clusters are fitted to, drawn at random from more."""


def cells(train: VoxelSet, others: list[VoxelSet], seed: int) -> list[NDArray[np.int64]]:
    """Cluster `train` by k-means on pooled occupancy; return the cell `(n,)` of each shape of each other set.

    One cell per 40 training shapes, at most 10.
    """
    from sklearn.cluster import KMeans

    if len(train) > FITTED_TO:
        train = train.take(np.sort(np.random.default_rng(seed).permutation(len(train))[:FITTED_TO]))
    means = KMeans(max(1, min(MOST, len(train) // PER_CELL)), n_init=3, random_state=seed).fit(pooled(train))
    return [means.predict(pooled(shapes)).astype(np.int64) for shapes in others]


def pooled(shapes: VoxelSet, blocks: int = SIDE, block: int = 256) -> NDArray[np.float32]:
    """Share of occupied voxels in each of at most `blocks`³ blocks, `(n, ≤ blocks³) float32`; a last block may reach beyond."""
    d = shapes.resolution
    side = -(-d // blocks)
    count, room = -(-d // side), -(-d // side) * side - d
    parts = []
    for i in range(0, len(shapes), block):
        grids = np.pad(shapes.grids(slice(i, i + block)), ((0, 0), (0, room), (0, room), (0, room)))
        split = grids.reshape(len(grids), count, side, count, side, count, side)
        parts.append(split.mean(axis=(2, 4, 6), dtype=np.float32).reshape(len(grids), -1))
    return np.concatenate(parts)
