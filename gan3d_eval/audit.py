"""Is this data set fit to train on, and to measure against? Every defect that is known to make a number wrong, by name.

A defect has a code, a count, and a sentence that says what follows from it; each shape that shows it is one row of the
table. Counts are of this data set and no estimates of any other, so they have no interval. Nothing is changed here.

What it does not see: a turned, shifted or rescaled copy (distances are between the grids as they stand), a wrong label of
a shape that stands there once, and a mesh that was voxelised badly but alone.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gan3d_eval.distances import jaccard_from_l1, nearest
from gan3d_eval.files import row_hashes
from gan3d_eval.modelnet import expected_counts, modelnet10
from gan3d_eval.provenance import Result
from gan3d_eval.statistics import KINDS, statistics
from gan3d_eval.voxels import VoxelError, VoxelSet

__all__ = ["FINDINGS", "VERB", "audit", "findings", "why_unfit"]

VERB = "audit"
NEAR_EMPTY = 0.05  # share of the class's median volume below which a shape is almost empty
SMALL_CLASS = 10  # with fewer shapes the median of a class says little, and the whole set's is taken
ONE_SIZE = 0.6  # share of shapes with the same longest side from which the set counts as scaled to one size
NEIGHBOURS = 32  # that are looked at; shapes in a larger cluster of near duplicates are found through these
HUB = 10  # if neighbours fell by chance (Poisson, mean 1), one shape in nine million would be that of ten others
DEDUPE = "repair: prepare --fix dedupe"

FINDINGS = {
    "empty": "no voxel at all. Close to every thin shape, they pass for neighbours and for copies; "
    "repair: prepare --fix drop-empty",
    "near-empty": f"less than {NEAR_EMPTY:.0%} of their class's median volume. Close to every thin shape, as empty ones are; "
    "look at them, and leave out what is no shape",
    "exact-duplicate": "the same as an earlier one of their split. They weigh double in training, and every diversity comes "
    f"out too low; {DEDUPE}",
    "exact-leak": "in training too. A copy of one then looks like an honest sample, for held-out shapes are at distance 0 "
    f"themselves; {DEDUPE}",
    "leak-other-label": "in training too, but under another label only. A classifier that learnt them must fail on them; "
    f"{DEDUPE}",
    "label-conflict": "a copy has another label, so one of the labels is wrong, and no program knows which. Accuracies are "
    f"bounded by it; {DEDUPE}",
    "near-duplicate": "a near duplicate (Jaccard distance at most {near:g}) is in their split. They weigh double in training, "
    "and every diversity comes out too low; choose by hand, no option removes them",
    "near-leak": "a near duplicate (Jaccard distance at most {near:g}) is in training, and no exact one. They make memorising "
    "look like generalising; choose by hand, no option removes them",
    "undersized": "shorter than the {usual} voxels to which this set is scaled{empty}. {scaled}",
    "hub": f"nearest neighbour of {HUB} others or more. A search under L1 returns them again and again, for small shapes win; "
    "read Jaccard beside L1",
    "mixed-kinds": "{minority}, while {majority:,} are {other}. Distances then measure the filling and not the form; fill "
    "them all, or none (of meshes: shapes that leak stay hollow)",
    "several-parts": "in more than one part: detached voxels, or links thinner than the grid. Parts in a generated shape are "
    "then no fault in themselves",
    "count-mismatch": "not those of {which}, which this is by its classes and most of their sizes ({wrong}). Results on it do "
    "not compare with published ones",
}
STRAY = "Often a vertex that no face uses took part in the scaling; prepare them again from their meshes"
BY_METHOD = "So polygon2voxel scales; the exact method does not: prepare them again without --method"
UNFIT = ("empty", "exact-leak", "label-conflict")
LEAKS = ("exact-leak", "leak-other-label", "near-leak")
UNITS = dict.fromkeys(LEAKS, "held-out shapes") | {"hub": "distinct shapes", "count-mismatch": "numbers of shapes"}
NOTES = [
    "An empty shape counts as empty and as undersized, and neither as a duplicate nor as a leak.",
    "Neighbours are sought among distinct grids; a shape that ties for nearest gets its share of one.",
]

Found = dict[str, "pd.Series[str]"]
"""For each code: what is to be said of which row."""


def audit(shapes: VoxelSet, near: float = 0.02) -> tuple[Result, pd.DataFrame]:
    """Look for every defect of `FINDINGS`.

    Parameters
    ----------
    shapes : VoxelSet
        All splits together; every split but `train` counts as held out.
    near : float
        Jaccard distance in [0, 1) up to which two different shapes are near duplicates.

    Returns
    -------
    result : Result
        A count for each code in `values` (0 where there is nothing, absent with the reason where it could not be looked
        for), and a sentence in `notes` for each count above 0.
    rows : DataFrame
        One row per defect and shape: row (in `shapes`), name, class, split, finding, detail.

    Raises
    ------
    VoxelError
        No shapes, or `near` out of range.
    """
    started = time.perf_counter()
    if not 0 <= near < 1:
        raise VoxelError(f"near duplicates up to Jaccard distance {near:g} asked for; expected a number in [0, 1)")
    facts = statistics(shapes)
    facts["group"] = _groups(shapes.packed)
    kinds = {kind: int((facts["kind"] == kind).sum()) for kind in KINDS}
    values: dict[str, Any] = {
        "n": len(facts), "held_out": int((facts["split"] != "train").sum()), "distinct": int(facts["group"].nunique()),
        "solid": kinds["solid"], "surface": kinds["surface"], "thin": kinds["thin"],
    }  # fmt: skip
    empty = f" ({kinds['empty']} of them empty)" * bool(kinds["empty"])
    scaled = BY_METHOD if (shapes.info.get("voxelizer") or {}).get("name") == "polygon2voxel" else STRAY
    texts: dict[str, Any] = {"near": near, "empty": empty, "scaled": scaled}  # what the sentences name
    absent: dict[str, str] = {}
    if (shapes.info.get("grid") or {}).get("fill") == "surface":
        absent["mixed-kinds"] = "all are made as surfaces: what is solid is so by its thickness"
    if values["held_out"] in {0, len(facts)}:
        absent |= dict.fromkeys(LEAKS, f"{values['held_out']} of {len(facts)} shapes are held out: there is nothing to leak")
    found = _alone(facts, texts, absent) | _copies(facts)
    found |= _near(shapes.packed, facts, near, found["exact-leak"].index, values, absent)
    found = {code: found[code] for code in FINDINGS if code in found and code not in absent}
    values |= {code: len(rows) for code, rows in found.items()}
    if shapes.info.get("fixed"):
        absent["count-mismatch"] = f"shapes were left out on purpose: --fix {','.join(shapes.info['fixed'])}"
    else:
        _compare_counts(facts, values, texts, absent)

    of = {"held-out shapes": values["held_out"], "distinct shapes": values["distinct"]}
    of |= {"shapes": len(facts), "numbers of shapes": 2 * facts["class"].nunique()}
    units = {code: UNITS.get(code, "shapes") for code in FINDINGS if values.get(code)}
    notes = [f"{c}, {values[c]:,} of {of[u]:,} {u}: {FINDINGS[c].format(**texts)}." for c, u in units.items()]
    rows = pd.concat([facts.loc[part.index].assign(finding=code, detail=part) for code, part in found.items()])
    rows = rows.rename_axis("row").reset_index()[["row", "name", "class", "split", "finding", "detail"]]
    protocol = f"audit-{shapes.resolution}-n{len(facts)}-near{near:g}"
    options = {"near": near, "near_empty": NEAR_EMPTY, "one_size": ONE_SIZE, "neighbours": NEIGHBOURS, "hub": HUB}
    inputs = {"dataset": shapes.identity()}
    return Result(VERB, protocol, inputs, options, values, {}, notes=notes + NOTES, absent=absent, started=started), rows


def findings(result: Result) -> list[str]:
    """The sentences about defects that were found, without the general notes."""
    return [note for note in result.notes if note not in NOTES]


def why_unfit(result: Result) -> str:
    """Why a number measured on this set, or a training on it, would be wrong; empty if nothing known stands against it."""
    faults = [f"{result.values[code]} {code}" for code in UNFIT if result.values.get(code)]
    return f"the data set is unfit as it stands: {', '.join(faults)}" if faults else ""


def _groups(packed: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Number of each row's grid among the distinct ones, in the order in which they first appear, `(n,) int64`."""
    hashes = np.array(row_hashes(packed), dtype=object)
    return pd.factorize(hashes)[0].astype(np.int64)


