"""The latent space from inside: paths, single dimensions, recovery of shapes; and the verb on a small run."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
import trimesh
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from torch import nn

from gan3d_eval.embedding import Embedding
from gan3d_eval.explore import explore
from gan3d_eval.feature_map import feature_map
from gan3d_eval.latent import effects, iou, linear, spherical
from gan3d_eval.report import report
from gan3d_eval.run_dir import RunDir
from gan3d_eval.training_set import training_set
from gan3d_eval.voxels import VoxelSet, pack
from gan3d_model.config import TrainConfig
from gan3d_model.latent import CheckpointSpace

CONFIG = TrainConfig(resolution=16, latent_dim=6, prior="normal")
SMALL = {"POOL": 120, "GROUP": 20, "PAIRS": 6, "SHOWN": 2, "FRAMES": 3, "BASES": 2, "STRONGEST": 2, "STEPS": 5, "MOST": 60}
vectors = arrays(np.float32, 5, elements=st.floats(-3, 3, width=32))


@pytest.fixture
def little(monkeypatch):
    """Explore few shapes: what is drawn of many is drawn of few."""
    for name, value in SMALL.items():
        monkeypatch.setattr(f"gan3d_eval.explore.{name}", value)
    monkeypatch.setattr("gan3d_eval.feature_map.THUMBNAILS", 4)
    monkeypatch.setattr(CheckpointSpace.recover, "__defaults__", (20, 0.05))


class Slabs(nn.Module):
    """A generator that can be seen through: each of the first z's says how thick one slab is; the last does nothing."""

    def __init__(self, used: int = 5) -> None:
        super().__init__()
        self.used, self.bias = used, nn.Parameter(torch.zeros(1))

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        z = torch.arange(16.0)
        volume = torch.full((len(latents), 16, 16, 16), -4.0)
        for i in range(self.used):
            thick = 8 + 3 * latents[:, i, None] - z  # (B, 16): positive up to the slab's thickness
            volume[:, 3 * i : 3 * i + 2] = thick[:, None, None].expand(-1, 2, 16, -1)
        return torch.sigmoid(volume + self.bias)


@given(vectors, vectors, st.sampled_from([linear, spherical]), st.sampled_from([0.0, 0.5]))
def test_paths_begin_and_end_where_they_should_and_stay_finite(a, b, way, centre):
    path = way(a, b, 7, centre)
    assert path.shape == (7, 5)
    np.testing.assert_allclose(path[[0, -1]], [a, b], atol=1e-4)
    assert np.isfinite(path).all()


def test_great_circle_keeps_the_distance_from_the_centre_where_the_straight_line_does_not():
    a, b = np.eye(2, dtype=np.float32)
    np.testing.assert_allclose(spherical(a, b, 3)[1], [0.5**0.5] * 2, rtol=1e-6)
    np.testing.assert_allclose(linear(a, b, 3)[1], [0.5, 0.5])
    np.testing.assert_allclose(spherical(a + 0.5, b + 0.5, 3, 0.5)[1], [0.5 + 0.5**0.5] * 2, rtol=1e-6)


def test_opposite_latents_are_joined_by_the_straight_line():
    a = np.array([1.0, 2.0], np.float32)
    np.testing.assert_allclose(spherical(a, -a, 3)[1], 0, atol=1e-6)


def space(prior="normal", generator=None):
    return CheckpointSpace(generator or Slabs(), dataclasses.replace(CONFIG, prior=prior))


def test_a_single_dimension_moves_between_the_tails_of_its_prior():
    assert space("uniform").ends == (0.05, 0.95)
    assert space("normal").ends == pytest.approx((-1.6449, 1.6449), abs=1e-4)
    assert space("normal0.33").ends == pytest.approx((-0.5428, 0.5428), abs=1e-4)
    for prior in ("uniform", "normal", "normal0.33"):  # as the prior itself says
        drawn = space(prior).draw("tails", 20_000)
        np.testing.assert_allclose(np.quantile(drawn, [0.05, 0.95]), space(prior).ends, atol=0.02)
        assert drawn.mean() == pytest.approx(space(prior).centre, abs=0.01)


def test_overlap_of_packed_grids_by_hand():
    a, b = np.zeros((2, 4, 4, 4), bool), np.zeros((2, 4, 4, 4), bool)
    a[0, 0], b[0, :2] = True, True
    np.testing.assert_allclose(iou(pack(a), pack(b)), [0.5, 1.0])  # the second pair is empty


def test_dimension_that_g_ignores_has_no_effect():
    found = effects(space(), np.zeros((3, 6), np.float32))
    assert (found[:5] > 0.05).all()
    assert found[5] == 0
    np.testing.assert_allclose(found[:5], found[0])


