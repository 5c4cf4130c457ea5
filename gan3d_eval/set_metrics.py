"""Generated set against real set, in pure functions of their distance matrices: coverage, MMD, 1-NNA; and of occupancies: JSD.

Two traps are closed here. Ties (on voxels many distances are equal): where the usual argmin takes whichever shape stands
first, these return the expectation over random choices. And sizes: all but JSD move with the number of shapes alone, so
matrices of unequal sizes are refused where that matters, and a value means something only beside that of real shapes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["choices", "coverage", "jensen_shannon", "kolmogorov_smirnov", "minimum_matching_distance", "one_nn_accuracy"]

Matrix = NDArray[np.floating] | NDArray[np.integer]


def coverage(gen_ref: Matrix) -> float:
    """COV: share of reference shapes that are the nearest one of some generated shape (Achlioptas et al. 2018, sec. 4).

    Higher is better, but a perfect sampler does not reach 1: half of the references are nobody's nearest neighbour.

    Parameters
    ----------
    gen_ref : (m, n)
        Distances from each generated shape to each reference. Of equally near references one is chosen at random, and the
        expectation over these choices is returned.
    """
    nearest = gen_ref == gen_ref.min(axis=1, keepdims=True)
    return float(1 - np.prod(1 - choices(nearest), axis=0).mean())


def choices(nearest: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Probability that each generated shape chooses each reference, from which ones are nearest to it: `(m, n)` both.

    One of equally near references is chosen at random, and none where all are as near.

    An empty shape is as far from every other under Jaccard and Chamfer distances: were it to choose at random, a generator of
    nothing else would cover 63 % of the references.
    """
    ties = nearest.sum(axis=1, keepdims=True)
    return np.where((ties == nearest.shape[1]) & (ties > 1), 0, nearest / ties)


def minimum_matching_distance(gen_ref: Matrix) -> float:
    """MMD: mean over reference shapes of the distance to their nearest generated shape (Achlioptas et al. 2018, sec. 4).

    Lower is better; blind to bad samples, as long as good ones are among them.
    """
    return float(gen_ref.min(axis=0).mean())


def one_nn_accuracy(gen_gen: Matrix, gen_ref: Matrix, ref_ref: Matrix) -> tuple[float, float]:
    """1-NNA: share of shapes whose nearest other shape is of their own set (Lopez-Paz & Oquab 2017; Yang et al. 2019, eq. 9).

    ½ is ideal; 1 means that the sets can be told apart, below ½ that generated shapes repeat references.

    Parameters
    ----------
    gen_gen, gen_ref, ref_ref : (n, n)
        Equal sizes: with others ½ is not what equal distributions have.

    Returns
    -------
    (accuracy on generated, accuracy on reference shapes); 1-NNA is their mean. High on generated and low on references:
    samples crowd together. Ties count by the share of the nearest that is of the own set.
    """
    n = len(gen_ref)
    if gen_gen.shape != (n, n) or gen_ref.shape != (n, n) or ref_ref.shape != (n, n):
        raise ValueError(
            f"matrices of shapes {gen_gen.shape}, {gen_ref.shape}, {ref_ref.shape}; 1-NNA needs sets of equal size"
        )
    return _own_share(gen_gen, gen_ref), _own_share(ref_ref, gen_ref.T)


def _own_share(own: Matrix, other: Matrix) -> float:
    """Mean share of the nearest other shapes that belong to the own set, each shape leaving itself out."""
    apart = np.array(own, dtype=np.float64)
    np.fill_diagonal(apart, np.inf)
    nearest = np.minimum(apart.min(axis=1), other.min(axis=1))[:, None]
    ours, theirs = (apart == nearest).sum(axis=1), (other == nearest).sum(axis=1)
    return float((ours / (ours + theirs)).mean())


def jensen_shannon(p: NDArray[np.floating], q: NDArray[np.floating]) -> NDArray[np.float64]:
    """JSD in [0, 1] (base 2) between where two sets have their voxels (Achlioptas et al. 2018, sec. 4, on voxels).

    Compares mean shapes only: a generator that repeats the mean shape is perfect.

    Parameters
    ----------
    p : (…, v)
        Share of a set's occupied voxels that lie in each place; sums to 1.
    q : (v,)
        The same of the other set. As the divergence is a sum over places, parts of p and q give a part of it.
    """
    mean = (p + q) / 2

    def divergence(a: NDArray[np.floating]) -> NDArray[np.float64]:
        log = np.log2(np.divide(a, mean, out=np.ones(mean.shape), where=a > 0))
        return np.asarray((a * log).sum(axis=-1))

    return (divergence(p) + divergence(np.broadcast_to(q, mean.shape))) / 2


def kolmogorov_smirnov(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Largest difference between the two distribution functions, in [0, 1]; NaNs of `a` are left out, NaN if none is left."""
    a = np.sort(a[~np.isnan(a)])
    if not len(a):
        return float("nan")
    both, b = np.concatenate([a, b]), np.sort(b)
    below = np.searchsorted(a, both, "right") / len(a) - np.searchsorted(b, both, "right") / len(b)
    return float(np.abs(below).max())
