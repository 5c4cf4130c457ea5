"""Meshes to voxels, exactly: place the mesh in the grid, mark every voxel that its surface touches, fill the inside.

A voxel is occupied if its closed cube and a triangle have a point in common (separating axes: Akenine-Möller, "Fast 3D
triangle-box overlap testing", JGT 2001; split into one plane and three projections as by Schwarz & Seidel, "Fast parallel
surface and solid voxelization on GPUs", SIGGRAPH Asia 2010, §3). Such a surface has no holes: no path of voxels that are
neighbours by a face, an edge or a corner crosses it. The slides' own method is in `polygon2voxel`.

Arithmetic is float64. Cubes are enlarged by `TOUCH` on all sides, far more than the rounding error for meshes within 10⁴
voxels of the grid, so that a triangle which merely touches a cube counts on every machine, whichever way it is turned or
mirrored, and however thin it is.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from numpy.typing import NDArray

from gan3d_eval.compiled import compiled
from gan3d_eval.voxels import MAX_RESOLUTION, VoxelError
from gan3d_model.data.meshes import Mesh
from gan3d_model.data.polygon2voxel import polygon2voxel
from gan3d_model.data.topology import is_closed

__all__ = ["METHODS", "TOUCH", "Voxelized", "Voxelizer", "fill", "in_grid_axes", "mark_surface", "place", "voxelize"]

METHODS = ("exact", "polygon2voxel")
TOUCH = 1e-9
"""Voxels; what is nearer to a cube than this touches it."""
INSET = 1e-6
"""Voxels by which the longest side stays inside its outermost voxels, or it would touch the next ones."""
ROUNDING = 16 * 2.0**-53
LEAK_SHARE = 0.01
"""A shape leaks if more than this share of it is open space that the surface hides in all six axis directions."""


@dataclasses.dataclass(frozen=True)
class Voxelizer:
    """Parameters of one conversion, recorded in `dataset.json`."""

    resolution: int
    margin: float = 1.0
    """Empty voxels kept on every side of the longest axis."""
    solid: bool = True
    """Fill what the surface encloses; else keep the shell."""
    up: str = "z"
    """Axis of the source that points up; grids always have z (the last axis) up."""
    method: str = "exact"
    """`exact`, or `polygon2voxel` for the slides' own voxels, bit for bit."""

    def __post_init__(self) -> None:
        if not 1 <= self.resolution <= MAX_RESOLUTION:
            raise VoxelError(f"resolution {self.resolution} asked for; expected 1 to {MAX_RESOLUTION}")
        if not 0 <= self.margin < self.resolution / 2:
            raise VoxelError(f"a margin of {self.margin:g} asked for; expected 0 to below half of the {self.resolution} voxels")
        if self.up not in {"y", "z"}:
            raise VoxelError(f"up axis {self.up!r}; expected y or z")
        if self.method not in METHODS:
            raise VoxelError(f"method {self.method!r}; expected {' or '.join(METHODS)}")
        if self.method == "polygon2voxel" and (self.solid or self.up != "z" or self.margin != 0):
            raise VoxelError("polygon2voxel marks surfaces as they lie, edge to edge: no --solid, no --margin, no --up y")


@dataclasses.dataclass(frozen=True)
class Voxelized:
    """A shape in the grid, and how it came there."""

    grid: NDArray[np.bool_]
    """`(d, d, d) bool`, z up on the last axis."""
    scale: float
    """Voxels per unit of the mesh."""
    offset: NDArray[np.float64]
    """`(3,)`: grid coordinates = mesh coordinates × scale + offset; voxel i spans [i, i + 1].

    Mesh coordinates turned z up first, or with x and y swapped (polygon2voxel).
    """
    leaks: bool = False
    """Whether the inside of a shape that was to be filled is open to the outside, so that it stayed empty."""


def voxelize(mesh: Mesh, how: Voxelizer) -> Voxelized:
    """Voxelise one mesh; VoxelError if it has no extent."""
    if how.method == "polygon2voxel":
        grid, scale, offset = polygon2voxel(mesh, how.resolution)
        return Voxelized(grid, scale, offset)
    points, scale, offset = place(mesh, how)
    grid = np.zeros((how.resolution,) * 3, dtype=np.bool_)
    mark_surface(points, mesh.faces, grid)
    if not how.solid:
        return Voxelized(grid, scale, offset)
    grid, hidden = fill(grid)
    # What a closed surface hides and does not enclose is a bay, not its inside.
    leaks = hidden > LEAK_SHARE * int(grid.sum()) and not is_closed(mesh.vertices, mesh.faces)
    return Voxelized(grid, scale, offset, leaks)


