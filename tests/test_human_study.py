"""Which shapes a study shows, to whom, in which order; and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
from human_study import N_TEST, make_cases, make_dataset, make_run, make_study
from hypothesis import given, settings
from hypothesis import strategies as st

from gan3d_eval.case import open_case
from gan3d_eval.files import row_hashes
from gan3d_eval.human.order import Dealer, choices
from gan3d_eval.human.study import CHECKS, DATA, EXAMPLE, NOISE, StudyError, design_study


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("studies")


@pytest.fixture(scope="module")
def study(root):
    return make_study(root)


def test_real_shapes_are_held_out_ones_that_training_never_saw(root):
    case = make_cases(root)[0]
    study = design_study([case], "yes-no", 12)
    train, test = set(row_hashes(case.train.packed)), set(row_hashes(case.test.packed))
    real = [row_hashes(study.packed[study.rows(source)]) for source in (DATA, EXAMPLE)]
    assert all(digest in test and digest not in train for part in real for digest in part)
    assert not set(real[0]) & set(real[1])  # what is shown as real is asked for as a check alone
    assert len(real[0]) + len(real[1]) == N_TEST - 1
    assert study.settings["data"]["in_training"] == 1


def test_samples_are_shown_as_they_are_but_empty_ones(root):
    case = make_cases(root)[0]
    study = design_study([case], "yes-no", 12)
    generated = set(row_hashes(study.packed[study.rows("boxes-0")]))
    assert generated == set(row_hashes(case.gen.packed[2:]))
    assert study.settings["runs"]["boxes-0"]["empty"] == 2


def test_noise_has_as_many_voxels_as_a_shape(root):
    study = make_study(root)
    volume = np.bitwise_count(study.packed).sum(axis=1)
    real = np.concatenate([volume[study.rows(DATA)], volume[study.rows(EXAMPLE)]])
    assert abs(volume[study.rows(NOISE)] - np.median(real)).max() <= 1


def test_the_same_seed_makes_the_same_study(root):
    one, two, other = (make_study(root, seed=seed) for seed in (5, 5, 6))
    assert one.settings == two.settings
    assert (one.packed == two.packed).all()
    assert one.settings["items"] != other.settings["items"]


@pytest.mark.parametrize(("design", "runs", "answers"), [("yes-no", 1, 12), ("yes-no", 2, 11), ("2afc", 3, 13)])
def test_everything_is_shown_equally_often_and_to_nobody_twice(root, design, runs, answers):
    study = make_study(root, design, runs, answers)
    dealer, seen = Dealer(study), {unit: 0 for units in study.groups.values() for unit in units}
    for number in range(25):
        trials = dealer.trials(number)
        measured = [tuple(sorted(t.shown)) for t in trials if t.expected is None]
        assert len(measured) == len(set(measured)) == answers
        assert len(trials) == answers + CHECKS
        for unit in measured:
            seen[next(u for u in seen if tuple(sorted(u)) == unit)] += 1
    for units in study.groups.values():
        counts = [seen[unit] for unit in units]
        assert max(counts) - min(counts) <= 1


def test_half_are_real_and_runs_share_the_rest(root):
    study = make_study(root, "yes-no", 2, 11)
    sources = study.items["source"].to_numpy()
    totals = {"boxes-0": 0, "boxes-1": 0}
    for number in range(10):
        shown = [sources[t.shown[0]] for t in Dealer(study).trials(number) if t.expected is None]
        assert shown.count(DATA) == 5
        assert abs(shown.count("boxes-0") - shown.count("boxes-1")) <= 1
        totals = {name: totals[name] + shown.count(name) for name in totals}
    assert totals["boxes-0"] == totals["boxes-1"]


@given(st.integers(0, 40), st.lists(st.integers(0, 40), max_size=3))
@settings(max_examples=30)
def test_a_raters_order_depends_on_seed_and_number_alone(study, number, asked_before):
    dealer = Dealer(study)
    for other in asked_before:
        dealer.trials(other)
    assert dealer.trials(number) == Dealer(study).trials(number)


def test_raters_get_different_orders(root):
    dealer = Dealer(make_study(root))
    assert len({tuple(t.shown for t in dealer.trials(number)) for number in range(20)}) == 20


def test_checks_are_spread_and_no_key_passes_them_all(root):
    for design in ("yes-no", "2afc"):
        dealer = Dealer(make_study(root, design))
        for number in range(10):
            trials = dealer.trials(number)
            places = [i for i, t in enumerate(trials) if t.expected]
            expected = [trials[i].expected for i in places]
            assert len(places) == CHECKS
            assert [expected.count(answer) for answer in choices(design, 0)] == [CHECKS / 2] * 2
            assert places[-1] - places[0] >= len(trials) / 2


def test_sides_are_balanced(root):
    study = make_study(root, "2afc", 2, 13, with_data=False)
    for trials in (Dealer(study).trials(number) for number in range(5)):
        first = [study.items["source"][t.shown[0]] for t in trials if t.expected is None]
        assert abs(first.count("boxes-0") - first.count("boxes-1")) <= 1


def test_buttons_change_places_from_rater_to_rater():
    assert choices("yes-no", 0) == ("real", "generated")
    assert choices("yes-no", 1) == ("generated", "real")
    assert choices("2afc", 1) == ("A", "B")


def test_no_test_split_is_refused(tmp_path):
    make_dataset(tmp_path / "data", n_test=0)
    make_run(tmp_path / "run", tmp_path / "data")
    with pytest.raises(StudyError, match=r"run: its dataset data has no held-out.*--reference"):
        design_study([open_case(tmp_path / "run")], "yes-no")


def test_only_empty_samples_are_refused(tmp_path):
    make_dataset(tmp_path / "data")
    make_run(tmp_path / "run", tmp_path / "data", empty=30)
    with pytest.raises(StudyError, match="all 30 samples are empty"):
        design_study([open_case(tmp_path / "run")], "yes-no", 12)


def test_too_many_answers_are_refused(root):
    with pytest.raises(StudyError, match="30 of 60 answers would go to boxes-0, which has 28 shapes"):
        make_study(root, answers=60)
    with pytest.raises(StudyError, match="too few for 6 kinds"):
        make_study(root, "2afc", 3, 4)


def test_runs_of_other_data_are_refused(root, tmp_path):
    make_dataset(tmp_path / "other", n_test=20)
    make_run(tmp_path / "run", tmp_path / "other", "other")
    with pytest.raises(StudyError, match="different held-out shapes"):
        design_study([*make_cases(root), open_case(tmp_path / "run")], "yes-no")


def test_the_same_run_twice_is_refused(root):
    with pytest.raises(StudyError, match="two of the runs are called boxes-0"):
        design_study(make_cases(root) * 2, "yes-no", 12)


def test_one_run_without_data_has_nobody_to_compete_with(root):
    with pytest.raises(StudyError, match="--data"):
        make_study(root, "2afc", with_data=False)
    assert set(make_study(root, "2afc", 2, with_data=False).groups) == {"boxes-0 | boxes-1"}
