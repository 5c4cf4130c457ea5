"""The nearest training shape of every sample, held-out shape and canary, under every distance: the table behind `nn-check`.

Each row depends on its own shape and the training set alone. So the rows of held-out shapes and canaries, which are the same
for every generator of a data set, come from the cache.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.api.types import is_numeric_dtype
from scipy.spatial.distance import cdist

from gan3d_eval.alignment import nearest_aligned
from gan3d_eval.cache import Cache
from gan3d_eval.canaries import canaries
from gan3d_eval.distances import Spread, in_process, nearest, nearest_soft
from gan3d_eval.embedding import Embedding
from gan3d_eval.feature_metrics import COMPONENTS, Projection
from gan3d_eval.peeling import Peeled, nearest_peeled, peel
from gan3d_eval.voxels import VoxelSet

__all__ = ["Search", "sets_of"]

LEAVE_ONE_OUT = 1000  # training shapes that stand in for held-out ones when there are none
N_CANARIES = 40
FITTED_TO = 1000  # training shapes that principal components are fitted to
Own = NDArray[np.int64]


def sets_of(train: VoxelSet, test: VoxelSet | None, with_canaries: bool, seed: int) -> tuple[dict[str, VoxelSet], Own]:
    """What samples are set against: null (`held-out` or `left-out`), canaries; and the training row that each is, or −1."""
    if test is not None:
        sets, own = {"held-out": test}, np.full(len(test), -1)
    else:
        own = np.sort(np.random.default_rng(seed).permutation(len(train))[:LEAVE_ONE_OUT])
        sets = {"left-out": train.take(own)}
    made = canaries(train, N_CANARIES, seed) if with_canaries else {}
    return sets | made, np.concatenate([own, np.full(sum(map(len, made.values())), -1)])


class Search:
    """Neighbours in one training set, with fixed options.

    Parameters
    ----------
    k : int
        Neighbours listed per shape, under L1.
    shift, poses : int, str
        What the aligned distances search (`alignment.nearest_aligned`).
    raw : bool
        L1 in place alone.
    embed : Embedding, optional
        Adds the distance between features, projected on the first principal components of the training shapes'.
    """

    def __init__(
        self, train: VoxelSet, k: int, shift: int, poses: str, raw: bool, embed: Embedding | None, cache: Cache,
        spread: Spread = in_process,
    ) -> None:  # fmt: skip
        self.train, self.k, self.shift, self.poses, self.raw, self.cache = train, k, shift, poses, raw, cache
        self.embed = None if raw else embed
        self.spread = spread

    def known(self, sets: dict[str, VoxelSet], own: Own) -> pd.DataFrame:
        """`rows` from the cache, if it has them."""
        key = {
            "train": self.train.sha256, "sets": {name: shapes.sha256 for name, shapes in sets.items()}, "own": own.tolist(),
            "names": [shapes.names for shapes in (self.train, *sets.values())], "k": self.k, "shift": self.shift,
            "poses": self.poses, "raw": self.raw, "features": self.embed.key if self.embed else None,
        }  # fmt: skip

        def compute() -> dict[str, NDArray[Any]]:
            table = self.rows(sets, own)
            return {str(c): table[c].to_numpy(None if is_numeric_dtype(table[c]) else str) for c in table}

        return pd.DataFrame(self.cache.get("neighbours", key, compute))

    def rows(
        self, sets: dict[str, VoxelSet], own: Own | None = None, probabilities: NDArray[np.floating] | None = None
    ) -> pd.DataFrame:
        """A row for each shape of `sets`: set, name, status, volume, distances, k nearest training shapes.

        `own` is the row of the training set that a shape may not find, being itself; `probabilities` are those of all
        shapes before their threshold, which add the column `soft_l1`.
        """
        every = VoxelSet.from_packed(np.concatenate([shapes.packed for shapes in sets.values()]), self.train.resolution)
        own = np.full(len(every), -1) if own is None else own
        l1, index = self._l1(every, own)
        names = np.array(self.train.names, dtype=object)
        columns: dict[str, Any] = {
            "set": np.repeat(np.array(list(sets), object), [len(shapes) for shapes in sets.values()]),
            "name": [name for shapes in sets.values() for name in shapes.names], "status": "ok", "volume": every.volume,
            "l1": l1[:, 0],
            "l1_share": np.divide(l1[:, 0], every.volume, out=np.full(len(every), np.nan), where=every.volume > 0),
        }  # fmt: skip
        for i in range(self.k):
            ends = (("", names[index]), ("_row", index), ("_l1", l1))
            columns |= {f"neighbour{i + 1}{end}": of[:, i] for end, of in ends}
        if not self.raw:
            columns["jaccard"] = nearest_aligned(every, self.train, 0, "as-is", own)[2]
            columns["aligned_l1"], aligned, columns["aligned_jaccard"], _ = nearest_aligned(
                every, self.train, self.shift, self.poses, own
            )
            columns |= {"aligned_neighbour": names[aligned], "aligned_neighbour_row": aligned}
            columns["peeled_jaccard"] = nearest_peeled(peel(every), self._peeled, own)
        if self.embed and self._projected:
            projection, known = self._projected
            far = cdist(projection.of(self.embed(every)), known)
            far[own >= 0, own[own >= 0]] = np.inf
            columns["feature"] = far.min(axis=1)
        if probabilities is not None and not self.raw:
            columns["soft_l1"] = nearest_soft(probabilities, self.train.packed)[0][:, 0]
        return pd.DataFrame(columns)

    @functools.cached_property
    def _peeled(self) -> Peeled:
        """The training shapes' voxels in order, from the cache if they are there."""

        def compute() -> dict[str, NDArray[Any]]:
            peeled = peel(self.train)
            return {"voxels": peeled.voxels, "start": peeled.start}

        return Peeled(**self.cache.get("peeled", {"train": self.train.sha256}, compute), resolution=self.train.resolution)

    def _l1(self, every: VoxelSet, own: Own) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The k nearest training shapes under L1, other than the shape itself."""
        skip = int((own >= 0).any())
        l1, index = nearest(every.packed, self.train.packed, self.k + skip, spread=self.spread)
        if skip:  # of a training shape the nearest is itself, unless a twin came first: then the twin stays
            place = np.where(index == own[:, None], np.arange(self.k + 1), self.k).min(axis=1)
            keep = np.arange(self.k + 1) != place[:, None]
            l1, index = l1[keep].reshape(-1, self.k), index[keep].reshape(-1, self.k)
        return l1, index

    @functools.cached_property
    def _projected(self) -> tuple[Projection, NDArray[np.float64]] | None:
        """The projection in which features are compared, and the training shapes' features in it; None without an embedding."""
        if not self.embed:
            return None
        features = self.embed(self.train)
        some = np.random.default_rng(0).permutation(len(features))[:FITTED_TO]
        projection = self.embed.project(features[some], COMPONENTS)
        return projection, projection.of(features)
