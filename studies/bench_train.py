"""Our training step against a plain reference step, in one process, and against what the device's matrix products allow.

The reference is the common port's order of work, written anew for this benchmark: float32, contiguous tensors, PyTorch's own
layers, G run twice a step, and D's step sending its gradient on into G, where nobody needs it.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import functools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

from gan3d_eval.voxels import VoxelSet, packed_bytes
from gan3d_model.batches import unpack_on_device
from gan3d_model.config import Precision, TrainConfig
from gan3d_model.detectors import Detectors, Watch
from gan3d_model.device import keep_memory, pick_device, use_bfloat16
from gan3d_model.losses import draw_latents, stream
from gan3d_model.monitor import Ledger
from gan3d_model.networks import FirstConv, LastConv
from gan3d_model.players import Players
from gan3d_model.runs import create_run
from gan3d_model.team import Team
from gan3d_model.train import READ_EVERY, _loop

__all__ = ["bench_train", "flops_per_shape"]


class _Enough(Exception):
    """So many steps are timed."""


def bench_train(
    resolution: int, base_channels: int, batch: int, steps: int, repeats: int, device: str, precision: Precision
) -> Iterator[str]:
    """Time `steps` steps of the real loop and of the reference in turn; the gate is held open, so that both do all work."""
    place = pick_device(device)
    config = TrainConfig.from_dict(
        {"resolution": resolution, "base_channels": base_channels, "batch_size": batch, "gate": 1.0, "epochs": 10**6}
        | {"precision": precision}
    )
    rng = np.random.default_rng(0)
    shapes = VoxelSet.from_packed(rng.integers(0, 256, (4 * batch, packed_bytes(resolution)), np.uint8), resolution)
    shapes = dataclasses.replace(shapes, info={"name": "bench"})
    if place.type != "cpu":
        steps = -(-steps // READ_EVERY) * READ_EVERY
    ours, reference = _ours(config, shapes, place), _reference(config, shapes, place)
    times: dict[str, list[float]] = {"ours": [], "reference": []}
    for i in range(repeats + 1):
        for name, play in (("ours", ours), ("reference", reference)):
            keep_memory(name == "ours")
            seconds = play(steps)
            if i:  # the first time warms up
                times[name].append(seconds / (steps * batch))
    ratios = [b / a for a, b in zip(times["ours"], times["reference"], strict=True)]
    own, other = statistics.median(times["ours"]), statistics.median(times["reference"])
    kind = torch.bfloat16 if use_bfloat16(config, place) else torch.float32
    name = str(kind).removeprefix("torch.")
    yield f"step at {resolution}³, base {base_channels}, batch {batch}, {place}, {name}, {repeats} repeats of {steps} steps:"
    yield f"ours {own:.4f} s per shape ({1 / own:.1f} shapes/s), reference {other:.4f} s"
    yield f"{statistics.median(ratios):.2f} times as fast [{min(ratios):.2f}, {max(ratios):.2f}]"
    peak, work = _matmul_peak(place, kind), flops_per_shape(config) / own
    yield f"convolutions {work / 1e9:.0f} GFLOP/s, {work / peak:.0%} of a {name} matrix product's {peak / 1e9:.0f}"


def flops_per_shape(config: TrainConfig) -> float:
    """Floating-point operations of one step with an open gate, per shape: convolutions only, 2 per multiplication and sum.

    G forward and its two backward products; D forward on real, generated and again generated, backward in weights and
    inputs on the first two, and in inputs on the third.
    """
    players = Players.build(config, torch.device("cpu"))
    counts = {"G": 0.0, "D": 0.0}

    def count(player: str) -> Callable[..., None]:
        def hook(layer: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            weight = next(layer.parameters())
            points = (inputs[0] if isinstance(layer, nn.ConvTranspose3d) else output).shape[2:].numel()
            counts[player] += 2 * weight.numel() * points

        return hook

    for name, player in (("G", players.generator), ("D", players.discriminator)):
        for layer in player.modules():
            if isinstance(layer, nn.Conv3d | nn.ConvTranspose3d):
                layer.register_forward_hook(count(name))
    with torch.no_grad():
        players.discriminator.eval()(players.generator.eval()(torch.zeros(1, config.latent_dim)))
    return 3 * counts["G"] + 8 * counts["D"]


def _ours(config: TrainConfig, shapes: VoxelSet, device: torch.device) -> Callable[[int], float]:
    """Play the real loop for so many steps (a multiple of those read together), and return the seconds that it took."""
    together = 1 if device.type == "cpu" else READ_EVERY

    def play(steps: int) -> float:
        marks = []

        def log(row: dict[str, float]) -> None:
            marks.append(time.perf_counter())
            if len(marks) >= together + steps:  # the first reading is left out: it begins before the first mark
                raise _Enough

        with tempfile.TemporaryDirectory() as folder:
            run = create_run(config, "bench", shapes, Path(folder), [], Path(folder), ["bench"])
            watch = Watch(run, Detectors.of(shapes, config), lambda line: None)
            players = Players.build(config, device)
            with contextlib.suppress(_Enough):
                ledger = Ledger(config, len(shapes), 0, watch, log)
                _loop(players, shapes, run, 0, ledger, lambda: False, Team())
        return marks[-1] - marks[together - 1]

    return play


def _reference(config: TrainConfig, shapes: VoxelSet, device: torch.device) -> Callable[[int], float]:
    """Play the plain steps and return the seconds that they took."""
    players = Players.build(config, device)
    generator, discriminator = (_plain(player).to(device) for player in (players.generator, players.discriminator))
    optimizers = [
        torch.optim.Adam(player.parameters(), rate, (config.beta1, config.beta2))
        for player, rate in ((generator, config.lr_g), (discriminator, config.lr_d))
    ]
    data = torch.from_numpy(np.array(shapes.packed)).to(device)
    one, zero = torch.ones(config.batch_size, device=device), torch.zeros(config.batch_size, device=device)

    def step(number: int) -> None:
        real = unpack_on_device(data[: config.batch_size], config.resolution)
        latents = draw_latents(config, config.batch_size, stream(0, "bench", number)).to(device)
        optimizers[1].zero_grad()
        loss = binary_cross_entropy_with_logits(discriminator(real), one)
        loss = loss + binary_cross_entropy_with_logits(discriminator(generator(latents)), zero)
        loss.backward()
        loss.item()
        optimizers[1].step()
        optimizers[0].zero_grad()
        loss = binary_cross_entropy_with_logits(discriminator(generator(latents)), one)
        loss.backward()
        loss.item()
        optimizers[0].step()

    def play(steps: int) -> float:
        step(0)
        start = time.perf_counter()
        for number in range(1, steps + 1):
            step(number)
        return time.perf_counter() - start

    return play


def _plain(player: nn.Module) -> nn.Module:
    """The same player with PyTorch's own one-channel layers, contiguous."""
    plain: nn.Module = copy.deepcopy(player).to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    for module in plain.modules():
        if isinstance(module, FirstConv | LastConv):
            module.forward = functools.partial(type(module).__base__.forward, module)  # type: ignore[method-assign, union-attr]
    return plain


def _matmul_peak(device: torch.device, kind: torch.dtype, side: int = 2048) -> float:
    """Floating-point operations per second of the best of six square products."""
    a = torch.randn(side, side, device=device).to(kind)
    best = 0.0
    for _ in range(6):
        start = time.perf_counter()
        (a @ a).sum().item()
        best = max(best, 2 * side**3 / (time.perf_counter() - start))
    return best
