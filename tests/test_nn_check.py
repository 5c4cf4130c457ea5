"""The novelty check: copiers are caught, honest samplers are not, and what cannot be judged is said, not guessed."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from scipy import ndimage, stats

from gan3d_eval.cache import Cache
from gan3d_eval.calibration import mann_whitney
from gan3d_eval.distances import near_duplicates, nearest
from gan3d_eval.embedding import Embedding
from gan3d_eval.files import Gan3dError
from gan3d_eval.nn_check import DISTANCES, why_failed
from gan3d_eval.nn_check import nn_check as verb
from gan3d_eval.nn_pictures import draw
from gan3d_eval.voxels import VoxelError, VoxelSet
from gan3d_model.data.prepare import prepare
from gan3d_model.data.voxelize import Voxelizer

nn_check = functools.partial(verb, cache=Cache.default())  # held-out shapes and canaries are searched for once


def test_an_honest_sampler_is_as_far_away_as_held_out_shapes(box_sets):
    result, rows = nn_check(*box_sets)
    assert result.values["a_far"] == pytest.approx(0.5, abs=0.08)
    assert result.intervals["a_far"]["low"] < result.values["a_far"] < result.intervals["a_far"]["high"]
    assert result.values["flagged_share"] == pytest.approx(0.05, abs=0.04)
    assert (result.values["exact_copies"], result.values["significant"]) == (0, 0)
    assert rows["set"].value_counts()[["generated", "held-out", "copy"]].tolist() == [200, 150, 40]
    assert why_failed(result, 0.1) == ""


def test_a_copycat_is_caught(box_sets):
    train, test, _ = box_sets
    result, rows = nn_check(train, test, train.take(np.arange(100)))
    assert result.values["exact_copies"] == 100
    assert result.values["a_far"] < 0.1
    assert result.values["z_u"] < -8
    assert why_failed(result, 0.5) == "100 of 100 samples are exact copies, more than 50.0%"
    assert "far above the null" not in " ".join(result.notes)
    generated = rows[rows["set"] == "generated"]
    assert (generated["l1"] == 0).all()
    assert (generated["neighbour1_l1"] == 0).all()


def test_copies_with_one_percent_of_voxels_flipped_are_caught(box_sets):
    train, test, _ = box_sets
    rng = np.random.default_rng(0)
    grids = train.grids(slice(0, 100))
    noisy = grids ^ ((rng.random(grids.shape) < 0.01) & ndimage.binary_dilation(grids, np.ones((1, 3, 3, 3))))
    result, _ = nn_check(train, test, VoxelSet.from_grids(noisy))
    assert result.values["exact_copies"] < 30
    assert result.values["a_far"] < 0.25
    assert result.values["flagged_share"] > 0.2


def test_noise_is_far_away_and_never_called_copying(box_sets):
    train, test, _ = box_sets
    noise = VoxelSet.from_grids(np.random.default_rng(0).random((60, 16, 16, 16)) < 0.1)
    result, _ = nn_check(train, test, noise)
    assert result.values["a_far"] == 1.0
    low, high = (result.intervals["a_far"][key] for key in ("low", "high"))
    assert low == pytest.approx(0.025 ** (1 / min(result.values["n_judged"], result.values["n_null"])))
    assert high == 1
    assert result.values["flagged"] == 0
    assert any("noise" in note for note in result.notes)


def test_empty_and_tiny_samples_are_counted_apart_and_not_judged(box_sets):
    """An empty grid is close to every thin shape: naively it looks like copying (Z = −9.4 once)."""
    train, test, gen = box_sets
    grids = gen.grids()
    grids[:20] = False
    grids[20:30] = False
    grids[20:30, 3, 3, 3] = True
    result, rows = nn_check(train, test, VoxelSet.from_grids(grids))
    assert (result.values["empty"], result.values["n_judged"]) == (20, 200 - 20 - result.values["too_small"])
    assert result.values["too_small"] >= 10
    assert rows.loc[:19, "status"].eq("empty").all()
    assert rows.loc[20:29, "status"].eq("too-small").all()
    assert rows.loc[:29, "p"].isna().all()
    small = result.values["too_small"]
    assert f"Samples that are not judged: 20 empty, {small} smaller than 95 % of the training shapes." in result.notes
    assert result.values["a_far"] == pytest.approx(0.5, abs=0.08)


def test_all_empty_leaves_the_calibrated_values_out_with_a_reason(box_sets):
    train, test, _ = box_sets
    result, _ = nn_check(train, test, VoxelSet.from_grids(np.zeros((5, 16, 16, 16), bool)))
    assert "a_far" not in result.values
    assert "no sample has the volume" in result.absent["a_far"]
    assert result.to_dict()["status"] == "partial"
    assert why_failed(result, 0.5).startswith("nothing could be judged: no sample has")


def test_too_few_held_out_shapes_are_no_null(box_sets):
    train, test, gen = box_sets
    result, _ = nn_check(train, test.take(np.arange(10)), gen)
    assert "at least 20 are needed" in result.absent["z_u"]
    assert result.values["verdict"] == "undecided"


def test_exact_copies_are_told_with_few_held_out_shapes_too(box_sets):
    train, test, _ = box_sets
    result, _ = nn_check(train, test.take(np.arange(10)), train.take(np.arange(30)))
    assert result.values["verdict"] == "copying"
    assert result.notes[0].startswith("copying: 30 of 30 samples are exact copies; 8 usable held-out shapes")


def test_without_a_test_split_training_shapes_stand_in_leaving_one_out(box_sets):
    train, _, gen = box_sets
    result, rows = nn_check(train, None, gen)
    assert result.values["null"] == "left-out"
    assert "left-out" in result.protocol
    too_small = result.values["null_too_small"]
    assert f"Training shapes left out as too small to be judged (95 % of the training shapes are larger): {too_small}." in (
        result.notes
    )
    left_out = rows[rows["set"] == "left-out"]
    assert (left_out["name"] != left_out["neighbour1"])[left_out["l1"] > 0].all()  # never its own neighbour
    brute = (train.grids([0])[0] != train.grids(slice(1, None))).sum(axis=(1, 2, 3)).min()
    assert left_out.iloc[0]["l1"] == brute
    copier, _ = nn_check(train, None, train)
    assert copier.values["a_far"] < 0.1


def test_held_out_shapes_that_are_moved_copies_are_no_null_of_the_distances_that_find_them(box_sets):
    train, test, gen = box_sets
    moved = np.flip(train.take(train.volume > np.median(train.volume)).grids(slice(0, 4)), axis=1)
    result, _ = nn_check(train, VoxelSet.from_grids(np.concatenate([test.grids(), moved])), gen)
    assert result.values["n_null"] == result.values["n_null/aligned_l1"] + 4
    assert "find them smaller: aligned_l1 4, aligned_jaccard 4" in " ".join(result.notes)


def test_held_out_shapes_that_stand_in_training_are_no_null(box_sets):
    """A leak (8 % of held-out chairs in one known release) would put the null's lower quantile at 0."""
    train, test, gen = box_sets
    leaky = VoxelSet.from_grids(np.concatenate([test.grids(), train.grids(slice(0, 40))]))
    result, _ = nn_check(train, leaky, gen)
    clean, _ = nn_check(train, test, gen)
    assert result.values["null_in_train"] == 40 + clean.values["null_in_train"]
    assert result.values["a_far"] == clean.values["a_far"]
    leaked = result.values["null_in_train"]
    assert f"Held-out shapes that stand in the training set too, and were left out: {leaked}." in result.notes


