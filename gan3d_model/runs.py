"""Runs begun and taken up again: make a run directory for a config and a dataset, or reopen one without changing its course."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

from gan3d_eval.run_dir import RunDir, dataset_record, new_run_id, producer, software
from gan3d_eval.voxels import VoxelSet
from gan3d_model.config import ConfigError, TrainConfig

__all__ = ["check_fit", "check_space", "create_run", "resume_run", "total_steps"]


def check_fit(config: TrainConfig, shapes: VoxelSet) -> None:
    """Refuse what cannot be trained: shapes of another resolution, fewer than one batch, an unknown prior (ConfigError)."""
    if config.prior == "unknown":
        raise ConfigError("prior is unknown; training needs one to draw latents from: uniform, normal or normal0.33")
    if shapes.resolution != config.resolution:
        raise ConfigError(f"the dataset has resolution {shapes.resolution}, but the config says {config.resolution}")
    if len(shapes) < config.batch_size:
        raise ConfigError(f"{len(shapes)} training shapes are fewer than one batch of {config.batch_size}; lower --batch-size")


def check_space(config: TrainConfig, checkpoint: int, run: RunDir) -> None:
    """Refuse to begin what the disk cannot hold: all checkpoints that are kept, of about `checkpoint` bytes, and one more."""
    kept = config.keep or math.ceil(config.epochs / config.checkpoint_every)
    needed, free = (kept + 1) * checkpoint, shutil.disk_usage(run.path).free
    if needed > free:
        raise ConfigError(
            f"{run.path}: {kept + 1} checkpoints need about {needed / 1e6:,.0f} MB, the disk has {free / 1e6:,.0f} MB free; "
            "free some, or keep fewer with --keep"
        )


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


def resume_run(run: RunDir, config: TrainConfig, shapes: VoxelSet) -> None:
    """Refuse to go on with a changed config or other shapes; write the config that may have changed in its free fields.

    Raises
    ------
    ConfigError
        Listing each difference.
    """
    if run.meta["status"] == "imported":
        raise ConfigError(f"{run.path} was imported: how it was trained is unknown, so it cannot be resumed; train a new run")
    old = TrainConfig.from_dict(run.config(), f"{run.path}/config.json")
    if changed := old.differences(config):
        raise ConfigError(f"{run.path} was trained with another config ({'; '.join(changed)}); start a new run instead")
    if (recorded := run.meta["dataset"]["sha256"]) != shapes.sha256:
        raise ConfigError(f"{run.path} was trained on other shapes (hash {recorded[:12]}, these: {shapes.sha256[:12]})")
    done = int(checkpoints[-1].stem) if (checkpoints := run.checkpoints()) else 0
    if done >= total_steps(config, len(shapes)):
        epochs = done * config.batch_size / len(shapes)
        raise ConfigError(f"{run.path} has already trained {epochs:.0f} epochs; ask for more than that with --epochs")
    run.write_config(config.to_dict())
