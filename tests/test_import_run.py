"""Anybody's generator is judged from what it left; what cannot be judged leaves nothing behind."""

from __future__ import annotations

import json
import re
import shutil
from fnmatch import fnmatch

import numpy as np
import pytest
import torch
from test_import_weights import port
from test_orientation import chairs, inverse

from gan3d_eval.check_run import check_run
from gan3d_eval.files import Gan3dError
from gan3d_eval.foreign import Readers
from gan3d_eval.import_run import gather
from gan3d_eval.logs import LogError
from gan3d_eval.orientation import given
from gan3d_eval.run_dir import RunDir
from gan3d_eval.voxels import VoxelSet
from gan3d_model.data.as_dataset import mesh_reader
from gan3d_model.import_weights import read_weights
from gan3d_model.tensors import parse_grids


def import_run(source, target, dataset=None, classes=(), threshold=None, **options):
    return gather(source, dataset, list(classes), threshold, **options).write(target, [])


@pytest.fixture
def sofas(dataset_dir):
    return VoxelSet.open(dataset_dir).select(["sofa"], "train").grids()


@pytest.mark.parametrize("save", [
    lambda p, g: np.save(p.with_suffix(".npy"), g), lambda p, g: np.save(p.with_suffix(".npy"), g[:, None].astype(np.float32)),
    lambda p, g: np.savez(p.with_suffix(".npz"), samples=g.astype(np.uint8) * 255, labels=np.zeros(len(g))),
    lambda p, g: np.savez_compressed(p.with_suffix(".npz"), g.astype(np.int8) * 2 - 1),
    lambda p, g: np.save(p.with_suffix(".npy"), np.moveaxis(g, 0, -1)),
    lambda p, g: np.save(p.with_suffix(".npy"), inverse(given(None, "y").pose)(g)),
])  # fmt: skip
def test_every_encoding_becomes_the_same_run(tmp_path, sofas, dataset_dir, save):
    save(tmp_path / "theirs", sofas)
    source = next(tmp_path.iterdir())
    run = import_run(source, tmp_path / "run", dataset_dir, ["sofa"])
    assert np.array_equal(run.samples().grids(), sofas)
    assert run.meta["status"] == "imported"
    assert run.meta["seed"] is run.meta["prior"] is None
    assert check_run(run.path) == []


def test_a_copycat_is_caught(tmp_path, sofas, dataset_dir, cli):
    np.save(tmp_path / "a.npy", sofas)
    done = cli("import-run", tmp_path / "a.npy", tmp_path / "run", "--dataset", dataset_dir, "--class", "sofa")
    assert done.exit_code == 0, done.stderr
    assert done.stdout.strip() == str(tmp_path / "run")
    judged = cli("nn-check", tmp_path / "run", "--json", "--fail-above", 0.02)
    assert judged.exit_code == 3
    assert json.loads(judged.stdout)["values"]["exact_copies"] == 24


def test_probabilities_are_cut_where_asked_and_kept_beside(tmp_path, sofas):
    np.save(tmp_path / "soft.npy", sofas * np.float32(0.3))
    half, tenth = (import_run(tmp_path / "soft.npy", tmp_path / f"{t}", threshold=t) for t in (None, 0.1))
    assert half.samples().volume.sum() == 0
    assert tenth.samples().volume.sum() == sofas.sum()
    assert (half.meta["grid"]["threshold"], tenth.meta["grid"]["threshold"]) == (0.5, 0.1)
    assert np.allclose(tenth.probabilities(), sofas * 0.3, atol=1e-3)


def test_probabilities_are_kept_though_one_shape_is_binary(tmp_path, sofas):
    (tmp_path / "gen").mkdir()
    np.save(tmp_path / "gen" / "a.npy", sofas[0])
    np.save(tmp_path / "gen" / "b.npy", sofas[1] * np.float32(0.7))
    run = import_run(tmp_path / "gen", tmp_path / "run")
    assert np.array_equal(run.samples().grids(), sofas[:2])
    assert np.allclose(run.probabilities(), sofas[:2] * np.array([1, 0.7])[:, None, None, None], atol=1e-3)
    assert run.meta["grid"]["threshold"] == 0.5


