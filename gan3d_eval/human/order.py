"""Which rater sees what, in which order: a function of the study's seed and the rater's number alone.

Shapes are dealt like cards from a shuffled deck that is shuffled anew when it ends, so that after any number of raters every
shape of a source (pair, in `2afc`) was dealt equally often, give or take one, and nobody gets the same twice.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from gan3d_eval.human.study import CHECKS, EXAMPLE, NOISE, Study

__all__ = ["CHOICES", "Dealer", "Trial", "choices"]

CHOICES = {"yes-no": ("real", "generated"), "2afc": ("A", "B")}
DECKS, RATERS = 4, 5  # streams of random numbers; `study` has the ones before


@dataclasses.dataclass(frozen=True)
class Trial:
    """What a rater sees at once."""

    shown: tuple[int, ...]
    """One item, or the two called A and B."""
    expected: str | None = None
    """The right answer of an attention check; None for what is measured."""


def choices(design: str, number: int) -> tuple[str, ...]:
    """The answers in the order of the buttons; every other rater of `yes-no` has them the other way round."""
    return CHOICES[design][:: -1 if design == "yes-no" and number % 2 else 1]


class Dealer:
    """Deals trials to raters, in the order of their numbers; asked again for a rater, it answers the same."""

    def __init__(self, study: Study) -> None:
        self.study, self.seed = study, int(study.settings["seed"])
        self.groups = list(study.groups.values())
        self.shuffles = [np.random.default_rng([self.seed, DECKS, i]) for i in range(len(self.groups))]
        self.decks: list[list[Any]] = [[] for _ in self.groups]
        self.hands: list[list[tuple[int, ...]]] = []

    def trials(self, number: int) -> list[Trial]:
        """The trials of rater `number`, counted from 0."""
        while len(self.hands) <= number:
            given = self.study.shares(len(self.hands))
            self.hands.append([unit for group, share in enumerate(given) for unit in self._deal(group, share)])
        random = np.random.default_rng([self.seed, RATERS, number])
        hand, pairs = self.hands[number], self.study.settings["design"] == "2afc"
        # of pairs, every other one of a group is turned round, so that no source keeps to one side
        measured = [Trial(hand[row][:: -1 if pairs and (row + number) % 2 else 1]) for row in random.permutation(len(hand))]
        checks = self._checks()
        for check, place in zip(random.permutation(CHECKS), np.linspace(0, len(measured), CHECKS + 1), strict=False):
            # one in each sixth: the later places move by those that are in already, and so does `measured`
            at = int(place) + len(measured) - len(hand) + int(random.integers(0, max(1, len(hand) // CHECKS)))
            measured.insert(at, checks[check])
        return measured

    def _deal(self, group: int, share: int) -> list[tuple[int, ...]]:
        deck, units = self.decks[group], self.groups[group]
        hand = deck[:share]
        del deck[:share]
        if len(hand) < share:
            deck += [units[row] for row in self.shuffles[group].permutation(len(units))]
            fresh = [unit for unit in deck if unit not in hand][: share - len(hand)]
            self.decks[group] = [unit for unit in deck if unit not in fresh]
            hand += fresh
        return hand

    def _checks(self) -> list[Trial]:
        noise, examples = self.study.rows(NOISE), self.study.rows(EXAMPLE)
        checks = []
        for i in range(CHECKS):
            false, true = int(noise[i // 2]), int(examples[(i // 2 + i % 2) % len(examples)])
            if self.study.settings["design"] == "yes-no":
                checks.append(Trial((true,), "real") if i % 2 else Trial((false,), "generated"))
            else:
                checks.append(Trial((true, false), "A") if i % 2 else Trial((false, true), "B"))
        return checks
