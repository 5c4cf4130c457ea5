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
    import seaborn as sns
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with sns.axes_style("whitegrid", {"grid.color": ".92", "axes.edgecolor": ".7"}), sns.plotting_context("notebook", 0.85):
        page = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(page)  # not pyplot, whose figures and backend are the notebook's that called us
        yield page.subplots(rows, columns)
        sns.despine(page)
        with atomic_file(path) as temporary:
            page.savefig(temporary, dpi=150, format="png")