def test_a_log_that_is_none_is_named(tmp_path, sofas):
    np.save(tmp_path / "a.npy", sofas)
    (tmp_path / "words.txt").write_text("just words\n")
    with pytest.raises(LogError, match=r"words\.txt holds no training log"):
        gather(tmp_path / "a.npy", log=tmp_path / "words.txt")


def test_probabilities_with_a_rounding_error_below_0_are_no_tanh(tmp_path, sofas, dataset_dir):
    np.save(
        tmp_path / "almost.npy", np.where(np.random.default_rng(0).random((3, 16, 16, 16)) < 0.1, 0.9, -1e-6).astype(np.float32)
    )
    with pytest.raises(Gan3dError, match=r"values in \[-1e-06, 0.9\] are no occupancy"):
        gather(tmp_path / "almost.npy")


def test_a_tanh_is_mapped_to_probabilities_and_what_lies_deep_is_turned_with_the_grids(tmp_path, sofas, dataset_dir):
    laid = inverse(given(None, "y").pose)(sofas)
    np.save(tmp_path / "tanh.npy", np.where(laid, 0.6, -0.9).astype(np.float32))
    run = import_run(tmp_path / "tanh.npy", tmp_path / "run", dataset_dir, ["sofa"])
    assert np.array_equal(run.samples().grids(), sofas)
    assert np.allclose(run.probabilities(), np.where(sofas, 0.8, 0.05), atol=1e-3)
    assert gather(tmp_path / "tanh.npy").shapes.signed
    assert any("a tanh" in note for note in run.meta["imported"]["notes"])
    assert run.meta["imported"]["orientation"]["how"] == "training-set"
    assert run.meta["grid"]["up"] == "z"


def test_the_threshold_of_binary_shapes_is_recorded_as_unknown_unless_it_is_said(tmp_path, sofas):
    np.save(tmp_path / "a.npy", sofas)
    unknown, said = (import_run(tmp_path / "a.npy", tmp_path / f"{t}", threshold=t) for t in (None, 0.4))
    assert unknown.meta["grid"]["threshold"] is None
    assert "threshold" not in unknown.samples().info
    assert said.meta["grid"]["threshold"] == said.samples().info["threshold"] == 0.4
    assert unknown.probabilities() is None


def test_a_run_without_a_dataset_still_has_pictures_and_asks_for_a_reference(tmp_path, sofas, cli, dataset_dir):
    np.save(tmp_path / "a.npy", sofas[:4])
    cli("import-run", tmp_path / "a.npy", tmp_path / "run")
    done = cli("nn-check", tmp_path / "run")
    assert done.exit_code == 1
    assert "--reference DATASET_DIR" in done.stderr
    assert cli("nn-check", tmp_path / "run", "--reference", dataset_dir).exit_code == 0
    assert (tmp_path / "run/results/nn-check-furniture.json").exists()


def test_axes_that_the_shapes_contradict_are_believed_and_doubted(cli, tmp_path):
    np.save(tmp_path / "train.npy", chairs(60, 1))
    assert cli("prepare", tmp_path / "train.npy", tmp_path / "data", "-r", chairs(1).shape[-1]).exit_code == 0
    np.save(tmp_path / "gen.npy", chairs(40, 2))
    right, wrong = (
        cli("import-run", tmp_path / "gen.npy", tmp_path / axes, "--dataset", tmp_path / "data", "--axes", axes)
        for axes in ("xyz", "zyx")
    )
    assert "otherwise" not in right.stderr
    assert "warning: The samples seem to lie otherwise than the training set" in wrong.stderr
    assert "`import-run` without --axes and --up finds how they lie" in wrong.stderr


