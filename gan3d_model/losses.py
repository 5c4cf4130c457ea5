"""The adversarial game in pure functions: losses on logits, label smoothing, D's accuracy, the accuracy gate, the prior.

Losses: Goodfellow et al. 2014, with the non-saturating G loss −log D(G(z)) that the slides use ("not a zero-sum game").
Gate: Wu et al. 2016, section 3.1. Two-sided label smoothing: slides; one-sided: Salimans et al. 2016, section 3.4.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from gan3d_model.config import ConfigError, TrainConfig

__all__ = [
    "SIGMA",
    "discriminator_loss",
    "draw_labels",
    "draw_latents",
    "gate_is_open",
    "generator_loss",
    "gradient_penalty",
    "judged_right",
    "stream",
]

SIGMA = {"normal": 1.0, "normal0.33": 0.33}
"""Standard deviation of each z under the normal priors."""


def stream(seed: int, name: str, step: int = 0) -> torch.Generator:
    """The random stream `name` at `step`: a function of its arguments alone, so a resumed run has no state to restore.

    Streams of different names or steps are independent (NumPy's SeedSequence mixes the key), but that PyTorch's generator
    takes 32 bits of it: of 100,000 steps about one pair shares its numbers. Drawn on the CPU, hence equal on every device.
    """
    key = np.random.SeedSequence([seed, step, *name.encode()]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(key))


def draw_latents(config: TrainConfig, n: int, generator: torch.Generator) -> Tensor:
    """Draw `(n, z) float32` latents from the config's prior: U[0,1], N(0,1) or N(0, 0.33²); ConfigError if it is unknown."""
    if config.prior == "unknown":
        raise ConfigError("the law of its latents is unknown, so none are drawn; import the weights again with --prior")
    if config.prior == "uniform":
        return torch.rand(n, config.latent_dim, generator=generator)
    return SIGMA[config.prior] * torch.randn(n, config.latent_dim, generator=generator)


def draw_labels(config: TrainConfig, n: int, generator: torch.Generator, progress: float = 0.0) -> tuple[Tensor, Tensor]:
    """Draw D's targets for n real and n generated shapes, `(n,) float32` each, uniform in the config's ranges.

    When `progress` in [0, 1] of the training is done, the ranges have moved by progress/label_anneal of the way to 1 and to 0:
    the slides' idea of "alfa and beta smoothly and slowly" going there, for a smoothed D is never a perfect one.
    """
    real = config.real_low + (config.real_high - config.real_low) * torch.rand(n, generator=generator)
    fake = config.fake_low + (config.fake_high - config.fake_low) * torch.rand(n, generator=generator)
    moved = min(1.0, progress / config.label_anneal) if config.label_anneal else 0.0
    return real + moved * (1 - real), fake * (1 - moved)


def discriminator_loss(logits_real: Tensor, logits_fake: Tensor, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy of D on real and on generated shapes, `()` each; D minimises their sum. Targets may leave [0, 1]."""
    loss_real = binary_cross_entropy_with_logits(logits_real, real)
    loss_fake = binary_cross_entropy_with_logits(logits_fake, fake)
    return loss_real, loss_fake


def generator_loss(logits_fake: Tensor) -> Tensor:
    """−log D(G(z)), mean over the batch, `()`: never smoothed."""
    return binary_cross_entropy_with_logits(logits_fake, torch.ones_like(logits_fake))


def gradient_penalty(logits_real: Tensor, real: Tensor) -> Tensor:
    """R1: ½ E‖∇D(x)‖² at real shapes (Mescheder et al. 2018, "Which training methods for GANs do actually converge?", eq. 9).

    `real` `(B, D, D, D)` must have required a gradient when D saw it; the result can itself be differentiated.
    """
    (slope,) = torch.autograd.grad(logits_real.sum(), real, create_graph=True)
    return 0.5 * slope.square().flatten(1).sum(dim=1).mean()


def judged_right(logits_real: Tensor, logits_fake: Tensor) -> Tensor:
    """How many real shapes have logit > 0, and how many generated ones logit < 0: `(2,) float32`.

    A D that says 0 to all is right about none of them, not about half.
    """
    return torch.stack([(logits_real > 0).float().sum(), (logits_fake < 0).float().sum()])


def gate_is_open(right: Tensor, judged: int, gate: float) -> Tensor:
    """Whether D learns from this batch: its accuracy is not higher than the gate (the paper's ≤, with 0.8).

    Parameters
    ----------
    right : (w,) float32
        How many of the `judged` shapes of each of the last w batches D was right about; counts, so that an accuracy that
        equals the gate is found equal.

    Returns
    -------
    () bool, on the device of `right`: no step of a GPU waits for the host to decide.
    """
    return right.sum() / (judged * len(right)) <= gate
