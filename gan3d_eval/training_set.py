"""The shapes that a run is judged against."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gan3d_eval.run_dir import RunDir, RunDirError
from gan3d_eval.voxels import VoxelSet

__all__ = ["NO_DATA", "training_set"]

NO_DATA = "the run names no dataset, or it is not there; pass --reference DATASET_DIR"


def training_set(
    run: RunDir, reference: Path | None = None, classes: Sequence[str] = ()
) -> tuple[VoxelSet, VoxelSet | None, bool]:
    """The shapes that the run is judged against: (train, held-out or None, are these the run's own training shapes?).

    Both are of the run's classes, or of all classes where a reference has none of them, and without empty shapes: an
    empty grid is the L1 neighbour of every thin shape.

    Without a `reference`, a dataset directory, it is the dataset that `run.json` names, whose hash must be the recorded
    one, if any. Of a reference `classes` are kept, all if there are none. RunDirError if there is no dataset, or it is of
    another resolution, or not what the run was trained on.
    """
    record = run.meta["dataset"] or {}
    if classes and reference is None:
        raise RunDirError(f"classes {', '.join(classes)} of which dataset? --class needs --reference DATASET_DIR")
    path = reference or run.dataset_path()
    shapes = VoxelSet.open(path)
    if shapes.resolution != run.resolution:
        advice = "prepare it at that" if reference else "one of both was changed or damaged (check-run says more)"
        raise RunDirError(f"{path} is of {shapes.resolution}³, and {run.path} of {run.resolution}³; {advice}")
    known = set(shapes.table["class"])
    classes = classes or [c for c in record.get("classes") or [] if c in known or reference is None]
    train = shapes.select(classes, record.get("split") or "train")
    own = train.sha256 == record.get("sha256")
    if reference is None and not own and record.get("sha256"):
        raise RunDirError(
            f"{path} is not what {run.path} was trained on (its {len(train)} shapes hash to {train.sha256[:12]}, "
            f"recorded: {str(record.get('sha256'))[:12]}); pass --reference to judge against it all the same"
        )
    if not train.volume.any():
        raise RunDirError(f"{path}: its {len(train)} training shapes are all empty; nothing can be judged against them")
    held_out = shapes.table["split"].eq(shapes.held_out) & (shapes.table["class"].isin(classes) if classes else True)
    test = shapes.take(held_out.to_numpy()).without_empty() if held_out.any() else None
    return train.without_empty(), test if test is not None and len(test) else None, own or reference is None
