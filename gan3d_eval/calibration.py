"""Distances to the training set, set against the same distances of shapes that G never saw: pure functions of both.

Let d be a sample's distance to its nearest training shape, and the null the same distances of held-out shapes. A generator
that samples the true distribution has d's like the null's; one that copies has smaller ones. Per sample:
p = (1 + #{null ≤ d}) / (1 + n_null). Globally: A = P(d > null), ½ for an honest sampler and towards 0 for a copier, with
Z_U after Mann and Whitney, by cells C_T (Meehan, Chaudhuri, Dasgupta 2020).
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from gan3d_eval.provenance import wilson

__all__ = [
    "ALPHA",
    "MEDIUM",
    "Calibrated",
    "authenticity",
    "by_chance",
    "c_t",
    "calibrate",
    "copied",
    "mann_whitney",
    "p_values",
    "verdict",
]

ALPHA = 0.05
SMALL, MEDIUM = 0.44, 0.36
"""A of a small and of a medium effect (Vargha & Delaney 2000, table 1: 0.56 and 0.64, mirrored)."""
RARE = 0.005
"""Chance of what is taken for no chance, of each distance alone: one side of a 99 % interval."""
Distances = NDArray[np.float64]


def p_values(distances: Distances, null: Distances) -> Distances:
    """Left p of each distance, in [1/(1 + n_null), 1]."""
    p: Distances = (1 + np.searchsorted(np.sort(null), distances, side="right")) / (1 + len(null))
    return p


def mann_whitney(gen: NDArray[Any], null: NDArray[Any]) -> tuple[float, float]:
    """A = P(d_gen > d_null) + ½ P(=), and Z_U with the variance corrected for ties (0 if all distances are equal)."""
    n, m = len(gen), len(null)
    together = np.concatenate([gen, null])
    u = stats.rankdata(together)[:n].sum() - n * (n + 1) / 2
    ties = np.unique(together, return_counts=True)[1].astype(np.float64)
    variance = n * m / 12 * (n + m + 1 - (ties**3 - ties).sum() / ((n + m) * (n + m - 1)))
    return float(u / (n * m)), float((u - n * m / 2) / np.sqrt(variance)) if variance > 0 else 0.0


def c_t(gen: Distances, null: Distances, cells: NDArray[np.int64], null_cells: NDArray[np.int64]) -> float | None:
    """C_T: mean of Z_U over the cells that hold more than 20 generated shapes, weighted by the null's share of each.

    Meehan et al. 2020, sec. 4.1 (τ = 20/m), with the variance corrected for ties. A cell that holds no null shape has no
    weight; None if no cell is left.
    """
    scores, weights = [], []
    for cell in np.unique(cells):
        mine, other = gen[cells == cell], null[null_cells == cell]
        if len(mine) > 20 and len(other):
            scores.append(mann_whitney(mine, other)[1])
            weights.append(len(other))
    return float(np.average(scores, weights=weights)) if scores else None


def authenticity(distances: Distances, radius: Distances) -> float:
    """AuthPct/100: share of shapes farther from their nearest training shape than that is from its own nearest one.

    Alaa et al. 2022. An honest sampler does not reach 1: held-out shapes say what it reaches.
    """
    return float((distances > radius).mean())


@dataclasses.dataclass(frozen=True)
class Calibrated:
    """What one distance says."""

    values: dict[str, float | int]
    intervals: dict[str, dict[str, Any]]
    far: tuple[float, float]
    """99 % interval of A."""
    flagged_p: float
    """Chance that an honest sampler has as many flagged samples (`by_chance`)."""
    p: Distances
    q: Distances


def calibrate(gen: Distances, null: Distances, bootstrap: int, seed: int, same: NDArray[np.intp] | None = None) -> Calibrated:
    """Set the samples' distances against the null's; neither may be empty. `bootstrap` resamples of both, at least 1.

    `same` numbers the samples' shapes: those with one number are one shape, or nearly, and one piece of evidence. A generator
    that always makes the same shape has an A that is as good as drawn by lot, however many samples are taken.
    """
    _, piece, weight = np.unique(np.arange(len(gen)) if same is None else same, return_inverse=True, return_counts=True)
    p = p_values(gen, null)
    q = _discovered(p, 1 / weight[piece])
    far, z = mann_whitney(gen, null)
    again = _resampled(gen, piece, weight, null, bootstrap, np.random.default_rng(seed))
    flagged, distinct = int((p <= ALPHA).sum()), len(weight)
    least = min(distinct, len(null))
    values: dict[str, float | int] = {
        "median": float(np.median(gen)), "null_median": float(np.median(null)), "n_null": len(null), "a_far": far, "z_u": z,
        "flagged": flagged, "flagged_share": flagged / len(gen), "significant": int((q <= ALPHA).sum()),
    }  # fmt: skip
    low, high = _around(again, 0.05, least)
    intervals: dict[str, dict[str, Any]] = {
        "a_far": {"low": low, "high": high, "kind": "95 % bootstrap over samples and held-out shapes"},
        "flagged_share": wilson(round(flagged / len(gen) * distinct), distinct),
    }
    mostly = np.bincount(piece, p <= ALPHA) >= weight / 2
    by_lot = by_chance(int(mostly.sum()), distinct, len(null))
    return Calibrated(values, intervals, _around(again, 0.01, least), by_lot, p, q)


def _discovered(p: Distances, weight: Distances) -> Distances:
    """False discovery rate at which each sample is found; a false one weighs as `weight` says (Benjamini & Hochberg 1997)."""
    order = np.argsort(p, kind="stable")
    q = np.empty_like(p)
    found = p[order] * (weight.sum() / np.cumsum(weight[order]))
    q[order] = np.minimum(1, np.minimum.accumulate(found[::-1])[::-1])
    return q


def by_chance(flagged: int, n: int, n_null: int) -> float:
    """Chance that at least so many of n honest samples have p ≤ 0.05 against a null of `n_null`.

    They are flagged together: all that lie below the null's r-th smallest distance, and of 20 held-out shapes the smallest may
    by chance be a large one. If samples and null are draws from one distribution, the share below is Beta(r, n_null + 1 − r).
    """
    r = int((np.arange(1, n_null + 1) / (1 + n_null) <= ALPHA).sum())
    return float(stats.betabinom.sf(flagged - 1, n, r, n_null + 1 - r)) if r else 1.0


def _around(again: Distances, alpha: float, n: int) -> tuple[float, float]:
    """Interval of A from its resamples, at least as wide as what n shapes (of the smaller set) can say.

    A bootstrap of two sets that do not overlap has no width. But n samples that are all farther exclude no A above
    (α/2)^(1/n), with which that happens by chance (Clopper & Pearson 1934).
    """
    low, high = np.quantile(again, [alpha / 2, 1 - alpha / 2])
    least = (alpha / 2) ** (1 / n)
    return min(float(low), least), max(float(high), 1 - least)


def _resampled(
    gen: Distances, piece: NDArray[np.intp], weight: NDArray[np.intp], null: Distances, times: int, random: np.random.Generator
) -> Distances:
    """A of `times` resamples of both sets, `(times,)`: with wins[i, j] = [gen_i > null_j] + ½ [=] it is linear in each
    set's counts, so that all resamples are one matrix product. Whole pieces are drawn: piece i brings its `weight[i]` samples.
    """
    wins = (gen[:, None] > null).astype(np.float32) + 0.5 * (gen[:, None] == null).astype(np.float32)
    order = np.argsort(piece, kind="stable")
    wins = np.add.reduceat(wins[order], np.r_[0, np.cumsum(weight)[:-1]], axis=0)
    counts = [random.multinomial(n, np.full(n, 1 / n), times).astype(np.float32) for n in wins.shape]
    won = np.einsum("bj,bj->b", counts[0] @ wins, counts[1], dtype=np.float64)
    again: Distances = won / ((counts[0] @ weight.astype(np.float32)).astype(np.float64) * len(null))
    return again


def copied(n: int, exact: int, leaks: tuple[int, int]) -> list[str]:
    """That more of n samples are exact copies than leaks explain (`verdict`), as a reason; empty if not. Needs no distances."""
    expected = (leaks[0] + 1) / (leaks[1] + 1)
    if exact and stats.binomtest(exact, n, min(1.0, expected), alternative="greater").pvalue < 0.01:
        return [f"{exact} of {n} samples are exact copies"]
    return []


def verdict(found: dict[str, Calibrated], n: int, exact: int, leaks: tuple[int, int]) -> tuple[str, list[str]]:
    """`copying`, `far-from-data`, `undecided` or `no-evidence-of-copying`, and why.

    Parameters
    ----------
    found : dict
        What each distance says; not empty. With several, each is tested at the level that keeps 5 % for all.
    n, exact : int
        Samples, and how many of them are exact copies.
    leaks : (int, int)
        Held-out shapes that are exact copies too, of so many: an honest sampler repeats as many of a data set with twins.
    """
    reasons = copied(n, exact, leaks)
    far = {name: one.values["a_far"] for name, one in found.items()}
    if near := [name for name, one in found.items() if one.far[1] < 0.5 and far[name] <= SMALL]:
        least = min(far[name] for name in near)
        reasons.append(
            f"under {', '.join(near)} samples are nearer to training shapes than held-out ones are (A down to {least:.2f})"
        )
    singly = {name: int((one.q <= ALPHA / len(found)).sum()) for name, one in found.items()}
    if many := [name for name, count in singly.items() if count]:
        reasons.append(f"under {', '.join(many)} up to {max(singly.values())} samples are nearer than chance allows")
    shares = {name: float(one.values["flagged_share"]) for name, one in found.items() if one.flagged_p <= RARE}
    if shares := {name: share for name, share in shares.items() if share > 2 * ALPHA and name not in many}:
        most = 100 * max(shares.values())
        reasons.append(f"under {', '.join(shares)} up to {most:.0f} % are nearer than 95 % of held-out shapes")
    if reasons:
        return "copying", reasons
    unlike = [name for name, one in found.items() if one.far[0] > 0.5 and far[name] >= 1 - MEDIUM]
    if unlike:
        worst = max(far[name] for name in unlike)
        return "far-from-data", [
            f"under {', '.join(unlike)} samples are unlike the data (A up to {worst:.2f}): new, or just bad"
        ]
    if wide := [name for name, one in found.items() if one.far[0] <= MEDIUM]:
        return "undecided", [f"too few different shapes: under {', '.join(wide)} a medium effect cannot be excluded"]
    return "no-evidence-of-copying", ["no distance finds samples nearer to training shapes than held-out ones are"]