def test_order_and_companions_do_not_change_a_samples_verdict(box_sets):
    train, test, gen = box_sets
    _, rows = nn_check(train, test, gen)
    _, backwards = nn_check(train, test, gen.take(np.arange(len(gen))[::-1]))
    keys = ["l1", "jaccard", "p"]
    first = rows[rows["set"] == "generated"].set_index("name")[keys]
    second = backwards[backwards["set"] == "generated"].set_index("name")[keys]
    assert first.sort_index().equals(second.sort_index())
    _, alone = nn_check(train, test, gen.take([17]))
    assert alone.iloc[0]["p"] == rows.iloc[17]["p"]


def test_p_values_by_hand(box_sets):
    train, test, gen = box_sets
    result, rows = nn_check(
        train, test, gen, raw=True, embed=Embedding("D", "0" * 64, lambda shapes: np.ones((len(shapes), 1)))
    )
    left_out = {f"a_far/{name}" for name in (*DISTANCES[1:], "feature")} | {"authentic", "authentic_null", "c_t"}
    assert set(result.absent) == left_out
    null = rows.loc[(rows["set"] == "held-out") & (rows["status"] == "ok"), "l1"]
    judged = rows[(rows["set"] == "generated") & (rows["status"] == "ok")]
    expected = [(1 + (null <= d).sum()) / (1 + len(null)) for d in judged["l1"]]
    assert np.allclose(judged["p"], expected)
    assert (judged["flagged"] == (judged["p"] <= 0.05)).all()


