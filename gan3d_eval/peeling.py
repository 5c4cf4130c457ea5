"""How far apart are two shapes when the thicker one is peeled until both are equally large?

L1 calls a copy with one more layer of voxels another shape, and so does Jaccard; scattered wrong voxels hide a copy from both.
Here every shape's voxels are put in order, the deepest first: by city-block distance to the nearest empty voxel, among equals
by a Gaussian mean of the shape around (σ = 1), so that lone voxels come last. Of two shapes with a and b voxels the first
m = min(a, b) of each are compared: 1 − IoU of two sets of equal size. Thickening, thinning and noise come off first. Shapes of
which one has eight times the voxels of the other are not compared: a stray voxel in the training set would be in every sample.
"""

from __future__ import annotations

import dataclasses

import numba
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from gan3d_eval.compiled import compiled
from gan3d_eval.voxels import VoxelSet

__all__ = ["Peeled", "nearest_peeled", "peel"]

BLOCK = 2**27
"""Bytes that the ranks of a block of queries may take."""
MOST = 8
"""Times that a copy may have grown: a plate thickened by a layer on each side grows threefold."""


@dataclasses.dataclass(frozen=True)
class Peeled:
    """Voxels of each shape in the order in which they stay: shape i has `voxels[start[i]:start[i + 1]]`, flat places."""

    voxels: NDArray[np.int32]
    start: NDArray[np.int64]
    resolution: int

    def __len__(self) -> int:
        return len(self.start) - 1


def peel(shapes: VoxelSet, block: int = 64) -> Peeled:
    """Put the voxels of each shape in order, the deepest first."""
    grids = (grid for i in range(0, len(shapes), block) for grid in shapes.grids(slice(i, i + block)))
    orders = [_order(grid) for grid in grids]
    start = np.concatenate([[0], np.cumsum([len(order) for order in orders])]).astype(np.int64)
    return Peeled(np.concatenate(orders), start, shapes.resolution)


def _order(grid: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Flat places of the voxels of one shape `(d, d, d)`, the deepest first; of equals the first place."""
    if not grid.any():
        return np.zeros(0, np.int32)
    box = ndimage.find_objects(grid.view(np.uint8))[0]
    inside = np.pad(grid[box], 1)  # beyond the box, and beyond the grid, all is empty
    depth = ndimage.distance_transform_cdt(inside, "taxicab").astype(np.float32)
    depth += 0.99 * ndimage.gaussian_filter(inside.astype(np.float32), 1.0, mode="constant")
    where = np.argwhere(inside)
    places = (where - 1 + [side.start for side in box]) @ [len(grid) ** 2, len(grid), 1]
    ordered: NDArray[np.int32] = places[np.argsort(-depth[tuple(where.T)], kind="stable")].astype(np.int32)
    return ordered


def nearest_peeled(queries: Peeled, database: Peeled, own: NDArray[np.int64] | None = None) -> NDArray[np.float64]:
    """Distance of each query to the nearest shape of `database`, `(n,) float64` in [0, 1]; 1 where none is of a like size.

    Parameters
    ----------
    queries, database : Peeled
        Of one resolution.
    own : (n,) int64, optional
        The row of the database that each query may not find, as it is the query itself; −1 for none.
    """
    size = queries.resolution**3
    own = np.full(len(queries), -1) if own is None else own
    step, found = max(1, BLOCK // (4 * size)), np.ones(len(queries))
    for i in range(0, len(queries), step):
        starts = queries.start[i : i + step + 1]
        ranks = np.full((len(starts) - 1, size), np.iinfo(np.int32).max, np.int32)
        for rank, begin, end in zip(ranks, starts[:-1], starts[1:], strict=True):
            rank[queries.voxels[begin:end]] = np.arange(end - begin, dtype=np.int32)
        found[i : i + step] = _search(ranks, np.diff(starts), database.voxels, database.start, own[i : i + step])
    return found


@compiled(parallel=True)
def _search(
    ranks: NDArray[np.int32], volume: NDArray[np.int64], voxels: NDArray[np.int32], start: NDArray[np.int64],
    own: NDArray[np.int64],
) -> NDArray[np.float64]:  # fmt: skip
    """Smallest 1 − IoU of each query and every shape of the database, both cut to the smaller volume, where these are alike."""
    found = np.ones(len(ranks))
    for i in numba.prange(len(ranks)):
        rank = ranks[i]
        for j in range(len(start) - 1):
            size = start[j + 1] - start[j]
            m = min(volume[i], size)
            if m == 0 or j == own[i] or max(volume[i], size) > MOST * m:
                continue
            common = 0
            for place in range(start[j], start[j] + m):
                common += rank[voxels[place]] < m
            found[i] = min(found[i], 1 - common / (2 * m - common))
    return found
