"""Watching a run from another process: what its files say, and that a killed one is told from a running one."""

from __future__ import annotations

import re

import filelock
import pytest

from gan3d_eval.voxels import VoxelSet
from gan3d_eval.watch import glance, is_training, watch


def test_a_finished_run_is_told_in_one_line_and_the_watch_ends(run_copy, cli):
    (only,) = watch(run_copy, every=0)
    assert only.status == "finished"
    assert only.step == 6
    for words in ("finished  step 6  epoch 2.0", "loss D", "accuracy", "D learns in", "occupancy", "(data "):
        assert words in only.line
    assert cli("watch", run_copy.path).stdout.strip() == only.line


def test_a_run_that_says_running_but_whose_lock_is_free_was_killed(run_copy, cli):
    run = run_copy.update(status="running")
    assert glance(run).status == "killed"
    result = cli("watch", run.path)
    assert re.search(r"nobody trains it; go on with: python cli.py train \S*furniture --resume", result.stderr)
    with filelock.FileLock(run.path / ".lock"):
        assert is_training(run)
        assert glance(run).status == "running"
    assert not is_training(run)


def test_each_step_is_told_once_until_the_end(run_copy, monkeypatch):
    run = run_copy.update(status="running")
    log = (run.path / "metrics.csv").read_text().splitlines(keepends=True)
    lengths = iter([3, 3, 5, None])

    def grow(seconds):
        if (n := next(lengths)) is None:
            run.update(status="finished")
        else:
            (run.path / "metrics.csv").write_text("".join(log[:n]))

    monkeypatch.setattr("gan3d_eval.watch.time.sleep", grow)
    monkeypatch.setattr("gan3d_eval.watch.is_training", lambda run: True)
    assert [(g.status, g.step) for g in watch(run)] == [("running", 6), ("running", 2), ("running", 4), ("finished", 4)]


@pytest.mark.parametrize("failures", [None, "bad", [3], [{"name": "gate-deadlock", "step": 5, "diagnosis": "…"}]])
def test_failures_are_shown_whatever_stands_there(run_copy, failures):
    line = glance(run_copy.update(failures=failures)).line
    assert ("seen on the way: gate-deadlock" in line) == (isinstance(failures, list) and isinstance(failures[0], dict))


@pytest.mark.parametrize(("log", "fault"), [
    ("step,loss_d\n1,high\n", "line 2: loss_d is high, expected a number; delete that line"),
    ("step,loss_d\n1,2\ngarbage\n", "line 3: step is garbage, expected a number; delete that line"),
    ("step,loss_d\n,1\n", "line 2: step is nan, expected a number; delete that line"),
    ("step,loss_d\n1,2,9\n2,3,9\n", "cannot be read: rows have more fields than their header; delete such a line, or move it away if it is no log"),
    ("step,loss_d\n1,x,3\n", "cannot be read: rows have more fields than their header; delete such a line, or move it away if it is no log"),
])  # fmt: skip
def test_a_log_that_holds_no_numbers_is_refused_in_one_line(run_copy, cli, log, fault):
    (run_copy.path / "metrics.csv").write_text(log)
    result = cli("watch", run_copy.path)
    assert result.exit_code == 1
    assert result.stderr.strip() == f"error: {run_copy.path / 'metrics.csv'}: {fault}"


def test_a_run_without_a_log_or_with_few_columns_is_no_error(run_copy):
    lost = "metrics.csv lacks {} of the 6 rows of this training, which are lost"
    (run_copy.path / "metrics.csv").write_text("step\n3\n")
    assert glance(run_copy).line == f"finished  step 3  {lost.format(5)}"
    (run_copy.path / "metrics.csv").unlink()
    assert glance(run_copy).line == f"finished, {lost.format(6)}"
    assert glance(run_copy.update(status="imported")).line == "imported, without a log"
    for path in run_copy.checkpoints():
        path.unlink()
    assert glance(run_copy.update(status="interrupted")).line == "interrupted, no step yet"


def test_judging_without_held_out_shapes_is_refused_before_it_begins(run_copy, cli, tmp_path):
    shapes = VoxelSet.open(run_copy.dataset_path()).select([], "train")
    shapes.write(tmp_path / "seen")
    result = cli("watch", run_copy.path, "--judge", 50, "--reference", tmp_path / "seen")
    assert result.exit_code == 1
    assert "has no held-out (test) shapes" in result.stderr
    assert "step" not in result.stdout


def test_a_run_that_ends_between_two_looks_was_not_killed(run_copy, monkeypatch):
    run = run_copy.update(status="running")

    def ends(run):
        run.update(status="finished")
        return False

    monkeypatch.setattr("gan3d_eval.watch.is_training", ends)
    assert glance(run).status == "finished"