def test_mann_whitney_by_hand_and_against_scipy():
    assert mann_whitney(np.array([1, 2]), np.array([3, 4]))[0] == 0
    assert mann_whitney(np.array([5]), np.array([3, 9]))[0] == 0.5
    assert mann_whitney(np.array([2, 2]), np.array([2, 2, 2])) == (0.5, 0.0)
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 9, 40), rng.integers(1, 10, 60)  # many ties
    far, z = mann_whitney(a, b)
    theirs = stats.mannwhitneyu(a, b, method="asymptotic", use_continuity=False)
    assert far == theirs.statistic / (40 * 60)
    assert 2 * stats.norm.sf(abs(z)) == pytest.approx(theirs.pvalue)


def test_protocols_name_what_makes_values_comparable(box_sets):
    train, test, gen = box_sets
    result, _ = nn_check(train, test, gen, raw=True)
    n_null, known, unseen = result.values["n_null"], train.sha256[:8], test.sha256[:8]
    assert result.protocol == f"nn-16-train300-{known}-held-out{n_null}-{unseen}-n200"
    assert result.inputs["train"]["sha256"] == train.sha256
    other, others = train.take(np.arange(300)[::-1]), test.take(np.arange(150)[::-1])  # as many shapes, another set
    assert len({nn_check(*sets, gen, raw=True)[0].protocol for sets in ((train, test), (other, test), (train, others))}) == 3


def test_the_network_of_the_features_stands_apart_in_the_protocol(box_sets):
    train, test, gen = box_sets
    protocols = []
    for number in (1, 2):
        embed = Embedding(
            "x", f"{number}" * 64, lambda shapes: shapes.grids().reshape(len(shapes), -1, 8).sum(axis=2).astype("f4")
        )
        protocols.append(nn_check(train, test, gen, embed=embed)[0].protocol)
    assert [name.partition("+")[2] for name in protocols] == ["11111111", "22222222"]
    assert len({name.partition("+")[0] for name in protocols}) == 1  # all other values still compare


@pytest.mark.parametrize("k", [0, 301])
def test_k_out_of_range_is_refused(box_sets, k):
    for test in (box_sets[1], None):
        with pytest.raises(VoxelError, match="neighbours asked for"):
            nn_check(box_sets[0], test, box_sets[2], k=k)


def test_without_held_out_shapes_each_training_shape_has_one_neighbour_less(box_sets):
    few = box_sets[0].take(range(3))
    with pytest.raises(VoxelError, match=r"3 neighbours asked for \(--k\), and these 3 training shapes have at most 2"):
        nn_check(few, None, box_sets[2])
    assert nn_check(few, None, box_sets[2], k=2)[0].values["verdict"] == "undecided"
    assert nn_check(few, box_sets[1], box_sets[2], k=3)[0].values["n_null"] > 0


def test_other_resolutions_are_refused(box_sets, grids):
    with pytest.raises(VoxelError, match="samples are 8³, training shapes 16³"):
        nn_check(*box_sets[:2], VoxelSet.from_grids(grids))


def test_one_sample_is_judged(box_sets):
    train, test, gen = box_sets
    result, _ = nn_check(train, test, gen.take([0]))
    assert result.values["n_judged"] == 1
    assert result.values["verdict"] == "undecided"
    assert result.intervals["a_far"]["low"] <= 0.025  # whatever one sample does happens by chance


