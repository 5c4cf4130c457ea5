"""Calibration by hand and by simulation: honest samplers are rarely accused, copiers and canaries are."""

from __future__ import annotations

import re

import numpy as np
import pytest
from scipy import stats

from gan3d_eval.calibration import (
    Calibrated,
    _resampled,
    authenticity,
    by_chance,
    c_t,
    calibrate,
    copied,
    mann_whitney,
    p_values,
    verdict,
)
from gan3d_eval.canaries import CANARIES, COPIES, canaries
from gan3d_eval.cells import cells
from gan3d_eval.provenance import wilson
from gan3d_eval.voxels import VoxelSet


def judged(gen, null, n=None, exact=0, leaks=(0, 86), seed=0):
    return verdict({"l1": calibrate(np.asarray(gen, float), np.asarray(null, float), 200, seed)}, n or len(gen), exact, leaks)[
        0
    ]


def test_a_shape_that_is_made_again_and_again_is_one_piece_of_evidence():
    """A generator that has collapsed to one shape has an A of any value: of a hundred such, 44 would be called copying."""
    null, gen = np.arange(100.0), np.full(1000, 10.5)
    same = np.zeros(1000, np.intp)
    once = calibrate(gen, null, 200, 0, same)
    assert once.values["a_far"] == calibrate(gen, null, 200, 0).values["a_far"] == 0.11
    assert once.far == (0.005, 0.995)
    assert verdict({"l1": once}, 1000, 0, (0, 100))[0] == "undecided"
    assert verdict({"l1": calibrate(gen, null, 200, 0)}, 1000, 0, (0, 100))[0] == "copying"
    nearest = calibrate(np.full(1000, -1.0), np.arange(50.0), 200, 0, same)  # of all, which is 1 in 51 by chance
    assert nearest.flagged_p == pytest.approx(2 / 51)  # two of 51 ranks have p ≤ 0.05
    assert nearest.intervals["flagged_share"] == wilson(1, 1)


def test_repeats_weigh_as_often_as_they_stand_and_without_any_nothing_changes():
    random = np.random.default_rng(0)
    gen, null = random.normal(size=40), random.normal(size=50)
    one, other = (calibrate(gen, null, 300, 0, same) for same in (None, np.arange(40) + 7))
    assert (one.values, one.intervals, one.far) == (other.values, other.intervals, other.far)
    thrice = calibrate(np.repeat(gen, 3), null, 300, 0, np.repeat(np.arange(40), 3))
    assert thrice.far == pytest.approx(one.far)
    assert thrice.q == pytest.approx(np.repeat(one.q, 3))
    far, which = gen.max(), gen.argmax()
    heavy = calibrate(np.r_[gen, np.full(200, far)], null, 300, 0, np.r_[np.arange(40), np.full(200, which)])
    assert heavy.values["a_far"] == pytest.approx((40 * one.values["a_far"] + 200 * (far > null).mean()) / 240)
    assert heavy.far[1] - heavy.far[0] > 2 * (one.far[1] - one.far[0])  # most of it is one shape


def test_a_shape_made_with_small_changes_is_one_piece_of_evidence_too():
    random = np.random.default_rng(0)
    null, gen = np.arange(100.0), 10.5 + 4 * random.random(1000)
    same = np.zeros(1000, np.intp)
    assert verdict({"l1": calibrate(gen, null, 200, 0)}, 1000, 0, (0, 100))[0] == "copying"
    once = calibrate(gen, null, 200, 0, same)
    assert once.far == (0.005, 0.995)
    assert verdict({"l1": once}, 1000, 0, (0, 100))[0] == "undecided"
    # Two shapes, of which one is made 900 times: A is nearly that one's, and resamples are one, the other, or both.
    two = calibrate(
        np.r_[np.full(450, 9.5), np.full(450, 10.5), np.full(100, 60.5)], null, 2000, 0, np.repeat([0, 1], [900, 100])
    )
    assert two.values["a_far"] == pytest.approx(0.9 * 0.105 + 0.1 * 0.61)
    assert two.far == pytest.approx((0.005**0.5, 1 - 0.005**0.5), abs=0.5)
    assert two.far[0] < 0.12
    assert two.far[1] > 0.55


