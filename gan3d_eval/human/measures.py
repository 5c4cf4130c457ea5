"""What a study's answers say of one run, under each design.

Intervals are of two sorts. Wilson's takes answers for independent, which they are not: raters differ, and so do shapes. The
`_clustered` one allows for both, and is the one to believe; `d_prime`, `criterion` and `strength` are resampled by raters.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from gan3d_eval.human.judgement import bradley_terry, clustered, detection, krippendorff_alpha, resamples
from gan3d_eval.human.study import DATA
from gan3d_eval.provenance import central, wilson

__all__ = ["BOOTSTRAP", "MIN_RATERS", "Measured", "measure"]

BOOTSTRAP = 2000
MIN_RATERS = 5
"""Fewer raters say nothing of how raters differ."""
FEW = f"fewer than {MIN_RATERS} raters: nothing is known of how raters differ"
SAME = "every answer was the same, or no shape was judged twice: there is no chance agreement to compare with"


@dataclasses.dataclass
class Measured:
    """Values with their intervals, and why others are absent."""

    values: dict[str, Any] = dataclasses.field(default_factory=dict)
    intervals: dict[str, Any] = dataclasses.field(default_factory=dict)
    absent: dict[str, str] = dataclasses.field(default_factory=dict)

    def rate(self, key: str, yes: pd.Series) -> None:
        """A share of answers with Wilson's interval."""
        if len(yes):
            self.values[key], self.intervals[key] = float(yes.mean()), wilson(int(yes.sum()), len(yes))
        else:
            self.absent[key] = "no answers"

    def rates(self, key: str, yes: pd.Series, answers: pd.DataFrame) -> None:
        """The same, and under `<key>_clustered` with the clustered interval."""
        self.rate(key, yes)
        if len(yes):
            influence = (yes - yes.mean()).to_numpy(np.float64) / len(yes)
            self.mean(f"{key}_clustered", influence, float(yes.mean()), answers.loc[yes.index], (0.0, 1.0))

    def mean(
        self, key: str, influence: NDArray[np.float64], value: float, answers: pd.DataFrame, limits: tuple[float, float]
    ) -> None:
        """A mean, or a difference, with its clustered interval."""
        if answers["rater"].nunique() < MIN_RATERS:
            self.absent[key] = FEW
            return
        se, dof = clustered(influence, answers["rater"], answers["unit"])
        if se == 0 or dof < 1:
            self.absent[key] = "all answers are the same, or of one shape: they do not show how raters and shapes differ"
            return
        half = float(stats.t.ppf(0.975, dof) * se)
        self.values[key] = value
        low, high = max(limits[0], value - half), min(limits[1], value + half)
        self.intervals[key] = {"low": low, "high": high, "kind": "95 % t, clustered by raters and shapes"}

    def resampled(self, key: str, value: float, again: NDArray[np.float64] | None) -> None:
        """A value with the central 95 % of its resamples; None where there are too few raters for any."""
        self.values[key] = float(value)
        if again is not None:
            self.intervals[key] = central(again, "95 % bootstrap over raters")

    def agreement(self, answers: pd.DataFrame, said: pd.Series, seed: int) -> None:
        """Krippendorff's α with its interval over shapes."""
        counts = pd.crosstab(answers["unit"], said).to_numpy()
        alpha = float(krippendorff_alpha(counts))
        if np.isnan(alpha):
            self.absent["alpha"] = SAME
            return
        self.values["alpha"] = alpha
        again = krippendorff_alpha(counts, resamples(len(counts), BOOTSTRAP, seed))
        self.intervals["alpha"] = central(again, "95 % bootstrap over shapes")


def measure(design: str, answers: pd.DataFrame, run: str, sources: list[str], seed: int) -> Measured:
    """Measure `run` by the measured answers to a study.

    Parameters
    ----------
    answers : DataFrame
        As of `responses.read_answers`, without attention checks and trials that were not answered, with `unit`: what was shown,
        whatever its order.
    sources : list of str
        The other runs, and `data` where it was shown.
    """
    found = Measured({"raters": int(answers["rater"].nunique()), "answers": len(answers)})
    if answers.empty:
        found.absent["fooling_rate" if design == "yes-no" else "preferred"] = "no rater passed the attention checks"
        return found
    (_yes_no if design == "yes-no" else _two_afc)(found, answers, run, [name for name in sources if name != run], seed)
    if answers["seconds"].notna().any():
        found.values["median_seconds"] = float(answers["seconds"].median())
    return found