def _alone(facts: pd.DataFrame, texts: dict[str, Any], absent: dict[str, str]) -> Found:
    """Defects that a shape shows without looking at others' voxels: empty, tiny, undersized, hollow, in parts."""
    there = facts[facts["volume"] > 0]
    classes = there.groupby("class")["volume"].agg(["median", "size"])
    usual = classes["median"].where(classes["size"] >= SMALL_CLASS, there["volume"].median())
    floor = NEAR_EMPTY * facts["class"].map(usual)
    kinds = facts["kind"].value_counts().reindex(["surface", "solid"], fill_value=0)
    minority, other = kinds.sort_values(kind="stable").index
    texts |= {"minority": minority, "other": other, "majority": kinds[other]}
    tiny = facts[(facts["volume"] > 0) & (facts["volume"] < floor)]
    parts = facts[facts["components"] > 1]
    found = {
        "empty": _text(facts[facts["volume"] == 0], "no voxel"),
        "near-empty": tiny["volume"].map("{} voxels".format),
        "mixed-kinds": _text(facts[(facts["kind"] == minority) & bool(kinds.min())], str(minority)),
        "several-parts": parts["components"].map("{} parts, ".format)
        + (parts["volume"] * (1 - parts["largest_share"])).map("{:.0f} voxels outside the largest".format),
    }
    sides = there["longest"].value_counts(normalize=True).sort_index()
    if sides.max() >= ONE_SIZE:
        texts["usual"] = sides.idxmax()
        found["undersized"] = facts.loc[facts["longest"] < sides.idxmax(), "longest"].map("{} voxels long".format)
    else:
        absent["undersized"] = f"no longest side is that of {ONE_SIZE:.0%} of the shapes, so the set is not scaled to one size"
    return found


