"""Benchmarks: ours and a peer on the same arrays, alternating in one process, so that the ratio survives a noisy machine."""

from __future__ import annotations

import dataclasses
import os
import platform
import re
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from gan3d_eval.provenance import software
from gan3d_eval.voxels import VoxelError, VoxelSet, pack

__all__ = ["bench_alignment", "bench_layers", "bench_nn_check", "bench_precision", "machine"]


def machine() -> str:
    """What the figures are of: processor, cores, memory, system and versions."""
    info = Path("/proc/cpuinfo")
    facts = dict(
        re.findall(r"^(vendor_id|cpu family|model|flags)\s*: (.*)$", info.read_text() if info.exists() else "", re.MULTILINE)
    )
    extensions = sorted(flag for flag in facts.get("flags", "").split() if flag.startswith(("avx512f", "avx512_bf16", "amx")))
    processor = f"{facts.get('vendor_id', platform.machine())} family {facts.get('cpu family')} model {facts.get('model')}"
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    versions = " ".join(f"{name} {version}" for name, version in software("torch", "faiss-cpu", "numpy", "numba").items())
    return f"{os.cpu_count()} cores of {processor} ({' '.join(extensions)}), {memory:.0f} GiB, {platform.system()}, {versions}"


@dataclasses.dataclass(frozen=True)
class Timing:
    """Medians in seconds over alternating repeats, and the median and range of the ratio ours/peer of each repeat."""

    what: str
    ours: float
    peer: float
    ratio: float
    low: float
    high: float
    repeats: int

    def __str__(self) -> str:
        spread = f"[{self.low:.2f}, {self.high:.2f}] over {self.repeats} repeats"
        return f"{self.what}: ours {self.ours:.3f} s, peer {self.peer:.3f} s, ours/peer {self.ratio:.2f} {spread}"


def alternate(what: str, ours: Callable[[], Any], peer: Callable[[], Any], repeats: int) -> Timing:
    """Time both in turn, after one run of each that does not count."""
    seconds: dict[str, list[float]] = {"ours": [], "peer": []}
    for i in range(repeats + 1):
        for name, call in (("ours", ours), ("peer", peer)):
            start = time.perf_counter()
            call()
            if i:
                seconds[name].append(time.perf_counter() - start)
    ratios = [a / b for a, b in zip(seconds["ours"], seconds["peer"], strict=True)]
    medians = [statistics.median(x) for x in (seconds["ours"], seconds["peer"], ratios)]
    return Timing(what, medians[0], medians[1], medians[2], min(ratios), max(ratios), repeats)


def bench_nn_check(dataset: Path | None, n_gen: int, n_train: int, n_test: int, repeats: int) -> list[Timing]:
    """The whole of `nn-check --raw` against a bare search of faiss's IndexBinaryFlat for the same neighbours, at 64³.

    Shapes are those of `dataset` (32³ ones with every voxel doubled), repeated as needed; random bits without a dataset.
    Samples are other rows with 2 % of their bits flipped. The peer is timed twice: searching the samples alone, and searching
    samples and held-out shapes, which is the work that calibration cannot do without.
    """
    import faiss

    from gan3d_eval.nn_check import nn_check

    rng = np.random.default_rng(0)
    rows = _packed_64(dataset, n_train + n_test, rng)
    train, test = (VoxelSet.from_packed(part, 64) for part in (rows[:n_train], rows[n_train:]))
    noise = np.packbits(rng.random((n_gen, 64**3), dtype=np.float32) < 0.02, axis=1)
    gen = VoxelSet.from_packed(rows[rng.integers(0, len(rows), n_gen)] ^ noise, 64)

    def search(queries: np.ndarray[Any, Any]) -> None:
        index = faiss.IndexBinaryFlat(64**3)
        index.add(train.packed)
        index.search(queries, 3)

    def check() -> None:
        again = [VoxelSet.from_packed(s.packed, 64) for s in (train, test, gen)]  # volumes and hashes are not yet cached
        nn_check(again[0], again[1], again[2], raw=True)

    label = f"nn-check --raw of {n_gen} samples against {n_train} shapes at 64³, {n_test} held out"
    both = np.concatenate([gen.packed, test.packed])
    return [
        alternate(f"{label}; peer searches the samples", check, lambda: search(gen.packed), repeats),
        alternate(f"{label}; peer searches samples and held-out shapes", check, lambda: search(both), repeats),
    ]


