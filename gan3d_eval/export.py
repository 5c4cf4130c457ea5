"""Give shapes to other programs: `.mat`, `.binvox`, `.npz`, and meshes by marching cubes or by the faces of the cubes."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gan3d_eval.files import atomic_file, refuse_ours
from gan3d_eval.formats import VoxelError, write_binvox, write_mat
from gan3d_eval.render import voxel_faces
from gan3d_eval.voxels import VoxelSet

__all__ = ["FORMATS", "export", "marching_cubes", "write_mesh"]

FORMATS = ("mat", "binvox", "npz", "ply", "stl", "obj")
SURFACES = ("marching-cubes", "cubes")
Surface = tuple[NDArray[np.float32], NDArray[np.int64]]


def export(
    shapes: VoxelSet, folder: Path, kind: str, surface: str = "marching-cubes", up: str = "z", force: bool = False
) -> list[Path]:
    """Write each shape to `folder/<class>/<split>/<name>.<kind>` (samples: `folder/<name>.<kind>`), or all to one `.npz`.

    Parameters
    ----------
    kind : str
        `mat` holds `Volume` alone, as the slides' files do; `npz` holds all shapes (see `_write_npz`).
    surface : str
        Meshes: `marching-cubes` (smooth), or `cubes` (the outer faces, what every picture here shows). Units are voxels.
    up : str
        binvox: the axis that is up in the file, `z` as here or `y` as ShapeNet's.

    Returns
    -------
    list of Path
        The files; of empty shapes there are no meshes.

    Raises
    ------
    Gan3dError
        A file is there and not `force`, no such format, `folder` is a dataset or a run, or all shapes are empty.
    """
    if kind not in FORMATS or surface not in SURFACES:
        raise VoxelError(f"no format {kind} {surface}; there are {', '.join(FORMATS)}; {' and '.join(SURFACES)}")
    paths = _paths(shapes, folder, kind)
    refuse_ours(folder)
    if (taken := [path for path in paths if path.exists()]) and not force:
        raise VoxelError(f"{taken[0]} already exists; choose another folder, or pass --force to replace it")
    if kind == "npz":
        _write_npz(paths[0], shapes)
        return paths
    write: dict[str, Callable[[Path, NDArray[np.bool_]], None]] = {
        "mat": write_mat, "binvox": lambda path, grid: write_binvox(path, grid, up),
    }  # fmt: skip
    extract = marching_cubes if surface == "marching-cubes" else _cubes
    solid = [(row, path) for row, path in enumerate(paths) if kind in write or shapes.volume[row]]
    if not solid:
        raise VoxelError(f"{folder}: all {len(shapes)} shapes are empty, and no program reads a mesh of nothing")
    for row, path in solid:
        grid = shapes.grids([row])[0]
        if kind in write:
            write[kind](path, grid)
        else:
            write_mesh(path, *extract(grid))
    return [path for _, path in solid]


def _write_npz(path: Path, shapes: VoxelSet) -> None:
    """Samples: `voxels`, `names`; datasets: `X_<split>`, `y_<split>`, `names_<split>`, `classes`, as `prepare` reads them."""
    table = shapes.table
    arrays: dict[str, Any] = {}
    if "class" in table and "split" in table:
        classes = sorted(set(table["class"]))
        labels = table["class"].map(classes.index).to_numpy()
        for split in dict.fromkeys(table["split"]):
            rows = np.flatnonzero(table["split"] == split)
            arrays |= {f"X_{split}": shapes.grids(rows), f"y_{split}": labels[rows]}
            arrays |= {f"names_{split}": np.array([shapes.names[row] for row in rows])}
        arrays["classes"] = np.array(classes)
    else:
        arrays = {"voxels": shapes.grids(), "names": np.array(shapes.names)}
    with atomic_file(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)


def _paths(shapes: VoxelSet, folder: Path, kind: str) -> list[Path]:
    """Where each shape goes; names that are no file names, or stand twice, are made so."""
    if kind == "npz":
        return [folder / "voxels.npz"]
    paths: dict[Path, None] = {}
    last: dict[Path, int] = {}
    for row in shapes.table.to_dict("records"):
        place = [str(row[key]) for key in ("class", "split") if key in row] + [str(row["name"])]
        first = folder.joinpath(*(re.sub(r"[^\w.+-]+", "_", part).lstrip(".") or "_" for part in place))
        path = first.with_name(f"{first.name}.{kind}")
        while path in paths:
            last[first] = last.get(first, 1) + 1
            path = first.with_name(f"{first.name}-{last[first]}.{kind}")
        paths[path] = None
    return list(paths)


def marching_cubes(grid: NDArray[np.bool_]) -> Surface:
    """The surface at ½ between voxel centres (Lorensen & Cline 1987, through VTK), closed at the grid's border.

    Returns
    -------
    points : (v, 3) float32
        In voxels; voxel i spans [i, i + 1].
    faces : (f, 3) int64
    """
    import pyvista

    padded = np.pad(grid, 1).astype(np.float32)
    image = pyvista.ImageData(dimensions=padded.shape, origin=(-0.5,) * 3)
    image.point_data["occupancy"] = padded.ravel(order="F")
    surface = image.contour([0.5], scalars="occupancy", method="marching_cubes")
    if surface.n_points == 0:
        return np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int64)
    return np.asarray(surface.points, np.float32), np.asarray(surface.regular_faces, np.int64)


def _cubes(grid: NDArray[np.bool_]) -> Surface:
    """The outer faces of the voxels as triangles; corners are shared."""
    points, quads, _ = voxel_faces(grid)
    points, index = np.unique(points, axis=0, return_inverse=True)
    quads = index.reshape(-1)[quads]
    return points, np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])


def write_mesh(path: Path, points: NDArray[np.float32], faces: NDArray[np.int64]) -> None:
    """Write triangles, outside counter-clockwise, as `.ply`, `.stl` or `.obj` by the path's suffix; atomically."""
    import pyvista

    mesh = pyvista.PolyData.from_regular_faces(points, faces)
    with atomic_file(path) as temporary:
        named = temporary.with_suffix(path.suffix)  # VTK chooses the format by the name
        try:
            # VTK would turn faces where more than two meet at an edge, as they do where cubes touch at an edge only.
            mesh.save(named, recompute_normals=False)
            named.replace(temporary)
        finally:
            named.unlink(missing_ok=True)