def _copies(facts: pd.DataFrame) -> Found:
    """Defects of shapes whose grids are equal; empty ones are no copies."""
    there = facts[facts["volume"] > 0]
    again = there[there.duplicated(["split", "group"])]
    labels = there.groupby("group")["class"].agg(lambda classes: ", ".join(sorted(set(classes))))
    torn = there[there.groupby("group")["class"].transform("nunique") > 1]
    train = there[there["split"] == "train"].drop_duplicates("group").set_index("group")
    known = pd.MultiIndex.from_frame(there.loc[there["split"] == "train", ["group", "class"]])
    leaks = there[(there["split"] != "train") & there["group"].isin(train.index)]
    foreign = leaks[~pd.MultiIndex.from_frame(leaks[["group", "class"]]).isin(known)]
    first = there.groupby(["split", "group"])["name"].first()
    return {
        "exact-duplicate": again.join(first.rename("first"), on=["split", "group"])["first"].map("same as {}".format),
        "label-conflict": torn["group"].map(labels).map("found as {}".format),
        "exact-leak": leaks["group"].map(train["name"]).map("same as {}".format),
        "leak-other-label": foreign["group"].map(train["class"]).map("in training as {}".format),
    }


def _near(
    packed: NDArray[np.uint8], facts: pd.DataFrame, near: float, leaks: pd.Index[int],
    values: dict[str, Any], absent: dict[str, str],
) -> Found:  # fmt: skip
    """Near duplicates within a split and across, and hubs; among distinct grids, lest exact copies hide the others."""
    first = facts.drop_duplicates("group")
    if len(first) < 2:
        absent |= dict.fromkeys(("near-duplicate", "near-leak", "hub"), "fewer than two distinct shapes: no neighbours")
        return {}
    distinct, volume = packed[first.index], first["volume"].to_numpy()
    distinct = distinct[:, np.bitwise_or.reduce(distinct, axis=0) > 0]  # margins change no distance
    l1, other = (found[:, 1:] for found in nearest(distinct, distinct, min(NEIGHBOURS + 1, len(first))))  # 0 is itself
    jaccard = jaccard_from_l1(l1, volume[:, None], volume[other])
    twins: Found = {}
    for split, members in facts.drop_duplicates(["split", "group"]).groupby("split"):
        row = np.full(len(first), -1)  # the first shape of this split that has the grid, or -1
        row[members["group"]] = members.index
        close: NDArray[np.bool_] = (jaccard <= near) & (row[other] >= 0)
        at = np.arange(len(other)), close.argmax(axis=1)
        text = pd.Series(jaccard[at]).map("Jaccard {:.3f} to ".format) + facts["name"].to_numpy()[row[other[at]]]
        twins[str(split)] = text[close.any(axis=1)]
    of = facts["group"]
    own = [of[facts["split"] == split].map(text).dropna() for split, text in twins.items()]
    leaky = of[(facts["split"] != "train") & ~facts.index.isin(leaks)]
    return {
        "near-duplicate": pd.concat(own).sort_index(),
        "near-leak": leaky.map(twins.get("train", {})).dropna(),
        "hub": _hubs(l1, other, first, values),
    }


