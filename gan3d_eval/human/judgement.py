"""What answers say: pure functions of counts.

A rater says "real" of a real shape (a hit) or of a generated one (a false alarm; its rate is the *fooling rate*).
d′ = z(hits) − z(false alarms) is how well real and generated are told apart, whatever the rater's taste for one answer;
c = −½ (z(hits) + z(false alarms)) is that taste, below 0 for "real" (Macmillan & Creelman 2005, ch. 1-2).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse, special, stats

__all__ = ["bradley_terry", "clustered", "detection", "krippendorff_alpha", "resamples"]

Floats = NDArray[np.float64]


def clustered(influence: Floats, raters: ArrayLike, shapes: ArrayLike) -> tuple[Floats, int]:
    """Standard error of a mean, or of a difference of means, when answers of one rater, and to one shape, go together.

    Two-way clustered (Cameron, Gelbach & Miller 2011): variance between raters + between shapes − of answers, each sum of
    squares with its G/(G−1); never below the largest of the three.

    Parameters
    ----------
    influence : (…, n)
        Of each answer on the estimate: (x − mean)/n for a mean; with the sign of its group for a difference.
    raters, shapes : (n,)
        Whose answer, to what.

    Returns
    -------
    se : (…,)
    dof : int
        Degrees of freedom of Student's t: the smaller number of raters or shapes, less one.
    """
    parts, sizes = [], []
    for labels in (raters, shapes):
        _, index = np.unique(np.asarray(labels), return_inverse=True)
        size = int(index.max()) + 1
        member = sparse.csr_array((np.ones(len(index)), (np.arange(len(index)), index)), shape=(len(index), size))
        sums = np.asarray(influence @ member)
        parts.append((sums**2).sum(axis=-1) * size / max(1, size - 1))
        sizes.append(size)
    n = influence.shape[-1]
    single = (influence**2).sum(axis=-1) * n / max(1, n - 1)
    variance = np.maximum.reduce([parts[0] + parts[1] - single, *parts, single])
    return np.sqrt(variance), min(sizes) - 1


def detection(hits: ArrayLike, real: ArrayLike, alarms: ArrayLike, generated: ArrayLike) -> tuple[Floats, Floats]:
    """d′ and c of counts, elementwise, with the log-linear correction (Hautus 1995): (k + ½)/(n + 1) keeps both finite."""
    h, f = (
        stats.norm.ppf((np.asarray(k, np.float64) + 0.5) / (np.asarray(n, np.float64) + 1))
        for k, n in ((hits, real), (alarms, generated))
    )
    return h - f, -(h + f) / 2


def krippendorff_alpha(counts: NDArray[Any], weights: NDArray[Any] | None = None) -> Floats:
    """Krippendorff's α of nominal answers: 1 for full agreement, 0 for that of chance (Krippendorff 2011).

    Parameters
    ----------
    counts : (units, categories)
        How often each answer was given to each unit; units with fewer than two answers do not count.
    weights : (times, units), optional
        How often each unit counts in each resample.

    Returns
    -------
    () or (times,)
        NaN where all answers are the same, or no unit has two: there is no chance to compare with.
    """
    counts = np.asarray(counts, np.float64)
    m = counts.sum(axis=1)
    use = np.where(m > 1, 1.0, 0.0) * (np.ones(len(counts)) if weights is None else weights)
    apart = np.where(m > 1, (m**2 - (counts**2).sum(axis=1)) / np.maximum(m - 1, 1), 0.0)
    total = use @ counts  # (…, categories)
    n = total.sum(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        alpha: Floats = 1 - (n - 1) * (use @ apart) / (n**2 - (total**2).sum(axis=-1))
    return alpha


def bradley_terry(wins: NDArray[Any]) -> Floats:
    """Scores of competitors from how often each beat each: P(i beats j) = 1/(1 + exp(s_j − s_i)), scores of mean 0.

    Maximum likelihood (Bradley & Terry 1952) by Newton's method, in steps of at most 1. Half a win is added to both sides of
    every two that met, as the log-linear correction does, so that one who won everything keeps a finite score; a draw would
    count as half a win for each.

    Parameters
    ----------
    wins : (…, k, k)
        `wins[i, j]`: how often i beat j.

    Returns
    -------
    (…, k)
        NaN throughout where the competitors fall into groups that never met.
    """
    wins = np.asarray(wins, np.float64)
    met = (wins + np.swapaxes(wins, -1, -2)) > 0
    k = wins.shape[-1]
    paths = np.linalg.matrix_power(met + np.eye(k), k)  # how many lead from one to another
    joined = np.asarray((paths > 0).all(axis=(-1, -2)))[..., None]
    wins = np.where(joined[..., None], wins + 0.5 * met, 1 - np.eye(k))
    games, scores = wins + np.swapaxes(wins, -1, -2), np.zeros(wins.shape[:-1])
    for _ in range(200):
        chance = special.expit(scores[..., :, None] - scores[..., None, :])
        slope = (wins - games * chance).sum(axis=-1)
        spread = games * chance * (1 - chance)
        curve = np.eye(k) * spread.sum(axis=-1)[..., None] - spread + 1 / k  # 1/k: the mean of scores stays 0
        step = np.clip(np.linalg.solve(curve, slope[..., None])[..., 0], -1, 1)
        scores = scores + step - step.mean(axis=-1, keepdims=True)
        if np.abs(step).max(initial=0.0) < 1e-10:
            break
    return np.where(joined, scores, np.nan)


def resamples(n: int, times: int, seed: int) -> NDArray[np.int64]:
    """How often each of n is drawn in each of `times` bootstrap resamples, `(times, n)`."""
    counts: NDArray[np.int64] = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), times)
    return counts
