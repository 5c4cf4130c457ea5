"""Several runs in one table and one figure: only values under one protocol stand together.

Runs fall apart into groups by protocol: resolution, n, held-out shapes. Measures of features count only where the
same features judged all runs of a group, which a run's own discriminator does not (`--features-from` names one for all).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gan3d_eval.plotting import GENERATED, REAL, figure
from gan3d_eval.set_measures import FEATURE_MEASURES, MAIN, MAIN_FEATURES, TOLD, told_apart

__all__ = ["draw", "judges", "leaderboard", "table"]


def judges(results: Mapping[str, dict[str, Any]]) -> dict[str, set[str]]:
    """Whose features judged the runs of each protocol (of none: an empty name), from results of `compare`."""
    found: dict[str, set[str]] = {}
    for result in results.values():
        protocol, _, by = result["protocol"].partition("+")
        found.setdefault(protocol, set()).add(by)
    return found


def leaderboard(results: Mapping[str, dict[str, Any]]) -> pd.DataFrame:
    """One row a run and measure: protocol, run, measure, value, low, high, real (what real shapes reach).

    Within a protocol first the run that 1-NN tells least from real shapes.

    Parameters
    ----------
    results : dict
        Result of `compare` of each run, by the run's name.
    """
    features = judges(results)
    told = {run: [result["values"].get(name) for name in TOLD] for run, result in results.items()}
    wide = pd.DataFrame(told, list(TOLD), dtype=np.float64).T
    rows = []
    for run in told_apart(wide).sort_values(kind="stable").index:
        result = results[run]
        base, values = result["protocol"].partition("+")[0], result["values"]
        same = len(features[base]) == 1
        for measure in [m for m in values if "/" not in m and f"{m}/real" in values and (same or m not in FEATURE_MEASURES)]:
            interval = result["intervals"].get(measure, {})
            rows.append(
                {
                    "protocol": base, "run": run, "measure": measure, "value": values[measure], "low": interval.get("low"),
                    "high": interval.get("high"), "real": values[f"{measure}/real"],
                }
            )  # fmt: skip
    place = {base: i for i, base in enumerate(features)}
    return pd.DataFrame(rows).sort_values("protocol", key=lambda bases: bases.map(place), kind="stable", ignore_index=True)


def table(rows: pd.DataFrame) -> str:
    """The table as text: a block for each protocol, in the order of the rows; real shapes in the last line."""
    blocks = []
    for protocol, part in rows.groupby("protocol", sort=False):
        wide = part.pivot(index="run", columns="measure", values="value")
        columns = [name for name in (*MAIN, *MAIN_FEATURES) if name in wide]
        wide = wide.loc[part["run"].unique(), columns]
        wide.loc["real shapes"] = part.groupby("measure")["real"].mean()[columns]
        text = wide.to_string(float_format="{:.4g}".format, index_names=False)
        blocks.append(f"{protocol}, best first by 1-NN\n{text}")
    return "\n\n".join(blocks)


def draw(rows: pd.DataFrame, path: Path) -> None:
    """The measures of every run with intervals beside those of real shapes; a block of lines for each protocol."""
    names = list(dict.fromkeys(zip(rows["protocol"], rows["run"], strict=True)))[::-1]
    labels = [run for _, run in names]
    with figure(path, 1, len(MAIN), 14, 1.1 + 0.34 * len(names)) as axes:
        for axis, measure in zip(axes, MAIN, strict=True):
            part = rows[rows["measure"] == measure].set_index(["protocol", "run"])
            for y, name in enumerate(names):
                if name in part.index:
                    row = part.loc[name]
                    axis.plot([row["low"], row["high"]], [y, y], color=GENERATED, linewidth=2.5, alpha=0.45)
                    axis.plot(row["value"], y, "o", color=GENERATED)
                    axis.plot(row["real"], y, "|", color=REAL, markersize=13, markeredgewidth=2)
            axis.set_yticks(range(len(names)), labels if axis is axes[0] else [""] * len(names))
            axis.set_ylim(-0.6, len(names) - 0.4)
            for below in [y for y in range(len(names) - 1) if names[y][0] != names[y + 1][0]]:
                # another protocol begins: values do not compare across the line
                axis.axhline(below + 0.5, color=REAL, linewidth=0.8)
            axis.set_title(measure, loc="left")
            axis.locator_params(axis="x", nbins=4)
        legend = "dots: samples, with intervals; upright bars: real shapes, as if they were samples"
        axes[0].figure.supxlabel(legend, fontsize="small")
