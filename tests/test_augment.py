"""What D sees: moved, mirrored, cut, and the same law for real and generated shapes; gradients reach G."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from gan3d_model.augment import augment, augments
from gan3d_model.losses import stream


def seen(grids, config, progress=0.0, seed=0, **changes):
    return augment(grids, dataclasses.replace(config, **changes), progress, stream(seed, "see"))


@pytest.fixture
def batch():
    return (torch.rand(64, 16, 16, 16, generator=torch.Generator().manual_seed(0)) < 0.2).float()


def test_a_config_without_changes_changes_nothing(tiny):
    assert not augments(tiny)
    assert all(augments(dataclasses.replace(tiny, **one)) for one in ({"mirror": True}, {"shift": 1}, {"cutout": 0.3}, {"instance_noise": 0.1}))  # fmt: skip


def test_a_mirrored_shape_is_mirrored_across_x_or_left_alone(tiny, batch):
    out = seen(batch, tiny, mirror=True)
    same = (out == batch).flatten(1).all(1)
    mirrored = (out == batch.flip(1)).flatten(1).all(1)
    assert (same | mirrored).all()
    assert 16 < mirrored.sum() < 48
    of_slides = augment(batch.transpose(1, 2), dataclasses.replace(tiny, mirror=True), 0.0, stream(0, "see"), x=1)
    assert torch.equal(of_slides.transpose(1, 2), out)


def test_a_shifted_shape_loses_only_what_leaves_the_grid(tiny, batch):
    out = seen(batch, tiny, shift=2)
    for before, after in zip(batch, out, strict=True):
        hits = 0
        for x in range(-2, 3):
            for y in range(-2, 3):
                for z in range(-2, 3):
                    padded = torch.nn.functional.pad(before, (2,) * 6)
                    hits += torch.equal(padded[2 - x : 18 - x, 2 - y : 18 - y, 2 - z : 18 - z], after)
        assert hits == 1


def test_a_cutout_empties_one_cube(tiny):
    full = torch.ones(32, 16, 16, 16)
    out = seen(full, tiny, cutout=0.5)
    for shape in out:
        empty = torch.nonzero(shape == 0)
        assert len(empty)
        sides = empty.amax(0) - empty.amin(0) + 1
        assert len(empty) == sides.prod() <= 8**3


def test_instance_noise_fades_with_the_training(tiny, batch):
    early, late = ((seen(batch, tiny, progress, instance_noise=0.5) - batch).std() for progress in (0.0, 0.9))
    assert early == pytest.approx(0.5, rel=0.02)
    assert late == pytest.approx(0.05, rel=0.02)


def test_the_same_draw_changes_any_batch_alike_and_lets_gradients_through(tiny, batch):
    changes = {"mirror": True, "shift": 3, "cutout": 0.3, "instance_noise": 0.1}
    assert torch.equal(seen(batch, tiny, **changes), seen(batch, tiny, **changes))
    assert not torch.equal(seen(batch, tiny, **changes), seen(batch, tiny, seed=1, **changes))
    grids = batch.clone().requires_grad_()
    seen(grids, tiny, **changes).sum().backward()
    assert 0 < grids.grad.sum() < grids.numel()
