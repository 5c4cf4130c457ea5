"""Do the classes that failed in the slides train? Sofa, table, dresser and monitor under three recipes.

`stable-double` is `stable` with twice the width and twice the training: how far is that from enough?
"""

from __future__ import annotations

from studies.study import SMALL, Cell, Study

__all__ = ["STUDY"]

CLASSES = ("dresser", "monitor", "table", "sofa")
RECIPES = ("slides", "paper", "stable")

STUDY = Study(
    name="categories",
    question="Do all four classes train, the two that failed in the slides included, and under which recipe?",
    cells={
        f"{category}-{recipe}": Cell(category, recipe, against="" if recipe == "slides" else f"{category}-slides")
        for category in CLASSES
        for recipe in RECIPES
    }
    | {
        f"{category}-stable-double": Cell(category, "stable", against=f"{category}-stable", width=2.0, length=2.0)
        for category in CLASSES
    },
    scales={"cpu": SMALL},
)