def test_which_way_is_up_is_found_without_a_dataset_or_said_to_be_unknown(tmp_path):
    np.save(tmp_path / "y_up.npy", inverse(given(None, "y").pose)(chairs(20)))
    np.save(tmp_path / "few.npy", chairs(3))
    found, few = (import_run(tmp_path / f"{n}.npy", tmp_path / n) for n in ("y_up", "few"))
    assert np.array_equal(found.samples().grids(), chairs(20))
    assert found.meta["grid"]["up"] == "z"
    assert few.meta["grid"]["up"] is None
    assert any("--up or --axes says it" in note for note in few.meta["imported"]["notes"])
    said = import_run(tmp_path / "few.npy", tmp_path / "said", up="y")
    assert said.meta["grid"]["up"] == "z"
    assert np.array_equal(said.samples().grids(), given(None, "y").pose(chairs(3)))


@pytest.mark.parametrize(("make", "reason"), [
    (lambda p, g: np.save(p, np.where(np.arange(16) == 3, np.nan, g)), "24 of 24 shapes hold NaN"),
    (lambda p, g: np.save(p, np.zeros((0, 16, 16, 16))), r"holds no array that could be grids, but \(0, 16, 16, 16\)"),
    (lambda p, g: np.save(p, g[:, :8, :8, :8]), "holds 8³ grids, but dataset .* has 16³"),
    (lambda p, g: np.save(p, g[:, :8]), "expected a batch of cubic ones"),
    (lambda p, g: np.save(p, g.astype(np.float32) * 7 - 2), r"values in \[-2, 5\] are no occupancy"),
    (lambda p, g: np.save(p, np.array([{}], dtype=object), allow_pickle=True), r"Python objects \(a pickle\)"),
    (lambda p, g: p.write_bytes(b"\x93NUMPY"), "is damaged, or no .npy"),
    (lambda p, g: np.save(p, np.random.default_rng(0).random(g.shape) < 0.2), "agree with the training set in no way .*--axes xyz"),
    (lambda p, g: None, "missing"),
])  # fmt: skip
def test_what_cannot_be_judged_is_refused_and_nothing_is_left_behind(tmp_path, sofas, dataset_dir, cli, make, reason):
    make(tmp_path / "a.npy", sofas)
    done = cli("import-run", tmp_path / "a.npy", tmp_path / "run", "--dataset", dataset_dir)
    assert done.exit_code == 1
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert re.search(reason, done.stderr)
    assert not (tmp_path / "run").exists()


def test_grids_are_not_asked_for_at_another_resolution(tmp_path, sofas, cli):
    np.save(tmp_path / "a.npy", sofas)
    done = cli("import-run", tmp_path / "a.npy", tmp_path / "run", "--resolution", 32)
    assert done.exit_code == 1
    assert "a.npy has shapes of 16³, not of 32³; leave --resolution out" in done.stderr
    assert not (tmp_path / "run").exists()
    assert cli("import-run", tmp_path / "a.npy", tmp_path / "run", "--resolution", 16).exit_code == 0


def test_several_batches_are_not_guessed_between(tmp_path, sofas, cli):
    np.savez(tmp_path / "a.npz", one=sofas, two=sofas, losses=np.zeros(7))
    done = cli("import-run", tmp_path / "a.npz", tmp_path / "run")
    assert done.exit_code == 1
    assert "2 arrays that could be grids (one (24, 16, 16, 16), two (24, 16, 16, 16))" in done.stderr
    np.savez(tmp_path / "single.npz", *sofas[:9])
    with pytest.raises(
        Gan3dError, match=r"holds 9 .*arr_7 \(16, 16, 16\) …\); choose one with --array, or stack them to one batch"
    ):
        gather(tmp_path / "single.npz")
    (tmp_path / "single.npz").unlink()
    for step in (100, 200):
        np.save(tmp_path / f"{step}.npy", sofas)
    with pytest.raises(Gan3dError, match="2 files of shapes, 100.npy with 24.*--pattern"):
        gather(tmp_path)
    assert len(gather(tmp_path, pattern="200*").shapes.occupied) == 24


def test_a_run_that_is_there_is_not_replaced(tmp_path, sofas, cli, run_copy):
    np.save(tmp_path / "a.npy", sofas)
    done = cli("import-run", tmp_path / "a.npy", run_copy.path)
    assert done.exit_code == 1
    assert "already exists" in done.stderr
    assert len(run_copy.samples()) == 40


