"""Linear classification: the machine equals scikit-learn's on features, labels and leaks are treated honestly."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from gan3d_eval.classify_features import classify_features, confusion
from gan3d_eval.linear_svm import CS, choose_c, predict, products
from gan3d_eval.voxels import VoxelError, VoxelSet


def clusters(n, f=20, classes=3, seed=0, spread=1.0):
    """Features of n shapes around one centre for each class, and their labels."""
    centres = np.random.default_rng(99).normal(size=(classes, f))
    random = np.random.default_rng(seed)
    which = np.arange(n) % classes
    return (centres[which] + spread * random.normal(size=(n, f))).astype(np.float32), np.array(list("abc"))[which]


def test_the_machine_on_products_equals_the_machine_on_features():
    (train, labels), (test, _) = clusters(90, spread=2), clusters(60, seed=1, spread=2)
    within, across, dropped = products(train, test)
    scaler = StandardScaler().fit(train)
    a, b = (scaler.transform(x) / np.sqrt(train.shape[1]) for x in (train, test))
    for c in (0.01, 1.0, 10.0):
        assert predict(within, labels, across, c).tolist() == SVC(C=c, kernel="linear").fit(a, labels).predict(b).tolist()
    assert dropped == 0
    assert np.diag(within).mean() == pytest.approx(1)


def test_constant_columns_are_dropped_and_change_nothing():
    (train, _), (test, _) = clusters(30), clusters(20, seed=1)
    within, across, _ = products(train, test)
    padded = [np.hstack([x, np.full((len(x), 2), value, np.float32)]) for x, value in ((train, 0.1), (test, 5))]
    again, there, dropped = products(*padded)
    assert dropped == 2
    assert np.allclose(again, within)
    assert np.allclose(there, across)


@pytest.mark.parametrize(("bad", "message"), [(np.nan, "NaN or infinity"), (np.inf, "NaN or infinity")])
def test_features_that_are_no_numbers_are_refused(bad, message):
    x = clusters(9)[0]
    x[3, 3] = bad
    with pytest.raises(ValueError, match=message):
        products(x, x)
    with pytest.raises(ValueError, match="all 4 features are constant"):
        products(np.ones((5, 4)), np.ones((5, 4)))


def test_c_is_chosen_on_training_folds_and_the_smaller_of_equals_wins():
    train, labels = clusters(60, spread=0.1)
    c, scores = choose_c(products(train, train)[0], labels, 0)
    assert set(scores) == set(CS)
    assert c == min(c for c, score in scores.items() if score == max(scores.values()))
    one_each = np.array(["a", "b", "c"])
    assert choose_c(np.eye(3), one_each, 0) == (1.0, {})


@pytest.mark.parametrize("n", [1, 2, 3])
def test_fewer_groups_of_twins_than_folds_make_fewer_folds(n):
    train, labels = clusters(60)
    scores = choose_c(products(train, train)[0], labels, 0, np.arange(60) % n)[1]
    assert set(scores) == (set(CS) if n > 1 else set())


def test_a_class_that_is_predicted_but_not_in_the_test_set_counts_among_the_wrong():
    rows = pd.DataFrame({"class": list("aabb"), "D": list("acbb")})
    assert confusion(rows, "D").to_numpy().tolist() == [[1, 0, 1], [0, 2, 0]]


def shapes_of(labels, seed=0, d=6):
    grids = np.random.default_rng(seed).random((len(labels), d, d, d)) < 0.4
    table = pd.DataFrame({"name": [f"s{i}" for i in range(len(labels))], "class": labels})
    return VoxelSet(VoxelSet.from_grids(grids).packed, d, table)


@pytest.fixture
def problem():
    """Training and test shapes of three classes, five of these standing in training too, and features that tell them apart."""
    (a, labels), (b, truth) = clusters(90, spread=1.5), clusters(60, seed=1, spread=1.5)
    train, test = shapes_of(labels, 0), shapes_of(truth, 1)
    packed = test.packed.copy()
    packed[:5] = train.packed[:5]
    test = VoxelSet(packed, test.resolution, test.table)
    random = np.random.default_rng(5)
    noise = random.normal(size=(90, 20)), random.normal(size=(60, 20))
    return train, test, {"D": lambda: (a, b), "untrained-0": lambda: noise, "untrained-1": lambda: noise}


def test_good_features_beat_untrained_ones_and_shuffled_labels(problem):
    result, rows, sizes = classify_features(*problem, seed=0)
    values = result.values
    assert values["accuracy"] > 0.85
    assert values["accuracy"] == pytest.approx((rows["D"] == rows["class"]).mean())
    assert values["accuracy/untrained-0"] < 0.55
    assert values["accuracy/shuffled"] < 0.6
    assert values["p_untrained"] < 0.001
    assert (
        values["more_right_than_untrained"] == (rows["D"] == rows["class"]).sum() - (rows["untrained-0"] == rows["class"]).sum()
    )
    interval = result.intervals["accuracy"]
    assert interval["low"] < values["accuracy"] < interval["high"]
    mean = sizes[sizes["source"] == "D"].groupby("size")["accuracy"].mean()
    assert mean.index.tolist() == [1, 2, 5, 10, 20]
    assert mean.iloc[-1] > mean.iloc[0]


def test_features_that_are_worse_than_untrained_ones_are_not_called_better(problem):
    train, test, sources = problem
    swapped = {"D": sources["untrained-0"], "untrained-0": sources["D"]}
    assert classify_features(train, test, swapped, curve=False)[0].values["p_untrained"] > 0.99


def test_leaked_shapes_are_counted_and_accuracy_is_told_without_them(problem):
    result, rows, _ = classify_features(*problem, curve=False)
    assert result.values["leaked"] == rows["leaked"].sum() == 5
    clean = rows[~rows["leaked"]]
    assert result.values["accuracy_without_leaks"] == pytest.approx((clean["D"] == clean["class"]).mean())


@pytest.mark.parametrize(("seen", "said"), [([], False), (["0"], True), (["0", "1", "2"], False)])
def test_a_discriminator_that_saw_few_of_the_classes_is_called_so(problem, seen, said):
    classes = sorted(set(problem[0].table["class"]))
    made = {"layers": [2], "side": 2, "pooling": "max", "step": 3, "sha256": "0" * 64}
    made["classes"] = [classes[int(i)] for i in seen]
    notes = classify_features(*problem, curve=False, made=made)[0].notes
    assert any(note.startswith(f"D was trained on {classes[0]} alone; published") for note in notes) == said


def test_mean_class_accuracy_weighs_classes_equally():
    labels = np.array(["a"] * 30 + ["b"] * 30)
    truth = np.array(["a"] * 40 + ["b"] * 10)
    features = np.where(labels == "a", 1.0, -1.0)[:, None], np.where(truth == "a", 1.0, -1.0)[:, None].copy()
    features[1][40:45] = 1.0  # half of the small class looks like the large one
    values = classify_features(shapes_of(labels), shapes_of(truth, 1), {"D": lambda: features}, curve=False)[0].values
    assert values["accuracy"] == pytest.approx(0.9)
    assert values["mean_class_accuracy"] == pytest.approx(0.75)
    assert "p_untrained" not in values


@pytest.mark.parametrize(
    ("labels", "truth", "message"), [("ab", "abz", "no training shape of class z"), ("aa", "aa", "only one class")]
)
def test_what_cannot_be_learned_is_refused(labels, truth, message):
    train, test = shapes_of(np.array(list(labels) * 5)), shapes_of(np.array(list(truth)), 1)
    with pytest.raises(VoxelError, match=message):
        classify_features(train, test, {})


def test_the_command_tells_classes_apart_and_writes_features_once(run_copy, cli):
    done = cli("classify-features", run_copy.path, "--untrained", 1)
    assert done.exit_code == 0, done.output
    head = next(line.split() for line in done.stdout.splitlines() if "voxels-8" in line)
    assert head == ["D", "untrained-0", "voxels-8", "voxels-16", "shuffled"]
    (path,) = (run_copy.path / "features").glob("*.npz")
    before = path.stat().st_mtime_ns
    whole = run_copy.results()["classify-features"]
    assert cli("classify-features", run_copy.path, "--untrained", 0, "--no-curve", "--layers", "1").exit_code == 0
    other = run_copy.results()["classify-features"]
    assert "-layers1-max2-svm2" in other["protocol"]
    assert other["protocol"] != whole["protocol"]
    assert other["inputs"]["discriminator"]["step"] == 6
    assert cli("classify-features", run_copy.path, "--untrained", 0, "--no-curve").exit_code == 0
    before = path.stat().st_mtime_ns
    assert cli("classify-features", run_copy.path, "--untrained", 0, "--no-curve").exit_code == 0
    assert path.stat().st_mtime_ns == before
    assert (run_copy.path / "figures" / "classify-features-confusion.png").is_file()
    assert cli("check-run", run_copy.path).exit_code == 0


def test_near_twins_stay_in_one_fold():
    """Every shape stands there five times: folds that part the copies are all right, whatever the features are worth."""
    random = np.random.default_rng(0)
    features = np.repeat(random.normal(size=(30, 40)), 5, axis=0) + 0.01 * random.normal(size=(150, 40))
    labels = np.repeat(np.array(list("ab"))[np.arange(30) % 2], 5)  # says nothing of the features
    within, _, _ = products(features, features)
    parted, together = (choose_c(within, labels, 0, groups)[1] for groups in (None, np.repeat(np.arange(30), 5)))
    assert max(parted.values()) > 0.95
    assert max(together.values()) < 0.75


def test_what_cannot_be_computed_is_absent_with_its_reason(problem):
    train, test, sources = problem
    few = {"D": lambda: (sources["D"]()[0][:3], sources["D"]()[1][5:])}
    result, _, _ = classify_features(train.take(range(3)), test.take(range(5, 60)), few, seed=0)
    assert set(result.absent) == {"folds_accuracy", "accuracy_without_leaks", "p_untrained"}
    assert not set(result.absent) & set(result.values)
    assert all(np.isfinite(list(result.values.values())))


def test_a_data_set_may_have_any_name(run_copy, cli, dataset_dir, tmp_path):
    shutil.copytree(dataset_dir, tmp_path / "d")
    info = json.loads((tmp_path / "d/dataset.json").read_text())
    (tmp_path / "d/dataset.json").write_text(json.dumps(info | {"name": "my sofas"}))
    done = cli("classify-features", run_copy.path, "--dataset", tmp_path / "d", "--untrained", 0, "--no-curve")
    assert done.exit_code == 0, done.stderr
    assert (run_copy.path / "features/my-sofas.npz").is_file()
