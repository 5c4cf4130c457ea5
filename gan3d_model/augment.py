"""Change real and generated shapes alike before D sees them, so that D cannot learn the few real ones by heart.

The transforms are drawn from the same law for both and let gradients through to G (Zhao et al. 2020, "Differentiable
augmentation for data-efficient GAN training"). A change leaks into what G makes unless it can be undone in distribution
(Karras et al. 2020, "Training GANs with limited data", sec. 2.2): mirroring is applied half of the time and noise falls to 0;
every shift and every place of a cut-out is equally likely.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gan3d_model.config import TrainConfig

__all__ = ["augment", "augments"]


def augments(config: TrainConfig) -> bool:
    """Whether the config asks for any change."""
    return config.mirror or config.shift > 0 or config.cutout > 0 or config.instance_noise > 0


def augment(
    grids: Tensor, config: TrainConfig, progress: float, random: torch.Generator, share: slice = slice(None), x: int = 0
) -> Tensor:
    """Change a batch `(B, D, D, D)` of occupancies, each shape by its own draw.

    Parameters
    ----------
    progress : float
        Share of the training that is done, in [0, 1): instance noise falls linearly to 0 (Sønderby et al. 2017, "Amortised
        MAP inference for image super-resolution", sec. 3.1).
    random : torch.Generator
        On the CPU, so that the draws are the same on every device.
    share : slice
        Which part of the global batch `grids` is: draws are made for all of it.
    x : int
        Which axis of a shape is x, left and right: the second of polygon2voxel's, the first of all others.
    """
    d = grids.shape[1]
    b = len(grids) if share == slice(None) else config.batch_size
    if config.mirror:
        mirrored = (torch.rand(b, generator=random) < 0.5)[share].to(grids.device, non_blocking=True)
        grids = torch.where(mirrored[:, None, None, None], grids.flip(1 + x), grids)
    if config.shift:
        grids = _shift(grids, torch.randint(-config.shift, config.shift + 1, (b, 3), generator=random)[share])
    if config.cutout:
        side = max(1, round(config.cutout * d))
        corner = torch.randint(1 - side, d, (b, 3), generator=random)[share].to(grids.device, non_blocking=True)
        at = torch.arange(d, device=grids.device)
        inside = (at >= corner[:, :, None]) & (at < corner[:, :, None] + side)  # (B, 3, D)
        box = inside[:, 0, :, None, None] & inside[:, 1, None, :, None] & inside[:, 2, None, None, :]
        grids = grids.masked_fill(box, 0.0)
    if config.instance_noise:
        noise = torch.randn(b, d, d, d, generator=random)[share].to(grids.device, non_blocking=True)
        grids = grids + config.instance_noise * (1 - progress) * noise
    return grids


def _shift(grids: Tensor, steps: Tensor) -> Tensor:
    """Move each shape `(D, D, D)` by its `(3,)` whole voxels; what leaves the grid is lost, what enters is empty."""
    b, d = len(grids), grids.shape[1]
    steps = steps.to(grids.device, non_blocking=True)
    at = torch.arange(d, device=grids.device) - steps[:, :, None]  # (B, 3, D): where each voxel comes from
    there = (at >= 0) & (at < d)
    x, y, z = at.clamp(0, d - 1).unbind(1)
    batch = torch.arange(b, device=grids.device)[:, None, None, None]
    moved = grids[batch, x[:, :, None, None], y[:, None, :, None], z[:, None, None, :]]
    kept = there[:, 0, :, None, None] & there[:, 1, None, :, None] & there[:, 2, None, None, :]
    return moved * kept
