"""Data sets side by side: numbers that are shares, diversities equal to brute force, and what cannot be said left out."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from gan3d_eval.describe import ALL, describe, diversity, draw, published
from gan3d_eval.files import write_json
from gan3d_eval.voxels import VoxelError, VoxelSet, pack


def boxes(n, side=16, name="boxes", classes=("a",), seed=0):
    """Cuboids of random sides from half the grid to all of it, in its corner; every fourth is held out."""
    rng = np.random.default_rng(seed)
    grids = np.zeros((n, side, side, side), bool)
    for grid, (x, y, z) in zip(grids, rng.integers(side // 2, side, (n, 3), endpoint=True), strict=True):
        grid[:x, :y, :z] = True
    table = pd.DataFrame(
        {
            "name": [f"s{i}" for i in range(n)],
            "class": [classes[i % len(classes)] for i in range(n)],
            "split": ["test" if i % 4 == 3 else "train" for i in range(n)],
        }
    )
    return VoxelSet(pack(grids), side, table, {"name": name})


def enlarged(shapes, name):
    """The same shapes with every voxel as 2 × 2 × 2."""
    grids = shapes.grids()
    for axis in (1, 2, 3):
        grids = grids.repeat(2, axis)
    return VoxelSet(pack(grids), 2 * shapes.resolution, shapes.table, {"name": name})


def brute(grids):
    flat = grids.reshape(len(grids), -1)
    both, either = flat[:, None] & flat[None], flat[:, None] | flat[None]
    return 1 - both.sum(axis=2) / either.sum(axis=2)


def test_diversity_equals_brute_force_over_all_pairs():
    shapes = boxes(30, 8)
    jaccard = brute(shapes.grids())
    found = diversity(shapes, 30)
    off = jaccard[~np.eye(30, dtype=bool)].reshape(30, 29)
    assert found["pair_jaccard"] == pytest.approx(off.mean())
    assert found["nn_jaccard"] == pytest.approx(np.median(off.min(axis=1)))
    left_out = [np.delete(np.delete(jaccard, i, 0), i, 1).sum() / (29 * 28) for i in range(30)]
    error = np.sqrt(29 / 30 * ((np.array(left_out) - np.mean(left_out)) ** 2).sum())
    assert found["pair_jaccard_high"] - found["pair_jaccard"] == pytest.approx(1.96 * error)
    own = np.sort(off.min(axis=1))
    assert (found["nn_jaccard_low"], found["nn_jaccard_high"]) == pytest.approx(
        (own[9], own[20])
    )  # 10th and 21st of 30: binomial


def test_intervals_hold_the_value_of_the_whole_set_about_as_often_as_they_say():
    shapes = boxes(300, 8, seed=3)
    whole = brute(shapes.grids())[~np.eye(300, dtype=bool)].mean()
    inside = [
        f["pair_jaccard_low"] <= whole <= f["pair_jaccard_high"] for f in (diversity(shapes, 30, seed) for seed in range(60))
    ]
    assert np.mean(inside) > 0.85


def test_the_draw_depends_on_the_seed_alone_and_all_shapes_on_nothing():
    shapes = boxes(40, 8)
    assert diversity(shapes, 25, 1) == diversity(shapes, 25, 1) != diversity(shapes, 25, 2)
    mixed = shapes.take(np.random.default_rng(0).permutation(40))
    assert diversity(shapes, 40, 1) == pytest.approx(diversity(mixed, 40, 2))


def test_identical_shapes_have_no_diversity_and_no_interval():
    same = boxes(1).take(np.zeros(25, int))
    result, _, _ = describe([same])
    assert result.values["boxes/nn_jaccard"] == result.values["boxes/pair_jaccard"] == 0
    assert result.intervals == {}


def test_shares_do_not_depend_on_the_resolution():
    shapes = boxes(30)
    result, rows, _ = describe([shapes, enlarged(shapes, "large")])
    small, large = rows.drop(columns=["dataset", "resolution"]).to_dict("records")
    assert small == pytest.approx(large)
    assert (result.values["boxes/resolution"], result.values["large/resolution"]) == (16, 32)
    assert any("depend on the resolution" in note for note in result.notes)


def test_numbers_of_a_set_by_hand():
    grids = np.zeros((4, 8, 8, 8), bool)
    grids[0, :4, :4, :4] = True  # 64 of 512 voxels
    grids[1, :8, :4, :4] = True  # 128
    grids[2, :4, :4, :8] = True  # 128
    table = pd.DataFrame({"name": list("wxyz"), "class": "a", "split": ["train", "train", "val", "test"]})
    result, rows, shapes = describe([VoxelSet(pack(grids), 8, table)])
    row = rows.iloc[0]
    assert (row["dataset"], row["class"], row["n"], row["train"], row["held_out"], row["classes"]) == ("set 1", ALL, 4, 2, 2, 1)
    assert (row["occupancy_q25"], row["occupancy"], row["occupancy_q75"]) == (0.1875, 0.25, 0.25)
    assert (row["extent_x"], row["extent_y"], row["extent_z"]) == (0.5, 0.5, 0.5)
    assert (row["solid"], row["empty"], row["in_parts"]) == (0.75, 0.25, 0)
    assert len(shapes) == 4
    assert result.values["set 1/symmetry_x"] == 1
    assert "set 1/nn_jaccard" not in result.values
    assert result.absent["set 1/nn_jaccard"] == "no diversity, for fewer than 20 shapes are not empty"


def test_classes_have_their_own_rows_and_all_draw_as_many_as_the_smallest_can():
    shapes = boxes(100, classes=("a", "a", "a", "b"))
    few = boxes(10, name="few")
    result, rows, _ = describe([shapes, few])
    assert list(zip(rows["dataset"], rows["class"], rows["n"], strict=True)) == [
        ("boxes", ALL, 100), ("boxes", "a", 75), ("boxes", "b", 25), ("few", ALL, 10)]  # fmt: skip
    assert rows["drawn"].tolist()[:3] == [25, 25, 25]
    assert np.isnan(rows["drawn"].iloc[3])
    assert result.protocol == "describe-drawn25"
    alone, _, _ = describe([shapes.select(["b"])])
    assert rows.loc[2, "nn_jaccard"] == alone.values["boxes/nn_jaccard"]
    assert any("few/(all)" in note for note in result.notes)
    low, high = (result.intervals["boxes/nn_jaccard"][end] for end in ("low", "high"))
    assert low <= result.values["boxes/nn_jaccard"] <= high


def test_a_set_of_empty_shapes_is_described_as_far_as_it_goes(tmp_path):
    empty = VoxelSet.from_grids(np.zeros((3, 8, 8, 8), bool))
    result, _, _ = describe([empty, boxes(30, 8)])
    assert result.values["set 1/empty"] == 1
    assert result.absent["set 1/occupancy"] == "all shapes are empty"
    write_json(tmp_path / "describe.json", result.to_dict())
    assert json.loads((tmp_path / "describe.json").read_text())["status"] == "partial"


@pytest.mark.parametrize("sets", [1, 3])
def test_the_figure_is_drawn_for_one_set_and_for_many_even_if_one_is_empty(tmp_path, sets):
    many = [boxes(60, 8, f"a rather long name {i}", [f"class-{j:02d}" for j in range(22)], seed=i) for i in range(sets)]
    many[1:2] = [VoxelSet.from_grids(np.zeros((3, 8, 8, 8), bool))] * (sets > 1)
    _, rows, shapes = describe(many)
    page = np.asarray(Image.open(draw(tmp_path / "figure.png", rows, shapes)))
    assert page.shape[1] > 1500
    assert (page[..., :3].min(axis=2) < 200).mean() > 0.02


def test_published_figures_stand_beside_ours_with_their_sources():
    table = published()
    assert list(table.columns) == ["name", "shapes", "categories", "source"]
    sizes = table.set_index("name")[["shapes", "categories"]].T.to_dict("list")
    assert sizes["ModelNet10"] == [4899, 10]
    assert sizes["ModelNet40"] == [12311, 40]
    assert sizes["ShapeNetCore"] == [51300, 55]
    assert table["source"].str.contains("checked|not verified").all()
    result, _, _ = describe([boxes(30, 8)])
    assert sum(note.startswith("Published: ") for note in result.notes) == len(table)


def test_what_cannot_be_described_is_refused():
    shapes = boxes(30, 8)
    with pytest.raises(VoxelError, match="none; expected at least one"):
        describe([])
    with pytest.raises(VoxelError, match="boxes, boxes; expected at least one, and no name twice"):
        describe([shapes, shapes])
    with pytest.raises(VoxelError, match="19 shapes to draw for diversity; expected at least 20"):
        describe([shapes], n=19)
    with pytest.raises(VoxelError, match="no shapes"):
        describe([VoxelSet.from_packed(np.zeros((0, 8), np.uint8), 4)])
    with pytest.raises(VoxelError, match="31 shapes to draw for diversity; expected 3 to 30"):
        diversity(shapes, 31)


def test_real_beds_at_two_resolutions_by_two_voxelisers_are_alike(real_data):
    paths = [real_data / "voxels" / name for name in ("bed-64/modelnet10_bed.npz", "modelnet10-30/modelnet10.npz")]
    if missing := [path for path in paths if not path.is_file()]:
        pytest.skip(f"no {missing[0]}")
    fine, coarse = np.load(paths[0])["X_train"][-100:] > 0, np.load(paths[1])
    beds = coarse["X_test"][coarse["y_test"] == 1] > 0
    _, rows, _ = describe([VoxelSet.from_grids(fine), VoxelSet.from_grids(beds)], n=100)
    assert rows["resolution"].tolist() == [64, 30]
    assert (rows["solid"] > 0.9).all()
    assert rows["symmetry_x"].between(0.9, 1).all()
    sides = rows[["extent_x", "extent_z"]].div(rows["extent_y"], axis=0)
    assert (sides.diff().abs().iloc[1] < 0.1).all()  # one voxel of the coarse grid is 0.04
    assert abs(rows["symmetry_y"].diff().iloc[1]) < 0.05
    assert (rows[["nn_jaccard", "pair_jaccard"]].diff().abs().iloc[1] < 0.15).all()  # centred in one, in a corner in the other


def test_width_is_width_in_grids_whose_first_axes_are_swapped():
    shapes = boxes(30)
    swapped = pack(shapes.grids().transpose(0, 2, 1, 3))
    theirs = VoxelSet(swapped, shapes.resolution, shapes.table, {"name": "theirs", "grid": {"axes": "yxz"}})
    ours, other = describe([shapes, theirs])[1].drop(columns="dataset").to_dict("records")
    assert {**other, "pair_jaccard": 0} == pytest.approx({**ours, "pair_jaccard": 0})
    assert ours["extent_x"] != ours["extent_y"]
