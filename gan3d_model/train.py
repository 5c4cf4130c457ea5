"""Train a 3D-GAN: one visible loop.

What is written on the way: `metrics.csv` (a row a step), checkpoints, samples at fixed latents, TensorBoard scalars; at the
end `samples/final.npz`. Ctrl-C or SIGTERM ends the step, checkpoints, and leaves a run that can be resumed. Every random
number is a function of (seed, stream, step), so a resumed run takes exactly the steps that it would have taken.
"""

from __future__ import annotations

import contextlib
import functools
import math
import signal
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator
from typing import Any

import filelock
import numpy as np
import torch
from torch import Tensor

from gan3d_eval.run_dir import Gan3dError, RunDir
from gan3d_eval.voxels import VoxelSet
from gan3d_model.augment import augment, augments
from gan3d_model.batches import batch_rows, unpack_on_device
from gan3d_model.config import TrainConfig
from gan3d_model.detectors import Detectors, Failed, Watch
from gan3d_model.losses import (
    accuracy,
    discriminator_loss,
    draw_labels,
    draw_latents,
    gate_is_open,
    generator_loss,
    gradient_penalty,
    stream,
)
from gan3d_model.monitor import Board, tensorboard
from gan3d_model.players import Players, pick_device
from gan3d_model.runs import check_fit, check_space, total_steps
from gan3d_model.sample import draw_samples, evaluation_latents
from gan3d_model.team import Team

__all__ = ["Failed", "Interrupted", "train"]

PROGRESS_SAMPLES = 16


class Interrupted(Gan3dError):
    """The run was stopped by a signal; it is whole and can be resumed."""

    exit_code = 130


def train(
    config: TrainConfig, shapes: VoxelSet, run: RunDir, device: str = "auto", say: Callable[[str], None] = print,
    stop_on: Collection[str] = (), team: Team = Team(),  # noqa: B008 (it is frozen)
) -> RunDir:  # fmt: skip
    """Train from the newest checkpoint of `run` (or from the start) to `config.epochs`, then draw the evaluation set.

    Parameters
    ----------
    config : TrainConfig
    shapes : VoxelSet
        The training shapes, `(n, ⌈d³/8⌉) uint8` packed; they stay packed on the device.
    run : RunDir
        From `create_run` or `resume_run`.
    device : str
        `auto`, `cpu`, `cuda`, `cuda:1` …
    say : callable
        Receives a line of progress now and then, and the diagnosis of each failure that is detected.
    stop_on : collection of str
        Failures (names of `detectors.FAILURES`) that end the training after a checkpoint.
    team : Team
        The processes that train together; only its leader writes.

    Raises
    ------
    Failed, Interrupted, Gan3dError
        After the run's `status` has been set to `failed` or `interrupted`.
    """
    place = pick_device(device)
    check_fit(config, shapes)
    team.share(config.batch_size)
    with _alone(run) if team.leads else contextlib.nullcontext():
        return _play(config, shapes, run, place, say, stop_on, team)


def _play(
    config: TrainConfig, shapes: VoxelSet, run: RunDir, place: torch.device, say: Callable[[str], None],
    stop_on: Collection[str], team: Team,
) -> RunDir:  # fmt: skip
    """Play the game to its end, and leave the run with the status that it deserves."""
    if not team.leads:
        players = Players.build(config, place)
        first = players.restore(run)
        watch = Watch(None, Detectors.of(shapes, config), stop_on=stop_on)
        with _stop_signals() as stopped:
            _loop(config, shapes, run, players, place, first, lambda row: None, Board(), stopped, _hush, watch, team)
        return run
    try:
        run = run.update(status="running")
        players = Players.build(config, place)
        check_space(config, players.checkpoint_bytes(), run)
        first = players.restore(run)
        run = run.update(failures=[failure for failure in run.meta.get("failures", []) if failure["step"] <= first])
        watch = Watch(run, Detectors.of(shapes, config), say, stop_on)
        with run.metrics_log(upto=first) as log, tensorboard(run, config, first) as board, _stop_signals() as stopped:
            steps = _loop(config, shapes, run, players, place, first, log, board, stopped, say, watch, team)
        draw_samples(players, run, "final", evaluation_latents(config), steps, force=True)
    except BaseException as fault:
        with contextlib.suppress(OSError):  # a full disk must not hide the error that it caused
            reason = f"{type(fault).__name__}: {fault}".replace(str(run.path), run.path.name)
            stopped_by_user = isinstance(fault, Interrupted | KeyboardInterrupt)
            run.update(status="interrupted" if stopped_by_user else "failed", failure=reason)
        raise
    return run.update(status="finished", failure=None)


