"""All measures of one set of shapes against the same n references, over many draws of n from the set.

`set_metrics` and `feature_metrics` define the measures; here they are taken of every draw at once where that can be.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from gan3d_eval.chamfer import chamfer
from gan3d_eval.distances import jaccard_from_l1, matrix
from gan3d_eval.draws import drawn_mask, manifolds_of_draws, neighbours_of_draws
from gan3d_eval.feature_metrics import fld, frechet, frechet_infinity, kernel, kid_p, vendi
from gan3d_eval.set_metrics import jensen_shannon, kolmogorov_smirnov
from gan3d_eval.statistics import statistics
from gan3d_eval.voxels import VoxelSet

__all__ = [
    "FEATURE_MEASURES",
    "FITTED_MEASURES",
    "MAIN",
    "MAIN_FEATURES",
    "MEASURES",
    "TOLD",
    "Reference",
    "measure",
    "told_apart",
]

Floats = NDArray[np.float64]
DISTANCES = ("l1", "jaccard", "chamfer")
LOOKS = tuple("volume components largest_share euler extent_x extent_y extent_z symmetry_x interior".split())
"""Columns of `statistics` whose distributions are compared."""
MEASURES = (  # what each of them means stands in the report
    "valid",
    "empty",
    *(f"{name}_{d}" for d in DISTANCES for name in ("coverage", "one_nna", "one_nna_gen", "one_nna_ref")),
    *(f"mmd_{d}" for d in DISTANCES),
    "jsd",
    *(f"ks_{name}" for name in LOOKS),
)
FEATURE_MEASURES = (
    *("fd", "fd_infinity", "kid", "kid_p", "precision", "recall", "density", "coverage_knn"),
    *("one_nna_feature", "one_nna_gen_feature", "one_nna_ref_feature", "fld", "fld_gap", "vendi"),
)
MAIN = ("valid", "coverage_l1", "one_nna_gen_l1", "one_nna_ref_l1", "mmd_jaccard", "jsd")
"""What is shown where there is no room for all."""
MAIN_FEATURES = ("fd_infinity", "kid", "precision", "recall", "vendi")
TOLD = ("one_nna_gen_l1", "one_nna_ref_l1")
"""Both halves of 1-NNA, by which runs are put in order."""
FITTED_MEASURES = ("fd_infinity",)
"""Measures that come as value, low, high rather than as one value a draw."""
INSIDE = (0.01, 0.99)
BLOCK, BYTES = 64, 256  # shapes, and bytes of each shape, that are unpacked at a time
SLOW = {"fd": 200, "fld": 20}  # draws of what must be computed for each draw anew
PERMUTATIONS = 1000


@dataclasses.dataclass(frozen=True)
class Reference:
    """What every set is measured against: n held-out shapes, and what training shapes say is usual."""

    shapes: VoxelSet
    inside: tuple[float, float]
    """Volumes between which 98 % of the training shapes lie."""
    looks: pd.DataFrame
    within: dict[str, NDArray[Any]]
    features: Floats | None = None
    """`(n, d)`, projected."""
    train_features: Floats | None = None

    @classmethod
    def of(
        cls, shapes: VoxelSet, train: VoxelSet, features: Floats | None = None, train_features: Floats | None = None
    ) -> Reference:
        """Measure the references themselves."""
        within = _distances(shapes, shapes)[0]
        low, high = np.quantile(train.volume, INSIDE)
        return cls(shapes, (low, high), statistics(shapes), within, features, train_features)


def measure(
    pool: VoxelSet, reference: Reference, drawn: NDArray[np.int64], features: Floats | None, random: np.random.Generator
) -> dict[str, Floats]:
    """Every measure of every draw (of fewer draws where it is slow), `(draws,)` each.

    Parameters
    ----------
    pool : VoxelSet
        The set, N shapes.
    reference : Reference
    drawn : (draws, n) int64
        Rows of the pool.
    features : (N, d) float64, optional
        Of the pool, projected as the reference's are; without them the measures of features are left out.
    """
    within, cross = _distances(pool, reference.shapes)
    found = _looks(pool, reference, drawn) | {"jsd": _places(pool, reference.shapes, drawn)}
    for name in DISTANCES:
        of = neighbours_of_draws(within[name], cross[name], reference.within[name], drawn)
        found |= {f"{key}_{name}": values for key, values in of.items()}
    return found if features is None else found | _of_features(features, reference, drawn, random)


def _distances(a: VoxelSet, b: VoxelSet) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]]:
    """Distances within `a` and from `a` to `b`."""
    found = []
    for other, points in zip((a, b), chamfer(a, b), strict=True):
        l1 = matrix(a.packed, other.packed)
        found.append({"l1": l1, "jaccard": jaccard_from_l1(l1, a.volume[:, None], other.volume), "chamfer": points})
    return found[0], found[1]


def _looks(pool: VoxelSet, reference: Reference, drawn: NDArray[np.int64]) -> dict[str, Floats]:
    """Validity of every draw, and how far its shapes' statistics are from those of the reference."""
    looks = statistics(pool)
    volume = looks["volume"].to_numpy()
    valid = (volume >= reference.inside[0]) & (volume <= reference.inside[1])
    found = {"valid": valid[drawn].mean(axis=1), "empty": (volume == 0)[drawn].mean(axis=1)}
    for name in LOOKS:
        values, real = looks[name].to_numpy(np.float64), reference.looks[name].dropna().to_numpy(np.float64)
        found[f"ks_{name}"] = np.array([kolmogorov_smirnov(values[rows], real) for rows in drawn])
    return found


