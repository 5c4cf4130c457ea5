"""Torch7's files are data: what was written is read, and nothing reaches outside of the file."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from gan3d_eval.files import Gan3dError
from gan3d_model.torch7 import TorchObject, parse_torch7


def text(value):
    data = value.encode()
    return struct.pack("<i", len(data)) + data


class Writer:
    """The binary format of torch7's File.lua: a type, then the value; tables and objects are numbered."""

    def __init__(self, count=0):
        self.count = count

    def __call__(self, value):
        if value is None:
            return struct.pack("<i", 0)
        if isinstance(value, bool):
            return struct.pack("<ii", 5, value)
        if isinstance(value, int | float):
            return struct.pack("<id", 1, value)
        if isinstance(value, str):
            return struct.pack("<i", 2) + text(value)
        self.count += 1
        number = struct.pack("<i", self.count)
        if isinstance(value, dict):
            pairs = b"".join(self(k) + self(v) for k, v in value.items())
            return struct.pack("<i", 3) + number + struct.pack("<i", len(value)) + pairs
        head = struct.pack("<i", 4) + number + text("V 1")
        if isinstance(value, np.ndarray):
            return head + self.tensor(value)
        return head + text(value.kind) + self(value.fields)

    def tensor(self, array, shape=None, strides=None, offset=1):
        shape = array.shape if shape is None else shape
        strides = [s // array.itemsize for s in array.strides] if strides is None else strides
        self.count += 1
        name = {"f4": "Float", "f8": "Double", "i8": "Long"}[array.dtype.str[1:]]
        storage = struct.pack("<ii", 4, self.count) + text("V 1") + text(f"torch.{name}Storage")
        numbers = struct.pack("<i", len(shape)) + struct.pack(f"<{2 * len(shape)}q", *shape, *strides)
        return (
            text(f"torch.{name}Tensor")
            + numbers
            + struct.pack("<q", offset)
            + storage
            + struct.pack("<q", array.size)
            + array.tobytes()
        )


def written(value):
    return Writer()(value)


def conv(transposed, inputs, outputs, side=4, stride=2, padding=1, bias=0.0):
    random = np.random.default_rng([inputs, outputs])
    shape = (inputs, outputs) if transposed else (outputs, inputs)
    fields = {"nInputPlane": inputs, "nOutputPlane": outputs, "bias": np.full(outputs, bias, np.float32)}
    fields |= {f"{key}{axis}": n for key, n in (("k", side), ("d", stride), ("pad", padding)) for axis in "TWH"}
    fields["weight"] = random.normal(0, 0.3, (*shape, side, side, side)).astype(np.float32)
    return TorchObject("nn.VolumetricFullConvolution" if transposed else "nn.VolumetricConvolution", fields)


def norm(n, eps=1e-5, old=False):
    random = np.random.default_rng(n)
    variance = random.uniform(0.5, 2, n)
    fields = {
        "eps": eps,
        "weight": random.normal(1, 0.1, n),
        "bias": random.normal(0, 0.1, n),
        "running_mean": random.normal(0, 0.1, n),
    }
    fields |= {"running_std": (variance + eps) ** -0.5} if old else {"running_var": variance}
    return TorchObject(
        "nn.VolumetricBatchNormalization", {k: np.float32(v) if isinstance(v, np.ndarray) else v for k, v in fields.items()}
    )


def network(latent=5, base=2, bias=0.0, **how):
    """The official G (net64.lua) with 1/32 of its width: 4³ from a kernel of 4³ without padding, then doubled four times."""
    widths = [8 * base, 4 * base, 2 * base, base]
    modules = [conv(True, latent, widths[0], stride=1, padding=0, bias=bias)]
    for before, after in zip(widths, [*widths[1:], 1], strict=True):
        modules += [norm(before, **how), TorchObject("nn.ReLU", {"inplace": True}), conv(True, before, after, bias=bias)]
    modules += [TorchObject("nn.Sigmoid", {})]
    return TorchObject("nn.Sequential", {"modules": dict(enumerate(modules, 1)), "train": False})


def test_what_was_written_is_read():
    array = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    back = parse_torch7(written({"a": 1.5, "b": "chair", "c": True, "d": None, "e": array, "f": {1: 2.0, 2: 3.0}}))
    assert np.array_equal(back.pop("e"), array)
    assert back == {"a": 1.5, "b": "chair", "c": True, "d": None, "f": {1: 2.0, 2: 3.0}}


def test_views_into_a_storage_are_read_with_their_strides():
    """By hand: every other column of a 2 × 4 matrix, beginning at its second."""
    data = struct.pack("<ii", 4, 1) + text("V 1") + Writer(1).tensor(np.arange(8, dtype=np.float64), (2, 2), (4, 2), offset=2)
    assert parse_torch7(data).tolist() == [[1, 3], [5, 7]]


def test_an_object_that_is_met_again_is_the_same():
    shared = (
        struct.pack("<iii", 3, 1, 2)
        + struct.pack("<id", 1, 1.0)
        + struct.pack("<ii", 3, 1)[:8]
        + struct.pack("<id", 1, 2.0)
        + struct.pack("<i", 0)
    )
    table = parse_torch7(shared)
    assert table[1] is table


@pytest.mark.parametrize(("shape", "strides", "offset"), [
    ((2, 5), (4, 1), 1), ((9,), (1,), 1), ((2, 2), (-4, 1), 5), ((2,), (1,), 0), ((2,), (1,), 8), ((10**9, 10**9), (0, 0), 1),
    ((2, 2), (2**62, 1), 1), ((0, 3), (1, 1), 1), ((-1,), (1,), 1),
])  # fmt: skip
def test_tensors_that_reach_outside_of_their_storage_are_refused(shape, strides, offset):
    data = struct.pack("<ii", 4, 1) + text("V 1") + Writer(1).tensor(np.arange(8, dtype=np.float64), shape, strides, offset)
    with pytest.raises(Gan3dError, match="that its storage of 8 numbers does not hold"):
        parse_torch7(data)


@pytest.mark.parametrize(("data", "reason"), [
    (b"", "truncated"),
    (struct.pack("<ii", 6, 1), "Lua function"),
    (struct.pack("<ii", 2, 10**9) + b"abc", "truncated: 1000000000 bytes promised, 3 left"),
    (struct.pack("<ii", 2, -1), "truncated"),
    (struct.pack("<iii", 3, 1, 2**31 - 1), "truncated"),
    (b"".join(struct.pack("<iii", 3, i, 1) + struct.pack("<id", 1, 1.0) for i in range(200)), "deeper"),
    (struct.pack("<iii", 3, 1, 1) + struct.pack("<iii", 3, 2, 0) + struct.pack("<i", 0), "as key"),
    (struct.pack("<ii", 4, 1) + text("V 1") + text("torch.HalfStorage") + struct.pack("<q", 1) + b"ab", "no binary Torch7"),
    (struct.pack("<ii", 4, 1) + text("V 1") + text("torch.FloatStorage") + struct.pack("<q", 2**60), "truncated"),
    (struct.pack("<ii", 4, 1) + text("V 1") + text("torch.FloatTensor") + struct.pack("<i", 2**30), "axes"),
])  # fmt: skip
def test_what_is_damaged_or_hostile_is_refused_in_words(data, reason):
    with pytest.raises(Gan3dError, match=reason):
        parse_torch7(data)
