"""The slides' voxels, bit for bit: `load_off` followed by `polygon2voxel(FV, [d d d], 'auto')` in Matlab.

For comparing with old `.mat` sets, not for new ones. What it does and the exact voxeliser does not: adds 1 to the indices
only if the smallest is 0 (a mesh that never refers to its first vertex is read shifted by one); bounds all vertices, used
or not, by one scalar minimum and maximum over all axes (shapes end up small and off-centre); swaps x and y; splits faces
at their longest edge until its squared length is at most ½ and marks corners only (voxels crossed between corners stay
empty). The algorithm is D.-J. Kroon's "Polygon2Voxel" (MATLAB Central File Exchange 24086), written anew from its
description; the order of the splits and of the sums is kept, because the last bit decides where a corner is rounded to.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from gan3d_eval.compiled import compiled
from gan3d_eval.voxels import VoxelError
from gan3d_model.data.meshes import Mesh

__all__ = ["polygon2voxel"]


def polygon2voxel(mesh: Mesh, resolution: int) -> tuple[NDArray[np.bool_], float, NDArray[np.float64]]:
    """Voxelise as the slides did.

    Returns
    -------
    grid : (d, d, d) bool
        Axes y, x, z, as in the slides' variable `Volume`.
    scale, offset : float, (3,) float64
        Grid coordinates = mesh coordinates (x and y swapped) × scale + offset; voxel i spans [i, i + 1].

    Raises
    ------
    VoxelError
        The slides' reader would have refused the mesh, or it has no extent.
    """
    faces = mesh.raw_faces - (1 if mesh.raw_faces.min() > 0 else 0)
    if faces.max() >= len(mesh.vertices):
        raise VoxelError(f"refers to vertex {faces.max()}, but there are {len(mesh.vertices)}")
    points = mesh.vertices[:, [1, 0, 2]]
    least = points.min()
    points = points - least
    if not np.isfinite(points.max()):
        raise VoxelError("has a vertex that is not finite; the slides' method scales by all vertices, used or not")
    if points.max() == 0:
        raise VoxelError("has no extent: all its coordinates are equal")
    scale = (resolution - 1) / points.max()
    points = points * scale + 1 - 1  # Matlab counts voxels from 1; the detour through 1 costs a last bit, which must be kept
    grid = np.zeros((resolution,) * 3, dtype=np.bool_)
    _split(points[faces].reshape(-1, 9), grid)
    return grid, float(scale), np.full(3, 0.5 - least * scale)


@compiled()
def _split(faces, grid):  # type: ignore[no-untyped-def]
    """Halve each face at its longest edge until that is short enough; mark the voxels nearest to the corners."""
    d = grid.shape[0]
    stack = np.empty((128, 9))  # halving alternates: two levels halve every edge, so 64 levels outlast float64
    for f in range(faces.shape[0]):
        stack[0] = faces[f]
        n = 1
        while n:
            n -= 1
            ax, ay, az, bx, by, bz, cx, cy, cz = stack[n]
            ab = (ax - bx) * (ax - bx) + (ay - by) * (ay - by) + (az - bz) * (az - bz)
            bc = (cx - bx) * (cx - bx) + (cy - by) * (cy - by) + (cz - bz) * (cz - bz)
            ca = (ax - cx) * (ax - cx) + (ay - cy) * (ay - cy) + (az - cz) * (az - cz)
            if max(ab, bc, ca) > 0.5:
                if ca >= ab and ca >= bc:
                    x, y, z = (ax + cx) / 2, (ay + cy) / 2, (az + cz) / 2
                    stack[n] = x, y, z, bx, by, bz, cx, cy, cz
                    stack[n + 1] = ax, ay, az, bx, by, bz, x, y, z
                elif bc >= ab:
                    x, y, z = (cx + bx) / 2, (cy + by) / 2, (cz + bz) / 2
                    stack[n] = ax, ay, az, x, y, z, cx, cy, cz
                    stack[n + 1] = ax, ay, az, bx, by, bz, x, y, z
                else:
                    x, y, z = (ax + bx) / 2, (ay + by) / 2, (az + bz) / 2
                    stack[n] = x, y, z, bx, by, bz, cx, cy, cz
                    stack[n + 1] = ax, ay, az, x, y, z, cx, cy, cz
                n += 2
                continue
            for x, y, z in ((ax, ay, az), (bx, by, bz), (cx, cy, cz)):
                i, j, k = math.floor(x + 0.5), math.floor(y + 0.5), math.floor(z + 0.5)
                if 0 <= i < d and 0 <= j < d and 0 <= k < d:
                    grid[i, j, k] = True
