"""Training: what it leaves on disk, that it resumes to the same bytes, and that nothing is lost when it is stopped."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from gan3d_eval.curves import curves
from gan3d_eval.files import Gan3dError
from gan3d_eval.run_dir import RunDir
from gan3d_eval.voxels import VoxelSet
from gan3d_model import signals
from gan3d_model import train as module
from gan3d_model.batches import batch_rows, unpack_on_device
from gan3d_model.config import ConfigError, TrainConfig
from gan3d_model.features import discriminator_of
from gan3d_model.players import CheckpointError, Players, read_checkpoint
from gan3d_model.runs import check_fit, check_resume, check_space, config_of, create_run, hold_run
from gan3d_model.sample import generate, sample
from gan3d_model.signals import stop_signals
from gan3d_model.train import Failed, Interrupted, lr_factor, train

CPU = torch.device("cpu")


@pytest.fixture
def sofas(dataset_dir):
    return VoxelSet.open(dataset_dir).select(["sofa"], "train")


def begin(config, shapes, dataset_dir, path):
    return create_run(config, "slides", shapes, dataset_dir, ["sofa"], path.parent, ["test"], path)


def quiet(line):
    pass


# --- what is left on disk ------------------------------------------------------------------------------------------------


def test_a_finished_run_has_everything_the_contract_names(trained):
    run = RunDir.open(trained)
    assert run.meta["status"] == "finished"
    assert run.sample_names() == ["000003", "000006", "final"]
    assert [p.name for p in run.checkpoints()] == ["000003.pt", "000006.pt"]
    log = run.metrics()
    assert log["step"].tolist() == [1, 2, 3, 4, 5, 6]
    assert log["epoch"].iloc[-1] == pytest.approx(2)
    assert np.isfinite(log.to_numpy()).all()
    assert len(run.samples()) == 40
    assert list((trained / "tensorboard").glob("events.*"))


def test_the_logged_gate_is_the_gate(trained):
    log = RunDir.open(trained).metrics()
    assert (log["d_updated"] == (log["acc_d"] <= 0.8 + 1e-6)).all()
    assert np.allclose(log["acc_d"], (log["acc_d_real"] + log["acc_d_fake"]) / 2, atol=1e-5)


def test_a_closed_gate_leaves_d_as_it_was_and_an_open_one_does_not(tiny, sofas, dataset_dir, tmp_path):
    weights = {}
    for gate in (0.0, 1.0):
        config = dataclasses.replace(tiny, gate=gate, epochs=1)
        run = begin(config, sofas, dataset_dir, tmp_path / f"gate{gate}")
        # accuracy 0 would pass a gate of 0: start from weights that are right about something
        train(config, sofas, run, "cpu", quiet)
        before = Players.build(config, CPU).discriminator
        after = read_checkpoint(run.checkpoints()[-1], CPU)["discriminator"]
        weights[gate] = [torch.equal(after[name], p) for name, p in before.named_parameters()]
        updates = run.metrics()["d_updated"].sum()
        assert any(weights[gate]) == (updates == 0)
        assert updates == (0 if gate == 0 else 3)


def test_the_order_of_work_of_a_gpu_takes_the_same_steps(tiny, sofas, dataset_dir, tmp_path, monkeypatch):
    """The gate is decided on the device and rows are read in heaps: the numbers are those of the CPU, which looks at each."""
    config = dataclasses.replace(tiny, gate=0.6, gate_window=2, r1=0.1, r1_every=2, ema=0.9, epochs=12, sample_every=5)
    cpu = train(config, sofas, begin(config, sofas, dataset_dir, tmp_path / "cpu"), "cpu", quiet)
    monkeypatch.setattr("gan3d_model.train.runs_ahead", lambda device: True)
    gpu = train(config, sofas, begin(config, sofas, dataset_dir, tmp_path / "gpu"), "cpu", quiet)
    assert 0 < cpu.metrics()["d_updated"].sum() < len(cpu.metrics()) == 36
    assert cpu.metrics().drop(columns="seconds").equals(gpu.metrics().drop(columns="seconds"))
    a, b = (read_checkpoint(r.checkpoints()[-1], CPU) for r in (cpu, gpu))
    assert all(torch.equal(a[part][key], b[part][key]) for part in ("generator", "discriminator") for key in a[part])


@pytest.mark.parametrize("opened", [True, False])
def test_an_update_that_the_gate_forbids_changes_neither_weights_nor_moments(tiny, opened):
    players, plain = Players.build(tiny, CPU), Players.build(tiny, CPU)
    for step in range(3):
        for p in (players, plain):
            p.discriminator(torch.ones(4, 16, 16, 16)).sum().backward()
        players.update_discriminator(torch.tensor(opened or step == 0))
        if opened or step == 0:
            plain.optimizer_d.step()
    a, b = players.state(), plain.state()
    assert all(torch.equal(a["discriminator"][key], b["discriminator"][key]) for key in a["discriminator"])
    moments, expected = a["optimizer_d"]["state"], b["optimizer_d"]["state"]
    assert all(torch.equal(moments[i][key], expected[i][key]) for i in expected for key in expected[i])


def test_same_seed_same_bytes(tiny, sofas, dataset_dir, tmp_path):
    runs = [train(tiny, sofas, begin(tiny, sofas, dataset_dir, tmp_path / name), "cpu", quiet) for name in "ab"]
    assert runs[0].samples().sha256 == runs[1].samples().sha256
    other = dataclasses.replace(tiny, seed=1)
    third = train(other, sofas, begin(other, sofas, dataset_dir, tmp_path / "c"), "cpu", quiet)
    assert third.samples().sha256 != runs[0].samples().sha256


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_a_resumed_run_takes_the_very_same_steps(tiny, sofas, dataset_dir, tmp_path, ema):
    config = dataclasses.replace(tiny, ema=ema, lr_schedule="constant")
    whole = train(config, sofas, begin(config, sofas, dataset_dir, tmp_path / "whole"), "cpu", quiet)
    half = dataclasses.replace(config, epochs=1)
    run = train(half, sofas, begin(half, sofas, dataset_dir, tmp_path / "halves"), "cpu", quiet)
    check_resume(run, config, sofas)
    run = train(config, sofas, run, "cpu", quiet)
    assert run.samples().sha256 == whole.samples().sha256
    columns = [c for c in run.metrics().columns if c != "seconds"]
    assert run.metrics()[columns].equals(whole.metrics()[columns])
    a, b = (read_checkpoint(r.checkpoints()[-1], CPU) for r in (run, whole))
    assert all(torch.equal(a[part][key], b[part][key]) for part in ("generator", "discriminator") for key in a[part])


def test_the_average_is_what_is_sampled(tiny, sofas, dataset_dir, tmp_path):
    config = dataclasses.replace(tiny, ema=0.9)
    run = train(config, sofas, begin(config, sofas, dataset_dir, tmp_path / "ema"), "cpu", quiet)
    players = Players.build(config, CPU)
    players.restore(run)
    latents = torch.from_numpy(np.load(run.path / "samples" / "final.npz")["latents"])
    assert np.array_equal(run.samples().packed, generate(players.average, latents, 16)["occupancy"])
    assert not np.array_equal(run.samples().packed, generate(players.generator, latents, 16)["occupancy"])


# --- pieces of the loop -----------------------------------------------------------------------------------------------


def test_every_shape_is_seen_once_an_epoch_and_no_batch_is_short():
    n, batch = 10, 4
    rows = np.concatenate([batch_rows(0, n, batch, step) for step in range(1, 6)])  # 20 = two epochs
    assert sorted(rows[:10]) == sorted(rows[10:]) == list(range(10))
    assert rows[:10].tolist() != rows[10:].tolist()


def test_unpacking_on_the_device_equals_numpys(grids):
    from gan3d_eval.voxels import pack

    assert np.array_equal(unpack_on_device(torch.from_numpy(pack(grids)), 8).numpy(), grids.astype(np.float32))


def test_learning_rate_schedules():
    step = TrainConfig(lr_schedule="step", lr_step=0.5, lr_decay=0.1)
    assert [lr_factor(step, p) for p in (0, 0.49, 0.5, 0.99)] == pytest.approx([1, 1, 0.1, 0.1])
    assert lr_factor(TrainConfig(lr_schedule="constant"), 0.9) == 1
    assert lr_factor(TrainConfig(lr_schedule="cosine"), 0.5) == pytest.approx(0.5)


def test_a_sample_depends_on_its_own_latent_alone(tiny):
    generator = Players.build(tiny, CPU).generator
    latents = torch.randn(6, tiny.latent_dim)
    together = generate(generator, latents, 16)["occupancy"]
    assert np.array_equal(together[2:3], generate(generator, latents[2:3], 16)["occupancy"])
    assert generator.training  # put back


# --- stopping and failing -----------------------------------------------------------------------------------------------


def launch(dataset_dir, run, *extra):
    root = Path(__file__).parents[1]
    settings = "--class sofa --base-channels 4 --latent-dim 8 --batch-size 8 --epochs 100000 --checkpoint-every 2 --device cpu"
    command = [sys.executable, str(root / "cli.py"), "train", str(dataset_dir), *settings.split(), "--out", str(run), *extra]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ | {"OMP_NUM_THREADS": "1"},
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
    )  # fmt: skip


def wait_for(condition, process, seconds=300):
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.stderr.read().decode()
        assert time.monotonic() < end, "nothing happened in time"
        time.sleep(0.05)


def test_ctrl_c_leaves_a_whole_run_that_resumes_and_kill_9_one_that_is_readable(dataset_dir, tmp_path, cli):
    path = tmp_path / "run"
    process = launch(dataset_dir, path)
    wait_for(lambda: (path / "checkpoints").is_dir() and list((path / "checkpoints").glob("[0-9]*.pt")), process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 130
    assert out.decode() == f"{path}\n"
    assert b"was interrupted at step" in err
    run = RunDir.open(path)
    assert run.meta["status"] == "interrupted"
    assert "--resume" not in run.meta["failure"]  # from where it is read later, another path may be right
    assert cli("check-run", path).exit_code == 0
    last = int(run.metrics()["step"].iloc[-1])
    assert run.checkpoints()[-1].name == f"{last:06d}.pt"

    process = launch(dataset_dir, path)  # the same name again, without --resume
    assert process.wait(60) == 1
    assert b"already exists" in process.stderr.read()

    log = run.metrics()
    (path / "metrics.csv").open("a").write("999999,1,1")  # a row that a kill cut short
    assert run.metrics().equals(log)
    epochs = last * 8 // 24 + 1
    done = cli("train", dataset_dir, "--resume", path, "--epochs", epochs, "--n-samples", 5, "--device", "cpu")
    assert done.exit_code == 0, done.stderr
    assert done.stdout.strip() == str(path)
    resumed = RunDir.open(path)
    assert resumed.meta["status"] == "finished"
    assert resumed.metrics()["step"].is_unique
    assert resumed.metrics()["step"].tolist() == list(range(1, len(resumed.metrics()) + 1))

    other = tmp_path / "killed"
    process = launch(dataset_dir, other)
    wait_for(lambda: (other / "metrics.csv").exists() and (other / "metrics.csv").stat().st_size > 2000, process)
    process.kill()
    process.wait()
    process.stderr.close()
    assert len(RunDir.open(other).metrics()) > 5
    assert cli("check-run", other).exit_code == 0


@pytest.mark.skipif(sys.platform != "linux", reason="uses a Linux file size limit")
def test_a_training_outlives_the_terminal_that_it_talked_to(dataset_dir, tmp_path):
    process = launch(dataset_dir, tmp_path / "run")
    wait_for(lambda: list((tmp_path / "run/checkpoints").glob("*.pt")), process)
    process.stderr.close()
    process.stdout.close()
    os.kill(process.pid, signal.SIGHUP)
    process.wait(60)
    assert RunDir.open(tmp_path / "run").meta["status"] == "interrupted"


def test_too_little_memory_on_the_device_suggests_a_batch_size(tiny, sofas, dataset_dir, tmp_path, monkeypatch):
    def full(*arguments):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("gan3d_model.train._loop", full)
    run = begin(tiny, sofas, dataset_dir, tmp_path / "run")
    with pytest.raises(Gan3dError, match="cpu has not enough memory for batches of 8 at 16³; start again with --batch-size 4"):
        train(tiny, sofas, run, "cpu", quiet)
    assert RunDir.open(run.path).meta["status"] == "failed"


def test_a_full_disk_while_checkpointing_keeps_the_checkpoint_before(dataset_dir, run_copy):
    script = (
        "import resource, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"  # a checkpoint is larger
        "from cli import main\n"
        "main(sys.argv[1:])\n"
    )
    arguments = ["train", str(dataset_dir), "--resume", str(run_copy.path), "--epochs", "4", "--device", "cpu"]
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, cwd=Path(__file__).parents[1], check=False
    )
    assert done.returncode == 1
    assert "error:" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    run = RunDir.open(run_copy.path)
    assert run.meta["status"] == "failed"
    assert [p.name for p in run.checkpoints()] == ["000003.pt", "000006.pt"]
    assert read_checkpoint(run.checkpoints()[-1], CPU)["step"] == 6
    assert not list(run.path.rglob("*.tmp"))


def test_a_diverged_run_says_so_and_is_marked_failed(tiny, sofas, dataset_dir, tmp_path, monkeypatch):
    monkeypatch.setattr("gan3d_model.train.generator_loss", lambda logits: logits.mean() * float("nan"))
    run = begin(tiny, sofas, dataset_dir, tmp_path / "run")
    with pytest.raises(Failed, match="diverged at step 1: a loss is no longer finite"):
        train(tiny, sofas, run, "cpu", quiet)
    meta = RunDir.open(run.path).meta
    assert meta["status"] == "failed"
    assert "step 1" in meta["failure"]


def test_resume_refuses_what_is_done_already(run_copy, sofas):
    config = TrainConfig.from_dict(run_copy.config())
    for epochs in (1, 2):
        with pytest.raises(ConfigError, match="has already trained 2 epochs"):
            check_resume(run_copy, dataclasses.replace(config, epochs=epochs), sofas)
    assert TrainConfig.from_dict(run_copy.config()) == config
    run_copy.update(status="interrupted")
    run_copy.checkpoint_path(6).rename(run_copy.checkpoint_path(5))
    with pytest.raises(ConfigError, match=r"has already trained 1\.7 epochs"):
        check_resume(run_copy, dataclasses.replace(config, epochs=1), sofas)


def test_resume_refuses_a_run_whose_checkpoints_are_gone_and_a_refusal_changes_nothing(run_copy, sofas, tiny):
    more, before = dataclasses.replace(tiny, epochs=3), RunDir.open(run_copy.path).meta
    newest = run_copy.checkpoints()[-1]
    run_copy.checkpoints()[0].unlink()
    newest.write_bytes(newest.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="none of its 1 checkpoints can be read"):
        train(more, sofas, run_copy, "cpu", quiet)
    assert RunDir.open(run_copy.path).meta == before
    newest.unlink()
    with pytest.raises(ConfigError, match="has no checkpoint any more"):
        check_resume(run_copy, more, sofas)
    check_resume(run_copy.update(status="running"), more, sofas)  # killed before its first: it begins anew


@pytest.mark.parametrize(("name", "text", "line"), [
    ("metrics.csv", "garbage\n", "no column 'step'; found garbage; move it away if it is no log"),
    ("config.json", "{}", "config.json is of 64³, or silent, and run.json of 16³: one of them is damaged"),
    ("config.json", "{", "config.json is not valid JSON: Expecting property name enclosed in double quotes: line 1 column 2 (char 1); "
     "restore it, or train a new run"),
    ("config.json", None, "has no config.json: how it was trained is unknown, so it cannot be resumed; restore it, or train"),
])  # fmt: skip
def test_what_is_damaged_is_said_before_a_resume_changes_anything(cli, dataset_dir, run_copy, name, text, line):
    (run_copy.path / name).unlink()
    if text:
        (run_copy.path / name).write_text(text)
    done = cli("train", dataset_dir, "--resume", run_copy.path, "--epochs", 3)
    assert done.exit_code == 1
    assert line in done.stderr
    assert RunDir.open(run_copy.path).meta == run_copy.meta


def test_whoever_interrupts_the_final_samples_is_told_how_to_go_on(cli, dataset_dir, tmp_path, monkeypatch):
    def draw(players, run, name, *arguments, **options):
        if name == "final":
            raise KeyboardInterrupt
        return drawn(players, run, name, *arguments, **options)

    drawn = module.draw_samples
    with monkeypatch.context() as patch:
        patch.setattr(module, "draw_samples", draw)
        small = "--class sofa --base-channels 4 --latent-dim 8 --batch-size 8 --n-samples 8 --epochs 1 --device cpu".split()
        done = cli("train", dataset_dir, *small, "--out", tmp_path / "run")
    assert done.exit_code == 130
    assert f"error: {tmp_path / 'run'} was interrupted; go on with: python cli.py train {dataset_dir} --resume" in done.stderr
    assert cli("train", dataset_dir, "--resume", tmp_path / "run").exit_code == 0
    assert RunDir.open(tmp_path / "run").meta["status"] == "finished"


def test_two_trainings_never_share_a_run(run_copy, sofas, tiny):
    import filelock

    before = run_copy.config()
    with filelock.FileLock(run_copy.path / ".lock"), pytest.raises(Gan3dError, match="trained by another process"):
        more = dataclasses.replace(tiny, epochs=3)
        check_resume(run_copy, more, sofas)
        train(more, sofas, run_copy, "cpu", quiet)
    assert RunDir.open(run_copy.path).meta["status"] == "finished"
    assert run_copy.config() == before


def test_a_run_that_was_killed_after_its_last_step_draws_its_evaluation_set_on_resume(run_copy, sofas, tiny):
    expected = run_copy.samples("final").sha256
    (run_copy.path / "samples" / "final.npz").unlink()
    run = run_copy.update(status="running")
    check_resume(run, tiny, sofas)
    train(tiny, sofas, run, "cpu", quiet)
    done = RunDir.open(run.path)
    assert done.meta["status"] == "finished"
    assert done.samples("final").sha256 == expected
    assert done.metrics()["step"].tolist() == [1, 2, 3, 4, 5, 6]


def test_a_run_resumed_on_another_machine_computes_in_the_precision_that_it_began_in(
    tiny, sofas, dataset_dir, tmp_path, monkeypatch
):
    run = begin(tiny, sofas, dataset_dir, tmp_path / "run")
    monkeypatch.setattr("gan3d_model.train.use_bfloat16", lambda config, device: True)
    train(tiny, sofas, run, "cpu", quiet)
    monkeypatch.setattr("gan3d_model.train.use_bfloat16", lambda config, device: False)
    run, longer = RunDir.open(run.path), dataclasses.replace(tiny, epochs=tiny.epochs + 1)
    check_resume(run, longer, sofas)
    run = train(longer, sofas, run, "cpu", quiet)
    assert run.meta["computed"]["precision"] == run.config()["precision"] == "bfloat16"
    with pytest.raises(ConfigError, match="precision: 'bfloat16' → 'float32'"):
        check_resume(run, dataclasses.replace(longer, epochs=9, precision="float32"), sofas)


def test_a_resume_of_what_is_being_trained_is_refused_before_anything_is_said(run_copy, dataset_dir, cli):
    run_copy.update(status="running")
    shutil.rmtree(run_copy.path / "checkpoints")
    with hold_run(run_copy):
        done = cli("train", dataset_dir, "--resume", run_copy.path)
    assert done.exit_code == 1
    assert done.stderr.endswith("is being trained by another process; wait for it, or stop it\n")
    assert "begins anew" not in done.stderr


def test_resume_refuses_a_changed_config_and_other_shapes(run_copy, sofas, dataset_dir):
    config = TrainConfig.from_dict(run_copy.config())
    with pytest.raises(ConfigError, match=r"lr_g: 0.0025 → 0.1; gate: 0.8 → 0.7"):
        check_resume(run_copy, dataclasses.replace(config, lr_g=0.1, gate=0.7, epochs=9), sofas)
    with pytest.raises(ConfigError, match="trained on other shapes"):
        check_resume(run_copy, config, VoxelSet.open(dataset_dir).select(["table"], "train"))


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_truncated_checkpoint_is_passed_over_with_a_warning(run_copy, tiny, capsys, share):
    newest = run_copy.checkpoints()[-1]
    newest.write_bytes(newest.read_bytes()[: int(share * newest.stat().st_size)])
    players = Players.build(tiny, CPU)
    assert players.restore(run_copy) == 3
    assert "000006.pt is truncated" in capsys.readouterr().err


def test_a_run_of_which_no_checkpoint_can_be_read_is_not_begun_anew(run_copy, tiny, sofas):
    for path in run_copy.checkpoints():
        path.write_bytes(b"damaged")
    log = (run_copy.path / "metrics.csv").read_bytes()
    with pytest.raises(CheckpointError, match="none of its 2 checkpoints can be read"):
        train(tiny, sofas, run_copy, CPU, lambda line: None)
    assert (run_copy.path / "metrics.csv").read_bytes() == log
    assert len(run_copy.checkpoints()) == 2


@pytest.mark.parametrize("fault", [MemoryError, torch.OutOfMemoryError])
def test_a_checkpoint_that_does_not_fit_into_memory_is_not_called_damaged(run_copy, tiny, monkeypatch, fault):
    def full(*arguments, **options):
        raise fault

    monkeypatch.setattr(torch, "load", full)
    with pytest.raises(fault):
        Players.build(tiny, CPU).restore(run_copy)


def test_signals_that_the_caller_ignores_stay_ignored():
    old = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with stop_signals(print) as stopped:
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
            os.kill(os.getpid(), signal.SIGTERM)
            assert stopped()
    finally:
        signal.signal(signal.SIGHUP, old)


def test_a_second_ctrl_c_interrupts_at_once_but_not_the_echo_that_torchrun_sends(monkeypatch):
    now, said = [100.0], []
    monkeypatch.setattr(signals.time, "monotonic", lambda: now[0])
    with stop_signals(said.append) as stopped:
        assert not stopped()
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        assert stopped()
        now[0] += 60
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert said == ["stopping, after a checkpoint; once more to stop at once"]


def test_a_damaged_checkpoint_of_a_later_step_never_pushes_out_a_whole_one(run_copy, tiny):
    newest = run_copy.checkpoints()[-1]
    newest.write_bytes(b"damaged")
    players = Players.build(dataclasses.replace(tiny, keep=1), CPU)
    assert players.restore(run_copy) == 3
    players.save(run_copy, 4)
    assert [path.name for path in run_copy.checkpoints()] == ["000004.pt"]
    assert players.restore(run_copy) == 4


@pytest.mark.parametrize("content", [[], {}, {"format": 3}, {"format": torch.zeros(2)}, {"format": 3, "step": 1, "config": []}])
def test_what_lacks_the_parts_of_a_checkpoint_is_none(tmp_path, content):
    torch.save(content, tmp_path / "000001.pt")
    with pytest.raises(CheckpointError, match=r"000001\.pt is no gan3d checkpoint of format 3"):
        read_checkpoint(tmp_path / "000001.pt", CPU)


def test_a_checkpoint_that_unpacks_to_more_than_it_has_is_refused(run_copy):
    path = run_copy.checkpoints()[-1]
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    with pytest.raises(CheckpointError, match=r"000006\.pt .*is a compressed archive, which torch\.save never writes"):
        read_checkpoint(path, CPU)


@pytest.mark.parametrize("opened", [lambda run: Players.open(run, None, CPU), discriminator_of])
def test_a_network_larger_than_its_checkpoint_is_not_built(run_copy, opened, monkeypatch):
    path = run_copy.checkpoints()[-1]
    content = torch.load(path, weights_only=True)
    content["config"] |= {"resolution": 128, "base_channels": 512, "latent_dim": 4096, "spectral_norm": True}
    torch.save(content, path)
    monkeypatch.setattr(Players, "build", None)
    monkeypatch.setattr("gan3d_model.features.load_part", None)
    with pytest.raises(
        CheckpointError, match=r"has [\d,]+ bytes, and the config in it asks for a network of [\d,]{11,} weights"
    ):
        opened(run_copy)


def test_a_malicious_checkpoint_is_refused_and_not_executed(run_copy):
    class Boom:
        def __reduce__(self):
            return (os.system, (f"touch {run_copy.path}/executed",))

    path = run_copy.checkpoint_path(9)
    torch.save({"format": 1, "boom": Boom()}, path)
    with pytest.raises(CheckpointError, match=r"000009\.pt"):
        read_checkpoint(path, CPU)
    assert not (run_copy.path / "executed").exists()


def test_a_checkpoint_of_another_width_is_refused(run_copy, tiny):
    content = read_checkpoint(run_copy.checkpoints()[-1], CPU)
    with pytest.raises(CheckpointError, match="generator does not fit"):
        Players.build(dataclasses.replace(tiny, base_channels=8), CPU).load(content, Path("x.pt"))


@pytest.mark.parametrize(
    ("change", "message"),
    [({"batch_size": 64}, "training shapes: 24, fewer than one batch of 64; lower"), ({"resolution": 32}, "resolution 16")],
)
def test_a_config_that_does_not_fit_the_data_is_refused_before_a_run_is_made(
    tiny, sofas, dataset_dir, tmp_path, change, message
):
    config = dataclasses.replace(tiny, **change)
    with pytest.raises(ConfigError, match=message):
        begin(config, sofas, dataset_dir, tmp_path / "run")
    assert not (tmp_path / "run").exists()


# --- sampling -------------------------------------------------------------------------------------------------------------


def test_sampling_again_gives_the_same_shapes_and_other_seeds_others(run_copy):
    final = run_copy.samples().sha256
    sample(run_copy, n=40, name="again", device="cpu")
    sample(run_copy, n=40, name="other", seed=5, device="cpu")
    sample(run_copy, n=7, step=3, name="early", device="cpu")
    assert run_copy.samples("again").sha256 == final != run_copy.samples("other").sha256
    assert len(run_copy.samples("early")) == 7
    with pytest.raises(CheckpointError, match="no checkpoint of step 4; there are those of 3, 6"):
        sample(run_copy, step=4, device="cpu")


@pytest.mark.gpu
def test_a_gpu_trains_and_its_checkpoint_resumes_on_the_cpu(tiny, sofas, dataset_dir, tmp_path):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    half = dataclasses.replace(tiny, epochs=1)
    run = train(half, sofas, begin(half, sofas, dataset_dir, tmp_path / "gpu"), "cuda", quiet)
    check_resume(run, tiny, sofas)
    assert train(tiny, sofas, run, "cpu", quiet).meta["status"] == "finished"


def test_a_disk_that_cannot_hold_the_checkpoints_is_noticed_before_the_first_step(
    tiny, sofas, dataset_dir, tmp_path, monkeypatch
):
    run = begin(tiny, sofas, dataset_dir, tmp_path / "run")
    monkeypatch.setattr("gan3d_eval.files.shutil.disk_usage", lambda path: shutil._ntuple_diskusage(10**6, 10**6, 10))
    with pytest.raises(ConfigError, match=r"its checkpoints needs .* MB, the disk has 0.0 MB free; free some, or keep fewer"):
        train(tiny, sofas, run, "cpu", quiet)
    assert RunDir.open(run.path).metrics() is None


def test_the_checkpoints_that_a_resumed_run_has_need_no_more_room(run_copy, tiny, monkeypatch):
    monkeypatch.setattr("gan3d_eval.files.shutil.disk_usage", lambda path: shutil._ntuple_diskusage(10**6, 10**6, 150))
    check_space(tiny, 150, run_copy)
    check_space(dataclasses.replace(tiny, keep=10), 150, run_copy)  # no run keeps more than it writes
    with pytest.raises(ConfigError, match="with its checkpoints needs"):
        check_space(tiny, 151, run_copy)


def test_shapes_that_are_all_empty_are_refused(tiny):
    with pytest.raises(ConfigError, match="all 8 training shapes are empty"):
        check_fit(tiny, VoxelSet.from_grids(np.zeros((8, 16, 16, 16), np.bool_)))


def test_the_estimated_size_of_a_checkpoint_is_nearly_its_size(tiny):
    players = Players.build(dataclasses.replace(tiny, base_channels=32, ema=0.9), CPU)
    for player, optimizer in ((players.generator, players.optimizer_g), (players.discriminator, players.optimizer_d)):
        for weight in player.parameters():
            weight.grad = torch.zeros_like(weight)
        optimizer.step()
    buffer = io.BytesIO()
    torch.save(players.state(), buffer)
    assert players.checkpoint_bytes() == pytest.approx(buffer.tell(), rel=0.05)


# --- ingredients -----------------------------------------------------------------------------------------------------------

EVERYTHING = {"r1": 1.0, "r1_every": 2, "spectral_norm": True, "instance_noise": 0.1, "mirror": True, "shift": 1, "cutout": 0.2,
              "label_anneal": 0.5, "gate_window": 3, "init": "normal0.02", "ema": 0.9}  # fmt: skip


@pytest.mark.parametrize(
    "one", [{key: value} for key, value in EVERYTHING.items() if key != "r1_every"], ids=lambda one: next(iter(one))
)
def test_every_ingredient_changes_the_training_and_nothing_else_does(tiny, sofas, dataset_dir, tmp_path, one):
    together = {"gate": 0.5} if "gate_window" in one else {"r1_every": 1, "gate": 1.0} if "r1" in one else {}
    base = dataclasses.replace(tiny, **together, n_samples=8)
    samples = [
        train(config, sofas, begin(config, sofas, dataset_dir, tmp_path / str(i)), "cpu", quiet).samples().sha256
        for i, config in enumerate([base, base, dataclasses.replace(base, **one)])
    ]
    assert samples[0] == samples[1]
    assert samples[0] != samples[2]


def test_with_every_ingredient_a_resumed_run_takes_the_very_same_steps(tiny, sofas, dataset_dir, tmp_path):
    whole = dataclasses.replace(tiny, **EVERYTHING, epochs=4, n_samples=8)
    one = train(whole, sofas, begin(whole, sofas, dataset_dir, tmp_path / "one"), "cpu", quiet)
    run = begin(whole, sofas, dataset_dir, tmp_path / "two")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gan3d_model.train.stop_signals", stop_after(5))
        with pytest.raises(Interrupted):
            train(whole, sofas, run, "cpu", quiet)
    two = train(whole, sofas, RunDir.open(run.path), "cpu", quiet)
    assert one.samples().sha256 == two.samples().sha256
    logs = [pd.read_csv(r.path / "metrics.csv").drop(columns="seconds") for r in (one, two)]
    assert logs[0].equals(logs[1])


def test_a_wish_to_stop_in_the_last_step_is_heard_too(tiny, sofas, dataset_dir, tmp_path, monkeypatch):
    """Whoever trains as a part of something longer, as `demo` does, would go on with the rest."""
    run = begin(tiny, sofas, dataset_dir, tmp_path / "run")
    monkeypatch.setattr("gan3d_model.train.stop_signals", lambda say: contextlib.nullcontext(lambda: len(run.metrics()) == 6))
    with pytest.raises(Interrupted, match="interrupted at step 6 of 6; go on with: .*--resume"):
        train(tiny, sofas, run, "cpu", quiet)
    monkeypatch.undo()
    assert train(tiny, sofas, RunDir.open(run.path), "cpu", quiet).meta["status"] == "finished"
    assert len(run.samples("final")) == 40


def stop_after(steps):
    """A stand-in for the signals: the loop is asked to stop after so many steps."""

    @contextlib.contextmanager
    def signals(say):
        count = iter(range(steps))
        yield lambda: next(count, None) is None

    return signals


@pytest.mark.parametrize("spectral_norm", [False, True])
def test_every_convolution_starts_as_init_says(tiny, spectral_norm):
    players = Players.build(dataclasses.replace(tiny, base_channels=32, init="normal0.02", spectral_norm=spectral_norm), CPU)
    for player in (players.generator, players.discriminator):
        for weight in (weight for weight in player.parameters() if weight.ndim == 5):
            assert weight.detach().std() == pytest.approx(0.02, rel=0.1)
    if spectral_norm:  # whose vectors belong to these weights, not to those before them
        divided = [layer.weight for layer in players.discriminator.eval().modules() if isinstance(layer, nn.Conv3d)]
        assert all(torch.linalg.matrix_norm(weight.detach().flatten(1), 2) < 2 for weight in divided)


def test_a_young_average_follows_quickly_and_an_old_one_slowly(tiny):
    players = Players.build(dataclasses.replace(tiny, ema=0.99), CPU)
    with torch.no_grad():
        for weight in players.generator.parameters():
            weight.add_(1.0)
    first = next(iter(players.average.parameters())).clone()
    players.update_average(1)
    moved = next(iter(players.average.parameters())) - first
    assert torch.allclose(moved, torch.full_like(moved, 1 - 2 / 11), atol=1e-5)
    players.update_average(10_000)
    again = next(iter(players.average.parameters())) - first - moved
    assert torch.allclose(again, torch.full_like(again, 0.01 * 2 / 11), atol=1e-5)


def test_the_gate_averages_over_its_window(tiny, sofas, dataset_dir, tmp_path):
    config = dataclasses.replace(tiny, gate=0.6, gate_window=4, epochs=4)
    log = pd.read_csv(
        train(config, sofas, begin(config, sofas, dataset_dir, tmp_path / "r"), "cpu", quiet).path / "metrics.csv"
    )
    mean = log["acc_d"].rolling(4, min_periods=1).mean()
    assert (log["d_updated"].astype(bool) == (mean <= 0.6 + 1e-12)).all()


@pytest.mark.parametrize(
    ("status", "stepped", "advice"),
    [
        ("interrupted", False, "go on with its training: python cli.py train .* --resume"),  # before its first step
        ("running", True, "go on with its training: python cli.py train .* --resume"),  # killed before its first checkpoint
        ("interrupted", True, "train a new run$"),  # somebody deleted the checkpoints
        ("held", False, "it is being trained: wait for the first$"),
    ],
)
def test_a_run_without_checkpoints_is_sent_where_it_gets_some(run_copy, dataset_dir, status, stepped, advice):
    for path in (*run_copy.checkpoints(), *(run_copy.path / "samples").glob("*.npz")):
        path.unlink()
    if not stepped:
        (run_copy.path / "metrics.csv").unlink()
    run = run_copy.update(status=status.replace("held", "running"))
    with hold_run(run) if status == "held" else contextlib.nullcontext():
        for fails in (lambda: discriminator_of(run), run.samples, *([] if stepped else [lambda: curves(run)])):
            with pytest.raises(Gan3dError, match=advice):
                fails()
    shapes = VoxelSet.open(dataset_dir).select(run.meta["dataset"]["classes"], "train")
    can_go_on = contextlib.nullcontext() if "resume" in advice or status == "held" else pytest.raises(ConfigError)
    with can_go_on:  # the advice can be followed
        check_resume(run, config_of(run), shapes)
