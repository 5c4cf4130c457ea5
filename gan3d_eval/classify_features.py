"""Are D's features any good? A linear classifier on them, beside the controls without which its accuracy says nothing.

The claim of Wu et al. 2016 (sec. 4.2): what D learned without labels describes shapes well enough for a linear machine. So the
same machine, with C chosen on folds of the training shapes alone, is also given the features of discriminators that never
trained, the voxels themselves, pooled, and D's features with shuffled labels (what chance reaches). Test shapes that stand in
training too are counted, and accuracy is told without them as well.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse, stats
from scipy.sparse import csgraph

from gan3d_eval.distances import jaccard_from_l1, nearest
from gan3d_eval.linear_svm import Products, choose_c, predict, products
from gan3d_eval.plotting import GENERATED, NEUTRAL, REAL, figure
from gan3d_eval.provenance import Result, central, wilson
from gan3d_eval.run_dir import RunDir
from gan3d_eval.voxels import VoxelError, VoxelSet

__all__ = ["VERB", "Features", "classify_features", "confusion", "draw"]

VERB = "classify-features"
Features = Callable[[], tuple[NDArray[np.floating], NDArray[np.floating]]]
"""Makes features of the training and of the test shapes, `(n, f)` and `(m, f)`, when they are wanted."""
SIZES = (1, 2, 5, 10, 20, 50, 100)
"""Training shapes of each class in the curve."""
REPEATS = 5
NEAR, NEIGHBOURS = 0.2, 16  # Jaccard distance up to which two training shapes are twins; neighbours that are looked at
BOOTSTRAP = 1000
NOTES = [
    "One linear SVM for each pair of classes; features standardised by the training shapes; C by five folds of these, in which "
    "near twins stay together.",
    "untrained: the same architecture before training, which says how much of the accuracy is due to training.",
]
WHY_ABSENT = {
    "folds_accuracy": "a class has one training shape, or all are twins: there is nothing to choose C on",
    "accuracy_without_leaks": "no test shape stands in training too, or all do",
}
FEW_SEEN = "D was trained on {} alone; published accuracies are of discriminators that saw every class."


def classify_features(
    train: VoxelSet, test: VoxelSet, sources: Mapping[str, Features], seed: int = 0, curve: bool = True,
    say: Callable[[str], None] = lambda line: None, made: Mapping[str, Any] | None = None,
) -> tuple[Result, pd.DataFrame, pd.DataFrame]:  # fmt: skip
    """Classify `test` by a linear machine trained on `train`, for each source of features; the first one is judged.

    Parameters
    ----------
    train, test : VoxelSet
        With a column `class`; every class of `test` must be in `train`.
    sources : dict
        Features by name: the first is D's, the others are controls. Names that begin with `untrained` are seeds of one control.
    curve : bool
        Also fit on 1, 2, 5 … shapes of each class, five times each.
    made : dict, optional
        How D's features were made, for protocol and inputs: layers, side, pooling, step, sha256; classes that D was trained on.

    Returns
    -------
    result : Result
        `values` has `<key>` of the first source and `<key>/<source>` of the controls.
    rows : DataFrame
        One row a test shape: name, class, leaked, and the class predicted from each source.
    sizes : DataFrame
        source, size (of each class), repeat, accuracy; empty without `curve`.
    """
    started = time.perf_counter()
    labels, truth = (shapes.table["class"].to_numpy(str) for shapes in (train, test))
    _check(labels, truth)
    leaked = test.stands_in(train)
    rows = pd.DataFrame({"name": test.names, "class": truth, "leaked": leaked})
    first, groups = next(iter(sources)), _twins(train)
    counts = {"n_train": len(train), "n_test": len(test), "n_classes": len(set(labels)), "leaked": int(leaked.sum())}
    values, intervals, absent, drawn = dict[str, Any](counts), dict[str, Any](), dict[str, Any](), list[dict[str, Any]]()
    for i, (name, make) in enumerate(sources.items(), 1):
        say(f"classifying by {name} ({i} of {len(sources)})")
        within, across, dropped = _products(name, make)
        c, folds = choose_c(within, labels, seed, groups)
        rows[name] = predict(within, labels, across, c)
        end = "" if name == first else f"/{name}"
        found, around = _accuracies(truth, rows[name].to_numpy(str), leaked, seed)
        found |= {"c": c, "constant_features": dropped} | ({"folds_accuracy": max(folds.values())} if folds else {})
        lacking = {key: why for key, why in WHY_ABSENT.items() if key not in found}
        for into, what in ((values, found), (intervals, around), (absent, lacking)):
            into |= {f"{key}{end}": value for key, value in what.items()}
        drawn += [{"source": name, **point} for point in _curve(within, labels, across, truth, c, seed)] if curve else []
        if name == first:
            shuffled = np.random.default_rng(seed).permutation(labels)
            chance = float((predict(within, shuffled, across, c) == truth).mean())
    values |= {"accuracy/shuffled": chance} | _against_untrained(rows, first)
    absent |= {} if "p_untrained" in values else {"p_untrained": "no untrained discriminator beside it (--untrained)"}
    inputs = {"train": train.identity(), "test": test.identity()}
    how = {key: value for key, value in (made or {}).items() if key in ("layers", "side", "pooling")}
    which = f"-layers{'.'.join(map(str, how['layers']))}-{how['pooling']}{how['side']}" if how else ""
    inputs |= {"discriminator": {key: made[key] for key in ("step", "sha256")}} if made else {}
    notes = _notes(train, (made or {}).get("classes", []))
    result = Result(
        VERB, f"classify-features-{train.resolution}-{train.sha256[:8]}-{test.sha256[:8]}{which}-svm2", inputs,
        {"column": first, "seed": seed} | how, values, intervals, notes, absent, seed, started=started,
    )  # fmt: skip
    return result, rows, pd.DataFrame(drawn)


def _notes(train: VoxelSet, seen: list[str]) -> list[str]:
    """What is to be said of every result, of empty shapes, and of a D that saw the classes `seen` only (none: all)."""
    few = bool(seen) and set(seen) < set(train.table["class"])
    empty = train.info.get("empty_left_out", 0)
    return [
        *NOTES,
        *[FEW_SEEN.format(", ".join(seen))] * few,
        *[f"Empty shapes of the dataset were left out: {empty}."] * (empty > 0),
    ]


def _twins(train: VoxelSet) -> NDArray[np.int64]:
    """Number of the group of near twins that each shape belongs to, `(n,)`: linked by Jaccard distances of at most `NEAR`."""
    l1, rows = nearest(train.packed, train.packed, min(NEIGHBOURS, len(train)))
    jaccard = jaccard_from_l1(l1, train.volume[:, None], train.volume[rows])
    which, place = np.nonzero(jaccard <= NEAR)
    links = sparse.coo_matrix((np.ones(len(which)), (which, rows[which, place])), (len(train), len(train)))
    groups: NDArray[np.int64] = csgraph.connected_components(links, directed=False)[1].astype(np.int64)
    return groups


def _products(name: str, make: Features) -> tuple[Products, Products, int]:
    """Inner products of one source's features; VoxelError if they are no features."""
    try:
        return products(*make())
    except ValueError as fault:
        raise VoxelError(f"features of {name}: {fault}") from None