def _yes_no(found: Measured, answers: pd.DataFrame, run: str, others: list[str], seed: int) -> None:
    said_real = answers["answer"] == "real"
    of = {source: answers["source"] == source for source in (run, DATA)}
    found.rates("fooling_rate", said_real[of[run]], answers)
    found.rates("hit_rate", said_real[of[DATA]], answers)
    if of[run].any() and of[DATA].any():
        table = pd.DataFrame(
            {"hits": said_real & of[DATA], "real": of[DATA], "alarms": said_real & of[run], "generated": of[run]}
        )
        by_rater = table.groupby(answers["rater"]).sum()
        whole = detection(*by_rater.sum())
        again = None
        if len(by_rater) >= MIN_RATERS:
            again = detection(*(resamples(len(by_rater), BOOTSTRAP, seed) @ by_rater.to_numpy()).T)
        for i, key in enumerate(("d_prime", "criterion")):
            found.resampled(key, float(whole[i]), again[i] if again else None)
    shown = of[run] | of[DATA]
    found.agreement(answers[shown], said_real[shown], seed)
    for other in [name for name in others if name != DATA]:
        theirs = answers["source"] == other
        found.rate(f"fooling_rate/{other}", said_real[theirs])
        if of[run].any() and theirs.any():
            both = of[run] | theirs  # raters and shapes of other sources say nothing of the two
            lead = _difference(said_real[both], of[run][both], theirs[both], f"fooling_rate_lead/{other}")
            found.mean(*lead, answers[both], (-1.0, 1.0))


def _difference(x: pd.Series, mine: pd.Series, theirs: pd.Series, key: str) -> tuple[str, NDArray[np.float64], float]:
    """What `Measured.mean` takes for the difference of two means."""
    means = x[mine].mean(), x[theirs].mean()
    influence = (x - means[0]) * mine / mine.sum() - (x - means[1]) * theirs / theirs.sum()
    return key, influence.to_numpy(np.float64), float(means[0] - means[1])


def _two_afc(found: Measured, answers: pd.DataFrame, run: str, others: list[str], seed: int) -> None:
    said_a = answers["answer"] == "A"
    winner = answers["source"].where(said_a, answers["source_b"])
    loser = answers["source_b"].where(said_a, answers["source"])
    for name in (run, *others):
        shown = (winner == name) | (loser == name)
        if name == run:
            found.rates("preferred", (winner == name)[shown], answers)
        else:
            found.rate(f"preferred/{name}", (winner == name)[shown])
            found.rate(f"preferred_over/{name}", (winner == run)[shown & ((winner == run) | (loser == run))])
    names = [run, *others]
    position = {name: i for i, name in enumerate(names)}
    raters, rater = np.unique(answers["rater"], return_inverse=True)
    wins = np.zeros((len(raters), len(names), len(names)))
    np.add.at(wins, (rater, winner.map(position).to_numpy(), loser.map(position).to_numpy()), 1)
    scores = bradley_terry(wins.sum(axis=0))
    if np.isnan(scores).any():
        found.absent["strength"] = "the runs fall into groups that were never compared"
    else:
        again = None
        if len(raters) >= MIN_RATERS:
            again = bradley_terry(np.tensordot(resamples(len(raters), BOOTSTRAP, seed), wins, 1))
            again = again[~np.isnan(again).any(axis=1)]
        for i, name in enumerate(names):
            found.resampled(
                "strength" if name == run else f"strength/{name}", scores[i], None if again is None else again[:, i]
            )
    found.rate("said_a", said_a)
    chosen = answers["item"].where(said_a, answers["item_b"]) == answers[["item", "item_b"]].min(axis=1)
    # which of a pair is called first is turned round for every other pair: were it always the same source, what all raters
    # prefer would count as agreement by chance
    found.agreement(answers, chosen ^ (pd.factorize(answers["unit"], sort=True)[0] % 2 == 1), seed)
