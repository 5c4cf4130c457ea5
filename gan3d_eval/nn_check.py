"""Is a generated shape a copy of a training shape? Nearest neighbours, calibrated against shapes that G never saw.

A distance means nothing alone. So each sample's distance to its nearest training shape is set against the same distance of
*held-out* shapes (`calibration.py` says how), under five distances: L1 and Jaccard, in place and over every shift and turn
(`alignment.py`), and Jaccard of shapes that are peeled to equal size (`peeling.py`), because a copy that was moved, thickened
or sprinkled with voxels escapes a distance that does not know of it. What each of them catches is shown on every run with
canaries: copies made from the training shapes (`canaries.py`).

The verdict has two sides. Nearer than held-out shapes: copying. Farther: unlike the data, which is as true of noise as of
novelty. In between no evidence of copying, as far as the canaries reach.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gan3d_eval.authentic import authentic
from gan3d_eval.cache import NO_CACHE, Cache
from gan3d_eval.calibration import (
    ALPHA,
    MEDIUM,
    Calibrated,
    calibrate,
    copied,
    mann_whitney,
    p_values,
    verdict,
)
from gan3d_eval.canaries import CANARIES, COPIES
from gan3d_eval.distances import Spread, in_process, near_duplicates
from gan3d_eval.embedding import NO_FEATURES, Embedding
from gan3d_eval.neighbours import Search, sets_of
from gan3d_eval.provenance import Result
from gan3d_eval.statistics import LEAKED, unlike
from gan3d_eval.voxels import VoxelError, VoxelSet

__all__ = ["DISTANCES", "FIRST", "VERB", "nn_check", "why_failed"]

VERB = "nn-check"
DISTANCES = ("l1", "jaccard", "aligned_l1", "aligned_jaccard", "peeled_jaccard")
BESIDE = ("feature", "soft_l1")
"""Distances that are calibrated but have no part in the verdict: D was trained to see generated shapes as far from real ones,
and probabilities between 0 and 1 are far from every shape."""
MIN_NULL = 20  # with fewer held-out shapes no p-value could fall below 0.05
SMALL_QUANTILE = 0.05
CAUGHT = 0.8  # share of a kind of canary that must be flagged to count as seen
FIRST = (  # what a terminal shows
    *("verdict", "n", "n_judged", "n_train", "exact_copies", "repeats", "n_null", "a_far", "flagged_share"),
    *(f"caught_{kind}" for kind in COPIES),
)
CALIBRATED = ("a_far", "z_u", "flagged", "flagged_share", "significant")
FAR = "A distance far above the null means unlike the data, which is as true of noise as of novelty."
SOFT = "soft_l1 is of probabilities, which lie farther from every shape the less sure G is; it has no part in the verdict."
OWN_FEATURES = "Features are of {}; they have no part in the verdict, because D was trained to see samples as far from data."
EMPTY = "Empty shapes of the dataset, left out: {}; `prepare --fix drop-empty` removes them."
NULL = {"held-out": "held-out shapes", "left-out": "training shapes"}
LEAK = {"held-out": LEAKED, "left-out": "Training shapes that have a twin among the others, and were left out: {}."}
MOVED = "{} that are moved copies of training shapes, which makes n_null of distances that find them smaller: {}."
UNJUDGED = "Samples that are not judged: {} empty, {} smaller than 95 % of the training shapes."
REPEAT = (
    "Samples repeat. Of {} that are judged so many differ by more than half of what they differ from the training set by, and "
    "count where chance is weighed: {}."
)
TOO_SMALL = "{} left out as too small to be judged (95 % of the training shapes are larger): {}."
NO_TEST = "No held-out shapes are at hand: the null is of training shapes, each against the others."


def nn_check(
    train: VoxelSet, test: VoxelSet | None, gen: VoxelSet, k: int = 3, bootstrap: int = 1000, seed: int = 0, shift: int = 2,
    poses: str = "turns-mirror", raw: bool = False, embed: Embedding | None = None,
    probabilities: NDArray[np.floating] | None = None, cache: Cache = NO_CACHE, spread: Spread = in_process,
) -> tuple[Result, pd.DataFrame]:  # fmt: skip
    """Check every sample of `gen` against `train`, calibrated on `test` (or, without one, leaving one out of `train`).

    Parameters
    ----------
    train : VoxelSet
        Exactly the shapes that the generator was trained on.
    test : VoxelSet or None
        Shapes of the same kind that it never saw.
    gen : VoxelSet
        Generated shapes, same resolution.
    k : int
        Neighbours listed per shape, under L1; the test uses the first.
    bootstrap : int
        Resamples behind the interval of A.
    shift, poses : int, str
        What the aligned distances search (`alignment.nearest_aligned`).
    raw : bool
        L1 in place alone, without canaries: as fast as its search.
    embed : Embedding, optional
        Adds the distance between features.
    probabilities : (n, d, d, d) float in [0, 1], optional
        Of the samples before their threshold: adds their L1.
    cache : Cache
        Keeps what does not depend on `gen`.
    spread : Spread, optional
        Shares the search under L1 among machines (`distances.nearest`).

    Returns
    -------
    result : Result
        For `results/nn-check.json`. `values` has `<name>` for L1 and `<name>/<distance>` for the others.
    rows : DataFrame
        One row a shape: samples (`set` = generated), null (`held-out` or `left-out`), canaries (their name): name, status,
        volume, the distances, l1_share (of its own volume), k neighbours under L1 and the aligned one, and of judged samples p,
        q and flagged (p ≤ 0.05) under L1, `p_<distance>` under each other.

    Raises
    ------
    VoxelError
        Different resolutions, or k larger than the training set.
    """
    started = time.perf_counter()
    if min(k, bootstrap) < 1:
        raise VoxelError(f"{k} neighbours asked for, and {bootstrap} resamples; expected at least 1 of each")
    _check_sets(train, test, gen, k)
    raw_why = "--raw leaves it out" if raw else "shapes above 64³ are not aligned" if gen.resolution > 64 else ""
    sets, own = sets_of(train, test, not raw_why, seed)
    search, null_kind = Search(train, k, shift, poses, bool(raw_why), embed, cache, spread), next(iter(sets))
    smallest = float(np.quantile(train.volume, SMALL_QUANTILE))
    rows = _rows(search.rows({"generated": gen}, probabilities=probabilities), search.known(sets, own), null_kind, smallest)
    same = near_duplicates(gen.packed, rows["l1"].to_numpy()[: len(gen)])
    values, reason = _count(rows, null_kind, len(train), smallest, same)
    values["repeats"] = int((gen.volume > 0).sum()) - len(np.unique(gen.firsts()[gen.volume > 0]))
    intervals: dict[str, Any] = {}
    absent = dict.fromkeys(CALIBRATED, reason) if reason else {}
    absent |= dict.fromkeys((f"a_far/{name}" for name in (*DISTANCES[1:], "feature")), raw_why) if raw_why else {}
    absent |= {} if raw_why or embed else {"a_far/feature": NO_FEATURES}
    if reason:  # with some held-out shapes, if few, exact copies can still be too many
        copies = copied(values["n"], values["exact_copies"], _leaks(values))
        values["verdict"] = "copying" if copies else "undecided" if values["n_judged"] else "far-from-data"
        reason = "; ".join([*copies, reason])
    why = reason or _judge(rows, null_kind, values, intervals, absent, bootstrap, seed, same)
    more, missing = authentic(rows, null_kind, train, {"generated": gen} | sets, seed, raw_why or reason)
    values, absent = values | more, absent | missing
    values = {key: values[key] for key in ("verdict", *values)}  # the answer first
    inputs = {"train": train.identity(), "test": test.identity() if test else None, "samples": gen.identity()}
    protocol = _protocol(train, test, gen, f"{null_kind}{values['n_null']}", "" if raw_why else f"-shift{shift}-{poses}", embed)
    options = {"k": k, "alpha": ALPHA, "bootstrap": bootstrap, "small_quantile": SMALL_QUANTILE, "shift": shift, "poses": poses}
    options["column"] = "l1"
    notes = [f"{values['verdict']}: {why}", *([FAR] if values["verdict"] != "copying" else [])]
    notes += _left_out(train, test, null_kind, values)
    notes += [OWN_FEATURES.format(embed.name)] if "feature" in rows and embed else []
    notes += [SOFT] if "soft_l1" in rows else []
    notes += unlike(gen, train, seed)
    return Result(VERB, protocol, inputs, options, values, intervals, notes, absent, seed, started=started), rows


def _left_out(train: VoxelSet, test: VoxelSet | None, null_kind: str, values: dict[str, Any]) -> list[str]:
    """Which samples are not judged, which shapes are no part of the null, and why."""
    empty = sum(s.info.get("empty_left_out", 0) for s in (train, test) if s is not None)
    who = NULL[null_kind].capitalize()
    too_small = TOO_SMALL.format(who, values["null_too_small"])
    of_null = ((LEAK[null_kind], values["null_in_train"]), (too_small, values["null_too_small"]), (EMPTY, empty))
    notes = [UNJUDGED.format(values["empty"], values["too_small"])] if values["empty"] + values["too_small"] else []
    if values["n_distinct"] < values["n_judged"] / 2:
        notes.append(REPEAT.format(values["n_judged"], values["n_distinct"]))
    notes += [*([] if test else [NO_TEST]), *(text.format(n) for text, n in of_null if n)]
    moved = {key.split("/")[-1]: n for key, n in values.items() if key.startswith("null_copies")}
    return [*notes, MOVED.format(who, ", ".join(f"{name} {n}" for name, n in moved.items()))] if moved else notes


def _protocol(train: VoxelSet, test: VoxelSet | None, gen: VoxelSet, null: str, searched: str, embed: Embedding | None) -> str:
    """What makes values comparable: resolution, search, both sets, n; behind the + what only those of features depend on."""
    unseen, features = (f"-{test.sha256[:8]}" if test else ""), (f"+{embed.sha256[:8]}" if embed and searched else "")
    return f"nn-{gen.resolution}{searched}-train{len(train)}-{train.sha256[:8]}-{null}{unseen}-n{len(gen)}{features}"


def _check_sets(train: VoxelSet, test: VoxelSet | None, gen: VoxelSet, k: int) -> None:
    if len({s.resolution for s in (train, gen, *([test] if test else []))}) > 1:
        sets = f"samples are {gen.resolution}³, training shapes {train.resolution}³"
        raise VoxelError(f"{sets}{f', held-out shapes {test.resolution}³' if test else ''}; compare equal resolutions only")
    if k > (most := len(train) - (test is None)):  # without held-out shapes each is set against the others
        raise VoxelError(f"{k} neighbours asked for (--k), and these {len(train)} training shapes have at most {most}")


def _rows(samples: pd.DataFrame, known: pd.DataFrame, null_kind: str, smallest: float) -> pd.DataFrame:
    """All rows with their status: ok, or why a shape is neither judged nor part of the null."""
    rows = pd.concat([samples, known], ignore_index=True).assign(p=np.nan, q=np.nan, flagged=False)
    if "soft_l1" in rows:
        rows["soft_l1"] = rows["soft_l1"].fillna(rows["l1"])  # of binary shapes both are the same
    rows.loc[rows["volume"] < smallest, "status"] = "too-small"
    rows.loc[rows["volume"] == 0, "status"] = "empty"
    rows.loc[(rows["set"] == null_kind) & (rows["l1"] == 0), "status"] = "in-train"
    return rows


def _count(
    rows: pd.DataFrame, null_kind: str, n_train: int, smallest: float, same: NDArray[np.intp]
) -> tuple[dict[str, Any], str]:
    """What was searched and found, and why the samples cannot be calibrated; empty if they can. `same`: as for `_judge`."""
    generated, null = rows[rows["set"] == "generated"], rows[rows["set"] == null_kind]
    judged, usable = generated[generated["status"] == "ok"], int((null["status"] == "ok").sum())
    values: dict[str, Any] = {
        "n": len(generated), "n_judged": len(judged), "n_distinct": len(np.unique(same[judged.index])),
        "n_train": n_train, "n_null": usable, "null": null_kind,
        "empty": int((generated["status"] == "empty").sum()), "too_small": int((generated["status"] == "too-small").sum()),
        "smallest_volume": smallest,
        "exact_copies": int(((generated["l1"] == 0) & (generated["volume"] > 0)).sum()),
        "null_in_train": int((null["status"] == "in-train").sum()),
        "null_too_small": int((null["status"] == "too-small").sum()),
    }  # fmt: skip
    if not len(judged):
        return values, f"no sample has the volume of a training shape (at least {smallest:.0f} voxels)"
    values |= {"l1_share_median": float(judged["l1_share"].median()), "distinct_neighbours": judged["neighbour1_row"].nunique()}
    return values, f"{usable} usable {NULL[null_kind]}, at least {MIN_NULL} are needed" if usable < MIN_NULL else ""


def _leaks(values: dict[str, Any]) -> tuple[int, int]:
    """Held-out shapes that stand in the training set, of so many that could be judged."""
    return values["null_in_train"], values["null_in_train"] + values["n_null"]


def _judge(
    rows: pd.DataFrame, null_kind: str, values: dict[str, Any], intervals: dict[str, Any], absent: dict[str, str],
    bootstrap: int, seed: int, same: NDArray[np.intp],
) -> str:  # fmt: skip
    """Calibrate under every distance that was searched: values, intervals, p; return the verdict with its reasons.

    `same` is the row of the first sample that each all but repeats (`near_duplicates`).
    """
    ok = rows["status"] == "ok"
    gen, null = rows.index[ok & (rows["set"] == "generated")], rows.index[ok & (rows["set"] == null_kind)]
    found: dict[str, Calibrated] = {}
    for name in [name for name in (*DISTANCES, *BESIDE) if name in rows]:
        end = "" if name == "l1" else f"/{name}"
        every = rows.loc[null, name].to_numpy(np.float64)
        reference = every[every > 0]  # a held-out shape that is a moved copy is no null of a distance that finds it
        if len(reference) < len(every):
            values[f"null_copies{end}"] = len(every) - len(reference)
        if len(reference) < MIN_NULL:
            absent[f"a_far{end}"] = f"{len(reference)} {NULL[null_kind]} are no moved copies; at least {MIN_NULL} are needed"
            continue
        one = found[name] = calibrate(rows.loc[gen, name].to_numpy(np.float64), reference, bootstrap, seed, same[gen])
        values |= {f"{key}{end}": value for key, value in one.values.items()}
        intervals |= {f"{key}{end}": interval for key, interval in one.intervals.items()}
        rows.loc[gen, "p" if name == "l1" else f"p_{name}"] = one.p
        for kind in [kind for kind in CANARIES if kind in set(rows["set"])]:
            theirs = rows.loc[ok & (rows["set"] == kind), name].to_numpy(np.float64)
            if len(theirs):  # those too small to judge are neither caught nor missed
                values[f"caught_{kind}{end}"] = float((p_values(theirs, reference) <= ALPHA).mean())
                values[f"a_{kind}{end}"] = mann_whitney(theirs, reference)[0]
    rows.loc[gen, "q"], rows.loc[gen, "flagged"] = found["l1"].q, found["l1"].p <= ALPHA
    values |= {"flagged_expected": ALPHA, "p_floor": 1 / (1 + found["l1"].values["n_null"])}
    refused = (values["empty"] + values["too_small"]) / values["n"]
    judging = {name: found[name] for name in DISTANCES if name in found}
    name, reasons = verdict(judging, values["n"], values["exact_copies"], _leaks(values))
    if refused > 0.5 and name != "copying":
        name, reasons = "far-from-data", [f"{refused:.0%} of the samples are empty or too small to judge"]
    values["verdict"] = name
    return f"{'; '.join(reasons)}. {_reach(values)}"


def _reach(values: dict[str, Any]) -> str:
    """Which copies the check was shown to catch, and which not."""

    def under_all(name: str) -> list[float]:
        return [value for key, value in values.items() if key.split("/")[0] == name and key.split("/")[-1] not in BESIDE]

    copies = [kind for kind in COPIES if under_all(f"caught_{kind}")]
    if not copies:
        return "What kinds of copies it would catch was not tried."
    singly = [kind for kind in copies if max(under_all(f"caught_{kind}")) >= CAUGHT]
    together = [kind for kind in copies if kind not in singly and min(under_all(f"a_{kind}"), default=1.0) <= MEDIUM]
    missed = [kind for kind in copies if kind not in singly + together]
    kinds = (("caught one by one", singly), ("only as a set", together), ("not caught", missed))
    return "Canaries " + "; ".join(f"{how}: {', '.join(names)}" for how, names in kinds if names) + "."


def why_failed(result: Result, share: float) -> str:
    """Why a check with `--fail-above share` fails: too many copies, too many flagged, nothing to judge; or empty."""
    values = result.values
    if "flagged_share" not in values:
        return f"nothing could be judged: {result.absent['flagged_share']}"
    if values["exact_copies"] > share * values["n"]:
        return f"{values['exact_copies']} of {values['n']} samples are exact copies, more than {share:.1%}"
    for name in DISTANCES:
        end = "" if name == "l1" else f"/{name}"
        if values.get(f"flagged_share{end}", 0) > share:
            flagged = f"{values[f'flagged{end}']} of {values['n_judged']} samples"
            return f"{flagged} have p ≤ {ALPHA} under {name}, more than {share:.1%}"
    return ""
