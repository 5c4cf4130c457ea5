"""The paper's networks: shapes and parameter counts pinned, and our faster first and last layers equal to PyTorch's."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gan3d_model.networks import Discriminator, FirstConv, Generator, LastConv, channels


def count(module):
    return sum(p.numel() for p in module.parameters())


def test_parameter_counts_are_the_papers_at_64():
    assert count(Generator()) == 17_569_664
    assert count(Discriminator()) == 11_048_832


def test_at_32_the_layer_next_to_the_voxels_falls_away():
    assert channels(64, 64) == [512, 256, 128, 64]
    assert channels(32, 64) == [512, 256, 128]
    assert channels(32, 16) == [128, 64, 32]
    # 17,569,664 less convolution 128→64, its norm and 64→1, plus 128→1
    assert count(Generator(32)) == 17_569_664 - 128 * 64 * 64 - 2 * 64 - 64 * 64 + 128 * 64
    assert count(Discriminator(32)) == 11_048_832 - 64 * 64 - 2 * 64 - 64 * 128 * 64 + 128 * 64


@pytest.mark.parametrize("resolution", [16, 32, 64])
def test_shapes_and_ranges(resolution):
    latents = torch.randn(2, 7)
    fake = Generator(resolution, 2, 7)(latents)
    assert fake.shape == (2, resolution, resolution, resolution)
    assert 0 <= fake.min() < fake.max() <= 1
    assert Discriminator(resolution, 2)(fake).shape == (2,)


def test_layers_of_the_paper():
    kinds = [type(layer).__name__ for layer in Generator().layers]
    up, norm = ["BatchNorm", "ReLU", "ConvTranspose3d"], ["BatchNorm", "ReLU", "LastConv", "Sigmoid"]
    assert kinds == ["ConvTranspose3d", *up, *up, *up, *norm]
    for block in Discriminator().blocks:
        assert isinstance(block[1], nn.BatchNorm3d)  # in the first layer too
        assert block[2].negative_slope == 0.2
    assert all(m.bias is None for p in (Generator(), Discriminator()) for m in p.modules() if isinstance(m, nn.Conv3d | nn.ConvTranspose3d))  # fmt: skip


@pytest.mark.parametrize(("ours", "theirs", "shape"), [
    (FirstConv(5), nn.Conv3d(1, 5, 4, 2, 1, bias=False), (2, 1, 4, 4, 4)),
    (FirstConv(3), nn.Conv3d(1, 3, 4, 2, 1, bias=False), (1, 1, 16, 16, 16)),
    (LastConv(5), nn.ConvTranspose3d(5, 1, 4, 2, 1, bias=False), (2, 5, 4, 4, 4)),
    (LastConv(3), nn.ConvTranspose3d(3, 1, 4, 2, 1, bias=False), (1, 3, 8, 8, 8)),
])  # fmt: skip
def test_the_rearranged_layers_equal_pytorchs_in_value_and_gradient(ours, theirs, shape):
    theirs.load_state_dict(ours.state_dict())
    inputs = torch.randn(shape, dtype=torch.double, requires_grad=True)
    weighted = torch.randn_like(theirs.double()(inputs))
    results = []
    for layer in (ours.double(), theirs):
        output = layer(inputs)
        results.append([output, *torch.autograd.grad((output * weighted).sum(), [inputs, layer.weight])])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b)
