"""A case is opened once for all verbs: leaks between the splits are refused, or left out and said."""

from __future__ import annotations

import dataclasses
import shutil

import numpy as np
import pytest

from gan3d_eval.case import open_case
from gan3d_eval.compare import compare
from gan3d_eval.run_dir import RunDirError
from gan3d_eval.voxels import VoxelSet


@pytest.fixture
def leaking(run_copy, dataset_dir, tmp_path):
    """The run's dataset, four more of whose held-out sofas are training sofas (one was before)."""
    shapes = VoxelSet.open(dataset_dir)
    sofas = shapes.table["class"].eq("sofa")
    train, test = (np.flatnonzero(sofas & shapes.table["split"].eq(split)) for split in ("train", "test"))
    packed = np.array(shapes.packed)
    packed[test[:4]] = packed[train[:4]]
    info = {key: value for key, value in shapes.info.items() if key != "name"}
    VoxelSet(packed, shapes.resolution, shapes.table, info).write(tmp_path / "leaking")
    return tmp_path / "leaking"


def test_leaks_are_refused_with_both_ways_out(run_copy, leaking):
    with pytest.raises(RunDirError, match=r"5 of 24 held-out shapes of leaking stand in its training set too; `prepare --fix"):
        open_case(run_copy.path, leaking)


def test_other_held_out_shapes_do_not_replace_what_was_said_with_the_run_s_own(run_copy, dataset_dir, tmp_path):
    train = VoxelSet.open(dataset_dir).select([], "train")
    train.info.pop("name")
    train.write(tmp_path / "untested")
    assert open_case(run_copy.path, tmp_path / "untested").suffix == "untested"
    assert open_case(run_copy.path, shutil.copytree(dataset_dir, tmp_path / "copied")).suffix == ""
    without = run_copy.update(dataset=run_copy.meta["dataset"] | {"path": "gone"})  # then it is taken for the run's own
    assert open_case(without.path, tmp_path / "untested").suffix == ""


def test_a_few_leaks_are_left_out_without_asking(run_copy):
    case = open_case(run_copy.path)
    assert case.test.stands_in(case.train).sum() == 1


def test_leaks_that_are_allowed_are_left_out_and_said(run_copy, leaking):
    case = open_case(run_copy.path, leaking, allow_leak=True)
    result, _ = compare(case.train, case.test, case.gen, draws=2)
    assert result.values["n"] == 19
    assert "Held-out shapes that stand in the training set too, and were left out: 5." in result.notes


def test_the_commands_take_the_switch(cli, run_copy, leaking):
    for verb in ("nn-check", "compare"):
        assert cli(verb, run_copy.path, "--reference", leaking).exit_code == 1
        done = cli(verb, run_copy.path, "--reference", leaking, "--allow-leak")
        assert done.exit_code == 0, done.output
        assert (run_copy.path / "results" / f"{verb}-leaking.json").is_file()


def test_where_no_shapes_are_called_test_those_called_val_are_held_out(run_copy, dataset_dir, tmp_path):
    shapes = VoxelSet.open(dataset_dir)
    expected = open_case(run_copy.path).test
    called = shapes.table.assign(split=shapes.table["split"].replace("test", "val"))
    dataclasses.replace(shapes, table=called).write(tmp_path / "d")
    assert open_case(run_copy.path, tmp_path / "d").test.sha256 == expected.sha256
    called.loc[called["split"].eq("val").idxmax(), "split"] = "test"  # test goes before val
    dataclasses.replace(shapes, table=called).write(tmp_path / "e")
    assert len(open_case(run_copy.path, tmp_path / "e").test) == 1


def test_shapes_stand_in_a_set_voxel_for_voxel():
    grids = np.random.default_rng(0).random((6, 4, 4, 4)) < 0.5
    one, other = VoxelSet.from_grids(grids[:4]), VoxelSet.from_grids(grids[2:])
    assert one.stands_in(other).tolist() == [False, False, True, True]
    assert np.array_equal(one.apart_from(other).grids(), grids[:2])
    assert one.apart_from(one) is None
    assert other.take([2, 3]).apart_from(one).names == other.names[2:]
    assert one.take([2, 0, 2, 3, 0]).firsts().tolist() == [0, 1, 0, 3, 1]
