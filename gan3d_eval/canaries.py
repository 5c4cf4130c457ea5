"""Copies that a novelty check must catch, made from the training shapes themselves, and three things that it must not.

A claim of novelty reaches as far as the check was shown to see: each run is judged together with its canaries.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from gan3d_eval.voxels import VoxelSet

__all__ = ["CANARIES", "COPIES", "canaries"]

Grids = NDArray[np.bool_]


def _shift(grids: Grids, steps: int, random: np.random.Generator) -> Grids:
    """Each shape moved along one axis, either way, where there is room if there is any; what leaves the grid is lost."""
    moved = np.zeros_like(grids)
    d = grids.shape[1]
    pushed_out = range(steps), range(d - steps, d)  # slices that leave the grid when a shape moves down, or up
    for i, grid in enumerate(grids):
        fits = [(axis, up) for axis in range(3) for up in (0, 1) if not grid.take(pushed_out[up], axis).any()]
        axis, up = fits[random.integers(len(fits))] if fits else tuple(random.integers(0, (3, 2)))
        source = np.moveaxis(grid, axis, 0)
        target = np.moveaxis(moved[i], axis, 0)  # a view
        target[steps * up : d - steps * (1 - up)] = source[steps * (1 - up) : d - steps * up]
    return moved


def _each(change: Callable[[Grids], Grids], grids: Grids) -> Grids:
    return np.stack([change(grid) for grid in grids])


CANARIES: dict[str, Callable[[Grids, np.random.Generator], Grids]] = {
    "copy": lambda grids, random: grids,
    "flip": lambda grids, random: grids ^ (random.random(grids.shape) < 0.01),
    "shift1": lambda grids, random: _shift(grids, 1, random),
    "shift2": lambda grids, random: _shift(grids, 2, random),
    "turn": lambda grids, random: np.rot90(grids, axes=(1, 2)),
    "mirror": lambda grids, random: grids[:, ::-1],
    "dilate": lambda grids, random: _each(ndimage.binary_dilation, grids),
    "blur": lambda grids, random: _each(lambda grid: ndimage.gaussian_filter(grid.astype(np.float32), 1.0) > 0.5, grids),
    "noise": lambda grids, random: random.random(grids.shape) < grids.mean(axis=0),
    "mean": lambda grids, random: np.repeat((grids.mean(axis=0) > 0.5)[None], len(grids), axis=0),
    "empty": lambda grids, random: np.zeros_like(grids),
}
"""Exact copies, 1 % of voxels flipped, moved by one and two voxels, a quarter turn about z, mirrored across x, one voxel
thicker, blurred (σ = 1, threshold 0.5); voxels drawn singly, the mean shape, nothing."""
COPIES = ("copy", "flip", "shift1", "shift2", "turn", "mirror", "dilate", "blur")


def canaries(train: VoxelSet, n: int, seed: int) -> dict[str, VoxelSet]:
    """Sets of n of each kind, by name, from n training shapes drawn at random (fewer if there are fewer)."""
    random = np.random.default_rng(seed)
    grids = train.take(np.sort(random.permutation(len(train))[:n])).grids()
    return {name: VoxelSet.from_grids(change(grids, random)) for name, change in CANARIES.items()}