def test_samples_are_padded_as_the_dataset_was(tmp_path, sofas):
    from gan3d_model.data.prepare import prepare
    from gan3d_model.data.voxelize import Voxelizer

    np.save(tmp_path / "sofa.npy", sofas[:, 1:-1, 1:-1, 1:-1])
    prepare(tmp_path / "sofa.npy", tmp_path / "data", Voxelizer(16), say=lambda line: None)
    found = gather(tmp_path / "sofa.npy", tmp_path / "data")
    assert any("padded from 14³ to 16³, 1 on each side" in note for note in found.notes)
    assert np.array_equal(found.shapes.occupied, VoxelSet.open(tmp_path / "data").grids())


def test_meshes_are_voxelised_as_the_dataset_was(tmp_path, dataset_dir):
    folder = tmp_path / "meshes"
    folder.mkdir()
    paths = sorted((dataset_dir.parent / "meshes/sofa/test").glob("*.off"))
    for path in paths:
        shutil.copy(path, folder)
    mesh, how = mesh_reader(dataset_dir, None)
    found = gather(folder, dataset_dir, ["sofa"], readers=Readers(parse_grids, mesh, how))
    expected = VoxelSet.open(dataset_dir).select(["sofa"], "test")
    assert np.array_equal(found.shapes.occupied, expected.grids())
    assert found.shapes.names == [path.stem for path in paths]
    assert found.facts["voxelizer"]["margin"] == 1
    assert any("meshes voxelised: 24; resolution 16" in note for note in found.notes)
    assert mesh_reader(None, None) == (None, {})


def test_the_log_becomes_metrics_and_weights_can_be_sampled(tmp_path, cli):
    from torch.utils.tensorboard import SummaryWriter

    source = tmp_path / "theirs"
    with SummaryWriter(str(source / "logs")) as writer:
        for step in range(30):
            writer.add_scalar("loss/loss_D", 1 / (step + 1), step)
            writer.add_scalar("loss/loss_G", 2.0, step)
    g = port(32, 2, 1)
    with torch.no_grad():
        samples = g(torch.randn(12, 9, 1, 1, 1, generator=torch.Generator().manual_seed(0)))
    np.save(source / "fake.npy", samples.numpy())
    torch.save(g.state_dict(), source / "G_30.pkl")
    done = cli("import-run", source, tmp_path / "run", "--prior", "normal")
    assert done.exit_code == 0, done.stderr
    assert "layer1.0.weight" in done.stderr
    run = RunDir.open(tmp_path / "run")
    assert check_run(run.path) == []
    assert run.metrics()["loss_g"].tolist() == [2.0] * 30
    assert cli("curves", run.path).exit_code == 0
    assert cli("sample", run.path, "-n", 12, "--name", "more").exit_code == 0
    assert len(RunDir.open(run.path).samples("more")) == 12


def test_weights_alone_become_a_run_whose_shapes_are_drawn(tmp_path, cli):
    torch.save(port(32, 2, 1).state_dict(), tmp_path / "G.pt")
    asked = cli("import-run", tmp_path / "G.pt", tmp_path / "run")
    assert (asked.exit_code, (tmp_path / "run").exists()) == (1, False)
    assert "say it with --resolution" in asked.stderr
    asked = cli("import-run", tmp_path / "G.pt", tmp_path / "run", "-r", 32)
    assert (asked.exit_code, (tmp_path / "run").exists()) == (1, False)
    assert "holds weights and no shapes; say --prior, and some are drawn" in asked.stderr
    done = cli("import-run", tmp_path / "G.pt", tmp_path / "run", "--prior", "normal", "-r", 32)
    assert done.exit_code == 0, done.stderr
    assert len(RunDir.open(tmp_path / "run").samples()) > 0
    assert check_run(tmp_path / "run") == []


def test_options_of_weights_are_refused_where_there_are_none(tmp_path, cli):
    np.save(tmp_path / "fake.npy", chairs(8))
    done = cli("import-run", tmp_path / "fake.npy", tmp_path / "run", "--prior", "normal")
    assert (done.exit_code, (tmp_path / "run").exists()) == (1, False)
    assert "are of weights, and there are none" in done.stderr


