"""Where a file comes from: time, versions, commit; and `Result`, what a verb found together with all that it depends on."""

from __future__ import annotations

import dataclasses
import datetime
import importlib.metadata
import os
import platform
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gan3d_eval import __version__
from gan3d_eval.contract import FORMAT
from gan3d_eval.files import safe_name
from gan3d_eval.voxels import VoxelSet

__all__ = [
    *("LIBRARIES", "Result", "around", "central", "dataset_record", "imported_record", "new_run_id", "producer", "result_name"),
    *("software", "utc_now", "variants", "wilson"),
]

LIBRARIES = ("numpy", "scipy", "scikit-learn", "faiss-cpu", "numba", "pandas")
"""On which every number that evaluation finds depends."""


def utc_now() -> str:
    """Now, as UTC ISO 8601 to the second."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def software(*packages: str) -> dict[str, str]:
    """Versions of Python, gan3d and `packages`."""
    versions = {name: importlib.metadata.version(name) for name in packages}
    return {"python": platform.python_version(), "gan3d": __version__, **versions}


def producer() -> dict[str, Any]:
    """Who made the run: name, version, and commit and dirty flag of the checkout (null outside of one)."""

    def git(*arguments: str) -> str | None:
        command = ["git", "-C", str(Path(__file__).parent), *arguments]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.strip()

    commit = dirty = None
    if git("ls-files", "--error-unmatch", Path(__file__).name) is not None:  # else the checkout that we lie in is not ours
        commit, dirty = git("rev-parse", "HEAD"), bool(git("status", "--porcelain", "--untracked-files=no"))
    return {"name": "gan3d", "version": __version__, "commit": commit, "dirty": dirty}


def around(interval: Mapping[str, Any] | None) -> str:
    """An interval as it stands behind its value: ` [0.42, 0.51]`; nothing where there is none."""
    return f" [{interval['low']:.3g}, {interval['high']:.3g}]" if interval else ""


def variants(values: Mapping[str, Any]) -> list[str]:
    """The variants of keys `<key>/<variant>` among a result's values, in their order: columns beside the one of `<key>`."""
    return list(dict.fromkeys(key.split("/")[1] for key in values if "/" in key))


def central(again: NDArray[np.float64] | list[float], kind: str) -> dict[str, Any]:
    """What 95 % of the resamples lie in, NaN aside, as a result holds it."""
    low, high = np.nanquantile(again, [0.025, 0.975])
    return {"low": float(low), "high": float(high), "kind": kind}


def wilson(k: int, n: int) -> dict[str, Any]:
    """Wilson's 95 % interval of a share, k of n, as a result holds it; n at least 1, and its parts independent."""
    from scipy import stats

    interval = stats.binomtest(k, n).proportion_ci(0.95, method="wilson")
    return {"low": float(interval.low), "high": float(interval.high), "kind": "95 % Wilson"}


def new_run_id(category: str, recipe: str, seed: int | None) -> str:
    """`sofa-paper-s0-20261122T101500Z`: sorts by kind, then by time; a name that is safe as a file's."""
    seeded = "" if seed is None else f"-s{seed}"
    return f"{safe_name(category)}-{recipe}{seeded}-{utc_now().replace('-', '').replace(':', '')}"


def result_name(verb: str, *of: str) -> str:
    """`compare`, `compare-mn10`: how the names of a verb's files begin; `of` says what is not the run's own."""
    return safe_name("-".join(filter(None, (verb, *of))))


def imported_record(
    category: str, resolution: int | None, source: str, notes: list[str], command: list[str],
    facts: Mapping[str, Any] | None = None, dataset: dict[str, Any] | None = None, grid: Mapping[str, Any] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """The `run.json` of shapes that somebody else made: what is not known is null; `facts` go beside its notes."""
    return {
        "run_id": new_run_id(category, "imported", None), "category": category, "resolution": resolution, "status": "imported",
        "seed": None, "dataset": dataset, "prior": None,
        "grid": dict.fromkeys(("axes", "up", "fill", "longest_side", "threshold")) | dict(grid or {}),
        "producer": {"name": None, "version": None, "commit": None, "dirty": None},
        "imported": {"source": source, "by": producer(), "notes": notes} | dict(facts or {}),
        "software": software("numpy"), "command": command,
    }  # fmt: skip


def dataset_record(run: Path, train: VoxelSet, dataset: Path, classes: list[str]) -> dict[str, Any]:
    """The `dataset` entry of `run.json` for training on `train`, the train split of `dataset`.

    Its path is as seen from the run directory, so that both can move together (rule 11).
    """
    path = Path(os.path.relpath(dataset.resolve(), run.resolve())).as_posix()
    occupancy = float(train.volume.mean()) / train.resolution**3
    return {
        "name": train.info["name"], "path": path, "classes": classes, "split": "train", "sha256": train.sha256,
        "n": len(train), "occupancy": round(occupancy, 6),
    }  # fmt: skip


@dataclasses.dataclass
class Result:
    """What one verb found (rule 8). `values` and `intervals` share keys; `absent` says why a metric is not there."""

    verb: str
    protocol: str
    inputs: dict[str, Any]
    options: dict[str, Any]
    values: dict[str, Any]
    intervals: dict[str, Any]
    notes: list[str] = dataclasses.field(default_factory=list)
    absent: dict[str, str] = dataclasses.field(default_factory=dict)
    seed: int | None = None
    software: dict[str, str] = dataclasses.field(default_factory=lambda: software(*LIBRARIES))
    created: str = dataclasses.field(default_factory=utc_now)
    started: dataclasses.InitVar[float] = 0.0
    seconds: float = 0.0

    def __post_init__(self, started: float) -> None:
        if started:
            self.seconds = round(time.perf_counter() - started, 3)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, with `format` and `status`: ok, or partial where something is absent."""
        status = "partial" if self.absent else "ok"
        return {"format": FORMAT, "status": status, **dataclasses.asdict(self)}
