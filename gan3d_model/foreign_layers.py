"""Networks of other programs, as they stand in a file → chains of layers: from PyTorch state dicts and Torch7's `.t7`.

Layers carry many names (`layer1.0.weight`, `main.0.weight`, `module.net.3.weight`), so names decide nothing: a network is a
chain of convolutions in which each takes what the one before gives, with batch normalisation between.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gan3d_eval.run_dir import Gan3dError
from gan3d_model.tensors import parse_tensors
from gan3d_model.torch7 import TorchObject, parse_torch7

__all__ = ["Layer", "OptimizerState", "WeightsError", "read_players"]

EPS = 1e-5
"""Of PyTorch's and Torch7's batch normalisation."""
FEWEST = 3
"""Layers of a network; a chain of fewer is something else."""
MAX_DEPTH, MAX_LAYERS = 32, 64
"""Of containers in containers, and of a network: files may refer to one module many times over, or without end."""
MAX_SIDE = 2**16
"""Most channels of a layer of Torch7, and more than any kernel has."""
CONVOLUTIONS = {"VolumetricFullConvolution": True, "VolumetricConvolution": False}
"""Of Torch7: whether they are transposed."""
PASSED = ("View", "Reshape", "Identity", "Copy")
"""Modules of Torch7 that change no number."""
Chain = list["Layer"]


class WeightsError(Gan3dError):
    """Weights of a network that is not ours, with the reason."""


class OptimizerState(WeightsError):
    """A file beside the weights that holds none."""


@dataclasses.dataclass
class Layer:
    """A convolution, with the batch normalisation after it.

    Attributes
    ----------
    weight : (in, out, k, k, k), transposed; (out, in, k, k, k) of a convolution; (out, in) of a fully connected layer
    norm : weight, bias, running mean and running variance `(out,)` each; None where none follows
    stride, padding, activation
        Where the file says them.
    """

    name: str
    weight: Tensor
    bias: Tensor | None = None
    norm: tuple[Tensor, Tensor, Tensor, Tensor] | None = None
    stride: int | None = None
    padding: int | None = None
    activation: str | None = None


def read_players(data: bytes, torch7: bool) -> tuple[dict[str, Chain], list[str]]:
    """The `generator` and the `discriminator` in a file of weights, whichever are there, and what is to be said of them.

    Raises
    ------
    Gan3dError
        A file that cannot be read, and WeightsError for networks of another kind.
    """
    if torch7:
        root = parse_torch7(data)
        try:
            return _of_torch7(root)
        except (ArithmeticError, TypeError, ValueError) as fault:
            if isinstance(fault, Gan3dError):
                raise
            raise WeightsError(f"has a module with a field of another kind ({fault})") from None
    state = parse_tensors(data)
    named = {".".join(part for part in name.split(".") if part != "module"): tensor for name, tensor in state.items()}
    if all(name.split(".")[0] in {"state", "param_groups"} for name in named):
        raise OptimizerState("holds the state of an optimiser, and no network")
    return _of_state(named), []


def _of_state(state: dict[str, Tensor], depth: int = 0) -> dict[str, Chain]:
    """A state dict with one network, or with one below each of several names."""
    if depth > MAX_DEPTH:
        raise WeightsError(f"has names of more than {MAX_DEPTH} parts")
    try:
        chain = _chain(state)
        return {_player(chain): chain}
    except WeightsError as fault:
        reason = fault
    parts: dict[str, dict[str, Tensor]] = {}
    for name, tensor in state.items():
        first, _, rest = name.partition(".")
        if rest:
            parts.setdefault(first, {})[rest] = tensor
    found: dict[str, Chain] = {}
    for first, part in parts.items():
        try:
            below = _of_state(part, depth + 1)
        except WeightsError:
            continue
        if twice := sorted(set(found) & set(below)):
            raise WeightsError(
                f"holds several networks that could be the {twice[0]} (one is {first!r}); save one of them alone"
            )
        found |= below
    if not found:
        raise reason
    return found


def _chain(state: dict[str, Tensor]) -> Chain:
    """Layers in the order of the file, which is that in which a module lists its own."""
    modules: dict[str, dict[str, Tensor]] = {}
    for name, tensor in state.items():
        module, _, part = name.rpartition(".")
        modules.setdefault(module, {})[part] = tensor
    chain: Chain = []
    for name, parts in modules.items():
        weight = parts.get("weight")
        if "running_mean" in parts and "running_var" in parts:
            _attach(chain, name, parts)
        elif weight is not None and weight.ndim in {2, 5}:
            chain.append(Layer(f"{name}.weight".removeprefix("."), weight.float(), parts.get("bias")))
        elif weight is not None and weight.ndim == 1:
            raise WeightsError(f"{name} normalises without running statistics, which our batch normalisation needs")
        else:
            kinds = ", ".join(f"{part} {tuple(tensor.shape)}" for part, tensor in list(parts.items())[:4])
            raise WeightsError(f"{name or 'its top level'} is no convolution or batch normalisation of ours ({kinds})")
    return chain


def _attach(chain: Chain, name: str, parts: dict[str, Tensor], eps: float = EPS) -> None:
    """Give the last convolution its batch normalisation; another ε than ours goes into the variance."""
    mean, variance = parts["running_mean"].float(), parts["running_var"].float() + (eps - EPS)
    if not chain or chain[-1].norm is not None or chain[-1].weight.ndim != 5 or mean.shape != variance.shape:
        raise WeightsError(f"{name} normalises something else than what a convolution gives")
    weight, bias = parts.get("weight", torch.ones_like(mean)).float(), parts.get("bias", torch.zeros_like(mean)).float()
    if any(part.shape != mean.shape or mean.ndim != 1 for part in (weight, bias)):
        raise WeightsError(f"{name} has parts of different sizes")
    chain[-1].norm = weight, bias, mean, variance


def _player(chain: Chain) -> str:
    """`generator` or `discriminator`: whether channels join when layers are read as transposed or as plain convolutions."""
    if not chain:
        raise WeightsError("holds no layers that we know; expected convolutions in a chain")
    if chain[0].weight.ndim == 2:
        raise WeightsError(
            f"{chain[0].name} is fully connected, without batch normalisation and ReLU after it; our G begins with a "
            "transposed convolution and both, so no weights of ours compute what it does"
        )
    if len(chain) < FEWEST:
        raise WeightsError(f"holds a chain of so few layers: {len(chain)}; a network of ours has at least {FEWEST}")
    maps = [layer.weight for layer in chain if layer.weight.ndim == 5]
    for player, inner in (("generator", 0), ("discriminator", 1)):
        joined = all(a.shape[1 - inner] == b.shape[inner] for a, b in itertools.pairwise(maps))
        one = maps[-1].shape[1] == 1 if player == "generator" else maps[0].shape[1] == 1
        if joined and one and (player == "discriminator" or len(maps) == len(chain)):
            return player
    shapes = ", ".join(str(tuple(layer.weight.shape)) for layer in chain)
    raise WeightsError(
        f"holds convolutions that do not join to a network between latents, one-channel grids and logits: {shapes}"
    )


def _of_torch7(root: Any) -> tuple[dict[str, Chain], list[str]]:
    """The network of a `.t7`, whose modules say strides, paddings and activations.

    Biases of convolutions are left out, as the official release does before it runs its networks (`main.lua`: "convolution
    bias is removed during training").
    """
    chain: Chain = []
    biased = False
    for number, module in enumerate(_modules(root), start=1):
        kind, fields = module.kind.split(".")[-1], module.fields
        if len(chain) > MAX_LAYERS:
            raise WeightsError(f"has more than {MAX_LAYERS} layers")
        if kind in CONVOLUTIONS:
            chain.append(_torch7_convolution(f"{number}: {module.kind}", fields, CONVOLUTIONS[kind]))
            biased |= isinstance(fields.get("bias"), np.ndarray) and bool(np.any(fields["bias"]))
        elif kind == "VolumetricBatchNormalization":
            if chain and chain[-1].activation is not None:
                raise WeightsError(f"{module.kind} stands after {chain[-1].activation}; ours stands before it")
            _attach(chain, module.kind, _torch7_norm(fields), float(fields.get("eps", EPS)))
        elif kind in {"ReLU", "LeakyReLU", "Sigmoid", "Tanh"} and chain and chain[-1].activation is None:
            slope = f" {float(fields.get('negval', 0.01)):g}" if kind == "LeakyReLU" else ""
            chain[-1].activation = kind + slope
        elif kind in {"Dropout", "VolumetricDropout"}:  # but for the second version it scales by 1 − p in evaluation, too
            if fields.get("p", 0.5) and fields.get("v2") is not True:
                raise WeightsError(f"{module.kind} scales its maps when the network is evaluated; ours does not")
        elif kind not in PASSED:
            raise WeightsError(f"{module.kind} has no counterpart in our networks")
    note = "Biases of convolutions are not zero and were left out, as the official release does before it runs its networks."
    return {_player(chain): chain}, [note] if biased else []


def _modules(root: Any, depth: int = 0) -> Iterator[TorchObject]:
    """The modules of (nested) containers, in order."""
    if depth > MAX_DEPTH:  # a container may even hold itself
        raise WeightsError(f"nests its modules deeper than {MAX_DEPTH} containers")
    if not isinstance(root, TorchObject):
        raise WeightsError(f"holds a {type(root).__name__}; expected a network of Torch7")
    if "modules" not in root.fields:
        yield root
    elif root.kind not in {"nn.Sequential", "nn.DataParallelTable"} or not isinstance(root.fields["modules"], dict):
        raise WeightsError(f"{root.kind} is no chain of layers")
    else:
        for _, module in sorted((key, part) for key, part in root.fields["modules"].items() if isinstance(key, int)):
            yield from _modules(module, depth + 1)


def _torch7_convolution(name: str, fields: dict[Any, Any], transposed: bool) -> Layer:
    keys = ["nInputPlane", "nOutputPlane", *(f"{key}{axis}" for key in ("k", "d", "pad") for axis in "TWH")]
    told = [fields.get(key) for key in keys]
    whole = [int(n) for n in told if isinstance(n, float) and n.is_integer() and 0 <= n <= MAX_SIDE]
    if len(whole) < len(told) or any(len(set(whole[i : i + 3])) > 1 for i in (2, 5, 8)):
        raise WeightsError(
            f"{name} has no equal kernel, stride and padding along all axes: {dict(zip(keys, told, strict=True))}"
        )
    if any(fields.get(f"adj{axis}") for axis in "TWH"):
        raise WeightsError(f"{name} adds voxels at one end of its maps (adjT, adjW, adjH); ours adds none")
    inputs, outputs, side, stride, padding = *whole[:2], *whole[2::3]
    shape = (inputs, outputs, *[side] * 3) if transposed else (outputs, inputs, *[side] * 3)
    weight = fields.get("weight")
    if not isinstance(weight, np.ndarray) or weight.size != np.prod(shape, dtype=object) or weight.size == 0:
        raise WeightsError(f"{name} promises weights {shape}, and has {getattr(weight, 'shape', None)}")
    return Layer(name, torch.from_numpy(np.array(weight, np.float32).reshape(shape)), None, None, stride, padding)


def _torch7_norm(fields: dict[Any, Any]) -> dict[str, Tensor]:
    """Batch normalisation by PyTorch's names; Torch7 of before 2016 kept 1/√(variance + ε) as `running_std`."""
    arrays = {key: value for key, value in fields.items() if isinstance(value, np.ndarray)}
    if "running_std" in arrays and "running_var" not in arrays:
        arrays["running_var"] = arrays["running_std"].astype(np.float64) ** -2 - float(fields.get("eps", EPS))
    if not {"running_mean", "running_var"} <= set(arrays):
        raise WeightsError("VolumetricBatchNormalization has no running mean and variance")
    keys = ("weight", "bias", "running_mean", "running_var")
    return {key: torch.from_numpy(np.array(arrays[key], np.float32)) for key in keys if key in arrays}
