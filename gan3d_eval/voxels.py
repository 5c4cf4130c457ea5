"""Voxel sets: many binary grids of one resolution, packed as `packing.py` says, on disk and in memory.

This module does not read meshes (see `gan3d_model.data`) and computes no metric.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from gan3d_eval.files import (
    UNREADABLE,
    atomic_directory,
    check_space,
    content_hash,
    file_hash,
    read_json,
    read_table,
    row_hashes,
    write_json,
)
from gan3d_eval.formats import VOXEL_SUFFIXES, VoxelError, only_grids, parse_voxels, suffix_of, turn_up
from gan3d_eval.modelnet import expected_counts, modelnet10
from gan3d_eval.packing import halves, pack, packed_bytes, unpack, volumes

__all__ = [  # gan3d_model imports nothing of this package but this module and run_dir, so what it needs of others is here too
    "MAX_RESOLUTION", "VOXEL_SUFFIXES", "VoxelError", "VoxelSet", "binarize", "check_space", "content_hash", "file_hash",
    "halves", "modelnet10", "only_grids", "pack", "packed_bytes", "parse_voxels", "suffix_of", "turn_up", "unpack", "volumes",
]  # fmt: skip

DATASET_FORMAT = 1
COLUMNS = ["name", "class", "split", "source", "sha256", "occupied", "components", "flags"]
MAX_RESOLUTION = 512


def binarize(array: ArrayLike, threshold: float = 0.5, where: str = "array") -> NDArray[np.bool_]:
    """Turn any common encoding of occupancy into booleans, or say why it cannot be done.

    Parameters
    ----------
    array : (n, d, d, d) or (d, d, d) or (n, 1, d, d, d) bool, integer or float
        Booleans; integers 0/1, 0/255 or -1/+1; or probabilities in [0, 1].
    threshold : float
        Probabilities strictly above it are occupied. Booleans and integers ignore it.
    where : str
        What the error message calls the array (a path, usually).

    Returns
    -------
    (n, d, d, d) bool

    Raises
    ------
    VoxelError
        Not cubic, no grids at all, NaN or infinite values, or values that fit none of the encodings.
    """
    if not 0 <= threshold <= 1:
        raise VoxelError(f"threshold {threshold} asked for; expected a probability in [0, 1]")
    grids = np.asarray(array)
    if grids.ndim == 3:
        grids = grids[None]
    if grids.ndim == 5 and grids.shape[1] == 1:
        grids = grids[:, 0]
    if grids.ndim != 4 or len(set(grids.shape[1:])) != 1:
        raise VoxelError(f"{where}: shape {np.shape(array)} is no batch of cubic grids; expected (n, d, d, d)")
    if grids.shape[0] == 0 or grids.shape[1] == 0:
        raise VoxelError(f"{where}: holds zero shapes (shape {grids.shape})")
    if grids.shape[1] > MAX_RESOLUTION:
        raise VoxelError(f"{where}: resolution {grids.shape[1]} is above the largest supported, {MAX_RESOLUTION}")
    if grids.dtype == np.bool_:
        return grids
    if grids.dtype.kind not in "iuf":
        raise VoxelError(f"{where}: dtype {grids.dtype} holds no occupancy; expected bool, integers or floats")
    low, high = _finite_range(grids, where)
    if low >= 0 and high <= 1:
        return grids > (threshold if grids.dtype.kind == "f" else 0)
    for pair in ((0, 255), (-1, 1)):
        if {low, high} <= set(pair) and np.isin(grids, pair).all():  # one value alone is an empty grid, or a full one
            return grids > 0
    raise VoxelError(
        f"{where}: values in [{low:g}, {high:g}] are no occupancy; expected 0/1, 0/255, -1/+1, or "
        "probabilities in [0, 1] (sigmoid of logits)"
    )


def _finite_range(grids: NDArray[Any], where: str) -> tuple[float, float]:
    """Smallest and largest value; NaN and infinities are refused with the index of the first bad shape."""
    low, high = float(grids.min()), float(grids.max())
    if not np.isfinite([low, high]).all():
        bad = [i for i, grid in enumerate(grids) if not np.isfinite(grid).all()]
        found = f"{len(bad)} of {len(grids)} shapes hold NaN or infinity, the first at index {bad[0]}"
        raise VoxelError(f"{where}: {found}; leave these out")
    return low, high


@dataclasses.dataclass(frozen=True, eq=False)
class VoxelSet:
    """Binary grids of one resolution, with a row of facts about each.

    Attributes
    ----------
    packed : (n, ⌈d³/8⌉) uint8
        One packed grid a row; a read-only memory map when opened from disk.
    resolution : int
        d, voxels along each axis.
    table : DataFrame of n rows
        At least `name`; datasets also have `class`, `split`, `source`, `sha256`, `occupied`, `components`, `flags`;
        those made from meshes also `scale` and `offset_x` … (grid = mesh × scale + offset, the mesh turned to
        the grid's axes first: z up; `dataset.json` says yxz where x and y are swapped too).
    info : dict
        `dataset.json` (sources, voxeliser, counts), or empty.
    """

    packed: NDArray[np.uint8]
    resolution: int
    table: pd.DataFrame
    info: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        expected = packed_bytes(self.resolution)
        if self.packed.ndim != 2 or self.packed.dtype != np.uint8 or self.packed.shape[1] != expected:
            raise VoxelError(
                f"packed grids are {self.packed.dtype} {self.packed.shape}; "
                f"expected uint8 (n, {expected}) at resolution {self.resolution}"
            )
        if len(self.table) != len(self.packed):
            raise VoxelError(f"{len(self.packed)} grids but {len(self.table)} rows of names")

    @classmethod
    def from_grids(cls, grids: NDArray[np.bool_], names: Sequence[str] | None = None) -> VoxelSet:
        """Make a set in memory from `(n, d, d, d) bool`; names default to `shape-0000` …"""
        return cls.from_packed(pack(grids), grids.shape[1], names)

    @classmethod
    def from_packed(cls, packed: NDArray[np.uint8], resolution: int, names: Sequence[str] | None = None) -> VoxelSet:
        """Make a set in memory from `(n, ⌈d³/8⌉) uint8`; names default to `shape-0000` …"""
        names = [f"shape-{i:04d}" for i in range(len(packed))] if names is None else list(names)
        return cls(packed, resolution, pd.DataFrame({"name": names}))

    @classmethod
    def open(cls, path: Path) -> VoxelSet:
        """Open a dataset directory; `voxels.npy` is memory-mapped, and read in blocks to see that it has its hash.

        Raises
        ------
        VoxelError
            The directory, or one of its three files, is missing, damaged, or contradicts the others.
        """
        if not (path / "dataset.json").is_file():
            found = "is a run directory, no dataset" if (path / "run.json").is_file() else "is no dataset directory"
            target, found = ("DATASET_DIR", found) if path.exists() else (path, "does not exist")
            raise VoxelError(f"{path} {found}; python cli.py prepare SRC {target} makes a dataset")
        try:
            info = read_json(path / "dataset.json", VoxelError)
        except VoxelError as fault:
            raise VoxelError(f"{fault}; prepare it again") from None
        if info.get("format") != DATASET_FORMAT:
            raise VoxelError(f"{path}/dataset.json has format {info.get('format')!r}, not {DATASET_FORMAT}; prepare it anew")
        try:
            packed = np.lib.format.open_memmap(path / "voxels.npy", mode="r")  # np.load would take an .npz as well
            table = read_table(path / "shapes.csv", keep_default_na=False, dtype={"name": str, "class": str})
        except UNREADABLE as fault:
            why = f"{Path(fault.filename).name}: {fault.strerror}" if isinstance(fault, OSError) and fault.filename else fault
            raise VoxelError(f"{path} is damaged ({why}); prepare it again") from None
        missing = {"name", "class", "split"} - set(table.columns)
        if missing or not isinstance(info.get("resolution"), int) or not isinstance(info.get("name"), str):
            reason = f"shapes.csv lacks {sorted(missing)}" if missing else "dataset.json has no resolution, or no name"
            raise VoxelError(f"{path} is no usable dataset: {reason}; prepare it again")
        try:
            shapes = cls(packed, info["resolution"], table, info)
            if info.get("sha256") not in (None, shapes.sha256):
                raise VoxelError("its voxels are not those that dataset.json has the hash of")
        except VoxelError as fault:
            raise VoxelError(f"{path} is damaged: {fault}; prepare it again") from None
        if len(shapes) == 0:
            raise VoxelError(f"{path} holds no shapes; prepare it again")
        return shapes

    def write(self, path: Path, rejected: pd.DataFrame | None = None, force: bool = False) -> None:
        """Write the set as a dataset directory, all or nothing; the table needs every column of `COLUMNS`.

        `rejected` (name, class, split, reason) is kept beside it, so that no shape disappears without a word.
        """
        with atomic_directory(path, force) as temporary:
            if rejected is not None and len(rejected):
                rejected.to_csv(temporary / "rejected.csv", index=False, lineterminator="\n")
            np.save(temporary / "voxels.npy", self.packed, allow_pickle=False)
            own = [column for column in self.table.columns if column not in COLUMNS]
            self.table[COLUMNS + own].to_csv(temporary / "shapes.csv", index=False, lineterminator="\n")
            by_class: dict[str, dict[str, int]] = {}
            for label, splits in self.table.groupby("class")["split"]:
                by_class[str(label)] = {str(split): int(n) for split, n in splits.value_counts().sort_index().items()}
            facts = {"format": DATASET_FORMAT, "name": path.name, "resolution": self.resolution, "n": len(self)}
            facts["rejected"] = 0 if rejected is None else len(rejected)
            # of a set that was taken from another, what that one's file says of itself is not true of this one
            facts |= {key: value for key, value in self.info.items() if key not in {*facts, "expected_counts"}}
            facts |= {"counts": by_class, "sha256": content_hash(self.packed)}
            if official := expected_counts(by_class):
                facts["expected_counts"] = official
            write_json(temporary / "dataset.json", facts)

    def __len__(self) -> int:
        return len(self.packed)

    @property
    def names(self) -> list[str]:
        """Name of each shape, in row order."""
        return [str(name) for name in self.table["name"]]

    @property
    def held_out(self) -> str:
        """Name of the split that no training sees: `test` or, where there is none, `val`."""
        return "val" if "test" not in (splits := set(self.table["split"])) and "val" in splits else "test"

    @cached_property
    def volume(self) -> NDArray[np.int64]:
        """Occupied voxels of each shape, `(n,) int64`."""
        return volumes(self.packed)

    @cached_property
    def sha256(self) -> str:
        """Hash of the grids in their order: the identity of a training set, of a sample set."""
        return content_hash(self.packed)

    @property
    def axes(self) -> str:
        """Which of the shapes' axes each one of the grids is: `xyz`, or `yxz` of polygon2voxel."""
        return str((self.info.get("grid") or {}).get("axes") or "xyz")

    def mean_shape(self, block: int = 64) -> NDArray[np.float64]:
        """Share of the shapes that occupy each voxel, `(d, d, d) float64`; the grids are unpacked a `block` at a time."""
        total = np.zeros((self.resolution,) * 3)
        for start in range(0, len(self), block):
            total += self.grids(slice(start, start + block)).sum(axis=0)
        return total / len(self)

    def identity(self) -> dict[str, Any]:
        """What a result says of its input: name of the file or dataset, hash, number of shapes; of samples, their step."""
        step = {"step": self.info["step"]} if "step" in self.info else {}
        return {"path": self.info.get("file") or self.info.get("name", ""), "sha256": self.sha256, "n": len(self)} | step

    def grids(self, rows: ArrayLike | slice = slice(None)) -> NDArray[np.bool_]:
        """Unpack the chosen rows to `(n, d, d, d) bool`."""
        rows = rows if isinstance(rows, slice) else np.asarray(rows, dtype=np.intp)
        return unpack(np.atleast_2d(self.packed[rows]), self.resolution)

    def take(self, rows: ArrayLike) -> VoxelSet:
        """The chosen rows (indices or a mask); consecutive ones are a view, others a copy in memory."""
        index = np.asarray(rows)
        index = np.flatnonzero(index) if index.dtype == np.bool_ else index.astype(np.intp)
        table = self.table.iloc[index].reset_index(drop=True)
        run = len(index) > 0 and bool((np.diff(index) == 1).all())  # consecutive rows of a memory map are not read
        packed = self.packed[index[0] : index[-1] + 1] if run else np.ascontiguousarray(self.packed[index])
        return VoxelSet(packed, self.resolution, table, self.info)

    def without_empty(self) -> VoxelSet:
        """The shapes with at least one voxel; `info["empty_left_out"]` says how many the others were."""
        empty = int((self.volume == 0).sum())
        return dataclasses.replace(self.take(self.volume > 0), info=self.info | {"empty_left_out": empty}) if empty else self

    def stands_in(self, other: VoxelSet) -> NDArray[np.bool_]:
        """Which shapes stand in `other` too, voxel for voxel: `(n,) bool`."""
        known = set(row_hashes(other.packed))
        return np.array([digest in known for digest in row_hashes(self.packed)], np.bool_)

    def firsts(self) -> NDArray[np.intp]:
        """For each shape the row of the first one that equals it, voxel for voxel: `(n,)`."""
        known: dict[bytes, int] = {}
        return np.array([known.setdefault(digest, row) for row, digest in enumerate(row_hashes(self.packed))], np.intp)

    def apart_from(self, other: VoxelSet) -> VoxelSet | None:
        """The shapes that do not stand in `other` too; None where none is left."""
        known = self.stands_in(other)
        return None if known.all() else self.take(~known) if known.any() else self

    def select(self, classes: Sequence[str] = (), split: str | None = None) -> VoxelSet:
        """The shapes of these classes (all, if none are named) and this split (all, if None).

        Raises
        ------
        VoxelError
            A class that is not there (those that are get listed), or nothing left.
        """
        known = sorted(set(self.table["class"]))
        if unknown := sorted(set(classes) - set(known)):
            raise VoxelError(f"no class {', '.join(unknown)} in dataset {self.info.get('name', '')}; it has {', '.join(known)}")
        mask = (self.table["class"].isin(list(classes) or known) & (split is None or self.table["split"] == split)).to_numpy()
        if not mask.any():
            what = f"{self.info.get('name', '')} has no shapes{' of ' * bool(classes)}{', '.join(classes)} in split {split!r}"
            if there := sorted(set(self.table.loc[self.table["split"] == split, "class"])):
                raise VoxelError(f"{what}; there it has {', '.join(there)}")
            raise VoxelError(f"{what}, only in {', '.join(sorted(set(self.table['split'])))}; name a dataset that has some")
        return self.take(mask)
