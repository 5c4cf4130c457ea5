"""Train a 3D-GAN: one visible loop.

What is written on the way: `metrics.csv` (a row a step), checkpoints, samples at fixed latents, TensorBoard scalars; at the
end `samples/final.npz`. Ctrl-C or SIGTERM ends the step, checkpoints, and leaves a run that can be resumed. Every random
number is a function of (seed, stream, step), so a resumed run takes the steps that it would have taken, on a CPU to the bit.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
from collections.abc import Callable, Collection

import numpy as np
import torch
from torch import Tensor

from gan3d_eval.run_dir import Gan3dError, RunDir
from gan3d_eval.voxels import VoxelSet
from gan3d_model.augment import augment, augments
from gan3d_model.batches import batch_rows, unpack_on_device
from gan3d_model.config import TrainConfig
from gan3d_model.detectors import Detectors, Failed, Watch, check_names
from gan3d_model.device import advice, keep_memory, pick_device, runs_ahead, use_bfloat16
from gan3d_model.losses import (
    discriminator_loss,
    draw_labels,
    draw_latents,
    gate_is_open,
    generator_loss,
    gradient_penalty,
    judged_right,
    stream,
)
from gan3d_model.monitor import Ledger, Progress, tensorboard
from gan3d_model.players import Players
from gan3d_model.runs import check_fit, check_space, hold_run, total_steps
from gan3d_model.sample import draw_samples, evaluation_latents
from gan3d_model.signals import stop_signals
from gan3d_model.team import Team

__all__ = ["Failed", "Interrupted", "check_start", "train"]

PROGRESS_SAMPLES = 16
GO_ON = "; go on with: "
READ_EVERY = 25  # steps of a GPU whose rows of the log are read together


class Interrupted(Gan3dError):
    """The run was stopped by a signal; it is whole and can be resumed."""

    exit_code = 130


def train(
    config: TrainConfig, shapes: VoxelSet, run: RunDir, device: str = "auto", say: Callable[[str], None] = print,
    stop_on: Collection[str] = (), team: Team = Team(), live: bool = False,  # noqa: B008 (it is frozen)
) -> RunDir:  # fmt: skip
    """Train from the newest checkpoint of `run` (or from the start) to `config.epochs`, then draw the evaluation set.

    Parameters
    ----------
    config : TrainConfig
    shapes : VoxelSet
        The training shapes, `(n, ⌈d³/8⌉) uint8` packed; they stay packed on the device.
    run : RunDir
        From `create_run`, or one that `check_resume` found fit to go on.
    device : str
        `auto`, `cpu`, `cuda`, `cuda:1` …
    say : callable
        Receives a line of progress now and then, and the diagnosis of each failure that is detected.
    stop_on : collection of str
        Failures (names of `detectors.FAILURES`) that end the training after a checkpoint.
    team : Team
        The processes that train together; only its leader writes.
    live : bool
        Draw a progress bar on stderr, a terminal, instead of saying a line every ten seconds.

    Raises
    ------
    Gan3dError
        What `check_start` refuses, or another process that trains the run: nothing was changed.
    Failed, Interrupted, Gan3dError
        After the run's `status` has been set to `failed` or `interrupted`.
    """
    place = check_start(config, shapes, device, stop_on, team)
    if config.precision == "auto":  # settled once: on whatever machine a run is resumed, it computes as it began
        began = (run.meta.get("computed") or {}).get("precision")
        config = dataclasses.replace(config, precision=began or ("bfloat16" if use_bfloat16(config, place) else "float32"))
    keep_memory()
    with hold_run(run) if team.leads else contextlib.nullcontext():
        try:
            with team.together(place, Failed, Interrupted):  # so that the leader can write all
                if team.leads:
                    return _lead(config, shapes, run, place, say, stop_on, team, live)
                return _follow(config, shapes, run, place, stop_on, team)
        except KeyboardInterrupt:  # while the evaluation set is drawn, or a second one
            raise Interrupted(f"{run.path} was interrupted{GO_ON}{run.resumption()}") from None
        except torch.OutOfMemoryError:
            raise Gan3dError(
                f"{place} has not enough memory for batches of {config.batch_size} at {config.resolution}³; "
                f"start again with --batch-size {max(2, config.batch_size // 2)}"
            ) from None


def check_start(config: TrainConfig, shapes: VoxelSet, device: str, stop_on: Collection[str], team: Team) -> torch.device:
    """Refuse (Gan3dError) what `train` cannot do, before a run is made or changed; return the device."""
    check_fit(config, shapes)
    check_names(stop_on)
    team.share(config.batch_size)
    return pick_device(device)


def _lead(
    config: TrainConfig, shapes: VoxelSet, run: RunDir, place: torch.device, say: Callable[[str], None],
    stop_on: Collection[str], team: Team, live: bool,
) -> RunDir:  # fmt: skip
    """Play the game to its end, write the run, and leave it with the status that it deserves."""
    began = not run.checkpoints()
    try:
        players = Players.build(config, place)
        check_space(config, players.checkpoint_bytes(), run)
        first = players.restore(run)
        began = True  # what was refused so far has changed nothing of a run that had been trained
        run = run.update(status="running", computed={"device": place.type, "precision": config.precision})
        run.write_config(config.to_dict())  # of a resumed run some settings may have changed
        say(f"training {run.path} on {len(shapes)} shapes, in {config.precision}; ctrl-C stops after a checkpoint")
        if hint := advice(place):
            say(hint)
        run = run.update(failures=[failure for failure in run.meta.get("failures", []) if failure["step"] <= first])
        progress = Progress(say, live)
        watch = Watch(run, Detectors.of(shapes, config), progress.say, stop_on)
        with run.metrics_log(upto=first) as log, tensorboard(run, config, first) as board, stop_signals(say) as stopped:
            ledger = Ledger(config, len(shapes), first, watch, log, board, progress)
            steps = _loop(players, shapes, run, first, ledger, stopped, team)
        progress.end()
        draw_samples(players, run, "final", evaluation_latents(config), steps, force=True)
        watch.final(run.samples("final"), steps)
    except BaseException as fault:
        with contextlib.suppress(OSError):  # a full disk must not hide the error that it caused
            what = str(fault).partition(GO_ON)[0].replace(str(run.path), run.path.name)
            reason = f"{type(fault).__name__}: {what}"
            stopped_by_user = isinstance(fault, Interrupted | KeyboardInterrupt)
            if began:
                run.update(status="interrupted" if stopped_by_user else "failed", failure=reason)
        raise
    return run.update(status="finished", failure=None)


def _follow(
    config: TrainConfig, shapes: VoxelSet, run: RunDir, place: torch.device, stop_on: Collection[str], team: Team
) -> RunDir:
    """Play the same game beside the leader, and write nothing."""
    players = Players.build(config, place)
    first = players.restore(run)
    watch = Watch(None, Detectors.of(shapes, config), stop_on=stop_on)
    watch.detectors.fired = [failure["name"] for failure in run.meta.get("failures", []) if failure["step"] <= first]
    with stop_signals(lambda line: None) as stopped:
        _loop(players, shapes, run, first, Ledger(config, len(shapes), first, watch), stopped, team)
    return run


def _loop(
    players: Players, shapes: VoxelSet, run: RunDir, first: int, ledger: Ledger, stopped: Callable[[], bool], team: Team
) -> int:
    """Play the game from step `first` on and return the last step. Read the comments alone and you have the algorithm."""
    G, D, config, device = players.generator, players.discriminator, players.config, players.device
    n, batch, read_every = len(shapes), config.batch_size, READ_EVERY if runs_ahead(device) else 1
    steps, share, x_axis = total_steps(config, n), team.share(batch), max(0, shapes.axes.find("x"))
    data = torch.from_numpy(np.array(shapes.packed)).to(device)  # (n, ⌈d³/8⌉) uint8: all shapes, still packed
    fixed = draw_latents(config, PROGRESS_SAMPLES, stream(config.seed, "fixed-samples"))
    autocast = functools.partial(torch.autocast, device.type, torch.bfloat16, enabled=use_bfloat16(config, device))

    def mine(whole: Tensor) -> Tensor:  # this process's share of something drawn for the whole batch
        return whole[share].to(device, non_blocking=True)

    def changed(grids: Tensor, name: str) -> Tensor:  # as D sees them at this step
        return augment(grids, config, progress, stream(config.seed, name, step), share, x_axis) if augments(config) else grids

    for step in range(first + 1, steps + 1):
        # Learning rates follow the schedule.
        progress = (step - 1) / steps
        lr_d, lr_g = (rate * lr_factor(config, progress) for rate in (config.lr_d, config.lr_g))
        _set_rate(players.optimizer_d, lr_d)
        _set_rate(players.optimizer_g, lr_g)

        # A batch of real shapes, of latents and of labels; of several processes each takes its share.
        real = unpack_on_device(data[mine(batch_rows(config.seed, n, batch, step))], config.resolution)  # (B, D, D, D)
        latents = mine(draw_latents(config, batch, stream(config.seed, "latents", step)))  # (B, z)
        label_real, label_fake = map(mine, draw_labels(config, batch, stream(config.seed, "labels", step), progress))

        # G imagines one batch, which both players use.
        with autocast():
            fake = G(latents)  # (B, D, D, D)

        # D judges both batches, changed alike. Detached: D's step sends no gradient into G.
        real = changed(real, "see-real")
        penalise = config.r1 > 0 and step % config.r1_every == 0
        with autocast():
            logits_real = D(real.requires_grad_(penalise))  # (B,)
            logits_fake = D(changed(fake.detach(), "see-fake"))  # (B,)
        logits_real, logits_fake = logits_real.float(), logits_fake.float()
        loss_real, loss_fake = discriminator_loss(logits_real, logits_fake, label_real, label_fake)
        right = team.sum(judged_right(logits_real, logits_fake))  # (2,)

        # The gate: D learns only while it is not too good already. A GPU need not wait to know: the optimiser does.
        # Differs from paper: this batch counts; the authors' release (main.lua) takes the accuracy of the one before.
        players.recent = torch.cat([players.recent, right.sum()[None]])[-config.gate_window :]
        opened = gate_is_open(players.recent, 2 * batch, config.gate)  # () bool
        if runs_ahead(device) or opened:
            loss = loss_real + loss_fake
            if penalise:  # lazily: one penalty stands for those of all steps since the last
                loss = loss + config.r1 * config.r1_every * gradient_penalty(logits_real, real)
            players.optimizer_d.zero_grad()
            loss.backward()
            team.average_gradients(D)
            players.update_discriminator(opened)

        # G learns to be called real by D as D now is. D's weights need no gradient here.
        D.requires_grad_(False)
        with autocast():
            logits = D(changed(fake, "see-fake-again"))
        loss_g = generator_loss(logits.float())
        players.optimizer_g.zero_grad()
        loss_g.backward()
        team.average_gradients(G)
        players.optimizer_g.step()
        D.requires_grad_(True)

        # The average of G follows G.
        players.update_average(step)

        # One row of the log. On a GPU it is read later, with others: to read is to wait for all that is queued.
        means = team.mean(torch.stack([loss_real, loss_fake, loss_g, (fake > 0.5).float().mean()]).detach())
        ledger.add(step, torch.cat([means, right / batch, opened.float()[None]]), lr_d, lr_g)
        sampling, saving = (_due(step, steps, n, batch, every) for every in (config.sample_every, config.checkpoint_every))
        if not sampling and not saving and step % read_every:
            continue
        ledger.read()

        # Every so many epochs samples at the same latents, and a checkpoint. Whoever stops the training gets one too.
        if team.leads and sampling:
            draw_samples(players, run, f"{step:06d}", fixed, step, force=True)
            ledger.samples(run.samples(f"{step:06d}"), step)
        fatal = ledger.watch.fatal
        stop = team.any(stopped() or bool(fatal), device)
        if team.leads and (saving or stop):
            players.save(run, step)
        if fatal:
            raise Failed(fatal)
        if stop:
            raise Interrupted(f"{run.path} was interrupted at step {step} of {steps}{GO_ON}{run.resumption()}")
    return steps


# --- pieces of the loop, each testable alone -------------------------------------------------------------------------


def lr_factor(config: TrainConfig, progress: float) -> float:
    """Factor on both learning rates when `progress` in [0, 1) of the training is done."""
    if config.lr_schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * progress))
    return config.lr_decay ** math.floor(progress / config.lr_step) if config.lr_schedule == "step" else 1.0


def _set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate


def _due(step: int, steps: int, n: int, batch: int, every: int) -> bool:
    """Whether an epoch whose number divides by `every` ends with this step, or the training does."""
    return step == steps or step * batch // (n * every) > (step - 1) * batch // (n * every)
