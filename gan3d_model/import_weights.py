"""Weights of other programs → our networks: PyTorch ports' state dicts and Torch7's `.t7`, mapped by shape and order.

What is mapped computes the same function; what our networks cannot compute is refused with the reason. Folded in, exactly:

- a bias before batch normalisation: into the running mean;
- padding of the layer next to the latents: into its kernel, of which only the inner part ever meets them;
- a scale of the latents: into the same layer;
- a turn of the shapes: kernels are turned alike, so that G makes and D sees shapes that lie as the imported ones do;
- a tanh at the end: (tanh(x) + 1) / 2 = sigmoid(2x), so into the last layer.

A state dict names neither strides nor activations. Strides follow from the number of layers and the resolution; activations
are taken to be the paper's (ReLU in G, LeakyReLU 0.2 in D), and that is said. A `.t7` names both, and both are checked.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gan3d_eval.run_dir import Gan3dError, RunDir
from gan3d_model.config import INNER_SIZES, RESOLUTIONS, TrainConfig
from gan3d_model.foreign_layers import EPS, Layer, OptimizerState, WeightsError, read_players
from gan3d_model.networks import BatchNorm, channels
from gan3d_model.players import discriminator_for, generator_for, write_checkpoint

__all__ = ["Weights", "newest", "read_weights", "write_weights"]

ASSUMED = (
    "A state dict does not name strides, activations and ε. Taken: stride 2 and padding 1 between maps, ReLU in G, "
    "LeakyReLU 0.2 in D, ε = 1e-5, and {} after G's last layer."
)
TANH = (
    "beside a G that ends in tanh D saw grids of −1 and 1, and ours sees 0 and 1, which its layers cannot make up for: "
    "what lies beyond the grid is 0 to both"
)
PLAYERS = {"generator": "G", "discriminator": "D"}
ACTIVATIONS = {"generator": "ReLU", "discriminator": "LeakyReLU 0.2"}


@dataclasses.dataclass(frozen=True)
class Weights:
    """Mapped weights, ready to be written to a run.

    Attributes
    ----------
    config : dict
        What of a `TrainConfig` the weights determine, and the prior.
    states : dict
        State dicts of our `generator` and `discriminator`, whichever were found.
    matched, notes : list of str
        A line per layer, theirs → ours; and what should be known of the whole.
    files : list of dict
        Name and SHA-256 of each file that was used.
    step : int
        Of the training that they come from, as their names say; 0 where they say none.
    latent_scale : float
        What was folded into G's first layer.
    """

    config: dict[str, Any]
    states: dict[str, dict[str, Tensor]]
    matched: list[str]
    notes: list[str]
    files: list[dict[str, str]]
    step: int
    latent_scale: float


class File(Protocol):
    """A file on disk or in an archive."""

    @property
    def name(self) -> str:
        """Its path in what it was found in."""

    def read(self) -> bytes:
        """All of it."""


def newest(files: Sequence[File]) -> tuple[list[File], int]:
    """Of files named by step (`G_12000.pkl`), those of the last one, and that step; 0 where no name ends in a number."""
    found = [re.search(r"(?:^|[_.-])(\d{1,9})$", PurePosixPath(file.name).stem) for file in files]
    steps = [int(match[1]) if match else 0 for match in found]
    last = max(steps, default=0)
    return [file for file, step in zip(files, steps, strict=True) if step == last], last


def read_weights(
    files: Sequence[File], resolution: int | None, prior: str | None = None, latent_scale: float = 1.0, output: str = "sigmoid",
    pose: Callable[[NDArray[Any]], NDArray[Any]] | None = None, named: bool = False,
) -> Weights:  # fmt: skip
    """Read G and D, whichever are there, from the files of the last step among `files`, and map them onto our networks.

    Parameters
    ----------
    resolution : int
        Of the grids that G makes: the same layers make 64³ from 4³, or 32³ from 2³.
    prior : str, optional
        Law of the latents; None is recorded as unknown, and then nothing can be sampled.
    latent_scale : float
        By which latents of that law were multiplied.
    output : str
        What stands after G's last layer: `sigmoid` or `tanh`.
    pose : function of `(…, d, d, d)`, optional
        How the samples were laid anew when they were imported.
    named : bool
        The files were named one by one: all of them are meant, whatever their steps.

    Raises
    ------
    Gan3dError
        A file that cannot be read, and WeightsError for a network that ours cannot compute.
    """
    notes: list[str] = []
    used, step = newest(files)
    if named:
        used = list(files)
    elif len(used) < len(files):
        notes.append(f"weights are those of step {step}; {len(files) - len(used)} files of other steps were passed over")
    chains, said, record = _chains(used)
    notes += said
    if resolution is None:
        raise WeightsError(
            "weights do not say what resolution they make (the same layers make 64³ from 4³, or 32³ from 2³): "
            "say it with --resolution"
        )
    if resolution not in RESOLUTIONS:
        raise WeightsError(
            f"our networks make {', '.join(f'{r}³' for r in RESOLUTIONS)}; weights for {resolution}³ cannot be used"
        )
    if output == "tanh" and "discriminator" in chains:
        if len(chains) == 1:
            raise WeightsError(TANH)
        notes.append(TANH + "; G alone was taken over")
        del chains["discriminator"]
    told = all(layer.stride is not None for chain in chains.values() for layer in chain)
    config = _config(chains, resolution) | {"prior": prior or "unknown"}
    states, matched = {}, []
    for player, chain in chains.items():
        states[player], lines = _mapped(player, chain, TrainConfig.from_dict(config), latent_scale, output)
        matched += lines
        if pose:
            for tensor in states[player].values():
                if tensor.ndim == 5:
                    tensor.copy_(torch.from_numpy(np.ascontiguousarray(pose(tensor.numpy()))))
    return Weights(config, states, matched, notes + ([] if told else [ASSUMED.format(output)]), record, step, latent_scale)


def _chains(files: Sequence[File]) -> tuple[dict[str, list[Layer]], list[str], list[dict[str, str]]]:
    """G and D as they stand in files, what should be known of them, and the files' hashes."""
    chains: dict[str, list[Layer]] = {}
    notes, record = [], []
    for file in files:
        data = file.read()
        try:
            found, said = read_players(data, file.name.lower().endswith(".t7"))
        except Gan3dError as fault:
            if len(files) > 1 and isinstance(fault, OptimizerState):
                continue
            raise WeightsError(f"{file.name} {fault}") from None
        if twice := sorted(set(found) & set(chains)):
            raise WeightsError(f"{file.name} holds a second {twice[0]}; pass one file for each network with --weights")
        chains |= found
        notes += said
        record.append({"file": file.name, "sha256": hashlib.sha256(data).hexdigest()})
    if not chains:
        raise WeightsError("the files hold no network")
    return chains, notes, record


