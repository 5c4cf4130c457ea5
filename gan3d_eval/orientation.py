"""Which way do a stranger's grids lie? Found from the shapes themselves, with the evidence, or left undecided.

With a training set: of the 48 ways to lay a cube, the one in which the samples' mean shape agrees best with the training
set's (correlation of mean occupancies). Each shape is moved to the middle of the grid first, for strangers pad otherwise.
Resampling the samples says which other ways agree as well; if theirs is among these, they stay as they lie, unless samples
that equal training shapes, voxel by voxel, say otherwise.

Without one, only the axis that is up is looked for. Things stand on something: shapes are least symmetric along the axis
that is up, and its two ends differ most as supports (the box around what lies in the end slice, as a share of the shape's
own). Both must name the same axis, in 95 % of resamples; furniture that is much like a box stays undecided.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from gan3d_eval.files import Gan3dError
from gan3d_eval.voxels import VoxelError, VoxelSet

__all__ = ["AS_THEY_LIE", "POSES", "Orientation", "Pose", "by_support", "by_training_set", "given"]

LETTERS = "xyz"
SOME, FEWEST = 200, 8
"""Samples that are looked at, and fewer than which nothing is decided."""
POOLED = 16
"""Voxels along each axis, at least, that mean shapes are pooled to."""
RESAMPLES, SURE = 200, 0.95
AGREES = 0.3
"""Correlation below which samples are not taken for shapes of the training set's kind at all."""
WELL, CLEARLY = 0.95, 0.05
"""Samples are turned only where they then agree that well, or that much better than in the next way: of one class among ten,
laid against all ten, desks agree best (0.91, margin 0.01) when they stand on their heads."""
ALIKE = 0.005
"""Difference of correlations that is none."""
SUPPORTS, LESS_SYMMETRIC = 0.2, 0.05
"""By how much the two ends of the axis that is up differ, and by how much it is the least symmetric (means over shapes)."""


@dataclasses.dataclass(frozen=True)
class Pose:
    """A way to lay grids anew: axis i of the result is axis `order[i]` of the file, reversed where `flips[i]`."""

    order: tuple[int, int, int] = (0, 1, 2)
    flips: tuple[bool, bool, bool] = (False, False, False)

    def __call__(self, grids: NDArray[Any]) -> NDArray[Any]:
        """Lay grids `(…, d, d, d)` anew; a view."""
        first = grids.ndim - 3
        turned: NDArray[Any] = grids.transpose(*range(first), *(first + axis for axis in self.order))
        return np.flip(turned, tuple(first + i for i in range(3) if self.flips[i]))

    def after(self, other: Pose) -> Pose:
        """The pose that is `other`, then this one."""
        order = tuple(other.order[axis] for axis in self.order)
        flips = tuple(flip != other.flips[axis] for axis, flip in zip(self.order, self.flips, strict=True))
        return Pose(order, flips)  # type: ignore[arg-type]

    @property
    def is_turn(self) -> bool:
        """Whether a solid could be turned so; else it is also mirrored."""
        odd = sum(a > b for a, b in itertools.combinations(self.order, 2)) % 2
        return (odd + sum(self.flips)) % 2 == 0

    @property
    def up(self) -> tuple[int, bool]:
        """The axis of the file that points up, and whether it points down."""
        return self.order[2], self.flips[2]

    def __str__(self) -> str:
        """What each axis of the file is, as --axes takes it: `xyz` as they lie, `xz-y` for y up."""
        names = {axis: "-" * flip + letter for letter, axis, flip in zip(LETTERS, self.order, self.flips, strict=True)}
        return "".join(names[axis] for axis in range(3))


AS_THEY_LIE = Pose()
POSES = [Pose(o, f) for o in itertools.permutations(range(3)) for f in itertools.product((False, True), repeat=3)]  # type: ignore[arg-type]
UP = {"z": "xyz", "-z": "x-y-z", "y": "xz-y", "-y": "x-zy", "x": "zy-x", "-x": "-zyx"}
"""Turns that bring each axis up, the shortest way."""


