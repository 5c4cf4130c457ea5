"""One style for every figure: colours that mean the same as in the renderings, and atomic PNGs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gan3d_eval.files import atomic_file
from gan3d_eval.render import GENERATED, REAL

__all__ = ["GENERATED", "NEUTRAL", "REAL", "figure"]

NEUTRAL = (0.35, 0.37, 0.40)


@contextlib.contextmanager
def figure(path: Path, rows: int = 1, columns: int = 1, width: float = 9.0, height: float = 3.6) -> Iterator[Any]:
    """Yield axes (one, or an array of rows × columns) to draw on; the figure is written to `path` at the end."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    import seaborn as sns

    with sns.axes_style("whitegrid", {"grid.color": ".92", "axes.edgecolor": ".7"}), sns.plotting_context("notebook", 0.85):
        page, axes = plt.subplots(rows, columns, figsize=(width, height), layout="constrained")
        try:
            yield axes
            sns.despine(page)
            with atomic_file(path) as temporary:
                page.savefig(temporary, dpi=150, format="png")
        finally:
            plt.close(page)