def bench_alignment(dataset: Path, n: int, shift: int, repeats: int) -> list[Timing]:
    """Nearest training shapes of n held-out ones over every shift: ours against one faiss search for each shift.

    Both are exact; faiss counts what a shift pushes out of the grid as gone, ours as different.
    """
    import itertools

    from gan3d_eval.alignment import nearest_aligned
    from gan3d_eval.distances import nearest

    shapes = VoxelSet.open(dataset)
    train, test = (shapes.select([], split).without_empty() for split in ("train", "test"))
    queries = test.take(np.arange(min(n, len(test))))
    d, there = shapes.resolution, np.pad(queries.grids(), ((0, 0), *((shift, shift),) * 3))

    def one_by_one() -> None:
        for a, b, c in itertools.product(range(2 * shift + 1), repeat=3):
            nearest(pack(there[:, a : a + d, b : b + d, c : c + d]), train.packed)

    label = f"{len(queries)} against {len(train)} shapes at {d}³, shifts up to {shift}; peer: a faiss search for each shift"
    return [alternate(label, lambda: nearest_aligned(queries, train, shift), one_by_one, repeats)]


def _packed_64(dataset: Path | None, n: int, rng: np.random.Generator) -> np.ndarray[Any, Any]:
    """Return n packed grids at 64³."""
    if dataset is None:
        return np.packbits(rng.random((n, 64**3), dtype=np.float32) < 0.1, axis=1)
    shapes = VoxelSet.open(dataset)
    if shapes.resolution not in (32, 64):
        raise VoxelError(f"{dataset} has resolution {shapes.resolution}; this benchmark takes 32 or 64")
    parts = [np.kron(shapes.grids([i % len(shapes)])[0], np.ones((64 // shapes.resolution,) * 3, bool)) for i in range(n)]
    return np.concatenate([pack(part[None]) for part in parts])


def bench_layers(batch: int, repeats: int) -> list[Timing]:
    """The one-channel layers next to the voxels against PyTorch's own, forward and backward, at 64³ and the paper's width."""
    import torch
    from torch import nn

    from gan3d_model.networks import FirstConv, LastConv

    def play(layer: nn.Module, inputs: torch.Tensor) -> Callable[[], Any]:
        return lambda: layer(inputs).sum().backward()

    grids = (torch.rand(batch, 1, 64, 64, 64) < 0.1).float().requires_grad_(True)
    maps = torch.randn(batch, 64, 32, 32, 32).requires_grad_(True)
    first, last = nn.Conv3d(1, 64, 4, 2, 1, bias=False), nn.ConvTranspose3d(64, 1, 4, 2, 1, bias=False)
    return [
        alternate(f"D's first layer, batch {batch}", play(FirstConv(64), grids), play(first, grids), repeats),
        alternate(f"G's last layer, batch {batch}", play(LastConv(64), maps), play(last, maps), repeats),
    ]


def bench_precision(resolution: int, base_channels: int, batch: int, repeats: int) -> list[Timing]:
    """Forward and backward through G and D on the CPU: float32 (ours) against bfloat16 autocast (the peer)."""
    import torch

    from gan3d_model.networks import Discriminator, Generator

    generator, discriminator = Generator(resolution, base_channels), Discriminator(resolution, base_channels)
    for player in (generator, discriminator):
        player.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    latents = torch.randn(batch, 200)

    def play(half: bool) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            logits = discriminator(generator(latents))
        logits.float().sum().backward()

    label = f"G and D at {resolution}³, base {base_channels}, batch {batch}; ours float32, peer bfloat16"
    return [alternate(label, lambda: play(False), lambda: play(True), repeats)]
