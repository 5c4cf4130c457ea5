"""Is it real, and is it all of it? Generated shapes against held-out ones, beside what real shapes, the mean and noise reach.

A value of COV, MMD or 1-NNA means nothing alone: each moves with the number of shapes, and a perfect generator has neither
coverage 1 nor distance 0. So every measure is taken of four sets of the same size n, each against the same n held-out
shapes: the generated ones; `real`, shapes of the training set (what a perfect generator reaches, and a copying one);
`mean-shape`, the one shape that is occupied where most are; `noise`, voxels drawn singly with the data's frequencies.

A set larger than n is drawn from again and again without replacement: a value is the mean over draws, its interval the
central 95 % of them. Drawing with replacement, as a bootstrap does, would make twins, which nearest neighbours notice.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gan3d_eval.distances import jaccard_from_l1, matrix
from gan3d_eval.plotting import GENERATED, NEUTRAL, REAL, figure
from gan3d_eval.run_dir import Result, RunDir
from gan3d_eval.set_metrics import (
    coverage,
    jensen_shannon,
    kolmogorov_smirnov,
    minimum_matching_distance,
    one_nn_accuracy,
)
from gan3d_eval.statistics import statistics
from gan3d_eval.voxels import VoxelError, VoxelSet, pack

__all__ = ["MEASURES", "SETS", "VERB", "compare", "draw"]

VERB = "compare"
SETS = ("generated", "real", "mean-shape", "noise")
POOL = 1000  # shapes of a set that are drawn from: matrices of that size, whatever the set's
MIN_N = 10
INSIDE = (0.01, 0.99)
BLOCK, BYTES = 64, 1024  # shapes, and bytes of each shape, that are unpacked at a time
EMPTY = "only empty shapes in a draw"
SHAPES = ("volume", "components", "largest_share", "symmetry_x", "interior")  # columns of `statistics` that are compared
MEASURES = (  # what each of them means stands in the report
    *("valid", "empty", "coverage_l1", "coverage_jaccard", "one_nna_l1", "one_nna_gen_l1", "one_nna_ref_l1"),
    *("one_nna_jaccard", "one_nna_gen_jaccard", "one_nna_ref_jaccard", "mmd_l1", "mmd_jaccard", "jsd"),
    *(f"ks_{name}" for name in SHAPES),
)
SHOWN = {
    "valid": "Valid volume: high", "coverage_l1": "COV, L1: high", "coverage_jaccard": "COV, Jaccard: high",
    "mmd_jaccard": "MMD, Jaccard: low", "one_nna_l1": "1-NNA, L1: ½", "one_nna_jaccard": "1-NNA, Jaccard: ½",
    "jsd": "JSD of places: low", "ks_volume": "KS of volumes: low",
}  # fmt: skip
NOTES = [
    "A generator that copies its training set scores as `real` does: these measures cannot see copying; nn-check can.",
    "Values move with n: compare runs under the same protocol only.",
]


def compare(
    train: VoxelSet, test: VoxelSet | None, gen: VoxelSet, draws: int = 200, seed: int = 0
) -> tuple[Result, pd.DataFrame]:
    """Compare `gen` with the held-out shapes `test`, beside shapes of `train`, their mean, and noise.

    Parameters
    ----------
    train, test, gen : VoxelSet
        Of the same resolution. n is the size of the smallest, at most 1000.
    draws : int
        Draws of n shapes from each set that is larger.

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
    if test is None:
        raise VoxelError("the dataset has no held-out (test) shapes to compare with")
    if len({s.resolution for s in (train, test, gen)}) > 1:
        raise VoxelError(f"samples are {gen.resolution}³, training shapes {train.resolution}³; compare equal resolutions only")
    n = min(len(train), len(test), len(gen), POOL)
    if n < MIN_N:
        raise VoxelError(f"{n} shapes in the smallest of training, held-out and generated sets; at least {MIN_N} are needed")
    random = np.random.default_rng(seed)
    reference, inside = _some(test, n, random), np.quantile(train.volume, INSIDE)
    known, share = (_distances(reference, reference), statistics(reference)), _share(train)
    rows: list[dict[str, Any]] = []
    intervals: dict[str, Any] = {}
    for name in SETS:
        pool = _pool(name, train, gen, share, n, random)
        drawn = np.array([np.sort(random.permutation(len(pool))[:n]) for _ in range(draws if len(pool) > n else 1)])
        found = _neighbours(pool, reference, known[0], drawn) | _looks(pool, known[1], inside, drawn)
        found["jsd"] = _places(pool, reference, drawn)
        for measure in MEASURES:
            low, high = np.quantile(found[measure], [0.025, 0.975])
            rows.append({"set": name, "measure": measure, "value": found[measure].mean(), "low": low, "high": high})
            if len(drawn) > 1 and np.isfinite(low):
                kind = f"central 95 % of {draws} draws of {n} from {len(pool)}"
                intervals[_key(name, measure)] = {"low": float(low), "high": float(high), "kind": kind}
    every = {_key(row["set"], row["measure"]): float(row["value"]) for row in rows}
    result = Result(
        VERB, f"compare-{gen.resolution}-n{n}-test{reference.sha256[:8]}",
        {"train": train.identity(), "test": test.identity(), "samples": gen.identity()},
        {"draws": draws, "pool": POOL, "column": SETS[0]},
        {"n": n, "n_samples": len(gen)} | {key: value for key, value in every.items() if np.isfinite(value)}, intervals,
        notes=list(NOTES), absent={key: EMPTY for key, value in every.items() if not np.isfinite(value)}, seed=seed,
        started=started,
    )  # fmt: skip
    return result, pd.DataFrame(rows)