def _loop(
    config: TrainConfig, shapes: VoxelSet, run: RunDir, players: Players, device: torch.device, first: int,
    log: Callable[[dict[str, float]], Any], board: Board, stopped: Callable[[], bool], say: Callable[[str], None],
    watch: Watch, team: Team,
) -> int:  # fmt: skip
    """Play the game from step `first` on and return the last step. Read the comments alone and you have the algorithm."""
    G, D = players.generator, players.discriminator
    n, batch = len(shapes), config.batch_size
    steps, share = total_steps(config, n), team.share(batch)
    data = torch.from_numpy(np.array(shapes.packed)).to(device)  # (n, d³/8) uint8: all shapes, still packed
    fixed = draw_latents(config, PROGRESS_SAMPLES, stream(config.seed, "fixed-samples"))
    half = functools.partial(torch.autocast, device.type, torch.bfloat16, enabled=use_bfloat16(config, device))
    begin = said = time.perf_counter()

    def see(grids: Tensor, name: str, step: int, progress: float) -> Tensor:
        return augment(grids, config, progress, stream(config.seed, name, step), share) if augments(config) else grids

    for step in range(first + 1, steps + 1):
        # Learning rates follow the schedule.
        progress = (step - 1) / steps
        factor = lr_factor(config, progress)
        _set_rate(players.optimizer_g, config.lr_g * factor)
        _set_rate(players.optimizer_d, config.lr_d * factor)

        # A batch of real shapes, of latents and of labels; of several processes each takes its share.
        real = unpack_on_device(data[batch_rows(config.seed, n, batch, step)[share]], config.resolution)  # (B, D, D, D)
        latents = draw_latents(config, batch, stream(config.seed, "latents", step))[share].to(device)  # (B, z)
        labels = draw_labels(config, batch, stream(config.seed, "labels", step), progress)
        label_real, label_fake = (x[share].to(device) for x in labels)

        # G imagines one batch, which both players use.
        with half():
            fake = G(latents)  # (B, D, D, D)

        # D judges both batches, changed alike. Detached: D's step sends no gradient into G.
        real = see(real, "see-real", step, progress)
        punish = config.r1 > 0 and step % config.r1_every == 0
        with half():
            logits_real = D(real.requires_grad_(punish))  # (B,)
            logits_fake = D(see(fake.detach(), "see-fake", step, progress))  # (B,)
        logits_real, logits_fake = logits_real.float(), logits_fake.float()
        loss_real, loss_fake = discriminator_loss(logits_real, logits_fake, label_real, label_fake)
        facts = torch.stack([loss_real, loss_fake, *accuracy(logits_real, logits_fake)]).detach()
        mean_real, mean_fake, acc_real, acc_fake = team.mean(facts).tolist()

        # The gate: D learns only while it is not too good already.
        acc = (acc_real + acc_fake) / 2
        players.recent = [*players.recent, acc][-config.gate_window :]
        if updated := gate_is_open(sum(players.recent) / len(players.recent), config.gate):
            loss = loss_real + loss_fake
            if punish:  # lazily: one penalty stands for those of all steps since the last
                loss = loss + config.r1 * config.r1_every * gradient_penalty(logits_real, real)
            players.optimizer_d.zero_grad()
            loss.backward()
            team.average_gradients(D)
            players.optimizer_d.step()

        # G learns to be called real by D as D now is. D's weights need no gradient here.
        D.requires_grad_(False)
        with half():
            logits = D(see(fake, "see-fake-again", step, progress))
        loss_g = generator_loss(logits.float())
        players.optimizer_g.zero_grad()
        loss_g.backward()
        team.average_gradients(G)
        players.optimizer_g.step()
        D.requires_grad_(True)

        # The average of G follows G.
        players.follow(step)

        # One row of the log.
        mean_g, occupancy = team.mean(torch.stack([loss_g.detach(), (fake > 0.5).float().mean()])).tolist()
        now, epoch = time.perf_counter(), step * batch / n
        row = {
            "step": step, "epoch": epoch, "seconds": now - begin, "loss_d": mean_real + mean_fake,
            "loss_d_real": mean_real, "loss_d_fake": mean_fake, "loss_g": mean_g, "acc_d": acc,
            "acc_d_real": acc_real, "acc_d_fake": acc_fake, "d_updated": updated, "lr_d": config.lr_d * factor,
            "lr_g": config.lr_g * factor, "occupancy_g": occupancy,
        }  # fmt: skip
        log(row)
        board.row(row, step)
        watch.row(row)
        if now - said > 10 or step == steps:
            said, left = now, (now - begin) / (step - first) * (steps - step)
            say(f"epoch {min(epoch, config.epochs):.1f}/{config.epochs}  loss D {row['loss_d']:.3f} G {row['loss_g']:.3f}  "
                f"accuracy {acc:.2f}  occupancy {row['occupancy_g']:.3f}  {left:.0f} s left")  # fmt: skip

        # Samples at the same latents, and checkpoints, every so many epochs; a signal checkpoints too.
        if team.leads and _due(step, steps, n, batch, config.sample_every):
            draw_samples(players, run, f"{step:06d}", fixed, step, force=True)
            drawn = run.samples(f"{step:06d}")
            watch.samples(drawn, step)
            board.samples(drawn, step)
        stop = team.any(stopped() or bool(watch.fatal), device)
        if team.leads and (_due(step, steps, n, batch, config.checkpoint_every) or stop):
            players.save(run, step)
        if watch.fatal:
            raise Failed(watch.fatal)
        if stop and step < steps:
            raise Interrupted(f"{run.path} was interrupted at step {step} of {steps} and can be resumed")
    return steps


