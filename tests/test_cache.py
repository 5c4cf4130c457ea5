"""The cache gives back what was computed, never something else: keys hold all that matters, entries are whole or unused."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from gan3d_eval import cache as module
from gan3d_eval.cache import NO_CACHE, Cache
from gan3d_eval.compare import compare
from gan3d_eval.embedding import Embedding
from gan3d_eval.files import Gan3dError
from gan3d_eval.neighbours import Search
from gan3d_eval.nn_check import nn_check
from gan3d_eval.voxels import VoxelSet


class Counter:
    """Something expensive."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self):
        self.calls += 1
        return {"values": np.arange(3) + self.calls, "names": np.array(["a", "ß"])}


def test_an_entry_is_computed_once_for_each_key(tmp_path):
    cache, compute = Cache(tmp_path / "deep" / "cache"), Counter()
    first, again = (cache.get("thing", {"n": 1}, compute) for _ in range(2))
    assert compute.calls == 1
    assert all(np.array_equal(first[key], again[key]) for key in first)
    assert again["names"].tolist() == ["a", "ß"]
    cache.get("thing", {"n": 2}, compute)
    cache.get("other", {"n": 1}, compute)
    assert compute.calls == 3


def test_features_that_are_refused_are_not_kept(tmp_path, grids):
    answers = [np.full((len(grids), 2), np.nan, np.float32), np.ones((len(grids), 2), np.float32)]
    shapes = VoxelSet.from_grids(grids)
    embed = Embedding("a", "1" * 64, lambda shapes: answers.pop(0), Cache(tmp_path))
    with pytest.raises(Gan3dError, match="not all finite"):
        embed(shapes)
    assert np.array_equal(embed(shapes), embed(shapes))
    answers.append(np.zeros((len(grids), 2), np.float32))
    assert not dataclasses.replace(embed, version="another PyTorch")(shapes).any()


def test_without_a_folder_everything_is_computed_anew(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    compute = Counter()
    for _ in range(2):
        NO_CACHE.get("thing", {}, compute)
    assert compute.calls == 2
    assert not list(tmp_path.iterdir())


def test_changed_code_is_another_key(tmp_path, monkeypatch):
    cache, compute = Cache(tmp_path), Counter()
    cache.get("thing", {}, compute)
    monkeypatch.setattr(module, "_code", lambda: "edited")
    cache.get("thing", {}, compute)
    assert compute.calls == 2


def test_a_damaged_entry_is_made_again(tmp_path):
    cache, compute = Cache(tmp_path), Counter()
    cache.get("thing", {}, compute)
    (entry,) = tmp_path.glob("*.npz")
    entry.write_bytes(entry.read_bytes()[:40])
    assert cache.get("thing", {}, compute)["values"].tolist() == [2, 3, 4]
    assert cache.get("thing", {}, compute)["values"].tolist() == [2, 3, 4]


def test_the_entry_that_was_not_used_for_longest_makes_room(tmp_path):
    import os

    cache = Cache(tmp_path, limit=20_000)
    for i in range(3):
        cache.get("thing", {"i": i}, lambda: {"x": np.zeros(1000)})
        for age, path in enumerate(sorted(tmp_path.glob("*.npz"), key=lambda p: p.stat().st_mtime, reverse=True)):
            os.utime(path, (1e9 - age, 1e9 - age))
    compute = Counter()
    assert len(list(tmp_path.glob("*.npz"))) == 2
    cache.get("thing", {"i": 2}, compute)
    assert compute.calls == 0
    cache.get("thing", {"i": 0}, compute)
    assert compute.calls == 1


def test_a_folder_that_cannot_be_written_costs_time_alone(tmp_path):
    (tmp_path / "file").write_text("")
    assert Cache(tmp_path / "file").get("thing", {}, Counter())["values"].tolist() == [1, 2, 3]


def test_the_default_folder_can_be_named(monkeypatch, tmp_path):
    monkeypatch.setenv("GAN3D_CACHE", str(tmp_path))
    assert Cache.default().folder == tmp_path
    monkeypatch.delenv("GAN3D_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert Cache.default().folder == tmp_path / "gan3d"


def test_neighbours_are_named_as_they_are_called_now(tmp_path):
    grids = np.random.default_rng(0).random((12, 8, 8, 8)) < 0.4
    held_out, own, cache = {"held-out": VoxelSet.from_grids(grids[8:])}, np.full(4, -1), Cache(tmp_path)
    for prefix in ("chair", "sofa"):
        train = VoxelSet.from_grids(grids[:8], [f"{prefix}-{i}" for i in range(8)])
        known = Search(train, 1, 0, "as-is", True, None, cache).known(held_out, own)
        assert known["neighbour1"].str.startswith(prefix).all()


def test_other_programs_behind_the_same_weights_are_another_key(tmp_path, box_sets):
    train, test, gen = (shapes.take(range(40)) for shapes in box_sets)
    cache, columns = Cache(tmp_path), lambda shapes: shapes.grids().reshape(len(shapes), -1)[:, ::97].astype(np.float32)
    first = Embedding("a", "1" * 64, columns, cache, "1")
    other = Embedding("a", "1" * 64, lambda shapes: columns(shapes)[:, ::2], cache, "2")
    for embed in (first, other):
        novelty = nn_check(train, test, gen, embed=embed, cache=cache)[1]
        alone = nn_check(train, test, gen, embed=dataclasses.replace(embed, cache=NO_CACHE))[1]
        assert np.array_equal(novelty["feature"], alone["feature"], equal_nan=True)
        known = compare(train, test, gen, draws=5, embed=embed, cache=cache)[0].values
        assert known == compare(train, test, gen, draws=5, embed=dataclasses.replace(embed, cache=NO_CACHE))[0].values
