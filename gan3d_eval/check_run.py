"""Which rules of `RUN_DIR.md` does a run directory break? Reads everything, changes nothing."""

from __future__ import annotations

import contextlib
import functools
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import pandas as pd

from gan3d_eval.contract import METRICS, RUN_KEYS, is_ours, meta_faults, result_faults
from gan3d_eval.files import Gan3dError, read_json
from gan3d_eval.npy import read_arrays
from gan3d_eval.run_dir import RunDir, RunDirError
from gan3d_eval.training_set import training_set

__all__ = ["check_run"]

ENTRIES = frozenset(
    (
        "run.json config.json metrics.csv checkpoints samples features responses results figures gallery report.html "
        "tensorboard"
    ).split()
)
FEATURE_KEYS = ("features", "labels", "names", "split", "layers", "weights_sha256")


def check_run(path: Path, read_config: Callable[[dict[str, Any], str], object] | None = None) -> list[tuple[int, str]]:
    """List the broken rules as (number, what is wrong), in order; an empty list is a directory in order.

    `read_config` reads the values of a `config.json` that gan3d wrote, and raises Gan3dError where it cannot: which keys there
    are is known to the trainer alone.

    Raises
    ------
    RunDirError
        `path` is no directory at all.
    """
    if not path.is_dir():
        raise RunDirError(f"{path} is no directory; expected a run directory")
    try:
        meta = read_json(path / "run.json", RunDirError)
    except RunDirError as fault:
        return [(2, str(fault))]
    broken = [(2, f"run.json {fault}") for fault in meta_faults(meta)]
    if not set(meta) >= RUN_KEYS or not isinstance(meta["resolution"], int) or meta["resolution"] < 1:
        return [*broken, (2, "run.json is needed to look at the other rules, so they were not looked at")]
    run = RunDir(path, meta)
    checks: list[tuple[int, Callable[[RunDir], Iterator[str]]]] = [
        (1, _layout), (2, _meta), (3, functools.partial(_config, read_config)), (4, _metrics), (5, _samples),
        (6, _features), (7, _checkpoints), (8, _results), (9, _leftovers), (10, _names), (11, _absolute_paths),
    ]  # fmt: skip
    for rule, check in checks:
        try:
            for message in check(run):
                broken.append((rule, message))
        except (Gan3dError, OSError) as fault:
            broken.append((rule, str(fault)))
    return sorted(broken, key=lambda fault: fault[0])


def _each(paths: Iterable[Path], check: Callable[[Path], Iterator[str]]) -> Iterator[str]:
    """What `check` says of every file: one that cannot be read does not hide what is wrong with the next."""
    for path in sorted(paths):
        try:
            yield from check(path)
        except (Gan3dError, OSError) as fault:
            yield str(fault)


def _layout(run: RunDir) -> Iterator[str]:
    for entry in sorted(p.name for p in run.path.iterdir() if not p.name.startswith(".")):
        if entry not in ENTRIES:
            yield f"{entry} is no part of a run directory"
    if not run.sample_names() and run.meta["status"] in {"finished", "imported"}:
        yield f"samples/ holds no samples, but the status is {run.meta['status']}"


def _meta(run: RunDir) -> Iterator[str]:
    meta = run.meta
    dataset = meta["dataset"]
    if isinstance(dataset, dict) and not {"name", "sha256", "n"} <= set(dataset):
        yield "run.json: dataset lacks name, sha256 or n"
    if not meta_faults(meta) and run.finds_dataset():
        try:
            training_set(run)
        except Gan3dError as fault:
            yield f"run.json: {fault}"
    if pd.isna(pd.to_datetime(meta["created"], utc=True, errors="coerce", format="ISO8601")):
        yield f"run.json: created {meta['created']!r} is no ISO 8601 time"


def _config(read: Callable[[dict[str, Any], str], object] | None, run: RunDir) -> Iterator[str]:
    values = run.config() if run.has("config.json") else {}
    if is_ours(run.meta) and not run.has("config.json") and run.checkpoints():
        yield "config.json, which every training writes, is missing"
    if run.has("config.json") and read and (run.meta["producer"] or {}).get("name") == "gan3d":
        read(values, "config.json")
        if values.get("resolution") != run.resolution:
            yield f"config.json: resolution is {values.get('resolution')}, in run.json {run.resolution}"
    for key, value in values.items():
        if not isinstance(value, str | int | float | bool | None):
            yield f"config.json: {key} is a {type(value).__name__}, expected a number or a string"


