"""Beside the paper: published numbers keep their caveats, ours their intervals, and what does not compare is refused."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from gan3d_eval.foreign_shapes import read_shapes
from gan3d_eval.formats import write_binvox, write_mat
from gan3d_eval.modelnet import modelnet10
from gan3d_eval.paper_plots import comparison, draw, panel, published
from gan3d_eval.run_dir import RunDirError
from gan3d_eval.voxels import VoxelError, VoxelSet


def result(accuracy, classes=10, protocol="p", **more):
    around = {"low": accuracy - 0.02, "high": accuracy + 0.02, "kind": "95 % Wilson"}
    values = {"n_classes": classes, "accuracy": accuracy, "mean_class_accuracy": accuracy - 0.01} | more
    controls = {key: {"low": value - 0.03, "high": value + 0.03} for key, value in more.items()}
    return {"protocol": protocol, "values": values, "intervals": {"accuracy": around, "mean_class_accuracy": around} | controls}


@pytest.mark.parametrize(("classes", "least"), [(10, 10), (40, 10)])
def test_every_published_number_says_where_it_is_from_and_whether_anybody_checked(classes, least):
    rows = published(classes)
    assert len(rows) >= least
    assert rows["accuracy"].between(50, 100).all()
    assert rows["source"].str.len().gt(5).all()
    assert set(rows["verified"]) == {"yes", "no"}
    assert set(rows["averaging"]) <= {"overall", "mean class", "unstated"}
    paper = rows[rows["method"] == "3D-GAN"].iloc[0]
    assert (paper["accuracy"], paper["verified"]) == ({10: 91.0, 40: 83.3}[classes], "no")
    assert not rows.duplicated(["method", "kind"]).any()


def test_one_run_has_the_interval_of_its_accuracy_and_several_their_range(tmp_path):
    controls = {"accuracy/untrained-0": 0.80, "accuracy/untrained-1": 0.84, "accuracy/voxels-8": 0.85}
    rows = comparison({"a": result(0.90, **controls)}).set_index("method")
    three = ["accuracy", "low", "high"]
    assert rows.loc["ours, overall", three].tolist() == pytest.approx([90, 88, 92])
    assert rows.loc["our control: untrained (2 seeds)", three].tolist() == pytest.approx([82, 80, 84])
    assert rows.loc["our control: voxels-8", three].tolist() == pytest.approx([85, 82, 88])  # no surer than ours
    assert rows["interval"].dropna().tolist() == ["95 %", "95 %", "range", "95 %"]
    both = comparison({"a": result(0.90), "b": result(0.94, **controls)})  # one of which was judged without controls
    two = both.set_index("method")
    assert two.loc["ours, overall (2 runs)", three].tolist() == pytest.approx([92, 90, 94])
    assert two.loc["our control: untrained (2 seeds)", three].tolist() == pytest.approx([82, 80, 84])
    equal = comparison({"a": result(0.90, **(controls | {"accuracy/untrained-1": 0.80}))})["method"].tolist()
    assert "our control: untrained (2 seeds)" in equal  # which may well be right about as many shapes
    again = comparison({"a": result(0.90, **controls), "b": result(0.94, **controls)}).set_index("method")
    assert again.loc["our control: voxels-8", three].tolist() == pytest.approx([85, 82, 88])  # measured twice, and the same
    draw(both, tmp_path / "bars.png")
    assert (tmp_path / "bars.png").stat().st_size > 20_000


def test_what_does_not_compare_is_refused():
    with pytest.raises(RunDirError, match="classified on different shapes"):
        comparison({"a": result(0.9), "b": result(0.9, protocol="q")})
    with pytest.raises(RunDirError, match="10 or 40 classes; these runs were classified on 2"):
        comparison({"a": result(0.9, classes=2)})
    assert len(modelnet10()) == 10


def test_shapes_are_read_from_what_people_have_and_turned_upright(tmp_path, grids):
    write_mat(tmp_path / "a.mat", grids[0])
    write_binvox(tmp_path / "b.binvox", grids[1], up="y")
    assert np.array_equal(read_shapes([tmp_path / "a.mat"], "z", 0.5).grids()[0], grids[0])
    assert np.array_equal(read_shapes([tmp_path / "b.binvox"], "y", 0.5).grids()[0], grids[1])
    np.save(tmp_path / "c.npy", grids[:3, None].astype(np.float32) * 0.7)  # (n, 1, d, d, d), probabilities
    assert len(read_shapes([tmp_path / "a.mat", tmp_path / "c.npy"], "z", 0.5)) == 4
    (tmp_path / "both").mkdir()
    for name in ("a.mat", "b.binvox"):
        (tmp_path / name).rename(tmp_path / "both" / name)
    assert len(read_shapes([tmp_path / "both"])) == 2


def test_shapes_are_padded_as_those_were_that_they_stand_beside(tmp_path, grids):
    np.save(tmp_path / "a.npy", grids[:2, 1:-1, 1:-1, 1:-1])
    like = VoxelSet.from_grids(grids)
    with pytest.raises(VoxelError, match=r"a.npy holds 6³ grids, but dataset  has 8³"):
        read_shapes([tmp_path / "a.npy"], like=like)
    like = dataclasses.replace(like, info={"grid": {"longest_side": 6}})
    padded = read_shapes([tmp_path / "a.npy"], like=like).grids()
    assert np.array_equal(padded[:, 1:-1, 1:-1, 1:-1], grids[:2, 1:-1, 1:-1, 1:-1])
    assert padded.shape == (2, 8, 8, 8)


def test_files_that_hold_no_shapes_are_named(tmp_path, grids):
    with pytest.raises(VoxelError, match=r"missing.mat is missing"):
        read_shapes([tmp_path / "missing.mat"], "z", 0.5)
    (tmp_path / "text.mat").write_text("no")
    with pytest.raises(VoxelError, match=r"text.mat"):
        read_shapes([tmp_path / "text.mat"], "z", 0.5)
    for text in ("just words", "Epoch 1: loss_d=0.9, loss_g=1.2"):  # a training log is not wanted here
        (tmp_path / "notes.txt").write_text(text)
        with pytest.raises(VoxelError, match=r"notes\.txt holds no shapes that can be read; expected \.npy"):
            read_shapes([tmp_path / "notes.txt"])
    (tmp_path / "notes.txt").unlink()
    np.save(tmp_path / "one.npy", grids[0])
    with pytest.raises(VoxelError, match=r"text.mat"):  # nothing is left out without a word
        read_shapes([tmp_path])
    write_mat(tmp_path / "a.mat", grids[0])
    write_mat(tmp_path / "b.mat", np.ones((5, 5, 5), bool))
    with pytest.raises(VoxelError, match="files of resolutions 5, 8"):
        read_shapes([tmp_path / "a.mat", tmp_path / "b.mat"], "z", 0.5)


def test_their_shapes_stand_above_ours_and_ours_above_their_neighbours(tmp_path, grids):
    from PIL import Image

    theirs, ours = VoxelSet.from_grids(grids[:2]), VoxelSet.from_grids(grids[2:5])
    high = Image.open(panel(theirs, ours, VoxelSet.from_grids(grids), tmp_path / "three.png")).height
    low = Image.open(panel(theirs, ours, None, tmp_path / "two.png")).height
    assert high > low + 150


def test_the_command_says_what_is_missing(cli, run_copy, tmp_path, grids):
    done = cli("paper-plots", run_copy.path, "--out", tmp_path / "paper")
    assert done.exit_code == 1
    assert "make them with: python cli.py classify-features" in done.stderr
    assert "pass files of theirs with --theirs" in done.stderr
    write_mat(tmp_path / "a.mat", grids[0])
    done = cli("paper-plots", run_copy.path, "--out", tmp_path / "paper", "--theirs", tmp_path / "a.mat")
    assert (tmp_path / "paper-shapes.png").is_file(), done.output
