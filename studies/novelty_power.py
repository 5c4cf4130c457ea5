"""What does the novelty check catch, under which distance, and from how many shapes on?

Honest samples, copies of eight kinds, noise and the mean shape are given to the check's own calibration and verdict, as many
of them as of held-out shapes, and many against few. All shapes of the data set are split anew for each seed, whatever split
they came with: so held-out shapes and honest samples are draws from one distribution, and a verdict on the latter is a false
alarm.
"""

from __future__ import annotations

import time
from typing import Literal

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
SIZES = ((20, 20), (50, 50), (100, 100), (200, 200), (500, 500), (500, 50), (500, 20))
"""Samples, and held-out shapes."""
BETTER: dict[tuple[int, int], Literal["high"]] = {(50, 50): "high", (500, 500): "high"}
"""Which are compared."""
POOL = {"smoke": 30, "cpu": 630, "gpu": 630, "paper": 630}
"""Shapes of each kind that are drawn from: more than the largest n, for some are too small to be judged, and some that are held
out are no null, being moved copies."""
DRAWS = {"smoke": 3, "cpu": 40, "gpu": 40, "paper": 200}
BOOTSTRAP = 1000  # as nn-check
HONEST, NULL, WHOLE = "honest", "held-out", "all"
KINDS = (HONEST, *(kind for kind in CANARIES if kind != "empty"))  # empty shapes are never judged
Distances = dict[str, NDArray[np.float64]]


def distances(task: Task) -> None:
    """Write `distances.csv` of one seed: to the nearest training shape, of every kind, under every distance."""
    path, pool = task.data / "distances.csv", POOL[task.scale]
    if path.exists():
        return
    shapes = VoxelSet.open(task.given).without_empty()
    distinct = np.unique(shapes.packed, axis=0, return_index=True)[1]
    order = np.random.default_rng(task.seed).permutation(np.sort(distinct))
    if len(order) < 3 * pool:
        raise Gan3dError(f"{task.given} has {len(order)} distinct shapes; novelty_power at scale {task.scale} needs {3 * pool}")
    held, honest, train = (shapes.take(np.sort(part)) for part in np.split(order, [pool, 2 * pool]))
    copies = canaries(train, pool, task.seed)
    sets = {NULL: held, HONEST: honest} | {kind: copies[kind] for kind in KINDS if kind in copies}
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
    null = {name: values[values > 0] for name, values in null.items()}  # as nn-check: a moved copy is no null
    sizes = {f"{kind} shapes": min(map(len, gen.values())), f"{NULL} shapes": min(map(len, null.values()))}
    values: dict[str, float] = {"n": len(gen[names[0]])}
    absent: dict[str, str] = {}
    for size in SIZES:
        if short := [f"{there} {what}" for (what, there), n in zip(sizes.items(), size, strict=True) if there < n]:
            absent[column(size)] = f"only {short[0]} that can be judged"
            continue
        draws = DRAWS[task.scale] if tuple(sizes.values()) != size else 1
        found = [detected(gen, null, size, [task.seed, *size, i], which == WHOLE) for i in range(draws)]
        values[column(size)] = float(np.mean(found))
    if which != WHOLE and all(sizes.values()):
        whole = calibrate(gen[which], null[which], BOOTSTRAP, task.seed).values
        values |= {key: whole[key] for key in ("a_far", "flagged_share")}
    inputs = {"distances": {"path": "distances.csv", "n": len(rows)}}
    protocol = f"{VERB}-{kind}-{which}-draws{DRAWS[task.scale]}"
    options = {"alpha": ALPHA, "bootstrap": BOOTSTRAP}
    result = Result(VERB, protocol, inputs, options, values, {}, absent=absent, seed=task.seed, started=started)
    write_json(task.path / "results" / f"{VERB}.json", result.to_dict())


def column(size: tuple[int, int]) -> str:
    """Name of a column: `detected_50`, `detected_500_against_20`."""
    n, m = size
    return f"detected_{n}" if n == m else f"detected_{n}_against_{m}"


def detected(gen: Distances, null: Distances, size: tuple[int, int], seed: list[int], exact: bool) -> bool:
    """Whether so many samples, drawn without replacement, are called copying against so many held-out shapes.

    Parameters
    ----------
    gen, null : dict
        Distances of samples and of held-out shapes by name; the samples' arrays belong together, row by row.
    exact : bool
        Whether exact copies count as such, too, as in the whole check.
    """
    random, (n, m) = np.random.default_rng(seed), size
    drawn = random.permutation(len(next(iter(gen.values()))))[:n]
    found: dict[str, Calibrated] = {}
    for name in gen:
        held = null[name][random.permutation(len(null[name]))[:m]]
        found[name] = calibrate(gen[name][drawn], held, BOOTSTRAP, seed[0])
    copies = int((gen["l1"][drawn] == 0).sum()) if exact else 0
    return verdict(found, n, copies, (0, m))[0] == "copying"


STUDY = Study(
    name="novelty_power",
    question="Which copies does nn-check catch, under which distance, and from how many shapes on?",
    cells={f"{kind}-{which}": Cell(options=(kind, which)) for kind in KINDS for which in (*DISTANCES, WHOLE)},
    verbs={VERB: ()},
    columns={key: (VERB, key) for key in ("n", *map(column, SIZES), "a_far", "flagged_share")},
    measures=(
        *(
            Measure(f"n = {n}" if n == m else f"{n} against {m}", column((n, m)), "{:.2f}", BETTER.get((n, m), ""))
            for n, m in SIZES
        ),
        Measure("A", "a_far"),
        Measure("p ≤ 0.05 singly", "flagged_share"),
    ),
    data=distances,
    make=power,
)
