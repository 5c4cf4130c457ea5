"""What is in a data set? Several side by side: how many of what, how full, how large, how symmetric, how diverse.

Every length and volume is a share of the grid, so that resolutions compare. Empty shapes are counted, and then left out.

Diversity is the Jaccard distance between shapes of one set, over all pairs of shapes drawn from it. As many are drawn from
every set and class, because the nearest of many is nearer than the nearest of few. Figures that others published stand
beside ours, each with its source.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from gan3d_eval.distances import jaccard_from_l1, matrix
from gan3d_eval.plotting import NEUTRAL, figure
from gan3d_eval.provenance import Result
from gan3d_eval.statistics import KINDS, statistics
from gan3d_eval.voxels import VoxelError, VoxelSet

__all__ = ["ALL", "VERB", "describe", "diversity", "draw", "published", "table"]

VERB = "describe"
ALL = "(all)"  # what stands for the class in the row of a whole set
MIN_SHAPES = 20  # for diversity: below, an interval says nothing
MOST_CLASSES = 20  # in the figure
MEASURES = {"nn_jaccard": "95 % binomial, over the shapes drawn", "pair_jaccard": "95 % jackknife, over the shapes drawn"}
NO_DIVERSITY = f"no diversity, for fewer than {MIN_SHAPES} shapes are not empty"
NOTES = [
    "Occupancy and extents are shares of the grid, margin included; medians are over the shapes that are not empty.",
    "Symmetry, kinds, parts and diversity depend on the resolution: a coarse grid loses detail, closes gaps and thickens "
    "walls. So does the occupancy of shells, which falls as the resolution rises. Compare these at one resolution only.",
    "Diversity: Jaccard distance to the nearest other (nn) and between any two (pair) of as many shapes as `drawn` says; that "
    "of the grids as they stand: another place or size of the same form counts as difference.",
]


def describe(datasets: Sequence[VoxelSet], n: int = 200, seed: int = 0) -> tuple[Result, pd.DataFrame, pd.DataFrame]:
    """Describe data sets, and the classes in each.

    Parameters
    ----------
    datasets : sequence of VoxelSet
        Told apart by the name in their `info`; without one they are `set 1`, `set 2` …
    n : int
        Shapes drawn for diversity, at least 20; fewer where the smallest set or class with 20 has fewer.

    Returns
    -------
    result : Result
        `<set>/<metric>` for each whole set.
    rows : DataFrame
        One row a set (its class is `(all)`) and a class: dataset, class, resolution, n, train, held_out, classes; shares in
        [0, 1] occupancy_q25, occupancy, occupancy_q75 and medians extent_x … extent_z, symmetry_x, symmetry_y; shares of
        shapes solid, surface, thin, empty, in_parts; diversity drawn, nn_jaccard, pair_jaccard, each with _low and _high.
    shapes : DataFrame
        One row a shape, as `statistics` has it, with dataset and occupancy, and extents as shares; what `draw` needs.

    Raises
    ------
    VoxelError
        No data sets, one without shapes, two of one name, or n below 20.
    """
    started = time.perf_counter()
    names = [str(shapes.info.get("name") or f"set {i}") for i, shapes in enumerate(datasets, 1)]
    if not names or len(set(names)) < len(names):
        raise VoxelError(f"data sets to describe: {', '.join(names) or 'none'}; expected at least one, and no name twice")
    if n < MIN_SHAPES:
        raise VoxelError(f"{n} shapes to draw for diversity; expected at least {MIN_SHAPES}")
    tables = [_in_shares(name, shapes) for name, shapes in zip(names, datasets, strict=True)]
    parts = [(shapes, label, part) for shapes, table in zip(datasets, tables, strict=True) for label, part in _parts(table)]
    sizes = [int((part["volume"] > 0).sum()) for _, _, part in parts]
    drawn = min([n, *(size for size in sizes if size >= MIN_SHAPES)])
    rows = []
    for (shapes, label, part), size in zip(parts, sizes, strict=True):
        there = part.index[part["volume"] > 0]
        rows.append(_summary(label, part) | (diversity(shapes.take(there), drawn, seed) if size >= MIN_SHAPES else {}))
    values, intervals, absent = _of_whole_sets(rows)
    small = [f"{row['dataset']}/{row['class']}" for row in rows if "drawn" not in row]
    notes = [f"{NO_DIVERSITY}: {', '.join(small)}."] if small else []
    for of in published().to_dict("records"):
        notes.append(f"Published: {of['name']}, {of['shapes']:,} shapes in {of['categories']} categories ({of['source']}).")
    inputs = {name: shapes.identity() for name, shapes in zip(names, datasets, strict=True)}
    result = Result(
        VERB, f"describe-drawn{drawn}", inputs, {"n": n}, values, intervals, NOTES + notes, absent, seed, started=started
    )
    return result, pd.DataFrame(rows), pd.concat(tables, ignore_index=True)


def diversity(shapes: VoxelSet, n: int, seed: int = 0) -> dict[str, float]:
    """Jaccard distances among n shapes drawn from a set: to the nearest other one, and between any two.

    Parameters
    ----------
    n : int
        At least 3 and at most as many as there are.

    Returns
    -------
    dict
        drawn (n); nn_jaccard (median over the shapes drawn) and pair_jaccard (mean over all pairs), in [0, 1], each with
        _low and _high: a binomial 95 % interval of the median, which takes the distances as independent, and a jackknife
        one of the mean, ± 1.96 standard errors, which leaves out one shape with all its pairs.

    Raises
    ------
    VoxelError
        n out of range.
    """
    if not 3 <= n <= len(shapes):
        raise VoxelError(f"{n} shapes to draw for diversity; expected 3 to {len(shapes)}, as many as there are")
    some = shapes.take(np.sort(np.random.default_rng(seed).permutation(len(shapes))[:n]))
    jaccard = jaccard_from_l1(matrix(some.packed, some.packed), some.volume[:, None], some.volume)
    sums = jaccard.sum(axis=1)
    left_out = (sums.sum() - 2 * sums) / ((n - 1) * (n - 2))
    mean, error = sums.sum() / (n * (n - 1)), np.sqrt((n - 1) * left_out.var())
    np.fill_diagonal(jaccard, np.inf)
    own = jaccard.min(axis=1)
    middle: Any = stats.quantile_test(own, p=0.5).confidence_interval()
    return {
        "drawn": n,
        "nn_jaccard": float(np.median(own)),
        "nn_jaccard_low": float(middle.low),
        "nn_jaccard_high": float(middle.high),
        "pair_jaccard": float(mean),
        "pair_jaccard_low": float(mean - 1.96 * error),
        "pair_jaccard_high": float(mean + 1.96 * error),
    }


def table(rows: pd.DataFrame) -> str:
    """The rows of whole sets side by side, for people."""
    shown = rows[rows["class"] == ALL].drop(columns="class").set_index("dataset").astype(object)
    if "drawn" in shown:  # NaN, of classes too small to draw from, makes floats of counts
        shown["drawn"] = shown["drawn"].map("{:.0f}".format, na_action="ignore")
    for measure in MEASURES:
        if measure in shown:
            ends = zip(shown[measure], shown.pop(f"{measure}_low"), shown.pop(f"{measure}_high"), strict=True)
            shown[measure] = ["absent" if pd.isna(m) else f"{m:.3f} [{low:.3f}, {high:.3f}]" for m, low, high in ends]
    return shown.T.map(
        lambda value: str(value) if not isinstance(value, float) else "absent" if pd.isna(value) else f"{value:.3f}"
    ).to_string()


def published() -> pd.DataFrame:
    """What others wrote of their data sets: name, shapes, categories, source (and whether it was checked)."""
    return pd.read_csv(Path(__file__).with_name("published_datasets.csv"))


def _in_shares(name: str, shapes: VoxelSet) -> pd.DataFrame:
    """`statistics`, with the data set's name and resolution, occupancy, and extents as shares of the grid.

    x and y are the shape's: those of the grid are swapped where polygon2voxel swapped them (`prepare --method`).
    """
    table = statistics(shapes).assign(dataset=name, resolution=shapes.resolution)
    if shapes.axes[:2] == "yx":
        ends = ("extent", "offset", "symmetry")
        table = table.rename(columns={f"{of}_{a}": f"{of}_{b}" for of in ends for a, b in ("xy", "yx")})
    table["occupancy"] = table["volume"] / shapes.resolution**3
    sides = ["extent_x", "extent_y", "extent_z"]
    table[sides] /= shapes.resolution
    return table


def _parts(table: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """The whole set, then its classes if there are several."""
    yield ALL, table
    if table["class"].nunique() > 1:
        yield from ((str(label), part) for label, part in table.groupby("class"))


def _summary(label: str, part: pd.DataFrame) -> dict[str, Any]:
    """Counts, medians and shares of one set or class."""
    there = part[part["volume"] > 0]
    train = int((part["split"] == "train").sum())
    low, middle, high = there["occupancy"].quantile([0.25, 0.5, 0.75])
    medians = there[["extent_x", "extent_y", "extent_z", "symmetry_x", "symmetry_y"]].median()
    return {
        "dataset": part["dataset"].iloc[0], "class": label, "resolution": int(part["resolution"].iloc[0]), "n": len(part),
        "train": train, "held_out": len(part) - train, "classes": part["class"].nunique(),
        "occupancy_q25": low, "occupancy": middle, "occupancy_q75": high, **{str(key): value for key, value in medians.items()},
        **{kind: float((part["kind"] == kind).mean()) for kind in KINDS}, "in_parts": float((part["components"] > 1).mean()),
    }  # fmt: skip


def _of_whole_sets(rows: list[dict[str, Any]]) -> tuple[dict[str, Any], dict[str, Any], dict[str, str]]:
    """Values, intervals and absences under `<set>/<metric>`, from the rows of whole sets."""
    values, intervals, absent = {}, {}, {}
    for row in (row for row in rows if row["class"] == ALL):
        name = row["dataset"]
        for key, value in row.items():
            if pd.isna(value):
                absent[f"{name}/{key}"] = "all shapes are empty"
            elif key not in {"dataset", "class"} and not key.startswith(tuple(f"{measure}_" for measure in MEASURES)):
                values[f"{name}/{key}"] = value
        for measure, kind in MEASURES.items():
            if measure not in row:
                absent[f"{name}/{measure}"] = NO_DIVERSITY
            elif row[f"{measure}_low"] < row[f"{measure}_high"]:  # one without width is no interval
                intervals[f"{name}/{measure}"] = {"low": row[f"{measure}_low"], "high": row[f"{measure}_high"], "kind": kind}
    return values, intervals, absent


def draw(path: Path, rows: pd.DataFrame, shapes: pd.DataFrame) -> Path:
    """Draw what `describe` returned as one figure of six panels, and return its path."""
    import seaborn as sns

    there = shapes[shapes["volume"] > 0]
    names = list(dict.fromkeys(shapes["dataset"]))
    colors = dict(zip(names, sns.color_palette("deep", len(names)), strict=True))
    look: dict[str, Any] = {"hue": "dataset", "hue_order": names, "palette": colors, "fliersize": 1, "linewidth": 0.8}
    with figure(path, 2, 3, 15, 8.5) as axes:
        _draw_classes(axes[0, 0], shapes, colors)
        sns.boxplot(there, x="occupancy", y="dataset", order=names, ax=axes[0, 1], legend=False, **look)
        axes[0, 1].set(xlabel="", ylabel="")
        axes[0, 1].set_title("Occupied share of the grid", loc="left")
        for axis, kind, letters, title in (
            (axes[0, 2], "extent", "xyz", "Sides of the bounding box, as share of the grid"),
            (axes[1, 0], "symmetry", "xy", "IoU with its own mirror image, across x and across y"),
        ):
            long = there.melt("dataset", [f"{kind}_{letter}" for letter in letters], "axis", "share")
            long["axis"] = long["axis"].str[-1]
            sns.boxplot(long, x="axis", y="share", ax=axis, legend=False, **look)
            axis.set(xlabel="", ylabel="", ylim=(0, 1.03))
            axis.set_title(title, loc="left")
        _draw_diversity(axes[1, 1], rows, colors)
        _draw_sizes(axes[1, 2], rows, colors)
    return path


def _draw_classes(axis: Any, shapes: pd.DataFrame, colors: dict[str, Any]) -> None:
    """Bars of shapes per class: all of them pale, and over it those to train on; the next panel names the colours."""
    import seaborn as sns

    most = shapes["class"].value_counts().index[:MOST_CLASSES]
    counts = shapes.assign(all=1, train=shapes["split"] == "train")[shapes["class"].isin(most)]
    counts = counts.groupby(["dataset", "class"], as_index=False)[["all", "train"]].sum()
    look: dict[str, Any] = {"y": "class", "order": sorted(most), "hue": "dataset", "hue_order": list(colors)}
    look |= {"errorbar": None, "ax": axis, "legend": False}
    sns.barplot(counts, x="all", palette=colors, alpha=0.4, **look)
    sns.barplot(counts, x="train", palette=colors, **look)
    hidden = shapes["class"].nunique() - len(most)
    axis.set(xlabel="", ylabel="")
    axis.set_title("Shapes per class (pale: held out)" + (f", without {hidden} smaller ones" if hidden else ""), loc="left")


def _draw_diversity(axis: Any, rows: pd.DataFrame, colors: dict[str, Any]) -> None:
    """Both measures with their intervals for each set, and a faint dot for each of its classes."""
    for i, measure in enumerate(MEASURES):
        for j, (name, color) in enumerate(colors.items()):
            part = rows[rows["dataset"] == name]
            at = i + 0.5 * ((j + 0.5) / len(colors) - 0.5)
            if measure in part:
                whole, classes = part[part["class"] == ALL], part.loc[part["class"] != ALL, measure]
                around = [whole[measure] - whole[f"{measure}_low"], whole[f"{measure}_high"] - whole[measure]]
                axis.scatter(np.full(len(classes), at), classes, s=10, color=color, alpha=0.4, linewidths=0)
                axis.errorbar([at], whole[measure], around, fmt="o", color=color, capsize=3)
    axis.set(xlim=(-0.5, 1.5), ylim=(0, 1.03), xticks=[0, 1], xticklabels=["nearest other (median)", "any other (mean)"])
    drawn = f" among {rows['drawn'].max():.0f} shapes" if "drawn" in rows else ""
    axis.set_title(f"Jaccard distance{drawn} (faint: single classes)", loc="left")


def _draw_sizes(axis: Any, rows: pd.DataFrame, colors: dict[str, Any]) -> None:
    """Bars of shapes per set, ours and the published ones, with categories and source."""
    bars = [
        (row["dataset"], row["n"], row["classes"], f"at {row['resolution']}³", colors[row["dataset"]])
        for row in rows[rows["class"] == ALL].to_dict("records")
    ]
    for row in published().to_dict("records"):
        bars.append((row["name"], row["shapes"], row["categories"], row["source"].split(";")[0], NEUTRAL))
    names, sizes, categories, sources, tones = zip(*bars, strict=True)
    axis.barh(range(len(bars)), sizes, color=tones, alpha=0.5)
    axis.set(xscale="log", xlim=(1, 1e6), yticks=range(len(bars)), yticklabels=names)
    axis.invert_yaxis()
    axis.grid(visible=False, axis="y")
    for i, (size, n, source) in enumerate(zip(sizes, categories, sources, strict=True)):
        axis.text(1.2, i, f"{size:,}; categories: {n}\n{source}", va="center", fontsize="x-small")
    axis.set_title("Shapes, measured here and published", loc="left")