@dataclasses.dataclass(frozen=True)
class Orientation:
    """How grids are laid, how that is known, and whether it is."""

    pose: Pose
    how: str
    """`given`, `training-set`, `support`, or `undecided`."""
    evidence: str
    margin: float | None = None
    """Correlation, less that of the next way that is not as good; or the smaller of both margins of the support."""

    @property
    def decided(self) -> bool:
        """False where the data did not say and nobody did."""
        return self.how != "undecided"

    def record(self) -> dict[str, Any]:
        """For `run.json`."""
        margin = None if self.margin is None else round(self.margin, 4)
        return {"axes": str(self.pose), "how": self.how, "evidence": self.evidence, "margin": margin}


def given(axes: str | None, up: str | None) -> Orientation:
    """What the user said: what each axis of the file is, in order (`zyx`, `xz-y`), or which of them is up."""
    if axes and up:
        raise Gan3dError(f"--axes {axes} says which axis is up, too; leave --up {up} out")
    pose = _named(axes or "xyz")
    if up is not None:
        if up not in UP:
            raise Gan3dError(f"up axis {up!r}; expected one of {', '.join(UP)}")
        pose = _named(UP[up])
    return Orientation(pose, "given", f"as said by --up {up}" if up else f"as said by --axes {axes}")


def lies_otherwise(samples: NDArray[np.bool_], train: VoxelSet, seed: int = 0) -> str:
    """What to say of samples that seem to lie otherwise than the shapes of `train` do; nothing of others."""
    lie = by_training_set(samples, train, seed)
    if not lie.decided or lie.pose == AS_THEY_LIE:
        return ""
    return (
        f"The samples seem to lie otherwise than the training set (as they are now, axes {lie.pose} would lay them alike: "
        f"{lie.evidence}), so every distance is off; `import-run` without --axes and --up finds how they lie."
    )


def _named(axes: str) -> Pose:
    """The pose of a text such as `xz-y`."""
    found = re.findall(r"(-?)([xyz])", axes)
    if re.fullmatch(r"(-?[xyz]){3}", axes) is None or {letter for _, letter in found} != set(LETTERS):
        raise Gan3dError(
            f"axes {axes!r}; expected x, y and z in the order of the file's axes, - for reversed: xyz, zyx, xz-y …"
        )
    where = {letter: (axis, sign == "-") for axis, (sign, letter) in enumerate(found)}
    return Pose(*zip(*(where[letter] for letter in LETTERS), strict=True))


