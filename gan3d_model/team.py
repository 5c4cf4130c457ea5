"""Several processes as one training: each computes its share of every batch, and all take the same steps and decisions.

Started by `torchrun --nproc-per-node=N cli.py train …`. Batches, latents and labels are functions of (seed, step), so every
process knows the whole batch and takes its share: the number of processes may change when a run is resumed. Gradients and
accuracies are those of all, so weights stay equal and the gate opens for all or for none. Batch normalisation shares its
statistics too (`networks.BatchNorm`), unless `sync_batch_norm` is off; then each process has its own, and what is
saved is the leader's.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import os
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, distributed, nn

from gan3d_eval.run_dir import Gan3dError

__all__ = ["Team", "gather_team"]


@dataclasses.dataclass(frozen=True)
class Team:
    """One process among `size`; alone, every method is free."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process writes the run."""
        return self.rank == 0

    def share(self, batch: int) -> slice:
        """Which part of a global batch is this process's."""
        if batch % self.size:
            raise Gan3dError(f"a batch of {batch} is no multiple of {self.size} processes; choose one with --batch-size")
        part = batch // self.size
        return slice(self.rank * part, (self.rank + 1) * part)

    def sum(self, values: Tensor) -> Tensor:
        """Sum over all processes."""
        if self.size > 1:
            distributed.all_reduce(values)
        return values

    def mean(self, values: Tensor) -> Tensor:
        """Mean over all processes."""
        return self.sum(values) / self.size

    def any(self, flag: bool, device: torch.device) -> bool:
        """Whether the flag is up in any process."""
        return flag if self.size == 1 else bool(self.sum(torch.tensor(float(flag), device=device)) > 0)

    def average_gradients(self, player: nn.Module) -> None:
        """Replace each gradient by its mean over all processes, in one message."""
        if self.size == 1:
            return
        gradients = [weight.grad for weight in player.parameters() if weight.grad is not None]
        flat = self.mean(torch.cat([gradient.reshape(-1) for gradient in gradients]))
        for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(mean.view(gradient.shape))

    def tell(self, value: Any) -> Any:
        """What the leader says."""
        if self.size == 1:
            return value
        said = [value]
        distributed.broadcast_object_list(said, src=0)
        return said[0]

    @contextlib.contextmanager
    def together(self, device: torch.device, *ends: type[Exception]) -> Iterator[None]:
        """Leave the block together, also by one of `ends`: where one process ends badly, torchrun stops the others."""
        try:
            yield
        except ends:
            self._wait(device)
            raise
        self._wait(device)

    def _wait(self, device: torch.device) -> None:
        with contextlib.suppress(RuntimeError):  # of a process that is gone, and has said why itself
            self.sum(torch.zeros(1, device=device))


@contextlib.contextmanager
def gather_team(device: str) -> Iterator[tuple[Team, str]]:
    """Join the processes that `torchrun` started, if it did; yield the team and this process's device."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Team(), device
        return
    if device.startswith("cuda:"):
        raise Gan3dError(f"--device {device} names one GPU, and torchrun gives each process its own; pass --device cuda")
    on_gpu = (device == "auto" and torch.cuda.is_available()) or device.startswith("cuda")
    if on_gpu:
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
        torch.cuda.set_device(device)
    # An optimiser's first step imports this; imported beside a group, its default arguments keep the group's threads alive
    # beyond its end, and one of them that wants the interpreter when that closes aborts the process.
    importlib.import_module("torch.distributed.nn")
    distributed.init_process_group("nccl" if on_gpu else "gloo")
    try:
        yield Team(distributed.get_rank(), distributed.get_world_size()), device
    finally:
        distributed.destroy_process_group()