def _config(chains: dict[str, list[Layer]], resolution: int) -> dict[str, Any]:
    """The layout that all networks have: resolution, inner size, base width, latents, bias; WeightsError if ours has none."""
    layouts = {player: _layout(player, chain, resolution) for player, chain in chains.items()}
    if len(set(layouts.values())) > 1:
        both = " and ".join(f"{PLAYERS[player]} has width {base} from {inner}³" for player, (inner, base) in layouts.items())
        raise WeightsError(f"{both}; one run holds players of one layout: pass one of them with --weights")
    inner, base = next(iter(layouts.values()))
    biased = any(chain[-1].bias is not None and bool(chain[-1].bias.any()) for chain in chains.values())
    config: dict[str, Any] = {"resolution": resolution, "base_channels": base, "inner_size": inner, "last_bias": biased}
    return config | ({"latent_dim": chains["generator"][0].weight.shape[0]} if "generator" in chains else {})


def _layout(player: str, chain: list[Layer], resolution: int) -> tuple[int, int]:
    """Inner size and base width of one network."""
    inner, rest = divmod(resolution, 2 ** (len(chain) - 1))
    if rest or inner not in INNER_SIZES:
        raise WeightsError(
            f"{PLAYERS[player]}'s {len(chain)} layers lead to {resolution}³ from {resolution / 2 ** (len(chain) - 1):g}³; "
            f"our networks begin at {' or '.join(f'{size}³' for size in INNER_SIZES)}: is the resolution right?"
        )
    of_maps = [layer.weight.shape for layer in chain[:-1]]
    widths = [shape[1] for shape in of_maps] if player == "generator" else [shape[0] for shape in of_maps][::-1]
    base = widths[0] * inner // 32
    if base < 1 or base > 1024 or channels(resolution, base, inner) != widths:
        raise WeightsError(
            f"{PLAYERS[player]} has widths {widths}; ours halve from map to map, and are multiples of {32 // inner}"
        )
    return inner, base