def in_grid_axes(mesh: Mesh, how: Voxelizer) -> NDArray[np.float64]:
    """Vertices `(v, 3)` in units of the mesh, along the axes of its grid."""
    if how.method == "polygon2voxel":
        return mesh.vertices[:, [1, 0, 2]]
    return mesh.vertices[:, [0, 2, 1]] * (1, -1, 1) if how.up == "y" else mesh.vertices  # a turn, not a mirror


def place(mesh: Mesh, how: Voxelizer) -> tuple[NDArray[np.float64], float, NDArray[np.float64]]:
    """Scale uniformly so that the longest side fills the grid less its margins, and centre.

    Bounds are those of the vertices that faces refer to: a stray one would shrink the shape.

    Returns
    -------
    points : (v, 3) float64
        All vertices in grid coordinates.
    scale, offset
        See `Voxelized`.
    """
    vertices = in_grid_axes(mesh, how)
    used = np.zeros(len(vertices), np.bool_)
    used[mesh.faces] = True
    low, high = vertices[used].min(axis=0), vertices[used].max(axis=0)
    longest = float((high / 2 - low / 2).max()) * 2  # halved first: the difference of two large numbers may overflow
    if not 0 < longest < math.inf:
        raise VoxelError("has no extent: all its vertices coincide" if longest == 0 else "is too large to be scaled")
    scale = (how.resolution - 2 * how.margin - 2 * INSET) / longest
    middle = low / 2 + high / 2
    if not math.isfinite(scale):
        raise VoxelError(f"has no extent: its longest side is {longest:g}")
    return (vertices - middle) * scale + how.resolution / 2, scale, how.resolution / 2 - middle * scale


def fill(surface: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], int]:
    """Occupy whatever cannot be reached from outside through faces of empty voxels.

    Returns
    -------
    solid : (d, d, d) bool
    hidden : int
        Empty voxels that were reached although the surface hides them in all six axis directions: the inside of a shape with a
        hole that let the flood in. (Not among them is what is open to one side, such as the space under a table.)
    """
    state = np.zeros([side + 2 for side in surface.shape], np.uint8)
    inner = state[1:-1, 1:-1, 1:-1]
    inner[:] = surface
    _flood(state)
    reached = inner == 2
    hidden = reached.copy()
    for axis, side in enumerate(surface.shape):
        index = np.arange(side).reshape([-1 if i == axis else 1 for i in range(3)])
        first, last = surface.argmax(axis), side - 1 - np.flip(surface, axis).argmax(axis)
        first[~surface.any(axis)] = side
        hidden &= (np.expand_dims(first, axis) < index) & (index < np.expand_dims(last, axis))
    return ~reached, int(hidden.sum())


@compiled()
def mark_surface(points: NDArray[np.float64], faces: NDArray[np.int64], grid: NDArray[np.bool_]) -> None:
    """Occupy, in place, every voxel of `grid` `(d, d, d) bool` that a triangle touches.

    `points` `(v, 3) float64` are in grid coordinates (voxel i spans [i, i + 1]); what lies outside the grid is clipped.
    """
    d = grid.shape[0]
    flat = grid.reshape(-1)
    for f in range(faces.shape[0]):
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        ax, ay, az = points[a, 0], points[a, 1], points[a, 2]
        bx, by, bz = points[b, 0], points[b, 1], points[b, 2]
        cx, cy, cz = points[c, 0], points[c, 1], points[c, 2]
        x0, x1, long_x = _span(ax, bx, cx, d)
        y0, y1, long_y = _span(ay, by, cy, d)
        z0, z1, long_z = _span(az, bz, cz, d)
        if x1 < x0 or y1 < y0 or z1 < z0:
            continue
        if long_x + long_y + long_z < 2:  # one voxel, or a row of them: each holds a part of the triangle
            for x in range(x0, x1 + 1):
                for y in range(y0, y1 + 1):
                    for z in range(z0, z1 + 1):
                        grid[x, y, z] = True
            continue
        nx = (by - ay) * (cz - az) - (bz - az) * (cy - ay)
        ny = (bz - az) * (cx - ax) - (bx - ax) * (cz - az)
        nz = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        # Columns run along the axis that the triangle faces most, so that few voxels of a column pass.
        if abs(nz) >= abs(nx) and abs(nz) >= abs(ny):
            _mark(ax, ay, az, bx, by, bz, cx, cy, cz, nx, ny, nz, x0, x1, y0, y1, z0, z1, d * d, d, 1, flat)
        elif abs(nx) >= abs(ny):
            _mark(ay, az, ax, by, bz, bx, cy, cz, cx, ny, nz, nx, y0, y1, z0, z1, x0, x1, d, 1, d * d, flat)
        else:
            _mark(az, ax, ay, bz, bx, by, cz, cx, cy, nz, nx, ny, z0, z1, x0, x1, y0, y1, 1, d * d, d, flat)


