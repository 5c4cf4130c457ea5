"""The latent space of a checkpoint's generator, as evaluation explores it; and the way back from a shape to its latent."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor, nn

from gan3d_eval.run_dir import RunDir
from gan3d_eval.voxels import VoxelSet
from gan3d_model.batches import unpack_on_device
from gan3d_model.config import TrainConfig
from gan3d_model.device import pick_device
from gan3d_model.losses import SIGMA, draw_latents, stream
from gan3d_model.players import Players
from gan3d_model.sample import generate

__all__ = ["CheckpointSpace"]

TAILS = (0.05, 0.95)
CENTRAL = 0.99
"""Share of the prior in the ball in which a latent is looked for."""
VOXELS_PER_BATCH = 2**20  # a batch bounds the memory of one pass through G and back
STEPS, LR = 200, 0.05  # of Adam, in deviations of the prior
EPSILON = 1e-6


class CheckpointSpace:
    """What `gan3d_eval.latent.LatentSpace` asks for, by a generator with its config."""

    def __init__(self, generator: nn.Module, config: TrainConfig, seed: int = 0, name: str = "G") -> None:
        self.generator, self.config, self.seed, self.name = generator.eval(), config, seed, name
        self.resolution: int = config.resolution
        self.dimension = config.latent_dim
        self.centre = 0.5 if config.prior == "uniform" else 0.0
        low, high = (stats.norm.ppf(tail) * SIGMA.get(config.prior, 0.0) for tail in TAILS)
        self.ends = TAILS if config.prior == "uniform" else (float(low), float(high))

    @classmethod
    def open(cls, run: RunDir, step: int | None = None, seed: int = 0, device: str = "auto") -> CheckpointSpace:
        """G (its average, where there is one) of a checkpoint of `run`, None: the newest; CheckpointError if there is none."""
        players, found = Players.open(run, step, pick_device(device))
        return cls(players.sampler, players.config, seed, f"checkpoints/{run.checkpoint_path(found).name}")

    def draw(self, name: str, n: int) -> NDArray[np.float32]:
        """`(n, z)` latents from the prior, of another stream for each name."""
        latents: NDArray[np.float32] = draw_latents(self.config, n, stream(self.seed, f"explore-{name}")).numpy()
        return latents

    def shapes(self, latents: NDArray[np.float32]) -> VoxelSet:
        """What G makes of latents `(n, z)`, at threshold 0.5; not called as the samples of the run are, which are others."""
        occupancy = generate(self.generator, torch.from_numpy(latents), self.resolution)["occupancy"]
        return VoxelSet.from_packed(occupancy, self.resolution, [f"drawn-{i:04d}" for i in range(len(occupancy))])

    def recover(
        self, shapes: VoxelSet, start: NDArray[np.float32], steps: int = STEPS, lr: float = LR
    ) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """Latents whose shapes come nearest to `shapes`: by Adam through G, from `start` `(n, z)` (Webster et al. 2019).

        The binary cross-entropy of G's probabilities is minimised. Latents are kept where the prior draws them: in its box, or
        in the ball that holds 99 % of it. Elsewhere a large G draws nearly anything, which says nothing of what it learned.

        Returns
        -------
        latents : (n, z) float32
            The best of each shape on its way, by intersection over union at threshold 0.5.
        iou : (n,) float64
            Theirs.
        """
        device = next(self.generator.parameters()).device
        size = max(1, VOXELS_PER_BATCH // self.resolution**3)
        parts = []
        for i in range(0, len(shapes), size):
            packed = torch.from_numpy(np.array(shapes.packed[i : i + size]))
            target = unpack_on_device(packed.to(device), self.resolution)
            parts.append(self._descend(target, torch.from_numpy(start[i : i + size]).to(device), steps, lr))
        latents, overlaps = (torch.cat(list(column)).cpu() for column in zip(*parts, strict=True))
        return latents.numpy(), overlaps.double().numpy()

    def _descend(self, target: Tensor, start: Tensor, steps: int, lr: float) -> tuple[Tensor, Tensor]:
        """The best latents and their intersections over union for one batch of grids `(n, d, d, d)`."""
        latents = start.clone().requires_grad_()
        optimizer = torch.optim.Adam([latents], lr=lr * SIGMA.get(self.config.prior, 0.3))  # U[0,1]: about 0.3
        best, overlap = start.clone(), torch.full((len(start),), -1.0, device=start.device)
        for _ in range(steps + 1):
            volume = self.generator(latents).float()
            with torch.no_grad():
                occupied, real = volume > 0.5, target > 0.5
                either = (occupied | real).flatten(1).sum(1)
                now = torch.where(either > 0, (occupied & real).flatten(1).sum(1) / either.clamp_min(1), 1.0)
                best = torch.where((now > overlap)[:, None], latents, best)
                overlap = torch.maximum(now, overlap)
            clipped = volume.clamp(EPSILON, 1 - EPSILON)
            loss = nn.functional.binary_cross_entropy(clipped, target, reduction="none").flatten(1).mean(1).sum()
            (latents.grad,) = torch.autograd.grad(loss, latents)
            optimizer.step()
            with torch.no_grad():
                latents.copy_(self._kept_in_prior(latents))
        return best.detach(), overlap

    def _kept_in_prior(self, latents: Tensor) -> Tensor:
        """The nearest latents that lie in the prior's box, or in the ball that holds 99 % of it."""
        if self.config.prior == "uniform":
            return latents.clamp(0, 1)
        most = SIGMA[self.config.prior] * float(np.sqrt(stats.chi2.ppf(CENTRAL, self.dimension)))
        kept: Tensor = latents * (most / latents.norm(dim=1, keepdim=True).clamp_min(EPSILON)).clamp_max(1)
        return kept
