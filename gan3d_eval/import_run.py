"""Make a run directory from somebody else's generated shapes, so that they are judged exactly as ours are.

Reads `.npz` and `.npy` batches of grids; nothing is unpickled. What cannot be known from a batch of grids (prior, seed,
training) is recorded as null, never guessed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from gan3d_eval.files import file_hash, read_arrays
from gan3d_eval.run_dir import RunDir, RunDirError, dataset_record, new_run_id, producer, software
from gan3d_eval.voxels import VoxelError, VoxelSet, binarize, only_grids, pack

__all__ = ["import_run"]


def import_run(
    source: Path, target: Path, dataset: Path | None, classes: list[str], threshold: float, command: list[str],
) -> RunDir:  # fmt: skip
    """Make the run directory `target` from the grids in `source`.

    Parameters
    ----------
    source : Path
        `.npy`, or `.npz` with one array of grids: `(n, d, d, d)`, bool, 0/1, 0/255, −1/+1, or probabilities in [0, 1].
    dataset : Path, optional
        Dataset directory of the shapes that the generator was trained on.
    classes : list of str
        Which classes of it (all, if empty).
    threshold : float
        Probabilities above it are occupied.

    Raises
    ------
    RunDirError, VoxelError
        Unreadable or unsuitable source, unknown class, another resolution than the dataset's, or `target` exists.
    """
    if classes and dataset is None:
        raise RunDirError("--class needs --dataset: it says which classes of the dataset the generator was trained on")
    grids = binarize(_read(source), threshold, str(source))
    resolution = grids.shape[1]
    record: dict[str, Any] | None = None
    facts: dict[str, Any] = {}
    if target.exists():
        raise RunDirError(f"{target} already exists; a run never overwrites another: choose a new name")
    if dataset is not None:
        shapes = VoxelSet.open(dataset)
        if shapes.resolution != resolution:
            raise RunDirError(f"{source} holds {resolution}³ grids, but dataset {dataset} has {shapes.resolution}³")
        train = shapes.select(classes, "train")
        facts = shapes.info.get("grid") or {}
        record = dataset_record(target, train, dataset, classes)
    category = "-".join(classes) or (record or {}).get("name") or source.name.split(".")[0]
    run = RunDir.create(
        target,
        {
            "run_id": new_run_id(category, "imported", 0), "category": category, "resolution": resolution,
            "status": "imported", "seed": None, "dataset": record, "grid": facts | {"threshold": threshold}, "prior": None,
            "producer": {"name": None, "version": None, "commit": None, "dirty": None},
            "imported": {"source": source.name, "sha256": file_hash(source), "by": producer()},
            "software": software("numpy"), "command": command,
        },
    )  # fmt: skip
    run.write_samples("final", occupancy=pack(grids))
    return run


def _read(source: Path) -> NDArray[Any]:
    """The one array of grids in a file."""
    if source.suffix not in {".npy", ".npz"}:
        raise RunDirError(f"{source}: expected .npy or .npz, found {source.suffix or 'no suffix'}")
    try:
        return only_grids(read_arrays(source, RunDirError))
    except VoxelError as fault:
        raise RunDirError(f"{source} {fault}") from None