def test_discoveries_are_those_of_benjamini_and_hochberg_and_weigh_with_their_pieces():
    random = np.random.default_rng(3)
    gen, null = random.normal(-1, 1, 60), random.normal(size=200)
    plain = calibrate(gen, null, 10, 0)
    assert np.array_equal(plain.q, stats.false_discovery_control(plain.p))
    # By hand: pieces {0, 1} and {2}; p = 0.1, 0.3, 0.2 weigh ½, ½, 1 of 2: 0.1/(0.5/2) → 0.2/(1.5/2), 0.3/(2/2).
    by_hand = calibrate(np.array([0.5, 2.5, 1.5]), np.arange(1.0, 10.0), 10, 0, np.array([0, 0, 5]))
    assert by_hand.p.tolist() == [0.1, 0.3, 0.2]
    assert by_hand.q == pytest.approx([0.8 / 3, 0.3, 0.8 / 3])


def test_p_values_count_the_null_and_themselves():
    assert p_values(np.array([0.0, 2.0, 9.0]), np.array([1.0, 2.0, 3.0])).tolist() == [1 / 4, 3 / 4, 1]


@pytest.mark.parametrize(("shift", "expected"), [(0.0, "no-evidence-of-copying"), (-1.0, "copying"), (1.0, "far-from-data")])
def test_the_verdict_has_two_sides(shift, expected):
    random = np.random.default_rng(0)
    assert judged(random.normal(10 + shift, 1, 300), random.normal(10, 1, 150)) == expected


def said(a=0.5, far=(0.4, 0.6), share=0.05, flagged_p=0.4, q=(0.9,), others=0):
    """Verdict and reasons where one distance says this, and `others` say nothing."""
    one = Calibrated({"a_far": a, "flagged_share": share}, {}, far, flagged_p, np.array(q), np.array(q))
    calm = Calibrated({"a_far": 0.5, "flagged_share": 0.05}, {}, (0.4, 0.6), 0.4, np.ones(1), np.ones(1))
    found, reasons = verdict({"l1": one} | {f"other{i}": calm for i in range(others)}, 100, 0, (0, 100))
    return f"{found}: {'; '.join(reasons)}"


@pytest.mark.parametrize(("what", "answer"), [
    ({}, "no-evidence-of-copying: no distance"),
    ({"a": 0.44, "far": (0.38, 0.49)}, "copying: under l1 samples are nearer .*A down to 0.44"),
    ({"a": 0.45, "far": (0.38, 0.49)}, "no-evidence"),  # smaller than a small effect
    ({"a": 0.44, "far": (0.38, 0.50)}, "no-evidence"),  # the interval does not exclude ½
    ({"q": (0.05, 0.9)}, "copying: under l1 up to 1 samples"),
    ({"q": (0.05, 0.9), "others": 1}, "no-evidence"),  # two tests, each at half the level
    ({"q": (0.025, 0.9), "others": 1}, "copying"),
    ({"share": 0.2, "flagged_p": 0.005}, "copying: under l1 up to 20 % are nearer"),
    ({"share": 0.2, "flagged_p": 0.006}, "no-evidence"),
    ({"share": 0.1, "flagged_p": 0.001}, "no-evidence"),
    ({"share": 0.11, "flagged_p": 0.001}, "copying: under l1 up to 11 % are nearer"),
    ({"a": 0.64, "far": (0.51, 0.8)}, "far-from-data: under l1 .*A up to 0.64"),
    ({"a": 0.63, "far": (0.51, 0.8)}, "no-evidence"),
    ({"a": 0.64, "far": (0.50, 0.8)}, "no-evidence"),
    ({"a": 0.64, "far": (0.45, 0.8)}, "no-evidence"),
    ({"far": (0.36, 0.7)}, "undecided: too few different shapes: under l1"),
    ({"far": (0.37, 0.7)}, "no-evidence"),
])  # fmt: skip
def test_each_side_of_every_line_of_the_verdict(what, answer):
    assert re.match(answer, said(**what))


def test_exact_copies_by_hand():
    assert copied(100, 1, (0, 0)) == []  # nothing is known of twins: any number may be honest
    assert copied(100, 100, (5, 4)) == []
    assert copied(100, 0, (0, 100)) == []
    assert copied(100, 5, (0, 100)) == ["5 of 100 samples are exact copies"]  # 1 of 101 expected; 5 or more by chance: 0.003
    assert copied(100, 4, (0, 100)) == []  # 0.02


def test_calibrated_by_hand():
    """Nineteen held-out shapes: the smallest p is 1/20, which is just flagged, and just significant if all have it."""
    found = calibrate(np.zeros(20), np.arange(1.0, 20.0), 50, 0)
    assert (found.values["flagged"], found.values["significant"], found.values["a_far"]) == (20, 20, 0)
    assert (found.values["median"], found.values["null_median"], found.values["n_null"]) == (0, 10, 19)
    assert calibrate(np.zeros(20), np.arange(1.0, 19.0), 50, 0).values["flagged"] == 0  # 1/19
    assert calibrate(np.zeros(20), np.arange(1.0, 31.0), 50, 0).values["significant"] == 20  # 1/31, below the level


