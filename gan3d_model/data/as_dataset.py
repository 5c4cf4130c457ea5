"""Meshes of a stranger → grids, by the same voxeliser as the data set that they are to be judged by."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gan3d_eval.voxels import VoxelError, VoxelSet
from gan3d_model.data.meshes import parse_mesh
from gan3d_model.data.voxelize import METHODS, Voxelizer, voxelize

__all__ = ["mesh_reader"]


def mesh_reader(
    dataset: Path | None, resolution: int | None
) -> tuple[Callable[[bytes, str], NDArray[np.bool_]] | None, dict[str, Any]]:
    """A function of a mesh file's bytes and suffix that gives its grid `(d, d, d) bool`, and the voxeliser's parameters.

    They are those of `dataset`, where that was made from meshes; else solid, margin 1. The resolution is the data set's, and
    `resolution` where there is none. Meshes keep their axes: which is up is found from the grids. None where no resolution is
    known; VoxelError where both are given and differ.
    """
    info = VoxelSet.open(dataset).info if dataset else {}
    theirs = info.get("resolution")
    if theirs and resolution and theirs != resolution:
        raise VoxelError(f"--resolution {resolution}, but {dataset} has {theirs}: leave one of them out")
    resolution = theirs or resolution
    if resolution is None:
        return None, {}
    made = info.get("voxelizer") or {}
    how = Voxelizer(resolution)
    if made.get("name") in METHODS:
        how = Voxelizer(resolution, made.get("margin", how.margin), made.get("solid", how.solid), "z", made["name"])
    return lambda data, suffix: voxelize(parse_mesh(data, suffix), how).grid, dataclasses.asdict(how)
