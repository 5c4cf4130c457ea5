"""Measures of many draws of n shapes from one set, each against the same n references: what `set_metrics` defines, at once.

A draw changes which shapes are there, never how far apart two are. So distances are sorted once for the whole set, and a draw's
nearest neighbour is the first of the sorted ones that was drawn: two steps on average for a draw of half of the set, where the
definition reads a matrix. Results equal `set_metrics` on the matrices of each draw (a test compares).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gan3d_eval.compiled import compiled
from gan3d_eval.feature_metrics import radius
from gan3d_eval.set_metrics import choices

__all__ = ["drawn_mask", "manifolds_of_draws", "neighbours_of_draws"]

Floats = NDArray[np.float64]
Measures = dict[str, Floats]


def drawn_mask(drawn: NDArray[np.int64], size: int) -> NDArray[np.bool_]:
    """Which of the set's `size` shapes stand in each draw: rows `(draws, n)` → `(draws, size) bool`."""
    masks = np.zeros((len(drawn), size), np.bool_)
    np.put_along_axis(masks, drawn, True, axis=1)
    return masks


def neighbours_of_draws(
    within: NDArray[Any], cross: NDArray[Any], reference: NDArray[Any], drawn: NDArray[np.int64]
) -> Measures:
    """COV, MMD and 1-NNA of every draw, `(draws,)` each: `coverage`, `mmd`, `one_nna`, `one_nna_gen`, `one_nna_ref`.

    Parameters
    ----------
    within, cross, reference : (N, N), (N, n), (n, n)
        Distances among the set's N shapes, from them to the n references, among these.
    drawn : (draws, n) int64
        Rows of the set; as many as there are references, because 1-NNA is ½ for equal sizes only.
    """
    if drawn.shape[1] != len(reference) or cross.shape != (len(within), len(reference)):
        raise ValueError(f"draws of {drawn.shape[1]} from {cross.shape}; expected as many as the {len(reference)} references")
    masks = drawn_mask(drawn, len(within))
    to_reference = cross.min(axis=1)
    ties = cross == to_reference[:, None]
    apart = np.array(reference, np.float64)
    np.fill_diagonal(apart, np.inf)
    among = apart.min(axis=1)
    order, order_of_references = np.argsort(within, axis=1), np.argsort(cross.T, axis=1)
    of_set, of_references, mmd = _accuracies(
        masks, order, np.take_along_axis(within, order, 1).astype(np.float64), to_reference.astype(np.float64),
        ties.sum(axis=1), order_of_references, np.take_along_axis(cross.T, order_of_references, 1).astype(np.float64),
        among, (apart == among[:, None]).sum(axis=1),
    )  # fmt: skip
    missed = np.zeros((len(drawn), len(reference)))  # log of the probability that no drawn shape chooses a reference
    chosen = choices(ties)
    for i in range(0, len(drawn), 64):
        weights = masks[i : i + 64].astype(np.float64)
        missed[i : i + 64] = weights @ np.log1p(-np.where(chosen < 1, chosen, 0))
        missed[i : i + 64][weights @ (chosen == 1) > 0] = -np.inf
    found = {"coverage": 1 - np.exp(missed).mean(axis=1), "mmd": mmd, "one_nna": (of_set + of_references) / 2}
    return found | {"one_nna_gen": of_set, "one_nna_ref": of_references}


@compiled()
def _accuracies(
    masks: NDArray[np.bool_], order: NDArray[np.int64], sorted_: Floats, to_reference: Floats, ties: NDArray[np.int64],
    order_of_references: NDArray[np.int64], sorted_of_references: Floats, among: Floats, ties_among: NDArray[np.int64],
) -> tuple[Floats, Floats, Floats]:  # fmt: skip
    """Accuracy on drawn shapes, on references, and MMD of every draw; ties count by the share of the own set."""
    n_draws, n = len(masks), len(among)
    of_set, of_references, mmd = np.zeros(n_draws), np.zeros(n_draws), np.zeros(n_draws)
    for b in range(n_draws):
        mask = masks[b]
        for i in range(len(mask)):
            if mask[i]:
                near, count = _first(order[i], sorted_[i], mask, i)
                if near < to_reference[i]:
                    of_set[b] += 1
                elif near == to_reference[i]:
                    of_set[b] += count / (count + ties[i])
        for j in range(n):
            near, count = _first(order_of_references[j], sorted_of_references[j], mask, -1)
            mmd[b] += near
            if near > among[j]:
                of_references[b] += 1
            elif near == among[j]:
                of_references[b] += ties_among[j] / (count + ties_among[j])
    return of_set / n, of_references / n, mmd / n


@compiled()
def _first(order: NDArray[np.int64], distances: Floats, mask: NDArray[np.bool_], itself: int) -> tuple[float, int]:
    """Distance of the nearest one that is drawn, other than `itself`, and how many are as near."""
    near, count = np.inf, 0
    for place in range(len(order)):
        if count and distances[place] > near:
            break
        if mask[order[place]] and order[place] != itself:
            near = distances[place]
            count += 1
    return near, count


def manifolds_of_draws(
    within: Floats, cross: Floats, reference: Floats, drawn: NDArray[np.int64], k: int = 3, k_density: int = 5
) -> Measures:
    """Precision, recall, density and coverage of every draw, `(draws,)` each (`feature_metrics` defines them).

    Parameters as in `neighbours_of_draws`; k neighbours make the balls of precision and recall, k_density the others.
    """
    masks = drawn_mask(drawn, len(within))
    n = drawn.shape[1]
    ball, wide = (radius(reference, size) for size in (k, k_density))
    inside = (cross <= ball).any(axis=1)
    count = (cross <= wide).sum(axis=1)
    order = np.argsort(within, axis=1)
    recall, coverage = _covered(masks, order, np.take_along_axis(within, order, 1), cross, wide, k)
    weights = masks.astype(np.float64)
    return {
        "precision": weights @ inside / n, "recall": recall, "density": weights @ count / (k_density * n),
        "coverage": coverage,
    }  # fmt: skip


@compiled()
def _covered(
    masks: NDArray[np.bool_], order: NDArray[np.int64], sorted_: Floats, cross: Floats, wide: Floats, k: int
) -> tuple[Floats, Floats]:
    """Recall: references in the ball of a drawn shape. Coverage: references with a drawn shape in their own ball."""
    n_draws, n = len(masks), cross.shape[1]
    recall, coverage = np.zeros(n_draws), np.zeros(n_draws)
    for b in range(n_draws):
        mask = masks[b]
        in_ball, has_one = np.zeros(n, np.bool_), np.zeros(n, np.bool_)
        for i in range(len(mask)):
            if not mask[i]:
                continue
            radius, seen = np.inf, 0
            for place in range(len(order)):
                if mask[order[i, place]] and order[i, place] != i:
                    radius = sorted_[i, place]
                    seen += 1
                    if seen == k:
                        break
            for j in range(n):
                in_ball[j] |= cross[i, j] <= radius
                has_one[j] |= cross[i, j] <= wide[j]
        recall[b], coverage[b] = in_ball.mean(), has_one.mean()
    return recall, coverage
