"""Anybody's generator is judged from a batch of grids; what is no batch of grids leaves nothing behind."""

from __future__ import annotations

import json

import numpy as np
import pytest

from gan3d_eval.check_run import check_run
from gan3d_eval.run_dir import RunDir
from gan3d_eval.voxels import VoxelSet


@pytest.fixture
def sofas(dataset_dir):
    return VoxelSet.open(dataset_dir).select(["sofa"], "train").grids()


@pytest.mark.parametrize("save", [
    lambda p, g: np.save(p.with_suffix(".npy"), g), lambda p, g: np.save(p.with_suffix(".npy"), g[:, None].astype(np.float32)),
    lambda p, g: np.savez(p.with_suffix(".npz"), samples=g.astype(np.uint8) * 255, labels=np.zeros(len(g))),
    lambda p, g: np.savez_compressed(p.with_suffix(".npz"), g.astype(np.int8) * 2 - 1),
])  # fmt: skip
def test_every_encoding_becomes_the_same_run_and_a_copycat_is_caught(tmp_path, sofas, dataset_dir, cli, save):
    save(tmp_path / "theirs", sofas)
    source = next(tmp_path.iterdir())
    done = cli("import-run", source, tmp_path / "run", "--dataset", dataset_dir, "--class", "sofa")
    assert done.exit_code == 0, done.stderr
    assert done.stdout.strip() == str(tmp_path / "run")
    run = RunDir.open(tmp_path / "run")
    assert np.array_equal(run.samples().grids(), sofas)
    assert run.meta["status"] == "imported"
    assert run.meta["seed"] is run.meta["prior"] is None
    assert check_run(run.path) == []
    judged = cli("nn-check", run.path, "--json", "--fail-above", 0.02)
    assert judged.exit_code == 3
    assert json.loads(judged.stdout)["values"]["exact_copies"] == 24


def test_probabilities_are_cut_at_the_threshold_that_was_asked_for(tmp_path, sofas, cli):
    np.save(tmp_path / "soft.npy", sofas * np.float32(0.3))
    assert cli("import-run", tmp_path / "soft.npy", tmp_path / "half").exit_code == 0
    assert cli("import-run", tmp_path / "soft.npy", tmp_path / "tenth", "--threshold", 0.1).exit_code == 0
    half, tenth = (RunDir.open(tmp_path / name) for name in ("half", "tenth"))
    assert half.samples().volume.sum() == 0
    assert tenth.samples().volume.sum() == sofas.sum()
    assert tenth.meta["grid"]["threshold"] == 0.1


def test_a_run_without_a_dataset_still_has_pictures_and_asks_for_a_reference(tmp_path, sofas, cli, dataset_dir):
    np.save(tmp_path / "a.npy", sofas[:4])
    cli("import-run", tmp_path / "a.npy", tmp_path / "run")
    done = cli("nn-check", tmp_path / "run")
    assert done.exit_code == 1
    assert "--reference DATASET_DIR" in done.stderr
    assert cli("nn-check", tmp_path / "run", "--reference", dataset_dir).exit_code == 0
    assert (tmp_path / "run/results/nn-check-furniture.json").exists()


@pytest.mark.parametrize(("make", "reason"), [
    (lambda p, g: np.save(p, np.where(np.arange(16) == 3, np.nan, g)), "24 of 24 shapes hold NaN"),
    (lambda p, g: np.save(p, np.zeros((0, 16, 16, 16))), "zero shapes"),
    (lambda p, g: np.save(p, g[:, :8, :8, :8]), "holds 8³ grids, but dataset .* has 16³"),
    (lambda p, g: np.save(p, g[:, :8]), "no batch of cubic grids"),
    (lambda p, g: np.save(p, np.array([{}], dtype=object), allow_pickle=True), "of numbers"),
    (lambda p, g: p.write_bytes(b"\x93NUMPY"), "truncated"),
    (lambda p, g: None, "missing"),
])  # fmt: skip
def test_what_cannot_be_judged_is_refused_and_nothing_is_left_behind(tmp_path, sofas, dataset_dir, cli, make, reason):
    make(tmp_path / "a.npy", sofas)
    done = cli("import-run", tmp_path / "a.npy", tmp_path / "run", "--dataset", dataset_dir)
    assert done.exit_code == 1
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    import re

    assert re.search(reason, done.stderr)
    assert not (tmp_path / "run").exists()


def test_several_batches_in_one_file_are_not_guessed_between(tmp_path, sofas, cli):
    np.savez(tmp_path / "a.npz", one=sofas, two=sofas)
    done = cli("import-run", tmp_path / "a.npz", tmp_path / "run")
    assert done.exit_code == 1
    assert "2 arrays that could be grids (one (24, 16, 16, 16), two (24, 16, 16, 16)); expected exactly one" in done.stderr


def test_a_run_that_is_there_is_not_replaced(tmp_path, sofas, cli, run_copy):
    np.save(tmp_path / "a.npy", sofas)
    done = cli("import-run", tmp_path / "a.npy", run_copy.path)
    assert done.exit_code == 1
    assert "already exists" in done.stderr
    assert len(run_copy.samples()) == 40
