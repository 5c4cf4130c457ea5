"""A study: a question, cells (each some options of `train`), seeds → runs, one CSV, one figure, and the table of its page.

It uses the toolkit as a user would, through the command line: every training is a process of its own, is resumed if it was
cut off, is judged by `curves`, `nn-check` and `compare` when it has ended, and is left alone once that is done.
"""

from __future__ import annotations

import dataclasses
import math
import os
import subprocess
import sys
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd

from gan3d_eval.files import Gan3dError, atomic_file
from gan3d_eval.plotting import GENERATED, REAL, figure
from gan3d_eval.run_dir import RunDir
from gan3d_eval.voxels import VoxelSet

__all__ = ["SCALES", "Cell", "Scale", "Study", "collect", "fill_page", "markdown", "publish", "run"]

ROOT = Path(__file__).parents[1]
VERBS = ("curves", "nn-check", "compare")
COLUMNS = {  # of the CSV: result and key
    "steps": ("curves", "steps"),
    "seconds_per_epoch": ("curves", "seconds_per_epoch"),
    "d_updated_share": ("curves", "d_updated_share"),
    "exact_copies": ("nn-check", "exact_copies"),
    "a_far": ("nn-check", "a_far"),
    "flagged_share": ("nn-check", "flagged_share"),
    "n": ("compare", "n"),
    "valid": ("compare", "valid"),
    "empty": ("compare", "empty"),
    "coverage_l1": ("compare", "coverage_l1"),
    "coverage_l1_real": ("compare", "coverage_l1/real"),
    "one_nna_l1": ("compare", "one_nna_l1"),
    "one_nna_l1_real": ("compare", "one_nna_l1/real"),
    "mmd_jaccard": ("compare", "mmd_jaccard"),
    "mmd_jaccard_real": ("compare", "mmd_jaccard/real"),
    "ks_components": ("compare", "ks_components"),
}
TABLE = {  # of the page: column, heading, format
    "valid": ("valid volume", "{:.3f}"),
    "empty": ("empty", "{:.3f}"),
    "coverage_ratio": ("COV ÷ real", "{:.2f}"),
    "one_nna_l1": ("1-NNA", "{:.2f}"),
    "one_nna_l1_real": ("… of real", "{:.2f}"),
    "a_far": ("A", "{:.2f}"),
    "d_updated_share": ("D learned in", "{:.2f}"),
}


@dataclasses.dataclass(frozen=True)
class Scale:
    """How large the trainings of a study are."""

    base_channels: int
    seen: int
    """Shapes that D sees in a training. Epochs follow from the size of the training set, so that all train equally long."""
    seeds: int
    n_samples: int
    options: tuple[str, ...] = ()
    """Further options of `train`."""


SCALES = {
    "smoke": Scale(base_channels=4, seen=200, seeds=1, n_samples=40, options=("--batch-size", "8")),
    "cpu": Scale(base_channels=16, seen=40_000, seeds=3, n_samples=1000),
    "gpu": Scale(base_channels=64, seen=60_000, seeds=3, n_samples=1000),
    "paper": Scale(base_channels=64, seen=500_000, seeds=5, n_samples=1000),
}


@dataclasses.dataclass(frozen=True)
class Cell:
    """One configuration: a class, a recipe, and options of `train` beyond them."""

    category: str
    recipe: str
    options: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Study:
    """A question and the cells whose runs answer it."""

    name: str
    question: str
    cells: dict[str, Cell]

    def only(self, labels: Collection[str]) -> Study:
        """The study with these cells alone, or with all if none is named."""
        if unknown := sorted(set(labels) - set(self.cells)):
            raise Gan3dError(f"{self.name} has no cell {', '.join(unknown)}; there are {', '.join(self.cells)}")
        return dataclasses.replace(self, cells={k: v for k, v in self.cells.items() if not labels or k in labels})

    def path(self, out: Path, scale: str, label: str, seed: int) -> Path:
        """The run directory of one training."""
        return out / self.name / scale / f"{label}-s{seed}"


