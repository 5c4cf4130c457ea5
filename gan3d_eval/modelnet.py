"""Official numbers of shapes in ModelNet10 and ModelNet40 (Wu et al., 3D ShapeNets, CVPR 2015; Princeton ModelNet)."""

from __future__ import annotations

import csv
import functools
from collections.abc import Mapping
from pathlib import Path

__all__ = ["Counts", "expected_counts", "modelnet10", "modelnet40"]

Counts = dict[str, dict[str, int]]
"""Shapes by class, then by split."""
CLOSE = 0.8


@functools.cache
def modelnet40() -> Counts:
    """Official shapes of each class, train and test, in alphabetical order."""
    return {row["class"]: {"train": int(row["train"]), "test": int(row["test"])} for row in _rows()}


@functools.cache
def modelnet10() -> Counts:
    """The ten classes that ModelNet10 has: the same shapes as in ModelNet40."""
    return {row["class"]: modelnet40()[row["class"]] for row in _rows() if row["modelnet10"] == "1"}


def expected_counts(found: Mapping[str, Mapping[str, int]]) -> Counts:
    """Official counts of the classes of a data set; empty if it is no ModelNet.

    It is one if all its classes are ModelNet's and most of its counts are nearly the official ones (80 to 100 %): other data
    has sofas and tables too.
    """
    if not set(found) <= set(modelnet40()):
        return {}
    official = {label: modelnet40()[label] for label in sorted(found)}
    near = [CLOSE * n <= found[label].get(split, 0) <= n for label, splits in official.items() for split, n in splits.items()]
    return official if sum(near) > len(near) / 2 else {}


def _rows() -> list[dict[str, str]]:
    with Path(__file__).with_name("modelnet_counts.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
