"""How many raters does a study need? Exactly for answers that are independent, by simulation for raters and shapes that differ.

Simulated: the log-odds of an answer are those of the rate, plus a normal deviation of the rater, plus one of the shape
(crossed random effects); the share of significant studies under the very test that the tally's clustered interval is.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special, stats

from gan3d_eval.human.judgement import clustered
from gan3d_eval.human.measures import MIN_RATERS
from gan3d_eval.human.study import StudyError

__all__ = ["Plan", "answers_needed", "exact_power", "raters_needed", "simulated_power"]

LEVEL = 0.05  # of every test here, two-sided
MOST_ANSWERS, MOST_RATERS = 200_000, 1000
STUDIES = 1000
BLOCK = 2_000_000  # simulated answers at a time


@dataclasses.dataclass(frozen=True)
class Plan:
    """A study to be: a rate to be told from ½, or from the rate of `other`, by raters who judge both."""

    rate: float
    other: float | None = None
    answers: int = 20
    """Of each rater to shapes of one run."""
    shapes: int = 100
    """Of one run, dealt evenly."""
    rater_sd: float = 0.5
    shape_sd: float = 0.5
    """Of log-odds; 0.5 moves a rate of ½ by ±12 %."""


def exact_power(n: NDArray[np.int64], rate: float) -> NDArray[np.float64]:
    """Power of the exact two-sided binomial test against ½ with n answers, `(k,)`."""
    limit = np.asarray(stats.binom.ppf(LEVEL / 2, n, 0.5))  # the largest count in the lower tail, or one more
    limit = limit - (stats.binom.cdf(limit, n, 0.5) > LEVEL / 2)
    return np.asarray(stats.binom.cdf(limit, n, rate) + stats.binom.sf(n - limit - 1, n, rate))


def answers_needed(rate: float, power: float = 0.8) -> int:
    """Fewest answers from which on the exact test always has the power (it goes up and down with n).

    Raises
    ------
    StudyError
        A rate so near ½ that no study will do.
    """
    if rate == 0.5:
        raise StudyError("a rate of ½ is that of guessing, which no study tells from ½; ask for another --rate")
    z = stats.norm.ppf(1 - LEVEL / 2) + stats.norm.ppf(power)
    likely = (z * 0.5 / (rate - 0.5)) ** 2  # by the normal approximation
    if likely > MOST_ANSWERS:
        raise StudyError(f"to tell a rate of {rate:g} from ½ takes more than {MOST_ANSWERS} answers")
    n = np.arange(1, int(2 * likely) + 100)
    return int(n[np.flatnonzero(exact_power(n, rate) < power)[-1] + 1])


def simulated_power(plan: Plan, raters: int, seed: int = 0, studies: int = STUDIES) -> float:
    """Share of simulated studies of so many raters whose clustered interval excludes equality."""
    random = np.random.default_rng([seed, raters])
    rates = [plan.rate] if plan.other is None else [plan.rate, plan.other]
    rater = np.repeat(np.arange(raters), plan.answers)
    shape = np.arange(raters * plan.answers) % plan.shapes  # as dealt: evenly, and nobody the same twice
    sides = [_log_odds(rate, float(np.hypot(plan.rater_sd, plan.shape_sd))) for rate in rates]
    labels = np.tile(rater, len(rates)), np.concatenate([shape + i * plan.shapes for i in range(len(rates))])
    won = 0
    for times in _blocks(studies, len(labels[0])):
        tastes = plan.rater_sd * random.standard_normal((times, raters))
        estimate, influence = np.zeros(times), []
        for sign, centre in zip((1, -1), sides, strict=False):
            looks = plan.shape_sd * random.standard_normal((times, plan.shapes))
            said = random.random((times, len(rater))) < special.expit(centre + tastes[:, rater] + looks[:, shape])
            mean = said.mean(axis=1)
            estimate += sign * mean
            influence.append(sign * (said - mean[:, None]) / len(rater))
        se, dof = clustered(np.concatenate(influence, axis=1), *labels)
        null = 0.5 if plan.other is None else 0.0
        beyond = np.abs(estimate - null) > stats.t.ppf(1 - LEVEL / 2, dof) * se
        won += int((beyond & (se > 0)).sum())  # of answers that are all the same the tally gives no interval
    return won / studies


def raters_needed(plan: Plan, power: float = 0.8, seed: int = 0) -> tuple[int, float]:
    """Fewest raters with the power by simulation, by halving; and the power simulated with so many.

    Raises
    ------
    StudyError
        Not even 1000 raters would do, or one would see a shape twice.
    """
    if plan.answers > plan.shapes:
        raise StudyError(
            f"{plan.answers} answers of a rater to {plan.shapes} shapes: nobody sees a shape twice; take more shapes"
        )
    low, high, reached = MIN_RATERS - 1, MIN_RATERS, simulated_power(plan, MIN_RATERS, seed)
    while reached < power:
        if high == MOST_RATERS:
            raise StudyError(
                f"{MOST_RATERS} raters reach a power of {reached:.2f} only; take more shapes or answers, or a larger difference"
            )
        low, high = high, min(2 * high, MOST_RATERS)
        reached = simulated_power(plan, high, seed)
    while high - low > 1:
        middle = (low + high) // 2
        found = simulated_power(plan, middle, seed)
        low, high, reached = (low, middle, found) if found >= power else (middle, high, reached)
    return high, reached


def _log_odds(rate: float, sd: float) -> float:
    """Log-odds around which rates of standard deviation `sd` (of log-odds) have the mean `rate`, by Gauss–Hermite sums."""
    points, weights = np.polynomial.hermite_e.hermegauss(40)

    def excess(centre: float) -> float:
        return float(special.expit(centre + sd * points) @ weights / weights.sum()) - rate

    return float(optimize.brentq(excess, -40, 40))


def _blocks(studies: int, answers: int) -> list[int]:
    """How many studies at a time, so that memory stays bounded."""
    each = max(1, BLOCK // answers)
    return [min(each, studies - start) for start in range(0, studies, each)]