def test_a_generator_without_a_discriminator_is_judged_without_features(tmp_path, dataset_dir, cli, box_sets):
    """Its checkpoint was once taken for one that holds both."""
    torch.save(port(16, 2, 0).state_dict(), tmp_path / "G.pt")
    weights = cli("import-run", tmp_path / "G.pt", tmp_path / "run", "--prior", "normal", "-r", 16)
    assert weights.exit_code == 0, weights.stderr
    done = cli("compare", tmp_path / "run", "--reference", dataset_dir, "--draws", 2, "--json")
    assert done.exit_code == 0, done.stderr
    assert "no discriminator at hand" in json.loads(done.stdout)["absent"]["kid"]
    assert cli("explore", tmp_path / "run", "--parts", "paths").exit_code == 0
    asked = cli("compare", tmp_path / "run", "--reference", dataset_dir, "--features-from", tmp_path / "run")
    assert asked.exit_code == 1
    assert "has no discriminator to make features" in asked.stderr


def test_weights_that_do_not_fit_are_left_out_where_shapes_are_there_and_refused_where_they_are_named(tmp_path, cli):
    (tmp_path / "theirs").mkdir()
    np.save(tmp_path / "theirs/fake.npy", chairs(8))
    torch.save({"fc.weight": torch.ones(3, 4)}, tmp_path / "theirs/G.pt")
    done = cli("import-run", tmp_path / "theirs", tmp_path / "run")
    assert done.exit_code == 0, done.stderr
    assert "weights were not taken over" in done.stderr
    named = cli("import-run", tmp_path / "theirs/fake.npy", tmp_path / "other", "--weights", tmp_path / "theirs/G.pt")
    assert (named.exit_code, (tmp_path / "other").exists()) == (1, False)


FILES = {  # every file of the real data: the number of shapes that it becomes, or why it is refused
    "README.md": "holds no shapes that can be read", "*/modelnet10.npz": "2 arrays that could be grids",
    "*/monitor.npy.gz": {466}, "*/chair.npy.gz": {890}, "*/modelnet10_bed.npz": {614}, "*/output/12000.mat": {8}, "*.mat": {1},
    "*.binvox": {1}, "*.off": {1}, "*/pickle/?_12000.pkl": "weights", "*/output/12000.pkl": "is a Python pickle",
}  # fmt: skip


def outcome(path, readers):
    """Number of shapes, `weights`, or the reason of a refusal."""
    try:
        found = gather(path, readers=readers)
    except Gan3dError as fault:
        return str(fault)
    if found.shapes is None:
        return "weights" if read_weights(found.weights, 32).matched else "nothing"
    assert found.shapes.occupied.any()
    return len(found.shapes.occupied)


@pytest.mark.parametrize("largest", [10**5, pytest.param(10**10, marks=pytest.mark.slow)])
def test_every_real_file_is_imported_or_refused_for_a_true_reason(real_data, largest):
    mesh, how = mesh_reader(None, 32)
    for path in sorted(p for p in real_data.rglob("*") if p.is_file() and p.stat().st_size <= largest):
        name = path.relative_to(real_data).as_posix()
        expected = [value for pattern, value in FILES.items() if fnmatch(name, pattern)]
        assert expected, f"{name} is not listed"
        found = outcome(path, Readers(parse_grids, mesh, how))
        if isinstance(expected[0], str):
            assert expected[0] in str(found), name
        else:
            assert found in expected[0], f"{name}: {found}"


@pytest.mark.slow
def test_every_real_mesh_is_voxelised_in_one_go(real_data):
    mesh, how = mesh_reader(None, 32)
    found = gather(real_data / "meshes", readers=Readers(parse_grids, mesh, how), pattern="*.off")
    assert len(found.shapes.occupied) == len(list((real_data / "meshes").rglob("*.off")))
    assert found.shapes.occupied.any(axis=(1, 2, 3)).all()
