"""Make a dataset directory from what people have: a tree of meshes in ModelNet's layout, or an `.npz` of voxel arrays.

Empty shapes are dropped and unreadable files are passed over; both are listed in `rejected.csv` with the reason. Every
shape keeps the split it came with: nothing is moved between train and test.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from numpy.typing import NDArray
from scipy import ndimage

from gan3d_eval.voxels import VoxelError, VoxelSet, binarize, content_hash, file_hash, pack, read_arrays
from gan3d_model.data.voxelize import Voxelizer, read_mesh, voxelize

__all__ = ["MODELNET10", "prepare"]

MODELNET10 = ["bathtub", "bed", "chair", "desk", "dresser", "monitor", "night_stand", "sofa", "table", "toilet"]
# Official shapes per class, train and test, in that order (Princeton ModelNet).
MODELNET10_COUNTS = ([106, 515, 889, 200, 200, 465, 200, 680, 392, 344], [50, 100, 100, 86, 86, 100, 86, 100, 100, 100])
MESH_SUFFIXES = {".off", ".obj", ".ply", ".stl", ".glb"}
SPLITS = ("train", "test")


def prepare(
    source: Path, target: Path, how: Voxelizer, classes: list[str] | None = None, force: bool = False,
    names: list[str] | None = None, say: Callable[[str], None] = print,
) -> VoxelSet:  # fmt: skip
    """Convert `source` into the dataset directory `target` and open it.

    Parameters
    ----------
    source : Path
        A folder `<class>/<split>/<name>.off` (or one without the split level: all train), or an `.npz` with arrays
        `X_train`, `y_train`, `X_test`, `y_test` (or a single 4-D array: all train).
    how : Voxelizer
        Resolution for all sources; the rest applies to meshes.
    classes : list of str, optional
        Take only these.
    names : list of str, optional
        Arrays: what labels 0, 1, … are called.

    Raises
    ------
    VoxelError
        Nothing there, nothing usable in it, grids larger than the resolution, or `target` exists and not `force`.
    """
    if not source.exists():
        raise VoxelError(f"{source} does not exist; expected a folder of meshes or an .npz of voxel arrays")
    if target.exists() and not force:
        raise VoxelError(f"{target} already exists; choose another name, or pass --force to replace it")
    if source.resolve().is_relative_to(target.resolve()):
        raise VoxelError(f"{target} holds the source {source}; choose another name for the dataset")
    if source.is_dir():
        rows, grids, facts = _from_meshes(source, how, classes, say)
    elif source.suffix == ".npz":
        rows, grids, facts = _from_arrays(source, how, classes or [], names or [])
    else:
        raise VoxelError(f"{source}: expected a folder of meshes or an .npz of voxel arrays, found {source.suffix or 'a file'}")
    kept = [i for i, row in enumerate(rows) if not row["reason"]]
    rejected = pd.DataFrame([{k: row[k] for k in ("name", "class", "split", "reason")} for row in rows if row["reason"]])
    if not kept:
        raise VoxelError(f"{source}: no usable shape; the first of {len(rows)} is {rows[0]['name']}: {rows[0]['reason']}")
    table = pd.DataFrame([rows[i] for i in kept])
    shapes = VoxelSet(np.concatenate([grids[i] for i in kept]), how.resolution, table, {"name": target.name} | facts)
    shapes.write(target, rejected, force)
    return VoxelSet.open(target)


# --- meshes ------------------------------------------------------------------------------------------------------------


def _from_meshes(
    source: Path, how: Voxelizer, classes: list[str] | None, say: Callable[[str], None]
) -> tuple[list[dict[str, Any]], list[Any], dict[str, Any]]:
    """Voxelise a tree of meshes on all cores, in the order of class, split and name."""
    found = [path for path in sorted(source.rglob("*")) if path.suffix.lower() in MESH_SUFFIXES]
    places = [(path, *_place(path.relative_to(source))) for path in found]
    if unknown := sorted(set(classes or []) - {label for _, label, _ in places}):
        raise VoxelError(f"{source} has no class {', '.join(unknown)}; it has {', '.join(sorted({p[1] for p in places}))}")
    places = [place for place in places if not classes or place[1] in classes]
    if not places:
        raise VoxelError(f"{source} holds no meshes ({', '.join(sorted(MESH_SUFFIXES))})")
    places.sort(key=lambda place: (place[1], SPLITS.index(place[2]), place[0].name))
    work = Parallel(n_jobs=-1, return_as="generator")(delayed(_mesh_row)(*place, source, how) for place in places)
    rows, grids = [], []
    for i, (row, grid) in enumerate(work, 1):
        rows.append(row)
        grids.append(grid)
        if i % 200 == 0 or i == len(places):
            say(f"voxelised {i}/{len(places)} meshes")
    facts = {
        "source": {"kind": "meshes", "name": source.name, "licence": "see the source"},
        "voxelizer": {"name": "trimesh-subdivide", "margin": how.margin},
        "grid": _grid_facts("solid" if how.solid else "surface", how.resolution - 2 * how.margin),
    }
    return rows, grids, facts


def _place(path: Path) -> tuple[str, str]:
    """Class and split of `<class>/<split>/<name>` or `<class>/<name>` (train), wherever that begins."""
    folders = path.parts[:-1]
    if folders and folders[-1] in SPLITS:
        return (folders[-2] if len(folders) > 1 else "shape"), folders[-1]
    return (folders[-1] if folders else "shape"), "train"


def _mesh_row(path: Path, label: str, split: str, source: Path, how: Voxelizer) -> tuple[dict[str, Any], NDArray[np.uint8]]:
    """Read and voxelise one mesh; what is wrong with it becomes its row's `reason`."""
    row = {"name": path.stem, "class": label, "split": split, "source": path.relative_to(source).as_posix()}
    try:
        vertices, faces = read_mesh(path)
        grid = voxelize(vertices, faces, how)
    except VoxelError as fault:
        return row | {"reason": str(fault).removeprefix(f"{path}: ")}, np.zeros((1, 0), np.uint8)
    return _shape_row(row | {"sha256": file_hash(path)}, grid)


