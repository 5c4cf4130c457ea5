"""Failures of a training by name, as they happen: the ways in which the slides' dresser and monitor failed, and two more.

Each is a rule over the log's rows or over the progress samples, fires once, and says what is seen, what it means, and what
to try. The rules over the log look at its last `WINDOW` steps, so a single bad batch fires nothing; those over samples look
at one set of them.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Callable, Collection

import numpy as np
from numpy.typing import NDArray

from gan3d_eval.run_dir import Gan3dError, RunDir
from gan3d_eval.voxels import VoxelSet, volumes
from gan3d_model.config import TrainConfig
from gan3d_model.runs import total_steps

__all__ = ["FAILURES", "Detectors", "Failed", "Watch", "check_names", "diversity"]

WINDOW = 50
FAILURES = {
    "gate-deadlock": "D has not been updated for {steps} steps (accuracy {acc:.2f}) while G's occupancy is {occupancy:.4f}, "
    "the data's {data:.4f}: the gate keeps D frozen, and a saturated G gets no gradient from it",
    "d-saturated": "D's accuracy has been {acc:.2f} on average for {steps} steps: it tells nearly all shapes apart. G learns "
    "little from such a D, unless its samples still change",
    "empty": "G's shapes are empty: occupancy {occupancy:.4f} {when}, the data's {data:.4f}",
    "cube-like": "G fills the grid: occupancy {occupancy:.3f} {when}, the data's {data:.3f}; D is too weak or too strong to "
    "teach it, as acc_d in the log shows",
    "collapsed": "G's samples hardly differ: mean Jaccard distance {found:.3f}, the data's {data:.3f}",
    "diverged": "a loss is no longer finite",
}
Advice = tuple[str, Callable[[TrainConfig], bool]]
LOWER_D: Advice = ("a lower --lr-d", lambda config: True)
LOWER_G: Advice = ("a lower --lr-g", lambda config: True)
STABLE: Advice = ("--recipe stable", lambda config: config.r1 == 0)
ADVICE: dict[str, tuple[Advice, ...]] = {
    "gate-deadlock": (STABLE, ("--gate 1", lambda config: config.r1 > 0)),
    "d-saturated": (
        LOWER_D, ("--gate 0.8", lambda config: config.gate > 0.8),
        ("--instance-noise 0.1", lambda config: config.instance_noise == 0),
    ),
    "empty": (LOWER_G, STABLE, ("shapes that are not tiny (see `audit`)", lambda config: True)),
    "cube-like": (STABLE, ("more epochs", lambda config: config.r1 > 0)),
    "collapsed": (
        ("a larger --batch-size", lambda config: True), ("--mirror", lambda config: not config.mirror),
        ("--r1 1", lambda config: config.r1 == 0),
    ),
    "diverged": (LOWER_D, LOWER_G),
}  # fmt: skip
"""What to try, and for which settings: nobody is told to do what is done."""
EMPTY, THIN, FULL = 0.02, 0.2, 5.0  # G's occupancy as a multiple of the data's: as good as empty, far too low, far too high
SAME = 0.1  # G's diversity as a share of the data's
WON = 0.98  # accuracy from which D has nothing left to learn


@dataclasses.dataclass
class Detectors:
    """Watch a training whose data has a mean occupancy and a diversity."""

    occupancy: float
    """Mean share of occupied voxels in the training shapes."""
    diversity: float
    """Mean Jaccard distance between two training shapes."""
    warmup: int
    """First steps, in which only divergence is reported: every G begins with a grey cube. Final samples always count."""
    config: TrainConfig = dataclasses.field(default_factory=TrainConfig)
    """What to try depends on it."""
    fired: list[str] = dataclasses.field(default_factory=list)
    rows: deque[dict[str, float]] = dataclasses.field(default_factory=lambda: deque(maxlen=WINDOW))

    @classmethod
    def of(cls, shapes: VoxelSet, config: TrainConfig) -> Detectors:
        """Detectors for a training on `shapes`; the first tenth of it, 50 to 500 steps, is warm-up."""
        some = np.random.default_rng(config.seed).permutation(len(shapes))[:64]
        occupancy = float(shapes.volume.mean()) / config.resolution**3
        warmup = min(500, max(WINDOW, total_steps(config, len(shapes)) // 10))
        return cls(occupancy, diversity(shapes.packed[np.sort(some)]), warmup, config)

    def see_row(self, row: dict[str, float]) -> list[tuple[str, str]]:
        """Take a row of the log; return new failures, each with its diagnosis."""
        if not np.isfinite(row["loss_d"] + row["loss_g"]):
            return self._fire("diverged")
        if row["step"] > self.warmup:
            self.rows.append(row)
        if len(self.rows) < WINDOW:
            return []
        acc = float(np.mean([r["acc_d"] for r in self.rows]))
        occupancy = float(np.mean([r["occupancy_g"] for r in self.rows]))
        updated = sum(bool(r["d_updated"]) for r in self.rows)
        ratio = occupancy / self.occupancy
        facts = {"steps": WINDOW, "acc": acc, "occupancy": occupancy, "data": self.occupancy}
        found = []
        if updated == 0 and not THIN < ratio < FULL:
            found += self._fire("gate-deadlock", **facts)
        if acc > WON:
            found += self._fire("d-saturated", **facts)
        return found + self._see_occupancy(occupancy, f"for {WINDOW} steps")

    def see_samples(self, packed: NDArray[np.uint8], step: int) -> list[tuple[str, str]]:
        """Take packed progress samples, `(n, ⌈d³/8⌉) uint8`; return new failures."""
        found = diversity(packed)
        if step > self.warmup and found < SAME * self.diversity:
            return self._fire("collapsed", found=found, data=self.diversity)
        return []

    def see_final(self, occupancy: float) -> list[tuple[str, str]]:
        """Take the mean occupancy of what the training leaves (G may have fallen within the window); return new failures."""
        return self._see_occupancy(occupancy, "in the samples at the end")

    def _see_occupancy(self, occupancy: float, when: str) -> list[tuple[str, str]]:
        ratio = occupancy / self.occupancy
        name = "empty" if ratio < EMPTY else "cube-like" if ratio > FULL else ""
        return self._fire(name, occupancy=occupancy, data=self.occupancy, when=when) if name else []

    def _fire(self, name: str, **facts: float | str) -> list[tuple[str, str]]:
        if name in self.fired:
            return []
        self.fired.append(name)
        what = [words for words, fits in ADVICE[name] if fits(self.config)]
        return [(name, f"{FAILURES[name].format(**facts)}. Try {', or '.join(what)}")]


def diversity(packed: NDArray[np.uint8]) -> float:
    """Mean Jaccard distance between two of the first 64 shapes, in [0, 1]; 0 for fewer than two."""
    some = packed[:64]
    if len(some) < 2:
        return 0.0
    volume = volumes(some)
    both = np.array([volumes(some & row) for row in some])
    either = volume[:, None] + volume[None] - both
    jaccard = 1 - np.divide(both, either, out=np.ones(both.shape), where=either > 0)
    return float(jaccard.sum() / (len(some) * (len(some) - 1)))


def check_names(failures: Collection[str]) -> None:
    """Gan3dError for names that no failure has."""
    if unknown := sorted(set(failures) - set(FAILURES)):
        raise Gan3dError(f"no failure {', '.join(unknown)} is known; there are {', '.join(FAILURES)}")


class Failed(Gan3dError):
    """A failure was detected that ends the training: a loss is no longer finite, or one that `stop_on` names."""


class Watch:
    """Tells of each failure once: a line, and an entry of `failures` in `run.json`; without a run it only watches."""

    def __init__(
        self, run: RunDir | None, detectors: Detectors, say: Callable[[str], None] = print, stop_on: Collection[str] = ()
    ) -> None:
        self.run, self.detectors, self.say, self.stop_on = run, detectors, say, stop_on
        self.fatal = ""
        detectors.fired = [failure["name"] for failure in run.meta.get("failures", [])] if run else []

    def row(self, row: dict[str, float]) -> None:
        """Take a row of the log; Failed at once if a loss is no longer finite."""
        for name, text in self.detectors.see_row(row):
            self._tell(name, text, int(row["step"]))
            if name == "diverged":
                raise Failed(self.fatal)

    def samples(self, shapes: VoxelSet, step: int) -> None:
        """Take progress samples."""
        for name, text in self.detectors.see_samples(shapes.packed, step):
            self._tell(name, text, step)

    def final(self, shapes: VoxelSet, step: int) -> None:
        """Take the samples of a training that is over."""
        for name, text in self.detectors.see_final(float(shapes.volume.mean()) / shapes.resolution**3):
            self._tell(name, text, step)

    def _tell(self, name: str, text: str, step: int) -> None:
        if name in self.stop_on or name == "diverged":
            self.fatal = f"{self.run.path if self.run else 'the run'}: {name} at step {step}: {text}"
        if self.run:
            self.say(f"warning: {name} at step {step}: {text}")
            failures = [*self.run.meta.get("failures", []), {"name": name, "step": step, "diagnosis": text}]
            self.run = self.run.update(failures=failures)