@compiled(inline="always")
def _span(a, b, c, d):  # type: ignore[no-untyped-def]
    """First and last of d voxels that three coordinates touch (last < first: none); whether, unclipped, it is several."""
    first, last = math.ceil(min(a, b, c) - TOUCH) - 1.0, float(math.floor(max(a, b, c) + TOUCH))
    return int(min(max(first, 0.0), d)), int(max(min(last, d - 1.0), -1.0)), last > first


@compiled()
def _mark(ax, ay, az, bx, by, bz, cx, cy, cz, nx, ny, nz, x0, x1, y0, y1, z0, z1, sx, sy, sz, flat):  # type: ignore[no-untyped-def]
    """Test the voxels of a triangle's bounds; |nz| is the largest part of its normal, s the strides of `flat`."""
    turn = -1.0 if nz < 0 else 1.0
    p1, q1, r1 = _edge(ax, ay, bx, by, turn)
    p2, q2, r2 = _edge(bx, by, cx, cy, turn)
    p3, q3, r3 = _edge(cx, cy, ax, ay, turn)
    turn = -1.0 if nx < 0 else 1.0
    p4, q4, r4 = _edge(ay, az, by, bz, turn)
    p5, q5, r5 = _edge(by, bz, cy, cz, turn)
    p6, q6, r6 = _edge(cy, cz, ay, az, turn)
    turn = -1.0 if ny < 0 else 1.0
    p7, q7, r7 = _edge(az, ax, bz, bx, turn)
    p8, q8, r8 = _edge(bz, bx, cz, cx, turn)
    p9, q9, r9 = _edge(cz, cx, az, ax, turn)
    most = max(nx, 0.0) + max(ny, 0.0) + max(nz, 0.0)
    least = min(nx, 0.0) + min(ny, 0.0) + min(nz, 0.0)
    reach = max(abs(bx - ax), abs(by - ay), abs(bz - az), abs(cx - ax), abs(cy - ay), abs(cz - az))
    # The normal of a needle is mostly rounding error: the more so, the less the plane may exclude.
    slack = TOUCH * (most - least) + ROUNDING * reach * reach * (reach + 1)
    for x in range(x0, x1 + 1):
        for y in range(y0, y1 + 1):
            if p1 * x + q1 * y + r1 < 0 or p2 * x + q2 * y + r2 < 0 or p3 * x + q3 * y + r3 < 0:
                continue
            base = nx * (x - ax) + ny * (y - ay)
            for z in range(z0, z1 + 1):
                plane = base + nz * (z - az)
                if plane + most < -slack or plane + least > slack:
                    continue
                if p4 * y + q4 * z + r4 < 0 or p5 * y + q5 * z + r5 < 0 or p6 * y + q6 * z + r6 < 0:
                    continue
                if p7 * z + q7 * x + r7 < 0 or p8 * z + q8 * x + r8 < 0 or p9 * z + q9 * x + r9 < 0:
                    continue
                flat[x * sx + y * sy + z * sz] = True


@compiled(inline="always")
def _edge(ai, aj, bi, bj, turn):  # type: ignore[no-untyped-def]
    """Coefficients of p, q, 1: the edge function at the innermost corner of square (p, q), negative if it is outside."""
    p, q = turn * (aj - bj), turn * (bi - ai)
    return p, q, max(p, 0.0) + max(q, 0.0) - (p * ai + q * aj) + TOUCH * (abs(p) + abs(q))


@compiled()
def _flood(solid):  # type: ignore[no-untyped-def]
    """Mark with 2 the empty voxels of a padded grid that are connected to its corner through faces, in place."""
    _, n, m = solid.shape
    flat = solid.reshape(-1)
    steps = (1, -1, m, -m, n * m, -n * m)
    stack = np.empty(flat.size, np.int32)
    stack[0], top = 0, 1
    flat[0] = 2
    while top:
        top -= 1
        at = stack[top]
        for step in steps:
            to = at + step
            if 0 <= to < flat.size and flat[to] == 0:  # the pad is empty: a step off one side enters the pad of the other
                flat[to] = 2
                stack[top] = to
                top += 1
