"""Read the tensors of PyTorch files (`.pt`, `.pth`, `.pkl`) of anybody, executing nothing that stands in them."""

from __future__ import annotations

import io
import pickle
import re
import struct
import zipfile
from collections.abc import Iterator
from typing import Any, BinaryIO

import torch
from numpy.typing import NDArray
from torch import Tensor

from gan3d_eval.run_dir import Gan3dError

__all__ = ["FAULTS", "LEGACY", "TensorError", "check_archive", "parse_grids", "parse_tensors"]

LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""How files of PyTorch before 1.6 begin."""
MAX_DEPTH, MAX_TENSORS = 8, 100_000
MAX_SHARED = 4
"""Tensors may share what is stored, as tied weights do; together they take at most so many times the file's size."""
FAULTS = (
    ArithmeticError, AssertionError, AttributeError, EOFError, LookupError, MemoryError, NotImplementedError, OSError,
    RuntimeError, SyntaxError, TypeError, ValueError, pickle.UnpicklingError, struct.error,
    zipfile.BadZipFile,
)  # fmt: skip
"""What damaged or hostile files make `torch.load` raise."""


class TensorError(Gan3dError):
    """A file that PyTorch did not write, that is damaged, or that holds more than tensors, numbers and strings."""


def parse_tensors(data: bytes) -> dict[str, Tensor]:
    """All tensors of a file by their path in it (`generator.layer1.0.weight`), on the CPU; a lone tensor is called "".

    Raises
    ------
    TensorError
        Truncated, compressed (PyTorch never does), or with other objects than tensors, numbers, strings and containers.
    """
    if data[:2] == b"PK":
        check_archive(io.BytesIO(data))
    elif not data.startswith(LEGACY):
        raise TensorError(
            "is no file that torch.save wrote; other pickles could run anything when read, so none is: where it was made, save "
            "it again with torch.save(G.state_dict(), 'G.pt')"
        )
    try:
        content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except FAULTS as fault:
        raise TensorError(_reason(fault)) from None
    found: dict[str, Tensor] = {}
    room = MAX_SHARED * len(data)
    for path, tensor in _walk(content, (), set()):
        found[".".join(path)] = _plain(tensor, ".".join(path), room)
        room -= found[".".join(path)].nbytes
        if len(found) > MAX_TENSORS:
            raise TensorError(f"holds more than {MAX_TENSORS} tensors")
    if not found:
        raise TensorError("holds no tensor")
    return found


def parse_grids(data: bytes) -> dict[str, NDArray[Any]]:
    """`parse_tensors` as arrays, for files of generated shapes."""
    return {
        name: (tensor.float() if tensor.is_floating_point() and tensor.element_size() < 4 else tensor).numpy()
        for name, tensor in parse_tensors(data).items()
    }


def check_archive(stream: BinaryIO) -> None:
    """Refuse (TensorError) what could unpack to more than there is; the stream is at its beginning afterwards."""
    size = stream.seek(0, 2)
    try:
        with zipfile.ZipFile(stream) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, ValueError, LookupError, OSError, NotImplementedError) as fault:
        raise TensorError(f"is truncated, or no archive of tensors ({fault})") from None
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise TensorError("is a compressed archive, which torch.save never writes")
    if (promised := sum(member.file_size for member in members)) > size:
        raise TensorError(f"promises {promised:,} bytes and has {size:,}: parts of it are read twice")
    stream.seek(0)


def _walk(value: Any, path: tuple[str, ...], seen: set[int]) -> Iterator[tuple[tuple[str, ...], Tensor]]:
    """The tensors in nested dicts and lists, each container once: a few bytes can refer to the same one without end."""
    if isinstance(value, Tensor):
        yield path, value
    elif isinstance(value, dict | list | tuple) and id(value) not in seen:
        seen.add(id(value))
        if len(path) >= MAX_DEPTH:
            raise TensorError(f"nests its tensors deeper than {MAX_DEPTH} containers")
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _walk(part, (*path, str(key)), seen)


def _plain(tensor: Tensor, name: str, room: int) -> Tensor:
    """A tensor of numbers that are all there; not sparse, quantised, complex, or one number repeated a billion times.

    It may take `room` bytes.
    """
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_complex() or tensor.is_meta or tensor.is_nested:
        raise TensorError(f"{name or 'its tensor'} is {tensor.layout}, quantised, complex or empty; expected plain numbers")
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise TensorError(f"{name or 'its tensor'} claims {tensor.numel():,} numbers, and the file has fewer")
    if tensor.numel() * tensor.element_size() > room:
        raise TensorError(f"holds tensors of more than {MAX_SHARED} times what it stores")
    return tensor.detach().resolve_neg().contiguous()


def _reason(fault: BaseException) -> str:
    """What is wrong, in a line; how to save what a pickle holds."""
    text = " ".join(str(fault).split())
    if found := re.search(r"GLOBAL ([\w.]+)", text):
        return (
            f"holds more than tensors ({found[1]}: a pickle), which could run code; where it was made, save it again: "
            "torch.save(G.state_dict(), 'G.pt') for weights, torch.save(tensor, 'samples.pt') for grids"
        )
    what = text.partition("WeightsUnpickler error: ")[2] or text or type(fault).__name__
    return f"is truncated or damaged ({what[:120]})"