@pytest.mark.parametrize(("n", "verdict"), [(5, "undecided"), (7, "no-evidence-of-copying"), (8, "far-from-data")])
def test_noise_is_called_so_from_as_many_samples_as_chance_allows(box_sets, n, verdict):
    """0.5^7 > 0.005 > 0.5^8, and 0.36^5 > 0.005: so many samples that are all farther exclude an A below ½, and below 0.36."""
    train, test, _ = box_sets
    noise = VoxelSet.from_grids(np.random.default_rng(0).random((n, 16, 16, 16)) < 0.15)
    result, _ = nn_check(train, test, noise)
    assert result.values["a_far"] == 1
    assert result.values["verdict"] == verdict


def test_samples_of_another_convention_are_said(box_sets):
    """Hollow samples of solid training shapes: far under every distance, and no novelty."""
    train, test, gen = box_sets
    hollow = VoxelSet.from_grids(np.stack([g & ~ndimage.binary_erosion(g) for g in gen.take(np.arange(60)).grids()]))
    notes = nn_check(train, test, hollow, bootstrap=20)[0].notes
    assert any("Samples are mostly surface, training shapes mostly solid" in note for note in notes)
    assert not any(
        "Samples are mostly" in note for note in nn_check(train, test, gen.take(np.arange(60)), bootstrap=20)[0].notes
    )


def test_features_are_calibrated_beside_the_verdict_and_dead_ones_are_refused(box_sets):
    train, test, gen = box_sets
    copies = train.take(np.arange(60))
    pooled = Embedding("pooled", "1" * 64, lambda shapes: shapes.grids().reshape(len(shapes), -1, 8).sum(axis=2).astype("f4"))
    result, rows = nn_check(train, test, copies, bootstrap=20, embed=pooled)
    assert result.values["a_far/feature"] == pytest.approx(0, abs=0.02)
    assert "11111111" in result.protocol
    assert (rows.loc[rows["set"] == "generated", "feature"] < 1e-6).all()
    swayed = Embedding("swayed", "2" * 64, lambda shapes: np.arange(len(shapes) * 3, dtype="f4").reshape(-1, 3))
    with_it, without = (nn_check(train, test, gen, bootstrap=20, embed=e)[0].values for e in (swayed, None))
    assert with_it["verdict"] == without["verdict"]
    dead = Embedding("a dead D", "3" * 64, lambda shapes: np.ones((len(shapes), 4), np.float32))
    with pytest.raises(Gan3dError, match="a dead D: .* --no-features judges without it"):
        nn_check(train, test, gen, embed=dead)


def test_the_l1_of_probabilities_stands_beside_the_verdict(box_sets):
    train, test, gen = box_sets
    some = gen.take(np.arange(60))
    haze = np.clip(some.grids().astype(np.float16), 0.1, 0.9)
    result, rows = nn_check(train, test, some, bootstrap=20, probabilities=haze)
    assert result.values["a_far/soft_l1"] > 0.9
    assert result.values["verdict"] == nn_check(train, test, some, bootstrap=20)[0].values["verdict"]
    of = rows[rows["set"] == "generated"]
    expected = [np.abs(h - x).sum() for h, x in zip(haze.astype(float), train.grids(of["neighbour1_row"]), strict=True)]
    assert (of["soft_l1"] <= np.array(expected) + 0.5).all()


def test_the_raw_check_needs_no_network_and_leaves_the_whole_one_alone(cli, run_copy):
    assert cli("nn-check", run_copy.path).exit_code == 0
    whole = (run_copy.path / "results" / "nn-check.json").read_bytes()
    for path in run_copy.checkpoints():
        path.write_bytes(b"no checkpoint")
    assert cli("nn-check", run_copy.path).exit_code == 1
    assert cli("nn-check", run_copy.path, "--raw").exit_code == 0
    assert (run_copy.path / "results" / "nn-check.json").read_bytes() == whole
    raw = run_copy.results()["nn-check-raw"]
    assert raw["verb"] == "nn-check"
    assert "a_far/feature" in raw["absent"]


def noisy(grid, n, share, random):
    """A shape n times, each time with a share of the voxels at its surface changed."""
    shell = ndimage.binary_dilation(grid) & ~ndimage.binary_erosion(grid)
    return VoxelSet.from_grids(grid ^ (shell & (random.random((n, *grid.shape)) < share)))


