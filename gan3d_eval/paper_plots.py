"""Our results beside the paper's and others': one table, one figure of bars, shapes above shapes. Protocols that differ are
drawn differently, and what nobody checked against the publication says so.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gan3d_eval.distances import nearest
from gan3d_eval.modelnet import modelnet10, modelnet40
from gan3d_eval.plotting import GENERATED, NEUTRAL, REAL, figure
from gan3d_eval.run_dir import RunDirError
from gan3d_eval.sheets import Tile, sheet
from gan3d_eval.voxels import VoxelSet

__all__ = ["comparison", "draw", "panel", "published"]

CONTROLS = ("untrained", "voxels")


def published(classes: int) -> pd.DataFrame:
    """Accuracies on ModelNet10 or ModelNet40 (per cent) as published: a row each, with supervision, averaging, source, note.

    `verified` says whether somebody read the number in the source that is named; what is unstated says so.
    """
    with Path(__file__).with_name("paper_numbers.csv").open(encoding="utf-8", newline="") as file:
        rows = pd.DataFrame([row for row in csv.DictReader(file) if int(row["classes"]) == classes])
    return rows.assign(accuracy=rows["accuracy"].astype(float), classes=classes)


def comparison(results: Mapping[str, dict[str, Any]]) -> pd.DataFrame:
    """Published numbers with ours below, in per cent: `published`'s columns with low and high.

    Parameters
    ----------
    results : dict
        Result of `classify-features` of each run (a seed each) by its name: ours is their mean, with the range over them, or,
        of one run, the interval of its accuracy.

    Raises
    ------
    RunDirError
        The runs were judged on different shapes, or on no ModelNet: nothing published compares with them.
    """
    first = next(iter(results.values()))
    if len({result["protocol"] for result in results.values()}) > 1:
        raise RunDirError("the runs were classified on different shapes; only runs under one protocol stand in one figure")
    classes = int(first["values"]["n_classes"])
    if classes not in (len(modelnet10()), len(modelnet40())):
        raise RunDirError(f"published accuracies are on ModelNet's 10 or 40 classes; these runs were classified on {classes}")
    rows = published(classes)
    own = [
        _ours(results, key, averaging) for key, averaging in (("accuracy", "overall"), ("mean_class_accuracy", "mean class"))
    ]
    for name, values in _controls(results).items():
        own.append(
            {"method": f"our control: {name}", "kind": "control", "averaging": "overall",
             "accuracy": np.mean(values), "low": min(values), "high": max(values)}
        )  # fmt: skip
    ours = pd.DataFrame(own).assign(supervision="none", classifier="linear SVM", verified="yes", source="measured", note="")
    return pd.concat([rows, ours], ignore_index=True).assign(classes=classes)


def _controls(results: Mapping[str, dict[str, Any]]) -> dict[str, list[float]]:
    """Accuracies of each control in all runs that have it; seeds of the untrained network are one."""
    found: dict[str, list[float]] = {}
    for result in results.values():
        for key, value in result["values"].items():
            name = re.sub(r"^untrained-\d+$", "untrained", key.removeprefix("accuracy/"))
            if key.startswith("accuracy/") and name.startswith(CONTROLS):
                found.setdefault(name, []).append(100 * value)
    return found


def _ours(results: Mapping[str, dict[str, Any]], key: str, averaging: str) -> dict[str, Any]:
    """Ours: mean and range over runs, or value and interval of the one."""
    values = np.array([100 * result["values"][key] for result in results.values()])
    around = next(iter(results.values()))["intervals"][key]
    low, high = (values.min(), values.max()) if len(values) > 1 else (100 * around["low"], 100 * around["high"])
    label = f"ours, {averaging}" + (f" ({len(values)} runs)" if len(values) > 1 else "")
    return {"method": label, "kind": "ours", "averaging": averaging, "accuracy": values.mean(), "low": low, "high": high}


def draw(rows: pd.DataFrame, path: Path) -> None:
    """Dots by accuracy: with labels pale, without strong, ours blue with intervals; hollow where the classifier is another.

    No bars: these would have to begin at 0, and what is compared lies between 80 and 95 per cent.
    """
    rows = rows.sort_values("accuracy", kind="stable").reset_index(drop=True)
    colors = {"ours": GENERATED, "control": (0.75, 0.77, 0.80), "reproduced": NEUTRAL}
    with figure(path, 1, 1, 9, 0.8 + 0.27 * len(rows)) as axis:
        for y, (_, row) in enumerate(rows.iterrows()):
            labelled = row["supervision"] != "none"
            color = colors.get(row["kind"], REAL)
            other = row["kind"] == "reported" and row["classifier"] != "linear SVM"
            if pd.notna(row["low"]):
                axis.plot([row["low"], row["high"]], [y, y], color=color, linewidth=2.5, alpha=0.6)
            face = "white" if other else color
            axis.plot(row["accuracy"], y, "o", color=color, markerfacecolor=face, alpha=0.4 if labelled else 1.0)
            end = max(row["accuracy"], row["high"] if pd.notna(row["high"]) else 0)
            mark = "" if row["verified"] == "yes" else "  unverified"
            axis.text(end + 0.4, y, f"{row['accuracy']:.1f}{mark}", va="center", fontsize="x-small", color=NEUTRAL)
        names = rows["method"].where(rows["supervision"].eq("none"), rows["method"] + " (" + rows["supervision"] + ")")
        axis.set_yticks(range(len(rows)), names, fontsize="small")
        axis.set_xlim(max(0, rows["accuracy"].min() - 10), 100)
        axis.set_xlabel(
            f"accuracy on ModelNet{rows['classes'].iloc[0]}, per cent; hollow: not a linear SVM; pale: trained with labels"
        )


def panel(theirs: VoxelSet, gen: VoxelSet, train: VoxelSet | None, path: Path, n: int = 8) -> Path:
    """Draw the first n of their shapes above the first n of ours, and below each of ours its nearest training shape."""
    tiles: list[Tile] = []
    n = min(n, len(theirs), len(gen))
    rows: list[tuple[VoxelSet, Any, tuple[float, float, float], str]] = [
        (theirs, range(n), NEUTRAL, "theirs"), (gen, range(n), GENERATED, "ours")
    ]  # fmt: skip
    if train is not None:
        rows.append((train, nearest(gen.packed[:n], train.packed)[1][:, 0], REAL, "nearest training shape"))
    for shapes, chosen, color, label in rows:
        tiles += [(grid, label if i == 0 else "", color) for i, grid in enumerate(shapes.grids(list(chosen)))]
    title = f"The first {f'{n} ' * (n > 1)}of theirs and of ours, as they stand"
    return sheet(path, tiles, title, n, tile=190, notes="Same camera; each at its own resolution. Nearest under L1.")