def test_the_interval_of_a_by_hand():
    assert calibrate(np.ones(500), np.ones(400), 50, 0).intervals["a_far"] == {"low": 0.5, "high": 0.5} | {
        "kind": "95 % bootstrap over samples and held-out shapes"
    }
    apart = calibrate(np.full(30, 2.0), np.ones(20), 50, 0)
    assert apart.intervals["a_far"]["low"] == pytest.approx(0.025 ** (1 / 20))
    assert apart.far == (pytest.approx(0.005 ** (1 / 20)), 1.0)
    assert calibrate(np.ones(30), np.full(20, 2.0), 50, 0).far == (0.0, pytest.approx(1 - 0.005 ** (1 / 20)))
    random = np.random.default_rng(0)
    gen, null = random.normal(0, 1, 400), random.normal(0, 1, 300)
    again = _resampled(gen, np.arange(400), np.ones(400, np.intp), null, 200, np.random.default_rng(3))
    found = calibrate(gen, null, 200, 3)
    interval = found.intervals["a_far"]
    assert (interval["low"], interval["high"]) == tuple(np.quantile(again, [0.025, 0.975]))
    assert found.far == tuple(np.quantile(again, [0.005, 0.995]))
    assert np.mean(again) == pytest.approx(mann_whitney(gen, null)[0], abs=0.01)


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


@pytest.mark.parametrize("n_null", [20, 39, 100])
def test_the_chance_of_flagged_samples_counts_that_the_null_is_drawn_too(n_null):
    """As often as simulated; and five hundred samples against few held-out shapes are seldom accused."""
    random, n = np.random.default_rng(0), 500
    flagged = [int((p_values(random.random(n), random.random(n_null)) <= 0.05).sum()) for _ in range(2000)]
    for most in (30, 60, 100):
        chance = by_chance(most, n, n_null)
        assert np.mean(np.array(flagged) >= most) == pytest.approx(chance, abs=4 * np.sqrt(chance / 2000) + 0.002)
    assert by_chance(0, n, n_null) == 1 == by_chance(3, n, 18)  # of eighteen none can be flagged
    accused = [judged(random.gamma(4, 100, n), random.gamma(4, 100, n_null), seed=i) == "copying" for i in range(200)]
    assert np.mean(accused) <= 0.06


def test_c_t_averages_over_cells_with_enough_samples():
    random = np.random.default_rng(0)
    gen, null = random.normal(10, 1, 90), random.normal(10, 1, 60)
    cell, null_cell = np.repeat([0, 1, 2], [40, 40, 10]), np.repeat([0, 1, 3], [10, 30, 20])
    scores = [mann_whitney(gen[cell == i], null[null_cell == i])[1] for i in (0, 1)]
    assert c_t(gen, null, cell, null_cell) == pytest.approx((10 * scores[0] + 30 * scores[1]) / 40)
    assert c_t(gen[:20], null, cell[:20], null_cell) is None
    assert c_t(gen[:21], null, cell[:21], null_cell) is not None


def test_mann_whitney_of_nothing_but_ties():
    assert mann_whitney(np.ones(5), np.ones(7)) == (0.5, 0.0)


@pytest.mark.parametrize("levels", [2, 5, 1000])
def test_mann_whitney_is_scipy_s(levels):
    random = np.random.default_rng(0)
    gen, null = random.integers(0, levels, 31), random.integers(0, levels, 17)
    theirs = stats.mannwhitneyu(gen, null, use_continuity=False, method="asymptotic")
    a, z = mann_whitney(gen, null)
    assert a == pytest.approx(theirs.statistic / (31 * 17))
    assert 2 * stats.norm.sf(abs(z)) == pytest.approx(theirs.pvalue)
    assert (z > 0) == (a > 0.5)


def test_mann_whitney_z_is_standard_normal_under_the_null_even_with_many_ties():
    random = np.random.default_rng(0)
    z = [mann_whitney(random.integers(0, 4, 50), random.integers(0, 4, 70))[1] for _ in range(500)]
    assert stats.kstest(z, "norm").pvalue > 0.001
    assert np.std(z) == pytest.approx(1, abs=0.1)


def test_authenticity_of_a_copy_of_a_twin_is_not_authentic():
    assert authenticity(np.array([0.0, 3.0, 5.0, 5.0, 7.0]), np.array([0.0, 2.0, 5.0, 4.0, 1.0])) == 0.6


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
