"""At which accuracy should D stop learning? The paper's gate open, lower, higher, and over several batches."""

from __future__ import annotations

from studies.study import BOTH, SMALL, Cell, Study

__all__ = ["STUDY"]

GATES = {"0.8": (0.8, 1), "off": (1.0, 1), "0.7": (0.7, 1), "0.9": (0.9, 1), "0.8-over-10": (0.8, 10)}
"""Accuracy, and batches over which it is averaged; the first is that of the paper and the slides."""


def gated(name: str, end: str) -> Cell:
    """A training on dressers with this gate: of dressers the slides say that D is too good."""
    accuracy, window = GATES[name]
    options = ("--gate", str(accuracy), "--gate-window", str(window))
    return Cell("dresser", BOTH[end], options, against="" if name == "0.8" else f"0.8{end}")


STUDY = Study(
    name="accuracy_gate",
    question="Does the accuracy gate help where D is too good, at which threshold, and over how many batches?",
    cells={f"{name}{end}": gated(name, end) for end in BOTH for name in GATES},
    scales={"cpu": SMALL},
)
