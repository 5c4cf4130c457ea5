"""Read Torch7's `.t7` files: numbers, strings, tables, tensors and objects of the binary format. Nothing is executed.

Format: torch7 `File.lua` and `generic/Tensor.c`. Not read through the package `torchfile`: its tensors may refer to memory
outside of the file (strides and offsets are believed as they stand), which a hostile file would use. Here every tensor lies
inside its storage and every length inside the file. Functions (compiled Lua) are refused.
"""

from __future__ import annotations

import dataclasses
import math
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gan3d_eval.run_dir import Gan3dError

__all__ = ["TorchObject", "parse_torch7"]

NIL, NUMBER, STRING, TABLE, TORCH, BOOLEAN = range(6)
DTYPES = {"Byte": "u1", "Char": "i1", "Short": "i2", "Int": "i4", "Long": "i8", "Float": "f4", "Double": "f8", "": "f4"}
"""Of `torch.FloatStorage`, `torch.CudaDoubleTensor` …; plain `torch.CudaTensor` is float."""
MAX_DEPTH = 100
MAX_AXES = 16


@dataclasses.dataclass
class TorchObject:
    """An object of a Lua class: its name (`nn.Sequential`) and its fields."""

    kind: str
    fields: dict[Any, Any]


def parse_torch7(data: bytes) -> Any:
    """The object that a `.t7` file holds: None, numbers, str, dict (tables), arrays (tensors) and `TorchObject`.

    Raises
    ------
    Gan3dError
        Truncated, another format, Lua functions, or tensors that leave their storage.
    """
    try:
        return _Reader(data).value(0)
    except (struct.error, IndexError, KeyError, TypeError, ValueError, OverflowError, MemoryError) as fault:
        if isinstance(fault, Gan3dError):
            raise
        raise Gan3dError(f"is truncated, damaged, or no binary Torch7 file ({str(fault) or type(fault).__name__})") from None


class _Reader:
    """A position in the bytes, and the objects met so far: each stands in the file once and is referred to by number."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = memoryview(data), 0
        self.known: dict[int, Any] = {}

    def take(self, length: int) -> memoryview:
        """The next bytes, all of them there."""
        if not 0 <= length <= len(self.data) - self.at:
            raise Gan3dError(f"is truncated: {length} bytes promised, {len(self.data) - self.at} left")
        self.at += length
        return self.data[self.at - length : self.at]

    def numbers(self, code: str, n: int = 1) -> tuple[Any, ...]:
        return struct.unpack(f"<{n}{code}", self.take(n * struct.calcsize(f"<{code}")))

    def integer(self) -> int:
        return int(self.numbers("i")[0])

    def string(self) -> str:
        return bytes(self.take(self.integer())).decode("utf-8", "replace")

    def value(self, depth: int) -> Any:
        kind = self.integer()
        if depth > MAX_DEPTH:
            raise Gan3dError(f"nests deeper than {MAX_DEPTH} tables")
        if kind == NIL:
            return None
        if kind == NUMBER:
            return self.numbers("d")[0]
        if kind == STRING:
            return self.string()
        if kind == BOOLEAN:
            return self.integer() == 1
        if kind not in {TABLE, TORCH}:
            raise Gan3dError(f"holds a value of type {kind}, a Lua function or nothing known; only data is read")
        number = self.integer()
        if number not in self.known:
            self.known[number] = None  # until it is read: a tensor cannot hold itself
            self.known[number] = self.table(number, depth) if kind == TABLE else self.torch(depth)
        return self.known[number]

    def table(self, number: int, depth: int) -> dict[Any, Any]:
        self.known[number] = found = {}
        for _ in range(self.integer()):
            key = self.value(depth + 1)
            value = self.value(depth + 1)
            if not isinstance(key, float | str | bool):
                raise Gan3dError(f"has a table with a {type(key).__name__} as key; expected numbers or strings")
            found[int(key) if isinstance(key, float) and key.is_integer() else key] = value
        return found

    def torch(self, depth: int) -> Any:
        version = self.string()
        kind = self.string() if version.startswith("V ") else version
        name = kind.removeprefix("torch.").removeprefix("Cuda")
        if kind.startswith("torch.") and name.endswith("Storage"):
            return self.storage(np.dtype("<" + DTYPES[name.removesuffix("Storage")]))
        if kind.startswith("torch.") and name.endswith("Tensor"):
            return self.tensor(np.dtype("<" + DTYPES[name.removesuffix("Tensor")]), depth)
        fields = self.value(depth + 1)
        return TorchObject(kind, fields if isinstance(fields, dict) else {})

    def storage(self, dtype: np.dtype[Any]) -> NDArray[Any]:
        size = int(self.numbers("q")[0])
        return np.frombuffer(self.take(size * dtype.itemsize), dtype)

    def tensor(self, dtype: np.dtype[Any], depth: int) -> NDArray[Any]:
        axes = self.integer()
        if not 0 <= axes <= MAX_AXES:
            raise Gan3dError(f"has a tensor of {axes} axes; expected at most {MAX_AXES}")
        shape, strides = (self.numbers("q", axes) for _ in range(2))
        offset = int(self.numbers("q")[0]) - 1
        storage = self.value(depth + 1)
        if storage is None or not axes:
            return np.zeros(0, dtype)
        if not isinstance(storage, np.ndarray) or storage.ndim != 1 or storage.dtype != dtype:
            raise Gan3dError("has a tensor whose storage is of another kind")
        last = offset + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
        if min(shape) < 1 or min(strides) < 0 or offset < 0 or last >= len(storage) or math.prod(shape) > len(storage):
            raise Gan3dError(f"has a tensor of shape {shape} that its storage of {len(storage)} numbers does not hold")
        return np.lib.stride_tricks.as_strided(
            storage[offset:], shape, [stride * dtype.itemsize for stride in strides], writeable=False
        )
