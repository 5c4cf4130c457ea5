"""Batches as functions of (seed, step): which shapes, and their voxels unpacked on the device."""

from __future__ import annotations

import functools

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gan3d_model.losses import stream

__all__ = ["batch_rows", "unpack_on_device"]


@functools.lru_cache(maxsize=2)
def _order(seed: int, n: int, epoch: int) -> NDArray[np.int64]:
    """The order of the n shapes in one epoch."""
    order: NDArray[np.int64] = torch.randperm(n, generator=stream(seed, "order", epoch)).numpy()
    return order


def batch_rows(seed: int, n: int, batch: int, step: int) -> Tensor:
    """Rows `(B,) int64` of step 1, 2, …: consecutive pieces of one endless sequence of shuffled epochs.

    Every batch is full and every shape is seen once an epoch; the usual loop drops the last partial batch.
    """
    positions = np.arange((step - 1) * batch, step * batch)
    return torch.tensor([_order(seed, n, int(p) // n)[int(p) % n] for p in positions])


def unpack_on_device(packed: Tensor, resolution: int) -> Tensor:
    """Packed rows `(B, ⌈d³/8⌉) uint8` → `(B, d, d, d) float32` of 0 and 1, on their device."""
    shifts = torch.arange(7, -1, -1, dtype=torch.uint8, device=packed.device)
    bits = (packed[:, :, None] >> shifts) & 1
    return bits.flatten(1)[:, : resolution**3].reshape(-1, resolution, resolution, resolution).float()
