"""Meshes of a stranger → grids, by the same voxeliser as the data set that they are to be judged by."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gan3d_eval.voxels import VoxelSet
from gan3d_model.data.meshes import parse_mesh
from gan3d_model.data.voxelize import METHODS, Voxelizer, voxelize

__all__ = ["mesh_reader"]


def mesh_reader(
    dataset: Path | None, resolution: int | None
) -> tuple[Callable[[bytes, str], NDArray[np.bool_]] | None, dict[str, Any]]:
    """A function of a mesh file's bytes and suffix that gives its grid `(d, d, d) bool`, and the voxeliser's parameters.

    They are those of `dataset`, where that was made from meshes; else `resolution`, solid, margin 1. Meshes keep their axes:
    which is up is found from the grids. None where no resolution is known.
    """
    info = VoxelSet.open(dataset).info if dataset else {}
    resolution = info.get("resolution") or resolution
    if resolution is None:
        return None, {}
    theirs = info.get("voxelizer") or {}
    how = Voxelizer(resolution)
    if theirs.get("name") in METHODS:
        how = Voxelizer(resolution, theirs.get("margin", how.margin), theirs.get("solid", how.solid), "z", theirs["name"])
    return lambda data, suffix: voxelize(parse_mesh(data, suffix), how).grid, dataclasses.asdict(how)
