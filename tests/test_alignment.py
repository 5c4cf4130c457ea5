"""Aligned distances equal a plain search over every movement, and find copies that were moved."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gan3d_eval import alignment
from gan3d_eval.alignment import POSES, nearest_aligned, posed
from gan3d_eval.distances import nearest
from gan3d_eval.voxels import VoxelError, VoxelSet


def plain(query, shape, shift, poses):
    """L1 and Jaccard over every movement, on grids large enough that nothing is pushed out."""
    d = len(query)
    there = np.pad(shape, shift)
    found = []
    for mirrored, turns in POSES[poses]:
        turned = posed(query[None], mirrored, turns)[0]
        for a, b, c in itertools.product(range(2 * shift + 1), repeat=3):
            here = np.zeros_like(there)
            here[a : a + d, b : b + d, c : c + d] = turned
            l1, either = np.count_nonzero(here ^ there), np.count_nonzero(here | there)
            found.append((l1, l1 / either if either else 0.0))
    return np.min(found, axis=0)


@settings(max_examples=15)
@given(st.integers(3, 8), st.integers(0, 2), st.sampled_from(sorted(POSES)), st.floats(0.05, 0.6), st.integers(0, 2**32 - 1))
def test_it_is_the_smallest_distance_over_every_movement(d, shift, poses, share, seed):
    random = np.random.default_rng(seed)
    queries, database = random.random((3, d, d, d)) < share, random.random((5, d, d, d)) < random.random((5, 1, 1, 1))
    database[0] = False
    l1, rows, jaccard, jaccard_rows = nearest_aligned(VoxelSet.from_grids(queries), VoxelSet.from_grids(database), shift, poses)
    for i, query in enumerate(queries):
        all_l1, all_jaccard = np.array([plain(query, shape, shift, poses) for shape in database]).T
        assert l1[i] == all_l1.min()
        assert rows[i] == all_l1.argmin()
        assert jaccard[i] == pytest.approx(all_jaccard.min(), abs=1e-12)
        assert all_jaccard[jaccard_rows[i]] == pytest.approx(all_jaccard.min(), abs=1e-12)


@pytest.mark.parametrize("d", [16, 30, 32, 33, 64])
def test_without_movement_it_is_faisss_l1(d):
    random = np.random.default_rng(d)
    a, b = (VoxelSet.from_grids(random.random((n, d, d, d)) < random.random((n, 1, 1, 1)) * 0.3) for n in (7, 20))
    l1, rows, *_ = nearest_aligned(a, b, 0)
    expected, neighbours = nearest(a.packed, b.packed)
    assert np.array_equal(l1, expected[:, 0])
    assert np.array_equal(rows, neighbours[:, 0])


def test_a_moved_turned_mirrored_copy_is_found_if_the_search_allows_it(box_sets):
    shapes = box_sets[0].take(np.arange(40))
    grids = shapes.grids()
    shifted = np.zeros_like(grids)
    shifted[:, 2:, :-1, 1:] = grids[:, :-2, 1:, :-1]
    whole = shifted.sum((1, 2, 3)) == grids.sum((1, 2, 3))  # some dust may have been pushed out
    l1, rows, jaccard, _ = nearest_aligned(VoxelSet.from_grids(shifted), shapes, 2)
    assert whole.sum() > 5
    assert (l1[whole] == 0).all()
    assert (jaccard[whole] == 0).all()
    assert np.array_equal(rows[whole], np.flatnonzero(whole))
    assert (nearest_aligned(VoxelSet.from_grids(shifted), shapes, 1)[0][whole] > 0).all()
    turned = VoxelSet.from_grids(posed(grids, True, 1))
    assert (nearest_aligned(turned, shapes, 0, "turns-mirror")[0] == 0).all()
    assert (nearest_aligned(turned, shapes, 0, "turns")[0] > 0).any()


def test_blocks_of_queries_and_database_change_nothing(box_sets, monkeypatch):
    train, _, gen = box_sets
    some = gen.take(np.arange(20))
    whole = nearest_aligned(some, train, 1)
    monkeypatch.setattr(alignment, "UNFOLDED", 14 * 16**3)  # 14 shapes of the database, 7 queries
    assert all(np.array_equal(a, b) for a, b in zip(whole, nearest_aligned(some, train, 1), strict=True))


def test_what_cannot_be_aligned_is_refused(box_sets):
    with pytest.raises(VoxelError, match="cannot align shapes at 16³ with shapes at 8³"):
        nearest_aligned(box_sets[0], VoxelSet.from_grids(np.ones((1, 8, 8, 8), bool)))
    with pytest.raises(VoxelError, match="poses 'any'; expected shapes, and poses out of as-is, mirror"):
        nearest_aligned(box_sets[0], box_sets[1], 2, "any")
    with pytest.raises(VoxelError, match="a shift of 16 voxels does not fit into 16³; expected 0 … 15"):
        nearest_aligned(box_sets[0], box_sets[1], 16)
