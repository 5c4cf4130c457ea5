"""Generated set against real set in a network's features: FD, KID, precision, recall, density, coverage, FLD, Vendi score.

Pure functions of features `(n, d)`, or of matrices of distances or kernels where a measure needs no more: then a subset of a
set costs an indexing. Generated shapes come first, except where all three sets are taken. All but KID move with the number
of shapes, and all but the gap of `fld` are blind to copying: who hands out the training set is as good as who samples the
true distribution. A value means something only beside that of real shapes, of as many, in the same features.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.spatial.distance import cdist

__all__ = [
    *("Projection", "density_coverage", "expected_coverage", "fld", "frechet", "frechet_infinity", "kernel", "kid", "kid_p"),
    *("precision_recall", "radius", "varies", "vendi"),
]

Features = NDArray[np.floating]
Floats = NDArray[np.float64]
Matrix = NDArray[np.floating] | NDArray[np.integer]
CONSTANT = 1e-6
"""A column whose range is this small a part of its largest value is constant: float32 cannot tell."""
COMPONENTS = 64
"""Principal components of the training shapes' features on which others are compared, where there are so many."""
FLOOR = 1e-6
"""Least σ² in `fld`, in parts of the training features' mean variance per column; that of an exact copy."""


def varies(x: Features) -> NDArray[np.bool_]:
    """Which columns of `(n, f)` are not constant: `(f,)`. A dead unit's is, up to rounding."""
    kept: NDArray[np.bool_] = np.ptp(x, axis=0) > CONSTANT * np.abs(x).max(axis=0)
    return kept


@dataclasses.dataclass(frozen=True)
class Projection:
    """Standardises columns, then projects on the principal components of the training set; does not whiten."""

    kept: NDArray[np.bool_]
    """(f,) columns that are not constant on the training set."""
    mean: Floats
    scale: Floats
    axes: Floats
    """(components, columns kept)"""

    @classmethod
    def fit(cls, train: Features, components: int = COMPONENTS) -> Projection:
        """Learn it from the training features `(n, f)`.

        Constant columns (dead units) are left out: divided by their deviation they would be NaN. So are components beyond
        n − 1, and those along which the training set has no spread: where these point is up to rounding.
        """
        from sklearn.decomposition import PCA

        (x,) = _features(2, train=train)
        kept = varies(x)
        if components < 1 or not kept.any():
            raise ValueError(f"nothing to project on: {components} components, {kept.sum()} columns that are not constant")
        x = x[:, kept]
        mean, scale = x.mean(axis=0), x.std(axis=0)
        # the full solver draws no random numbers, and scikit-learn fixes the signs
        pca = PCA(min(components, len(x) - 1, x.shape[1]), svd_solver="full").fit((x - mean) / scale)
        spread = pca.explained_variance_ > 1e-12 * pca.explained_variance_[0]
        return cls(kept, mean, scale, pca.components_[spread])

    def of(self, features: Features) -> Floats:
        """Project features `(n, f)`: `(n, ≤ components)`. The training set's mean is 0."""
        (x,) = _features(1, features=features)
        if x.shape[1] != len(self.kept):
            raise ValueError(f"features of {x.shape[1]} columns; the projection was learned from {len(self.kept)}")
        projected: Floats = ((x[:, self.kept] - self.mean) / self.scale) @ self.axes.T
        return projected


def frechet(x: Features, y: Features) -> float:
    """FD of `x` `(n, d)` and `y` `(m, d)`, n, m > d: |Δμ|² + Tr(Σ₁ + Σ₂ − 2(Σ₁Σ₂)^½), at least 0 (Heusel et al. 2017, eq. 6).

    Lower is better, but two sets of one distribution are not 0 apart: the fewer shapes and the more columns, the farther.
    Compare values of equal n and d only, or take `frechet_infinity`.
    """
    x, y = _features(2, x=x, y=y)
    if min(len(x), len(y)) <= x.shape[1]:
        raise ValueError(f"{len(x)} and {len(y)} shapes in {x.shape[1]} dimensions; a covariance needs more shapes than that")
    # With Σ = RᵀR the eigenvalues of Σ₁Σ₂ are the squared singular values of R₁R₂ᵀ. Roots of the eigenvalues themselves
    # would turn each 0 into some 1e-8, and the covariance of a collapsed set has many.
    a, b = (np.linalg.qr(of - of.mean(axis=0), mode="r") / np.sqrt(len(of) - 1) for of in (x, y))
    common = np.linalg.svd(a @ b.T, compute_uv=False).sum()
    apart = ((x.mean(axis=0) - y.mean(axis=0)) ** 2).sum()
    return max(0.0, float(apart + (a**2).sum() + (b**2).sum() - 2 * common))