# --- pieces of the loop, each testable alone -------------------------------------------------------------------------


def lr_factor(config: TrainConfig, progress: float) -> float:
    """Factor on both learning rates when `progress` in [0, 1) of the training is done."""
    if config.lr_schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * progress))
    return config.lr_decay ** math.floor(progress / config.lr_step) if config.lr_schedule == "step" else 1.0


def use_bfloat16(config: TrainConfig, device: torch.device) -> bool:
    """Whether matrix products run in bfloat16: as configured, or (`auto`) on a GPU that computes in it."""
    if config.precision != "auto":
        return config.precision == "bfloat16"
    return device.type == "cuda" and torch.cuda.is_bf16_supported()


def _hush(line: str) -> None:
    """Say nothing: the leader speaks for all."""


def _set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate


def _due(step: int, steps: int, n: int, batch: int, every: int) -> bool:
    """Whether an epoch whose number divides by `every` ends with this step, or the training does."""
    return step == steps or step * batch // (n * every) > (step - 1) * batch // (n * every)


@contextlib.contextmanager
def _alone(run: RunDir) -> Iterator[None]:
    """Hold the run's lock, which dies with the process: two trainings in one directory would spoil both."""
    try:
        with filelock.FileLock(run.path / ".lock", timeout=0):
            yield
    except filelock.Timeout:
        raise Gan3dError(f"{run.path} is being trained by another process; wait for it, or stop it") from None


@contextlib.contextmanager
def _stop_signals() -> Iterator[Callable[[], bool]]:
    """Turn the first SIGINT or SIGTERM into a question the loop asks; a second SIGINT interrupts at once."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop.is_set
        return

    def request(number: int, frame: Any) -> None:
        stop.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        print("stopping after this step, to checkpoint; once more to stop at once", file=sys.stderr)

    old = {number: signal.signal(number, request) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop.is_set
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
