"""A run begun, or taken up again: make its directory, and refuse what cannot be trained or would change its course."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path

import filelock

from gan3d_eval import voxels
from gan3d_eval.run_dir import LOCK, Gan3dError, RunDir, dataset_record, new_run_id, producer, refuse_closed, software
from gan3d_eval.voxels import VoxelSet
from gan3d_model.config import ConfigError, TrainConfig

__all__ = ["check_fit", "check_resume", "check_space", "config_of", "create_run", "hold_run", "total_steps"]


def check_fit(config: TrainConfig, shapes: VoxelSet) -> None:
    """ConfigError for shapes of another resolution, fewer than one batch or all empty, and for an unknown prior."""
    if config.prior == "unknown":
        raise ConfigError("prior is unknown; training needs one to draw latents from: uniform, normal or normal0.33")
    if shapes.resolution != config.resolution:
        raise ConfigError(
            f"the dataset has resolution {shapes.resolution}, but the config says {config.resolution}: "
            "prepare it anew, or leave --resolution out"
        )
    if len(shapes) < config.batch_size:
        advice = "lower --batch-size" if len(shapes) > 1 else "at least 2 are needed"
        raise ConfigError(f"training shapes: {len(shapes)}, fewer than one batch of {config.batch_size}; {advice}")
    if not shapes.volume.any():
        raise ConfigError(f"all {len(shapes)} training shapes are empty; there is nothing to learn from them")


def check_space(config: TrainConfig, checkpoint: int, run: RunDir) -> None:
    """ConfigError where the disk cannot hold the checkpoints to come, of about `checkpoint` bytes each."""
    written = math.ceil(config.epochs / config.checkpoint_every)
    most = min(config.keep + 1, written) if config.keep else written  # an old one goes only when the new one stands
    missing = max(1, most - len(run.checkpoints()))  # those of a resumed run are there already
    what = f"{run.path} with its checkpoints"
    voxels.check_space(run.path, missing * checkpoint, what, ConfigError, ", or keep fewer with --keep")


def total_steps(config: TrainConfig, n: int) -> int:
    """Steps of a whole training on n shapes; the last one may reach into the next epoch, so that every batch is full."""
    return math.ceil(config.epochs * n / config.batch_size)


def create_run(
    config: TrainConfig, recipe: str, shapes: VoxelSet, dataset: Path, classes: list[str], runs: Path, command: list[str],
    path: Path | None = None,
) -> RunDir:  # fmt: skip
    """Make the run directory (`runs/<run_id>`, or `path`) for training on `shapes`, the train split of `dataset`."""
    check_fit(config, shapes)
    category = "-".join(classes) or str(shapes.info["name"])
    run_id = new_run_id(category, recipe, config.seed)
    target = path or runs / run_id
    run = RunDir.create(
        target,
        {
            "run_id": run_id, "category": category, "resolution": config.resolution, "status": "running", "seed": config.seed,
            "dataset": dataset_record(target, shapes, dataset, classes),
            "grid": (shapes.info.get("grid") or {}) | {"threshold": 0.5}, "prior": config.prior,
            "producer": producer(), "software": software("torch", "numpy"), "command": command,
        },
    )  # fmt: skip
    run.write_config(config.to_dict())
    return run


def config_of(run: RunDir) -> TrainConfig:
    """What `run` was trained with; ConfigError if that is not known (of imported runs), and so it cannot be resumed."""
    if (imported := run.meta["status"] == "imported") or not run.has("config.json"):
        why, restored = ("was imported", "") if imported else ("has no config.json", "restore it, or ")
        raise ConfigError(
            f"{run.path} {why}: how it was trained is unknown, so it cannot be resumed; {restored}train a new run"
        )
    try:
        config = TrainConfig.from_dict(run.config(), f"{run.path}/config.json")
    except Gan3dError as fault:
        raise ConfigError(f"{fault}; restore it, or train a new run") from None
    if config.resolution != run.resolution:
        raise ConfigError(
            f"{run.path}/config.json is of {config.resolution}³, or silent, and run.json of {run.resolution}³: one of them is "
            "damaged; restore it, or train a new run"
        )
    return config


def check_resume(run: RunDir, config: TrainConfig, shapes: VoxelSet) -> None:
    """ConfigError, naming each difference, where `run` cannot go on with `config` and `shapes`, or has nothing left to do.

    One that took its last step and was killed before it drew the evaluation set has that left.
    """
    known = config_of(run)
    asked = dataclasses.replace(config, precision=known.precision) if config.precision == "auto" else config
    if changed := known.differences(asked):
        raise ConfigError(f"{run.path} was trained with another config ({'; '.join(changed)}); start a new run instead")
    if (recorded := run.meta["dataset"]["sha256"]) != shapes.sha256:
        found = f"hash {recorded[:12]}, these: {shapes.sha256[:12]}"
        raise ConfigError(f"{run.path} was trained on other shapes ({found}); give it those, or train a new run")
    done = int(checkpoints[-1].stem) if (checkpoints := run.checkpoints()) else 0
    run.metrics()  # a damaged one is refused before anything is changed
    if run.has_lost_checkpoints():
        raise ConfigError(f"{run.path} has no checkpoint any more to go on from; train a new run instead")
    steps = total_steps(config, len(shapes))
    if done > steps or (done == steps and run.meta["status"] == "finished"):
        epochs = f"{done * config.batch_size / len(shapes):.1f}".removesuffix(".0")
        raise ConfigError(f"{run.path} has already trained {epochs} epochs; ask for more than that with --epochs")


@contextlib.contextmanager
def hold_run(run: RunDir) -> Iterator[None]:
    """Hold the run's lock, which dies with the process: two trainings in one directory would spoil both."""
    refuse_closed(run.path)
    try:
        with filelock.FileLock(run.path / LOCK, timeout=1):  # whoever looks holds it for a moment
            yield
    except filelock.Timeout:
        raise Gan3dError(f"{run.path} is being trained by another process; wait for it, or stop it") from None
