"""What `run.json`, `metrics.csv` and results must hold (RUN_DIR.md, rules 2, 4, 8), and what is wrong where they do not."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from gan3d_eval.files import Gan3dError, read_table

__all__ = ["FORMAT", "METRICS", "RUN_KEYS", "is_ours", "log_table", "lost_rows", "meta_faults", "result_faults"]

FORMAT = 1
"""Of `run.json` and of results."""
STATUSES = ("running", "finished", "failed", "interrupted", "imported")
RUN_KEYS = frozenset(
    ("format run_id category resolution status created seed dataset grid prior producer software command").split()
)
RESULT_KEYS = frozenset(
    ("format status verb protocol inputs options values intervals notes absent seed software created seconds").split()
)
METRICS = (
    "step epoch seconds loss_d loss_d_real loss_d_fake loss_g acc_d acc_d_real acc_d_fake d_updated lr_d lr_g occupancy_g"
).split()
OBJECTS = ("dataset", "grid", "producer", "software")
TEXTS = ("run_id", "category", "created")
TEXTS_OF_DATASET = ("name", "path", "split", "sha256")


def meta_faults(meta: Mapping[str, Any]) -> list[str]:
    """What is wrong with a `run.json` (rule 2): format, missing keys, status, types, resolution."""
    if meta.get("format") != FORMAT:
        return [f"has format {meta.get('format')!r}; this version reads {FORMAT}; another release of gan3d may read it"]
    faults = [f"lacks {', '.join(missing)}"] if (missing := sorted(RUN_KEYS - set(meta))) else []
    if meta.get("status", "running") not in STATUSES:
        faults.append(f"has status {meta['status']!r}; expected one of {', '.join(STATUSES)}")
    for key in OBJECTS:
        if not isinstance(meta.get(key), dict | None):
            faults.append(f"has {key} as {type(meta[key]).__name__}; expected an object or null")
    dataset = meta["dataset"] if isinstance(meta.get("dataset"), dict) else {}
    texts = {key: meta.get(key) for key in TEXTS} | {f"dataset.{key}": dataset.get(key) for key in TEXTS_OF_DATASET}
    for key, value in texts.items():
        if not isinstance(value, str | None):
            faults.append(f"has {key} as {type(value).__name__}; expected a string or null")
    classes = dataset.get("classes")
    if not isinstance(classes, list | None) or not all(isinstance(name, str) for name in classes or []):
        faults.append(f"has dataset.classes {classes!r}; expected a list of strings or null")
    resolution = meta.get("resolution", 1)
    if not isinstance(resolution, int) or resolution < 1:
        faults.append(f"has resolution {resolution!r}; expected a positive integer")
    return faults


def result_faults(result: Mapping[str, Any]) -> list[str]:
    """What is wrong with a result's JSON (rule 8): missing keys, types."""
    if missing := sorted(RESULT_KEYS - set(result)):
        return [f"lacks {', '.join(missing)}"]
    expected = {"verb": str, "protocol": str, "notes": list} | dict.fromkeys(
        ("inputs", "options", "values", "intervals", "absent"), dict
    )
    faults = [f"has {key} as {type(result[key]).__name__}" for key, kind in expected.items() if type(result[key]) is not kind]
    if not faults:
        for key, interval in result["intervals"].items():
            ends = [interval.get(end) for end in ("low", "high")] if isinstance(interval, dict) else []
            if not ends or not all(isinstance(end, int | float) for end in ends) or not isinstance(interval.get("kind"), str):
                faults.append(f"has an interval of {key} without low, high and kind")
        faults += [
            f"has inputs.{key} as {type(of).__name__}"
            for key, of in result["inputs"].items()
            if not isinstance(of, dict | None)
        ]
    return faults


def log_table(text: str, checked: bool = True) -> pd.DataFrame:
    """The rows of a `metrics.csv` (rule 4), without a last line that is still being written (it has no newline).

    Raises
    ------
    Gan3dError
        No table with a column `step` or, if `checked`, one that holds text or a row without a step.
    """
    try:
        table = read_table(io.StringIO(text[: text.rfind("\n") + 1]))
    except ValueError as fault:
        raise Gan3dError(f"cannot be read: {str(fault).strip()}; delete such a line, or move it away if it is no log") from None
    if "step" not in table:
        raise Gan3dError(f"no column 'step'; found {', '.join(map(str, table.columns))}; move it away if it is no log")
    if checked and len(table):
        for column in table:
            number = pd.to_numeric(table[column], errors="coerce")
            bad = (number.isna() & (table[column].notna() | (column == "step"))).to_numpy()
            if bad.any():
                at = int(bad.argmax())
                raise Gan3dError(f"line {at + 2}: {column} is {table[column][at]!s:.40}, expected a number; delete that line")
    return table


def is_ours(meta: Mapping[str, Any]) -> bool:
    """Whether a run is a training of gan3d, and so has all that one leaves."""
    return (meta.get("producer") or {}).get("name") == "gan3d" and meta.get("status") != "imported"


def lost_rows(log: pd.DataFrame | None, meta: Mapping[str, Any], checkpoints: Sequence[Path]) -> str:
    """How many rows a log of ours lacks, which has one for every step up to the newest checkpoint's; empty of others' runs."""
    if not is_ours(meta):
        return ""
    steps = set() if log is None else set(pd.to_numeric(log["step"], errors="coerce").dropna())
    newest = max([*(int(path.stem) for path in checkpoints), *steps], default=0)
    missing = newest - len(steps)
    return f"metrics.csv lacks {missing:.0f} of the {newest:.0f} rows of this training, which are lost" if missing > 0 else ""
