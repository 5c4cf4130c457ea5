"""What does the threshold do? Quality and novelty of the same samples, cut from their probabilities at other thresholds.

A generator that is sure of its voxels does not care; one whose verdict changes between 0.1 (the threshold of the official
visualiser of 3D-GAN) and 0.5 makes blurred shapes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from gan3d_eval.cache import Cache
from gan3d_eval.case import Case
from gan3d_eval.files import in_shell
from gan3d_eval.provenance import Result, result_name
from gan3d_eval.run_dir import RunDirError
from gan3d_eval.series import BY, draw, intervals_of, judge_each, protocol_of
from gan3d_eval.voxels import VoxelSet, binarize

__all__ = ["THRESHOLDS", "VERB", "threshold_sweep"]

VERB = "threshold-sweep"
THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
MARKS = {0.1: "official viewer", 0.5: "usual"}


def threshold_sweep(case: Case, seed: int, cache: Cache, say: Callable[[str], None]) -> tuple[Result, pd.DataFrame]:
    """Judge the samples at each of `THRESHOLDS`, and draw `figures/threshold-sweep.png`.

    Raises
    ------
    RunDirError
        The samples have no probabilities.
    """
    started = time.perf_counter()
    probabilities, gen = case.probabilities, case.gen
    if probabilities is None:
        make = "import them uncut"
        if case.run.checkpoints():
            draws = f"python cli.py sample {in_shell(case.run.path)} --probabilities --force"
            make = f"leave --samples out, once final has some: {draws}" if case.sample_name else f"draw some: {draws}"
        raise RunDirError(f"{case.run.path}: {gen.info['file']} holds no probabilities; {make}")
    sets = {t: VoxelSet.from_grids(binarize(probabilities, t)) for t in THRESHOLDS}
    rows = judge_each(sets, case, seed, cache, say, "threshold")
    draw(rows, "threshold", case.run.picture_path("figures", result_name(VERB, case.suffix)), MARKS)
    soft = float(((probabilities > 0.1) & (probabilities < 0.9)).sum() / np.maximum((probabilities > 0.1).sum(), 1))
    values: dict[str, Any] = {"n": int(rows["n"].iloc[0]), "between_share": soft}
    intervals: dict[str, Any] = {}
    ordered = rows.sort_values("one_nna_l1")
    for end, row in (("low", ordered.iloc[0]), ("high", ordered.iloc[-1])):
        values[f"one_nna_l1_{end}"] = float(row["one_nna_l1"])
        intervals |= {f"{name}_{end}": of for name, of in intervals_of(row, "").items() if name == "one_nna_l1"}
    inputs = {"train": case.train.identity(), "test": case.test.identity() if case.test else None, "samples": gen.identity()}
    return Result(
        VERB, protocol_of(VERB, case, int(values["n"]), seed), inputs, {"thresholds": list(THRESHOLDS)}, values, intervals,
        [BY], seed=seed, started=started,
    ), rows  # fmt: skip
