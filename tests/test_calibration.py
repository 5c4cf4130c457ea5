"""Calibration by hand and by simulation: honest samplers are rarely accused, copiers and canaries are."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from gan3d_eval.calibration import authenticity, c_t, calibrate, mann_whitney, p_values, verdict
from gan3d_eval.canaries import CANARIES, COPIES, canaries
from gan3d_eval.cells import cells
from gan3d_eval.voxels import VoxelSet


def judged(gen, null, n=None, exact=0, leaks=(0, 86), seed=0):
    return verdict({"l1": calibrate(np.asarray(gen, float), np.asarray(null, float), 200, seed)}, n or len(gen), exact, leaks)[
        0
    ]


def test_p_values_count_the_null_and_themselves():
    assert p_values(np.array([0.0, 2.0, 9.0]), np.array([1.0, 2.0, 3.0])).tolist() == [1 / 4, 3 / 4, 1]


@pytest.mark.parametrize(("shift", "expected"), [(0.0, "no-evidence-of-copying"), (-1.0, "copying"), (1.0, "far-from-data")])
def test_the_verdict_has_two_sides(shift, expected):
    random = np.random.default_rng(0)
    assert judged(random.normal(10 + shift, 1, 300), random.normal(10, 1, 150)) == expected


def test_a_few_copies_among_bad_samples_are_found():
    """C_T and Z_U see averages only: 5 % copies in 95 % bad samples pass them (METRICS, C_T)."""
    random = np.random.default_rng(0)
    gen = np.concatenate([np.full(25, 0.01), random.normal(12, 1, 475)])
    null = random.normal(10, 1, 999)
    assert mann_whitney(gen, null)[0] > 0.8
    assert judged(gen, null) == "copying"


def test_exact_copies_are_held_against_those_among_held_out_shapes():
    random = np.random.default_rng(0)
    gen, null = random.normal(10, 1, 200), random.normal(10, 1, 100)
    assert judged(gen, null, exact=16, leaks=(8, 100)) == "no-evidence-of-copying"  # as many twins as the data has
    assert judged(gen, null, exact=16, leaks=(0, 100)) == "copying"


def test_few_shapes_leave_it_undecided():
    assert judged(np.linspace(9, 11, 12), np.linspace(9, 11, 20)) == "undecided"
    assert judged(np.linspace(9, 11, 120), np.linspace(9, 11, 200)) == "no-evidence-of-copying"


def test_honest_samplers_are_seldom_accused_and_held_out_shapes_flagged_at_their_rate():
    random = np.random.default_rng(0)
    accused, flagged = 0, []
    for i in range(200):
        gen, null = random.gamma(4, 100, 200), random.gamma(4, 100, 100)
        accused += judged(gen, null, seed=i) == "copying"
        flagged.append((p_values(gen, null) <= 0.05).mean())
    assert accused <= 10
    assert 0.03 <= np.mean(flagged) <= 0.07


def test_c_t_averages_over_cells_with_enough_samples():
    random = np.random.default_rng(0)
    gen, null = random.normal(10, 1, 90), random.normal(10, 1, 60)
    cell, null_cell = np.repeat([0, 1, 2], [40, 40, 10]), np.repeat([0, 1, 3], [10, 30, 20])
    scores = [mann_whitney(gen[cell == i], null[null_cell == i])[1] for i in (0, 1)]
    assert c_t(gen, null, cell, null_cell) == pytest.approx((10 * scores[0] + 30 * scores[1]) / 40)
    assert c_t(gen[:20], null, cell[:20], null_cell) is None


def test_mann_whitney_z_is_standard_normal_under_the_null_even_with_many_ties():
    random = np.random.default_rng(0)
    z = [mann_whitney(random.integers(0, 4, 50), random.integers(0, 4, 70))[1] for _ in range(500)]
    assert stats.kstest(z, "norm").pvalue > 0.001
    assert np.std(z) == pytest.approx(1, abs=0.1)


def test_authenticity_of_a_copy_of_a_twin_is_not_authentic():
    assert authenticity(np.array([0.0, 3.0, 5.0, 5.0]), np.array([0.0, 2.0, 5.0, 4.0])) == 0.5


def test_canaries_are_what_they_say(box_sets):
    train = box_sets[0]
    birds = canaries(train, 12, 0)
    assert list(birds) == list(CANARIES)
    assert set(COPIES) | {"noise", "mean", "empty"} == set(CANARIES)
    copy = birds["copy"].grids()
    assert {row.tobytes() for row in birds["copy"].packed} <= {row.tobytes() for row in train.packed}
    for name, steps in (("shift1", 1), ("shift2", 2)):
        for grid, moved in zip(copy, birds[name].grids(), strict=True):
            found = []
            for axis in range(3):
                for sign in (1, -1):
                    rolled = np.roll(grid, sign * steps, axis)
                    edge = [slice(None)] * 3
                    edge[axis] = slice(0, steps) if sign > 0 else slice(-steps, None)
                    rolled[tuple(edge)] = False
                    found.append(np.array_equal(rolled, moved))
            assert any(found)
    assert np.array_equal(np.rot90(birds["turn"].grids(), -1, axes=(1, 2)), copy)
    assert np.array_equal(birds["mirror"].grids()[:, ::-1], copy)
    assert (birds["dilate"].grids() >= copy).all()
    assert (birds["flip"].grids() ^ copy).mean() == pytest.approx(0.01, abs=0.003)
    assert birds["empty"].volume.sum() == 0
    assert len(np.unique(birds["mean"].packed, axis=0)) == 1


def test_cells_put_equal_shapes_together_whatever_the_resolution():
    random = np.random.default_rng(0)
    for d in (9, 16):
        centres = random.random((2, d, d, d)) < 0.3
        grids = np.repeat(centres, 60, axis=0) ^ (random.random((120, d, d, d)) < 0.01)
        (found,) = cells(VoxelSet.from_grids(grids), [VoxelSet.from_grids(centres)], 0)
        assert found[0] != found[1]