def _metrics(run: RunDir) -> Iterator[str]:
    log, lost = run.log(checked=False)
    if log is None:
        yield from [lost] if lost else []
        return
    if unknown := sorted(set(log.columns) - set(METRICS)):
        yield f"metrics.csv has unknown columns {', '.join(unknown)}"
    for column in log.columns:
        if not pd.api.types.is_numeric_dtype(log[column]):
            yield f"metrics.csv: column {column} is not numeric"
    if (pd.api.types.is_numeric_dtype(log["step"]) and not log["step"].is_monotonic_increasing) or not log["step"].is_unique:
        yield "metrics.csv: step does not increase"
    elif lost:
        yield lost


def _samples(run: RunDir) -> Iterator[str]:
    def check(path: Path) -> Iterator[str]:
        n = len(run.samples(path.stem))
        arrays = read_arrays(path, RunDirError)
        for key, dtype in (("latents", "float32"), ("probability", "float16")):
            if key in arrays and (arrays[key].dtype != dtype or arrays[key].shape[:1] != (n,)):
                yield f"samples/{path.name}: {key} is {arrays[key].dtype} {arrays[key].shape}, expected {dtype} with {n} rows"

    return _each([run.path / "samples" / f"{name}.npz" for name in run.sample_names()], check)


def _features(run: RunDir) -> Iterator[str]:
    def check(path: Path) -> Iterator[str]:
        arrays = read_arrays(path, RunDirError, FEATURE_KEYS)
        features, labels = arrays["features"], arrays["labels"]
        if features.dtype != "float32" or features.ndim != 2 or labels.shape != features.shape[:1]:
            yield f"features/{path.name}: features is {features.dtype} {features.shape} with labels {labels.shape}"

    return _each((run.path / "features").glob("*.npz"), check)


def _checkpoints(run: RunDir) -> Iterator[str]:
    for path in sorted((run.path / "checkpoints").glob("*.pt")):
        if not zipfile.is_zipfile(path):
            yield f"checkpoints/{path.name} is no zip archive of tensors (a bare pickle, or truncated)"


def _results(run: RunDir) -> Iterator[str]:
    def check(path: Path) -> Iterator[str]:
        result = read_json(path, RunDirError)
        if faults := result_faults(result):
            yield f"results/{path.name} {'; '.join(faults)}"
        elif not path.stem.startswith(result["verb"]):
            yield f"results/{path.name} holds a result of {result['verb']}"
        elif both := sorted(set(result["values"]) & set(result["absent"])):
            yield f"results/{path.name}: {', '.join(both)} both given and absent"

    return _each((run.path / "results").glob("*.json"), check)


def _leftovers(run: RunDir) -> Iterator[str]:
    if run.meta["status"] != "running":
        for path in sorted(run.path.rglob(".*.tmp")):
            yield f"{path.relative_to(run.path).as_posix()} was left by an interrupted write; delete it"


def _names(run: RunDir) -> Iterator[str]:
    for folder in ("samples", "checkpoints"):
        seen: dict[int, str] = {}
        for path in sorted((run.path / folder).glob("*")):
            if path.stem.isdecimal():
                other = seen.setdefault(int(path.stem), path.name)
                if other != path.name:
                    yield f"{folder}/{other} and {folder}/{path.name} stand for the same step"


def _absolute_paths(run: RunDir) -> Iterator[str]:
    for path in (run.path / "run.json", run.path / "config.json", *sorted((run.path / "results").glob("*.json"))):
        content: dict[str, Any] = {}
        with contextlib.suppress(Gan3dError, OSError):  # what cannot be read breaks another rule
            content = read_json(path)
        content.pop("command", None)
        for text in _strings(content):
            if PurePosixPath(text).is_absolute() or PureWindowsPath(text).is_absolute():
                yield f"{path.relative_to(run.path).as_posix()} holds the absolute path {text}"


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _strings(part)
