"""At which accuracy should D stop learning? The paper's gate open, lower, higher, and over several batches."""

from __future__ import annotations

from studies.study import SMALL, Cell, Study

__all__ = ["STUDY"]


def gate(accuracy: float, window: int = 1) -> Cell:
    """A training on dressers under `slides` with this gate: of dressers the slides say that D is too good."""
    options = ("--gate", str(accuracy), "--gate-window", str(window))
    return Cell("dresser", "slides", options, against="" if (accuracy, window) == (0.8, 1) else "0.8")


STUDY = Study(
    name="accuracy_gate",
    question="Does the accuracy gate help where D is too good, at which threshold, and over how many batches?",
    cells={"0.8": gate(0.8), "off": gate(1.0), "0.7": gate(0.7), "0.9": gate(0.9), "0.8-over-10": gate(0.8, 10)},
    scales={"cpu": SMALL},
)