@torch.no_grad()
def _mapped(
    player: str, chain: list[Layer], config: TrainConfig, scale: float, output: str
) -> tuple[dict[str, Tensor], list[str]]:
    """The state dict of our network with the weights of `chain`, and a line for each of its layers."""
    network = generator_for(config) if player == "generator" else discriminator_for(config)
    kind = nn.ConvTranspose3d if player == "generator" else nn.Conv3d
    ours = [(name, module) for name, module in network.named_modules() if isinstance(module, kind)]
    norms = [module for module in network.modules() if isinstance(module, BatchNorm)]
    end = 0 if player == "generator" else len(chain) - 1  # the layer between the inner map and 1³
    lines = []
    for i, (layer, (name, module)) in enumerate(zip(chain, ours, strict=True)):
        _check_told(player, layer, i == len(chain) - 1, i == end, config.inner_size, output)
        outputs = module.weight.shape[1 if player == "generator" else 0]
        if layer.bias is not None and layer.bias.shape != (outputs,):
            raise WeightsError(f"{layer.name} has a bias of shape {tuple(layer.bias.shape)}; expected ({outputs},)")
        weight, remark = _kernel(layer, module.weight.shape, i == end)
        module.weight.copy_(weight)
        if i < len(norms):
            remark += _normalise(norms[i], layer, may_lack=player == "discriminator" and i == 0)
        elif layer.norm is not None:
            raise WeightsError(f"{layer.name} is followed by batch normalisation; the last layer of ours is not")
        elif module.bias is not None:
            module.bias.copy_(layer.bias if layer.bias is not None else torch.zeros(1))
        lines.append(f"{layer.name} {tuple(layer.weight.shape)} → {player}.{name}{remark}")
    if player == "generator":
        ours[0][1].weight.mul_(scale)
        for part in ours[-1][1].parameters() if output == "tanh" else ():
            part.mul_(2)
    state = network.state_dict()
    if bad := [name for name, tensor in state.items() if not torch.isfinite(tensor).all()]:
        raise WeightsError(f"{PLAYERS[player]} holds NaN or infinity (in what became {bad[0]}): its training diverged")
    return state, lines


def _check_told(player: str, layer: Layer, last: bool, at_end: bool, inner: int, output: str) -> None:
    """Where the file says stride, padding and activation: are they those of ours?"""
    if layer.stride is None or layer.padding is None:
        return
    side = layer.weight.shape[-1]
    fits = side - 2 * layer.padding == inner if at_end else (side, layer.stride, layer.padding) == (4, 2, 1)
    if not fits:
        raise WeightsError(
            f"{layer.name} has kernel {side}³, stride {layer.stride}, padding {layer.padding}, unlike our layer there"
        )
    expected = {output.capitalize()} if last and player == "generator" else {"Sigmoid", None} if last else {ACTIVATIONS[player]}
    if layer.activation not in expected:
        raise WeightsError(f"{layer.name} is followed by {layer.activation}; ours by {' or '.join(map(str, expected))}")


def _kernel(layer: Layer, shape: torch.Size, at_end: bool) -> tuple[Tensor, str]:
    """The weight in our layer's shape: as it is, its inner part, or a fully connected last layer as a convolution."""
    weight, side = layer.weight, shape[-1]
    if weight.shape == shape:
        return weight, ""
    if at_end and weight.ndim == 5 and weight.shape[:2] == shape[:2] and weight.shape[2:] == (side + 2,) * 3:
        return weight[:, :, 1:-1, 1:-1, 1:-1], f", its inner {side}³: padding 1 keeps the rest from ever meeting a value"
    if at_end and weight.ndim == 2 and weight.numel() == shape.numel() and len(weight) == 1:
        return weight.reshape(shape), ", as a convolution over the whole map"
    raise WeightsError(f"{layer.name} has shape {tuple(weight.shape)}; our layer there has {tuple(shape)}")


def _normalise(norm: nn.Module, layer: Layer, may_lack: bool) -> str:
    """Fill our batch normalisation; without one in the file it becomes the identity, where ports leave it out."""
    bias = torch.zeros(()) if layer.bias is None else layer.bias.float()
    if layer.norm is not None:
        weight, shift, mean, variance = layer.norm
        parts, remark = (weight, shift, mean - bias, variance), ", bias folded into the mean" * (layer.bias is not None)
    elif may_lack:
        one = torch.ones(layer.weight.shape[0])
        parts, remark = (one, one * 0 + bias, one * 0, one - EPS), ", without batch normalisation"
    else:
        raise WeightsError(f"{layer.name} is not followed by batch normalisation, as every layer of ours but the last is")
    targets = (norm.weight, norm.bias, norm.running_mean, norm.running_var)
    for target, part in zip(targets, parts, strict=True):
        if not isinstance(target, Tensor) or target.shape != part.shape:
            raise WeightsError(f"{layer.name} is followed by batch normalisation of {tuple(part.shape)} channels")
        target.copy_(part)
    return remark


def write_weights(run: RunDir, weights: Weights) -> Path:
    """Write `config.json` and a checkpoint of `weights` to an imported run, and record in `run.json` what matched."""
    run.write_config(weights.config)
    path = run.checkpoint_path(weights.step)
    facts = {"step": weights.step, "config": weights.config, "imported": True, "recent": torch.zeros(0)}
    write_checkpoint(path, facts | weights.states)
    record = {"files": weights.files, "latent_scale": weights.latent_scale, "matched": weights.matched, "notes": weights.notes}
    known = None if weights.config["prior"] == "unknown" else weights.config["prior"]
    run.update(prior=known, imported=run.meta["imported"] | {"weights": record})
    return path
