"""A stranger's grids in one form: any common encoding → booleans, and probabilities where the values are some."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gan3d_eval.foreign import Found, Readers, collect
from gan3d_eval.run_dir import RunDir
from gan3d_eval.voxels import VoxelError, VoxelSet, binarize, halves, pack, turn_up

__all__ = ["Shapes", "read_shapes", "shapes_of"]

THRESHOLD = 0.5
BLOCK = 256


@dataclasses.dataclass(frozen=True)
class Shapes:
    """Samples of a stranger.

    Attributes
    ----------
    occupied : (n, d, d, d) bool
    probability : (n, d, d, d) float16, or None where they were binary already
    names : list of str, or None where one file holds all
    threshold : float or None
        At which they were cut; None where that is unknown.
    signed : bool
        Whether the values were those of a tanh.
    told : list of str
        What they were taken for.
    """

    occupied: NDArray[np.bool_]
    probability: NDArray[np.float16] | None
    names: list[str] | None
    threshold: float | None
    signed: bool
    told: list[str]

    @property
    def resolution(self) -> int:
        """Voxels along each axis."""
        return int(self.occupied.shape[1])

    def padded(self, train: VoxelSet, source: Path) -> Shapes:
        """With empty voxels on all sides, where `prepare` put them around the shapes of `train` too; else VoxelError.

        That is, where they were padded from the samples' resolution, or the longest side of all fits into it. A generator of
        half the resolution makes shapes of half the size, which no padding mends.
        """
        inner, outer = self.resolution, train.resolution
        if inner == outer:
            return self
        rim, odd = divmod(outer - inner, 2)
        from_inner = (train.info.get("voxelizer") or {}).get("padded_from") == inner
        longest = (train.info.get("grid") or {}).get("longest_side")
        if rim < 0 or odd or not (from_inner or (longest is not None and longest <= inner)):
            name = train.info.get("name", "")
            raise VoxelError(f"{source} holds {inner}³ grids, but dataset {name} has {outer}³; prepare the dataset at {inner}³")
        told = [*self.told, f"padded from {inner}³ to {outer}³, {rim} on each side"]
        return dataclasses.replace(self._each(lambda grids: np.pad(grids, ((0, 0), *[(rim, rim)] * 3))), told=told)

    def laid(self, pose: Callable[[NDArray[Any]], NDArray[Any]]) -> Shapes:
        """Laid anew by a function of grids `(n, d, d, d)`."""
        return self._each(pose)

    def _each(self, change: Callable[[NDArray[Any]], NDArray[Any]]) -> Shapes:
        probability = None if self.probability is None else change(self.probability)
        return dataclasses.replace(self, occupied=change(self.occupied), probability=probability)

    def write(self, run: RunDir) -> None:
        """Write `samples/final.npz`; grids that were laid anew are copied a block at a time."""
        blocks = [self.occupied[i : i + BLOCK] for i in range(0, len(self.occupied), BLOCK)]
        arrays: dict[str, Any] = {"occupancy": np.concatenate([pack(np.ascontiguousarray(block)) for block in blocks])}
        if self.names is not None:
            arrays["names"] = np.array(self.names)
        if self.threshold is not None:
            arrays["threshold"] = np.array(self.threshold)
        if self.probability is not None:
            arrays["probability"] = np.ascontiguousarray(self.probability)
        run.write_samples("final", **arrays)


def shapes_of(found: Found, threshold: float | None, source: Path) -> Shapes:
    """All samples that were found: booleans, 0/1, 0/255, −1/+1, probabilities in [0, 1], or a tanh's values in [−1, 1].

    Probabilities above `threshold` (0.5, if None) are occupied. Of binary grids it is what the producer cut at, as far as
    the user knows.

    Raises
    ------
    VoxelError
        Several batches, mixed resolutions, or values that fit no encoding.
    """
    batches = found.batches
    if len(batches) > 1 and (several := [name for name, batch in batches.items() if len(batch) > 1]):
        raise VoxelError(
            f"{source} holds {len(batches)} files of shapes, {several[0]} with {len(batches[several[0]])}: they may be of "
            "different steps of a training; choose one with --pattern, or pass it itself"
        )
    if len(sides := {batch.shape[1] for batch in batches.values()}) > 1:
        raise VoxelError(f"{source} mixes resolutions: {', '.join(f'{side}³' for side in sorted(sides))}")
    floats = all(batch.dtype.kind == "f" for batch in batches.values())
    low, high = min(float(b.min()) for b in batches.values()), max(float(b.max()) for b in batches.values())
    signed = floats and -1 <= low <= -0.5 and high <= 1
    occupied, soft, cut = [], [], THRESHOLD if threshold is None else threshold
    for name, batch in batches.items():
        values = (batch + 1) / 2 if signed else batch
        occupied.append(binarize(values, cut, str(_where(source, name))))
        soft.append(halves(values, cut) if _between(values) else None)
    n = sum(len(batch) for batch in batches.values())
    both = f"{low:g} and {high:g}" if low < high else f"all {low:g}"
    kind, probability = f"binary ({both}); at what threshold they were cut is not known", None
    if threshold is not None:
        kind = f"binary ({both}), cut at {threshold:g} as was said"
    if any(part is not None for part in soft):
        threshold = cut
        parts = [hard.astype(np.float16) if part is None else part for hard, part in zip(occupied, soft, strict=True)]
        probability = np.concatenate(parts) if len(parts) > 1 else parts[0]
        kind = f"probabilities{' (a tanh from -1 to 1, mapped to 0 … 1)' * signed}, cut at {threshold:g} and kept beside"
    names = None if len(batches) == 1 else [PurePosixPath(name).stem for name in batches]
    grids = np.concatenate(occupied) if len(occupied) > 1 else occupied[0]
    return Shapes(grids, probability, names, threshold, signed, [f"shapes: {n}; {kind}"])


def read_shapes(
    sources: Sequence[Path], up: str = "z", threshold: float = THRESHOLD, like: VoxelSet | None = None,
    readers: Readers | None = None,
) -> VoxelSet:  # fmt: skip
    """All shapes of anybody's files, folders and archives, to be shown or looked for beside ours; z is up in the set.

    They are padded as those of `like` were, where it is given (`Shapes.padded`). `readers` know tensors and meshes.

    Raises
    ------
    VoxelError
        Something in them that cannot be read, no shapes, or several resolutions.
    """
    parts = []
    for source in sources:
        found = collect(source, readers=readers, logs=False)
        if found.refused or not found.batches:
            name, reason = next(iter(found.refused.items()), ("", "holds weights, and no shapes"))
            raise VoxelError(f"{_where(source, name)} {reason}")
        shapes = shapes_of(found, threshold, source)
        grids = (shapes.padded(like, source) if like else shapes).occupied
        parts.append(turn_up(grids) if up == "y" else grids)
    if len(sides := {grids.shape[1] for grids in parts}) > 1:
        raise VoxelError(f"files of resolutions {', '.join(map(str, sorted(sides)))}; pass those of one")
    return VoxelSet.from_grids(np.concatenate(parts))


def _where(source: Path, name: str) -> Path:
    return source / name if source.is_dir() else source


def _between(values: NDArray[Any]) -> bool:
    """Whether some value is neither 0 nor 1."""
    return any(bool(((block > 0) & (block < 1)).any()) for block in np.array_split(values, max(1, len(values) // BLOCK)))
