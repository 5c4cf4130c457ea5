"""RunDir: open, validate, read and write a run directory, the one thing that passes between training and evaluation.

Owns every file name. `RUN_DIR.md` beside this file is the contract, whose rules are cited by number; `check_run.py` checks it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gan3d_eval.contract import FORMAT, METRICS, log_table, lost_rows, meta_faults, result_faults
from gan3d_eval.files import (
    Gan3dError,
    atomic_file,
    file_hash,
    in_shell,
    is_held,
    read_json,
    refuse_closed,
    refuse_taken,
    refuse_target,
    write_json,
)
from gan3d_eval.npy import read_arrays
from gan3d_eval.provenance import Result, dataset_record, new_run_id, producer, result_name, software, utc_now
from gan3d_eval.voxels import VoxelSet

__all__ = [  # with what the trainer, which knows no other module of the evaluation, needs of them
    "LOCK", "Gan3dError", "RunDir", "RunDirError", "atomic_file", "dataset_record", "new_run_id",
    "producer", "refuse_closed", "refuse_target", "software",
]  # fmt: skip

FINAL, LOCK = "final", ".lock"


class RunDirError(Gan3dError):
    """A run directory, or a file in it, that breaks the contract."""


@dataclasses.dataclass(frozen=True)
class RunDir:
    """A run directory and its `run.json`. Make one with `create`, open one with `open`."""

    path: Path
    meta: dict[str, Any] = dataclasses.field(repr=False)

    @classmethod
    def create(cls, path: Path, meta: dict[str, Any]) -> RunDir:
        """Make the directory and its `run.json`; a directory that is there already is an error (rule 10)."""
        _check_meta(path, meta := {"format": FORMAT, "created": utc_now(), **meta})
        refuse_taken(path)
        path.mkdir(parents=True, exist_ok=False)
        write_json(path / "run.json", meta)
        return cls(path, meta)

    @classmethod
    def open(cls, path: Path) -> RunDir:
        """Open an existing run directory; RunDirError if it is none or its `run.json` breaks rule 2."""
        if not (path / "run.json").is_file():
            lacks = "it has no run.json" if path.is_dir() else "it is a file" if path.exists() else "nothing is there"
            raise RunDirError(f"{path} is no run directory, as made by train or import-run: {lacks}")
        try:
            meta = read_json(path / "run.json", RunDirError)
        except RunDirError as fault:
            anew = f"python cli.py import-run {in_shell(path)}/samples/final.npz NEW_RUN_DIR makes a run of its samples"
            raise RunDirError(f"{fault}; {anew if (path / 'samples/final.npz').is_file() else 'copy it again'}") from None
        _check_meta(path, meta)
        return cls(path, meta)

    def update(self, **changes: Any) -> RunDir:
        """Change keys of `run.json` (all others are kept) and return the run as it now is."""
        _check_meta(self.path, meta := read_json(self.path / "run.json", RunDirError) | changes)
        write_json(self.path / "run.json", meta)
        return RunDir(self.path, meta)

    @property
    def resolution(self) -> int:
        """Voxels along each axis."""
        return int(self.meta["resolution"])

    def has(self, name: str) -> bool:
        """Whether the file or folder `name` is there."""
        return (self.path / name).exists()

    def config(self) -> dict[str, Any]:
        """`config.json`, the training hyper-parameters; RunDirError if there is none (imported runs have none)."""
        return read_json(self.path / "config.json", RunDirError)

    def write_config(self, values: dict[str, Any]) -> None:
        """Write `config.json`."""
        write_json(self.path / "config.json", values)

    # --- the dataset that the run was trained on ---------------------------------------------------------------------

    def finds_dataset(self) -> bool:
        """Whether the dataset that the run names is where it says."""
        path = (self.meta["dataset"] or {}).get("path")
        return path is not None and (self.path / path).is_dir()

    def dataset_path(self, option: str = "--reference") -> Path:
        """Where the run's dataset is; RunDirError, with the `option` that names another, if it names none or none is there."""
        named: str = (self.meta["dataset"] or {}).get("path") or ""
        if not self.finds_dataset():
            what = f"its dataset is not at {(self.path / named).resolve()}" if named else "it names no dataset"
            raise RunDirError(f"{self.path}: {what}; pass {option} DATASET_DIR")
        return Path(os.path.normpath(self.path / named))

    def resumption(self) -> str:
        """The command that goes on with the training."""
        dataset = in_shell(self.dataset_path()) if self.finds_dataset() else "DATASET_DIR"
        return f"python cli.py train {dataset} --resume {in_shell(self.path)}"

    def has_lost_checkpoints(self) -> bool:
        """Whether it was trained, and no checkpoint is there any more: no training can go on with it."""
        if self.checkpoints() or self.meta["status"] not in {"finished", "interrupted"}:
            return False
        return (log := self.metrics(checked=False)) is not None and len(log) > 0

    def way_on(self) -> str:
        """What brings a run without checkpoints its first one: patience, its training, or that of a new run."""
        if is_held(self.path / LOCK):
            return "it is being trained: wait for the first"
        return "train a new run" if self.has_lost_checkpoints() else f"go on with its training: {self.resumption()}"

    # --- samples (rule 5) --------------------------------------------------------------------------------------------

    def sample_names(self) -> list[str]:
        """Sample files without suffix: steps (`000500`, of history's `at-000500`) in order, other names, `final` last."""
        names = [path.stem for path in (self.path / "samples").glob("*.npz") if not path.name.startswith(".")]
        steps = {name: int(match[1]) for name in names if (match := re.fullmatch(r"(?:at-)?([0-9]+)", name))}
        return sorted(names, key=lambda name: (name == FINAL, name not in steps, steps.get(name, 0), name))

    def samples(self, name: str | None = None) -> VoxelSet:
        """Read a sample file; None takes the newest (`final` when it is there). Names default to `sample-0000` …"""
        path, arrays = self._sample_arrays(name)
        occupancy = arrays["occupancy"]
        try:
            resolution = int(arrays["resolution"])
            labels = [str(label) for label in arrays.get("names", [f"sample-{i:04d}" for i in range(len(occupancy))])]
            facts: dict[str, Any] = {key: arrays[key].item() for key in ("step", "threshold") if key in arrays}
            samples = VoxelSet(occupancy, resolution, pd.DataFrame({"name": labels}), facts | {"file": f"samples/{path.name}"})
        except (TypeError, ValueError) as fault:  # VoxelError is a ValueError
            raise RunDirError(f"{path}: {fault}") from None
        if resolution != self.resolution or len(samples) == 0:
            raise RunDirError(f"{path}: {len(samples)} shapes at {resolution}³; expected at least one at {self.resolution}³")
        return samples

    def probabilities(self, name: str | None = None) -> NDArray[np.floating] | None:
        """What the samples were before their threshold, `(n, d, d, d) float16` in [0, 1]; None where that was not kept."""
        path, arrays = self._sample_arrays(name)
        found, expected = arrays.get("probability"), (len(arrays["occupancy"]), *(self.resolution,) * 3)
        if found is not None and (found.shape != expected or found.dtype.kind != "f"):
            raise RunDirError(f"{path}: probability is {found.dtype} {found.shape}; expected floats of shape {expected}")
        return found

    def _sample_arrays(self, name: str | None) -> tuple[Path, dict[str, NDArray[Any]]]:
        if not (names := self.sample_names()):
            draw = f"make them with: python cli.py sample {in_shell(self.path)}"
            none = "import it anew" if self.meta["status"] == "imported" else f"nor a checkpoint; {self.way_on()}"
            raise RunDirError(f"{self.path} holds no samples; {draw if self.checkpoints() else none}")
        if name is not None and name not in names:
            raise RunDirError(f"{self.path}/samples/{name}.npz is missing; there are {', '.join(names)}")
        path = self.path / "samples" / f"{name or names[-1]}.npz"
        try:
            return path, read_arrays(path, RunDirError, ("occupancy", "resolution"))
        except RunDirError as fault:
            rest = ", ".join(other for other in names if other != path.stem)
            others = [f"nn-check, compare, gallery take others with --samples: {rest}"] if rest else []
            if self.checkpoints() and path.stem[0].isalpha():
                others.append(f"drawn anew by: python cli.py sample {in_shell(self.path)} --name {path.stem} --force")
            raise RunDirError("; ".join([str(fault), *(others or ["copy it again"])])) from None

    def write_samples(self, name: str, force: bool = False, **arrays: NDArray[Any]) -> Path:
        """Write `samples/<name>.npz`: `occupancy` (N, D³/8) uint8 and the optional arrays of rule 5."""
        path = self.path / "samples" / f"{name}.npz"
        if path.exists() and not force:
            raise RunDirError(f"{path} exists; choose another --name, or replace it with --force")
        with atomic_file(path) as temporary, temporary.open("wb") as file:
            save = np.savez if "probability" in arrays else np.savez_compressed  # these shrink by a fifth only, at 20 MB/s
            save(file, allow_pickle=False, resolution=np.int64(self.resolution), **arrays)
        return path

    # --- training log (rule 4) and checkpoints (rule 7) ----------------------------------------------------------------

    def metrics(self, checked: bool = True) -> pd.DataFrame | None:
        """`metrics.csv`, if there is one, without a last line that is still being written (it has no newline).

        RunDirError if it is no table with a column `step` or, if `checked`, holds text or a row without a step.
        """
        path = self.path / "metrics.csv"
        if not path.is_file():
            return None
        try:
            return log_table(path.read_text(encoding="utf-8"), checked)
        except UnicodeDecodeError:
            raise RunDirError(f"{path} is damaged: it is no text; copy it again") from None
        except ValueError as fault:
            raise RunDirError(f"{path}: {fault}") from None

    def log(self, checked: bool = True) -> tuple[pd.DataFrame | None, str]:
        """`metrics()`, and what it lacks of a training whose checkpoints are there; empty where it lacks nothing."""
        checkpoints = self.checkpoints()  # before the log, which a training writes first
        return (log := self.metrics(checked)), lost_rows(log, self.meta, checkpoints)

    @contextlib.contextmanager
    def metrics_log(self, upto: int = 0) -> Iterator[Any]:
        """Yield a function that appends one row (a dict with the keys of `METRICS`), flushed at once.

        Rows after step `upto` are cut off first: they belong to steps that a resumed run takes again. Six digits are enough.
        """
        path = self.path / "metrics.csv"
        old = self.metrics() if upto else None
        kept = 0 if old is None else int((old["step"] <= upto).sum())
        lines = path.read_text(encoding="utf-8").splitlines()[1 : 1 + kept] if kept else []
        with atomic_file(path) as temporary:
            temporary.write_text("\n".join([",".join(METRICS), *lines, ""]), encoding="utf-8")
        with path.open("a", encoding="utf-8", buffering=1) as file:
            yield lambda row: file.write(",".join([f"{row['step']:d}", *(f"{row[key]:.6g}" for key in METRICS[1:])]) + "\n")

    def write_metrics(self, table: pd.DataFrame) -> None:
        """Write the `metrics.csv` of a training that somebody else logged."""
        with atomic_file(self.path / "metrics.csv") as temporary:
            table.to_csv(temporary, index=False, lineterminator="\n")

    def checkpoint_path(self, step: int) -> Path:
        """`checkpoints/000500.pt`."""
        return self.path / "checkpoints" / f"{step:06d}.pt"

    def checkpoints(self) -> list[Path]:
        """Checkpoints, oldest first."""
        found = [p for p in (self.path / "checkpoints").glob("*.pt") if re.fullmatch(r"\d{6,}", p.stem)]
        return sorted(found, key=lambda path: int(path.stem))

    # --- what evaluation writes (rules 1 and 8) ------------------------------------------------------------------------

    def write_result(self, result: Result, rows: pd.DataFrame | None = None, reference: str = "") -> Path:
        """Write `results/<verb>[-<reference>].json`, and one row per item as `.csv`; a verb replaces its own results."""
        path = self.path / "results" / f"{result_name(result.verb, reference)}.json"
        if rows is not None:
            with atomic_file(path.with_suffix(".csv")) as temporary:
                rows.to_csv(temporary, index=False, lineterminator="\n", float_format="%.6g")
        table = {} if rows is None else {"table": {"path": f"{path.stem}.csv", "sha256": file_hash(path.with_suffix(".csv"))}}
        write_json(path, result.to_dict() | table)
        return path

    def results(self, refused: list[str] | None = None) -> dict[str, dict[str, Any]]:
        """All results by file name without suffix, sorted; RunDirError for a broken one, or its reason in `refused`."""
        found = {}
        for path in sorted((self.path / "results").glob("*.json")):
            try:
                result = read_json(path, RunDirError)
                if faults := result_faults(result):
                    raise RunDirError(f"{path} {'; '.join(faults)}")
                found[path.stem] = result
            except RunDirError as fault:
                if refused is None:
                    raise RunDirError(f"{fault}; run its verb again") from None
                refused.append(f"{fault}; run its verb again")
        return found

    def picture_path(self, folder: str, name: str) -> Path:
        """`figures/<name>.png` or `gallery/<name>.png`; makes the folder."""
        (self.path / folder).mkdir(exist_ok=True)
        return self.path / folder / f"{name}.png"

    def pictures(self, folder: str) -> list[Path]:
        """Pictures and animations in `figures` or `gallery`, by name."""
        return sorted([*(self.path / folder).glob("*.png"), *(self.path / folder).glob("*.gif")])


def _check_meta(path: Path, meta: dict[str, Any]) -> None:
    """RunDirError with all that is wrong with a `run.json` (rule 2)."""
    if faults := meta_faults(meta):
        raise RunDirError(f"{path}/run.json {'; '.join(faults)}")
