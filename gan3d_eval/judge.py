"""A case to judge: a run's samples, the shapes that it was trained on, shapes that it never saw; opened once for every verb."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gan3d_eval.run_dir import RunDir, RunDirError
from gan3d_eval.voxels import VoxelSet

__all__ = ["Case", "open_case"]

MOST_LEAKED = 0.1
"""Share of held-out shapes that may stand in training without a word of the user: ModelNet10's own split has 9 %."""


@dataclasses.dataclass(frozen=True)
class Case:
    """What a verdict on a run is about."""

    run: RunDir
    train: VoxelSet
    test: VoxelSet | None
    own: bool
    """Whether `train` is exactly what the run was trained on."""
    sample_name: str | None = None

    @property
    def suffix(self) -> str:
        """What a result's name ends with: nothing for the run's own data, else the dataset's name."""
        return "" if self.own else str(self.train.info["name"])

    @property
    def gen(self) -> VoxelSet:
        """The samples."""
        return self.run.samples(self.sample_name)

    @property
    def probabilities(self) -> NDArray[np.floating] | None:
        """The samples before their threshold, where the file has them."""
        return self.run.probabilities(self.sample_name)


def open_case(run_dir: Path, reference: Path | None = None, samples: str | None = None, allow_leak: bool = False) -> Case:
    """Open a run and the shapes that it is judged against (see `RunDir.training_set`).

    Raises
    ------
    RunDirError
        More than a tenth of the held-out shapes stand in the training set too. The verbs leave such shapes out and say so;
        but a split with so many of them was not made with care, and what is left may hold near twins. `allow_leak` goes on.
    """
    run = RunDir.open(run_dir)
    train, test, own = run.training_set(reference)
    leaked = int(test.stands_in(train).sum()) if test is not None else 0
    if test is not None and leaked > MOST_LEAKED * len(test) and not allow_leak:
        raise RunDirError(
            f"{leaked} of {len(test)} held-out shapes of {train.info['name']} stand in its training set too; `prepare --fix "
            "dedupe` makes a dataset without them, --allow-leak judges this run with them left out"
        )
    return Case(run, train, test, own, samples)
