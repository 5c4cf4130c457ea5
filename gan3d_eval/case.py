"""A case to judge: a run's samples, the shapes that it was trained on, shapes that it never saw; and the two great questions.

Each question is asked with all that belongs to its answer: result, table and pictures in the run directory.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gan3d_eval.files import Gan3dError
from gan3d_eval.provenance import Result
from gan3d_eval.run_dir import RunDir, RunDirError
from gan3d_eval.training_set import training_set
from gan3d_eval.voxels import VoxelSet

__all__ = ["Case", "check_novelty", "compare_sets", "open_case"]

MOST_LEAKED = 0.2
"""Share of held-out shapes that may stand in training without a word of the user. Of ModelNet10's own split 8 % do, of its
dressers 12 %."""


@dataclasses.dataclass(frozen=True)
class Case:
    """What a verdict on a run is about."""

    run: RunDir
    train: VoxelSet
    test: VoxelSet | None
    own: bool
    """Whether `train` is exactly what the run was trained on."""
    sample_name: str | None = None
    classes: tuple[str, ...] = ()
    """Those of the dataset that were asked for."""
    other_test: bool = False
    """Whether `train` is the run's own, and `test` not what its own dataset holds out."""

    @property
    def suffix(self) -> str:
        """What a result's name ends with: nothing for the run's own data, else the dataset's name, and classes."""
        return "" if self.own and not self.other_test else "-".join([str(self.train.info["name"]), *self.classes])

    @functools.cached_property
    def gen(self) -> VoxelSet:
        """The samples."""
        return self.run.samples(self.sample_name)

    @property
    def probabilities(self) -> NDArray[np.floating] | None:
        """The samples before their threshold, where the file has them."""
        return self.run.probabilities(self.sample_name)


def open_case(
    run_dir: Path, reference: Path | None = None, samples: str | None = None, allow_leak: bool = False,
    classes: Sequence[str] = (),
) -> Case:  # fmt: skip
    """Open a run and the shapes that it is judged against (see `training_set`).

    Raises
    ------
    RunDirError
        More than a fifth of the held-out shapes stand in the training set too. The verbs leave such shapes out and say so;
        but a split with so many of them was not made with care, and what is left may hold near twins. `allow_leak` goes on.
    """
    run = RunDir.open(run_dir)
    train, test, own = training_set(run, reference, classes)
    if test is not None and not allow_leak and (leaked := int(test.stands_in(train).sum())) > MOST_LEAKED * len(test):
        raise RunDirError(
            f"{leaked} of {len(test)} held-out shapes of {train.info['name']} stand in its training set too; `prepare --fix "
            "dedupe` makes a dataset without them, --allow-leak judges this run with them left out"
        )
    return Case(run, train, test, own, samples, tuple(classes), own and reference is not None and _holds_out_other(run, test))


def _holds_out_other(run: RunDir, test: VoxelSet | None) -> bool:
    """Whether the run's own dataset is at hand, and holds out other shapes than `test`."""
    if not run.finds_dataset():
        return False
    try:
        own = training_set(run)[1]
    except Gan3dError:  # it is no longer what it was
        return True
    return (own.sha256 if own else None) != (test.sha256 if test else None)


def check_novelty(case: Case, say: Callable[[str], None], **options: Any) -> tuple[Result, Path]:
    """Does it copy? `nn_check` with its options; writes result, rows and, where something can be drawn, pictures."""
    from gan3d_eval.nn_check import nn_check
    from gan3d_eval.nn_pictures import draw
    from gan3d_eval.render import RenderError

    gen = case.gen
    say(f"looking among {len(case.train):,} training shapes for the nearest of {len(gen):,} samples, and of held-out shapes …")
    result, rows = nn_check(case.train, case.test, gen, probabilities=case.probabilities, **options)
    if not case.own:
        name = case.train.info["name"]
        result.notes.append(
            f"Dataset {name} is not known to be what the run was trained on: of other shapes no copies can be seen."
        )
    raw = "raw" if options.get("raw") else ""  # beside the whole check's, not over it
    path = case.run.write_result(result, rows, "-".join(filter(None, (case.suffix, raw))))
    try:
        draw(case.run, case.train, gen, rows, path.stem)
    except RenderError as fault:
        say(f"warning: no pictures: {fault}")
    return result, path


def compare_sets(case: Case, say: Callable[[str], None], **options: Any) -> tuple[Result, Path]:
    """Is it real? `compare` with its options; writes result, rows and figure."""
    from gan3d_eval.compare import compare, draw

    say(f"{case.run.path}: comparing {len(case.gen):,} samples, real shapes, their mean and noise with held-out shapes …")
    result, rows = compare(case.train, case.test, case.gen, **options)
    path = case.run.write_result(result, rows, case.suffix)
    draw(case.run, rows, path.stem)
    return result, path