@pytest.mark.parametrize("prior", ["normal", "normal0.33", "uniform"])
def test_what_g_can_make_is_recovered_and_the_latent_stays_in_the_prior(prior):
    of, random = space(prior), np.random.default_rng(0)
    truth = 0.8 * random.random((4, 6)) if prior == "uniform" else 0.3 * random.normal(size=(4, 6))
    shapes = of.shapes(truth.astype(np.float32))
    latents, overlap = of.recover(shapes, np.full((4, 6), of.centre, np.float32))
    assert (overlap > 0.97).all()
    np.testing.assert_allclose(iou(shapes.packed, of.shapes(latents).packed), overlap)
    if prior == "uniform":
        assert latents.min() >= 0
        assert latents.max() <= 1
    else:
        most = {"normal": 4.1, "normal0.33": 1.36}[prior]  # √χ²₀.₉₉(6) = 4.10
        assert np.linalg.norm(latents, axis=1).max() <= most


def test_what_g_cannot_make_is_not_recovered():
    grids = np.zeros((1, 16, 16, 16), bool)
    grids[0, 15] = True  # where no slab ever lies
    _, overlap = space().recover(VoxelSet.from_grids(grids), np.zeros((1, 6), np.float32), steps=20)
    assert overlap[0] < 0.2


def test_recovery_never_ends_worse_than_it_began():
    start = np.zeros((1, 6), np.float32)
    _, overlap = space().recover(space().shapes(start), start, steps=5, lr=10.0)
    assert overlap[0] == 1


def test_map_puts_alike_shapes_together_and_learns_its_axes_from_training_shapes_alone(box_sets):
    train, test, gen = box_sets
    rows, shown, label = feature_map({"train": train, "test": test, "generated": gen}, None)
    again, _, _ = feature_map({"train": train, "generated": gen.take(np.arange(50))}, None)
    assert label == "principal components of voxels pooled to 8³"
    assert {name: len(shapes) for name, shapes in shown.items()} == {"train": 300, "test": 150, "generated": 200}
    np.testing.assert_allclose(
        rows.loc[rows["set"] == "train", ["x", "y"]], again.loc[again["set"] == "train", ["x", "y"]], atol=1e-9
    )
    volume = Embedding("volume", "0", lambda shapes: np.stack([shapes.volume, -(shapes.volume**2)], 1).astype(np.float32))
    rows, shown, _ = feature_map({"train": train}, volume)
    assert abs(np.corrcoef(rows["x"], shown["train"].volume)[0, 1]) > 0.9


def test_explore_draws_and_measures_every_part_and_repeats_itself(cli, run_copy: RunDir, little):
    done = cli("explore", run_copy.path, "--recover", 3)
    assert done.exit_code == 0, done.output
    names = {path.name for path in run_copy.pictures("figures") if path.stem.startswith("explore")}
    assert names >= {"explore-paths.png", "explore-morph.gif", "explore-arithmetic.png", "explore-dimensions.png"}
    assert names >= {"explore-recovery-train.png", "explore-recovery-test.png", "explore-map.png"}
    first = run_copy.results()["explore"]
    assert 0 < first["values"]["largest_jump"] <= 1
    assert 0 <= first["values"]["recovered_train"] <= 1
    assert first["values"]["recovered_train"] >= first["values"]["nearest_sample_train"]
    with Image.open(run_copy.path / "figures" / "explore-morph.gif") as animation:
        assert animation.n_frames == 2 * SMALL["FRAMES"]
    table = (run_copy.path / "results" / "explore.csv").read_bytes()
    assert cli("explore", run_copy.path, "--recover", 3).exit_code == 0
    assert (run_copy.path / "results" / "explore.csv").read_bytes() == table


def test_parts_that_are_not_asked_for_leave_no_stale_picture(cli, run_copy: RunDir, little):
    assert cli("explore", run_copy.path, "--parts", "dimensions,paths").exit_code == 0
    assert cli("explore", run_copy.path, "--parts", "dimensions").exit_code == 0
    assert [path.name for path in run_copy.pictures("figures") if path.stem.startswith("explore")] == ["explore-dimensions.png"]


def test_an_interrupted_tour_leaves_the_one_before_whole(run_copy: RunDir, little, monkeypatch):
    def tour(*parts, seed=0):
        explore(run_copy, CheckpointSpace.open(run_copy), None, None, parts, seed=seed)

    def interrupted(*arguments):
        raise KeyboardInterrupt

    tour("dimensions", "paths")
    before = {path.name: path.read_bytes() for path in (run_copy.path / "figures").iterdir()}
    monkeypatch.setattr("gan3d_eval.explore._arithmetic", interrupted)
    with pytest.raises(KeyboardInterrupt):
        tour("paths", "arithmetic", seed=3)
    assert {path.name: path.read_bytes() for path in (run_copy.path / "figures").iterdir()} == before