def _check(labels: NDArray[Any], truth: NDArray[Any]) -> None:
    """VoxelError if there is nothing to learn, or something that cannot be learned."""
    if unseen := sorted(set(truth) - set(labels)):
        raise VoxelError(f"no training shape of class {', '.join(unseen)}; a classifier cannot know it")
    if len(set(labels)) < 2:
        raise VoxelError(f"only one class ({labels[0]}): nothing to tell apart; --dataset names labelled shapes of several")


def _accuracies(
    truth: NDArray[Any], predicted: NDArray[Any], leaked: NDArray[np.bool_], seed: int
) -> tuple[dict[str, float], dict[str, Any]]:
    """Overall and mean-class accuracy, the first without leaked shapes too, with intervals."""
    right = truth == predicted
    classes = np.unique(truth)

    def by_class(of: NDArray[np.int64]) -> float:
        return float(np.mean([right[of][truth[of] == name].mean() for name in classes if (truth[of] == name).any()]))

    random = np.random.default_rng(seed)
    again = [by_class(random.integers(0, len(truth), len(truth))) for _ in range(BOOTSTRAP)]
    values = {"mean_class_accuracy": by_class(np.arange(len(truth)))}
    intervals = {"mean_class_accuracy": central(again, "95 % bootstrap over test shapes")}
    parts = {"accuracy": right} | ({"accuracy_without_leaks": right[~leaked]} if leaked.any() and not leaked.all() else {})
    for key, part in parts.items():
        values[key] = float(part.mean())
        intervals[key] = wilson(int(part.sum()), len(part))
    return values, intervals