def _key(name: str, measure: str) -> str:
    return measure if name == SETS[0] else f"{measure}/{name}"


def _some(shapes: VoxelSet, n: int, random: np.random.Generator) -> VoxelSet:
    """At most n of the shapes, in their order."""
    return shapes.take(np.sort(random.permutation(len(shapes))[:n]))


def _share(train: VoxelSet) -> NDArray[np.float64]:
    """Share of the shapes that occupy each voxel, `(d³,)`."""
    total = np.zeros(train.resolution**3)
    for i in range(0, len(train), BLOCK):
        total += train.grids(slice(i, i + BLOCK)).reshape(-1, len(total)).sum(axis=0)
    return total / len(train)


def _pool(
    name: str, train: VoxelSet, gen: VoxelSet, share: NDArray[np.float64], n: int, random: np.random.Generator
) -> VoxelSet:
    """The shapes of a set that are drawn from."""
    if name in ("generated", "real"):
        return _some(gen if name == "generated" else train, POOL, random)
    d = train.resolution
    grids = np.repeat((share > 0.5)[None], n, axis=0) if name == "mean-shape" else random.random((n, d**3)) < share
    return VoxelSet.from_packed(pack(grids.reshape(n, d, d, d)), d)


def _distances(a: VoxelSet, b: VoxelSet) -> dict[str, NDArray[Any]]:
    """Between each shape of `a` and each of `b`, `(n, m)`."""
    l1 = matrix(a.packed, b.packed)
    return {"l1": l1, "jaccard": jaccard_from_l1(l1, a.volume[:, None], b.volume)}


def _neighbours(
    pool: VoxelSet, reference: VoxelSet, within: dict[str, NDArray[Any]], drawn: NDArray[np.int64]
) -> dict[str, NDArray[np.float64]]:
    """COV, MMD and 1-NNA of every draw, `(draws,)` each."""
    found: dict[str, NDArray[np.float64]] = {}
    own, cross = _distances(pool, pool), _distances(pool, reference)
    for name, ref_ref in within.items():
        both = np.array([one_nn_accuracy(own[name][np.ix_(rows, rows)], cross[name][rows], ref_ref) for rows in drawn])
        found[f"coverage_{name}"] = np.array([coverage(cross[name][rows]) for rows in drawn])
        found[f"mmd_{name}"] = np.array([minimum_matching_distance(cross[name][rows]) for rows in drawn])
        found[f"one_nna_{name}"] = both.mean(axis=1)
        found[f"one_nna_gen_{name}"], found[f"one_nna_ref_{name}"] = both.T
    return found


def _looks(
    pool: VoxelSet, known: pd.DataFrame, inside: NDArray[np.float64], drawn: NDArray[np.int64]
) -> dict[str, NDArray[np.float64]]:
    """Validity of every draw, and how far its shapes' statistics are from those of the reference, `(draws,)` each."""
    looks = statistics(pool)
    volume = looks["volume"].to_numpy()
    valid = (volume >= inside[0]) & (volume <= inside[1])
    found = {"valid": valid[drawn].mean(axis=1), "empty": (volume == 0)[drawn].mean(axis=1)}
    for name in SHAPES:
        values, real = looks[name].to_numpy(np.float64), known[name].dropna().to_numpy(np.float64)
        found[f"ks_{name}"] = np.array([kolmogorov_smirnov(values[rows], real) for rows in drawn])
    return found


def _places(pool: VoxelSet, reference: VoxelSet, drawn: NDArray[np.int64]) -> NDArray[np.float64]:
    """JSD of every draw, `(draws,)`: in blocks of places, so that no set is ever unpacked whole."""
    weights = np.zeros((len(drawn), len(pool)), np.float32)
    np.put_along_axis(weights, drawn, 1, axis=1)
    total, total_reference = weights @ pool.volume, reference.volume.sum()
    found = np.where(total > 0, 0.0, np.nan)
    for i in range(0, pool.packed.shape[1], BYTES):
        p = weights @ np.unpackbits(pool.packed[:, i : i + BYTES], axis=1).astype(np.float32)
        q = np.unpackbits(reference.packed[:, i : i + BYTES], axis=1).sum(axis=0)
        found += jensen_shannon(p / np.maximum(total, 1)[:, None], q / total_reference)
    return found


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
