"""One generator in several states, a row each: over its checkpoints (`history`) or over thresholds (`threshold-sweep`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gan3d_eval.cache import Cache
from gan3d_eval.case import Case
from gan3d_eval.compare import compare
from gan3d_eval.nn_check import nn_check
from gan3d_eval.plotting import GENERATED, REAL, figure
from gan3d_eval.run_dir import RunDirError
from gan3d_eval.voxels import VoxelSet

__all__ = ["BY", "COLUMNS", "MIN_N", "draw", "in_words", "intervals_of", "judge_each", "protocol_of"]

MIN_N = 50
"""Fewer samples are not judged: the interval of a 1-NNA of 0.5 would be wider than 0.2."""
NOVELTY = ("verdict", "a_far", "a_far/aligned_l1", "flagged_share", "exact_copies")
QUALITY = (
    *("n", "valid", "empty", "coverage_l1", "one_nna_l1", "one_nna_gen_l1", "one_nna_ref_l1", "one_nna_chamfer"),
    *("mmd_jaccard", "jsd"),
)
BY = "a_far is that under L1 in place; the verdict weighs all distances of nn-check"
COLUMNS = (*NOVELTY, *QUALITY, "coverage_l1/real", "one_nna_l1/real")
PANELS = {
    "one_nna_l1": "1-NNA, L1: ½", "coverage_l1": "COV, L1: high", "valid": "Share of valid volume: high",
    "a_far": "A: ½ as held-out shapes",
}  # fmt: skip


def judge_each(
    sets: Mapping[float, VoxelSet], case: Case, seed: int, cache: Cache, say: Callable[[str], None], over: str
) -> pd.DataFrame:
    """Judge each set of samples with `nn_check` and `compare`: a row each, by `over`, with `COLUMNS`.

    All are cut to the size of the smallest, so that all values fall under one protocol. Each row is kept in the cache.
    `<name>_low` and `<name>_high` are the ends of the interval of what is drawn (`PANELS`), and `<name>_kind` says which
    one; where there are no more samples than held-out shapes, quality is of one draw and has none.
    """
    n = min(map(len, sets.values()))
    if n < MIN_N:
        raise RunDirError(f"{case.run.path}: sets of {n} samples are too small to compare; expected at least {MIN_N}")
    table = []
    for at, gen in sets.items():
        gen = gen.take(np.arange(n))
        key = {
            "train": case.train.sha256, "test": case.test.sha256 if case.test else None, "gen": gen.sha256, "seed": seed,
        }  # fmt: skip

        def one(gen: VoxelSet = gen) -> dict[str, np.ndarray]:
            novelty = nn_check(case.train, case.test, gen, seed=seed, cache=cache)[0]
            quality = compare(case.train, case.test, gen, draws=50, seed=seed, cache=cache)[0]
            values = novelty.values | quality.values  # of `empty`, which both have, the share
            kept = {name: value for name, value in values.items() if name in COLUMNS}
            for name, interval in (quality.intervals | novelty.intervals).items():
                if name in PANELS:
                    kept |= {f"{name}_{part}": value for part, value in interval.items()}
            return {name: np.array(value) for name, value in kept.items()}

        found = {name: value.item() for name, value in cache.get("series", key, one).items()}
        table.append({over: at} | dict.fromkeys(COLUMNS, np.nan) | found)
        say(f"{in_words(table[-1], over)} ({len(table)} of {len(sets)})")
    return pd.DataFrame(table)


def protocol_of(verb: str, case: Case, n: int, seed: int) -> str:
    """What makes rows comparable: both sets, the size of each set of samples, the seed that draws held-out shapes."""
    unseen = f"-test{case.test.sha256[:8]}" if case.test else ""
    return f"{verb}-{case.run.resolution}-n{n}-train{case.train.sha256[:8]}{unseen}-seed{seed}"


def intervals_of(row: Mapping[str, Any] | pd.Series[Any], prefix: str) -> dict[str, Any]:
    """The intervals of a row of `judge_each` as a result holds them, by `<prefix><name>`."""
    return {
        f"{prefix}{name}": {"low": float(row[f"{name}_low"]), "high": float(row[f"{name}_high"]), "kind": row[f"{name}_kind"]}
        for name in PANELS
        if isinstance(row.get(f"{name}_kind"), str)
    }


def in_words(row: Mapping[str, Any] | pd.Series[Any], over: str) -> str:
    """The gist of a row of `judge_each`: `step 600: undecided, 1-NNA 0.61, COV 0.40`."""
    return f"{over} {row[over]:.10g}: {row['verdict']}, 1-NNA {row['one_nna_l1']:.2f}, COV {row['coverage_l1']:.2f}"


def draw(rows: pd.DataFrame, over: str, path: Path, marks: Mapping[float, str]) -> None:
    """Quality and novelty over `over`, beside what real shapes reach; `marks` are vertical lines with their names."""
    with figure(path, 1, len(PANELS), 13, 2.9) as axes:
        for axis, (name, title) in zip(axes, PANELS.items(), strict=True):
            axis.plot(rows[over], rows[name], "o-", color=GENERATED, markersize=4, label="generated")
            if f"{name}_low" in rows:
                axis.fill_between(
                    rows[over], rows[f"{name}_low"], rows[f"{name}_high"], color=GENERATED, alpha=0.15, linewidth=0
                )
            if f"{name}/real" in rows:
                axis.plot(rows[over], rows[f"{name}/real"], color=REAL, linestyle=":", marker="_", label="real shapes")
            for at, label in marks.items():
                axis.axvline(at, color=REAL, alpha=0.35, linewidth=1)
                if axis is axes[0]:  # 1-NNA leaves the lower half free
                    axis.annotate(label, (at, 0.03), xycoords=("data", "axes fraction"), fontsize="x-small", rotation=90)
            axis.set_title(title, loc="left")
            axis.set_xlabel(over)
            axis.set_ylim(0, 1.05)
        axes[1].legend(frameon=False, fontsize="small")
