"""The two players with their optimisers and G's moving average, as one thing that is built, saved and loaded whole."""

from __future__ import annotations

import copy
import dataclasses
import functools
import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gan3d_eval.run_dir import Gan3dError, RunDir, atomic_file
from gan3d_model.config import TrainConfig
from gan3d_model.networks import BatchNorm, Discriminator, Generator
from gan3d_model.tensors import FAULTS, TensorError, check_archive

__all__ = [
    "CheckpointError",
    "MissingPart",
    "Players",
    "check_weights",
    "discriminator_for",
    "generator_for",
    "load_part",
    "open_checkpoint",
    "read_checkpoint",
    "write_checkpoint",
]

FORMAT = 3
KINDS = {"format": int, "step": int, "config": dict, "recent": Tensor}
"""What every checkpoint holds, beside the states of those that play."""


class CheckpointError(Gan3dError):
    """A checkpoint that is missing, truncated, of another architecture, or holds more than tensors."""


class MissingPart(CheckpointError):
    """A checkpoint without the network that is asked for: imported ones may hold G or D alone."""


def generator_for(config: TrainConfig) -> Generator:
    """A new G of the layout that `config` says."""
    normal = config.init == "normal0.02"
    return Generator(config.resolution, config.base_channels, config.latent_dim, config.inner_size, config.last_bias, normal)


def discriminator_for(config: TrainConfig) -> Discriminator:
    """A new D of the layout that `config` says."""
    normal, spectral = config.init == "normal0.02", config.spectral_norm
    return Discriminator(config.resolution, config.base_channels, spectral, config.inner_size, config.last_bias, normal)


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
    def open(cls, run: RunDir, step: int | None, device: torch.device) -> tuple[Players, int]:
        """The players of the checkpoint of `step` (None: the newest), and its step; CheckpointError if there is none."""
        content, config, path = open_checkpoint(run, step, device)
        # of D, which has about as many numbers or fewer, and may be missing, nothing is asked
        check_weights(generator_for, config, content, "generator", path)
        players = cls.build(config, device)
        players.load(content, path)
        return players, content["step"]

    @classmethod
    def build(cls, config: TrainConfig, device: torch.device) -> Players:
        """Build both players under `config.seed`, and their optimisers."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            generator, discriminator = generator_for(config), discriminator_for(config)
            for layer in [*generator.modules(), *discriminator.modules()]:
                if isinstance(layer, BatchNorm):
                    layer.shared = config.sync_batch_norm
        for player in (generator, discriminator):
            player.to(device=device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        adam = functools.partial(torch.optim.Adam, betas=(config.beta1, config.beta2), fused=True)
        optimizer_g, optimizer_d = adam(generator.parameters(), config.lr_g), adam(discriminator.parameters(), config.lr_d)
        average = copy.deepcopy(generator).requires_grad_(False) if config.ema else None
        return cls(config, generator, discriminator, optimizer_g, optimizer_d, average, torch.zeros(0, device=device))

    @property
    def device(self) -> torch.device:
        """Where the players are."""
        return next(self.generator.parameters()).device

    def update_discriminator(self, opened: Tensor) -> None:
        """Take D's step if `opened`, `() bool`, without asking the host: fused Adam can be told to leave all as it is.

        (It is what `torch.amp.GradScaler` tells it of gradients that overflowed.)
        """
        vars(self.optimizer_d).update(grad_scale=None, found_inf=(~opened).float())
        self.optimizer_d.step()

    @torch.no_grad()
    def update_average(self, step: int) -> None:
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
        """Whatever has a state dict, under its name in a checkpoint."""
        parts = {name: getattr(self, name) for name in ("generator", "discriminator", "optimizer_g", "optimizer_d")}
        return parts | ({"average": self.average} if self.average is not None else {})

    def state(self) -> dict[str, Any]:
        """State dicts of all parts, and what the gate remembers."""
        return {name: part.state_dict() for name, part in self._parts().items()} | {"recent": self.recent}

    def load(self, checkpoint: dict[str, Any], path: Path) -> None:
        """Put a checkpoint's state into the parts; CheckpointError if it is of another architecture.

        What an imported one lacks (D, optimisers) stays as it was built; G has to be there.
        """
        self.recent = checkpoint["recent"]
        for name, part in self._parts().items():
            if name in checkpoint or name == "generator" or not checkpoint.get("imported"):
                load_part(part, checkpoint, name, path)

    def save(self, run: RunDir, step: int) -> None:
        """Write `checkpoints/<step>.pt` atomically, then drop all but the newest `config.keep` of the steps so far.

        Checkpoints of later steps, which `restore` could not read, go too: this training takes their steps anew.
        """
        write_checkpoint(run.checkpoint_path(step), {"step": step, "config": self.config.to_dict(), **self.state()})
        past = [path for path in run.checkpoints() if int(path.stem) <= step]
        for path in set(run.checkpoints()) - set(past[-self.config.keep :]):  # [-0:] is all of them
            path.unlink()

    def checkpoint_bytes(self) -> int:
        """About the size of a checkpoint: weights, two moments of Adam for each, the average."""
        sizes = [sum(weight.nbytes for weight in p.parameters()) for p in (self.generator, self.discriminator)]
        return 3 * sum(sizes) + (sizes[0] if self.average is not None else 0)

    def restore(self, run: RunDir) -> int:
        """Load the newest whole checkpoint and return its step; a damaged one is said and passed over.

        Without any file the step is 0; CheckpointError if there are some and none is whole.
        """
        paths = run.checkpoints()
        for path in reversed(paths):
            try:
                content = read_checkpoint(path, self.device)
            except CheckpointError as fault:
                print(f"warning: {fault}{'; trying the one before' * (path != paths[0])}", file=sys.stderr)
                continue
            self.load(content, path)
            return int(content["step"])
        if paths:
            raise CheckpointError(f"{run.path}: none of its {len(paths)} checkpoints can be read; train a new run instead")
        return 0


def check_weights(
    make: Callable[[TrainConfig], nn.Module], config: TrainConfig, checkpoint: dict[str, Any], name: str, path: Path
) -> None:
    """Refuse (CheckpointError) to make a network of more numbers than its checkpoint has bytes: a config can ask for 31 GB."""
    if name not in checkpoint:
        raise _missing(checkpoint, name, path)
    with torch.device("meta"):
        needed = sum(weight.numel() for weight in make(config).parameters())
    if needed > (held := path.stat().st_size):
        raise CheckpointError(f"{path} has {held:,} bytes, and the config in it asks for a network of {needed:,} weights")


def load_part(part: Any, checkpoint: dict[str, Any], name: str, path: Path) -> None:
    """Load the state `name` of a checkpoint into a network or an optimiser; CheckpointError if it does not fit."""
    try:
        part.load_state_dict(checkpoint[name])
    except KeyError:
        raise _missing(checkpoint, name, path) from None
    except (AttributeError, RuntimeError, TypeError, ValueError) as fault:
        reason = " ".join(str(fault).split())[:200]
        way_out = "one of both is damaged: restore it, or train a new run"
        raise CheckpointError(f"{path}: {name} does not fit the config beside it; {way_out} ({reason} …)") from None


def _missing(checkpoint: dict[str, Any], name: str, path: Path) -> MissingPart:
    """That a checkpoint lacks the state `name`, and what it has."""
    others = ", ".join(key for key, state in checkpoint.items() if isinstance(state, dict) and key != "config")
    return MissingPart(f"{path} holds no {name}, only {others}; import the run anew, with a file of each (--weights)")


def write_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write a checkpoint atomically; `content` as `Players.save` puts it together."""
    buffer = io.BytesIO()  # torch hides a full disk behind a RuntimeError of its own when it writes the file itself
    torch.save({"format": FORMAT} | content, buffer)
    with atomic_file(path) as temporary, temporary.open("wb") as file, buffer.getbuffer() as view:
        file.write(view)  # (`write_bytes` keeps a view of its own, of which Python 3.13 complains after an error)


