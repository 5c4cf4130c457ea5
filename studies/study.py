"""A study as it is declared: a question, cells (each some options of `train`), seeds, and what its table shows.

`runner` makes what a study declares, through the command line, as a user would; `tables` collects it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Literal

from gan3d_eval.files import Gan3dError

__all__ = ["BOTH", "COMPARED", "MEASURES", "SCALES", "SMALL", "VERBS", "Cell", "Column", "Measure", "Scale", "Study", "Task"]

Column = tuple[str, str]
"""Of the CSV: a result's name and a key of its values."""


@dataclasses.dataclass(frozen=True)
class Scale:
    """How large the runs of a study are."""

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
SMALL = Scale(base_channels=8, seen=20_000, seeds=3, n_samples=1000)
"""`cpu` of studies with many cells: minutes a run on one core."""
BOTH = {"": "slides", "-stable": "stable"}
"""End of a cell's label → recipe, for what is asked under the slides' recipe and under one whose trainings do not die."""


@dataclasses.dataclass(frozen=True)
class Cell:
    """One configuration."""

    category: str = ""
    """Class of the data set; empty takes all."""
    recipe: str = "slides"
    options: tuple[str, ...] = ()
    """Of `train`, over the scale's and the recipe's; of a study that trains nothing, what its `make` takes."""
    data: str = ""
    """Data set that the study's `data` makes; empty takes the one that the study is run on."""
    against: str = ""
    """Cell that this one is compared with, seed by seed; empty compares with none."""
    width: float = 1.0
    """Of both players, as a multiple of the scale's."""
    length: float = 1.0
    """Of the training, as a multiple of the scale's."""


@dataclasses.dataclass(frozen=True)
class Measure:
    """A column of a page's table."""

    heading: str
    of: str
    """A column of the CSV, or an expression over columns (`DataFrame.eval`)."""
    form: str = "{:.2f}"
    better: Literal["high", "low", ""] = ""
    """Main measures say which way is better; these are compared with those of the cell in `Cell.against`."""


VERBS: dict[str, tuple[str, ...]] = {"curves": ("curves",), "nn-check": ("nn-check",), "compare": ("compare",)}
"""What judges a training: name of the result → verb and its options, in which `{dataset}` and `{data}` are paths."""
COMPARED: dict[str, Column] = {
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
MEASURES = (
    Measure("valid volume", "valid", "{:.3f}"),
    Measure("empty", "empty", "{:.3f}"),
    Measure("COV ÷ real", "coverage_l1 / coverage_l1_real", "{:.2f}", "high"),
    Measure("1-NNA", "one_nna_l1"),
    Measure("… of real", "one_nna_l1_real"),
    Measure("1-NNA off real", "abs(one_nna_l1 - one_nna_l1_real)", "{:.2f}", "low"),
    Measure("A", "a_far"),
    Measure("D learned in", "d_updated_share"),
)


@dataclasses.dataclass(frozen=True)
class Task:
    """One cell with one seed."""

    study: Study
    label: str
    seed: int
    scale: str
    dataset: Path | None
    out: Path

    @property
    def cell(self) -> Cell:
        """What is run."""
        return self.study.cells[self.label]

    @property
    def path(self) -> Path:
        """Where it is run: a run directory, or at least one with `results/`."""
        return self.study.folder(self.out, self.scale) / f"{self.label}-s{self.seed}"

    @property
    def data(self) -> Path:
        """Folder of the data sets that the study makes for this seed."""
        return self.study.folder(self.out, self.scale) / "data" / f"s{self.seed}"

    @property
    def source(self) -> Path:
        """The data set of this cell."""
        return self.data / self.cell.data if self.cell.data else self.given

    @property
    def given(self) -> Path:
        """The data set that the study is run on; Gan3dError if there is none."""
        if self.dataset is None:
            raise Gan3dError(f"{self.study.name} needs a data set: python cli.py study run {self.study.name} DATASET")
        return self.dataset

    def done(self) -> bool:
        """Whether all its results are there."""
        return all((self.path / "results" / f"{name}.json").exists() for name in self.study.verbs)


@dataclasses.dataclass(frozen=True)
class Study:
    """A question and the cells whose runs answer it."""

    name: str
    question: str
    cells: Mapping[str, Cell]
    verbs: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=lambda: VERBS)
    columns: Mapping[str, Column] = dataclasses.field(default_factory=lambda: COMPARED)
    measures: tuple[Measure, ...] = MEASURES
    scales: Mapping[str, Scale] = dataclasses.field(default_factory=dict)
    """Scales that differ from the usual ones."""
    data: Callable[[Task], None] | None = None
    """Makes what is missing of what the cells of a seed share, below `Task.data`: the data sets that they name."""
    own_data: bool = False
    """Whether these are all its data: then it is run on none."""
    make: Callable[[Task], None] | None = None
    """Writes the results of a cell itself: such a study trains nothing."""

    def only(self, labels: Collection[str]) -> Study:
        """The study with these cells alone, or with all if none is named."""
        if unknown := sorted(set(labels) - set(self.cells)):
            raise Gan3dError(f"{self.name} has no cell {', '.join(unknown)}; there are {', '.join(self.cells)}")
        return dataclasses.replace(self, cells={k: v for k, v in self.cells.items() if not labels or k in labels})

    def scale(self, name: str) -> Scale:
        """Return the scale of that name, as it is for this study."""
        return self.scales.get(name, SCALES[name])

    def folder(self, out: Path, scale: str) -> Path:
        """Where its runs and data sets are."""
        return out / self.name / scale

    def tasks(self, scale: str, dataset: Path | None, out: Path, seeds: int | None = None) -> list[Task]:
        """Every cell with every seed, seed after seed, so that a study that is cut off has whole rows of cells."""
        count = range(seeds or self.scale(scale).seeds)
        return [Task(self, label, seed, scale, dataset, out) for seed in count for label in self.cells]
