"""L1 on packed bits: equal to counting differing voxels by hand, and a planted shape comes back at distance 0."""

from __future__ import annotations

import faiss
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.distance import cdist

from gan3d_eval.distances import jaccard_from_l1, nearest
from gan3d_eval.voxels import VoxelError, pack, volumes

pairs = st.integers(2, 5).flatmap(lambda d: st.tuples(arrays(np.bool_, (4, d, d, d)), arrays(np.bool_, (6, d, d, d))))


@given(pairs)
def test_distances_equal_counting_voxels_at_any_resolution(both):
    queries, database = both
    l1, rows = nearest(pack(queries), pack(database), 6)
    brute = (queries[:, None] != database[None]).sum(axis=(2, 3, 4))
    assert np.array_equal(l1, np.sort(brute, axis=1))
    assert np.array_equal(np.take_along_axis(brute, rows, axis=1), l1)


@given(pairs)
def test_jaccard_from_l1_equals_scipys(both):
    a, b = both
    l1, rows = nearest(pack(a), pack(b), 6)
    ours = jaccard_from_l1(l1, volumes(pack(a))[:, None], volumes(pack(b))[rows])
    theirs = np.take_along_axis(cdist(a.reshape(4, -1), b.reshape(6, -1), "jaccard"), rows, axis=1)
    assert np.allclose(ours, theirs)


def test_a_planted_shape_comes_back_at_distance_zero_under_its_own_row(grids):
    l1, rows = nearest(pack(grids[[4]]), pack(grids))
    assert (l1.item(), rows.item()) == (0, 4)


def test_the_answer_equals_faiss_own_l1_on_floats(grids):
    index = faiss.IndexFlat(512, faiss.METRIC_L1)
    index.add(grids.reshape(6, -1).astype(np.float32))
    queries = np.random.default_rng(1).random((5, 8, 8, 8)) < 0.4
    l1, rows = nearest(pack(queries), pack(grids), 3)
    theirs, their_rows = index.search(queries.reshape(5, -1).astype(np.float32), 3)
    assert np.array_equal(l1, theirs)
    assert np.array_equal(rows, their_rows)


@pytest.mark.parametrize("k", [0, 7])
def test_k_out_of_range_is_refused_where_faiss_would_pad(grids, k):
    with pytest.raises(VoxelError, match=f"{k} neighbours asked for, but there are 6"):
        nearest(pack(grids), pack(grids), k)


def test_nothing_to_compare_is_refused(grids):
    with pytest.raises(VoxelError, match="cannot compare"):
        nearest(pack(grids), pack(grids)[:0])
    with pytest.raises(VoxelError, match="cannot compare"):
        nearest(pack(grids), pack(grids)[:, :5])
