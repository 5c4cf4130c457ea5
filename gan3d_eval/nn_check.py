"""Is a generated shape a copy of a training shape? L1 neighbours, calibrated against shapes that G never saw.

A distance means nothing alone. So each sample's distance to its nearest training shape, d = min_i ‖x_i − G(z)‖₁, is set
against the same distance of *held-out* shapes (the null): a generator that samples the true distribution is as far from
the training set as held-out shapes are; one that copies is nearer. Per sample: p = (1 + #{null ≤ d}) / (1 + n_null);
flags are corrected for their number by Benjamini–Hochberg. Globally: A = P(d_gen > d_null), ½ for an honest sampler,
towards 0 for a copier, with Z_U after Mann and Whitney (tie-corrected; Meehan, Chaudhuri, Dasgupta 2020 use it so).

What it does not do: raw L1 sees only unmoved copies (a shift of two voxels escapes it), and a distance far above the null
means "unlike the data", which is as true of noise as of novelty.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from gan3d_eval.distances import jaccard_from_l1, nearest
from gan3d_eval.plotting import GENERATED, REAL, figure
from gan3d_eval.render import pair_sheet
from gan3d_eval.run_dir import Result, RunDir
from gan3d_eval.voxels import VoxelError, VoxelSet

__all__ = ["VERB", "draw", "mann_whitney", "nn_check", "why_failed"]

VERB = "nn-check"
ALPHA = 0.05
MIN_NULL = 20  # with fewer held-out shapes no p-value could fall below 0.05
SMALL_QUANTILE = 0.05
LEAVE_ONE_OUT = 1000  # training shapes that stand in for held-out ones when there are none
CALIBRATED = ("null_l1_median", "a_far", "z_u", "flagged", "flagged_share", "significant")
NOTES = [
    "Raw L1 sees only unmoved copies: a shift of two voxels, a turn or a thicker wall escapes it.",
    "A distance far above the null means unlike the data, which is as true of noise as of novelty.",
]
EMPTY = "{} empty shapes of the dataset are left out; `prepare --fix drop-empty` removes them."
LEAK = "{} held-out shapes stand in the training set too: they are no null and were left out, which makes the check stricter."


def nn_check(
    train: VoxelSet, test: VoxelSet | None, gen: VoxelSet, k: int = 3, bootstrap: int = 1000, seed: int = 0
) -> tuple[Result, pd.DataFrame]:
    """Check every sample of `gen` against `train`, calibrated on `test` (or, without one, leaving one out of `train`).

    Parameters
    ----------
    train : VoxelSet
        Exactly the shapes that the generator was trained on.
    test : VoxelSet or None
        Shapes of the same kind that it never saw.
    gen : VoxelSet
        Generated shapes, same resolution.
    k : int
        Neighbours listed per shape; the test uses the first.
    bootstrap : int
        Resamples behind the interval of A.

    Returns
    -------
    result : Result
        For `results/nn-check.json`.
    rows : DataFrame
        One row a shape, samples (`set` = generated) and null (`held-out` or `left-out`): name, status, volume, l1,
        l1_share (of its own volume), jaccard, p, q, flagged, and k neighbours.

    Raises
    ------
    VoxelError
        Different resolutions, or k larger than the training set.
    """
    started = time.perf_counter()
    if k < 1:
        raise VoxelError(f"{k} neighbours asked for; expected at least 1")
    if len({s.resolution for s in (train, gen, *([test] if test else []))}) > 1:
        raise VoxelError(f"samples are {gen.resolution}³, training shapes {train.resolution}³; compare equal resolutions only")
    rows = _search(train, test, gen, k, seed)
    smallest, generated = float(np.quantile(train.volume, SMALL_QUANTILE)), rows["set"] == "generated"
    rows.loc[rows["volume"] < smallest, "status"] = "too-small"
    rows.loc[rows["volume"] == 0, "status"] = "empty"
    rows.loc[~generated & (rows["l1"] == 0), "status"] = "in-train"
    judged = rows[generated & (rows["status"] == "ok")]
    null = rows[~generated & (rows["status"] == "ok")]

    count = rows.groupby([generated, "status"]).size().to_dict()
    values: dict[str, Any] = {
        "n": len(gen), "n_judged": len(judged), "n_train": len(train), "n_null": len(null), "null": rows["set"].iloc[-1],
        "empty": count.get((True, "empty"), 0), "too_small": count.get((True, "too-small"), 0), "smallest_volume": smallest,
        "exact_copies": int((generated & (rows["l1"] == 0) & (rows["volume"] > 0)).sum()),
        "null_in_train": count.get((False, "in-train"), 0), "null_too_small": count.get((False, "too-small"), 0),
    }  # fmt: skip
    if len(judged):
        values |= {
            "l1_median": float(judged["l1"].median()), "l1_share_median": float(judged["l1_share"].median()),
            "jaccard_median": float(judged["jaccard"].median()), "distinct_neighbours": int(judged["neighbour1"].nunique()),
        }  # fmt: skip
    intervals: dict[str, Any] = {}
    reason = _why_not(judged, null, smallest)
    if not reason:
        _calibrate(rows, judged.index, null, values, intervals, bootstrap, seed)
    protocol = f"nn-l1-{gen.resolution}-train{len(train)}-{values['null']}{len(null)}-n{len(gen)}"
    inputs = {"train": train.identity(), "test": test.identity() if test else None, "samples": gen.identity()}
    options = {"k": k, "alpha": ALPHA, "bootstrap": bootstrap, "small_quantile": SMALL_QUANTILE}
    empty = sum(s.info.get("empty_left_out", 0) for s in (train, test) if s is not None)
    notes = NOTES + [text.format(n) for text, n in ((LEAK, values["null_in_train"]), (EMPTY, empty)) if n]
    absent = dict.fromkeys(CALIBRATED, reason) if reason else {}
    result = Result(VERB, protocol, inputs, options, values, intervals, notes=notes, absent=absent, seed=seed, started=started)
    return result, rows


def _search(train: VoxelSet, test: VoxelSet | None, gen: VoxelSet, k: int, seed: int) -> pd.DataFrame:
    """One search for samples and null together; a row for each, with its k nearest training shapes."""
    if test is not None:
        null, kind, skip = test, "held-out", 0
    else:  # training shapes against all others: the nearest is the shape itself, at distance 0
        chosen = np.sort(np.random.default_rng(seed).permutation(len(train))[:LEAVE_ONE_OUT])
        null, kind, skip = train.take(chosen), "left-out", 1
    n = len(gen)
    l1, index = nearest(np.concatenate([gen.packed, null.packed]), train.packed, k + skip)
    if skip:
        l1 = np.concatenate([l1[:n, :k], l1[n:, 1:]])
        index = np.concatenate([index[:n, :k], index[n:, 1:]])
    volume = np.concatenate([gen.volume, null.volume])
    columns: dict[str, Any] = {
        "set": ["generated"] * n + [kind] * len(null), "name": gen.names + null.names, "status": "ok", "volume": volume,
        "l1": l1[:, 0], "l1_share": np.divide(l1[:, 0], volume, out=np.full(len(volume), np.nan), where=volume > 0),
        "jaccard": jaccard_from_l1(l1[:, 0], volume, train.volume[index[:, 0]]), "p": np.nan, "q": np.nan, "flagged": False,
    }  # fmt: skip
    names = np.array(train.names, dtype=object)
    for i in range(k):
        columns |= {f"neighbour{i + 1}{end}": of[:, i] for end, of in (("", names[index]), ("_row", index), ("_l1", l1))}
    return pd.DataFrame(columns)


def _why_not(judged: pd.DataFrame, null: pd.DataFrame, smallest: float) -> str:
    """Why the samples cannot be calibrated; empty if they can."""
    if not len(judged):
        return f"no sample has the volume of a training shape (at least {smallest:.0f} voxels)"
    return f"{len(null)} usable held-out shapes, at least {MIN_NULL} are needed" if len(null) < MIN_NULL else ""


def _calibrate(
    rows: pd.DataFrame, judged: pd.Index[int], null: pd.DataFrame, values: dict[str, Any], intervals: dict[str, Any],
    bootstrap: int, seed: int,
) -> None:  # fmt: skip
    """Fill p, q and flags of the judged rows, and the global values with their intervals."""
    l1, l1_null = rows.loc[judged, "l1"].to_numpy(), null["l1"].to_numpy()
    p = (1 + np.searchsorted(np.sort(l1_null), l1, side="right")) / (1 + len(l1_null))
    q = stats.false_discovery_control(p)
    rows.loc[judged, "p"], rows.loc[judged, "q"], rows.loc[judged, "flagged"] = p, q, p <= ALPHA
    far, z = mann_whitney(l1, l1_null)
    draws = np.random.default_rng(seed)
    again = [mann_whitney(draws.choice(l1, len(l1)), draws.choice(l1_null, len(l1_null)))[0] for _ in range(bootstrap)]
    flagged = int((p <= ALPHA).sum())
    values |= {
        "null_l1_median": float(np.median(l1_null)), "a_far": far, "z_u": z, "flagged": flagged,
        "flagged_share": flagged / len(l1), "flagged_expected": ALPHA, "significant": int((q <= ALPHA).sum()),
        "p_floor": 1 / (1 + len(l1_null)),
    }  # fmt: skip
    low, high = np.quantile(again, [0.025, 0.975])
    if low < high:  # a bootstrap of two sets that do not overlap has no width, which is no interval
        intervals["a_far"] = {"low": low, "high": high, "kind": "95 % bootstrap over samples and held-out shapes"}
    share = stats.binomtest(flagged, len(l1)).proportion_ci(method="wilson")
    intervals["flagged_share"] = {"low": share.low, "high": share.high, "kind": "95 % Wilson"}


def mann_whitney(gen: NDArray[np.int64], null: NDArray[np.int64]) -> tuple[float, float]:
    """A = P(d_gen > d_null) + ½ P(=), and Z_U with the variance corrected for ties (0 if all distances are equal)."""
    n, m = len(gen), len(null)
    together = np.concatenate([gen, null])
    u = stats.rankdata(together)[:n].sum() - n * (n + 1) / 2
    ties = np.unique(together, return_counts=True)[1].astype(np.float64)
    variance = n * m / 12 * (n + m + 1 - (ties**3 - ties).sum() / ((n + m) * (n + m - 1)))
    return float(u / (n * m)), float((u - n * m / 2) / np.sqrt(variance)) if variance > 0 else 0.0


def why_failed(result: Result, share: float) -> str:
    """Why a check with `--fail-above share` fails: too many exact copies, too many flagged, nothing to judge; or empty."""
    values = result.values
    if "flagged_share" not in values:
        return f"nothing could be judged: {result.absent['flagged_share']}"
    if values["exact_copies"] > share * values["n"]:
        return f"{values['exact_copies']} of {values['n']} samples are exact copies, more than {share:.1%}"
    flagged = f"{values['flagged']} of {values['n_judged']} samples have p ≤ {ALPHA}, more than {share:.1%}"
    return flagged if values["flagged_share"] > share else ""


def draw(run: RunDir, train: VoxelSet, gen: VoxelSet, rows: pd.DataFrame, name: str = VERB, n: int = 9) -> list[Path]:
    """Draw `figures/<name>-distances.png`, and samples beside their neighbours: the n most train-like, and n median ones.

    `name` is that of the result; its older pictures are removed first, for they show other numbers.

    Raises
    ------
    RenderError
        No off-screen rendering here; the distances are drawn first all the same.
    """
    ok = rows[rows["status"] == "ok"]
    paths = [run.picture_path("figures", f"{name}-{what}") for what in ("distances", "most-train-like", "median")]
    for path in paths:
        path.unlink(missing_ok=True)
    colors = {str(rows["set"].iloc[-1]): REAL, "generated": GENERATED}
    if len(ok):
        _draw_distances(paths[0], ok, colors)
    generated = ok[ok["set"] == "generated"].sort_values("l1", kind="stable")
    middle = max(0, (len(generated) - n) // 2)
    for path, part, title in (
        (paths[1], generated.head(n), "The most train-like samples, each beside its nearest training shape"),
        (paths[2], generated.iloc[middle : middle + n], "Samples of median distance, each beside its nearest training shape"),
    ):
        pairs = [
            (row, neighbour, f"L1 {l1} = {share:.0%} of volume" + ("" if np.isnan(p) else f", p = {p:.3f}"))
            for row, neighbour, l1, share, p in part[["neighbour1_row", "l1", "l1_share", "p"]].itertuples()
        ]  # fmt: skip
        if pairs:
            pair_sheet(path, gen, train, pairs, title)
    return paths


def _draw_distances(path: Path, rows: pd.DataFrame, colors: dict[str, tuple[float, float, float]]) -> None:
    """Histograms of both sets' distances to the nearest training shape."""
    import seaborn as sns

    with figure(path) as axis:
        sns.histplot(rows, x="l1_share", hue="set", hue_order=list(colors), palette=list(colors.values()), ax=axis,
                     stat="density", common_norm=False, element="step", bins=40)  # fmt: skip
        axis.set(xlabel="L1 to the nearest training shape, as share of the shape's own volume")
        axis.get_legend().set(title=None, frame_on=False)
