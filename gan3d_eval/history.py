"""How good was the generator at each checkpoint, and which one was the best? A row for each sample file that names its step.

The best is the one whose two 1-NN accuracies under L1, on samples and on held-out shapes, stay nearest to ½, among those that
nn-check does not find copying; the earlier of two equal ones. (Their mean will not do: noise has 0 and 1.) That rule looks at
held-out shapes: report the chosen checkpoint on others where there are some.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from gan3d_eval.cache import Cache
from gan3d_eval.case import Case
from gan3d_eval.provenance import Result, result_name
from gan3d_eval.run_dir import RunDir, RunDirError
from gan3d_eval.series import BY, MIN_N, draw, intervals_of, judge_each, protocol_of
from gan3d_eval.set_measures import told_apart
from gan3d_eval.voxels import VoxelSet

__all__ = ["VERB", "best", "history", "steps_of"]

VERB = "history"
KEYS = ("one_nna_l1", "coverage_l1", "valid", "a_far")
NOT_THERE = "cannot be computed of these samples; nn-check or compare of them says why"
RULE = "best: both 1-NN accuracies under L1 nearest to ½, among checkpoints that do not copy; chosen on held-out shapes"


def history(case: Case, seed: int, cache: Cache, say: Callable[[str], None]) -> tuple[Result, pd.DataFrame]:
    """Judge every sample file of at least 50 shapes that says of which step it is, and draw `figures/history.png`."""
    started = time.perf_counter()
    run, sets = case.run, steps_of(case.run)
    if not sets:
        if run.checkpoints():
            way_out = "draw some from every checkpoint with --draw"
        else:
            otherwise = "judge it by nn-check and compare" if run.sample_names() else run.way_on()
            way_out = f"nor are there checkpoints to draw from: {otherwise}"
        raise RunDirError(f"{run.path}: no sample file has a step and at least {MIN_N} shapes; {way_out}")
    rows = judge_each(sets, case, seed, cache, say, "step").astype({"step": np.int64})
    chosen = best(rows)
    values: dict[str, Any] = {"checkpoints": len(rows)}
    intervals: dict[str, Any] = {}
    if chosen is not None:
        of_best = rows.iloc[chosen]
        values["best_step"] = int(of_best["step"])
        values |= {f"best_{name}": float(of_best[name]) for name in KEYS if pd.notna(of_best[name])}
        intervals = intervals_of(of_best, "best_")
    marks = {} if chosen is None else {float(values["best_step"]): "best"}
    draw(rows, "step", run.picture_path("figures", result_name(VERB, case.suffix)), marks)
    inputs = {"train": case.train.identity(), "test": case.test.identity() if case.test else None}
    inputs |= {"samples": {"path": "samples", "sha256": None, "n": int(rows["n"].iloc[0])}}
    absent = {} if chosen is not None else {"best_step": "every checkpoint copies, or none can be judged"}
    absent |= {f"best_{name}": NOT_THERE for name in KEYS if chosen is not None and f"best_{name}" not in values}
    protocol = protocol_of(VERB, case, int(rows["n"].iloc[0]), seed)
    return Result(VERB, protocol, inputs, {}, values, intervals, [RULE, BY], absent, seed, started=started), rows


def steps_of(run: RunDir) -> dict[float, VoxelSet]:
    """Samples by step, in order: of files that name one and hold at least 50 shapes; of two of one step, the larger one,
    of equal ones `final`.
    """
    found: dict[float, VoxelSet] = {}
    for name in run.sample_names():
        shapes = run.samples(name)
        if "step" in shapes.info and len(shapes) >= MIN_N:
            step = float(shapes.info["step"])
            if step not in found or len(shapes) >= len(found[step]):
                found[step] = shapes
    return dict(sorted(found.items()))


def best(rows: pd.DataFrame) -> int | None:
    """Row of the best checkpoint by the rule above; None if there is none."""
    distance = told_apart(rows)
    usable = (rows["verdict"] != "copying") & distance.notna()
    return int(distance.where(usable, np.inf).to_numpy().argmin()) if usable.any() else None
