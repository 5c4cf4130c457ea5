"""Measures of draws: what is read off sorted neighbours for a thousand draws at once equals the definitions, ties included."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gan3d_eval.draws import manifolds_of_draws, neighbours_of_draws
from gan3d_eval.feature_metrics import density_coverage, precision_recall
from gan3d_eval.set_metrics import coverage, minimum_matching_distance, one_nn_accuracy


def matrices(seed: int, pool: int, n: int, values: int):
    """Distances as whole numbers below `values`: the fewer, the more ties."""
    random = np.random.default_rng(seed)

    def symmetric(size):
        half = np.triu(random.integers(0, values, (size, size)), 1)
        return (half + half.T).astype(np.float64)

    drawn = np.array([np.sort(random.permutation(pool)[:n]) for _ in range(7)])
    return symmetric(pool), random.integers(0, values, (pool, n)).astype(np.float64), symmetric(n), drawn


@given(st.integers(0, 10**6), st.integers(2, 12), st.integers(0, 9), st.sampled_from([1, 2, 5, 10**6]))
def test_draws_have_the_measures_of_their_matrices(seed, n, more, values):
    within, cross, reference, drawn = matrices(seed, n + more, n, values)
    found = neighbours_of_draws(within, cross, reference, drawn)
    for b, rows in enumerate(drawn):
        gen, ref = one_nn_accuracy(within[np.ix_(rows, rows)], cross[rows], reference)
        assert found["one_nna_gen"][b] == pytest.approx(gen)
        assert found["one_nna_ref"][b] == pytest.approx(ref)
        assert found["one_nna"][b] == pytest.approx((gen + ref) / 2)
        assert found["coverage"][b] == pytest.approx(coverage(cross[rows]))
        assert found["mmd"][b] == pytest.approx(minimum_matching_distance(cross[rows]))


@given(st.integers(0, 10**6), st.integers(7, 12), st.integers(0, 9), st.sampled_from([2, 5, 10**6]))
def test_manifolds_of_draws_have_the_measures_of_their_matrices(seed, n, more, values):
    within, cross, reference, drawn = matrices(seed, n + more, n, values)
    found = manifolds_of_draws(within, cross, reference, drawn)
    for b, rows in enumerate(drawn):
        precision, recall = precision_recall(within[np.ix_(rows, rows)], cross[rows], reference, k=3)
        density, covered = density_coverage(cross[rows], reference, k=5)
        assert found["precision"][b] == pytest.approx(precision)
        assert found["recall"][b] == pytest.approx(recall)
        assert found["density"][b] == pytest.approx(density)
        assert found["coverage"][b] == pytest.approx(covered)


def test_draws_of_another_size_than_the_references_are_refused():
    within, cross, reference, drawn = matrices(0, 9, 5, 9)
    with pytest.raises(ValueError, match="draws of 4 from"):
        neighbours_of_draws(within, cross, reference, drawn[:, :4])
