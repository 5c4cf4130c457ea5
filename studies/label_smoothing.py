"""Which labels should D be given? None of the slides' smoothing, half of it, all of it, and all of it moved slowly away."""

from __future__ import annotations

from studies.study import SMALL, Cell, Study

__all__ = ["STUDY"]

SLIDES = ((0.7, 1.2), (0.0, 0.3), 0.0)


def labels(real: tuple[float, float], fake: tuple[float, float], anneal: float = 0.0) -> Cell:
    """A training on sofas under `slides` with these labels: of sofas the slides say what they say of beta."""
    ends = {"--real-low": real[0], "--real-high": real[1], "--fake-low": fake[0], "--fake-high": fake[1]}
    options = [part for name, value in (ends | {"--label-anneal": anneal}).items() for part in (name, str(value))]
    return Cell("sofa", "slides", tuple(options), against="" if (real, fake, anneal) == SLIDES else "both-sides")


STUDY = Study(
    name="label_smoothing",
    question="Does beta = 0 give worse results, as the slides say, and does moving the labels to 1 and 0 give better ones?",
    cells={
        "both-sides": labels(*SLIDES),
        "none": labels((1.0, 1.0), (0.0, 0.0)),
        "one-sided": labels((0.9, 0.9), (0.0, 0.0)),
        "beta-0": labels((0.7, 1.2), (0.0, 0.0)),
        "annealed": labels((0.7, 1.2), (0.0, 0.3), 1.0),
    },
    scales={"cpu": SMALL},
)
