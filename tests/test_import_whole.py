"""From a stranger's folder to the report, on real files: every verb works after an import."""

from __future__ import annotations

import numpy as np
import pytest

from gan3d_eval.check_run import check_run
from gan3d_eval.import_run import gather
from gan3d_eval.orientation import given
from gan3d_eval.run_dir import RunDir
from gan3d_eval.voxels import VoxelSet
from gan3d_model.data.prepare import prepare
from gan3d_model.data.voxelize import Voxelizer

pytestmark = pytest.mark.slow


def run_all(cli, run, verbs):
    """Each verb ends well, and the directory keeps to the contract."""
    for verb in verbs:
        done = cli(*verb)
        assert done.exit_code == 0, (verb, done.stderr)
    assert check_run(run.path) == []
    return RunDir.open(run.path).results()


@pytest.fixture(scope="module")
def furniture(real_data, tmp_path_factory):
    """ModelNet10's monitors and toilets at 32³, padded from 30³: 120 of each to train on, 60 held out."""
    folder, some = tmp_path_factory.mktemp("data"), {}
    with np.load(real_data / "voxels/modelnet10-30/modelnet10.npz") as data:
        for split, n in (("train", 120), ("test", 60)):
            rows = np.concatenate([np.flatnonzero(data[f"y_{split}"] == label)[:n] for label in (5, 9)])
            some |= {f"X_{split}": data[f"X_{split}"][rows], f"y_{split}": np.repeat([0, 1], n)}
    np.savez(folder / "some.npz", **some)
    prepare(folder / "some.npz", folder / "some", Voxelizer(32), names=["monitor", "toilet"], fix=("drop-empty",), say=print)
    return folder / "some"


def test_the_slides_port_from_import_to_report(real_data, furniture, cli, tmp_path):
    path = tmp_path / "run"
    done = cli("import-run", real_data / "foreign/slides-port", path, "--dataset", furniture, "--class", "monitor", "--axes", "xyz",
               "--prior", "normal0.33")  # fmt: skip
    assert done.exit_code == 0, done.stderr
    assert "output/12000.pkl is a Python pickle" in done.stderr
    run = RunDir.open(path)
    assert len(run.samples()) == 8
    results = run_all(cli, run, [
        ("sample", path, "-n", 60, "--force", "--probabilities"), ("nn-check", path), ("compare", path),
        ("classify-features", path, "--untrained", 1, "--no-curve"), ("gallery", path, "-n", 8), ("export", path, tmp_path / "out", "--format", "mat"),
        ("human-eval", "power", "--rate", 0.4), ("report", path),
    ])  # fmt: skip
    assert results["nn-check"]["values"]["verdict"] == "far-from-data"  # trained for a few steps only
    assert results["compare"]["values"]["n"] >= 50
    assert "fd" in results["compare"]["values"] or "features" in results["compare"]["options"]
    assert (path / "report.html").is_file()


def test_shapenets_chairs_as_binvox_from_import_to_report(real_data, cli, tmp_path):
    with np.load(real_data / "voxels/bed-64/modelnet10_bed.npz") as data:
        np.savez(tmp_path / "bed.npz", X_train=data["X_train"][:60], X_test=data["X_train"][514:574])
    prepare(tmp_path / "bed.npz", tmp_path / "bed", Voxelizer(64), fix=("drop-empty",), say=print)
    folder = real_data / "voxels/chair-binvox-64"
    assert gather(folder).orientation.pose == given(None, "y").pose  # which is up is found without a dataset
    assert cli("import-run", folder, tmp_path / "run", "--dataset", tmp_path / "bed", "--up", "y").exit_code == 0
    run = RunDir.open(tmp_path / "run")
    assert len(run.samples()) == 15
    assert run.samples().resolution == VoxelSet.open(tmp_path / "bed").resolution == 64
    results = run_all(
        cli, run, [("nn-check", run.path), ("compare", run.path), ("gallery", run.path, "-n", 15), ("report", run.path)]
    )
    assert results["nn-check"]["values"]["verdict"] == "far-from-data"  # chairs are no beds
    assert results["nn-check"]["values"]["exact_copies"] == 0
