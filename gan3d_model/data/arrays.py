"""One file that holds a whole data set.

Either an `.npz` with `X_train`, `y_train`, `X_test`, `y_test` (and perhaps `classes`, the names of the labels), or a single
array of grids.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gan3d_eval.voxels import VoxelError, binarize, content_hash, modelnet10, pack, parse_voxels, suffix_of
from gan3d_model.data.convert import Part, Row, pad, shape_row
from gan3d_model.data.sources import SPLITS
from gan3d_model.data.voxelize import Voxelizer

__all__ = ["Arrays"]

BLOCK = 256
MAX_CLASSES = 10_000
"""More than any data set has; labels are counted in an array of that size."""


class Arrays:
    """Voxel arrays of a file by split, with labels and the names of classes.

    Raises
    ------
    VoxelError
        No array of grids, several that cannot be told apart, labels that do not fit, or a class that is not there.
    """

    def __init__(self, source: Path, how: Voxelizer, classes: Sequence[str], given: Sequence[str]) -> None:
        self.source, self.how = source, how
        self.splits, own = _read_splits(source)
        self.names, self.evidence = _class_names(self.splits, list(given) or own, source)
        if unknown := sorted(set(classes) - set(self.names)):
            raise VoxelError(f"{source} has no class {', '.join(unknown)}; it has {', '.join(self.names)} (see --names)")
        self.blocks = list(self._blocks([i for i, name in enumerate(self.names) if not classes or name in classes]))
        self.n = sum(len(chosen) for _, chosen, _ in self.blocks)
        if not self.n:
            raise VoxelError(f"{source} holds no shape of {', '.join(classes)}")
        self.inner = next(iter(self.splits.values()))[0].shape[1]

    def parts(self, done: Collection[int] = ()) -> Iterator[Part]:
        """Convert block after block, in the order of the file, but for those of numbers `done`."""
        for number, (split, chosen, names) in enumerate(self.blocks, 1):
            if number in done:
                continue
            (array, labels), grids, rows = self.splits[split], self._grids(split, chosen), list[Row]()
            for i, name, grid in zip(chosen, names, grids, strict=True):
                row = {"name": name, "class": self.names[int(labels[i])], "split": split}
                row |= {"source": f"{self.source.name}[{split}][{i}]", "sha256": content_hash(array[i])}
                rows.append(shape_row(row, grid))
            yield Part(number, rows, pack(grids), len(rows))

    def _blocks(self, classes: list[int]) -> Iterator[tuple[str, NDArray[np.int64], list[str]]]:
        """Split, places and names of the shapes of these classes, for each block of the file that holds some.

        Names count the shapes of each class over all splits.
        """
        counts = Counter[int]()
        for split, (array, labels) in self.splits.items():
            for start in range(0, len(array), BLOCK):
                chosen = start + np.flatnonzero(np.isin(labels[start : start + BLOCK], classes))
                names = []
                for label in map(int, labels[chosen]):
                    counts[label] += 1
                    names.append(f"{self.names[label]}_{counts[label]:04d}")
                if names:
                    yield split, chosen, names

    def _grids(self, split: str, chosen: NDArray[np.int64]) -> NDArray[np.bool_]:
        """These shapes of a split, padded."""
        try:
            return pad(binarize(self.splits[split][0][chosen], where=f"[{split}]"), self.how)
        except VoxelError as fault:
            raise VoxelError(f"{self.source}: {fault}") from None


def _read_splits(source: Path) -> tuple[dict[str, tuple[NDArray[Any], NDArray[Any]]], list[str]]:
    """Arrays and labels by split (an array without labels gets label 0), and the names in an array `classes`, if any."""
    try:
        with source.open("rb") as stream:
            arrays = parse_voxels(stream, suffix_of(source.name))
    except VoxelError as fault:
        raise VoxelError(f"{source} {fault}") from None
    volumes = {key: array for key, array in arrays.items() if array.ndim in (3, 4, 5) and array.dtype.kind in "biuf"}
    if not volumes:
        shapes = ", ".join(f"{key} {array.dtype} {array.shape}".strip() for key, array in arrays.items())
        raise VoxelError(f"{source} holds no array of grids (n, d, d, d); found {shapes or 'nothing'}")
    by_split = {split: f"X_{split}" for split in SPLITS if f"X_{split}" in volumes} or {"train": next(iter(volumes))}
    if len(volumes) > len(by_split):
        raise VoxelError(f"{source} holds arrays {', '.join(volumes)}; expected X_train and X_test, or a single one")
    result = {}
    for split, key in by_split.items():
        array = volumes[key]
        array = array[None] if array.ndim == 3 else array[:, 0] if array.ndim == 5 and array.shape[1] == 1 else array
        if f"y_{split}" not in arrays and any(f"y_{other}" in arrays for other in by_split):
            raise VoxelError(f"{source} has labels of some splits only; y_{split} is missing")
        labels = arrays.get(f"y_{split}", np.zeros(len(array), np.int64))
        if labels.shape != (len(array),) or labels.dtype.kind not in "iu" or (len(labels) and labels.min() < 0):
            raise VoxelError(f"{source}: y_{split} is {labels.dtype} {labels.shape}; expected {len(array)} integers from 0")
        if len(labels) and labels.max() >= MAX_CLASSES:
            raise VoxelError(f"{source}: y_{split} has label {labels.max()}; expected labels below {MAX_CLASSES}")
        if array.ndim != 4 or len(set(array.shape[1:])) != 1 or len(array) == 0:
            raise VoxelError(
                f"{source}: {key or 'array'} has shape {volumes[key].shape}; expected cubic grids (n ≥ 1, d, d, d)"
            )
        result[split] = (array, labels)
    if len(sides := {array.shape[1] for array, _ in result.values()}) > 1:
        raise VoxelError(f"{source} mixes resolutions: {', '.join(f'{side}³' for side in sorted(sides))}")
    named = arrays.get("classes", np.zeros(0, "U1"))
    return result, [str(name) for name in named] if named.ndim == 1 and named.dtype.kind == "U" else []


def _class_names(splits: dict[str, tuple[NDArray[Any], NDArray[Any]]], given: list[str], source: Path) -> tuple[list[str], str]:
    """Names of labels 0, 1, … and why: as given, ModelNet10's when the counts are its own, or the file's name."""
    n = 1 + max(int(labels.max()) for _, labels in splits.values())
    if given:
        if len(given) < n:
            raise VoxelError(f"{source} has labels up to {n - 1}, but names for {len(given)} only: {', '.join(given)}")
        if len(set(given)) < len(given):
            raise VoxelError(f"{source}: a name is given twice among {', '.join(given)}; one for each label is expected")
        return given, "as given"
    official = modelnet10()
    found = {split: np.bincount(labels, minlength=n).tolist() for split, (_, labels) in splits.items()}
    if found == {split: [counts[split] for counts in official.values()] for split in ("train", "test")}:
        return list(official), "ModelNet10 in alphabetical order, because the counts per label and split are its official ones"
    if n == 1:
        return [source.name.split(".")[0]], "the file's name"
    return [f"class{i}" for i in range(n)], "numbered: no names were given"
