"""Peeling: a copy that was thickened, thinned or sprinkled with voxels is near its original, another shape is not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from gan3d_eval import peeling
from gan3d_eval.peeling import nearest_peeled, peel
from gan3d_eval.voxels import VoxelSet


def chair(leg=2):
    """A seat on four legs, with a back."""
    grid = np.zeros((16, 16, 16), bool)
    grid[3:13, 3:13, 7:9] = grid[3:13, 3:5, 9:14] = True
    for x in (3, 13 - leg):
        for y in (3, 13 - leg):
            grid[x : x + leg, y : y + leg, 2:7] = True
    return grid


def distance(a, b):
    one, other = (peel(VoxelSet.from_grids(grid[None])) for grid in (a, b))
    return nearest_peeled(one, other).item()


def solid():
    grid = np.zeros((16, 16, 16), bool)
    grid[4:11, 3:12, 4:9] = True
    return grid


@pytest.mark.parametrize(
    ("change", "at_most"),
    [
        (lambda grid: grid, 0),
        (ndimage.binary_dilation, 0.02),
        (ndimage.binary_erosion, 0.02),
        (lambda grid: grid ^ (np.random.default_rng(0).random(grid.shape) < 0.01), 0.06),
    ],
)
def test_a_solid_that_was_thickened_thinned_or_sprinkled_is_its_own_copy(change, at_most):
    changed = change(solid())
    assert distance(changed, solid()) == distance(solid(), changed) <= at_most


def test_thickening_a_thin_shape_costs_far_less_than_by_jaccard():
    thick = ndimage.binary_dilation(chair())
    plain = 1 - (thick & chair()).sum() / (thick | chair()).sum()
    assert plain > 0.5
    assert distance(thick, chair()) < 0.2


def test_another_shape_of_the_same_volume_is_no_copy():
    other = np.roll(chair(), 3, axis=0)
    assert distance(chair(), other) > 0.4


@given(arrays(np.bool_, (3, 4, 4, 4)), arrays(np.bool_, (5, 4, 4, 4)), st.integers(-1, 4))
def test_the_search_equals_the_definition(queries, database, own):
    ours, theirs = (peel(VoxelSet.from_grids(grids)) for grids in (queries, database))
    found = nearest_peeled(ours, theirs, np.full(3, own))
    for i in range(3):
        mine = ours.voxels[ours.start[i] : ours.start[i + 1]]
        values = [1.0]
        for j in range(5):
            other = theirs.voxels[theirs.start[j] : theirs.start[j + 1]]
            m = min(len(mine), len(other))
            if m and j != own and max(len(mine), len(other)) <= 8 * m:
                common = len(set(mine[:m]) & set(other[:m]))
                values.append(1 - common / (2 * m - common))
        assert found[i] == pytest.approx(min(values))
        assert set(mine) == set(np.flatnonzero(queries[i]))


def test_a_stray_voxel_among_the_training_shapes_is_not_found_in_every_sample():
    stray = np.zeros((2, 16, 16, 16), bool)
    stray[0, 7, 7, 6] = stray[1, 6:9, 6:9, 6:9] = True
    queries, database = peel(VoxelSet.from_grids(solid()[None])), peel(VoxelSet.from_grids(stray))
    assert solid().sum() > 8 * 27
    assert nearest_peeled(queries, database) == 1 == nearest_peeled(database, queries)[0]


def test_voxels_stay_by_depth_and_lone_ones_go_first():
    grid = solid()
    grid[14, 14, 14] = True
    order = peel(VoxelSet.from_grids(grid[None])).voxels
    depth = ndimage.distance_transform_cdt(np.pad(grid, 1), "taxicab")[1:-1, 1:-1, 1:-1].ravel()[order]
    assert (np.diff(depth) <= 0).all()
    assert order[-1] == np.ravel_multi_index((14, 14, 14), grid.shape)


def test_blocks_of_queries_change_nothing(monkeypatch, grids):
    shapes = peel(VoxelSet.from_grids(grids))
    whole = nearest_peeled(shapes, shapes, np.arange(len(grids)))
    monkeypatch.setattr(peeling, "BLOCK", 2 * 4 * 8**3)
    assert np.array_equal(nearest_peeled(shapes, shapes, np.arange(len(grids))), whole)
    assert (whole > 0).all()