def _hubs(l1: NDArray[np.int64], other: NDArray[np.int64], first: pd.DataFrame, values: dict[str, Any]) -> pd.Series[str]:
    """How many shapes each is the nearest of; among k that tie, each gets 1/k."""
    ties = l1 == l1[:, :1]
    degree = pd.Series(np.bincount(other.ravel(), (ties / ties.sum(axis=1, keepdims=True)).ravel(), len(first)), first.index)
    top = degree.nlargest(5)
    values |= {
        "hub_max": float(degree.max()), "nobodys_neighbour_share": float((degree == 0).mean()),
        "hubs": ", ".join(f"{name} ({n:.3g})" for name, n in zip(first.loc[top.index, "name"], top, strict=True)),
    }  # fmt: skip
    return degree[degree >= HUB].map("nearest of {:.3g} shapes".format)


def _compare_counts(facts: pd.DataFrame, values: dict[str, Any], texts: dict[str, Any], absent: dict[str, str]) -> None:
    """Set the shapes per class and split against the official ones, if the class names are ModelNet's."""
    found: dict[Any, int] = facts.groupby(["class", "split"]).size().to_dict()
    by_class: dict[str, dict[str, int]] = {}
    for (label, split), n in found.items():
        by_class.setdefault(label, {})[split] = n
    official = expected_counts(by_class)
    if not official:
        absent["count-mismatch"] = "this is no ModelNet, by its classes and their sizes"
        return
    cells = [((label, split), n) for label, splits in official.items() for split, n in splits.items()]
    wrong = [f"{' '.join(cell)} {found.get(cell, 0)} of {n}" for cell, n in cells if found.get(cell, 0) != n]
    values["count-mismatch"] = len(wrong)
    texts["which"] = "ModelNet10" if set(official) <= set(modelnet10()) else "ModelNet40"
    texts["wrong"] = ", ".join(wrong[:4]) + (" …" if len(wrong) > 4 else "")


def _text(rows: pd.DataFrame, text: str) -> pd.Series[str]:
    """The same words for each of these rows."""
    return pd.Series(text, rows.index, dtype=str)