def frechet_infinity(
    x: Features, y: Features, random: np.random.Generator, sizes: int = 10, repeats: int = 5
) -> tuple[float, float, float]:
    """FD∞: FD at infinitely many shapes, by the line FD_N = a + b/N (Chong & Forsyth 2020); may be negative.

    They subsample the generated set against a fixed, large real one. Here both sets are subsampled to N, without
    replacement, so that the bias of both goes: `sizes` N's from max(d + 1, n/3) to the size n of the smaller set, and at each
    the mean of `repeats` subsamples. Returned are a, and low and high of the 95 % interval of the least-squares fit. That
    says how well a line fits these two sets; others of the same distributions vary more (simulated, it held the truth in 4 to
    8 of 10 cases).
    """
    x, y = _features(2, x=x, y=y)
    most, least = min(len(x), len(y)), x.shape[1] + 1
    steps = np.unique(np.linspace(max(least, most // 3), most, sizes).round().astype(int)) if least < most else np.zeros(0)
    if len(steps) < 3 or repeats < 1:
        raise ValueError(f"{most} shapes in {least - 1} dimensions, {sizes} sizes, {repeats} repeats: too few to fit a line")
    found = [frechet(*(of[random.permutation(len(of))[:n]] for of in (x, y))) for n in steps for _ in range(repeats)]
    line = stats.linregress(1 / steps, np.mean(np.reshape(found, (-1, repeats)), axis=1))
    half = stats.t.ppf(0.975, len(steps) - 2) * line.intercept_stderr
    return float(line.intercept), float(line.intercept - half), float(line.intercept + half)


def kernel(x: Features, y: Features) -> Floats:
    """KID's kernel between each row of `x` `(n, d)` and each of `y` `(m, d)`: (x·y/d + 1)³, `(n, m)`."""
    x, y = _features(1, x=x, y=y)
    base: Floats = x @ y.T / x.shape[1] + 1
    return base * base * base  # ** 3 is slower by far


def kid(k_ss: Matrix, k_sr: Matrix, k_rr: Matrix) -> float:
    """KID: squared maximum mean discrepancy, unbiased for any number of shapes; lower is better, by chance below 0.

    Bińkowski et al. 2018, sec. 4; the U-statistic of all pairs, where they average random subsets. `kernel` among generated
    shapes `(m, m)`, from them to references `(m, n)`, and among these `(n, n)`.
    """
    m, n = _agree(k_ss, k_sr, k_rr, 1)
    among = (k_ss.sum() - np.trace(k_ss)) / (m * (m - 1)) + (k_rr.sum() - np.trace(k_rr)) / (n * (n - 1))
    return float(among - 2 * k_sr.mean())


def kid_p(k_all: Matrix, n: int, permutations: int, random: np.random.Generator) -> float:
    """How likely one distribution gives so large a KID: (1 + #{KID of permuted labels ≥ KID}) / (1 + permutations).

    `k_all` `(N, N)` is the `kernel` among all shapes; the first n are one set, the rest the other.
    """
    total = len(k_all)
    if k_all.shape != (total, total) or not 2 <= n <= total - 2 or permutations < 1 or not np.isfinite(k_all).all():
        raise ValueError(f"kernel of shape {k_all.shape}, first set of {n}, {permutations} permutations; or values not finite")
    k = np.array(k_all, np.float64)
    np.fill_diagonal(k, 0)
    labels = np.zeros((1 + permutations, total))
    labels[:, :n] = 1
    labels[1:] = random.permuted(labels[1:], axis=1)  # the first row is what is tested
    sums = labels @ k
    rows, first = sums.sum(axis=1), np.einsum("pi,pi->p", sums, labels)
    second, m = k.sum() - 2 * rows + first, total - n
    found = first / (n * (n - 1)) + second / (m * (m - 1)) - 2 * (rows - first) / (n * m)
    return float((found >= found[0] - 1e-10 * np.abs(k).mean()).mean())  # equal ones differ by rounding


def precision_recall(within_s: Matrix, cross: Matrix, within_r: Matrix, k: int = 3) -> tuple[float, float]:
    """Precision: share of generated shapes in the ball of some reference; recall: of references in that of a generated one.

    Kynkäänniemi et al. 2019, sec. 3: a shape's ball reaches to its k-th nearest other shape of its own set, border included.
    Higher is better, but equal distributions do not reach 1, and one outlier's ball can hold many shapes.

    `within_s` `(m, m)`, `cross` `(m, n)` and `within_r` `(n, n)` are distances among generated shapes, from them to
    references, and among these; taken from differences, as scipy's `cdist` does. From dot products, equal shapes are about
    1e-8 apart.
    """
    _agree(within_s, cross, within_r, k)
    precision = (cross <= radius(within_r, k)).any(axis=1).mean()
    return float(precision), float((cross <= radius(within_s, k)[:, None]).any(axis=0).mean())


def density_coverage(cross: Matrix, within_r: Matrix, k: int = 5) -> tuple[float, float]:
    """Density: how many references' balls a generated shape is in on average, over k; coverage: share of balls with one in.

    Naeem et al. 2020, sec. 3. Of equal distributions the density is 1 on average (and has no upper limit), the coverage
    `expected_coverage`. They ask for a distance below the radius; here an equal one counts. Without ties that is the same,
    but k twins of a reference make its radius 0, and nothing is below that. Parameters as in `precision_recall`.
    """
    _agree(None, cross, within_r, k)
    inside = cross <= radius(within_r, k)
    return float(inside.sum() / (k * len(cross))), float(inside.any(axis=0).mean())


def expected_coverage(n: int, m: int, k: int = 5) -> float:
    """Coverage of n references by m shapes of their distribution: 1 − Π_{i=1..k} (n − i)/(n + m − i) (Naeem et al. 2020)."""
    if not 1 <= k < n or m < 0:
        raise ValueError(f"{k} neighbours among {n} references, {m} shapes")
    i = np.arange(1, k + 1)
    return float(1 - np.prod((n - i) / (n + m - i)))  # the k nearest of the n − 1 + m others are all references


def fld(train: Features, test: Features, gen: Features, random: np.random.Generator) -> tuple[float, float]:
    """FLD and its gap, in hundredths of a nat per dimension, from mixtures of Gaussians (Jiralerspong et al. 2023, sec. 3).

    NLL_gen is of the equal mixture of isotropic Gaussians centred on generated features, each σ fitted to the likelihood of
    `train`; NLL_base of that centred on half of `train`, fitted on the other half.

    - FLD = 100 (NLL_gen(test) − NLL_base(test))/d: low is good, 0 is what training shapes reach. Shapes drawn in towards the
      mean predict others well, so below 0 is not better than real: look at recall and `vendi`.
    - gap = 100 (NLL_gen(train) − NLL_gen(test))/d: far below 0, training shapes are memorised. How far is up to `FLOOR`.

    Their σ come from stochastic gradients, these from EM; theirs are standardised by the test set, these taken as they are
    (see `Projection`). More centres make a better likelihood, so both mixtures have min(len(gen), len(train)/2) of them,
    chosen at random; values of unequal sizes do not compare.
    """
    train, test, gen = _features(1, train=train, test=test, gen=gen)
    floor, d = FLOOR * float(train.var(axis=0).mean()), train.shape[1]
    if len(train) < 4 or not np.ptp(train, axis=0).any():
        raise ValueError(f"{len(train)} training shapes, or all of them are equal; 4 different ones are needed")
    order, half = random.permutation(len(train)), len(train) // 2
    count = min(half, len(gen))
    own, made = train[order[:count]], gen[random.permutation(len(gen))[:count]]
    fitted = cdist(train, made, "sqeuclidean")
    base = _fit(cdist(train[order[half:]], own, "sqeuclidean"), d, floor)
    variance = _fit(fitted, d, floor)
    on_train, on_test = (-_expect(of, variance, d)[0] / d for of in (fitted, cdist(test, made, "sqeuclidean")))
    on_base = -_expect(cdist(test, own, "sqeuclidean"), base, d)[0] / d
    return 100 * (on_test - on_base), 100 * (on_train - on_test)


def _expect(squared: Floats, variance: Floats, d: int) -> tuple[float, Floats]:
    """Mean log likelihood of shapes at these squared distances `(n, m)` from the centres, and whose they are, `(n, m)`."""
    share: Floats = squared * (-0.5 / variance)
    share -= d / 2 * np.log(2 * np.pi * variance)
    most = share.max(axis=1, keepdims=True)
    np.exp(np.subtract(share, most, out=share), out=share)
    total = share.sum(axis=1, keepdims=True)
    share /= total
    return float((most + np.log(total / squared.shape[1])).mean()), share


def _fit(squared: Floats, d: int, floor: float, iterations: int = 200, tolerance: float = 1e-6) -> Floats:
    """σ² of each centre by EM, `(m,)`, from where its nearest shape alone puts it until a step gains < `tolerance` nat/d."""
    variance: Floats = np.maximum(squared.min(axis=0) / d, floor)
    before = -np.inf
    for _ in range(iterations):
        now, share = _expect(squared, variance, d)
        if now - before < tolerance * d:
            break
        before, weight = now, share.sum(axis=0)
        used = weight > 1e-12  # a centre that answers for no shape stays as it is
        moved = np.einsum("ij,ij->j", share, squared) / (d * np.where(used, weight, 1))
        variance = np.where(used, np.maximum(moved, floor), variance)
    return variance


def vendi(x: Features) -> float:
    """VS: effective number of different shapes, exp of the entropy of the eigenvalues of K/n with the cosine kernel K.

    Friedman & Dieng 2023, sec. 3. From 1 (all alike) to min(n, d + 1); noise raises it, so real shapes must say what is right.
    `x` `(n, d)` is centred on the mean of the *training* set, as `Projection` leaves it: around their own mean the shapes of
    a collapsed generator point everywhere. Rows of 0 point nowhere: they are like each other (1), and like no others (0).
    """
    (x,) = _features(1, x=x)
    length = np.linalg.norm(x, axis=1, keepdims=True)
    x = np.concatenate([x / np.where(length > 0, length, 1), length == 0], axis=1)
    # the smaller of the two products: both have the same non-zero eigenvalues
    values = np.linalg.eigvalsh((x @ x.T if len(x) < x.shape[1] else x.T @ x) / len(x))
    values = values[values > 0]
    return float(np.clip(np.exp(-(values * np.log(values)).sum()), 1, len(x)))


def radius(within: Matrix, k: int) -> Floats:
    """Distance to the k-th nearest other shape of the set, `(n,)`; itself is left out by its place, so that twins count."""
    apart = np.array(within, np.float64)
    np.fill_diagonal(apart, np.inf)
    found: Floats = np.partition(apart, k - 1, axis=1)[:, k - 1]
    return found


def _agree(gen: Matrix | None, cross: Matrix, ref: Matrix, k: int) -> tuple[int, int]:
    """Numbers of generated shapes and references; ValueError unless the matrices belong together and allow k neighbours."""
    m, n = cross.shape if cross.ndim == 2 else (0, 0)
    every = [x for x in (gen, cross, ref) if x is not None]
    if not m or ref.shape != (n, n) or (gen is not None and gen.shape != (m, m)):
        raise ValueError(f"matrices of shapes {', '.join(str(x.shape) for x in every)} do not belong to the same two sets")
    if not 1 <= k < min(n, n if gen is None else m):
        raise ValueError(f"{k} neighbours, {m} generated shapes, {n} references; more shapes than neighbours are needed")
    if not all(np.isfinite(x).all() for x in every):
        raise ValueError("matrices hold values that are not finite")
    return m, n


def _features(least: int, **sets: Features) -> list[Floats]:
    """The sets in float64; ValueError unless all are finite, `(n, d)` with n ≥ least, and of the same d."""
    every = {name: np.asarray(x, np.float64) for name, x in sets.items()}
    shapes = [x.shape for x in every.values()]
    if len({shape[1:] for shape in shapes}) > 1 or len(shapes[0]) != 2 or min(shapes)[0] < least or not shapes[0][1]:
        raise ValueError(f"{', '.join(every)} of shapes {shapes}; expected (n, d) with n ≥ {least}, and the same d")
    if bad := [name for name, x in every.items() if not np.isfinite(x).all()]:
        raise ValueError(f"features of {', '.join(bad)} hold values that are not finite")
    return list(every.values())
