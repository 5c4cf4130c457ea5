"""A map of shapes: training, held-out and generated ones, near each other where their features are alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gan3d_eval.cells import pooled
from gan3d_eval.embedding import Embedding
from gan3d_eval.feature_metrics import Projection
from gan3d_eval.files import Gan3dError
from gan3d_eval.plotting import GENERATED, NEUTRAL, REAL, figure
from gan3d_eval.render import render
from gan3d_eval.voxels import VoxelSet

__all__ = ["MOST", "draw", "feature_map"]

MOST = 400
"""Shapes of each set on the map."""
COLORS = {"train": REAL, "test": NEUTRAL, "generated": GENERATED}
THUMBNAILS, PIXELS = 24, 72
UMAP_COMPONENTS = 50  # what UMAP is given: the first principal components, which carry nearly all and no noise of thousands


def feature_map(
    sets: dict[str, VoxelSet], embed: Embedding | None, seed: int = 0, umap: bool = False
) -> tuple[pd.DataFrame, dict[str, VoxelSet], str]:
    """Place at most 400 shapes of each set in the plane.

    The axes are the first two principal components of the training shapes' features, standardised; generated shapes are laid
    on them and have no part in them. With `umap` they are UMAP's (McInnes et al. 2018), of all shapes together: its
    neighbourhoods mean something, its distances and sizes do not.

    Parameters
    ----------
    sets : dict
        `train`, and `test` and `generated` where there are any.
    embed : Embedding, optional
        Without one the features are shares of occupied voxels in 8³ blocks.

    Returns
    -------
    rows : DataFrame
        set, name, x, y.
    shown : dict of VoxelSet
        The shapes of the rows, by set.
    label : str
        What the axes are.
    """
    random = np.random.default_rng(seed)
    shown = {name: shapes.take(np.sort(random.permutation(len(shapes))[:MOST])) for name, shapes in sets.items()}
    features = {name: embed(shapes) if embed else pooled(shapes) for name, shapes in shown.items()}
    source = embed.name if embed else "voxels pooled to 8³"
    fit = embed.project if embed else Projection.fit
    projection = fit(features["train"], UMAP_COMPONENTS if umap else 2)
    places = np.concatenate([projection.of(features[name]) for name in shown])
    if umap:
        places = _umap(places, seed)
    rows = pd.DataFrame(
        {
            "set": np.repeat(list(shown), [len(shapes) for shapes in shown.values()]),
            "name": [name for shapes in shown.values() for name in shapes.names],
            "x": places[:, 0], "y": places[:, 1] if places.shape[1] > 1 else 0.0,
        }
    )  # fmt: skip
    return rows, shown, f"{'UMAP' if umap else 'principal components'} of {source}"


def _umap(features: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    try:
        from umap import UMAP
    except ImportError:
        raise Gan3dError("--umap needs the package umap-learn; install it with: pip install 'gan3d[umap]'") from None
    found: NDArray[np.float64] = UMAP(random_state=seed, n_jobs=1).fit_transform(features)
    return found


def draw(path: Path, rows: pd.DataFrame, shown: dict[str, VoxelSet], label: str) -> Path:
    """Draw and return `path`: a point for each shape, and some shapes where they lie, spread over the map."""
    from matplotlib.offsetbox import AnnotationBbox, OffsetImage

    chosen = _spread(rows[["x", "y"]].to_numpy(np.float64))
    shape_of = [(name, row) for name, shapes in shown.items() for row in range(len(shapes))]
    grids = [shown[name].grids([row])[0] for name, row in (shape_of[i] for i in chosen)]
    images = render(grids, [COLORS[shape_of[i][0]] for i in chosen], 2 * PIXELS, transparent=True)
    with figure(path, 1, 1, 10, 7.5) as axis:
        for name in shown:
            part = rows[rows["set"] == name]
            axis.scatter(part["x"], part["y"], s=12, alpha=0.55, color=COLORS[name], label=name, linewidths=0)
        for row, image in zip(chosen, images, strict=True):
            picture = OffsetImage(image, zoom=0.5)
            axis.add_artist(AnnotationBbox(picture, tuple(rows.loc[row, ["x", "y"]]), frameon=False, pad=0))
        axis.set(xlabel=label, xticks=[], yticks=[])
        axis.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=len(shown), markerscale=2)  # above the map
    return path


def _spread(places: NDArray[Any]) -> list[int]:
    """Rows of points far from one another: each next one is farthest from those before (Gonzalez 1985)."""
    scaled = (places - places.mean(axis=0)) / np.maximum(places.std(axis=0), 1e-12)
    rows = [int(np.argmin((scaled**2).sum(axis=1)))]
    nearest = np.full(len(scaled), np.inf)
    while len(rows) < min(THUMBNAILS, len(scaled)):
        nearest = np.minimum(nearest, ((scaled - scaled[rows[-1]]) ** 2).sum(axis=1))
        rows.append(int(nearest.argmax()))
    return rows
