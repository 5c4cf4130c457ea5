"""Files to rows: what one worker does with a handful of shapes, on this machine or another."""

from __future__ import annotations

import dataclasses
import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from gan3d_eval.voxels import VoxelError, binarize, only_grids, pack, packed_bytes, parse_voxels, turn_up
from gan3d_model.data.meshes import MESH_SUFFIXES, parse_mesh
from gan3d_model.data.sources import Item, read_item
from gan3d_model.data.voxelize import Voxelizer, voxelize

__all__ = ["Part", "Task", "convert", "grids_of", "pad", "shape_row"]

Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Task:
    """A piece of work that any process can do which sees the source."""

    number: int
    root: Path
    items: list[Item]
    how: Voxelizer
    inner: int | None
    """Voxel files: the resolution that all must have."""


@dataclasses.dataclass(frozen=True)
class Part:
    """What came of a task: a row per shape, in order (with `reason`, if it was refused), and the usable grids, packed."""

    number: int
    rows: list[Row]
    packed: NDArray[np.uint8]
    files: int
    """How many of the source's items are done with it."""


def convert(task: Task) -> Part:
    """Convert the files of a task; what is wrong with one becomes the `reason` of its row, and stops no other."""
    rows: list[Row] = []
    packed = [np.zeros((0, packed_bytes(task.how.resolution)), np.uint8)]
    for item in task.items:
        try:
            data = read_item(task.root, item)
            make = _from_mesh if item.suffix in MESH_SUFFIXES else _from_voxels
            made, grids = make(data, item, task)
        except VoxelError as fault:
            rows.append(item.row | {"reason": str(fault)})
        except MemoryError:
            rows.append(item.row | {"reason": "does not fit into memory"})
        else:
            rows += made
            packed.append(pack(grids))
    return Part(task.number, rows, np.concatenate(packed), len(task.items))


def _from_mesh(data: bytes, item: Item, task: Task) -> tuple[list[Row], NDArray[np.bool_]]:
    """Voxelise one mesh; its scale and offset map voxels back to it."""
    mesh = parse_mesh(data, item.suffix)
    made = voxelize(mesh, task.how)
    row: Row = item.row | {"sha256": hashlib.sha256(data).hexdigest()}
    row |= {"scale": made.scale} | {f"offset_{axis}": float(o) for axis, o in zip("xyz", made.offset, strict=True)}
    flags = ["leaks"] * made.leaks + ["counts-from-1"] * (mesh.base == 1)
    return [shape_row(row, made.grid, flags)], made.grid[None]


def _from_voxels(data: bytes, item: Item, task: Task) -> tuple[list[Row], NDArray[np.bool_]]:
    """Read the grid, or the batch of grids, of one voxel file."""
    grids = binarize(grids_of(data, item.suffix), where="its grid")
    if task.inner is not None and grids.shape[1] != task.inner:
        raise VoxelError(f"holds a grid of {grids.shape[1]}³ where the others have {task.inner}³: resolutions are not mixed")
    grids = pad(grids, task.how)
    digest = hashlib.sha256(data).hexdigest()
    names = [item.name] if len(grids) == 1 else [f"{item.name}_{i:04d}" for i in range(1, len(grids) + 1)]
    return [shape_row(item.row | {"name": n, "sha256": digest}, g) for n, g in zip(names, grids, strict=True)], grids


def grids_of(data: bytes, suffix: str) -> NDArray[Any]:
    """The one array of a voxel file that can be grids."""
    return only_grids(parse_voxels(io.BytesIO(data), suffix))


def pad(grids: NDArray[np.bool_], how: Voxelizer) -> NDArray[np.bool_]:
    """Turn grids z up, and put the same number of empty voxels on all sides."""
    inner, outer = grids.shape[1], how.resolution
    if inner > outer or (outer - inner) % 2:
        possible = f"kept at {inner}³ or padded evenly to {inner + 2}³, {inner + 4}³ …"
        raise VoxelError(f"holds {inner}³ grids; they can be {possible}, not to {outer}³")
    if how.up == "y":
        grids = turn_up(grids)
    before = (outer - inner) // 2
    return np.pad(grids, ((0, 0), *[(before, before)] * 3)) if before else np.ascontiguousarray(grids)


def shape_row(row: Row, grid: NDArray[np.bool_], flags: list[str] | None = None) -> Row:
    """Complete a row of `shapes.csv`; components are counted across faces (6 neighbours).

    `voxels` is a hash of the grid: equal for equal shapes.
    """
    sides = [grid.take(side, axis).any() for axis in range(3) for side in (0, -1)]
    marks = ["touches-border"] * any(sides) + ["empty"] * (not grid.any()) + (flags or [])
    return row | {
        "occupied": int(grid.sum()),
        "components": int(ndimage.label(grid)[1]),
        "flags": " ".join(marks),
        "voxels": hashlib.sha256(np.packbits(grid).tobytes()).hexdigest(),
        "reason": "",
    }
