"""Draw shapes from a generator: latents in, packed occupancy out.

G is in evaluation mode (batch norm uses its running statistics), so that a shape depends on its own latent alone.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gan3d_eval.run_dir import Gan3dError, RunDir
from gan3d_eval.voxels import halves, pack
from gan3d_model.config import TrainConfig
from gan3d_model.device import pick_device
from gan3d_model.losses import draw_latents, stream
from gan3d_model.players import Players

__all__ = ["draw_samples", "evaluation_latents", "generate", "sample"]

VOXELS_PER_BATCH = 2**22  # bounds the memory of one G forward at any resolution


@torch.no_grad()
def generate(
    generator: nn.Module, latents: Tensor, resolution: int, threshold: float = 0.5, soft: bool = False
) -> dict[str, NDArray[Any]]:
    """Map latents `(n, z)` to `occupancy`, packed grids `(n, ⌈d³/8⌉) uint8`; a voxel is occupied where its probability >
    threshold. With `soft` to `probability` too, `(n, d, d, d) float16`.
    """
    was_training = generator.training
    device = next(generator.parameters()).device
    generator.eval()
    size = max(1, VOXELS_PER_BATCH // resolution**3)
    occupancy, probability = [], []
    for part in latents.split(size):
        volume = generator(part.to(device))  # (≤size, d, d, d)
        occupancy.append(pack((volume > threshold).cpu().numpy()))
        if soft:
            probability.append(halves(volume.float().cpu().numpy(), threshold))
    generator.train(was_training)
    made: dict[str, NDArray[Any]] = {"occupancy": np.concatenate(occupancy)}
    return made | {"probability": np.concatenate(probability)} if soft else made


def draw_samples(
    players: Players, run: RunDir, name: str, latents: Tensor, step: int, threshold: float = 0.5, force: bool = False,
    soft: bool = False,
) -> Path:  # fmt: skip
    """Write the shapes of `latents` to `samples/<name>.npz`, with the latents, the step of the weights and the threshold."""
    grids = generate(players.sampler, latents, players.config.resolution, threshold, soft)
    facts = {"step": np.array(step), "threshold": np.array(threshold)}
    return run.write_samples(name, force, latents=latents.numpy(), **grids, **facts)


def evaluation_latents(config: TrainConfig, n: int | None = None, seed: int | None = None) -> Tensor:
    """Draw the latents of the evaluation set: `(n, z)`, by default the config's `n_samples` under its own seed."""
    return draw_latents(config, n or config.n_samples, stream(config.seed if seed is None else seed, "final-samples"))


def sample(
    run: RunDir, n: int | None = None, step: int | None = None, seed: int | None = None,
    name: str = "final", device: str = "auto", threshold: float = 0.5, force: bool = False, soft: bool = False,
) -> Path:  # fmt: skip
    """Draw n shapes from a checkpoint of `run` into `samples/<name>.npz`.

    Parameters
    ----------
    run : RunDir
    n : int, optional
        Number of shapes; None takes `n_samples` of the run's config.
    step : int, optional
        Which checkpoint; None takes the newest.
    seed : int, optional
        Of the latents; None takes the run's own.
    soft : bool
        Keep the probabilities too: 16 times the file's size before compression.

    Raises
    ------
    CheckpointError
        No checkpoint, or one that does not fit.
    """
    if n is not None and n < 1:
        raise Gan3dError(f"{n} samples asked for; expected at least 1")
    if not re.fullmatch(r"[A-Za-z][\w-]*", name):
        raise Gan3dError(f"{name!r} is no name for samples; expected letters, digits, - and _, beginning with a letter")
    if not 0 <= threshold <= 1:
        raise Gan3dError(f"threshold {threshold} asked for; expected a probability in [0, 1]")
    players, found = Players.open(run, step, pick_device(device))
    latents = evaluation_latents(players.config, n, seed)
    return draw_samples(players, run, name, latents, found, threshold, force, soft)
