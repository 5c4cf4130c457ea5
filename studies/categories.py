"""Do the classes that failed in the slides train? Sofa, table, dresser and monitor under three recipes."""

from __future__ import annotations

from studies.study import Cell, Study

__all__ = ["STUDY"]

CLASSES = ("dresser", "monitor", "table", "sofa")

STUDY = Study(
    name="categories",
    question="Do all four classes train, the two that failed in the slides included, and under which recipe?",
    cells={
        f"{category}-{recipe}": Cell(category, recipe, against="" if recipe == "slides" else f"{category}-slides")
        for recipe in ("stable", "slides", "paper")
        for category in CLASSES
    },
)