def _places(pool: VoxelSet, reference: VoxelSet, drawn: NDArray[np.int64]) -> Floats:
    """JSD of every draw: in blocks of places, so that no set is ever unpacked whole."""
    weights = drawn_mask(drawn, len(pool)).astype(np.float32)
    total, total_reference = weights @ pool.volume, reference.volume.sum()
    found = np.where(total > 0, 0.0, np.nan)
    for i in range(0, pool.packed.shape[1], BYTES):
        p = weights @ np.unpackbits(pool.packed[:, i : i + BYTES], axis=1).astype(np.float32)
        q = np.unpackbits(reference.packed[:, i : i + BYTES], axis=1).sum(axis=0)
        found += jensen_shannon(p / np.maximum(total, 1)[:, None], q / total_reference)
    return found


def _of_features(
    features: Floats, reference: Reference, drawn: NDArray[np.int64], random: np.random.Generator
) -> dict[str, Floats]:
    """The measures of features of every draw."""
    real, train = reference.features, reference.train_features
    if real is None or train is None:
        raise ValueError("features of a set, but none of the references")
    distances = cdist(features, features), cdist(features, real), cdist(real, real)  # equal rows are exactly 0 apart
    found = manifolds_of_draws(*distances, drawn)
    found["coverage_knn"] = found.pop("coverage")
    near = neighbours_of_draws(*distances, drawn)
    found |= {f"{key}_feature": near[key] for key in ("one_nna", "one_nna_gen", "one_nna_ref")}
    found["kid"] = _kid(features, real, drawn)
    first = features[drawn[0]]
    both = np.concatenate([first, real])
    found["kid_p"] = np.array([kid_p(kernel(both, both), len(first), PERMUTATIONS, random)])
    found["fd"] = np.array([frechet(features[rows], real) for rows in drawn[: SLOW["fd"]]])
    found["fd_infinity"] = np.array(frechet_infinity(first, real, random))
    found["vendi"] = np.array([vendi(features[rows]) for rows in drawn[: SLOW["fd"]]])
    likelihoods = np.array([fld(train, real, features[rows], random) for rows in drawn[: SLOW["fld"]]])
    return found | {"fld": likelihoods[:, 0], "fld_gap": likelihoods[:, 1]}


def _kid(features: Floats, real: Floats, drawn: NDArray[np.int64]) -> Floats:
    """KID of every draw: sums over its rows of one kernel matrix."""
    weights = drawn_mask(drawn, len(features)).astype(np.float64)
    own, among, n = kernel(features, features), kernel(real, real), len(real)
    within = np.einsum("bi,bi->b", weights @ own, weights) - weights @ own.diagonal()
    constant = (among.sum() - among.trace()) / (n * (n - 1))
    found: Floats = within / (n * (n - 1)) + constant - 2 * (weights @ kernel(features, real).mean(axis=1)) / n
    return found


def told_apart(rows: pd.DataFrame) -> pd.Series[float]:
    """How far 1-NN under L1 tells generated from real shapes, in [0, ½]: the larger |accuracy − ½| of the two.

    Their mean will not do: noise has 0 on its own shapes and 1 on real ones.
    """
    return rows[list(TOLD)].sub(0.5).abs().max(axis=1, skipna=False)
