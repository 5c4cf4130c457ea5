"""Which labels should D be given? None of the slides' smoothing, half of it, all of it, and all of it moved slowly away."""

from __future__ import annotations

from studies.study import BOTH, SMALL, Cell, Study

__all__ = ["STUDY"]

REAL, FAKE = (0.7, 1.2), (0.0, 0.3)
LABELS = {
    "both-sides": (REAL, FAKE, 0.0),
    "none": ((1.0, 1.0), (0.0, 0.0), 0.0),
    "one-sided": ((0.9, 0.9), (0.0, 0.0), 0.0),
    "beta-0": (REAL, (0.0, 0.0), 0.0),
    "annealed": (REAL, FAKE, 1.0),
}
"""Ranges of the labels of real and of generated shapes, and the share of the training over which they move to 1 and 0."""


def labelled(name: str, end: str) -> Cell:
    """A training on sofas with these labels: of sofas the slides say what they say of beta."""
    (real_low, real_high), (fake_low, fake_high), anneal = LABELS[name]
    ends = {"--real-low": real_low, "--real-high": real_high, "--fake-low": fake_low, "--fake-high": fake_high}
    options = [part for option, value in (ends | {"--label-anneal": anneal}).items() for part in (option, str(value))]
    return Cell("sofa", BOTH[end], tuple(options), against="" if name == "both-sides" else f"both-sides{end}")


STUDY = Study(
    name="label_smoothing",
    question="Does beta = 0 give worse results, as the slides say, and does moving the labels to 1 and 0 give better ones?",
    cells={f"{name}{end}": labelled(name, end) for end in BOTH for name in LABELS},
    scales={"cpu": SMALL},
)