# --- arrays ------------------------------------------------------------------------------------------------------------


def _from_arrays(
    source: Path, how: Voxelizer, classes: list[str], given: list[str]
) -> tuple[list[dict[str, Any]], list[Any], dict[str, Any]]:
    """Read voxel arrays, name their classes, and pad them to the resolution."""
    splits = _read_splits(source)
    names, evidence = _class_names(splits, given, source)
    if unknown := sorted(set(classes) - set(names)):
        raise VoxelError(f"{source} has no class {', '.join(unknown)}; it has {', '.join(names)} (see --names)")
    counters: dict[str, int] = {}
    rows, grids = [], []
    inner = 0
    for split, (array, labels) in splits.items():
        inner = array.shape[1]
        before = _padding(inner, how.resolution, source)
        for start in range(0, len(array), 256):
            part = binarize(array[start : start + 256], where=f"{source}[{split}]")
            part = np.pad(part, ((0, 0), *[(before, how.resolution - inner - before)] * 3))
            if how.up == "y":
                part = part.transpose(0, 1, 3, 2)[:, :, ::-1]  # the same turn as of meshes: (x, y, z) → (x, −z, y)
            for i, grid in enumerate(part, start):
                label = names[int(labels[i])]
                if classes and label not in classes:
                    continue
                counters[label] = counters.get(label, 0) + 1
                row = {"name": f"{label}_{counters[label]:04d}", "class": label, "split": split}
                row, packed = _shape_row(
                    row | {"source": f"{source.name}[{split}][{i}]", "sha256": content_hash(array[i])}, grid
                )
                rows.append(row)
                grids.append(packed)
    facts = {
        "source": {"kind": "arrays", "name": source.name, "sha256": file_hash(source), "licence": "see the source"},
        "voxelizer": {"name": "none", "padded_from": inner},
        "class_names": evidence,
        "grid": _grid_facts("unknown", None),
    }
    return rows, grids, facts


