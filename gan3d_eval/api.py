"""The verdict from Python: `gan3d_eval.judge(train, test, gen)`, to be printed or written as a run directory.

Thin: `nn_check` says whether the samples are copies, `compare` whether they are real and all of it. Both can be called
themselves, with more options, on `VoxelSet.from_grids(…)`.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias, TypeGuard

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gan3d_eval import compare as comparison
from gan3d_eval.compare import compare
from gan3d_eval.embedding import Embedding
from gan3d_eval.foreign import Found, as_batch
from gan3d_eval.foreign_shapes import shapes_of
from gan3d_eval.import_run import gather
from gan3d_eval.nn_check import nn_check
from gan3d_eval.orientation import AS_THEY_LIE, SOME, by_training_set, given
from gan3d_eval.provenance import Result, around, dataset_record, imported_record
from gan3d_eval.run_dir import RunDir, RunDirError
from gan3d_eval.voxels import VoxelError, VoxelSet

__all__ = ["Grids", "Judgement", "judge"]

Grids: TypeAlias = "VoxelSet | NDArray[np.generic] | Path | str"
"""A `VoxelSet`; an array `(n, d, d, d)` in any encoding that `import-run` knows; a file of such; a dataset directory."""
NO_TEST = "no held-out shapes were given: name them as `test` (a dataset directory twice, for either split)"
SHOWN = {
    "exact_copies": "exact copies",
    "flagged_share": "share flagged, L1 (5 % expected)",
    "a_far": "A, L1 (½: an honest sampler)",
}
MEASURES = {
    "one_nna_gen_l1": "1-NNA on samples, L1 (½: like real)",
    "one_nna_ref_l1": "1-NNA on held-out shapes, L1 (½)",
    "coverage_l1": "COV, L1",
    "mmd_jaccard": "MMD, Jaccard",
    "valid": "valid share",
}


@dataclasses.dataclass(frozen=True)
class Judgement:
    """What `judge` found.

    Attributes
    ----------
    gen : VoxelSet
        The samples, laid as the training shapes are.
    novelty, realism : Result
        Of `nn_check` and of `compare`, with `values`, `intervals` and `notes`; `realism` is None where `why_not` says.
    samples, measures : DataFrame
        A row per shape, and a row per set and measure.
    notes : list of str
        What else should be known.
    """

    gen: VoxelSet
    novelty: Result
    samples: pd.DataFrame
    realism: Result | None
    measures: pd.DataFrame | None
    why_not: str
    notes: list[str]
    dataset: tuple[Path, tuple[str, ...]] | None = None
    """The dataset directory that `train` named, and the classes that were chosen from it."""

    @property
    def verdict(self) -> str:
        """`copying`, `no-evidence-of-copying`, `far-from-data` or `undecided`."""
        return str(self.novelty.values["verdict"])

    def __str__(self) -> str:
        """The verdict, the main values with their intervals, and what was found with them."""
        known, unseen = self.novelty.inputs["train"], self.novelty.inputs["test"]
        lines = [f"{'verdict':40} {self.verdict}"]
        lines += [f"{'beside training, held-out shapes':40} {known['n']}, {unseen['n'] if unseen else 'none'}"]
        for result, names in ((self.novelty, SHOWN), (self.realism, MEASURES)):
            for key, label in names.items() if result else ():
                lines += _line(result, key, label)
        lines += [f"{'comparison':40} none: {self.why_not}"] if self.why_not else []
        notes = [*self.notes, *self.novelty.notes, *(self.realism.notes if self.realism else [])]
        return "\n".join([*lines, *(f"note: {note}" for note in dict.fromkeys(notes))])  # nn_check and compare share some

    def write(self, path: Path | str) -> RunDir:
        """Make a run directory with samples, results and figures, that `report` and every verb can read.

        Where `train` was a dataset directory the run names it, and the verbs judge it by that.
        """
        record = None
        if self.dataset:
            folder, classes = self.dataset
            train = VoxelSet.open(folder).select(classes, "train")
            record = dataset_record(Path(path), train, folder, list(classes))
        meta = imported_record("judged", self.gen.resolution, "Python", self.notes, sys.argv, dataset=record)
        run = RunDir.create(Path(path), meta)
        run.write_samples("final", occupancy=np.asarray(self.gen.packed), names=np.array(self.gen.names))
        run.write_result(self.novelty, self.samples)
        if self.realism and self.measures is not None:
            run.write_result(self.realism, self.measures)
            comparison.draw(run, self.measures)
        return run


def judge(
    train: Grids, test: Grids | None, gen: Grids, *, threshold: float = 0.5, axes: str | None = None, seed: int = 0,
    features: Embedding | None = None, classes: Sequence[str] = (),
) -> Judgement:  # fmt: skip
    """Judge generated shapes: are they copies of `train`, and are they like `test`?

    Parameters
    ----------
    train : Grids
        Exactly the shapes that the generator was trained on.
    test : Grids or None
        Shapes of the same kind that it never saw; without them nothing is said about realism. A dataset directory
        gives its test split, and as `train` its train split, so that both may name the same.
    gen : Grids
        Generated shapes at the same resolution; of fewer than 10 nothing is said about realism; better are 1000.
    threshold : float
        Probabilities above it are occupied.
    axes : str, optional
        How `gen` lies beside `train`: `xyz` as it does, `xz-y`, … If None that is found from the shapes, and said.
    seed : int
        Of all draws.
    features : Embedding, optional
        A network's features, for further measures (`gan3d_eval.embedding`).
    classes : sequence of str, optional
        Of dataset directories: those that the generator was trained on. Empty takes all; of other grids none can be chosen.

    Returns
    -------
    Judgement

    Raises
    ------
    Gan3dError
        Grids of different resolutions, that are none, or that are all empty where they should be training shapes; classes
        of no dataset directory, or that it does not have.
    """
    if classes and not (_is_dataset(train) or _is_dataset(test)):
        raise VoxelError("`classes` chooses from a dataset directory, and neither `train` nor `test` is one; leave it out")
    known = _set(train, "train", threshold, classes).without_empty()
    if not len(known):
        raise VoxelError("the training shapes are all empty; nothing can be judged against them")
    unseen = None if test is None else _set(test, "test", threshold, classes).without_empty()
    samples, notes = _laid(_set(gen, "test", threshold), known, axes, seed)
    novelty, rows = nn_check(known, unseen, samples, seed=seed, embed=features)
    realism, measures, why_not = None, None, NO_TEST if unseen is None else ""
    try:
        if unseen is not None:
            realism, measures = compare(known, unseen, samples, seed=seed, embed=features)
    except VoxelError as fault:
        why_not = str(fault)
    named = (Path(train), tuple(classes)) if _is_dataset(train) else None
    return Judgement(samples, novelty, rows, realism, measures, why_not, notes, named)


def _is_dataset(grids: Grids | None) -> TypeGuard[Path | str]:
    return isinstance(grids, str | Path) and (Path(grids) / "dataset.json").is_file()


def _set(grids: Grids, split: str, threshold: float, classes: Sequence[str] = ()) -> VoxelSet:
    """Grids in any of the forms that are taken."""
    if isinstance(grids, VoxelSet):
        return grids
    if isinstance(grids, str | Path):
        path = Path(grids)
        if _is_dataset(path):
            shapes = VoxelSet.open(path)
            return shapes.select(classes, shapes.held_out if split == "test" else split)
        found = gather(path, threshold=threshold, axes="xyz").shapes
        if found is None:
            raise RunDirError(f"{path} holds no shapes")
        return VoxelSet.from_grids(found.occupied, found.names)
    batch = as_batch(np.asarray(grids))
    if batch is None:
        raise VoxelError(f"array of shape {np.shape(grids)} is no batch of cubic grids; expected (n, d, d, d)")
    return VoxelSet.from_grids(shapes_of(Found({"": batch}), threshold, Path("array")).occupied)


def _laid(samples: VoxelSet, train: VoxelSet, axes: str | None, seed: int) -> tuple[VoxelSet, list[str]]:
    """Samples as the training shapes lie, and what to say of it."""
    lie = given(axes, None) if axes else by_training_set(samples.grids(slice(SOME)), train, seed)
    if not lie.decided:
        return samples, [
            f"whether the samples lie as the training set does is not known: {lie.evidence}; they are judged as they "
            "lie. `axes` says it; or are they of other `classes`?"
        ]
    if lie.pose == AS_THEY_LIE:
        return samples, []
    turned = VoxelSet.from_grids(np.ascontiguousarray(lie.pose(samples.grids())), samples.names)
    return turned, [f"the samples were turned, axes {lie.pose}: {lie.evidence}"]


def _line(result: Result | None, key: str, label: str) -> list[str]:
    """A value with its interval, and what real shapes have, as far as these are there."""
    if result is None or key not in result.values:
        return []
    value, interval = result.values[key], around(result.intervals.get(key))
    real = f", real shapes {result.values[f'{key}/real']:.3g}" if f"{key}/real" in result.values else ""
    return [f"{label:40} {value:.3g}{interval}{real}"]