def read_checkpoint(path: Path, device: torch.device) -> dict[str, Any]:
    """Read a checkpoint without executing anything in it (`weights_only=True`).

    Raises
    ------
    CheckpointError
        The file is missing, truncated, holds other objects than tensors, numbers and strings, or is another format.
    OSError, MemoryError, torch.OutOfMemoryError
        It may be whole, and cannot be read here and now.
    """
    try:
        file = path.open("rb")
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing") from None
    try:
        with file:
            check_archive(file)
            content: dict[str, Any] = torch.load(file, map_location=device, weights_only=True)
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except FAULTS as fault:
        reason = str(fault).split("\n")[0][:120] or type(fault).__name__
        said = reason if isinstance(fault, TensorError) else f"is truncated, or no checkpoint of tensors ({reason})"
        raise CheckpointError(f"{path} {said}") from None
    known = isinstance(content, dict) and all(isinstance(content.get(key), kind) for key, kind in KINDS.items())
    if not known or content["format"] != FORMAT:
        raise CheckpointError(f"{path} is no gan3d checkpoint of format {FORMAT}")
    return content


def open_checkpoint(run: RunDir, step: int | None, device: torch.device) -> tuple[dict[str, Any], TrainConfig, Path]:
    """Read the checkpoint of `step` (None: the newest), with its config and path; CheckpointError if there is none."""
    checkpoints = run.checkpoints()
    path = run.checkpoint_path(step) if step is not None else checkpoints[-1] if checkpoints else None
    if path is None or not path.exists():
        if not checkpoints and run.meta["status"] == "imported":
            raise CheckpointError(
                f"{run.path} was imported without weights; import it anew, under another name, with --weights FILE"
            )
        if not checkpoints:
            raise CheckpointError(f"{run.path} has no checkpoint; {run.way_on()}")
        found = ", ".join(str(int(p.stem)) for p in checkpoints)
        raise CheckpointError(f"{run.path} has no checkpoint of step {step}; there are those of {found}")
    try:
        content = read_checkpoint(path, device)
    except CheckpointError as fault:
        others = ", ".join(str(int(p.stem)) for p in checkpoints if p != path) or "none to take instead"
        raise CheckpointError(f"{fault}; checkpoints of other steps: {others}") from None
    return content, TrainConfig.from_dict(content["config"], str(path)), path
