"""What makes D's features good: training, its recipe, D's width, which layers, how they are pooled?

Every run is asked beside discriminators of its architecture that never trained, whose batch normalisation knows real shapes
(`gan3d_model.features.untrained`).
"""

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
SEEDS = {"paper": 3}
"""Untrained discriminators beside a run; one under the other poolings."""


def result(pooling: str) -> str:
    """Name of a result: `classify-features-layer-1`."""
    return f"classify-features-{pooling.replace(' ', '-').replace('³', '')}"


def column(pooling: str, of: str = "accuracy") -> str:
    """Name of its column: `accuracy_layer_1`, `untrained_layer_1`."""
    return f"{of}_{pooling.replace(' ', '_').replace('³', '')}"


CONTROLS: dict[str, Column] = {
    key: (result("paper"), f"accuracy/{key.replace('_', '-')}")
    for key in ("untrained_1", "untrained_2", "voxels_8", "voxels_16", "shuffled")
}
OF_UNTRAINED = "(untrained_paper + untrained_1 + untrained_2) / 3"

STUDY = Study(
    name="features",
    question="Are D's features better than those of an untrained D, and what makes them good?",
    cells={
        **{f"slides{end}": Cell(width=width, against="slides" if end else "") for end, width in WIDTHS.items()},
        "stable": Cell(recipe="stable", against="slides"),
    },
    verbs={
        result(name): ("classify-features", "--untrained", str(SEEDS.get(name, 1)), "--no-curve", *options)
        for name, options in POOLINGS.items()
    },
    columns={
        "n_train": (result("paper"), "n_train"),
        "n_test": (result("paper"), "n_test"),
        "accuracy_without_leaks": (result("paper"), "accuracy_without_leaks"),
        "p_untrained": (result("paper"), "p_untrained"),
        **{column(name): (result(name), "accuracy") for name in POOLINGS},
        **{column(name, "untrained"): (result(name), "accuracy/untrained-0") for name in POOLINGS},
        **CONTROLS,
    },
    measures=(
        Measure("accuracy, as in the paper", column("paper"), "{:.3f}", "high"),
        Measure("three untrained", OF_UNTRAINED, "{:.3f}"),
        Measure("gain by training", f"{column('paper')} - {OF_UNTRAINED}", "{:.3f}", "high"),
        Measure("p (McNemar)", "p_untrained", "{:.4f}"),
        Measure("pooled to 1³", column("1³"), "{:.3f}"),
        Measure("pooled to 4³", column("4³"), "{:.3f}"),
        Measure("untrained at 4³", column("4³", "untrained"), "{:.3f}"),
        Measure("by means", column("mean"), "{:.3f}"),
        Measure("layer 1 alone", column("layer 1"), "{:.3f}"),
        Measure("voxels at 8³", "voxels_8", "{:.3f}"),
        Measure("voxels at 16³", "voxels_16", "{:.3f}"),
        Measure("shuffled labels", "shuffled", "{:.3f}"),
    ),
    scales={"cpu": SMALL},
)
