"""Failures are named as they happen, once each; a healthy training is left alone."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from gan3d_eval.files import Gan3dError
from gan3d_eval.run_dir import RunDir
from gan3d_eval.voxels import VoxelSet, pack
from gan3d_model.config import RECIPES
from gan3d_model.detectors import FAILURES, WINDOW, Detectors, Failed, Watch, diversity
from gan3d_model.runs import create_run
from gan3d_model.train import train

HEALTHY = {"step": 0, "loss_d": 1.0, "loss_g": 1.0, "acc_d": 0.8, "occupancy_g": 0.05, "d_updated": True}


def names(rows, occupancy=0.05):
    detectors = Detectors(occupancy, 0.8, warmup=10)
    found = []
    for step, row in enumerate(rows, 1):
        found += detectors.see_row(HEALTHY | row | {"step": step})
    return [name for name, _ in found]


@pytest.mark.parametrize(("row", "expected"), [
    ({}, []),
    ({"d_updated": False}, []),  # a gate may rest while G is fine
    ({"d_updated": False, "acc_d": 0.95, "occupancy_g": 0.001}, ["gate-deadlock"]),
    ({"d_updated": False, "acc_d": 1.0, "occupancy_g": 0.0}, ["gate-deadlock", "d-saturated", "empty"]),
    ({"acc_d": 0.99}, ["d-saturated"]),
    ({"occupancy_g": 0.0005}, ["empty"]),
    ({"occupancy_g": 0.3}, ["cube-like"]),
])  # fmt: skip
def test_each_failure_of_the_slides_is_called_by_its_name(row, expected):
    assert names([row] * (WINDOW + 20)) == expected


def test_a_single_bad_batch_is_no_failure_and_neither_is_the_beginning():
    assert names([{"occupancy_g": 0.0, "acc_d": 1.0}] + [{}] * WINDOW * 2) == []
    assert names([{"occupancy_g": 0.5}] * 9) == []


def test_a_fall_within_the_last_steps_shows_in_what_the_training_leaves():
    detectors = Detectors(0.05, 0.8, warmup=10)
    assert detectors.see_final(0.04) == []
    [(name, text)] = detectors.see_final(0.0001)
    assert name == "empty"
    assert "occupancy 0.0001 in the samples at the end, the data's 0.0500" in text
    assert detectors.see_final(0.0001) == []  # once is enough
    assert [name for name, _ in detectors.see_final(0.5)] == ["cube-like"]


def test_a_loss_that_is_not_finite_is_divergence_at_once():
    assert names([{}, {"loss_g": float("nan")}]) == ["diverged"]


def test_diversity_is_0_for_copies_and_1_for_strangers(grids):
    assert diversity(pack(np.repeat(grids[:1], 5, axis=0))) == 0
    apart = np.zeros((2, 8, 8, 8), np.bool_)
    apart[0, 0], apart[1, 1] = True, True
    assert diversity(pack(apart)) == 1
    assert diversity(pack(np.zeros((3, 8, 8, 8), np.bool_))) == 0
    half = np.zeros((2, 8, 8, 8), np.bool_)
    half[0, :2], half[1, 1:3] = True, True
    assert diversity(pack(half)) == pytest.approx(2 / 3)


def test_samples_that_hardly_differ_are_a_collapse(grids):
    detectors = Detectors(0.05, diversity(pack(grids)), warmup=10)
    same = pack(np.repeat(grids[:1], 6, axis=0))
    assert detectors.see_samples(same, 5) == []
    assert detectors.see_samples(pack(grids), 20) == []
    assert [name for name, _ in detectors.see_samples(same, 20)] == ["collapsed"]
    assert detectors.see_samples(same, 30) == []  # once is enough


def test_every_diagnosis_can_be_written():
    facts = {"steps": 50, "acc": 0.9, "occupancy": 0.1, "data": 0.2, "found": 0.1, "when": "now"}
    assert all(text.format(**facts) for text in FAILURES.values())


def test_nobody_is_told_to_do_what_is_done():
    plain = Detectors(0.05, 0.8, 0)
    told = Detectors(0.05, 0.8, 0, dataclasses.replace(RECIPES["stable"], instance_noise=0.1, mirror=True))
    facts = {"steps": 50, "acc": 0.9, "occupancy": 0.1, "data": 0.2, "found": 0.1, "when": "now"}
    for name, words in (("d-saturated", "--instance-noise"), ("cube-like", "--recipe stable"), ("collapsed", "--mirror")):
        [(_, before)], [(_, after)] = plain._fire(name, **facts), told._fire(name, **facts)
        assert words in before
        assert words not in after
        assert ". Try " in after
    assert plain._fire("gate-deadlock", **facts)[0][1].endswith(". Try --recipe stable")
    assert "--gate 0.8" in Detectors(0.05, 0.8, 0, RECIPES["stable"])._fire("d-saturated", **facts)[0][1]


@pytest.fixture
def new_run(tiny, dataset_dir, tmp_path):
    shapes = VoxelSet.open(dataset_dir).select(["sofa"], "train")
    config = dataclasses.replace(tiny, epochs=60, sample_every=1)
    return config, shapes, create_run(config, "slides", shapes, dataset_dir, ["sofa"], tmp_path, ["test"])


def test_a_failure_is_told_written_to_the_run_and_can_stop_it(new_run, monkeypatch):
    monkeypatch.setattr("gan3d_model.detectors.SAME", 2.0)  # whatever G makes counts as collapsed
    config, shapes, run = new_run
    said = []
    with pytest.raises(Failed, match="collapsed at step"):
        train(config, shapes, run, "cpu", said.append, ["collapsed"])
    assert any(line.startswith("warning: collapsed at step ") for line in said)
    stopped = RunDir.open(run.path)
    assert stopped.meta["status"] == "failed"
    (failure,) = stopped.meta["failures"]
    assert failure["name"] == "collapsed"
    assert int(stopped.checkpoints()[-1].stem) == failure["step"]


def test_a_training_that_leaves_other_volumes_than_the_datas_says_so(new_run, monkeypatch):
    monkeypatch.setattr("gan3d_model.detectors.FULL", 1e-9)  # whatever G makes is too large
    monkeypatch.setattr("gan3d_model.detectors.WINDOW", 10**6)  # no row is judged
    config, shapes, run = new_run
    done = train(dataclasses.replace(config, epochs=1), shapes, run, "cpu", lambda line: None)
    assert [failure["name"] for failure in done.meta["failures"]] == ["cube-like"]
    assert "at the end" in done.meta["failures"][0]["diagnosis"]


def test_an_unknown_failure_to_stop_on_is_refused(new_run):
    config, shapes, run = new_run
    with pytest.raises(Gan3dError, match="no failure bored is known; there are gate-deadlock, d-saturated"):
        train(config, shapes, run, "cpu", stop_on=["bored"])


def test_failures_after_the_checkpoint_are_forgotten_on_resume(run_copy):
    run = run_copy.update(failures=[{"name": "empty", "step": 3, "diagnosis": ""}])
    watch = Watch(run, Detectors(0.05, 0.8, 10))
    assert watch.detectors.fired == ["empty"]
