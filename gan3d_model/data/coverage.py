"""What voxelising did to a shape: surface that no voxel covers, and details that this resolution cannot hold."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from gan3d_eval.voxels import MAX_RESOLUTION, VoxelError
from gan3d_model.data.meshes import Mesh
from gan3d_model.data.voxelize import Voxelized, Voxelizer, in_grid_axes, voxelize

__all__ = ["Coverage", "coverage", "euler_number", "topology"]

POINTS = 100_000


@dataclasses.dataclass(frozen=True)
class Coverage:
    """How well a grid stands for its mesh."""

    uncovered: float
    """Share of the surface, in [0, 1], that lies in empty voxels: holes. 0 for the exact voxeliser. Of 100,000 points on it."""
    inflation: float
    """Volume divided by that of the same shape at twice the resolution: above 1, for walls and legs are at least a voxel."""
    tunnels: int
    """Handles and gaps that one can see through (first Betti number)."""
    finer_tunnels: int
    """The same at twice the resolution; the difference is detail that this resolution closed (or tore open)."""
    pieces: int
    """Connected components (26 neighbours)."""


def coverage(mesh: Mesh, made: Voxelized, how: Voxelizer, seed: int = 0) -> Coverage:
    """Measure what `voxelize(mesh, how)` covered and lost; VoxelError above half of the largest resolution."""
    if 2 * how.resolution > MAX_RESOLUTION:
        raise VoxelError(f"cannot be measured at {how.resolution}³: twice as fine is above {MAX_RESOLUTION}³, the finest")
    points = _surface_points(mesh, how, seed)
    at = np.floor(points * made.scale + made.offset).astype(np.int64)
    at = np.clip(at, 0, how.resolution - 1)
    fine = voxelize(mesh, dataclasses.replace(how, resolution=2 * how.resolution, margin=2 * how.margin)).grid
    pieces, tunnels = topology(made.grid)
    return Coverage(
        uncovered=1 - float(made.grid[tuple(at.T)].mean()), pieces=pieces, tunnels=tunnels,
        inflation=8 * int(made.grid.sum()) / int(fine.sum()), finer_tunnels=topology(fine)[1],
    )  # fmt: skip


def _surface_points(mesh: Mesh, how: Voxelizer, seed: int) -> NDArray[np.float64]:
    """Points on the surface, uniform by area, in the axes of the grid, `(POINTS, 3)`."""
    rng = np.random.default_rng(seed)
    corners = in_grid_axes(mesh, how)[mesh.faces]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    if not 0 < area.sum() < math.inf:
        raise VoxelError(f"cannot be measured: the area of its faces is {area.sum():g}")
    chosen = corners[rng.choice(len(corners), POINTS, p=area / area.sum())]
    u, v = rng.random((2, POINTS, 1))
    over = u + v > 1
    u, v = np.where(over, 1 - u, u), np.where(over, 1 - v, v)
    points: NDArray[np.float64] = chosen[:, 0] + u * (chosen[:, 1] - chosen[:, 0]) + v * (chosen[:, 2] - chosen[:, 0])
    return points


def topology(grid: NDArray[np.bool_]) -> tuple[int, int]:
    """Pieces and tunnels: Betti numbers b₀ and b₁ = b₀ + b₂ − χ of the union of closed cubes (b₂: enclosed cavities)."""
    pieces = int(ndimage.label(grid, np.ones((3, 3, 3)))[1])
    cavities = int(ndimage.label(np.pad(~grid, 1, constant_values=True))[1]) - 1
    return pieces, pieces + cavities - euler_number(grid)


def euler_number(grid: NDArray[np.bool_]) -> int:
    """χ = corners − edges + faces − cubes of the union of closed cubes."""
    total = 0
    for axes in ((0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0), (0, 1, 1), (1, 0, 1), (1, 1, 0), (1, 1, 1)):
        # A cell that extends along an axis belongs to one cube there, else to the two on either side.
        cells = np.pad(grid, 1)
        for axis, extends in enumerate(axes):
            if not extends:
                cells = cells.take(range(1, cells.shape[axis]), axis) | cells.take(range(cells.shape[axis] - 1), axis)
        total += (-1) ** sum(axes) * int(cells.sum())
    return total
