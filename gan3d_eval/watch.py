"""How is a run doing that is still training? A line now and then, from its files alone; the trainer knows nothing of it.

A run whose `run.json` says `running` but whose lock nobody holds was killed: that is said, and how to go on.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator

from gan3d_eval.files import is_held
from gan3d_eval.run_dir import LOCK, RunDir

__all__ = ["Glance", "glance", "is_training", "watch"]

LAST = 100


@dataclasses.dataclass(frozen=True)
class Glance:
    """What the files of a run say at one moment."""

    status: str
    """That of `run.json`, or `killed`: it says `running`, and nobody trains it."""
    step: int
    line: str


def is_training(run: RunDir) -> bool:
    """Whether a process holds the run's lock, as every training does."""
    return is_held(run.path / LOCK)


def glance(run: RunDir) -> Glance:
    """Read status, the log's last rows and the failures that the trainer detected."""
    status = str(run.meta["status"])
    if status == "running" and not is_training(run):  # and it has not ended between the two looks
        status = str(RunDir.open(run.path).meta["status"]).replace("running", "killed")
    log, lost = run.log()
    if log is None or log.empty:
        return Glance(status, 0, f"{status}, {lost or ('without a log' if status == 'imported' else 'no step yet')}")
    last = log.tail(LAST)
    parts = [status, f"step {int(log['step'].iloc[-1])}"]
    if "epoch" in log:
        parts.append(f"epoch {log['epoch'].iloc[-1]:.1f}")
    facts = len(parts)
    for name, words in (("loss_d", "loss D"), ("loss_g", "G"), ("acc_d", "accuracy"), ("d_updated", "D learns in")):
        if name in last and last[name].notna().any():
            parts.append(f"{words} {last[name].mean():.0%}" if name == "d_updated" else f"{words} {last[name].mean():.3f}")
    if "occupancy_g" in last and last["occupancy_g"].notna().any():
        data = (run.meta["dataset"] or {}).get("occupancy")
        parts.append(f"occupancy {last['occupancy_g'].mean():.4f}" + (f" (data {data:.4f})" if data else ""))
    if len(parts) > facts and len(last) > 1:
        parts[-1] += f" (means of {len(last)} steps)"
    failures = run.meta.get("failures")  # whatever stands there
    names = [str(f.get("name")) for f in failures if isinstance(f, dict)] if isinstance(failures, list) else []
    if names:
        parts.append(f"seen on the way: {', '.join(names)}")
    return Glance(status, int(log["step"].iloc[-1]), "  ".join([*parts, *([lost] if lost else [])]))


def watch(run: RunDir, every: float = 10.0) -> Iterator[Glance]:
    """Glance at the run whenever it has gone on, until it is no longer running.

    Parameters
    ----------
    every : float
        Seconds between two looks.
    """
    shown: tuple[str, int] | None = None
    while True:
        now = glance(RunDir.open(run.path))
        if (now.status, now.step) != shown:
            shown = (now.status, now.step)
            yield now
        if now.status != "running":
            return
        time.sleep(every)
