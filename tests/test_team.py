"""Two processes train as one: equal weights, one run directory, and any number of them may go on with it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch

from gan3d_eval.files import Gan3dError
from gan3d_eval.run_dir import RunDir
from gan3d_model.team import Team, gather_team

ROOT = Path(__file__).parents[1]


def torchrun(*arguments):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", *map(str, arguments)]
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "GLOO_SOCKET_IFNAME": "lo"}
    return subprocess.run(command, capture_output=True, text=True, env=env, cwd=ROOT, timeout=600)


def test_alone_every_method_is_free():
    team = Team()
    values = torch.tensor([1.0, 2.0])
    assert team.leads
    assert team.share(7) == slice(0, 7)
    assert torch.equal(team.mean(values), values)
    assert team.any(True, values.device)
    assert not team.any(False, values.device)
    assert team.tell("x") == "x"


def test_one_gpu_for_all_processes_is_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(Gan3dError, match="cuda:1 names one GPU.* --device cuda"), gather_team("cuda:1"):
        pass


def test_a_batch_is_shared_without_rest():
    assert [Team(rank, 4).share(8) for rank in range(4)] == [slice(0, 2), slice(2, 4), slice(4, 6), slice(6, 8)]
    with pytest.raises(Gan3dError, match="a batch of 9 is no multiple of 4 processes"):
        Team(1, 4).share(9)


SCRIPT = """
import os, sys
from pathlib import Path
import torch
from torch import nn
from gan3d_eval.run_dir import RunDir
from gan3d_eval.voxels import VoxelSet
from gan3d_model import networks, players
from gan3d_model.config import TrainConfig
from gan3d_model.runs import create_run
from gan3d_model.team import gather_team
from gan3d_model.train import train

dataset, folder, norm, precision = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4]
if norm == "no-norm":
    networks.BatchNorm = lambda channels: nn.Identity()
shapes = VoxelSet.open(dataset).select(["sofa"], "train")
config = TrainConfig(resolution=16, base_channels=4, latent_dim=8, epochs=2, batch_size=8, n_samples=8, ema=0.9, lr_g=1e-4,
                     lr_d=1e-4, r1=0.1, r1_every=2, mirror=True, shift=1, instance_noise=0.1, keep=0, precision=precision)
build = players.Players.build.__func__
made = []
def keep(cls, config, device):
    made.append(build(cls, config, device))
    if precision == "float32":  # in double, or Adam makes whole steps of rounding errors where a gradient is all but 0
        for player in (made[-1].generator, made[-1].discriminator, made[-1].average):
            player.double().register_forward_pre_hook(lambda player, inputs: tuple(value.double() for value in inputs))
    return made[-1]
players.Players.build = classmethod(keep)
with gather_team("cpu") as (team, device):
    target = folder / f"run-of-{team.size}"
    if team.leads:
        create_run(config, "slides", shapes, dataset, ["sofa"], folder, ["test"], target)
    team.tell("")
    train(config, shapes, RunDir.open(target), device, lambda line: None, (), team)
    weights = [{k: v.clone() for k, v in p.state_dict().items()} for p in (made[0].generator, made[0].discriminator, made[0].average)]
    torch.save(weights, folder / f"weights-{team.size}-{team.rank}.pt")
left = [name for task in Path("/proc/self/task").glob("*/comm") if "gloo" in (name := task.read_text())]
assert not left, left  # a thread that outlives its group aborts one process in sixty at its exit
"""


def test_two_processes_in_bfloat16_end_with_equal_weights(dataset_dir, tmp_path):
    (tmp_path / "s.py").write_text(SCRIPT)
    two = torchrun(tmp_path / "s.py", dataset_dir, tmp_path, "sync-batch-norm", "bfloat16")
    assert two.returncode == 0, two.stderr
    for a, b in zip(*(torch.load(tmp_path / f"weights-2-{rank}.pt") for rank in (0, 1)), strict=True):
        for key in a:
            assert a[key].isfinite().all(), key
            assert torch.equal(a[key], b[key]), key


@pytest.mark.parametrize("norm", [pytest.param("no-norm", marks=pytest.mark.slow), "sync-batch-norm"])
def test_two_processes_end_with_equal_weights_which_are_those_of_one(dataset_dir, tmp_path, norm):
    (tmp_path / "s.py").write_text(SCRIPT)
    two = torchrun(tmp_path / "s.py", dataset_dir, tmp_path, norm, "float32")
    assert two.returncode == 0, two.stderr
    subprocess.run(
        [sys.executable, tmp_path / "s.py", dataset_dir, tmp_path, norm, "float32"],
        check=True, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    first, second, alone = (torch.load(tmp_path / f"weights-{name}.pt") for name in ("2-0", "2-1", "1-0"))
    for a, b, c in zip(first, second, alone, strict=True):
        for key in a:
            assert torch.equal(a[key], b[key]), key
            assert torch.allclose(a[key], c[key], rtol=1e-9, atol=1e-12), key
    logs = [pd.read_csv(tmp_path / f"run-of-{n}/metrics.csv").drop(columns="seconds") for n in (1, 2)]
    assert logs[0]["acc_d"].tolist() == logs[1]["acc_d"].tolist()
    assert logs[0]["d_updated"].tolist() == logs[1]["d_updated"].tolist()
    assert (logs[0] - logs[1]).abs().max().max() < 1e-4


def test_torchrun_makes_one_run_that_one_process_goes_on_with(dataset_dir, tmp_path, cli):
    small = ["--base-channels", 4, "--latent-dim", 8, "--batch-size", 8, "--n-samples", 8, "--class", "sofa"]
    done = torchrun("cli.py", "train", dataset_dir, *small, "--epochs", 2, "--runs", tmp_path)
    assert done.returncode == 0, done.stderr
    (path,) = tmp_path.iterdir()
    assert done.stdout.strip() == str(path)
    run = RunDir.open(path)
    assert run.meta["status"] == "finished"
    assert run.metrics()["step"].tolist() == [1, 2, 3, 4, 5, 6]
    assert cli("check-run", path).exit_code == 0
    assert cli("train", dataset_dir, "--resume", path, "--epochs", 3).exit_code == 0
    assert RunDir.open(path).metrics()["step"].tolist() == list(range(1, 10))


@pytest.mark.slow  # what is said is tested above, without torchrun
def test_a_batch_that_cannot_be_shared_is_one_clear_line(dataset_dir, tmp_path):
    done = torchrun("cli.py", "train", dataset_dir, "--base-channels", 4, "--batch-size", 9, "--epochs", 1, "--runs", tmp_path)
    assert done.returncode != 0
    assert "error: a batch of 9 is no multiple of 2 processes; choose one with --batch-size" in done.stderr
