"""Is ten times less data the reason? The same training on nested parts of one class, judged against the same shapes."""

from __future__ import annotations

import dataclasses

import numpy as np

from gan3d_eval.voxels import VoxelSet
from studies.study import MEASURES, SMALL, VERBS, Cell, Measure, Study, Task

__all__ = ["STUDY"]

CATEGORY = "sofa"
"""The largest of the slides' four classes, and what they show."""
PARTS = {"1-of-8": 8, "1-of-4": 4, "1-of-2": 2}
KEPT = ("resolution", "source", "voxelizer", "grid", "software")
"""Facts of a data set that hold of a part of it."""


def parts(task: Task) -> None:
    """Write the nested parts for one seed: each half of the next, drawn by the seed; held-out shapes stay as they are."""
    whole = VoxelSet.open(task.given)
    label, split = (whole.table[column] for column in ("class", "split"))
    train = np.flatnonzero(label.eq(CATEGORY) & split.eq("train"))
    test = np.flatnonzero(label.eq(CATEGORY) & split.eq("test"))
    order = np.random.default_rng(task.seed).permutation(train)
    for name, share in PARTS.items():
        if not (task.data / name).exists():
            some = whole.take(np.sort(np.concatenate([order[: len(train) // share], test])))
            facts = {key: whole.info[key] for key in KEPT if key in whole.info} | {"part": f"1 of {share}, seed {task.seed}"}
            dataclasses.replace(some, info=facts).write(task.data / name)


STUDY = Study(
    name="dataset_size",
    question="Is it the size of the data set (ModelNet10 a tenth of ShapeNet) that limits what is learned?",
    cells={
        "all": Cell(CATEGORY, "stable"),
        **{name: Cell(CATEGORY, "stable", data=name, against="all") for name in reversed(PARTS)},
    },
    # Against the whole class, or `real` and n would shrink with the part. Copying is a matter of what a run has seen.
    verbs=VERBS | {"compare": ("compare", "--reference", "{dataset}")},
    measures=(*MEASURES, Measure("A off ½", "abs(a_far - 0.5)", "{:.2f}", "low")),
    scales={"cpu": SMALL},
    data=parts,
)
