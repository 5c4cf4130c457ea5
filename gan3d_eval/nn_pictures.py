"""What `nn-check` shows: distances of samples, held-out shapes and canaries; samples beside their nearest training shapes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from gan3d_eval.canaries import CANARIES
from gan3d_eval.plotting import GENERATED, NEUTRAL, REAL, figure
from gan3d_eval.run_dir import RunDir
from gan3d_eval.sheets import pair_sheet
from gan3d_eval.voxels import VoxelSet

__all__ = ["draw"]

ALIGNED = (
    "Nearest under L1 over every shift, turn and mirror image that was searched (aligned_l1); both are drawn as they stand."
)


def draw(run: RunDir, train: VoxelSet, gen: VoxelSet, rows: pd.DataFrame, name: str = "nn-check", n: int = 9) -> None:
    """Draw `figures/<name>-distances.png`, and samples beside their neighbours: the n most train-like, and n median ones.

    Train-like under L1 over every movement, where that was searched. `name` is that of the result; its older pictures are
    removed first, for they show other numbers.

    Raises
    ------
    RenderError
        No off-screen rendering here; the distances are drawn first all the same.
    """
    paths = [run.picture_path("figures", f"{name}-{what}") for what in ("distances", "most-train-like", "median")]
    for path in paths:
        path.unlink(missing_ok=True)
    ok, moved = rows[rows["status"] == "ok"], "aligned_l1" in rows
    if len(ok):
        _draw_distances(paths[0], ok, moved)
    by, neighbour = ("aligned_l1", "aligned_neighbour_row") if moved else ("l1", "neighbour1_row")
    p = f"p_{by}" if moved and f"p_{by}" in rows else "p"
    what, note = ("aligned L1", ALIGNED) if moved else ("L1", "")
    generated = ok[ok["set"] == "generated"].sort_values(by, kind="stable")
    middle = max(0, (len(generated) - n) // 2)
    for path, part, title in (
        (paths[1], generated.head(n), "The most train-like samples, each beside its nearest training shape"),
        (paths[2], generated.iloc[middle : middle + n], "Samples of median distance, each beside its nearest training shape"),
    ):
        pairs = [
            (row, near, f"{what} {l1:.0f} = {l1 / volume:.0%} of volume" + ("" if np.isnan(chance) else f"\np = {chance:.3f}"))
            for row, near, l1, volume, chance in part[[neighbour, by, "volume", p]].itertuples()
        ]
        if pairs:
            pair_sheet(path, gen, train, pairs, title, note=note)


def _draw_distances(path: Path, rows: pd.DataFrame, moved: bool) -> None:
    """Histograms of both sets' distances to the nearest training shape, and beside them those of the canaries."""
    import seaborn as sns

    null_kind = "held-out" if "held-out" in set(rows["set"]) else "left-out"
    colors = {null_kind: REAL, "generated": GENERATED}
    with figure(path, 1, 1 + 2 * moved, 15 if moved else 9) as axes:
        left = axes[0] if moved else axes
        both = rows[rows["set"].isin(list(colors))]
        sns.histplot(both, x="l1_share", hue="set", hue_order=list(colors), palette=list(colors.values()), ax=left,
                     stat="density", common_norm=False, element="step", bins=40)  # fmt: skip
        left.set(xlabel="L1 to the nearest training shape, as share of the shape's own volume")
        left.get_legend().set(title=None, frame_on=False)
        if not moved:
            return
        order = [name for name in ("generated", null_kind, *CANARIES) if name in set(rows["set"])]
        kinds = {name: colors.get(name, NEUTRAL) for name in order}
        for axis, name, how in ((axes[1], "aligned_jaccard", "over every movement"), (axes[2], "peeled_jaccard", "peeled")):
            sns.boxplot(rows, x=name, y="set", hue="set", order=order, hue_order=order, palette=kinds, ax=axis,
                        fliersize=1.5, linewidth=0.8, width=0.65, legend=False)  # fmt: skip
            axis.set(xlabel=f"Jaccard distance to the nearest, {how}", ylabel="")
