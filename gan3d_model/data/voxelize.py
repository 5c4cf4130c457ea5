"""Meshes to voxels: read, normalise, mark the surface, fill the inside.

A mesh is bounded by its *referenced* vertices (stray ones would shrink it), scaled uniformly so that its longest side
fills the grid less a margin, and centred. The surface is marked by trimesh, which subdivides faces below one voxel.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import trimesh
from numpy.typing import NDArray
from scipy import ndimage

from gan3d_eval.voxels import MAX_RESOLUTION, VoxelError

__all__ = ["Voxelizer", "read_mesh", "voxelize"]


@dataclasses.dataclass(frozen=True)
class Voxelizer:
    """Parameters of one conversion, recorded in `dataset.json`."""

    resolution: int
    margin: float = 1.0
    """Empty voxels kept on every side of the longest axis."""
    solid: bool = True
    """Fill what the surface encloses; else keep the shell."""
    up: str = "z"
    """Axis of the mesh that points up; grids always have z (the last axis) up."""

    def __post_init__(self) -> None:
        if not 1 <= self.resolution <= MAX_RESOLUTION:
            raise VoxelError(f"resolution {self.resolution} asked for; expected 1 to {MAX_RESOLUTION}")
        if not 0 <= self.margin < self.resolution / 2:
            raise VoxelError(f"a margin of {self.margin} leaves nothing of {self.resolution} voxels; expected 0 to below half")
        if self.up not in {"y", "z"}:
            raise VoxelError(f"up axis {self.up!r}; expected y or z")


def read_mesh(path: Path) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Read a triangle mesh: vertices `(v, 3) float64` and faces `(f, 3) int64`.

    Raises
    ------
    VoxelError
        The file cannot be read, has no faces, refers to vertices it does not have, or has NaN or infinite coordinates.
    """
    try:
        mesh = trimesh.load_mesh(path, process=False)
        vertices, faces = np.asarray(mesh.vertices, np.float64), np.asarray(mesh.faces, np.int64)
    except (OSError, ValueError, TypeError, IndexError, KeyError, AttributeError) as fault:
        raise VoxelError(f"{path}: cannot be read as a mesh ({fault})") from None
    if len(faces) == 0:
        raise VoxelError(f"{path}: has no faces")
    if faces.min() < 0 or faces.max() >= len(vertices):
        raise VoxelError(f"{path}: a face refers to vertex {faces.max()}, but there are {len(vertices)}")
    if not np.isfinite(vertices[np.unique(faces)]).all():
        raise VoxelError(f"{path}: has NaN or infinite coordinates")
    return vertices, faces


def voxelize(vertices: NDArray[np.float64], faces: NDArray[np.int64], how: Voxelizer) -> NDArray[np.bool_]:
    """Voxelise one mesh to `(d, d, d) bool`, z up on the last axis; VoxelError if it has no extent."""
    if how.up == "y":
        vertices = vertices[:, [0, 2, 1]] * (1, -1, 1)  # a turn, not a mirror: (x, y, z) → (x, −z, y)
    used, faces = np.unique(faces, return_inverse=True)
    vertices, faces = vertices[used], faces.reshape(-1, 3)  # stray vertices are neither bounds nor points
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    longest = float((high - low).max())
    if longest <= 0:
        raise VoxelError("has no extent: all its vertices coincide")
    scale = (how.resolution - 2 * how.margin) / longest
    # Centred in the grid; voxel i spans [i, i + 1], so its centre i + ½ is moved to the integer i, where trimesh rounds. The
    # outermost points are kept a hair inside, or they would stand between two voxels and be rounded to the even one.
    inside = (vertices - (low + high) / 2) * (scale * (1 - 1e-6)) + how.resolution / 2 - 0.5
    surface = trimesh.Trimesh(inside, faces, process=False).voxelized(1.0)
    start = np.rint(surface.transform[:3, 3]).astype(int)
    at = np.clip(surface.sparse_indices + start, 0, how.resolution - 1)
    grid = np.zeros((how.resolution,) * 3, dtype=np.bool_)
    grid[tuple(at.T)] = True
    return ndimage.binary_fill_holes(grid) if how.solid else grid