def _against_untrained(rows: pd.DataFrame, first: str) -> dict[str, Any]:
    """Is the first source better than each untrained seed? McNemar's test, paired, exact, one-sided; the largest p counts."""
    ours = rows[first] == rows["class"]
    found = []
    for name in [name for name in map(str, rows) if name.startswith("untrained")]:
        theirs = rows[name] == rows["class"]
        better, worse = int((ours & ~theirs).sum()), int((~ours & theirs).sum())
        p = stats.binomtest(better, better + worse, alternative="greater").pvalue if better + worse else 1.0
        found.append((p, better - worse))
    if not found:
        return {}
    p, _ = max(found)
    return {"p_untrained": float(p), "more_right_than_untrained": float(np.mean([more for _, more in found]))}


def _curve(
    within: NDArray[np.float64], labels: NDArray[Any], across: NDArray[np.float64], truth: NDArray[Any], c: float, seed: int
) -> list[dict[str, Any]]:
    """Accuracy from few training shapes of each class; C is that of all of them."""
    random = np.random.default_rng(seed)
    points = []
    most = int(np.unique(labels, return_counts=True)[1].min())
    for size in [size for size in SIZES if size <= most]:
        for repeat in range(REPEATS):
            some = np.concatenate([random.permutation(np.flatnonzero(labels == name))[:size] for name in np.unique(labels)])
            found = predict(within[np.ix_(some, some)], labels[some], across[:, some], c)
            points.append({"size": size, "repeat": repeat, "accuracy": float((found == truth).mean())})
    return points


def draw(run: RunDir, result: Result, rows: pd.DataFrame, sizes: pd.DataFrame) -> None:
    """Draw `figures/classify-features-confusion.png`, and the curve over training-set size where there is one."""
    import seaborn as sns

    first = result.options["column"]
    counts = confusion(rows, first)
    width, height = 2.5 + 0.55 * counts.shape[1], 1.8 + 0.42 * counts.shape[0]
    with figure(run.picture_path("figures", f"{VERB}-confusion"), 1, 1, width, height) as axis:
        sns.heatmap(
            counts.div(counts.sum(axis=1), axis=0),
            annot=counts,
            fmt="d",
            cmap="Blues",
            vmin=0,
            vmax=1,
            cbar=False,
            square=True,
            ax=axis,
        )
        axis.set(xlabel=f"predicted from {first}", ylabel="class")
    if len(sizes):
        colors = {"untrained": REAL, first: GENERATED}
        with figure(run.picture_path("figures", f"{VERB}-sizes"), 1, 1, 7, 4) as axis:
            kinds = sizes["source"].str.replace(r"^untrained.*", "untrained", regex=True)
            for name, part in sizes.groupby(kinds, sort=False):
                mean = part.groupby("size")["accuracy"].mean()
                color = colors.get(str(name), NEUTRAL)
                style = "o-" if str(name) in colors else "s--" if str(name).endswith("16") else "o:"
                axis.plot(mean.index, mean, style, color=color, markersize=4, label=str(name))
            axis.set_xscale("log")
            axis.set_xticks(sorted(sizes["size"].unique()), [str(size) for size in sorted(sizes["size"].unique())])
            axis.set(xlabel="training shapes of each class", ylabel="accuracy", ylim=(0, 1))
            axis.legend(frameon=False, fontsize="small")


def confusion(rows: pd.DataFrame, source: str) -> pd.DataFrame:
    """How many test shapes of each class (row) a source predicts as each (column): every class of the test set or predicted."""
    counts = pd.crosstab(rows["class"], rows[source])
    return counts.reindex(columns=sorted({*counts.index, *counts.columns}), fill_value=0)
