"""What does the novelty check catch, under which distance, and from how many shapes on?

Honest samples and copies of eleven kinds are given to the check's own calibration and verdict, n of them against n held-out
shapes. All shapes of the data set are split anew for each seed, whatever split they came with: so the held-out shapes and the
honest samples are draws from one distribution, and a verdict on the latter is a false alarm.
"""

from __future__ import annotations

import time

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gan3d_eval.cache import NO_CACHE
from gan3d_eval.calibration import ALPHA, Calibrated, calibrate, verdict
from gan3d_eval.canaries import CANARIES, canaries
from gan3d_eval.files import Gan3dError, atomic_file, write_json
from gan3d_eval.neighbours import Search
from gan3d_eval.nn_check import DISTANCES, SMALL_QUANTILE
from gan3d_eval.provenance import Result
from gan3d_eval.voxels import VoxelSet
from studies.study import Cell, Measure, Study, Task

__all__ = ["STUDY", "detected"]

VERB = "novelty-power"
NUMBERS = (20, 50, 100, 200, 500)
MOST = {"smoke": 20, "cpu": 500, "gpu": 500, "paper": 500}
"""Shapes of each kind."""
DRAWS = {"smoke": 3, "cpu": 100, "gpu": 100, "paper": 500}
BOOTSTRAP = 1000  # as nn-check
HONEST, NULL, WHOLE = "honest", "held-out", "all"
KINDS = (HONEST, *(kind for kind in CANARIES if kind != "empty"))  # empty shapes are never judged
Distances = dict[str, NDArray[np.float64]]


def distances(task: Task) -> None:
    """Write `distances.csv` of one seed: to the nearest training shape, of every kind, under every distance."""
    path, most = task.data / "distances.csv", MOST[task.scale]
    if path.exists():
        return
    shapes = VoxelSet.open(task.given).without_empty()
    distinct = np.unique(shapes.packed, axis=0, return_index=True)[1]
    order = np.random.default_rng(task.seed).permutation(np.sort(distinct))
    apart = 2 * most + most // 4 + 10  # some are too small to be judged
    train, rest = shapes.take(np.sort(order[apart:])), shapes.take(order[:apart])
    rest = rest.take(rest.volume >= np.quantile(train.volume, SMALL_QUANTILE)) if len(train) else rest
    if len(train) < most or len(rest) < 2 * most:
        raise Gan3dError(f"{task.given} has {len(distinct)} distinct shapes; {VERB} at {task.scale} needs {apart + most}")
    sets = {NULL: rest.take(range(most)), HONEST: rest.take(range(most, 2 * most))}
    sets |= {kind: copies for kind, copies in canaries(train, most, task.seed).items() if kind in KINDS}
    rows = Search(train, 1, 2, "turns-mirror", False, None, NO_CACHE).rows(sets)
    rows = rows[rows["volume"] >= np.quantile(train.volume, SMALL_QUANTILE)]
    with atomic_file(path) as temporary:
        rows[["set", *DISTANCES]].to_csv(temporary, index=False, lineterminator="\n")


def power(task: Task) -> None:
    """Write the share of draws in which one kind is called copying, by one distance or by all, at every n."""
    started = time.perf_counter()
    kind, which = task.cell.options
    rows = pd.read_csv(task.data / "distances.csv")
    names = DISTANCES if which == WHOLE else (which,)
    gen = {name: rows.loc[rows["set"] == kind, name].to_numpy(np.float64) for name in names}
    null = {name: rows.loc[rows["set"] == NULL, name].to_numpy(np.float64) for name in names}
    null = {name: values[values > 0] for name, values in null.items()}  # a moved copy is no null
    values: dict[str, float] = {"n": len(gen[names[0]])}
    absent: dict[str, str] = {}
    for n in NUMBERS:
        sizes = {"samples": min(map(len, gen.values())), "held-out shapes": min(map(len, null.values()))}
        if short := [f"{size} {what}" for what, size in sizes.items() if size < n]:
            absent[f"detected_{n}"] = f"only {short[0]}"
            continue
        draws = DRAWS[task.scale] if min(sizes.values()) > n else 1
        found = [detected(gen, null, n, [task.seed, n, i], which == WHOLE) for i in range(draws)]
        values[f"detected_{n}"] = float(np.mean(found))
    whole = {name: calibrate(gen[name], null[name], 0, task.seed).values for name in names}
    if which != WHOLE:
        values |= {"a_far": whole[which]["a_far"], "flagged_share": whole[which]["flagged_share"]}
    inputs = {"distances": {"path": "distances.csv", "n": len(rows)}}
    protocol = f"{VERB}-{kind}-{which}-draws{DRAWS[task.scale]}"
    options = {"alpha": ALPHA, "bootstrap": BOOTSTRAP}
    result = Result(VERB, protocol, inputs, options, values, {}, absent=absent, seed=task.seed, started=started)
    write_json(task.path / "results" / f"{VERB}.json", result.to_dict())


def detected(gen: Distances, null: Distances, n: int, seed: list[int], exact: bool) -> bool:
    """Whether n samples, drawn without replacement, are called copying against n held-out shapes.

    Parameters
    ----------
    gen, null : dict
        Distances of samples and of held-out shapes by name; the samples' arrays belong together, row by row.
    exact : bool
        Whether exact copies count as such, too, as in the whole check.
    """
    random = np.random.default_rng(seed)
    drawn = random.permutation(len(next(iter(gen.values()))))[:n]
    found: dict[str, Calibrated] = {}
    for name in gen:
        held = null[name][random.permutation(len(null[name]))[:n]]
        found[name] = calibrate(gen[name][drawn], held, BOOTSTRAP, seed[0])
    copies = int((gen["l1"][drawn] == 0).sum()) if exact else 0
    return verdict(found, n, copies, (0, n))[0] == "copying"


STUDY = Study(
    name="novelty_power",
    question="Which copies does nn-check catch, under which distance, and from how many shapes on?",
    cells={f"{kind}-{which}": Cell(options=(kind, which)) for kind in KINDS for which in (*DISTANCES, WHOLE)},
    verbs={VERB: ()},
    columns={key: (VERB, key) for key in ("n", *(f"detected_{n}" for n in NUMBERS), "a_far", "flagged_share")},
    measures=(
        *(Measure(f"n = {n}", f"detected_{n}", "{:.2f}", "high" if n in (50, 500) else "") for n in NUMBERS),
        Measure("A", "a_far"),
        Measure("p ≤ 0.05 singly", "flagged_share"),
    ),
    data=distances,
    make=power,
)
