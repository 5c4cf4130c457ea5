"""Small data and one small trained run, made once a session; everything at 16³ so that the suite stays fast."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from hypothesis import settings

from gan3d_eval.run_dir import RunDir
from gan3d_eval.voxels import VoxelSet
from gan3d_model.config import TrainConfig

os.environ.setdefault("OMP_NUM_THREADS", "1")
settings.register_profile("suite", deadline=None)  # a busy machine is no failure
settings.load_profile("suite")

TINY = TrainConfig(
    resolution=16,
    base_channels=4,
    latent_dim=8,
    epochs=2,
    batch_size=8,
    sample_every=1,
    checkpoint_every=1,
    n_samples=40,
    keep=0,
)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real shapes; tests on it skip where it is absent."""
    path = Path(os.environ.get("GAN3D_REAL_DATA") or Path(__file__).parents[2] / "shared" / "data")
    if not path.is_dir():
        pytest.skip(f"no real shapes at {path}; set GAN3D_REAL_DATA")
    return path


@pytest.fixture(scope="session")
def dataset_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Procedural sofas and tables at 16³: 24 + 24 to train on, 24 + 24 held out."""
    from gan3d_model.data.prepare import prepare
    from gan3d_model.data.synthetic import write_furniture
    from gan3d_model.data.voxelize import Voxelizer

    root = tmp_path_factory.mktemp("data")
    write_furniture(root / "meshes", ["sofa", "table"], 24, 24)
    prepare(root / "meshes", root / "furniture", Voxelizer(16), say=lambda line: None)
    return root / "furniture"


@pytest.fixture(scope="session")
def trained(dataset_dir: Path) -> Path:
    """A finished run on the sofas; tests that change a run take `run_copy`."""
    from gan3d_model.runs import create_run
    from gan3d_model.train import train

    shapes = VoxelSet.open(dataset_dir).select(["sofa"], "train")
    run = create_run(TINY, "slides", shapes, dataset_dir, ["sofa"], dataset_dir.parent / "runs", ["test"])
    train(TINY, shapes, run, "cpu", say=lambda line: None)
    return run.path


@pytest.fixture
def run_copy(trained: Path) -> RunDir:
    """A fresh copy of the trained run, beside it (so that its dataset is found)."""
    import shutil
    import tempfile

    path = Path(tempfile.mkdtemp(dir=trained.parent)) / "run"
    shutil.copytree(trained, path)
    run = RunDir.open(path)
    return run.update(dataset=run.meta["dataset"] | {"path": "../../../furniture"})


@pytest.fixture
def tiny() -> TrainConfig:
    return dataclasses.replace(TINY)


@pytest.fixture
def grids() -> np.ndarray:
    """Six random grids `(6, 8, 8, 8) bool`."""
    return np.random.default_rng(0).random((6, 8, 8, 8)) < 0.3


@pytest.fixture
def cli() -> object:
    """Call the command line: `cli("train", path, "--epochs", 2)` → click's Result (stdout, stderr, exit_code)."""

    def call(*arguments: object) -> Result:
        from cli import main

        return CliRunner().invoke(main, [str(a) for a in arguments])

    return call
