"""Chamfer distance by distance transforms equals the definition on point sets, for empty shapes too."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.distance import cdist

from gan3d_eval import chamfer as module
from gan3d_eval.chamfer import chamfer, surfaces
from gan3d_eval.voxels import VoxelSet, unpack


def by_points(a, b):
    """The definition, on the voxels of two surfaces."""
    a, b = np.argwhere(a) / len(a), np.argwhere(b) / len(b)
    if not len(a) or not len(b):
        return 0.0 if len(a) == len(b) else 6.0
    squares = cdist(a, b, "sqeuclidean")
    return squares.min(axis=0).mean() + squares.min(axis=1).mean()


@given(st.integers(2, 6).flatmap(lambda d: st.tuples(arrays(np.bool_, (4, d, d, d)), arrays(np.bool_, (3, d, d, d)))))
def test_all_pairs_equal_the_definition(both):
    a, b = (VoxelSet.from_grids(grids) for grids in both)
    points, others = unpack(surfaces(a), a.resolution), unpack(surfaces(b), b.resolution)
    within, cross = chamfer(a, b)
    assert np.allclose(within, [[by_points(x, y) for y in points] for x in points])
    assert np.allclose(cross, [[by_points(x, y) for y in others] for x in points])


def test_a_surface_is_what_has_an_empty_neighbour_or_lies_at_the_border():
    grid = np.zeros((1, 7, 7, 7), bool)
    grid[0, 1:6, 1:6, 1:6] = True
    assert unpack(surfaces(VoxelSet.from_grids(grid)), 7).sum() == 5**3 - 3**3
    full = VoxelSet.from_grids(np.ones((1, 5, 5, 5), bool))
    assert unpack(surfaces(full), 5).sum() == 5**3 - 3**3


def test_a_shift_by_one_voxel_costs_at_most_one_voxel_each_way():
    grid = np.zeros((2, 16, 16, 16), bool)
    grid[0, 4:10, 4:10, 4:10] = grid[1, 5:11, 4:10, 4:10] = True
    within, _ = chamfer(VoxelSet.from_grids(grid), VoxelSet.from_grids(grid))
    assert 0 < within[0, 1] <= 2 / 16**2
    assert within[0, 0] == within[1, 1] == 0
    assert within[0, 1] == within[1, 0]


def test_blocks_do_not_change_the_result(monkeypatch):
    grids = np.random.default_rng(0).random((9, 8, 8, 8)) < 0.3
    a, b = VoxelSet.from_grids(grids[:5]), VoxelSet.from_grids(grids[5:])
    whole = chamfer(a, b)
    monkeypatch.setattr(module, "BLOCK", 2 * 4 * 8**3)
    assert all(one == pytest.approx(other, rel=1e-6) for one, other in zip(whole, chamfer(a, b), strict=True))
