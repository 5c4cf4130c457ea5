"""Our results beside the paper's and others': one table, one figure of bars, shapes above shapes. Protocols that differ are
drawn differently, and what nobody checked against the publication says so.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
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
Measured = tuple[float, float, float]


def published(classes: int) -> pd.DataFrame:
    """Accuracies on ModelNet10 or ModelNet40 (per cent) as published: a row each, with supervision, averaging, source, note.

    `verified` says whether somebody read the number in the source that is named; what is unstated says so.
    """
    with Path(__file__).with_name("paper_numbers.csv").open(encoding="utf-8", newline="") as file:
        rows = pd.DataFrame([row for row in csv.DictReader(file) if int(row["classes"]) == classes])
    return rows.assign(accuracy=rows["accuracy"].astype(float), classes=classes)


def comparison(results: Mapping[str, dict[str, Any]]) -> pd.DataFrame:
    """Published numbers with ours below, in per cent: `published`'s columns with low, high and which interval these are of.

    Parameters
    ----------
    results : dict
        Result of `classify-features` of each run (a seed each) by its name. Ours is their mean, with the range over them, or,
        of one run, its accuracy with the 95 % interval; so are the controls, over the seeds of each.

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
        _row(f"ours, {averaging}", "ours", averaging, [_measured(result, key) for result in results.values()], "runs")
        for key, averaging in (("accuracy", "overall"), ("mean_class_accuracy", "mean class"))
    ]
    for name, found in _controls(results).items():
        of = "seeds" if name == "untrained" else "runs"
        own.append(_row(f"our control: {name}", "control", "overall", found, of))
    ours = pd.DataFrame(own).assign(supervision="none", classifier="linear SVM", verified="yes", source="measured", note="")
    return pd.concat([rows, ours], ignore_index=True).assign(classes=classes)


def _measured(result: dict[str, Any], key: str) -> Measured:
    """An accuracy with the ends of its interval, in per cent."""
    around = result["intervals"].get(key, {})
    return 100 * result["values"][key], 100 * around.get("low", np.nan), 100 * around.get("high", np.nan)


def _controls(results: Mapping[str, dict[str, Any]]) -> dict[str, list[Measured]]:
    """Each control in all runs that have it, once where runs agree on it; seeds of the untrained network are one control."""
    found: dict[str, dict[tuple[str, float], Measured]] = {}
    for result in results.values():
        for key in result["values"]:
            name = re.sub(r"^untrained-\d+$", "untrained", key.removeprefix("accuracy/"))
            if key.startswith("accuracy/") and name.startswith(CONTROLS):
                found.setdefault(name, {})[key, result["values"][key]] = _measured(result, key)
    return {name: list(measured.values()) for name, measured in found.items()}


def _row(method: str, kind: str, averaging: str, found: Sequence[Measured], of: str) -> dict[str, Any]:
    """Of one measurement the value and its interval, of several (`of` what) their mean and range."""
    values = [value for value, _, _ in found]
    _, low, high = found[0] if len(found) == 1 else (0, min(values), max(values))
    several = len(found) > 1
    return {
        "method": method + f" ({len(found)} {of})" * several, "kind": kind, "averaging": averaging, "accuracy": np.mean(values),
        "low": low, "high": high, "interval": "range" if several else "95 %",
    }  # fmt: skip


def draw(rows: pd.DataFrame, path: Path) -> None:
    """Dots by accuracy: with labels pale, without strong, ours blue with intervals; hollow where the classifier is another.

    No bars: these would have to begin at 0, and what is compared lies between 80 and 95 per cent.
    """
    rows = rows.sort_values("accuracy", kind="stable").reset_index(drop=True)
    colors = {"ours": GENERATED, "control": (0.75, 0.77, 0.80), "reproduced": NEUTRAL}
    with figure(path, 1, 1, 9, 1.0 + 0.27 * len(rows)) as axis:
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
            f"accuracy on ModelNet{rows['classes'].iloc[0]}, per cent; hollow: not a linear SVM; pale brown: with labels\n"
            "lines: 95 % interval over the test shapes; of several runs or seeds, their range"
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
