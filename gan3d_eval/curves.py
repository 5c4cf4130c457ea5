"""Did training go well? Losses, D's accuracy at the gate, share of D updates, and G's occupancy, from `metrics.csv` alone.

It describes; it does not diagnose. Works on a run that is still training, and on any log that has some of the columns.
"""

from __future__ import annotations

import math
import time
from typing import Any

import pandas as pd

from gan3d_eval.plotting import GENERATED, NEUTRAL, REAL, figure
from gan3d_eval.provenance import Result
from gan3d_eval.run_dir import RunDir, RunDirError

__all__ = ["VERB", "curves"]

VERB = "curves"
MEANS = ("loss_d", "loss_g", "acc_d", "acc_d_real", "acc_d_fake", "d_updated", "occupancy_g")


def curves(run: RunDir) -> Result:
    """Summarise and draw the training log of `run`: means over its last tenth, seconds per epoch, share of D updates.

    Raises
    ------
    RunDirError
        No `metrics.csv`, no row in it yet, or something in it that is no number.
    """
    started = time.perf_counter()
    log, lost = run.log()
    if log is None or log.empty:
        raise RunDirError(
            f"{run.path} was imported without a training log; import it anew, under another name, with --log FILE"
            if run.meta["status"] == "imported"
            else f"{run.path} has no row of a training log (metrics.csv)"
            f"{'; copy it again' if run.checkpoints() else f' yet; {run.way_on()}'}"
        )
    log = log.replace([math.inf, -math.inf], math.nan)  # a diverged run's last row; means and axes are over finite values
    last = log.tail(max(1, len(log) // 10))
    absent: dict[str, str] = {}
    values: dict[str, Any] = {"steps": int(log["step"].iloc[-1])}
    if "epoch" in log and log["epoch"].notna().any():
        values["epochs"] = float(log["epoch"].dropna().iloc[-1])
        if "seconds" in log and (pace := seconds_per_epoch(log)) is not None:
            values["seconds_per_epoch"] = pace
        else:
            absent["seconds_per_epoch"] = "metrics.csv has no two consecutive rows with epoch and seconds"
    for name in MEANS:
        if name not in log:
            absent[f"last_{name}"] = "metrics.csv has no such column"
        elif last[name].notna().any():
            values[f"last_{name}"] = float(last[name].mean())
        else:
            absent[f"last_{name}"] = "no finite value in the last tenth"
    if "d_updated" in log and log["d_updated"].notna().any():
        values["d_updated_share"] = float(log["d_updated"].mean())
        updates = log.loc[log["d_updated"] > 0, "step"]
        values["steps_since_d_update"] = int(log["step"].iloc[-1] - (updates.iloc[-1] if len(updates) else 0))
    gate = run.config().get("gate") if run.has("config.json") else None
    _draw(run, log, gate)
    inputs = {"metrics": {"path": "metrics.csv", "n": len(log)}}
    notes = [lost] if lost else []
    return Result(VERB, f"curves-last{len(last)}", inputs, {"gate": gate}, values, {}, notes, absent, started=started)


def seconds_per_epoch(log: pd.DataFrame) -> float | None:
    """Median seconds per epoch over consecutive rows (a resumed run's clock starts anew, so differences, not totals)."""
    steps = log[["seconds", "epoch"]].diff().dropna()
    steps = steps[(steps["seconds"] > 0) & (steps["epoch"] > 0)]
    return float((steps["seconds"] / steps["epoch"]).median()) if len(steps) else None


def _draw(run: RunDir, log: pd.DataFrame, gate: float | None) -> None:
    """Four panels over epochs (or steps): each value faint, its rolling mean strong."""
    over = "epoch" if "epoch" in log else "step"
    window = max(1, len(log) // 60)
    panels = [
        ("Losses", [("loss_d", "D", REAL), ("loss_g", "G", GENERATED)]),
        ("Accuracy of D", [("acc_d_real", "real", REAL), ("acc_d_fake", "generated", GENERATED), ("acc_d", "both", NEUTRAL)]),
        ("Share of steps in which D learns", [("d_updated", "", NEUTRAL)]),
        ("Occupied share of G's grids", [("occupancy_g", "", GENERATED)]),
    ]  # fmt: skip
    with figure(run.picture_path("figures", "curves"), 2, 2, 10, 6) as axes:
        for axis, (title, lines) in zip(axes.flat, panels, strict=True):
            present = [line for line in lines if line[0] in log]
            for name, label, color in present:
                if name != "d_updated":
                    axis.plot(log[over], log[name], color=color, alpha=0.15, linewidth=0.6)
                axis.plot(log[over], log[name].rolling(window, 1).mean(), color=color, label=label or None, linewidth=1.6)
            if title.startswith("Accuracy") and gate is not None and gate < 1:
                axis.axhline(gate, color=NEUTRAL, linestyle=":", linewidth=1, label=f"gate {gate:g}")
            if title.startswith("Occupied") and (data := (run.meta["dataset"] or {}).get("occupancy")):
                axis.axhline(data, color=REAL, linestyle=":", linewidth=1, label="mean of the training shapes")
            if title == "Losses" and present:
                tops = [float(log[name].quantile(0.99)) for name, _, _ in present if log[name].notna().any()]
                axis.set_ylim(0, max(1.1 * max(tops, default=0), 0.1))
            elif present:
                axis.set_ylim(0, 1.02 if "Occupied" not in title else None)
            if not present:
                axis.text(0.5, 0.5, "not in the log", ha="center", color=NEUTRAL, transform=axis.transAxes)
            axis.set_title(title, loc="left")
            axis.set_xlabel(over)
            if axis.get_legend_handles_labels()[1]:
                axis.legend(frameon=False, fontsize="small")
