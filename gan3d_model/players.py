"""The two players with their optimisers and G's moving average, as one thing that is built, saved and loaded whole."""

from __future__ import annotations

import copy
import dataclasses
import io
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gan3d_eval.run_dir import Gan3dError, RunDir, atomic_file
from gan3d_model.config import TrainConfig
from gan3d_model.networks import BatchNorm, Discriminator, Generator
from gan3d_model.tensors import FAULTS

__all__ = [
    "CheckpointError",
    "Players",
    "discriminator_for",
    "generator_for",
    "open_checkpoint",
    "pick_device",
    "read_checkpoint",
]

FORMAT = 3


class CheckpointError(Gan3dError):
    """A checkpoint that is missing, truncated, of another architecture, or holds more than tensors."""


def generator_for(config: TrainConfig) -> Generator:
    """A new G of the layout that `config` says."""
    return Generator(config.resolution, config.base_channels, config.latent_dim, config.inner_size, config.last_bias)


def discriminator_for(config: TrainConfig) -> Discriminator:
    """A new D of the layout that `config` says."""
    return Discriminator(config.resolution, config.base_channels, config.spectral_norm, config.inner_size, config.last_bias)


def pick_device(name: str = "auto") -> torch.device:
    """Name a device: `auto` is the GPU when there is one. Gan3dError for one that is unknown or not here."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise Gan3dError(f"unknown device {name!r}; expected auto, cpu, cuda or cuda:0, cuda:1 …") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise Gan3dError(f"device {name} asked for, but this PyTorch sees no CUDA device; use --device cpu")
    return device


@dataclasses.dataclass
class Players:
    """G, D, their Adam optimisers, the average of G (None when `config.ema` is 0), and how good D was of late."""

    config: TrainConfig
    generator: nn.Module
    discriminator: nn.Module
    optimizer_g: torch.optim.Optimizer
    optimizer_d: torch.optim.Optimizer
    average: nn.Module | None
    recent: Tensor
    """How many shapes D judged right in each of the last `gate_window` batches, the newest last: `(≤ w,) float32`."""

    @classmethod
    def build(cls, config: TrainConfig, device: torch.device) -> Players:
        """Build both players under `config.seed`, and their optimisers."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            generator, discriminator = generator_for(config), discriminator_for(config)
            for layer in [*generator.modules(), *discriminator.modules()]:
                if isinstance(layer, BatchNorm):
                    layer.shared = config.sync_batch_norm
            if config.init == "normal0.02":
                for player in (generator, discriminator):
                    player.apply(_init_normal)
        players = [p.to(device=device, memory_format=torch.channels_last_3d) for p in (generator, discriminator)]  # type: ignore[call-overload]
        adam = [
            torch.optim.Adam(player.parameters(), lr, (config.beta1, config.beta2), fused=True)
            for player, lr in zip(players, (config.lr_g, config.lr_d), strict=True)
        ]
        average = copy.deepcopy(players[0]).requires_grad_(False) if config.ema else None
        return cls(config, players[0], players[1], adam[0], adam[1], average, torch.zeros(0, device=device))

    def update_discriminator(self, opened: Tensor) -> None:
        """Take D's step if `opened`, `() bool`, without asking the host: fused Adam can be told to leave all as it is.

        (It is what `torch.amp.GradScaler` tells it of gradients that overflowed.)
        """
        vars(self.optimizer_d).update(grad_scale=None, found_inf=(~opened).float())
        self.optimizer_d.step()

    @torch.no_grad()
    def follow(self, step: int) -> None:
        """Move the average towards G as it is after `step`; young averages move faster, or they would remember the noise."""
        if self.average is None:
            return
        weight = 1 - min(self.config.ema, (1 + step) / (10 + step))  # warm-up as in TensorFlow's ExponentialMovingAverage
        for mean, value in zip(self.average.state_dict().values(), self.generator.state_dict().values(), strict=True):
            if mean.is_floating_point():
                mean.lerp_(value, weight)
            else:
                mean.copy_(value)

    @property
    def sampler(self) -> nn.Module:
        """The generator to sample from: the average when there is one."""
        return self.generator if self.average is None else self.average

    def _parts(self) -> dict[str, Any]:
        """Whatever has a state dict; None where the config has no such part."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in {"config", "recent"}}

    def state(self) -> dict[str, Any]:
        """State dicts of all parts, and what the gate remembers."""
        return {name: part.state_dict() for name, part in self._parts().items() if part is not None} | {"recent": self.recent}

    def load(self, checkpoint: dict[str, Any], path: Path) -> None:
        """Put a checkpoint's state into the parts; CheckpointError if it is of another architecture.

        What an imported one lacks (D, optimisers) stays as it was built; G has to be there.
        """
        self.recent = checkpoint["recent"]
        for name, part in self._parts().items():
            if part is None or (checkpoint.get("imported") and name not in checkpoint and name != "generator"):
                continue
            try:
                part.load_state_dict(checkpoint[name])
            except (KeyError, RuntimeError, ValueError) as fault:
                reason = str(fault).split("\n")[0]
                raise CheckpointError(f"{path}: {name} does not fit the run's config ({reason})") from None

    def save(self, run: RunDir, step: int) -> Path:
        """Write `checkpoints/<step>.pt` atomically, then drop all but the newest `config.keep`."""
        path = run.checkpoint_path(step)
        content = {"format": FORMAT, "step": step, "config": self.config.to_dict(), **self.state()}
        buffer = io.BytesIO()  # torch hides a full disk behind a RuntimeError of its own when it writes the file itself
        torch.save(content, buffer)
        with atomic_file(path) as temporary:
            temporary.write_bytes(buffer.getbuffer())
        for old in run.checkpoints()[: -self.config.keep] if self.config.keep else []:
            old.unlink()
        return path

    def checkpoint_bytes(self) -> int:
        """About the size of a checkpoint: weights, two moments of Adam for each, the average."""
        sizes = [sum(weight.nbytes for weight in p.parameters()) for p in (self.generator, self.discriminator)]
        return 3 * sum(sizes) + (sizes[0] if self.average is not None else 0)

    def restore(self, run: RunDir) -> int:
        """Load the newest whole checkpoint and return its step; 0 if there is none. A damaged one is said and passed over."""
        for path in reversed(run.checkpoints()):
            try:
                content = read_checkpoint(path, next(self.generator.parameters()).device)
            except CheckpointError as fault:
                print(f"warning: {fault}; trying the one before", file=sys.stderr)
                continue
            self.load(content, path)
            return int(content["step"])
        return 0


def _init_normal(layer: nn.Module) -> None:
    """DCGAN's start (Radford et al. 2016): convolutions N(0, 0.02²), batch normalisation's scale N(1, 0.02²)."""
    if isinstance(layer, nn.Conv3d | nn.ConvTranspose3d):
        nn.init.normal_(layer.weight, 0.0, 0.02)
    elif isinstance(layer, nn.BatchNorm3d):
        nn.init.normal_(layer.weight, 1.0, 0.02)


def read_checkpoint(path: Path, device: torch.device) -> dict[str, Any]:
    """Read a checkpoint without executing anything in it (`weights_only=True`).

    Raises
    ------
    CheckpointError
        The file is missing, truncated, holds other objects than tensors, numbers and strings, or is another format.
    """
    try:
        content = torch.load(path, map_location=device, weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing") from None
    except FAULTS as fault:
        reason = str(fault).split("\n")[0][:120]
        raise CheckpointError(f"{path} is truncated or no checkpoint of tensors ({reason})") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise CheckpointError(f"{path} is no gan3d checkpoint of format {FORMAT}")
    return content


def open_checkpoint(run: RunDir, step: int | None, device: torch.device) -> tuple[dict[str, Any], TrainConfig, Path]:
    """Read the checkpoint of `step` (None: the newest), with its config and path; CheckpointError if there is none."""
    checkpoints = run.checkpoints()
    path = run.checkpoint_path(step) if step is not None else checkpoints[-1] if checkpoints else None
    if path is None or not path.exists():
        if not checkpoints and run.meta["status"] == "imported":
            raise CheckpointError(
                f"{run.path} was imported without weights; import it again with them: import-run --weights FILE"
            )
        found = ", ".join(p.name for p in checkpoints) or "none"
        raise CheckpointError(f"{run.path}: no checkpoint{'' if step is None else f' of step {step}'}; found: {found}")
    content = read_checkpoint(path, device)
    return content, TrainConfig.from_dict(content["config"], str(path)), path
