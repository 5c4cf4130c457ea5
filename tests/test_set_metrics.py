"""Measures of sets, solved by hand, and against the traps of other implementations."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import spatial, stats

from gan3d_eval.set_metrics import coverage, jensen_shannon, kolmogorov_smirnov, minimum_matching_distance, one_nn_accuracy


def distances(a, b):
    return spatial.distance.cdist(
        np.asarray(a, float).reshape(len(a), -1), np.asarray(b, float).reshape(len(b), -1), "cityblock"
    )


def test_coverage_and_mmd_on_a_line():
    gen_ref = distances([0, 1, 9], [0.4, 10, 20, 30])  # generated at 0 and 1 are nearest to 0.4, at 9 to 10
    assert coverage(gen_ref) == 2 / 4
    assert minimum_matching_distance(gen_ref) == pytest.approx((0.4 + 1 + 11 + 21) / 4)


def test_each_reference_is_matched_not_each_sample():
    """PointFlow issue 20: with the arguments exchanged, one good sample among bad ones has a bad MMD."""
    assert minimum_matching_distance(distances([0, 100, 100], [0, 0])) == 0


def test_equally_near_references_share_a_sample():
    twins = distances([0], [1, -1, 5])  # either could be chosen: the expectation is one of three
    assert coverage(twins) == pytest.approx(1 / 3)
    assert coverage(distances([0, 0], [1, -1, 5, 5])) == pytest.approx(0.75 / 2)  # chosen by at least one of two
    assert coverage(distances([0, 0, 7], [1, -1])) == 0.5  # what is as near to all is near to none: an empty shape
    assert coverage(distances([3], [1])) == 1


def test_one_nn_accuracy_of_sets_that_are_apart_mixed_and_equal():
    a, b = [0, 1, 2], [10, 11, 12]
    assert one_nn_accuracy(distances(a, a), distances(a, b), distances(b, b)) == (1, 1)
    a, b = [0, 10, 20], [1, 11, 21]  # each stands beside one of the others
    assert one_nn_accuracy(distances(a, a), distances(a, b), distances(b, b)) == (0, 0)


@pytest.mark.parametrize("place", [0, 3])
def test_a_generator_that_repeats_one_reference_is_not_perfect_wherever_that_stands(place):
    """PointFlow's own code gives such a generator 0.499 with the reference first and 0.998 with it second."""
    ref = np.arange(8) * 10.0
    gen = np.repeat(ref[place], 8)
    on_gen, on_ref = one_nn_accuracy(distances(gen, gen), distances(gen, ref), distances(ref, ref))
    assert on_gen == pytest.approx(7 / 8)  # 7 twins and the original are equally near
    assert on_ref >= 5 / 8


@pytest.mark.parametrize(
    "sizes", [(2, (2, 3), 3), (1, (2, 2), 2), (3, (2, 2), 2), (2, (2, 2), 1), (2, (2, 2), 3), (3, (3, 2), 3)]
)
def test_one_nn_accuracy_refuses_sets_of_unequal_size(sizes):
    gen, cross, ref = sizes
    with pytest.raises(ValueError, match="1-NNA needs sets of equal size"):
        one_nn_accuracy(np.zeros((gen, gen)), np.zeros(cross), np.zeros((ref, ref)))


@given(st.lists(st.integers(0, 6), min_size=3, max_size=8), st.integers(0, 2**32 - 1))
def test_no_measure_depends_on_the_order_of_shapes(points, seed):
    random = np.random.default_rng(seed)
    gen, ref = np.array(points), random.integers(0, 6, len(points))
    i, j = random.permutation(len(gen)), random.permutation(len(ref))
    before = distances(gen, gen), distances(gen, ref), distances(ref, ref)
    after = distances(gen[i], gen[i]), distances(gen[i], ref[j]), distances(ref[j], ref[j])
    assert one_nn_accuracy(*before) == pytest.approx(one_nn_accuracy(*after))
    assert coverage(before[1]) == pytest.approx(coverage(after[1]))
    assert minimum_matching_distance(before[1]) == pytest.approx(minimum_matching_distance(after[1]))


def test_one_nn_accuracy_is_that_of_a_leave_one_out_classifier():
    from sklearn.model_selection import LeaveOneOut, cross_val_score
    from sklearn.neighbors import KNeighborsClassifier

    random = np.random.default_rng(0)
    a, b = random.normal(0, 1, (30, 4)), random.normal(0.4, 1, (30, 4))
    classifier = KNeighborsClassifier(1, metric="manhattan")
    right = cross_val_score(classifier, np.concatenate([a, b]), np.repeat([0, 1], 30), cv=LeaveOneOut())
    found = one_nn_accuracy(distances(a, a), distances(a, b), distances(b, b))
    assert found == pytest.approx((right[:30].mean(), right[30:].mean()), abs=1e-12)


def test_jensen_shannon_is_scipys_squared_and_adds_up_over_places():
    random = np.random.default_rng(0)
    p, q = random.random((3, 40)), random.random(40)
    p[:, :5] = 0
    p, q = p / p.sum(axis=1, keepdims=True), q / q.sum()
    found = jensen_shannon(p, q)
    assert found == pytest.approx([spatial.distance.jensenshannon(row, q, base=2) ** 2 for row in p], abs=1e-12)
    assert jensen_shannon(p[:, :17], q[:17]) + jensen_shannon(p[:, 17:], q[17:]) == pytest.approx(found)
    assert jensen_shannon(np.array([1.0, 0.0]), np.array([0.0, 1.0])) == 1


def test_kolmogorov_smirnov_is_scipys():
    random = np.random.default_rng(0)
    a, b = random.integers(0, 5, 30).astype(float), random.integers(1, 6, 40).astype(float)
    assert kolmogorov_smirnov(a, b) == pytest.approx(stats.ks_2samp(a, b).statistic)
    assert kolmogorov_smirnov(np.append(a, np.nan), b) == kolmogorov_smirnov(a, b)
    assert np.isnan(kolmogorov_smirnov(np.array([np.nan]), b))
