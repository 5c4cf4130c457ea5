"""The published tests beside ours, under L1: AuthPct (Alaa et al. 2022) and C_T (Meehan, Chaudhuri, Dasgupta 2020)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from gan3d_eval.calibration import authenticity, c_t
from gan3d_eval.cells import cells
from gan3d_eval.distances import nearest
from gan3d_eval.voxels import VoxelSet

__all__ = ["authentic"]

AUTHENTIC = ("authentic", "authentic_null", "c_t")
NO_CELL = "no cell of training shapes holds more than 20 samples and a held-out shape"


def authentic(
    rows: pd.DataFrame, null_kind: str, train: VoxelSet, sets: dict[str, VoxelSet], seed: int, why_not: str = ""
) -> tuple[dict[str, Any], dict[str, str]]:
    """`AUTHENTIC` of the judged samples and of the null, from the rows of nn-check, and what is absent: all for `why_not`."""
    if why_not:
        return {}, dict.fromkeys(AUTHENTIC, why_not)
    names = ("generated", null_kind)
    ok = [(rows.loc[rows["set"] == name, "status"] == "ok").to_numpy() for name in names]
    judged = [rows[rows["set"] == name][kept] for name, kept in zip(names, ok, strict=True)]
    radius = np.full(len(train), np.nan)
    used = np.unique(pd.concat(judged)["neighbour1_row"])
    radius[used] = nearest(train.packed[used], train.packed, 2)[0][:, 1]
    gen, null = (part["l1"].to_numpy(np.float64) for part in judged)
    values = {
        "authentic": authenticity(gen, radius[judged[0]["neighbour1_row"]]),
        "authentic_null": authenticity(null, radius[judged[1]["neighbour1_row"]]),
    }
    score = c_t(gen, null, *cells(train, [sets[name].take(kept) for name, kept in zip(names, ok, strict=True)], seed))
    return (values, {"c_t": NO_CELL}) if score is None else (values | {"c_t": score}, {})
