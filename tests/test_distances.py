"""L1 on packed bits: equal to counting differing voxels by hand, and a planted shape comes back at distance 0."""

from __future__ import annotations

import faiss
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.distance import cdist

from gan3d_eval.distances import jaccard_from_l1, near_duplicates, nearest, nearest_soft
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


@given(arrays(np.bool_, (9, 3, 3, 4)), arrays(np.int64, 9, elements=st.integers(0, 36)), st.sampled_from([0.25, 0.5, 1.0]))
def test_near_duplicates_are_those_that_comparing_all_with_all_finds(grids, far, share):
    packed, kept = np.packbits(grids.reshape(9, -1), axis=1), []
    for i, row in enumerate(near_duplicates(packed, far, share)):
        like = [j for j in kept if (grids[i] != grids[j]).sum() <= share * min(far[i], far[j])]
        assert row == (like[0] if like else i)
        kept += [] if like else [i]


def test_shapes_of_one_class_are_no_duplicates_of_each_other_but_copies_of_them_are(box_sets):
    train, _, gen = (shapes.packed for shapes in box_sets)
    far = nearest(gen, train)[0][:, 0]
    once = near_duplicates(gen, far)
    assert len(np.unique(once)) > 195  # of 200 honest samples
    assert near_duplicates(np.r_[gen, gen], np.r_[far, far]).tolist() == [*once] * 2
    copies = train[:50]
    assert near_duplicates(copies, np.zeros(50)).tolist() == [*range(50)]


@pytest.mark.parametrize("k", [0, 7])
def test_k_out_of_range_is_refused_where_faiss_would_pad(grids, k):
    with pytest.raises(VoxelError, match=f"{k} neighbours asked for, but there are 6"):
        nearest(pack(grids), pack(grids), k)


def test_nothing_to_compare_is_refused(grids):
    with pytest.raises(VoxelError, match="cannot compare"):
        nearest(pack(grids), pack(grids)[:0])
    with pytest.raises(VoxelError, match="cannot compare"):
        nearest(pack(grids), pack(grids)[:, :5])


@given(st.integers(0, 10**6), st.integers(1, 8))
def test_blocks_change_nothing_and_of_equally_near_shapes_the_first_is_taken(seed, block):
    random = np.random.default_rng(seed)
    queries, database = (random.integers(0, 4, (n, 1), np.uint8) for n in (5, 23))  # two bits: ties everywhere
    brute = np.bitwise_count(queries ^ database.T).astype(np.int64)
    order = np.argsort(brute, axis=1, kind="stable")[:, :6]
    l1, rows = nearest(queries, database, 6, block)
    assert np.array_equal(rows, order)
    assert np.array_equal(l1, np.take_along_axis(brute, order, axis=1))


def test_a_memory_map_is_searched_in_blocks(tmp_path, grids):
    np.save(tmp_path / "voxels.npy", pack(grids))
    mapped = np.load(tmp_path / "voxels.npy", mmap_mode="r")
    assert np.array_equal(nearest(pack(grids), mapped, 6, block=64)[1], nearest(pack(grids), pack(grids), 6)[1])


@given(st.integers(0, 10**6), st.integers(64, 10**4))
def test_the_l1_of_probabilities_equals_faiss_own(seed, block):
    random = np.random.default_rng(seed)
    p, x = random.random((4, 5, 5, 5), np.float32), random.random((7, 5, 5, 5)) < 0.4
    index = faiss.IndexFlat(125, faiss.METRIC_L1)
    index.add(x.reshape(7, -1).astype(np.float32))
    theirs, their_rows = index.search(p.reshape(4, -1), 3)
    l1, rows = nearest_soft(p, pack(x), 3, block)
    assert np.allclose(l1, theirs, atol=1e-3)
    assert np.array_equal(rows, their_rows)


def test_the_l1_of_certain_probabilities_is_the_l1_of_shapes(grids):
    soft, hard = nearest_soft(grids.astype(np.float16), pack(grids), 6), nearest(pack(grids), pack(grids), 6)
    assert np.allclose(soft[0], hard[0])


def test_rounding_makes_no_distance_negative():
    random = np.random.default_rng(0)
    x = random.random((8, 64, 64, 64)) < 0.5
    almost = np.abs(x - random.choice([0, 6e-8, 1.2e-7], x.shape)).astype(np.float32)
    assert nearest_soft(almost, pack(x))[0].min() >= 0


@pytest.mark.parametrize("wrong", [np.nan, -0.1, 1.5])
def test_probabilities_that_are_none_are_refused(wrong, grids):
    p = grids.astype(np.float32)
    p[3, 0, 0, 0] = wrong
    with pytest.raises(VoxelError, match="NaN, or values outside"):
        nearest_soft(p, pack(grids))


def test_probabilities_of_another_resolution_are_refused(grids):
    with pytest.raises(VoxelError, match="cannot compare probabilities"):
        nearest_soft(np.zeros((2, 4, 4, 4)), pack(grids))


def test_pieces_of_a_memory_map_say_where_they_are_in_its_file(tmp_path):
    rows = np.random.default_rng(0).integers(0, 256, (5000, 16), np.uint8)
    np.save(tmp_path / "voxels.npy", rows)
    mapped = np.load(tmp_path / "voxels.npy", mmap_mode="r")
    part = mapped[300:]  # a view, as `VoxelSet.take` makes of consecutive rows
    read = []

    def elsewhere(function, pieces, shared):
        read.extend(piece.load() for piece in pieces)
        assert all(piece.rows is None for piece in pieces)
        return [function(piece, shared) for piece in pieces]

    found = nearest(rows[:9], part, 4, block=16 * 999, spread=elsewhere)
    assert np.array_equal(np.concatenate(read), rows[300:])
    assert all(np.array_equal(a, b) for a, b in zip(found, nearest(rows[:9], rows[300:], 4), strict=True))


def test_a_cluster_finds_the_same_neighbours(tmp_path):
    distributed = pytest.importorskip("distributed", reason="the extra 'cluster' is not installed")
    from gan3d_model.data.parts import spread_over

    rows = np.random.default_rng(0).integers(0, 256, (4000, 16), np.uint8)
    np.save(tmp_path / "voxels.npy", rows)
    mapped = np.load(tmp_path / "voxels.npy", mmap_mode="r")
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
        spread_over(cluster.scheduler_address) as spread,
    ):
        for database in (mapped, rows):
            there = nearest(rows[5:25], database, 3, block=16 * 700, spread=spread)
            assert all(np.array_equal(a, b) for a, b in zip(there, nearest(rows[5:25], rows, 3), strict=True))
