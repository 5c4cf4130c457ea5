"""A linear support vector machine on any number of features, fast: everything it needs of them is the shapes' inner products.

With more features (7,168) than shapes (3,991) the dual problem is the small one. So inner products are computed once, and every
C, fold and subset of the shapes works on pieces of that one matrix. scikit-learn's SVC (LIBSVM) solves it, one class against
another, with hinge loss.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gan3d_eval.feature_metrics import varies

__all__ = ["CS", "Products", "choose_c", "predict", "products"]

CS = tuple(10.0**k for k in range(-2, 4))
"""Values of C that are tried, from a wide margin to one that separates all it can."""
FOLDS = 5
Products = NDArray[np.float64]


def products(train: NDArray[np.floating], test: NDArray[np.floating]) -> tuple[Products, Products, int]:
    """Inner products of standardised features, `(n, n)` among `train` `(n, f)` and `(m, n)` from `test` `(m, f)` to them.

    Features are standardised by the training shapes' mean and deviation, and divided by √f, so that a shape's product with
    itself is about 1 and one C means the same for any f. Constant ones are left out; the third value counts them. ValueError
    for NaN, infinity, or nothing but constants.
    """
    if not (np.isfinite(train).all() and np.isfinite(test).all()):
        raise ValueError("features hold NaN or infinity")
    mean, scale = train.mean(axis=0, dtype=np.float64), train.std(axis=0, dtype=np.float64)
    alive = varies(train)
    if not alive.any():
        raise ValueError(f"all {train.shape[1]} features are constant on the training shapes")
    mean, scale = mean[alive].astype(np.float32), (scale[alive] * np.sqrt(alive.sum())).astype(np.float32)
    a, b = ((np.asarray(x[:, alive], np.float32) - mean) / scale for x in (train, test))
    return (a @ a.T).astype(np.float64), (b @ a.T).astype(np.float64), int((~alive).sum())


def predict(within: Products, labels: NDArray[Any], across: Products, c: float) -> NDArray[Any]:
    """Fit on shapes with products `within` `(n, n)` and `labels` `(n,)`; return labels of those with products `across`."""
    from sklearn.svm import SVC

    if len(np.unique(labels)) == 1:
        return np.repeat(labels[:1], len(across))
    machine = SVC(C=c, kernel="precomputed", cache_size=500).fit(within, labels)
    predicted: NDArray[Any] = machine.predict(across)
    return predicted


def choose_c(
    within: Products, labels: NDArray[Any], seed: int, groups: NDArray[np.int64] | None = None
) -> tuple[float, dict[float, float]]:
    """C of the highest mean accuracy over five stratified folds of the training shapes, the smaller of two equal ones; and all.

    Shapes of one group `(n,)` (near twins) stay in one fold: apart, one would give the other's answer away, and C would be
    chosen for that. Fewer folds where a class has fewer shapes, or there are fewer groups; with a single one nothing can be
    chosen, and 1 is taken.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    groups = np.arange(len(labels)) if groups is None else groups
    folds = min(FOLDS, int(np.unique(labels, return_counts=True)[1].min()), len(np.unique(groups)))
    if folds < 2:
        return 1.0, {}
    splits = list(StratifiedGroupKFold(folds, shuffle=True, random_state=seed).split(labels, labels, groups))
    scores = {}
    for c in CS:
        right = [
            (predict(within[np.ix_(fit, fit)], labels[fit], within[np.ix_(held, fit)], c) == labels[held]).mean()
            for fit, held in splits
        ]
        scores[c] = float(np.mean(right))
    return max(scores, key=lambda c: (scores[c], -c)), scores
