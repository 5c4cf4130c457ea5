"""What each shape of a set is like: its size, its place in the grid, what it encloses, its parts, its symmetry.

One row a shape, whatever the verb makes of it. Grids are unpacked in blocks, never all at once.
Neighbours are six throughout: two voxels touch where they share a face.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from gan3d_eval.orientation import SOME, lies_otherwise
from gan3d_eval.voxels import VoxelError, VoxelSet

__all__ = ["KINDS", "LEAKED", "other_kind", "statistics", "unlike"]

KINDS = ("solid", "surface", "thin", "empty")
KINDS_OF, MOSTLY = 100, 0.7  # shapes whose kind is looked at; share that makes a convention
OTHER_KIND = (
    "Samples are mostly {}, training shapes mostly {}, and distances then measure that: judge against a dataset made as "
    "the samples are (of meshes: prepare --surface), or fill the samples "
    "(scipy.ndimage.binary_fill_holes), unless it is their generator that broke down."
)
LEAKED = "Held-out shapes that stand in the training set too, and were left out: {}."  # of every verb that needs unseen ones
INSIDE = 0.05  # below this share of inside, a shape is too thin for solid and surface to differ


def statistics(shapes: VoxelSet, block: int = 64) -> pd.DataFrame:
    """Measure every shape.

    Parameters
    ----------
    shapes : VoxelSet
        Class and split default to `shape` and `train` where its table has none.
    block : int
        Shapes unpacked at a time; the result does not depend on it.

    Returns
    -------
    DataFrame of n rows, in the order of the shapes, with the columns

    name, class, split : str
    volume : int, voxels
    extent_x, extent_y, extent_z : int, voxels
        Sides of the bounding box, 0 if empty; `longest` is the largest of them. Here and below x, y and z are the grid's
        first, second and third axis.
    offset_x, offset_y, offset_z : float, voxels
        Centre of the bounding box minus centre of the grid; NaN if empty.
    enclosed : int, voxels
        What `scipy.ndimage.binary_fill_holes` would add: empty, and cut off from the outside.
    interior : int, voxels
        Occupied, and so are all six neighbours.
    components : int
    euler : int
        Euler number of the voxels joined by their faces: parts − tunnels + cavities.
    largest_share : float in (0, 1]
        Volume of the largest component ÷ volume; NaN if empty.
    symmetry_x, symmetry_y : float in [0, 1]
        |S ∩ S'| / |S ∪ S'| of the shape S and its mirror image S' in the plane that halves S's own bounding box across that
        axis; 1 is symmetric. NaN if empty. None along z, for which no furniture is symmetric.
    touches_border : bool
        A voxel lies on a face of the grid.
    kind : str, one of `KINDS`
        Inside = interior + enclosed voxels. `thin`: less than 5 % of the filled shape is inside (plates, rods, shells with a
        hole in them). `surface`: more of the inside is enclosed than interior. `solid`: the rest, thick walls included.

    Raises
    ------
    VoxelError
        No shapes.
    """
    if not len(shapes):
        raise VoxelError("there are no shapes to measure")
    blocks = (shapes.grids(slice(i, i + block)) for i in range(0, len(shapes), block))
    table = pd.DataFrame([_measure(grid) for grids in blocks for grid in grids])
    for i, (column, default) in enumerate((("name", ""), ("class", "shape"), ("split", "train"))):
        table.insert(i, column, shapes.table[column].astype(str).to_numpy() if column in shapes.table else default)
    table["kind"] = _kinds(table["volume"], table["enclosed"], table["interior"])
    return table


def _kinds(volume: ArrayLike, enclosed: ArrayLike, interior: ArrayLike) -> NDArray[np.str_]:
    """Which of `KINDS` shapes are that have so many voxels."""
    volume, enclosed, interior = map(np.asarray, (volume, enclosed, interior))
    thin = interior + enclosed < INSIDE * (volume + enclosed)
    return np.select([volume == 0, thin, enclosed > interior], ["empty", "thin", "surface"], "solid")


def _box(grid: NDArray[np.bool_]) -> tuple[slice, ...]:
    """Where in its grid `(d, d, d) bool` a shape lies."""
    return tuple(ndimage.find_objects(grid.view(np.uint8))[0]) if grid.any() else (slice(0, 0),) * 3


def _insides(shape: NDArray[np.bool_]) -> tuple[int, int]:
    """Voxels that a shape encloses, and its own inner ones; `shape` is cut out of its grid, so its border has outer ones."""
    # Around the box lies one layer of outside: the empty voxels that it reaches are component 1, all others are enclosed.
    hollows = ndimage.label(np.pad(~shape, 1, constant_values=True))[0]
    inner = shape[1:-1, 1:-1, 1:-1].copy()
    for axis in range(3):
        for end in (slice(None, -2), slice(2, None)):
            inner &= shape[tuple(end if a == axis else slice(1, -1) for a in range(3))]
    return int(np.count_nonzero(hollows > 1)), int(np.count_nonzero(inner))


def _measure(grid: NDArray[np.bool_]) -> dict[str, Any]:
    """Measure one shape, `(d, d, d) bool`, within its bounding box."""
    shape = grid[box := _box(grid)]
    volume = int(np.count_nonzero(shape))
    labels, components = ndimage.label(shape)
    row: dict[str, Any] = {"volume": volume}
    row |= {f"extent_{axis}": side for axis, side in zip("xyz", shape.shape, strict=True)}
    row["longest"] = max(shape.shape)
    for axis, side in zip("xyz", box, strict=True):
        row[f"offset_{axis}"] = (side.start + side.stop - len(grid)) / 2 if volume else np.nan
    row["enclosed"], row["interior"] = _insides(shape)
    row["components"] = components
    row["euler"] = _euler(shape)
    row["largest_share"] = np.bincount(labels.ravel())[1:].max() / volume if volume else np.nan
    for i, axis in enumerate("xy"):
        common = np.count_nonzero(shape & np.flip(shape, i))
        row[f"symmetry_{axis}"] = common / (2 * volume - common) if volume else np.nan
    row["touches_border"] = any(side.start == 0 or side.stop == len(grid) for side in box) and volume > 0
    return row


def _euler(shape: NDArray[np.bool_]) -> int:
    """Euler number under six neighbours: voxels − pairs that touch + full squares of four − full cubes of eight."""
    x, y, z = shape[1:] & shape[:-1], shape[:, 1:] & shape[:, :-1], shape[:, :, 1:] & shape[:, :, :-1]
    xy, xz, yz = x[:, 1:] & x[:, :-1], x[:, :, 1:] & x[:, :, :-1], y[:, :, 1:] & y[:, :, :-1]
    xyz = xy[:, :, 1:] & xy[:, :, :-1]
    v, a, b, c, ab, ac, bc, abc = (int(np.count_nonzero(part)) for part in (shape, x, y, z, xy, xz, yz, xyz))
    return v - (a + b + c) + (ab + ac + bc) - abc


def other_kind(gen: VoxelSet, train: VoxelSet, seed: int) -> str:
    """That samples are mostly of another kind than training shapes, as far as a hundred of each tell; empty if they are not."""
    random, kinds = np.random.default_rng(seed), []
    for shapes in (gen, train):
        some = shapes.take(np.sort(random.permutation(len(shapes))[:KINDS_OF]))
        cut = [grid[_box(grid)] for grid in some.grids()]
        of = _kinds([np.count_nonzero(shape) for shape in cut], *zip(*map(_insides, cut), strict=True))
        kinds.append(pd.Series(of).value_counts(normalize=True))
    ours, theirs = (kind.index[0] for kind in kinds)
    if "empty" in {ours, theirs} or ours == theirs or min(kind.iloc[0] for kind in kinds) < MOSTLY:
        return ""
    return OTHER_KIND.format(ours, theirs)


def unlike(gen: VoxelSet, train: VoxelSet, seed: int) -> list[str]:
    """Notes if samples are mostly of another kind than training shapes, or lie otherwise: distances then measure that alone."""
    return list(filter(None, (lies_otherwise(gen.grids(slice(SOME)), train, seed), other_kind(gen, train, seed))))
