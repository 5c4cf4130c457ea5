"""Comparison of sets: an honest sampler scores as real shapes do; each way of failing shows in the measure made for it."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from gan3d_eval.compare import MEASURES, SETS, compare
from gan3d_eval.report import report
from gan3d_eval.run_dir import RunDir
from gan3d_eval.voxels import VoxelError, VoxelSet


def against(box_sets, gen):
    return compare(box_sets[0], box_sets[1], gen, draws=20)[0].values


def test_an_honest_sampler_scores_as_real_shapes_do(box_sets):
    result, rows = compare(*box_sets, draws=50)
    values = result.values
    assert values["n"] == 150
    assert values["one_nna_l1"] == pytest.approx(0.5, abs=0.07)
    assert values["coverage_l1"] == pytest.approx(values["coverage_l1/real"], abs=0.06)
    assert values["mmd_l1"] == pytest.approx(values["mmd_l1/real"], rel=0.05)
    assert values["valid"] == pytest.approx(0.98, abs=0.04)
    interval = result.intervals["one_nna_l1"]
    assert interval["low"] <= values["one_nna_l1"] <= interval["high"]
    assert interval["kind"] == "central 95 % of 50 draws of 150 from 200"
    assert set(zip(rows["set"], rows["measure"], strict=True)) == {(s, m) for s in SETS for m in MEASURES}


def test_a_collapsed_generator_covers_little_and_is_told_apart(box_sets):
    one = box_sets[2].take(np.zeros(150, np.int64))
    values = against(box_sets, one)
    assert values["coverage_l1"] == pytest.approx(1 / 150)
    assert values["one_nna_l1"] > 0.9
    assert values["valid"] in (0, 1)


def test_half_of_the_modes_missing_shows_in_coverage(box_sets):
    small = box_sets[2].take(np.flatnonzero(box_sets[2].volume < np.median(box_sets[2].volume)))
    values = against(box_sets, small)
    assert values["coverage_l1"] < 0.85 * values["coverage_l1/real"]
    assert values["ks_volume"] > 0.4


def test_a_copycat_is_as_good_as_real_and_the_result_says_so(box_sets):
    train, test, _ = box_sets
    result, _ = compare(train, test, train, draws=50)
    assert result.values["coverage_l1"] == pytest.approx(result.values["coverage_l1/real"], abs=0.02)
    assert any("cannot see copying" in note for note in result.notes)


def test_noise_of_the_datas_frequencies_fools_jsd_but_not_coverage(box_sets):
    values = compare(*box_sets, draws=20)[0].values
    assert values["jsd/noise"] < 2 * values["jsd/real"]
    assert values["coverage_l1/noise"] < 0.3 * values["coverage_l1/real"]
    assert values["ks_components/noise"] > values["ks_components/real"] + 0.3


def test_empty_shapes_are_counted_and_what_they_do_not_have_is_absent(box_sets):
    d = box_sets[0].resolution
    empty = VoxelSet.from_grids(np.zeros((20, d, d, d), bool))
    result, _ = compare(box_sets[0], box_sets[1], empty)
    assert result.values["empty"] == 1
    assert result.values["valid"] == 0
    assert result.absent["jsd"] == "only empty shapes in a draw"
    assert "jsd" not in result.values
    assert result.values["jsd/real"] >= 0
    json.dumps(result.to_dict(), allow_nan=False)


def test_same_seed_same_values_and_the_protocol_names_what_moves_them(box_sets):
    train, test, gen = box_sets
    first, again = (compare(train, test, gen, draws=5, seed=1)[0] for _ in range(2))
    assert first.values == again.values
    fewer = compare(train, test, gen.take(np.arange(50)), draws=5)[0]
    assert fewer.values["n"] == 50
    assert fewer.protocol != first.protocol


@pytest.mark.parametrize(
    ("test", "gen", "message"),
    [
        (None, 200, "no held-out"),
        (150, 9, r"\d+ training shapes, 150 held-out shapes and 9 samples to compare; at least 10 of each"),
    ],
)
def test_too_little_to_compare_is_one_clear_line(box_sets, test, gen, message):
    with pytest.raises(VoxelError, match=message):
        compare(box_sets[0], box_sets[1] if test else None, box_sets[2].take(np.arange(gen)))


def test_other_resolutions_are_refused(box_sets):
    with pytest.raises(VoxelError, match="samples are 8³, training shapes 16³"):
        compare(box_sets[0], box_sets[1], VoxelSet.from_grids(np.ones((20, 8, 8, 8), bool)))


def test_the_command_prints_a_table_and_the_report_shows_it(run_copy, cli):
    done = cli("compare", run_copy.path, "--draws", 5)
    assert done.exit_code == 0, done.output
    run = RunDir.open(run_copy.path)
    rows = pd.read_csv(run.path / "results" / "compare.csv")
    assert set(rows["set"]) == set(SETS)
    assert [line.split()[:4] for line in done.output.splitlines() if "mean-shape" in line] == [list(SETS)]
    assert any(line.startswith("coverage_l1 ") for line in done.output.splitlines())
    assert (run.path / "figures" / "compare-measures.png").stat().st_size > 10_000
    html = report([run]).read_text()
    assert '<th scope="col">mean-shape</th>' in html
    assert "Coverage (COV), L1" in html
    assert html.count("Intervals, where nothing else is said: central 95 % of 5 draws") == 1
    assert html.count("central 95 % of 5 draws") == 1
    assert cli("check-run", run.path).exit_code == 0
