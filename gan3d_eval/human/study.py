"""Which shapes a study shows, and under which settings: fixed before the first rater, hashed, and stored with the answers.

Two designs. `yes-no`: one shape at a time, "real or generated?", half of them held-out shapes. `2afc`: two shapes side by
side, "which looks more real?", each from another run, or one from the held-out shapes. Real and generated shapes are binary
grids of one resolution, drawn by the same code in the same colour; nothing is smoothed, cleaned or picked by hand.

Attention checks are of two kinds, because a rater who always presses the same key must fail one of them: *noise* (as many
voxels as a shape has, scattered over the grid), which nobody who looks calls real, and *examples*, real shapes that the
welcome page has shown as such. A repeated item is no check here: who cannot tell real from generated disagrees with himself,
and to exclude him would raise the apparent skill of those who stay.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gan3d_eval.case import Case
from gan3d_eval.files import Gan3dError, content_hash
from gan3d_eval.run_dir import RunDir
from gan3d_eval.voxels import VoxelSet, unpack

__all__ = ["CHECKS", "DATA", "DESIGNS", "EXAMPLE", "NOISE", "TOLERATED", "Study", "StudyError", "design_study", "run_name"]

DESIGNS = ("yes-no", "2afc")
DATA, EXAMPLE, NOISE = "data", "example", "noise"
CHECKS = 6
"""Attention checks a rater: who guesses passes (at most `TOLERATED` wrong) with 7/64."""
TOLERATED = 1
KINDS = 3  # examples, and shapes of noise
CONSENT = (
    "I take part of my own free will and may stop at any time. I agree that my answers, the time that each one takes, and "
    "the name that I give, if any, are stored and evaluated."
)


class StudyError(Gan3dError):
    """A study that cannot be made, opened or counted."""


@dataclasses.dataclass(frozen=True)
class Study:
    """Settings and shapes of a study.

    Attributes
    ----------
    settings : dict
        All that answers depend on, as plain JSON; a database takes answers under one of it only.
    items : DataFrame
        source (a run's id, `data`, `example`, `noise`), name, sha256; the index is the item's number.
    packed : (n, ⌈d³/8⌉) uint8
        The items' grids.
    """

    settings: dict[str, Any]
    items: pd.DataFrame
    packed: NDArray[np.uint8]

    def rows(self, source: str) -> NDArray[np.int64]:
        """Numbers of the items of a source."""
        return np.flatnonzero((self.items["source"] == source).to_numpy())

    @functools.cached_property
    def groups(self) -> dict[str, tuple[tuple[int, ...], ...]]:
        """What is shown together, by kind of trial: single shapes of each source, or pairs of each two sources.

        Pairs are fixed, so that several raters answer the same one: the i-th shape of one beside the i-th of the other.
        """
        sources = [*self.settings["runs"], *([DATA] if self.settings["data"]["shown"] else [])]
        if self.settings["design"] == "yes-no":
            return {source: tuple((int(row),) for row in self.rows(source)) for source in sources}
        return {
            f"{a} | {b}": tuple((int(x), int(y)) for x, y in zip(self.rows(a), self.rows(b), strict=False))
            for a, b in itertools.combinations(sources, 2)
        }

    def shares(self, number: int) -> list[int]:
        """How many answers of rater `number` go to each group: half to real shapes (`yes-no`), the rest evenly.

        What is left over goes to other groups for every next rater.
        """
        answers, real = self.settings["answers"], self.settings["answers"] // 2 if DATA in self.groups else 0
        others = [name for name in self.groups if name != DATA]
        each, rest = divmod(answers - real, len(others))
        given = {name: each + ((i - number) % len(others) < rest) for i, name in enumerate(others)} | {DATA: real}
        return [given[name] for name in self.groups]


def design_study(
    cases: Sequence[Case], design: str, answers: int = 40, shapes: int = 100, with_data: bool = True, seed: int = 0,
    consent: str = CONSENT,
) -> Study:  # fmt: skip
    """Draw the shapes of a study of the samples of `cases`, the same for the same seed.

    Parameters
    ----------
    cases : sequence of Case
        Runs that are judged against the same held-out shapes. Of these, those that stand in a training set are left out.
    design : str
        One of `DESIGNS`.
    answers : int
        Shapes (pairs, in `2afc`) that each rater judges, besides `CHECKS` attention checks.
    shapes : int
        Shapes of each source that are drawn at random, without replacement; all, where there are fewer. Empty samples are
        not drawn: there is nothing to see. Their number is kept.
    with_data : bool
        Whether real shapes compete in `2afc`; `yes-no` always shows them.

    Raises
    ------
    StudyError
        A run without samples or held-out shapes, runs of other data or resolutions, too few shapes for so many answers.
    """
    real, leaked = _held_out(cases)
    with_data = with_data or design == "yes-no"
    if len(cases) + with_data < 2:
        raise StudyError("2afc compares two: pass several runs, or let the data compete (--data)")
    order = np.random.default_rng([seed, 1, 0]).permutation(len(real))
    sets = {EXAMPLE: real.take(np.sort(order[:KINDS])), NOISE: _noise(real, seed)}
    if with_data:
        sets[DATA] = real.take(np.sort(order[KINDS : KINDS + shapes]))
    facts: dict[str, Any] = {}
    for number, case in enumerate(cases):
        name = run_name(case.run)
        if name in facts:
            raise StudyError(f"two of the runs are called {name}; a study needs different ones")
        sets[name], facts[name] = _drawn(case, shapes, np.random.default_rng([seed, 2, number]))
    items = pd.concat([_facts(source, part) for source, part in sets.items()], ignore_index=True)
    category = ", ".join(dict.fromkeys(str(case.run.meta["category"]) for case in cases))
    settings = {
        "design": design, "seed": seed, "answers": answers, "category": category,
        "resolution": real.resolution, "consent": consent, "runs": facts,
        "data": {"name": str(real.info.get("name", "")), "sha256": real.sha256, "n": len(real), "in_training": leaked,
                 "shown": with_data},
        "checks": {"number": CHECKS, "tolerated": TOLERATED},
        "items": {"n": len(items), "sha256": content_hash(np.array([s.encode() for s in items["source"] + items["sha256"]]))},
    }  # fmt: skip
    study = Study(settings, items, np.concatenate([part.packed for part in sets.values()]))
    _check_size(study)
    return study


def _held_out(cases: Sequence[Case]) -> tuple[VoxelSet, int]:
    """The held-out shapes that stand in no training set, each once, and how many did; StudyError if runs differ in them."""
    first, real = cases[0], cases[0].test
    for case in cases:
        name = case.train.info["name"]
        if case.test is None or real is None:
            raise StudyError(
                f"{case.run.path}: its dataset {name} has no held-out (test) shapes to show as real ones; pass --reference "
                "DATASET_DIR of one that has"
            )
        if case.gen.resolution != first.gen.resolution:
            raise StudyError(
                f"{case.run.path} has resolution {case.gen.resolution}, {first.run.path} has {first.gen.resolution}; "
                "raters would see that, so a study shows one resolution only"
            )
        if case.test.sha256 != real.sha256:
            raise StudyError(
                f"{case.run.path} and {first.run.path} have different held-out shapes (of {name}, "
                f"{first.train.info['name']}); pass --reference DATASET_DIR to show those of one dataset"
            )
    if real is None:
        raise StudyError("no runs to study")
    leaked = np.any([real.stands_in(case.train) for case in cases], axis=0)
    fresh = real.take(~leaked)
    once = np.unique(fresh.firsts())
    if len(once) <= KINDS:
        raise StudyError(f"{len(once)} different held-out shapes stand in no training set; more than {KINDS} are needed")
    return fresh.take(once), int(leaked.sum())


def _drawn(case: Case, shapes: int, random: np.random.Generator) -> tuple[VoxelSet, dict[str, Any]]:
    """Some samples of a run that are not empty, and what the settings say of them."""
    full = case.gen.without_empty()
    if not len(full):
        raise StudyError(f"{case.run.path}: all {len(case.gen)} samples are empty; there is nothing to show")
    rows = random.permutation(len(full))[:shapes]
    threshold = case.gen.info.get("threshold", (case.run.meta["grid"] or {}).get("threshold"))
    return full.take(rows), {
        "samples": case.gen.identity(), "empty": len(case.gen) - len(full), "shown": len(rows), "threshold": threshold,
    }  # fmt: skip


def _noise(real: VoxelSet, seed: int) -> VoxelSet:
    """Shapes whose voxels are scattered over the grid, as many as the median shape has."""
    random, d = np.random.default_rng([seed, 3, 0]), real.resolution
    voxels = np.arange(d**3) < np.median(real.volume)
    return VoxelSet.from_grids(np.stack([random.permutation(voxels).reshape(d, d, d) for _ in range(KINDS)]))


def run_name(run: RunDir) -> str:
    """A run's id as a study's source: without the marks that separate names in results, and never that of another source."""
    name = str(run.meta["run_id"]).replace("/", "-").replace("|", "-")
    return f"run-{name}" if name in {DATA, EXAMPLE, NOISE} else name


def _facts(source: str, shapes: VoxelSet) -> pd.DataFrame:
    hashes = [content_hash(row) for row in unpack(shapes.packed, shapes.resolution)]
    return pd.DataFrame({"source": source, "name": shapes.names, "sha256": hashes})


def _check_size(study: Study) -> None:
    """StudyError if a rater would see a shape twice, or nothing of a run."""
    answers, groups = study.settings["answers"], study.groups
    if answers < len(groups):
        raise StudyError(f"{answers} answers a rater are too few for {len(groups)} kinds of trials; ask for more (-n)")
    most = np.max([study.shares(number) for number in range(len(groups))], axis=0)
    for (name, units), share in zip(groups.items(), most, strict=True):
        if share > len(units):
            raise StudyError(
                f"{share} of {answers} answers would go to {name}, which has {len(units)} shapes to show; ask for fewer "
                "answers (-n), or show more shapes (--shapes)"
            )
