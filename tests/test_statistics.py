"""What a shape is like: balls, shells and plates whose numbers are known, and brute force for the rest."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from gan3d_eval.statistics import statistics
from gan3d_eval.voxels import VoxelError, VoxelSet, pack

SIDE = 16


def ball(radius, center=7.5):
    return (((np.indices((SIDE,) * 3) - center) ** 2).sum(axis=0)) <= radius**2


def box(*slices):
    grid = np.zeros((SIDE,) * 3, bool)
    grid[slices] = True
    return grid


def measured(*grids):
    return statistics(VoxelSet.from_grids(np.stack(grids)))


OPEN_BOX = box(slice(2, 14), slice(2, 14), slice(2, 14)) & ~box(slice(3, 13), slice(3, 13), slice(3, 16))
KNOWN = {
    "ball": (ball(6), "solid"),
    "shell": (ball(6) & ~ball(5), "surface"),
    "shell of two voxels": (ball(7) & ~ball(5), "surface"),
    "ball with a small hollow": (ball(7) & ~ball(2), "solid"),
    "cube": (box(slice(4, 12), slice(4, 12), slice(4, 12)), "solid"),
    "plate of two voxels": (box(slice(2, 14), slice(2, 14), slice(5, 7)), "thin"),
    "plate of three voxels": (box(slice(2, 14), slice(2, 14), slice(5, 8)), "solid"),
    "rod": (box(slice(2, 14), 5, 5), "thin"),
    "box without a lid": (OPEN_BOX, "thin"),
    "box with a lid": (OPEN_BOX | box(slice(2, 14), slice(2, 14), 13), "surface"),
    "voxel": (box(0, 0, 0), "thin"),
    "nothing": (np.zeros((SIDE,) * 3, bool), "empty"),
    "everything": (np.ones((SIDE,) * 3, bool), "solid"),
}


@pytest.mark.parametrize("name", KNOWN)
def test_balls_are_solid_closed_shells_are_surface_and_plates_are_thin(name):
    grid, kind = KNOWN[name]
    assert measured(grid).loc[0, "kind"] == kind


def test_a_hollow_box_by_hand():
    row = measured(box(slice(2, 7), slice(3, 8), slice(0, 5)) & ~box(slice(3, 6), slice(4, 7), slice(1, 4))).iloc[0]
    assert (row["volume"], row["enclosed"], row["interior"], row["components"]) == (125 - 27, 27, 0, 1)
    assert (row["extent_x"], row["extent_y"], row["extent_z"], row["longest"]) == (5, 5, 5, 5)
    assert (row["offset_x"], row["offset_y"], row["offset_z"]) == (-3.5, -2.5, -5.5)
    assert (row["symmetry_x"], row["symmetry_y"]) == (1, 1)
    assert row["touches_border"]
    assert (row["class"], row["split"]) == ("shape", "train")


def test_parts_that_share_only_an_edge_are_two():
    grid = box(slice(2, 5), 2, 2) | box(5, 3, 2)
    row = measured(grid).iloc[0]
    assert (row["components"], row["largest_share"]) == (2, 0.75)
    assert not row["touches_border"]


def test_symmetry_is_about_the_own_bounding_box_wherever_it_lies():
    corner = box(slice(0, 2), 0, 0) | box(0, 1, 0)  # three voxels of an L in a 2 × 2 box: two stay, one moves
    assert measured(corner).loc[0, ["symmetry_x", "symmetry_y"]].tolist() == [0.5, 0.5]
    tee = box(slice(4, 9), 4, 4) | box(6, slice(4, 8), 4)  # symmetric across x; across y only the stem overlaps itself
    assert measured(tee).loc[0, ["symmetry_x", "symmetry_y"]].tolist() == [1, 4 / (2 * 8 - 4)]


def test_of_an_empty_shape_only_counts_are_known():
    row = measured(KNOWN["nothing"][0]).iloc[0]
    assert row[["volume", "extent_x", "longest", "enclosed", "interior", "components"]].eq(0).all()
    assert row[["offset_x", "largest_share", "symmetry_x", "symmetry_y"]].isna().all()
    assert not row["touches_border"]


@settings(max_examples=60)
@given(arrays(np.bool_, (3, 5, 5, 5), elements=st.sampled_from([True, True, False])))
def test_numbers_equal_those_of_brute_force(grids):
    table = measured(*grids)
    for row, grid in zip(table.itertuples(), grids, strict=True):
        assert row.enclosed == ndimage.binary_fill_holes(grid).sum() - grid.sum()
        assert row.interior == ndimage.binary_erosion(grid).sum()
        assert row.components == ndimage.label(grid)[1]
        inside = grid.any() and any(grid.take(side, axis).any() for axis in range(3) for side in (0, -1))
        assert row.touches_border == inside
        where = np.argwhere(grid)
        if len(where):
            low, high = where.min(axis=0), where.max(axis=0)
            assert [row.extent_x, row.extent_y, row.extent_z] == (high - low + 1).tolist()
            assert [row.offset_x, row.offset_y, row.offset_z] == ((low + high) / 2 - 2).tolist()
            mirror = {(low[0] + high[0] - x, y, z) for x, y, z in where}
            own = {tuple(voxel) for voxel in where}
            assert row.symmetry_x == pytest.approx(len(own & mirror) / len(own | mirror))


def test_a_mirror_image_a_turn_and_a_shift_change_nothing_but_the_place():
    rng = np.random.default_rng(0)
    grid = np.pad(rng.random((9, 7, 8)) < 0.7, ((2, 5), (4, 5), (3, 5)))
    still = ["volume", "longest", "enclosed", "interior", "components", "largest_share", "kind"]
    turned = np.rot90(grid, axes=(0, 1))
    table = measured(grid, grid[::-1], np.roll(grid, (1, -2, 3), (0, 1, 2)), turned)
    assert (table[still].nunique() == 1).all()
    assert (table["offset_y"] - table["offset_y"][0])[:3].tolist() == [0, 0, -2]
    assert table["symmetry_x"][:3].nunique() == 1
    assert table.loc[3, "symmetry_x"] == table.loc[0, "symmetry_y"]


def test_block_size_and_order_change_no_row_and_odd_resolutions_work():
    grids = np.random.default_rng(0).random((20, 5, 5, 5)) < 0.5
    table = pd.DataFrame({"name": [f"s{i}" for i in range(20)], "class": 7, "split": "test"})
    shapes = VoxelSet(pack(grids), 5, table)
    whole = statistics(shapes)
    assert whole["class"].eq("7").all()
    assert statistics(shapes, block=3).equals(whole)
    backwards = statistics(shapes.take(np.arange(20)[::-1]))
    assert backwards[::-1].reset_index(drop=True).equals(whole)


def test_no_shapes_are_refused():
    with pytest.raises(VoxelError, match="no shapes to measure"):
        statistics(VoxelSet.from_packed(np.zeros((0, 8), np.uint8), 4))


@pytest.mark.parametrize(
    ("grid", "euler"),
    [
        (KNOWN["ball"][0], 1),
        (box(slice(2, 9), slice(2, 9), slice(2, 9)) & ~box(slice(4, 7), slice(4, 7), slice(4, 7)), 2),  # a cavity
        (box(slice(2, 9), slice(2, 9), slice(4, 6)) & ~box(slice(4, 7), slice(4, 7), slice(4, 6)), 0),  # a ring: one tunnel
        (box(slice(1, 4), slice(1, 4), slice(1, 4)) | box(slice(8, 9), slice(8, 9), slice(8, 9)), 2),  # two parts
        (box(slice(1, 2), slice(1, 2), slice(1, 2)) | box(slice(2, 3), slice(2, 3), slice(1, 2)), 2),  # that share an edge
        (np.zeros((SIDE,) * 3, bool), 0),
    ],
)
def test_the_euler_number_is_parts_minus_tunnels_plus_cavities(grid, euler):
    assert measured(grid)["euler"].item() == euler


@given(arrays(np.bool_, (4, 4, 4)))
def test_the_euler_number_does_not_depend_on_the_resolution(grid):
    """Of a grid and one that is doubled along each axis it is the same: doubling keeps every part, tunnel and cavity."""
    doubled = grid.repeat(2, 0).repeat(2, 1).repeat(2, 2)
    assert (
        statistics(VoxelSet.from_grids(grid[None]))["euler"].item()
        == statistics(VoxelSet.from_grids(doubled[None]))["euler"].item()
    )
