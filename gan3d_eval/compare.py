"""Is it real, and is it all of it? Generated shapes against held-out ones, beside what real shapes, the mean and noise reach.

A value of COV, MMD or 1-NNA means nothing alone: each moves with the number of shapes, and a perfect generator has neither
coverage 1 nor distance 0. So every measure (`set_measures.py`) is taken of four sets of the same size n, each against the same
n held-out shapes: the generated ones; `real`, shapes of the training set (what a perfect generator reaches, and a copying one);
`mean-shape`, the one shape that is occupied where most are; `noise`, voxels drawn singly with the data's frequencies.

A set larger than n is drawn from again and again without replacement: a value is the mean over draws, its interval the
central 95 % of them (FD∞ and the p of KID are of the first draw; FD, Vendi and FLD of fewer). Drawing with replacement, as a
bootstrap does, would make twins, which nearest neighbours notice.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gan3d_eval.cache import NO_CACHE, Cache
from gan3d_eval.embedding import NO_FEATURES, Embedding
from gan3d_eval.feature_metrics import COMPONENTS, Projection
from gan3d_eval.plotting import GENERATED, NEUTRAL, REAL, figure
from gan3d_eval.provenance import Result
from gan3d_eval.run_dir import RunDir
from gan3d_eval.set_measures import FEATURE_MEASURES, FITTED_MEASURES, MAIN, MAIN_FEATURES, MEASURES, Reference, measure
from gan3d_eval.statistics import LEAKED, unlike
from gan3d_eval.voxels import VoxelError, VoxelSet

__all__ = ["FIRST", "SETS", "VERB", "compare", "draw"]

VERB = "compare"
SETS = ("generated", "real", "mean-shape", "noise")
FIRST = ("n", "n_samples", "empty", "one_nna_l1", "ks_components", *MAIN, *MAIN_FEATURES)  # what a terminal shows
DRAWS = 1000
POOL = 1000  # shapes of a set that are drawn from: matrices of that size, whatever the set's
MIN_N = 10
EMPTY = "only empty shapes in a draw"
SHOWN = {
    "valid": "Valid volume: high", "coverage_l1": "COV, L1: high", "coverage_chamfer": "COV, Chamfer: high",
    "mmd_jaccard": "MMD, Jaccard: low", "one_nna_gen_l1": "1-NNA on samples, L1: ½",
    "one_nna_ref_l1": "1-NNA on held-out, L1: ½", "one_nna_chamfer": "1-NNA, Chamfer: ½", "jsd": "JSD of places: low",
}  # fmt: skip
NOTES = [
    "A generator that copies its training set scores as `real` does: these measures cannot see copying; nn-check can.",
    "Values move with n: compare runs under the same protocol only.",
]
OWN_FEATURES = "Features are of {}: values of runs that were judged by different features cannot be compared."


def compare(
    train: VoxelSet, test: VoxelSet | None, gen: VoxelSet, draws: int = DRAWS, seed: int = 0, embed: Embedding | None = None,
    cache: Cache = NO_CACHE,
) -> tuple[Result, pd.DataFrame]:  # fmt: skip
    """Compare `gen` with the held-out shapes `test`, beside shapes of `train`, their mean, and noise.

    Parameters
    ----------
    train, test, gen : VoxelSet
        Of the same resolution. n is the size of the smallest, at most 1000.
    draws : int
        Draws of n shapes from each set that is larger.
    embed : Embedding, optional
        Makes the features that `FEATURE_MEASURES` are taken of, projected on the first principal components of the training
        shapes' ones.
    cache : Cache
        Keeps what does not depend on `gen`.

    Returns
    -------
    result : Result
        For `results/compare.json`; `values` has `<measure>` of the generated shapes and `<measure>/<set>` of the others.
    rows : DataFrame
        set, measure, value, low, high.

    Raises
    ------
    VoxelError
        Different resolutions, no held-out shapes, or fewer than 10 of a set.
    """
    started = time.perf_counter()
    test, leaked, n = _check(train, test, gen)
    reference = _some(test, n, np.random.default_rng(seed))
    pools = _Pools(train, gen, n, draws, seed)
    measured = _measure(pools, reference, embed, cache)
    rows, intervals = _summary(measured, pools, n)
    every = {_key(row["set"], row["measure"]): float(row["value"]) for row in rows}
    features = f"+{embed.sha256[:8]}-pca{_components(n)}" if embed else ""  # leaderboard reads what stands before the +
    notes = [*NOTES, *([LEAKED.format(leaked)] if leaked else []), *([OWN_FEATURES.format(embed.name)] if embed else [])]
    notes += unlike(gen, train, seed)
    absent = {key: EMPTY for key, value in every.items() if not np.isfinite(value)}
    result = Result(
        VERB, f"compare-{gen.resolution}-n{n}-train{train.sha256[:8]}-test{reference.sha256[:8]}{features}",
        {"train": train.identity(), "test": test.identity(), "samples": gen.identity()},
        {"draws": draws, "pool": POOL, "column": SETS[0], "features": embed.name if embed else None},
        {"n": n, "n_samples": pools.size(SETS[0])} | {key: value for key, value in every.items() if np.isfinite(value)},
        intervals, notes=notes, absent=absent | ({} if embed else dict.fromkeys(FEATURE_MEASURES, NO_FEATURES)), seed=seed,
        started=started,
    )  # fmt: skip
    return result, pd.DataFrame(rows)


def _check(train: VoxelSet, test: VoxelSet | None, gen: VoxelSet) -> tuple[VoxelSet, int, int]:
    """Held-out shapes that do not stand in training, how many do, and n; VoxelError if there is nothing to compare."""
    if test is None:
        raise VoxelError("the dataset has no held-out (test) shapes to compare with; --reference names one that has")
    if len({s.resolution for s in (train, test, gen)}) > 1:
        raise VoxelError(f"samples are {gen.resolution}³, training shapes {train.resolution}³; compare equal resolutions only")
    leaked = test.stands_in(train)
    test = test.take(~leaked) if leaked.any() else test
    n = min(len(train), len(test), len(gen), POOL)
    if n < MIN_N:
        sizes = f"{len(train)} training shapes, {len(test)} held-out shapes and {len(gen)} samples"
        raise VoxelError(f"{sizes} to compare; at least {MIN_N} of each are needed")
    return test, int(leaked.sum()), n


class _Pools:
    """The four sets that are drawn from, each with its own random numbers, so that none depends on another."""

    def __init__(self, train: VoxelSet, gen: VoxelSet, n: int, draws: int, seed: int) -> None:
        self.train, self.n, self.draws, self.seed = train, n, draws, seed
        self.given = {"generated": gen, "real": train}
        """Sets that are there, larger than n perhaps; the others are made, n shapes each."""

    def random(self, name: str) -> np.random.Generator:
        return np.random.default_rng([self.seed, SETS.index(name)])

    def size(self, name: str) -> int:
        """Shapes that are drawn from."""
        return min(POOL, len(self.given[name])) if name in self.given else self.n

    def pool(self, name: str) -> VoxelSet:
        """The shapes that are drawn from."""
        random, d = self.random(name), self.train.resolution
        if name in self.given:
            return _some(self.given[name], POOL, random)
        share = self.train.mean_shape()
        if name == "mean-shape":
            return VoxelSet.from_grids(np.repeat((share > 0.5)[None], self.n, axis=0))
        return VoxelSet.from_grids(random.random((self.n, d, d, d)) < share)

    def drawn(self, name: str) -> NDArray[np.int64]:
        """Rows of the pool in each draw, `(draws, n)`; one draw if the pool is no larger than n."""
        random, size = np.random.default_rng([self.seed, SETS.index(name), 1]), self.size(name)
        return np.array([np.sort(random.permutation(size)[: self.n]) for _ in range(self.draws if size > self.n else 1)])


def _measure(
    pools: _Pools, shapes: VoxelSet, embed: Embedding | None, cache: Cache
) -> dict[str, dict[str, NDArray[np.float64]]]:
    """Every measure of every set. What does not depend on the generated shapes comes from the cache if it is there."""

    @functools.cache
    def against() -> tuple[Reference, Projection | None]:
        if embed is None:
            return Reference.of(shapes, pools.train), None
        real = embed(pools.pool("real"))
        projection = embed.project(real, _components(pools.n))
        unit = np.sqrt(projection.of(real).var(axis=0).mean())  # KID's kernel adds 1: it has a scale
        projection = dataclasses.replace(projection, axes=projection.axes / unit)
        return Reference.of(shapes, pools.train, projection.of(embed(shapes)), projection.of(real)), projection

    def one(name: str) -> dict[str, NDArray[np.float64]]:
        (reference, projection), pool = against(), pools.pool(name)
        features = projection.of(embed(pool)) if embed and projection else None
        return measure(pool, reference, pools.drawn(name), features, np.random.default_rng([pools.seed, SETS.index(name), 2]))

    key = {"train": pools.train.sha256, "test": shapes.sha256, "n": pools.n, "draws": pools.draws, "seed": pools.seed}
    key["features"] = embed.key if embed else None
    own, *others = SETS
    return {own: one(own)} | {name: cache.get(VERB, key | {"set": name}, functools.partial(one, name)) for name in others}


def _summary(
    measured: dict[str, dict[str, NDArray[np.float64]]], pools: _Pools, n: int
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """A row for each set and measure, and the intervals of those that were drawn more than once, or fitted."""
    rows: list[dict[str, Any]] = []
    intervals: dict[str, Any] = {}
    for name, found in measured.items():
        for key in [key for key in (*MEASURES, *FEATURE_MEASURES) if key in found]:
            values = found[key]
            value, low, high = values if key in FITTED_MEASURES else (values.mean(), *np.quantile(values, [0.025, 0.975]))
            rows.append({"set": name, "measure": key, "value": value, "low": low, "high": high})
            if (len(values) > 1 or key in FITTED_MEASURES) and np.isfinite(low):
                drawn = f"central 95 % of {len(values)} draws of {n} from {pools.size(name)}"
                kind = "95 % interval of the fit" if key in FITTED_MEASURES else drawn
                intervals[_key(name, key)] = {"low": float(low), "high": float(high), "kind": kind}
    return rows, intervals


def _components(n: int) -> int:
    return min(COMPONENTS, n // 2)  # a covariance needs more shapes than dimensions


def _key(name: str, measure: str) -> str:
    return measure if name == SETS[0] else f"{measure}/{name}"


def _some(shapes: VoxelSet, n: int, random: np.random.Generator) -> VoxelSet:
    """At most n of the shapes, in their order."""
    return shapes.take(np.sort(random.permutation(len(shapes))[:n]))


def draw(run: RunDir, rows: pd.DataFrame, name: str = VERB) -> Path:
    """Draw `figures/<name>-measures.png`: each measure of the four sets, with intervals."""
    colors = dict(zip(SETS, (GENERATED, REAL, NEUTRAL, (0.72, 0.74, 0.77)), strict=True))
    path = run.picture_path("figures", f"{name}-measures")
    with figure(path, 2, 4, 12, 4.2) as axes:
        for axis, measure in zip(axes.flat, SHOWN, strict=True):
            part = rows[rows["measure"] == measure].set_index("set").loc[list(SETS)[::-1]]
            for y, (which, row) in enumerate(part.iterrows()):
                axis.plot([row["low"], row["high"]], [y, y], color=colors[str(which)], linewidth=2.5, alpha=0.45)
                axis.plot(row["value"], y, "o", color=colors[str(which)])
            axis.set_yticks(range(len(SETS)), list(SETS)[::-1] if axis in axes[:, 0] else [""] * len(SETS))
            axis.set_ylim(-0.5, len(SETS) - 0.5)
            axis.set_title(SHOWN[measure], loc="left")
            if "one_nna" in measure:
                axis.axvline(0.5, color=NEUTRAL, linestyle=":", linewidth=1)
    return path