def test_a_generator_that_makes_one_new_shape_with_small_changes_is_no_copier_by_lot(box_sets):
    """Twelve held-out shapes made again and again: one in its seven was called a copy, as its lot fell."""
    train, test, _ = box_sets
    random = np.random.default_rng(0)
    rank = np.argsort(nearest(test.packed, train.packed)[0][:, 0])
    for row in rank[[4, 10, 20]]:  # nearer to training shapes than most
        rest = test.take(np.delete(np.arange(len(test)), row))
        result, _ = nn_check(train, rest, noisy(test.grids([row])[0], 60, 0.01, random), bootstrap=50)
        assert result.values["n_distinct"] == 1
        assert result.values["repeats"] < 5  # no two are equal
        assert result.values["verdict"] == "undecided"


def test_a_collapsed_copier_is_caught_all_the_same(box_sets):
    train, test, _ = box_sets
    random = np.random.default_rng(0)
    result, _ = nn_check(train, test, noisy(train.grids([7])[0], 60, 0.01, random), bootstrap=50)
    assert result.values["n_distinct"] > 50  # they differ as much from each other as from what they copy
    assert result.values["verdict"] == "copying"


def test_a_generator_that_always_makes_one_shape_is_no_copier_by_lot(box_sets):
    """Solid cubes, peeled, lay nearer to one block-like monitor than most held-out monitors do."""
    train, test, _ = box_sets
    result, _ = nn_check(train, test, VoxelSet.from_grids(np.ones((100, *train.grids([0])[0].shape), np.bool_)))
    assert (result.values["n_judged"], result.values["n_distinct"], result.values["repeats"]) == (100, 1, 99)
    limits = [limits for key, limits in result.intervals.items() if key.startswith("a_far")]
    assert len(limits) == 5
    assert all(limit["low"] < 0.5 < limit["high"] for limit in limits)
    assert result.values["verdict"] == "undecided"
    assert (
        "Samples repeat. Of 100 that are judged so many differ by more than half of what they differ from the training set by"
        in " ".join(result.notes)
    )


def test_pairs_say_under_which_distance_they_are_nearest(box_sets, run_copy, monkeypatch):
    drawn = []
    monkeypatch.setattr("gan3d_eval.nn_pictures.pair_sheet", lambda *arguments, note: drawn.append((arguments[3], note)))
    for raw in (False, True):
        rows = nn_check(*box_sets, raw=raw)[1]
        draw(run_copy, box_sets[0], box_sets[2], rows)
        (pairs, note), best = drawn[0], rows[rows["set"] == "generated"]
        column = "l1" if raw else "aligned_l1"
        assert pairs[0][2].startswith(f"{'L1' if raw else 'aligned L1'} {best[best['status'] == 'ok'][column].min():.0f} = ")
        assert ("aligned_l1" in note) != raw
        drawn.clear()


# --- real shapes ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def modelnet10(real_data, tmp_path_factory):
    """All of ModelNet10 at 32³."""
    source = real_data / "voxels/modelnet10-30/modelnet10.npz"
    return prepare(source, tmp_path_factory.mktemp("real") / "mn10-32", Voxelizer(32), say=lambda line: None)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "different"), [("monitor", 100), ("sofa", 100), ("chair", 100), ("table", 93)])
def test_real_held_out_shapes_are_different_ones(modelnet10, kind, different):
    train, test = (modelnet10.select([kind], split).without_empty() for split in ("train", "test"))
    assert len(test) == 100
    rows = near_duplicates(test.packed, nearest(test.packed, train.packed)[0][:, 0])
    assert len(np.unique(rows)) == different


@pytest.mark.slow
def test_of_twelve_real_monitors_made_again_and_again_one_is_a_copy(modelnet10):
    """Seven were called copies while all samples of one shape counted singly; the one that still is stands in the training set."""
    train, test = (modelnet10.select(["monitor"], split).without_empty() for split in ("train", "test"))
    random = np.random.default_rng(0)
    verdicts = {}
    for row in random.permutation(len(test))[:12]:
        rest = test.take(np.delete(np.arange(len(test)), row))
        result, _ = nn_check(train, rest, noisy(test.grids([row])[0], 100, 0.01, random))
        verdicts[int(row)] = result.values["verdict"]
    copies = [row for row, found in verdicts.items() if found == "copying"]
    assert sorted(verdicts.values()) == ["copying"] + 11 * ["undecided"]
    assert nearest(test.packed[copies], train.packed)[0][0, 0] == 0
