"""What makes D's features good: training, its recipe, D's width, which layers, how they are pooled?"""

from __future__ import annotations

from studies.study import SMALL, Cell, Column, Measure, Study

__all__ = ["STUDY"]

POOLINGS = {  # of classify-features; the first is the paper's
    "paper": (),
    "1³": ("--side", "1"),
    "4³": ("--side", "4"),
    "mean": ("--pooling", "mean"),
    "layer 1": ("--layers", "1"),
}
WIDTHS = {"-half": 0.5, "": 1.0, "-double": 2.0}
UNTRAINED = ("--lr-g", "0", "--lr-d", "0", "--epochs", "1")
"""An epoch at learning rates 0: weights stay as drawn, and only the statistics of batch normalisation are those of the data."""


def result(pooling: str) -> str:
    """Name of a result: `classify-features-layer-1`."""
    return f"classify-features-{pooling.replace(' ', '-').replace('³', '')}"


def column(pooling: str) -> str:
    """Name of its column: `accuracy_layer_1`."""
    return f"accuracy_{pooling.replace(' ', '_').replace('³', '')}"


CONTROLS: dict[str, Column] = {
    key: (result("paper"), f"accuracy/{key.replace('_', '-')}") for key in ("voxels_8", "voxels_16", "shuffled")
}

STUDY = Study(
    name="features",
    question="Are D's features better than those of an untrained D, and what makes them good?",
    cells={
        **{f"untrained{end}": Cell(width=width, options=UNTRAINED) for end, width in WIDTHS.items()},
        **{f"slides{end}": Cell(width=width, against=f"untrained{end}") for end, width in WIDTHS.items()},
        "stable": Cell(recipe="stable", against="untrained"),
    },
    verbs={
        result(name): ("classify-features", "--untrained", "0", "--no-curve", *options) for name, options in POOLINGS.items()
    },
    columns={
        "n_train": (result("paper"), "n_train"),
        "n_test": (result("paper"), "n_test"),
        "accuracy_without_leaks": (result("paper"), "accuracy_without_leaks"),
        **{column(name): (result(name), "accuracy") for name in POOLINGS},
        **CONTROLS,
    },
    measures=(
        Measure("accuracy, as in the paper", column("paper"), "{:.3f}", "high"),
        Measure("pooled to 1³", column("1³"), "{:.3f}"),
        Measure("pooled to 4³", column("4³"), "{:.3f}", "high"),
        Measure("by means", column("mean"), "{:.3f}"),
        Measure("layer 1 alone", column("layer 1"), "{:.3f}"),
        Measure("voxels at 8³", "voxels_8", "{:.3f}"),
        Measure("voxels at 16³", "voxels_16", "{:.3f}"),
        Measure("shuffled labels", "shuffled", "{:.3f}"),
    ),
    scales={"cpu": SMALL},
)
