"""Ways through the latent space of any generator: what is needed of one, paths, and what single dimensions do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from gan3d_eval.voxels import VoxelSet

__all__ = ["PATHS", "LatentSpace", "Latents", "effects", "iou", "linear", "spherical"]

Latents = NDArray[np.float32]
EPSILON = 1e-6


class LatentSpace(Protocol):
    """A generator that can be explored. `gan3d_model.latent` makes one of a run's checkpoint; anybody's network can be one."""

    name: str
    """What it is, for the record: a file and a step."""
    resolution: int
    dimension: int
    centre: float
    """Mean of each z under the prior."""
    ends: tuple[float, float]
    """Where 5 % and 95 % of each z's prior lie."""

    def draw(self, name: str, n: int) -> Latents:
        """`(n, z)` latents from the prior; for each name others, for the same always the same."""

    def shapes(self, latents: Latents) -> VoxelSet:
        """What the generator makes of latents `(n, z)`."""

    def recover(self, shapes: VoxelSet, start: Latents) -> tuple[Latents, NDArray[np.float64]]:
        """Latents within the prior whose shapes come nearest to these, looked for from `start`, and their IoU `(n,)`."""


def linear(start: Latents, end: Latents, steps: int, centre: float = 0.0) -> Latents:
    """Latents `(steps, …, z)` on the straight line from `start` `(…, z)` to `end`, both included (Wu et al. 2016, sec. 4.3)."""
    t = _times(steps, start)
    path: Latents = ((1 - t) * start + t * end).astype(np.float32)
    return path


def spherical(start: Latents, end: Latents, steps: int, centre: float = 0.0) -> Latents:
    """Latents `(steps, …, z)` on the great circle around the prior's `centre` (White 2016, "Sampling generative networks").

    In many dimensions nearly all of a prior is as far from its centre as its shell; a straight line leaves the shell by up to
    a third. Latents that point the same way, or opposite ways, are joined by the straight line.
    """
    t, a, b = _times(steps, start), start - np.float32(centre), end - np.float32(centre)
    length = np.linalg.norm(a, axis=-1, keepdims=True) * np.linalg.norm(b, axis=-1, keepdims=True)
    angle = np.arccos(np.clip((a * b).sum(-1, keepdims=True) / np.maximum(length, EPSILON), -1, 1))
    sine = np.sin(angle)
    curved = (np.sin((1 - t) * angle) * a + np.sin(t * angle) * b) / np.maximum(sine, EPSILON)
    path: Latents = (centre + np.where(sine > 1e-3, curved, (1 - t) * a + t * b)).astype(np.float32)
    return path


PATHS: dict[str, Callable[[Latents, Latents, int, float], Latents]] = {"linear": linear, "spherical": spherical}


def _times(steps: int, like: Latents) -> NDArray[np.float64]:
    return np.linspace(0, 1, steps).reshape(-1, *[1] * like.ndim)


def effects(space: LatentSpace, latents: Latents) -> NDArray[np.float64]:
    """What each dimension does alone: `(z,)`, how much of a shape changes when that z moves from 5 % to 95 % of its prior.

    Jaccard distance between both ends, mean over the base `latents` `(n, z)`: in [0, 1].
    """
    found = np.zeros(space.dimension)
    for dimension in range(space.dimension):
        both = np.repeat(latents[None], 2, axis=0)
        both[:, :, dimension] = np.array(space.ends)[:, None]
        low, high = np.split(space.shapes(both.reshape(-1, space.dimension)).packed, 2)
        found[dimension] = (1 - iou(low, high)).mean()
    return found


def iou(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Intersection over union of packed grids `(n, w) uint8`, row with row: `(n,)`; 1 for two empty ones."""
    both, either = (np.bitwise_count(x).sum(axis=1, dtype=np.int64) for x in (a & b, a | b))
    shares: NDArray[np.float64] = np.divide(both, either, out=np.ones(len(a)), where=either > 0)
    return shares
