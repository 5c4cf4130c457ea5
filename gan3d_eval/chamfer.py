"""Chamfer distance between the surfaces of voxel shapes, for all pairs of two sets, exactly.

Of a shape's distance transform, the mean over another's surface voxels is one direction of their Chamfer distance. So all
pairs are one matrix product: surfaces `(n, v)`, each divided by its size, times squared distance transforms `(v, m)`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from gan3d_eval.voxels import VoxelSet, pack, unpack, volumes

__all__ = ["chamfer", "surfaces"]

BLOCK = 2**27
"""Bytes of float32 that a block of shapes may take."""
FARTHEST = 3.0
"""Squared diagonal of the unit cube: how far an empty shape is from any other, in each direction."""
Matrix = NDArray[np.float64]


def surfaces(shapes: VoxelSet) -> NDArray[np.uint8]:
    """Packed surface voxels of each shape, `(n, ⌈d³/8⌉) uint8`: occupied, and one of six neighbours is not, or is outside."""
    d = shapes.resolution
    six = ndimage.generate_binary_structure(3, 1)
    size = max(1, BLOCK // (4 * d**3))
    packed = []
    for i in range(0, len(shapes), size):
        grids = shapes.grids(slice(i, i + size))
        packed.append(pack(grids & ~ndimage.binary_erosion(grids, six[None])))
    return np.concatenate(packed)


def chamfer(shapes: VoxelSet, reference: VoxelSet) -> tuple[Matrix, Matrix]:
    """Chamfer distances within `shapes`, `(n, n)`, and from them to `reference`, `(n, m)`.

    d(A, B) = mean over a of min |a − b|² + mean over b of min |a − b|², over the centres of surface voxels (the convention of
    PointFlow, Yang et al. 2019, eq. 5, with means for sums), the side of the grid being 1. An empty shape is 3 away in each
    direction, from another empty one 0.
    """
    ours, theirs = surfaces(shapes), surfaces(reference)
    n, d = len(ours), shapes.resolution
    inward = _directed(np.concatenate([ours, theirs]), ours, d)
    outward = _directed(ours, theirs, d)
    return inward[:n] + inward[:n].T, outward + inward[n:].T


def _directed(start: NDArray[np.uint8], end: NDArray[np.uint8], d: int) -> Matrix:
    """Mean squared distance from each surface of `start` to the nearest voxel of each of `end`, `(n, m)`; sides 1."""
    size = max(1, BLOCK // (4 * d**3))
    count, empty = volumes(start), volumes(end) == 0
    far = np.empty((len(start), len(end)))
    for j in range(0, len(end), size):
        squares = np.stack([_squared(grid) for grid in unpack(end[j : j + size], d)])
        for i in range(0, len(start), size):
            mask = np.unpackbits(start[i : i + size], axis=1, count=d**3).astype(np.float32)
            far[i : i + size, j : j + size] = mask @ squares.T
    far[:, empty] = FARTHEST * d**2 * count[:, None]
    far /= np.maximum(count, 1)[:, None] * d**2
    far[count == 0] = np.where(empty, 0.0, FARTHEST)
    return far


def _squared(surface: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Squared distance of every voxel to the nearest of `surface`, `(d³,) float32`, in voxels; 0 throughout if it is empty."""
    if not surface.any():
        return np.zeros(surface.size, np.float32)
    near = ndimage.distance_transform_edt(~surface, return_distances=False, return_indices=True)
    offset = near - np.indices(surface.shape, dtype=np.int32)
    squares: NDArray[np.float32] = (offset**2).sum(axis=0, dtype=np.float32).ravel()
    return squares