def _read_splits(source: Path) -> dict[str, tuple[NDArray[Any], NDArray[Any]]]:
    """Arrays and labels by split; an array without labels gets label 0."""
    arrays = read_arrays(source, VoxelError)
    volumes = {key: array for key, array in arrays.items() if array.ndim in (4, 5) and array.dtype.kind in "biuf"}
    if not volumes:
        shapes = ", ".join(f"{key} {array.shape}" for key, array in arrays.items())
        raise VoxelError(f"{source} holds no array of grids (n, d, d, d); found {shapes or 'nothing'}")
    by_split = {split: f"X_{split}" for split in SPLITS if f"X_{split}" in volumes} or {"train": next(iter(volumes))}
    if len(volumes) > len(by_split):
        raise VoxelError(f"{source} holds arrays {', '.join(volumes)}; expected X_train and X_test, or a single one")
    result = {}
    for split, key in by_split.items():
        array = volumes[key][:, 0] if volumes[key].ndim == 5 and volumes[key].shape[1] == 1 else volumes[key]
        labels = arrays.get(f"y_{split}", np.zeros(len(array), np.int64))
        if labels.shape != (len(array),) or labels.dtype.kind not in "iu" or (len(labels) and labels.min() < 0):
            raise VoxelError(f"{source}: y_{split} is {labels.dtype} {labels.shape}; expected {len(array)} integers from 0")
        if array.ndim != 4 or len(set(array.shape[1:])) != 1 or len(array) == 0:
            raise VoxelError(f"{source}: {key} has shape {array.shape}; expected a batch of cubic grids (n, d, d, d), n ≥ 1")
        result[split] = (array, labels)
    return result


def _class_names(splits: dict[str, tuple[NDArray[Any], NDArray[Any]]], given: list[str], source: Path) -> tuple[list[str], str]:
    """Names of labels 0, 1, … and why: as given, ModelNet10's when the counts are its own, or the file's name."""
    n = 1 + max(int(labels.max()) for _, labels in splits.values())
    if given:
        if len(given) < n:
            raise VoxelError(f"{source} has labels up to {n - 1}, but names for {len(given)} only: {', '.join(given)}")
        return given, "as given"
    counts = tuple(np.bincount(labels, minlength=n).tolist() for _, labels in splits.values())
    if counts == MODELNET10_COUNTS:
        return MODELNET10, "ModelNet10 in alphabetical order, because the counts per label and split are its official ones"
    if n == 1:
        return [source.name.split(".")[0]], "the file's name"
    return [f"class{i}" for i in range(n)], "numbered: no names were given"


def _padding(inner: int, resolution: int, source: Path) -> int:
    """Empty voxels to put before each axis."""
    if inner > resolution or (resolution - inner) % 2:
        fits = f"{inner + 2}³, {inner + 4}³ …"
        raise VoxelError(f"{source} holds {inner}³ grids; they can be padded evenly to {fits}, but not to {resolution}³")
    return (resolution - inner) // 2


# --- both --------------------------------------------------------------------------------------------------------------


def _shape_row(row: dict[str, Any], grid: NDArray[np.bool_]) -> tuple[dict[str, Any], NDArray[np.uint8]]:
    """Complete a row of `shapes.csv`; components are counted across faces (6 neighbours)."""
    occupied = int(grid.sum())
    faces = [grid.take(side, axis).any() for axis in range(3) for side in (0, -1)]
    return row | {
        "occupied": occupied,
        "components": int(ndimage.label(grid)[1]),
        "flags": "touches-border" if any(faces) else "",
        "reason": "" if occupied else "empty: no voxel is occupied",
    }, pack(grid[None])


def _grid_facts(fill: str, longest: float | None) -> dict[str, Any]:
    """The `grid` record that every run made from this dataset inherits; z is up whatever the source had."""
    return {"axes": "xyz", "up": "z", "fill": fill, "longest_side": longest}