def run(
    study: Study, dataset: Path, scale: str, out: Path, jobs: int, say: Callable[[str], None], seeds: int | None = None
) -> None:
    """Train and judge what is not there yet, `jobs` trainings at a time; Gan3dError if one fails, after all have ended."""
    shapes = VoxelSet.open(dataset)
    pairs = [(label, seed) for seed in range(seeds or SCALES[scale].seeds) for label in study.cells]
    threads = max(1, (os.cpu_count() or 1) // jobs)

    def one(pair: tuple[str, int]) -> str:
        label, seed = pair
        cell, path = study.cells[label], study.path(out, scale, label, seed)
        n = len(shapes.select([cell.category], "train"))
        say(f"{study.name} {scale}: {label}, seed {seed}")
        return _train_and_judge(command_of(cell, SCALES[scale], seed, n, dataset, path), path, dataset, threads)

    with ThreadPoolExecutor(jobs) as pool:
        faults = [
            f"{label}-s{seed}: {fault}" for (label, seed), fault in zip(pairs, pool.map(one, pairs), strict=True) if fault
        ]
    if faults:
        raise Gan3dError(f"{len(faults)} of {len(pairs)} trainings failed: " + "; ".join(faults))


def command_of(cell: Cell, scale: Scale, seed: int, n: int, dataset: Path, path: Path) -> list[str]:
    """Arguments of the `train` that makes a run on n shapes."""
    epochs = math.ceil(scale.seen / n)
    every = str(max(1, epochs // 10))
    return [
        "train", str(dataset), "--class", cell.category, "--recipe", cell.recipe, "--base-channels", str(scale.base_channels),
        "--epochs", str(epochs), "--n-samples", str(scale.n_samples), "--checkpoint-every", every, "--sample-every", every,
        "--keep", "1", "--seed", str(seed), *scale.options, *cell.options, "--out", str(path),
    ]  # fmt: skip


def _train_and_judge(command: list[str], path: Path, dataset: Path, threads: int) -> str:
    """Bring one run to its end; the reason if that fails."""
    fault, missing = "", list(VERBS)
    if not path.exists():
        fault = _cli(command, threads)
    elif RunDir.open(path).meta["status"] != "finished":
        fault = _cli(["train", str(dataset), "--resume", str(path)], threads)
    else:
        missing = [verb for verb in VERBS if not (path / "results" / f"{verb}.json").exists()]
    for verb in missing:
        fault = fault or _cli([verb, str(path)], threads)
    return fault


def _cli(arguments: list[str], threads: int) -> str:
    """Run a command of the toolkit; its last line of stderr if it fails."""
    env = os.environ | {"OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, str(ROOT / "cli.py"), *arguments], capture_output=True, text=True, env=env, check=False
    )
    return "" if done.returncode == 0 else (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]


def collect(study: Study, scale: str, out: Path) -> pd.DataFrame:
    """One row a run that has been judged: cell, seed, failures that were detected, and `COLUMNS`."""
    rows: list[dict[str, Any]] = []
    for label in study.cells:
        for path in sorted((out / study.name / scale).glob(f"{label}-s[0-9]*")):
            opened = RunDir.open(path)
            found, meta = opened.results(), opened.meta
            if not set(VERBS) <= set(found):
                continue
            values = {column: found[verb]["values"].get(key) for column, (verb, key) in COLUMNS.items()}
            names = " ".join(failure["name"] for failure in meta.get("failures", []))
            rows.append({"cell": label, "seed": meta["seed"], "n_train": meta["dataset"]["n"], "failures": names, **values})
    if not rows:
        raise Gan3dError(f"{out / study.name / scale} holds no judged run; make some with: study run {study.name} DATASET")
    return pd.DataFrame(rows)


def markdown(rows: pd.DataFrame) -> str:
    """The table of a study's page: each cell's mean over seeds with the smallest and the largest value."""
    rows = rows.assign(coverage_ratio=rows["coverage_l1"] / rows["coverage_l1_real"])
    lines = ["| | runs | " + " | ".join(heading for heading, _ in TABLE.values()) + " | failures detected |"]
    lines.append("|---" * (len(TABLE) + 3) + "|")
    for label, part in rows.groupby("cell", sort=False):
        cells = [_range(part[column].dropna(), form) for column, (_, form) in TABLE.items()]
        names = [name for names in part["failures"].dropna() for name in str(names).split()]
        failures = ", ".join(f"{name} ({names.count(name)})" for name in dict.fromkeys(names)) or "none"
        lines.append(f"| {label} | {len(part)} | " + " | ".join(cells) + f" | {failures} |")
    return "\n".join(lines)


def _range(values: pd.Series[Any], form: str) -> str:
    if values.empty:
        return "–"
    mean, low, high = (form.format(value) for value in (values.mean(), values.min(), values.max()))
    return mean if low == high else f"{mean} [{low}, {high}]"


def fill_page(page: Path, scale: str, table: str) -> None:
    """Put `table` between the page's marks for `scale`; Gan3dError if it has none."""
    text, begin, end = page.read_text(encoding="utf-8"), f"<!-- {scale} -->\n", f"<!-- end {scale} -->"
    if begin not in text or end not in text:
        raise Gan3dError(f"{page} has no place for the table: expected {begin.strip()} and {end.strip()}")
    before, rest = text.split(begin, 1)
    with atomic_file(page) as temporary:
        temporary.write_text(before + begin + table + "\n" + end + rest.split(end, 1)[1], encoding="utf-8")


def draw(rows: pd.DataFrame, path: Path) -> None:
    """Coverage and 1-NNA of every run, beside those of real shapes."""
    cells = list(dict.fromkeys(rows["cell"]))[::-1]
    at = rows["cell"].map(cells.index)
    with figure(path, 1, 2, 11, 0.9 + 0.34 * len(cells)) as axes:
        for axis, (column, title) in zip(axes, (("coverage_l1", "COV, L1: high"), ("one_nna_l1", "1-NNA, L1: ½")), strict=True):
            axis.plot(rows[f"{column}_real"], at, "|", color=REAL, markersize=14, markeredgewidth=2, label="real shapes")
            axis.plot(rows[column], at, "o", color=GENERATED, alpha=0.75, label="generated, one run each")
            axis.set_yticks(range(len(cells)), cells if axis is axes[0] else [""] * len(cells))
            axis.set_ylim(-0.6, len(cells) - 0.4)
            axis.set_xlim(0, 1)
            axis.set_title(title, loc="left")
        axes[1].axvline(0.5, color=REAL, linestyle=":", linewidth=1)
        axes[1].legend(frameon=False, fontsize="small", loc="lower left")


def publish(study: Study, scale: str, out: Path) -> list[Path]:
    """Collect the runs into `studies/results/<name>-<scale>.csv` and `.png`, and into the study's page."""
    rows = collect(study, scale, out)
    table = ROOT / "studies" / "results" / f"{study.name}-{scale}.csv"
    with atomic_file(table) as temporary:
        rows.to_csv(temporary, index=False, lineterminator="\n", float_format="%.6g")
    draw(rows, table.with_suffix(".png"))
    page = ROOT / "studies" / f"{study.name}.md"
    fill_page(page, scale, markdown(pd.read_csv(table)))
    return [table, table.with_suffix(".png"), page]
