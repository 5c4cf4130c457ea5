"""The game: losses by hand, labels and priors in their ranges, and a gate that opens and closes where the paper says."""

from __future__ import annotations

import math

import pytest
import torch

from gan3d_model.config import RECIPES, TrainConfig
from gan3d_model.losses import (
    discriminator_loss,
    draw_labels,
    draw_latents,
    gate_is_open,
    generator_loss,
    gradient_penalty,
    judged_right,
    stream,
)


def test_an_undecided_discriminator_loses_log_2_twice_and_the_generator_once():
    zero, one = torch.zeros(4), torch.ones(4)
    real, fake = discriminator_loss(zero, zero, one, zero)
    assert real.item() == pytest.approx(math.log(2))
    assert fake.item() == pytest.approx(math.log(2))
    assert generator_loss(zero).item() == pytest.approx(math.log(2))


def test_labels_above_one_are_accepted_and_pull_beyond():
    logit = torch.tensor([3.0], requires_grad=True)
    loss, _ = discriminator_loss(logit, torch.zeros(1), torch.tensor([1.2]), torch.zeros(1))
    # −y·log σ − (1−y)·log(1−σ) at y = 1.2, written out
    sigma = 1 / (1 + math.exp(-3))
    assert loss.item() == pytest.approx(-1.2 * math.log(sigma) + 0.2 * math.log(1 - sigma), rel=1e-5)
    loss.backward()
    assert logit.grad.item() < 0  # still pushed up


def test_the_generator_wins_by_being_called_real():
    assert generator_loss(torch.tensor([5.0])) < generator_loss(torch.tensor([-5.0]))


def test_accuracy_counts_both_kinds_and_a_logit_of_zero_is_no_decision():
    right = judged_right(torch.tensor([1.0, 1.0, 3.0, -1.0, 0.0]), torch.tensor([-1.0, 2.0, 0.0, -3.0, -1.0, -1.0]))
    assert right.tolist() == [3, 4]


@pytest.mark.parametrize(("right", "open_"), [(0, True), (159, True), (160, True), (161, False), (200, False)])
def test_the_gate_is_open_up_to_and_including_eighty_percent(right, open_):
    counts = torch.tensor([float(right)])
    assert gate_is_open(counts, 200, 0.8).item() is open_
    assert gate_is_open(counts, 200, 1.0)


@pytest.mark.parametrize("percent", range(101))
def test_an_accuracy_that_equals_the_gate_opens_it_whatever_the_rounding(percent):
    assert gate_is_open(torch.tensor([float(percent)]), 100, percent / 100)
    assert gate_is_open(torch.tensor([percent - 1.0, percent + 1.0, percent]), 100, percent / 100)
    assert not gate_is_open(torch.tensor([percent + 1.0]), 100, percent / 100)


def test_slides_labels_fill_their_ranges_and_paper_labels_are_hard():
    real, fake = draw_labels(RECIPES["slides"], 20_000, stream(0, "labels"))
    assert real.min() >= 0.7
    assert real.max() <= 1.2
    assert real.mean() == pytest.approx(0.95, abs=0.005)
    assert fake.min() >= 0
    assert fake.max() <= 0.3
    real, fake = draw_labels(RECIPES["paper"], 100, stream(0, "labels"))
    assert real.unique().tolist() == [1.0]
    assert fake.unique().tolist() == [0.0]


@pytest.mark.parametrize(
    ("prior", "mean", "std", "low"), [("uniform", 0.5, 12**-0.5, 0), ("normal", 0, 1, -9), ("normal0.33", 0, 0.33, -3)]
)
def test_a_prior_is_what_it_is_called(prior, mean, std, low):
    """A known port has a prior called `uni` that draws from a normal."""
    z = draw_latents(TrainConfig(prior=prior), 2000, stream(0, "z"))
    assert z.shape == (2000, 200)
    assert z.mean() == pytest.approx(mean, abs=0.01)
    assert z.std() == pytest.approx(std, rel=0.01)
    assert z.min() >= low


def test_streams_are_functions_of_their_key_alone():
    keys = [(0, "a", 0), (0, "a", 1), (0, "b", 0), (1, "a", 0), (0, "ab", 0)]
    draws = {torch.rand(3, generator=stream(*key)).numpy().tobytes() for key in keys}
    assert len(draws) == len(keys)
    assert torch.equal(torch.rand(3, generator=stream(0, "a", 1)), torch.rand(3, generator=stream(0, "a", 1)))
    assert torch.equal(torch.rand(3, generator=stream(0, "a")), torch.rand(3, generator=stream(0, "a", 0)))


def test_annealed_labels_move_to_one_and_zero_and_stay_there():
    config = TrainConfig(label_anneal=0.5)
    start, middle, end = (draw_labels(config, 1000, stream(0, "labels"), progress) for progress in (0.0, 0.25, 0.6))
    assert torch.equal(start[0], draw_labels(TrainConfig(), 1000, stream(0, "labels"), 0.9)[0])
    assert torch.equal(start[0], draw_labels(config, 1000, stream(0, "labels"))[0])
    assert torch.allclose(middle[0] - 1, (start[0] - 1) / 2, atol=1e-6)
    assert torch.allclose(middle[1], start[1] / 2)
    assert end[0].unique().tolist() == [1.0]
    assert end[1].unique().tolist() == [0.0]


def test_the_gradient_penalty_of_a_linear_judge_is_half_its_squared_slope():
    """D(x) = ⟨w, x⟩ has the gradient w everywhere; so the penalty, ½‖w‖², has the gradient w in w."""
    w = torch.randn(4, 4, 4).requires_grad_()
    real = torch.rand(3, 4, 4, 4).requires_grad_()
    penalty = gradient_penalty((real * w).flatten(1).sum(1), real)
    assert penalty.item() == pytest.approx(0.5 * w.square().sum().item(), rel=1e-5)
    penalty.backward()
    assert torch.allclose(w.grad, w.detach(), atol=1e-6)


def test_labels_of_generated_shapes_fill_a_range_that_does_not_begin_at_zero():
    fake = draw_labels(TrainConfig(fake_low=0.1, fake_high=0.3), 1000, stream(0, "labels"))[1]
    assert 0.1 <= fake.min() < 0.11
    assert 0.29 < fake.max() <= 0.3