def by_training_set(samples: NDArray[np.bool_], train: VoxelSet, seed: int = 0) -> Orientation:
    """Lay samples `(n, d, d, d)` as the shapes of `train` lie.

    The pose with the highest correlation of mean occupancies wins. Others are as good if resampled samples prefer them in
    more than 5 % of draws: mirror images of symmetric classes always are.

    Raises
    ------
    VoxelError
        Another resolution than the training set's.
    """
    if (side := samples.shape[-1]) != train.resolution:
        what = f"samples are {side}³, training shapes {train.resolution}³"
        raise VoxelError(f"{what}; voxelise these at {side}³, or, where a voxel is as large in both, pad the smaller (np.pad)")
    some = _some(samples)
    if len(some) < FEWEST:
        return _undecided(f"{len(some)} samples are too few to tell; at least {FEWEST} are needed")
    if not some.any():
        return Orientation(AS_THEY_LIE, "training-set", "all shapes are empty, which is the same in whatever way", 0.0)
    means = _resampled(_centred(some).reshape(len(some), -1), seed)
    rows = np.unique(np.linspace(0, len(train) - 1, 500).astype(int))
    target = np.mean([_centred(train.grids(part)).sum(axis=0) for part in np.array_split(rows, 1 + len(rows) // 50)], axis=0)
    # <pose(g), t> = <g, pose⁻¹(t)>; the 48 inverses are the 48 poses
    inverse = [next(back for back in POSES if back.after(pose) == AS_THEY_LIE) for pose in POSES]
    targets = np.stack([back(target).ravel() for back in inverse])
    r = _unit(means) @ _unit(targets).T  # (1 + RESAMPLES, 48), the samples themselves first
    best = int(r[0].argmax())
    if r[0, best] < AGREES:
        return _undecided(f"samples agree with the training set in no way (correlation at most {r[0, best]:.2f})")
    as_good = ((r[1:] >= r[1:, [best]]).mean(axis=0) > 1 - SURE) | (r[0] > r[0, best] - ALIKE)
    alike = [int(i) for i in np.flatnonzero(as_good)]
    chosen = min(alike, key=lambda i: (POSES[i] != AS_THEY_LIE, not POSES[i].is_turn, POSES[i].order != (0, 1, 2), i))
    chosen, equal = _by_copies(some, train, alike, chosen)
    turned = POSES[chosen] != AS_THEY_LIE and not equal
    if turned and len({POSES[i].up for i in alike}) > 1:
        ways = ", ".join(str(POSES[i]) for i in alike)
        return _undecided(f"samples agree with the training set equally well in ways with other axes up ({ways})")
    others = [float(r[0, i]) for i in range(len(POSES)) if i not in alike]
    first, second = float(r[0, best]), max(others, default=0.0)
    if turned and first < WELL and first - second < CLEARLY:
        return _undecided(f"samples agree best as {POSES[chosen]}, but by {first:.2f} only, and by {second:.2f} in another way")
    text = f"mean shapes correlate by {r[0, chosen]:.3f} with the training set's"
    text += f", by {second:.3f} the next best way" if others else ", in whatever way"
    also = [str(POSES[i]) for i in alike if i != chosen]
    text += f"; equally good: {', '.join(also[:4])}{' …' * (len(also) > 4)}" if also else ""
    text += f"; of {len(some)} samples looked at {equal} equal training shapes in this way alone" if equal else ""
    return Orientation(POSES[chosen], "training-set", text, float(r[0, chosen]) - second if others else 0.0)


def _by_copies(some: NDArray[np.bool_], train: VoxelSet, alike: list[int], preferred: int) -> tuple[int, int]:
    """Of poses that are as good the one in which samples equal training shapes, and how many do so there alone.

    The preferred one and 0 where they do so in that as well: then G may have learned mirror images.
    """
    if len(alike) == 1:
        return preferred, 0
    laid = np.concatenate([VoxelSet.from_grids(POSES[i](some)).packed for i in alike])  # so that `train` is hashed once
    equal = VoxelSet.from_packed(laid, train.resolution).stands_in(train).reshape(len(alike), len(some))
    same = dict(zip(alike, equal, strict=True))
    best = max(same, key=lambda i: (same[i].sum(), i == preferred))
    elsewhere = np.any([same[i] for i in alike if i != best], axis=0)
    alone, lost = int((same[best] & ~elsewhere).sum()), int((elsewhere & ~same[best]).sum())
    return (best, alone) if alone > 10 * lost else (preferred, 0)


def by_support(samples: NDArray[np.bool_], seed: int = 0) -> Orientation:
    """Find the axis of samples `(n, d, d, d) bool` that is up, from symmetry and support; the other axes stay as they lie."""
    facts = [_facts(grid) for grid in _some(samples) if grid.any()]
    if len(facts) < FEWEST:
        return _undecided(f"{len(facts)} samples that are not empty are too few to tell; at least {FEWEST} are needed")
    means = _resampled(np.array(facts, np.float64), seed)  # (1 + RESAMPLES, 6): symmetry along, and support below less above
    symmetry, support = means[:, :3], means[:, 3:]
    least, most = symmetry.argmin(axis=1), np.abs(support).argmax(axis=1)
    axis, down = int(least[0]), bool(support[0, least[0]] < 0)
    rank_s, rank_u = np.sort(symmetry[0]), np.sort(np.abs(support[0]))
    margins = rank_s[1] - rank_s[0], rank_u[2] - rank_u[1]
    text = (
        f"likeness to the mirror image across each axis {_list(symmetry[0])}, the least being up; "
        f"by how much the low end is broader than the high one {_list(support[0])}"
    )
    agreed = (least == axis) & (most == axis) & ((support[:, axis] < 0) == down)
    if agreed.mean() < SURE or not agreed[0] or rank_u[2] < SUPPORTS or margins[0] < LESS_SYMMETRIC:
        return _undecided(f"mirror images and the ends do not name one axis as up ({text})")
    return Orientation(_named(UP["-" * down + LETTERS[axis]]), "support", text, float(min(margins)))


def _facts(grid: NDArray[np.bool_]) -> list[float]:
    """Of one shape `(d, d, d)` that is not empty: symmetry along each axis, and support at its low end less at its high end."""
    for axis in range(3):
        lines = np.flatnonzero(grid.any(axis=tuple(a for a in range(3) if a != axis)))
        grid = grid.take(range(lines[0], lines[-1] + 1), axis)
    symmetry, support = [], []
    for axis in range(3):
        mirrored = np.flip(grid, axis)
        symmetry.append(float((grid & mirrored).sum() / (grid | mirrored).sum()))
        depth = max(1, round(grid.shape[axis] / 16))
        ends = (grid.take(range(depth), axis), grid.take(range(grid.shape[axis] - depth, grid.shape[axis]), axis))
        low, high = (_box(np.asarray(end.any(axis=axis))) for end in ends)
        support.append(low - high)
    return symmetry + support


def _box(slice_: NDArray[np.bool_]) -> float:
    """Area of the box around what lies in a slice, as a share of the slice."""
    rows, columns = (np.flatnonzero(slice_.any(axis=axis)) for axis in (1, 0))
    return float((rows[-1] - rows[0] + 1) * (columns[-1] - columns[0] + 1) / slice_.size)


def _some(samples: NDArray[Any]) -> NDArray[Any]:
    """At most `SOME` samples, evenly spread, and fewer of large ones."""
    n = max(1, min(SOME, 2**26 // samples[0].size))
    return np.asarray(samples[np.unique(np.linspace(0, len(samples) - 1, n).astype(int))])


def _centred(grids: NDArray[Any]) -> NDArray[np.float32]:
    """Shapes `(n, d, d, d)`, pooled, each with its centre of mass in the middle: where in the grid they stand tells no pose.

    Moved by fractions of a voxel (linear between two places), so that a mirror image is moved as its original is.
    """
    pooled = _pooled(grids)
    middle = (pooled.shape[1] - 1) / 2
    for grid in pooled:
        if grid.any():
            grid[:] = ndimage.shift(grid, middle - np.array(ndimage.center_of_mass(grid)), order=1)
    return pooled


def _pooled(grids: NDArray[Any]) -> NDArray[np.float32]:
    """Means over blocks of `(n, d, d, d)`, at least `POOLED` along each axis where there are so many voxels."""
    d = grids.shape[1]
    block = max((k for k in range(1, d + 1) if d % k == 0 and d // k >= POOLED), default=1)
    counts = grids.astype(np.uint16)  # axis by axis, slices on slices: several times as fast as the mean over three axes
    for axis in (1, 2, 3):
        counts = sum(counts[(slice(None),) * axis + (slice(i, None, block),)] for i in range(block))  # type: ignore[assignment]
    return np.asarray(counts / np.float32(block**3), np.float32)


def _resampled(rows: NDArray[Any], seed: int) -> NDArray[np.float64]:
    """Mean of the rows `(n, f)`, then their means in each of `RESAMPLES` bootstrap samples: `(1 + RESAMPLES, f)`."""
    n = len(rows)
    counts = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), RESAMPLES)
    return np.asarray(np.concatenate([np.ones((1, n)), counts]) @ rows / n, np.float64)


def _unit(rows: NDArray[Any]) -> NDArray[np.float64]:
    """Rows less their means, of length 1 (0 where all their numbers are one)."""
    centred = rows - rows.mean(axis=1, keepdims=True, dtype=np.float64)
    length = np.sqrt((centred**2).sum(axis=1, keepdims=True))
    return np.asarray(centred / np.where(length > 1e-9, length, np.inf), np.float64)


def _list(values: NDArray[np.float64]) -> str:
    return ", ".join(f"{letter} {value:.2f}" for letter, value in zip(LETTERS, values, strict=True))


def _undecided(why: str) -> Orientation:
    return Orientation(AS_THEY_LIE, "undecided", why)
