"""Runs side by side: values of one protocol together, of two apart, features only where one network judged them all."""

from __future__ import annotations

import shutil

import pandas as pd

from gan3d_eval.command_line import out_file
from gan3d_eval.compare import compare
from gan3d_eval.embedding import Embedding
from gan3d_eval.leaderboard import draw, leaderboard, table
from gan3d_eval.set_measures import told_apart


def pooled(shapes):
    """Features of no network: volume in each of 4³ blocks."""
    return shapes.grids().reshape(-1, 4, 4, 4, 4, 4, 4).sum(axis=(2, 4, 6)).reshape(len(shapes), -1).astype("float32")


def results(box_sets, *embeds, sizes=(150, 150)):
    train, test, gen = box_sets
    sets = {"honest": gen.take(range(sizes[0])), "copycat": train.take(range(sizes[1]))}
    pairs = zip(sets.items(), embeds or (None, None), strict=True)
    return {name: compare(train, test, one, draws=3, embed=embed)[0].to_dict() for (name, one), embed in pairs}


def test_one_protocol_is_one_block_with_the_runs_by_their_1_nna_and_real_shapes_last(box_sets, tmp_path):
    rows = leaderboard(results(box_sets))
    assert rows["protocol"].nunique() == 1
    first = told_apart(rows.pivot(index="run", columns="measure", values="value")).idxmin()
    lines = table(rows).splitlines()
    assert next(line.split()[0] for line in lines if line.startswith(("honest", "copycat", "real"))) == first
    assert lines[-1].startswith("real shapes")
    draw(rows, tmp_path / "board.png")
    assert (tmp_path / "board.png").stat().st_size > 5_000


def test_another_number_of_shapes_is_another_block(box_sets):
    rows = leaderboard(results(box_sets, sizes=(150, 60)))
    assert rows.groupby("run")["protocol"].nunique().eq(1).all()
    assert rows["protocol"].nunique() == 2
    assert table(rows).count("real shapes") == 2


def test_features_count_only_where_one_network_made_them_all(box_sets):
    one, other = Embedding("one", "1" * 64, pooled), Embedding("other", "2" * 64, pooled)
    assert "kid" in set(leaderboard(results(box_sets, one, one))["measure"])
    apart = leaderboard(results(box_sets, one, other))
    assert "kid" not in set(apart["measure"])
    assert apart["protocol"].nunique() == 1


def test_the_command_prints_one_table_and_writes_it(cli, run_copy, tmp_path):
    other = shutil.copytree(run_copy.path, run_copy.path.parent / "other")
    done = cli("compare", run_copy.path, other, "--draws", 2, "--no-features", "--out", tmp_path / "board.v2")
    assert done.exit_code == 0, done.output
    assert str(other) in done.stdout
    assert set(pd.read_csv(tmp_path / "board.v2.csv")["run"]) == {str(run_copy.path), str(other)}
    assert (tmp_path / "board.v2.png").is_file()
    assert out_file(tmp_path / "board.csv", ".png") == tmp_path / "board.png"


def test_features_that_are_left_out_are_named_with_what_brings_them_in(cli, run_copy):
    other = shutil.copytree(run_copy.path, run_copy.path.parent / "other")
    both = ("compare", run_copy.path, other, "--draws", 2)
    assert "left out" not in cli(*both).stderr  # the same weights: one discriminator
    shutil.rmtree(other / "checkpoints")
    done = cli(*both)
    assert "FD, KID and other measures of features are left out" in done.stderr
    assert "kid" not in done.stdout
    judged_by_one = cli(*both, "--features-from", run_copy.path)
    assert "left out" not in judged_by_one.stderr
    assert "kid" in judged_by_one.stdout
