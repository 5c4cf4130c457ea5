"""Generator and discriminator of Wu et al. 2016 (3D-GAN), at 16³, 32³, 64³ (the paper's) or 128³.

One rule gives every width: a feature map of spatial size s has 32·base/s channels, base = 64 in the paper. At 64³ that is
the paper's 512-256-128-64; at 32³ the layer next to the voxels falls away and the rest keeps its widths. With an inner size
of 2 the maps begin at 2³ instead of 4³, and one layer more leads to the same voxels: so the slides' port does at 32³.

At 64³ each has five convolutions: kernel 4³, stride 2, padding 1, no bias. The one between the inner map and 1³ has a kernel of
that map's size.
Batch normalisation stands before every activation but the last, in D's first layer too, as in the common PyTorch ports.
Differs from paper: D returns logits (its sigmoid lives in the loss), so that labels outside [0, 1] are accepted.
"""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional

__all__ = ["BatchNorm", "Discriminator", "FirstConv", "Generator", "LastConv", "channels"]


def channels(resolution: int, base_channels: int, inner_size: int = 4) -> list[int]:
    """Widths of the feature maps, from the inner size doubling up to resolution/2: 512, 256, 128, 64 for 64³ and base 64."""
    widths, size = [], inner_size
    while size < resolution:
        widths.append(max(1, 32 * base_channels // size))
        size *= 2
    return widths


def _total(tensor: Tensor) -> Tensor:
    """Sum of a tensor over all processes."""
    total: Tensor = _Sum.apply(tensor)  # type: ignore[no-untyped-call]
    return total


class _Sum(torch.autograd.Function):
    """Sum of a tensor over all processes; so is its gradient, of any order."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        total = tensor.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return _total(grads[0])


class BatchNorm(nn.BatchNorm3d):
    """`BatchNorm3d` whose batch, if `shared`, is that of all processes together, in equal shares.

    The result is that of one process on the whole batch. (`torch.nn.SyncBatchNorm` does the same on GPUs only.)
    """

    shared = False

    def forward(self, maps: Tensor) -> Tensor:
        """`(B, C, d, d, d)` → the same shape, each channel with mean 0 and variance 1 before weight and bias."""
        if not (self.shared and self.training and distributed.is_initialized()):
            return super().forward(maps)
        size, over, given = distributed.get_world_size(), (0, 2, 3, 4), maps.dtype
        maps = maps.to(torch.promote_types(given, torch.float32))  # autocast's bfloat16 has too few bits for statistics
        mean = _total(maps.mean(over)) / size
        centred = maps - mean[:, None, None, None]
        variance = _total(centred.square().mean(over)) / size
        with torch.no_grad():
            n, momentum = size * maps.numel() / maps.shape[1], self.momentum or 0.0
            self.running_mean.lerp_(mean, momentum)  # type: ignore[union-attr]
            self.running_var.lerp_(variance * (n / (n - 1)), momentum)  # type: ignore[union-attr]
            self.num_batches_tracked.add_(1)  # type: ignore[union-attr]
        scale = self.weight / (variance + self.eps).sqrt()
        normed: Tensor = centred * scale[:, None, None, None] + self.bias[:, None, None, None]
        return normed.to(given)


class FirstConv(nn.Conv3d):
    """`Conv3d(1, C, 4, stride=2, padding=1, bias=False)`, faster on CPUs (`bench layers`): same weights, same result.

    Convolutions of one channel starve the vector units. The stride of 2 sees the padded grid as 2³ blocks, so the same
    sums are a convolution with kernel 2³, stride 1, over the 8 voxels of a block as channels (space to depth).
    """

    def __init__(self, channels: int) -> None:
        super().__init__(1, channels, 4, 2, 1, bias=False)

    def forward(self, grids: Tensor) -> Tensor:
        """`(B, 1, D, D, D)` → `(B, C, D/2, D/2, D/2)`."""
        b, m = len(grids), grids.shape[2] // 2 + 1
        blocks = functional.pad(grids, (1,) * 6).view(b, m, 2, m, 2, m, 2).permute(0, 2, 4, 6, 1, 3, 5).reshape(b, 8, m, m, m)
        if torch.is_autocast_enabled(grids.device.type):  # in float32 a CPU's statistics of such maps would be inexact
            blocks = blocks.contiguous(memory_format=torch.channels_last_3d)
        return functional.conv3d(blocks, _kernel_of_blocks(self.weight))


class LastConv(nn.ConvTranspose3d):
    """`ConvTranspose3d(C, 1, 4, stride=2, padding=1, bias=bias)` by the same rearrangement (depth to space)."""

    def __init__(self, channels: int, bias: bool = False) -> None:
        super().__init__(channels, 1, 4, 2, 1, bias=bias)

    def forward(self, maps: Tensor, output_size: list[int] | None = None) -> Tensor:
        """`(B, C, d, d, d)` → `(B, 1, 2d, 2d, 2d)`."""
        b, m = len(maps), maps.shape[2] + 1
        blocks = functional.conv_transpose3d(maps, _kernel_of_blocks(self.weight))  # (B, 8, d+1, d+1, d+1)
        padded = blocks.view(b, 2, 2, 2, m, m, m).permute(0, 4, 1, 5, 2, 6, 3).reshape(b, 1, 2 * m, 2 * m, 2 * m)
        voxels = padded[:, :, 1:-1, 1:-1, 1:-1]
        return voxels if self.bias is None else voxels + self.bias


def _kernel_of_blocks(weight: Tensor) -> Tensor:
    """`(C, 1, 4, 4, 4)` → `(C, 8, 2, 2, 2)`: position 2a + r of the kernel is block a, voxel r."""
    return weight.view(-1, 2, 2, 2, 2, 2, 2).permute(0, 2, 4, 6, 1, 3, 5).reshape(-1, 8, 2, 2, 2)


def _init_normal(layer: nn.Module) -> None:
    """DCGAN's start (Radford et al. 2016): convolutions N(0, 0.02²), batch normalisation's scale N(1, 0.02²)."""
    if isinstance(layer, nn.Conv3d | nn.ConvTranspose3d):
        nn.init.normal_(layer.weight, 0.0, 0.02)
    elif isinstance(layer, BatchNorm):
        nn.init.normal_(layer.weight, 1.0, 0.02)


class Generator(nn.Module):
    """Map latents `(B, z)` to occupancy probabilities `(B, D, D, D)` in [0, 1]. Shapes below: D = 64, base 64.

    Weights begin as PyTorch's do, or as DCGAN's if `normal`.
    """

    def __init__(
        self, resolution: int = 64, base_channels: int = 64, latent_dim: int = 200, inner_size: int = 4, bias: bool = False,
        normal: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        widths = channels(resolution, base_channels, inner_size)
        layers: list[nn.Module] = [nn.ConvTranspose3d(latent_dim, widths[0], inner_size, bias=False)]  # (B, 512, 4, 4, 4)
        for before, after in itertools.pairwise(widths):  # (B, 256, 8, 8, 8), (B, 128, 16, …), (B, 64, 32, …)
            layers += [BatchNorm(before), nn.ReLU(inplace=True), nn.ConvTranspose3d(before, after, 4, 2, 1, bias=False)]
        layers += [BatchNorm(widths[-1]), nn.ReLU(inplace=True), LastConv(widths[-1], bias)]
        self.layers = nn.Sequential(*layers, nn.Sigmoid())  # (B, 1, 64, 64, 64)
        if normal:
            self.apply(_init_normal)

    def forward(self, latents: Tensor) -> Tensor:
        """`(B, z)` → `(B, D, D, D)` probabilities."""
        volume: Tensor = self.layers(latents[:, :, None, None, None])
        return volume[:, 0]


class Discriminator(nn.Module):
    """Map grids `(B, D, D, D)` to one logit each, `(B,)`: above 0 = judged real. Shapes below: D = 64, base 64.

    With `spectral_norm` every weight is divided by its largest singular value (Miyato et al. 2018, one power iteration).
    """

    def __init__(
        self,
        resolution: int = 64,
        base_channels: int = 64,
        spectral_norm: bool = False,
        inner_size: int = 4,
        bias: bool = False,
        normal: bool = False,
    ) -> None:
        super().__init__()
        widths = channels(resolution, base_channels, inner_size)[::-1]
        blocks = []  # (B, 64, 32, 32, 32), (B, 128, 16, …), (B, 256, 8, …), (B, 512, 4, 4, 4)
        for before, after in itertools.pairwise([1, *widths]):
            conv = FirstConv(after) if before == 1 else nn.Conv3d(before, after, 4, 2, 1, bias=False)
            blocks.append(nn.Sequential(conv, BatchNorm(after), nn.LeakyReLU(0.2, inplace=True)))
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Conv3d(widths[-1], 1, inner_size, bias=bias)  # (B, 1, 1, 1, 1)
        if normal:  # before the largest singular values are first estimated
            self.apply(_init_normal)
        if spectral_norm:
            for layer in [*self.modules()]:
                if isinstance(layer, nn.Conv3d):
                    nn.utils.parametrizations.spectral_norm(layer)

    def forward(self, grids: Tensor) -> Tensor:
        """`(B, D, D, D)` → logits `(B,)`."""
        logits: Tensor = self.head(self.blocks(grids[:, None]))
        return logits.flatten()
