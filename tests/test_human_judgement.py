"""Statistics of answers: cases solved by hand or published, and what must hold for any."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gan3d_eval.human.judgement import bradley_terry, clustered, detection, krippendorff_alpha, resamples
from gan3d_eval.provenance import wilson


def test_wilson_of_five_in_ten_is_as_published():
    interval = wilson(5, 10)
    assert (interval["low"], interval["high"]) == pytest.approx((0.2366, 0.7634), abs=1e-4)
    assert wilson(0, 10)["low"] == 0
    assert wilson(0, 10)["high"] > 0.2  # no answers of a kind is not certainty


def test_d_prime_by_hand():
    # (9 + ½)/11 = 0.8636, z = 1.0968; the alarms are its mirror image
    d_prime, criterion = detection(9, 10, 1, 10)
    assert d_prime == pytest.approx(2 * 1.0968, abs=1e-3)
    assert criterion == pytest.approx(0, abs=1e-12)


def test_who_always_says_real_has_no_skill_and_a_liberal_criterion():
    d_prime, criterion = detection(20, 20, 20, 20)
    assert d_prime == pytest.approx(0)
    assert criterion < -1.5
    assert np.isfinite(detection([20, 0], [20, 20], [0, 20], [20, 20])).all()


# Krippendorff (2011), Computing Krippendorff's alpha-reliability, sections A and C
TWO = np.array([[0, 1, 0, 0, 0, 0, 0, 0, 1, 0], [1, 1, 1, 0, 0, 1, 0, 0, 0, 0]])
FOUR = np.array([
    [1, 2, 3, 3, 2, 1, 4, 1, 2, 0, 0, 0],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, 0, 3],
    [0, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, 0],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, 0],
])  # fmt: skip


def test_alpha_is_as_published():
    two = np.stack([(value == TWO).sum(axis=0) for value in (0, 1)], axis=1)
    assert krippendorff_alpha(two) == pytest.approx(0.095, abs=5e-4)
    four = np.stack([(value == FOUR).sum(axis=0) for value in (1, 2, 3, 4, 5)], axis=1)
    assert krippendorff_alpha(four) == pytest.approx(0.743, abs=5e-4)


def test_alpha_is_one_for_agreement_and_nothing_where_there_is_no_chance():
    assert krippendorff_alpha(np.array([[3, 0], [0, 2], [4, 0]])) == pytest.approx(1)
    assert np.isnan(krippendorff_alpha(np.array([[3, 0], [2, 0]])))  # all the same
    assert np.isnan(krippendorff_alpha(np.array([[1, 0], [0, 1]])))  # nothing judged twice


def test_resampled_alpha_is_that_of_repeated_units():
    counts, weights = np.array([[3, 1], [0, 4], [2, 2], [5, 0]]), np.array([[2, 0, 1, 1], [1, 1, 1, 1]])
    again = krippendorff_alpha(counts, weights)
    assert again[0] == pytest.approx(float(krippendorff_alpha(counts[[0, 0, 2, 3]])))
    assert again[1] == pytest.approx(float(krippendorff_alpha(counts)))


def test_three_wins_to_one_by_hand():
    # with half a win added to each side: odds 3.5 : 1.5
    scores = bradley_terry(np.array([[0, 3], [1, 0]]))
    assert scores == pytest.approx([np.log(3.5 / 1.5) / 2, -np.log(3.5 / 1.5) / 2])


def test_a_cycle_is_a_draw_and_a_whitewash_is_finite():
    assert bradley_terry(np.array([[0, 5, 0], [0, 0, 5], [5, 0, 0]])) == pytest.approx([0, 0, 0], abs=1e-9)
    scores = bradley_terry(np.array([[0, 10], [0, 0]]))
    assert np.isfinite(scores).all()
    assert scores[0] > 1


def test_competitors_that_never_met_have_no_scores():
    apart = np.zeros((4, 4))
    apart[0, 1] = apart[2, 3] = 3
    assert np.isnan(bradley_terry(apart)).all()
    chain = apart.copy()
    chain[1, 2] = 1
    both = bradley_terry(np.stack([apart, chain]))
    assert np.isnan(both[0]).all()
    assert both[1] == pytest.approx(bradley_terry(chain))


@given(st.lists(st.integers(0, 20), min_size=12, max_size=12), st.permutations(range(4)))
def test_scores_solve_the_likelihood_equations_whatever_the_order(counts, order):
    wins = np.zeros((4, 4))
    wins[~np.eye(4, dtype=bool)] = counts
    wins += 1 - np.eye(4)  # everybody met
    scores = bradley_terry(wins)
    half = wins + 0.5 * (1 - np.eye(4))
    chance = 1 / (1 + np.exp(scores[None, :] - scores[:, None]))
    expected = ((half + half.T) * chance * (1 - np.eye(4))).sum(axis=1)
    assert expected == pytest.approx(half.sum(axis=1), rel=1e-6)
    assert scores.sum() == pytest.approx(0, abs=1e-8)
    order = list(order)
    assert bradley_terry(wins[np.ix_(order, order)]) == pytest.approx(scores[order], abs=1e-6)


def test_clustered_error_by_hand():
    # one rater says real twice, the other never: all variance is between raters, 2/(2 − 1) · 2 · (¼)² = ¼
    x = np.array([1.0, 1.0, 0.0, 0.0])
    se, dof = clustered((x - x.mean()) / 4, [0, 0, 1, 1], ["a", "b", "a", "b"])
    assert (se, dof) == (pytest.approx(0.5), 1)
    turned, _ = clustered((x - x.mean()) / 4, ["a", "b", "a", "b"], [0, 0, 1, 1])
    assert turned == pytest.approx(se)  # shapes count as raters do


def test_clustered_error_is_the_plain_one_for_answers_alone():
    x = np.random.default_rng(0).random(50)
    se, _ = clustered((x - x.mean()) / 50, np.arange(50), np.arange(50))
    assert se == pytest.approx(x.std(ddof=1) / np.sqrt(50))


def test_resamples_draw_as_many_and_repeat_with_their_seed():
    counts = resamples(7, 100, 3)
    assert (counts.sum(axis=1) == 7).all()
    assert (counts == resamples(7, 100, 3)).all()
    assert (counts != resamples(7, 100, 4)).any()
