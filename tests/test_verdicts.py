"""Verdicts of studies: paired differences, by hand and against published tables."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from studies.verdicts import compared, seeds_needed


def test_an_interval_is_that_of_students_t():
    # Differences 1, 2, 3: mean 2, s = 1, t(0.975, 2) = 4.302653; 2 ± 4.302653/√3.
    verdict = compared([2, 4, 6], [1, 2, 3], "high")
    assert (verdict.difference, verdict.n, verdict.answer) == (2, 3, "undecided")
    assert (verdict.low, verdict.high) == pytest.approx((2 - 2.484138, 2 + 2.484138), abs=1e-6)
    assert verdict.needed == 5  # δ/σ = 2


def test_a_difference_counts_in_the_direction_that_is_better():
    ours, theirs = [0.90, 0.91, 0.92], [0.50, 0.52, 0.51]
    assert compared(ours, theirs, "high").answer == "better"
    assert compared(ours, theirs, "low").answer == "worse"
    assert compared(theirs, ours, "low").answer == "better"
    assert compared(ours, theirs, "high").needed is None


@pytest.mark.parametrize(("cell", "baseline"), [([1], [0]), ([1, 1], [1, 1]), ([1, 2, 3], [0, 1, 2]), ([0.3, 0.4], [0.1, 0.2])])
def test_without_spread_nothing_is_decided(cell, baseline):
    verdict = compared(cell, baseline, "high")
    assert (verdict.low, verdict.high, verdict.answer, verdict.needed) == (None, None, "undecided", None)


@pytest.mark.parametrize(("effect", "n"), [(0.2, 199), (0.5, 34), (0.8, 15), (1.0, 10), (12, 2)])
def test_seeds_needed_are_those_of_published_tables(effect, n):
    assert seeds_needed(effect) == seeds_needed(-effect) == n


def test_too_small_a_difference_would_take_too_many():
    assert seeds_needed(0.0) is None
    assert seeds_needed(0.01) is None


def test_so_many_seeds_have_the_power_in_simulation():
    random, effect = np.random.default_rng(0), 1.0
    draws = random.normal(effect, 1, (2000, seeds_needed(effect)))
    share = np.mean([compared(draw, np.zeros_like(draw), "high").answer == "better" for draw in draws])
    assert share == pytest.approx(0.80, abs=0.03)


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=8), st.floats(-1, 1))
def test_swapping_both_cells_turns_the_answer_round(values, shift):
    other = [shift] * len(values)
    there, back = compared(values, other, "high"), compared(other, values, "high")
    opposite = {"better": "worse", "worse": "better", "undecided": "undecided"}
    assert back.answer == opposite[there.answer]
    assert back.needed == there.needed


def test_beyond_ten_thousand_seeds_none_are_told():
    assert seeds_needed(0.02802) == 9_999
    assert seeds_needed(0.02801) is None
