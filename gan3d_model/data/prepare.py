"""Make a dataset directory from what people have: meshes, voxel files, or arrays of voxels; in a folder, a `.zip` or one file.

Every shape keeps the split it came with: nothing is moved between train and test. Nothing disappears without a word: what
cannot be used is listed in `rejected.csv` with its reason, and only what `fix` names is left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gan3d_eval.run_dir import refuse_target, software
from gan3d_eval.voxels import VoxelError, VoxelSet, binarize, check_space, file_hash, packed_bytes, suffix_of
from gan3d_model.data.arrays import Arrays
from gan3d_model.data.convert import Row, Task, grids_of, pad
from gan3d_model.data.parts import Parts, alone, progress, work
from gan3d_model.data.sources import SPLITS, Source, chunks, read_item
from gan3d_model.data.voxelize import Voxelizer

__all__ = ["FIXES", "prepare"]

FIXES = ("drop-empty", "dedupe")
VOXELIZER_VERSION = 1
"""Raised when the same mesh and parameters would give other voxels."""
CHUNK = 16
"""Files in one task: what a kill may cost, and what a worker holds."""


def prepare(
    source: Path, target: Path, how: Voxelizer, classes: Sequence[str] = (), force: bool = False,
    names: Sequence[str] = (), fix: tuple[str, ...] = (), pattern: str = "*", scheduler: str | None = None,
    say: Callable[[str], None] = print,
) -> VoxelSet:  # fmt: skip
    """Convert `source` into the dataset directory `target` and open it.

    Interrupted at any moment before `target` stands (ctrl-C, kill -9), the same call goes on where it was. The order and the
    bytes of the result do not depend on how many cores or workers took part.

    Parameters
    ----------
    source : Path
        A folder or a `.zip` of meshes or voxel files (see `sources` for layouts), or one file: `.npz` with arrays `X_train`,
        `y_train`, `X_test`, `y_test`, a single array of grids, one mesh.
    how : Voxelizer
        Resolution and up axis for all sources; the rest applies to meshes.
    classes : sequence of str
        Take only these; none named takes all.
    names : sequence of str
        Arrays: what labels 0, 1, … are called.
    fix : tuple of str
        `drop-empty` leaves empty shapes out; `dedupe` keeps one of identical shapes, that in train before that in test, and
        none of those that stand under two labels.
    pattern : str
        Take only files whose path matches (`*.solid.binvox`).
    scheduler : str, optional
        Address of a Dask scheduler whose workers see `source` under the same path.

    Raises
    ------
    VoxelError
        Nothing there, nothing usable in it, grids larger than the resolution, or `target` exists and not `force`.
    """
    _refuse(source, target, force, fix)
    with alone(target):
        if source.is_file() and suffix_of(source.name) in {".npz", ".npy", ".npy.gz", ".mat"}:
            if pattern != "*" or scheduler:
                option = "--scheduler" if scheduler else "--pattern"
                raise VoxelError(f"{source} is one file of arrays: {option} is for folders and archives")
            parts, facts = _from_arrays(source, target, how, classes, names, say)
        else:
            if names:
                raise VoxelError(f"{source}: --names is for one file of arrays; here folders name the classes")
            parts, facts = _from_files(source, target, how, classes, pattern, scheduler, say)
        rows = parts.rows()
        _repair(rows, fix)
        kept = np.array([not row["reason"] for row in rows], np.bool_)
        if not any(row["occupied"] for row in rows if not row["reason"]):
            parts.remove()
            first = f"{rows[0]['name']}: {rows[0]['reason'] or 'empty'}"
            raise VoxelError(f"{source}: no usable shape; the first of {len(rows)} is {first}")
        usable = np.array(["occupied" in row for row in rows], np.bool_)
        packed = _gather(parts, kept[usable], how.resolution)
        table = pd.DataFrame([row for row in rows if not row["reason"]]).drop(columns=["reason", "voxels"])
        info = {"name": target.name} | facts | {"fixed": list(fix), "software": software("numpy", "numba", "trimesh")}
        rejected = [{"cause": "unusable"} | row for row in rows if row["reason"]]
        info["rejected_for"] = dict(Counter(row["cause"] for row in rejected))
        shapes = VoxelSet(packed, how.resolution, table, info)
        shapes.write(target, pd.DataFrame(rejected), force)
        parts.remove()
    return VoxelSet.open(target)


def _refuse(source: Path, target: Path, force: bool, fix: tuple[str, ...]) -> None:
    """Everything that can be known to be wrong before any work."""
    if not source.exists():
        raise VoxelError(f"{source} does not exist; expected a folder or .zip of meshes or voxels, or an array file")
    if (source / "dataset.json").is_file():
        raise VoxelError(f"{source} is a dataset already; export it to prepare it anew")
    if (source / "run.json").is_file():
        raise VoxelError(f"{source} is a run, whose samples are no data to train on; export them first if they are to be")
    if source.resolve().is_relative_to(target.resolve()):
        raise VoxelError(f"{target} holds the source {source}; choose another name for the dataset")
    if source.is_dir() and target.resolve().is_relative_to(source.resolve()):
        raise VoxelError(f"{target} lies in the source {source}, whose shapes it would join; choose another place")
    if unknown := sorted(set(fix) - set(FIXES)):
        raise VoxelError(f"no fix {', '.join(unknown)}; there are {', '.join(FIXES)}")
    refuse_target(target, force)


# --- two kinds of sources -------------------------------------------------------------------------------------------------


def _from_files(
    source: Path, target: Path, how: Voxelizer, classes: Sequence[str], pattern: str, scheduler: str | None,
    say: Callable[[str], None],
) -> tuple[Parts, dict[str, Any]]:  # fmt: skip
    """Convert a tree of files on all cores, in the order of class, split and name."""
    found = Source.find(source, pattern, classes)
    if found.passed_over:
        say(f"takes {len(found.items)} {found.kind}; passed over beside them, of another kind: {found.passed_over}")
    inner = None
    if found.kind == "voxels":
        _refuse_mesh_settings(source, how)
        inner = _inner(found, how)
    _check_space(target, len(found.items), how.resolution)
    parts = Parts(workspace(target), {"items": found.items, "how": how, "version": VOXELIZER_VERSION}, say)
    root = source.resolve()
    tasks = [Task(i, root, items, how, inner) for i, items in enumerate(chunks(found.items, CHUNK), 1)]
    done = parts.numbers()
    todo = [task for task in tasks if task.number not in done]
    finished = len(found.items) - sum(len(task.items) for task in todo)
    for part in progress(work(todo, scheduler), len(found.items), finished, found.kind, say):
        parts.save(part)
    parts.save_rejected(found.rejected)
    voxelizer: dict[str, Any] = {"name": "none", "padded_from": inner}
    if found.kind == "meshes":
        voxelizer = {"name": how.method, "version": VOXELIZER_VERSION, "margin": how.margin, "solid": how.solid, "up": how.up}
    facts = {
        "source": {"kind": found.kind, "name": source.name, "licence": "see the source"},
        "voxelizer": voxelizer,
        "grid": _grid_facts(how, found.kind == "meshes"),
    }
    return parts, facts


def _from_arrays(
    source: Path, target: Path, how: Voxelizer, classes: Sequence[str], names: Sequence[str], say: Callable[[str], None]
) -> tuple[Parts, dict[str, Any]]:
    """Convert the arrays of one file, block after block."""
    _refuse_mesh_settings(source, how)
    arrays = Arrays(source, how, classes, names)
    _check_space(target, arrays.n, how.resolution)
    status = source.stat()
    plan = {"source": source.resolve(), "size": status.st_size, "time": status.st_mtime_ns, "version": VOXELIZER_VERSION}
    plan |= {"how": how, "classes": classes, "names": names}
    parts = Parts(workspace(target), plan, say)
    finished = len(parts.rows())
    try:
        for part in progress(arrays.parts(parts.numbers()), arrays.n, finished, "grids", say):
            parts.save(part)
    except VoxelError:  # the file will not become better: nothing to go on with
        parts.remove()
        raise
    facts = {
        "source": {"kind": "arrays", "name": source.name, "sha256": file_hash(source), "licence": "see the source"},
        "voxelizer": {"name": "none", "padded_from": arrays.inner},
        "class_names": arrays.evidence,
        "grid": _grid_facts(how, meshes=False),
    }
    return parts, facts


def _refuse_mesh_settings(source: Path, how: Voxelizer) -> None:
    """Settings that only meshes obey are refused for voxels, not ignored."""
    if how != Voxelizer(how.resolution, up=how.up):
        raise VoxelError(f"{source} holds voxels: --margin, --surface and --method are for meshes")


def _inner(found: Source, how: Voxelizer) -> int | None:
    """The resolution of the first readable voxel file: that which all must have."""
    for item in found.items:
        try:
            grids = binarize(grids_of(read_item(found.root, item), item.suffix))
            pad(grids[:1], how)
        except VoxelError:
            continue
        return int(grids.shape[1])
    return None


# --- both -----------------------------------------------------------------------------------------------------------------


def _repair(rows: list[Row], fix: tuple[str, ...]) -> None:
    """Give a `reason` to the shapes that `fix` leaves out."""
    if "drop-empty" in fix:
        for row in rows:
            if not row["reason"] and not row["occupied"]:
                row |= {"cause": "empty", "reason": "empty: no voxel is occupied"}
    if "dedupe" not in fix:
        return
    groups: dict[str, list[Row]] = {}
    for row in rows:
        if not row["reason"] and row["occupied"]:
            groups.setdefault(row["voxels"], []).append(row)
    for group in groups.values():
        group.sort(key=lambda row: SPLITS.index(row["split"]))
        labels = sorted({row["class"] for row in group})
        for row in group if len(labels) > 1 else group[1:]:
            other = next(other for other in group if other is not row)
            first = "training" if group[0]["split"] == "train" else group[0]["split"]
            row["cause"] = "duplicate of one in its split" if row["split"] == group[0]["split"] else f"stands in {first} too"
            row["reason"] = f"the same voxels as {other['name']} ({other['class']}, {other['split']})"
            if len(labels) > 1:
                row["cause"] = "stands under two labels"
                row["reason"] += "; which label is right is not known"


def _gather(parts: Parts, kept: NDArray[np.bool_], resolution: int) -> NDArray[np.uint8]:
    """The kept grids of all parts as one memory map, `(n, ⌈d³/8⌉) uint8`."""
    path = parts.folder / "voxels.bin"
    at = 0
    with path.open("wb") as file:
        for packed in parts.grids():
            file.write(packed[kept[at : at + len(packed)]].tobytes())
            at += len(packed)
    return np.memmap(path, np.uint8, "r", shape=(int(kept.sum()), packed_bytes(resolution)))


def workspace(target: Path) -> Path:
    """Where finished parts wait."""
    return target.parent / f".{target.name}.parts"


def _check_space(target: Path, n: int, resolution: int) -> None:
    """Refuse before work what the disk cannot hold: parts, their concatenation and the dataset stand side by side."""
    check_space(target.parent, 3 * n * packed_bytes(resolution), f"{target}, while it is made,", VoxelError)


def _grid_facts(how: Voxelizer, meshes: bool) -> dict[str, Any]:
    """The `grid` record that every run made from this dataset inherits; z is up whatever the source had."""
    if how.method == "polygon2voxel":
        return {"axes": "yxz", "up": "z", "fill": "surface", "longest_side": None}
    fill = ("solid" if how.solid else "surface") if meshes else "unknown"
    return {"axes": "xyz", "up": "z", "fill": fill, "longest_side": how.resolution - 2 * how.margin if meshes else None}