def test_without_a_dataset_what_needs_it_is_absent_with_a_reason(run_copy: RunDir, little):
    result, rows = explore(run_copy, CheckpointSpace.open(run_copy), None, None, ("paths", "recovery", "map"), n_recover=2)
    looked_for = rows.loc[rows["part"] == "recovery", "item"]
    assert looked_for.str.match("samples:drawn-[0-9]{4}").all()  # the run's samples are others, and called otherwise
    assert {"jaccard_midway", "recovered_train", "recovered_test", "map"} <= set(result.absent)
    assert "--reference" in result.absent["map"]
    assert "recovered_samples" in result.values


def test_empty_shapes_are_not_looked_for(run_copy: RunDir, little):
    """G finds nothing with an IoU of 1: that would count as the best recovery of all."""
    grids = np.concatenate([run_copy.samples().grids([0, 1]), np.zeros((2, 16, 16, 16), bool)])
    space = CheckpointSpace.open(run_copy)
    for rows, n in ((slice(0, 4), 2), (slice(2, 4), 0)):
        theirs = VoxelSet.from_grids(grids[rows])
        result, table = explore(run_copy, space, None, None, ("recovery",), n_recover=2, theirs=theirs)
        assert table["item"].str.startswith("theirs:").sum() == 2 * n  # two measures of each
        assert ("recovered_theirs" in result.values) == bool(n)
        assert result.absent.get("recovered_theirs", "") == ("" if n else "all of the shapes drawn are empty")


def test_empty_samples_are_at_no_end_of_an_attribute(run_copy: RunDir, little, monkeypatch):
    """They are the least in every respect: all directions would be the one from nothing to something."""
    made, n = CheckpointSpace.shapes, 0

    def emptied(self, latents):
        grids = made(self, latents).grids()
        grids[:n] = False
        return VoxelSet.from_grids(grids)

    monkeypatch.setattr(CheckpointSpace, "shapes", emptied)
    for n in (60, 90):  # of 120, of which 20 make either end
        result, rows = explore(run_copy, CheckpointSpace.open(run_copy), None, None, ("arithmetic",))
        assert ("moved_volume" in result.values) == (n == 60)
    assert result.absent["moved_volume"] == "only 30 of 120 samples not empty"
    assert not len(rows)


def test_held_out_shapes_that_all_stand_in_training_are_none(run_copy: RunDir, little):
    train = training_set(run_copy)[0]
    result, rows = explore(run_copy, CheckpointSpace.open(run_copy), train, train, ("recovery", "map"), n_recover=2)
    assert "stand in training too" in result.absent["recovered_test"]
    assert set(rows.loc[rows["part"] == "map", "item"].str.partition(":")[0]) == {"train", "generated"}


def test_anyones_shape_is_looked_for(cli, run_copy: RunDir, tmp_path, little):
    grids = np.zeros((16, 16, 16), bool)
    grids[4:12, 4:12, :6] = True
    np.save(tmp_path / "box.npy", grids)
    done = cli("explore", run_copy.path, "--parts", "recovery", "--recover", 2, "--shape", tmp_path / "box.npy")
    assert done.exit_code == 0, done.output
    assert "recovered_theirs" in run_copy.results()["explore"]["values"]
    trimesh.creation.box().export(tmp_path / "box.off")  # as large as the data set's meshes were made
    done = cli("explore", run_copy.path, "--parts", "recovery", "--recover", 2, "--shape", tmp_path / "box.off")
    assert done.exit_code == 0, done.output
    assert "recovered_theirs" in run_copy.results()["explore"]["values"]
    np.save(tmp_path / "large.npy", np.ones((20, 20, 20), bool))
    failed = cli("explore", run_copy.path, "--parts", "recovery", "--shape", tmp_path / "large.npy")
    assert failed.exit_code == 1
    assert "20³" in failed.stderr
    assert "16³" in failed.stderr


def test_unknown_part_and_missing_checkpoint_are_refused(cli, run_copy: RunDir):
    assert "paths, arithmetic" in cli("explore", run_copy.path, "--parts", "everything").output
    for path in run_copy.checkpoints():
        path.unlink()
    failed = cli("explore", run_copy.path)
    assert failed.exit_code == 1
    assert "no checkpoint" in failed.stderr


def test_explored_beside_other_shapes_a_run_keeps_what_it_has(cli, run_copy: RunDir, little):
    for other in ((), ("--reference", run_copy.dataset_path(), "--class", "table")):
        assert cli("explore", run_copy.path, "--parts", "map,dimensions", *other).exit_code == 0
    assert {"explore", "explore-furniture-table"} <= set(run_copy.results())
    pictures = [path.name for path in run_copy.pictures("figures") if path.stem.startswith("explore")]
    assert pictures == [
        "explore-dimensions.png", "explore-furniture-table-dimensions.png", "explore-furniture-table-map.png", "explore-map.png",
    ]  # fmt: skip
    page = report([run_copy]).read_text()
    assert "where their features put them (explore-furniture-table)" in page
