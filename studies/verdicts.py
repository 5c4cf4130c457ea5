"""Is a cell better than its baseline? Differences between runs of one seed, their interval, an answer, and what it would take.

The answer is of one comparison at 5 %: of twenty cells that make no difference, one is expected to seem better or worse.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

__all__ = ["MOST_SEEDS", "Verdict", "compared", "seeds_needed"]

LEVEL, POWER = 0.05, 0.8
MOST_SEEDS = 10_000


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What paired differences say."""

    difference: float
    """Mean of cell − baseline."""
    low: float | None
    high: float | None
    """95 % interval of the mean; None where there is none: one seed, or differences that are all equal."""
    n: int
    answer: Literal["better", "worse", "undecided"]
    needed: int | None
    """Seeds that would decide a difference as large as this one, where it is undecided; None if that cannot be said."""


def compared(cell: ArrayLike, baseline: ArrayLike, better: Literal["high", "low"]) -> Verdict:
    """Compare a measure of two cells over the same seeds.

    Parameters
    ----------
    cell, baseline : (n,) float
        A value a seed, in the same order of seeds; n at least 1.

    Returns
    -------
    Verdict
        The interval is Student's t of the paired differences: mean ± t(0.975, n − 1) · s/√n. Undecided if it holds 0, or if
        there is none.
    """
    differences = np.asarray(cell, np.float64) - np.asarray(baseline, np.float64)
    n, mean = len(differences), float(differences.mean())
    spread = float(differences.std(ddof=1)) if n > 1 else 0.0
    if spread <= 1e-12 * max(1.0, abs(mean)):  # equal differences of rounded values
        return Verdict(mean, None, None, n, "undecided", None)
    reach = float(stats.t.ppf(1 - LEVEL / 2, n - 1)) * spread / np.sqrt(n)
    low, high = float(mean - reach), float(mean + reach)
    if low <= 0 <= high:
        return Verdict(mean, low, high, n, "undecided", seeds_needed(mean / spread))
    return Verdict(mean, low, high, n, "better" if (mean > 0) == (better == "high") else "worse", None)


def seeds_needed(effect: float) -> int | None:
    """Fewest seeds with which a paired t-test at 5 %, two-sided, finds a difference with a power of 80 %.

    With n pairs whose differences have mean δ and standard deviation σ, t follows a noncentral t distribution with n − 1
    degrees of freedom and noncentrality √n · δ/σ; the power is the probability that |t| exceeds t(0.975, n − 1) (Cohen 1988,
    *Statistical Power Analysis for the Behavioral Sciences*, ch. 2; Chow, Shao & Wang 2008, *Sample Size Calculations in
    Clinical Research*, sec. 3.1).

    Parameters
    ----------
    effect : float
        δ/σ. Where both are estimated from a few seeds, so is the answer: it is an order of magnitude.

    Returns
    -------
    int or None
        At least 2; None beyond 10,000.
    """
    z = stats.norm.ppf(1 - LEVEL / 2) + stats.norm.ppf(POWER)
    fewest = (z / effect) ** 2 if effect else np.inf  # with σ known, a few less
    if fewest > MOST_SEEDS:
        return None
    for n in range(max(2, int(fewest)), MOST_SEEDS + 1):
        limit, shift = stats.t.ppf(1 - LEVEL / 2, n - 1), np.sqrt(n) * abs(effect)
        if stats.nct.sf(limit, n - 1, shift) >= POWER:  # the other tail holds less than a millionth
            return n
    return None
