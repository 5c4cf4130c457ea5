"""Checkpoints and thresholds, a row each: the better state wins, the copying one never, and nothing is judged twice."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest

from gan3d_eval import series
from gan3d_eval import threshold_sweep as module
from gan3d_eval.cache import Cache
from gan3d_eval.case import Case
from gan3d_eval.history import best, history, steps_of
from gan3d_eval.run_dir import RunDir, RunDirError
from gan3d_eval.threshold_sweep import threshold_sweep

Quiet = lambda line: None  # noqa: E731


@pytest.fixture
def boxes(box_sets, tmp_path):
    """A run on boxes with samples at three steps: noise, honest ones, and copies of the training shapes."""
    train, test, gen = box_sets
    meta = {
        "run_id": "boxes", "category": "box", "resolution": 16, "status": "finished", "seed": 0, "dataset": None, "grid": None,
        "prior": None, "producer": None, "software": {}, "command": [],
    }  # fmt: skip
    run = RunDir.create(tmp_path / "run", meta)
    noise = np.random.default_rng(0).random((100, 16, 16, 16)) < train.grids().mean(axis=0)
    states = {100: np.packbits(noise.reshape(100, -1), axis=1), 200: gen.packed[:120], 300: train.packed[:150]}
    for step, packed in states.items():
        run.write_samples(f"{step:06d}", occupancy=packed, step=np.array(step))
    run.write_samples("few", occupancy=gen.packed[:9], step=np.array(400))
    return Case(run, train, test, True)


def test_history_takes_the_honest_checkpoint_and_not_the_copying_one(boxes, tmp_path):
    result, rows = history(boxes, 0, Cache(tmp_path / "cache"), Quiet)
    assert rows["step"].tolist() == [100, 200, 300]
    assert rows["verdict"].tolist()[::2] == ["far-from-data", "copying"]
    assert result.values["best_step"] == 200
    assert rows["n"].eq(100).all()
    assert rows["step"].dtype == np.int64  # as floats, of six digits in a table, steps beyond a million would be equal
    assert rows["empty"].max() <= 1  # a share, as in compare
    assert set(result.intervals) == {"best_a_far"}  # of as many shapes as are held out there is one draw
    assert (boxes.run.path / "figures" / "history.png").stat().st_size > 10_000


def test_the_best_checkpoint_has_the_intervals_of_its_row(boxes):
    few = dataclasses.replace(boxes, test=boxes.test.take(np.arange(60)))
    result, rows = history(few, 0, Cache(), Quiet)
    row = rows.set_index("step").loc[result.values["best_step"]]
    assert row["one_nna_l1_kind"] == "central 95 % of 50 draws of 60 from 100"
    for name in ("one_nna_l1", "coverage_l1", "valid", "a_far"):
        interval = result.intervals[f"best_{name}"]
        assert row[f"{name}_low"] == interval["low"] <= result.values[f"best_{name}"] <= interval["high"]


def test_what_was_judged_is_not_judged_again(boxes, tmp_path, monkeypatch):
    first = history(boxes, 0, Cache(tmp_path / "cache"), Quiet)[1]
    monkeypatch.setattr(series, "compare", None)  # would fail if it were called
    pd.testing.assert_frame_equal(history(boxes, 0, Cache(tmp_path / "cache"), Quiet)[1], first)


def test_of_equally_good_checkpoints_the_earlier_is_best_and_none_if_all_copy():
    rows = pd.DataFrame({"verdict": ["undecided"] * 3, "one_nna_gen_l1": [0.0, 0.4, 0.6], "one_nna_ref_l1": [1.0, 0.5, 0.5]})
    assert best(rows) == 1  # the first one's accuracies have the mean ½, as noise has
    assert best(rows.assign(verdict="copying")) is None


def test_a_run_without_samples_of_known_step_says_how_to_draw_them(boxes):
    for path in (boxes.run.path / "samples").glob("0*.npz"):
        path.unlink()
    with pytest.raises(RunDirError, match="nor are there checkpoints to draw from"):
        history(boxes, 0, Cache(), Quiet)
    boxes.run.checkpoint_path(1).parent.mkdir()
    boxes.run.checkpoint_path(1).touch()
    with pytest.raises(RunDirError, match="draw some from every checkpoint with --draw"):
        history(boxes, 0, Cache(), Quiet)


def test_a_sweep_finds_the_threshold_at_which_blurred_shapes_are_right(boxes, box_sets, monkeypatch):
    from scipy import ndimage

    monkeypatch.setattr(module, "THRESHOLDS", (0.1, 0.5))
    soft = np.stack([ndimage.gaussian_filter(g.astype(np.float32), 1.0) for g in box_sets[2].grids(slice(60))])
    boxes.run.write_samples("final", occupancy=box_sets[2].packed[:60], probability=soft.astype(np.float16))
    result, rows = threshold_sweep(boxes, 0, Cache(), Quiet)
    assert rows["threshold"].tolist() == [0.1, 0.5]
    right = rows.set_index("threshold")["one_nna_l1"]
    assert abs(right[0.5] - 0.5) < abs(right[0.1] - 0.5) - 0.1
    assert result.values["between_share"] > 0.3


def test_a_sweep_of_samples_without_probabilities_says_how_to_make_them(boxes):
    with pytest.raises(RunDirError, match=r"samples/few.npz holds no probabilities; import them uncut"):
        threshold_sweep(boxes, 0, Cache(), Quiet)
    boxes.run.checkpoint_path(1).parent.mkdir()
    boxes.run.checkpoint_path(1).touch()
    with pytest.raises(RunDirError, match="draw some: .*sample .*--probabilities --force"):
        threshold_sweep(boxes, 0, Cache(), Quiet)
    other = dataclasses.replace(boxes, sample_name="000100")  # which that would not draw
    with pytest.raises(RunDirError, match=r"000100.npz holds no .*; leave --samples out, once final has some: .*sample"):
        threshold_sweep(other, 0, Cache(), Quiet)


def test_the_commands_draw_judge_and_print(cli, run_copy):
    done = cli("history", run_copy.path, "--draw", 50)
    assert done.exit_code == 0, done.output
    assert [line.split()[0] for line in done.stdout.splitlines()[:3]] == ["step", "3", "6"]
    (run_copy.path / "samples" / "at-000006.npz").unlink()
    assert cli("sample", run_copy.path, "-n", 60, "--force").exit_code == 0
    done = cli("history", run_copy.path, "--draw", 55)
    assert [line.split()[0] for line in done.stdout.splitlines()[:3]] == ["step", "3", "6"]
    assert len(run_copy.samples("at-000003")) == 55  # 50 were too few
    assert "at-000006" not in run_copy.sample_names()  # final is of that step
    assert cli("history", run_copy.path, "--draw", 70).exit_code == 0
    assert {len(shapes) for shapes in steps_of(run_copy).values()} == {70}  # of two files of a step the larger one counts
    assert "-train" in run_copy.results()["history"]["protocol"]
    run_copy.write_samples("later", occupancy=run_copy.samples("final").packed, step=np.array(123456))
    assert "\n123456 " in cli("history", run_copy.path).stdout.replace("\n ", "\n")
    (run_copy.path / "samples" / "later.npz").unlink()
    assert cli("sample", run_copy.path, "-n", 50, "--probabilities", "--force").exit_code == 0
    done = cli("threshold-sweep", run_copy.path)
    assert done.exit_code == 0, done.output
    assert cli("watch", run_copy.path, "--judge", 50).stdout.count("1-NNA") == 1
    assert cli("check-run", run_copy.path).exit_code == 0


def test_judged_against_other_shapes_a_run_keeps_its_own_figure(boxes, tmp_path):
    history(boxes, 0, Cache(tmp_path / "cache"), Quiet)
    own = boxes.run.path / "figures" / "history.png"
    before = own.read_bytes()
    named = dataclasses.replace(boxes.train, info=boxes.train.info | {"name": "my boxes"})
    history(dataclasses.replace(boxes, train=named, own=False), 0, Cache(tmp_path / "cache"), Quiet)
    assert own.read_bytes() == before
    assert (boxes.run.path / "figures" / "history-my-boxes.png").is_file()
