"""Small studies for the tests of human evaluation: boxes as data, blobs as samples, all at 16³, no training."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
from conftest import boxes

from gan3d_eval.case import Case, open_case
from gan3d_eval.files import row_hashes
from gan3d_eval.human.order import CHOICES
from gan3d_eval.human.store import Store
from gan3d_eval.human.study import DATA, Study, design_study
from gan3d_eval.provenance import dataset_record
from gan3d_eval.run_dir import RunDir
from gan3d_eval.voxels import VoxelSet, pack

N_TRAIN, N_TEST, N_GEN = 30, 24, 30


def make_dataset(path: Path, n_test: int = N_TEST) -> VoxelSet:
    """Boxes in a dataset directory; the first held-out shape stands in training too."""
    grids = np.concatenate([boxes(N_TRAIN, 1), boxes(n_test, 2)])
    if n_test:
        grids[N_TRAIN] = grids[0]
    shapes = VoxelSet.from_grids(grids)
    table = pd.DataFrame({"name": [f"box-{i}" for i in range(len(grids))], "class": "box", "source": "test", "flags": ""})
    table["split"] = ["train"] * N_TRAIN + ["test"] * n_test
    table["sha256"] = [digest.hex() for digest in row_hashes(shapes.packed)]
    table["occupied"], table["components"] = shapes.volume, 1
    dataclasses.replace(shapes, table=table, info={"name": path.name}).write(path)
    return VoxelSet.open(path)


def make_run(path: Path, data: Path, run_id: str = "boxes", seed: int = 3, empty: int = 2) -> RunDir:
    """A run whose samples are boxes of another seed, the first ones empty."""
    train = VoxelSet.open(data).select([], "train")
    run = RunDir.create(
        path,
        {
            "run_id": run_id, "category": "box", "resolution": 16, "status": "imported", "seed": None, "prior": None,
            "dataset": dataset_record(path, train, data, []), "grid": {"threshold": 0.5}, "producer": {}, "software": {},
            "command": [],
        },
    )  # fmt: skip
    grids = boxes(N_GEN, seed)
    grids[:empty] = False
    run.write_samples("final", occupancy=pack(grids))
    return run


def make_cases(root: Path, runs: int = 1) -> list[Case]:
    if not (root / "data").is_dir():
        make_dataset(root / "data")
    for i in range(runs):
        if not (root / f"run{i}").is_dir():
            make_run(root / f"run{i}", root / "data", f"boxes-{i}", seed=3 + i)
    return [open_case(root / f"run{i}") for i in range(runs)]


def make_study(root: Path, design: str = "yes-no", runs: int = 1, answers: int = 12, **options: object) -> Study:
    return design_study(make_cases(root, runs), design, answers, **options)


def answer_all(store: Store, raters: int, say, stop: int | None = None) -> list[str]:
    """Let raters answer; `say(number, sources, random)` picks the answer. Returns their tokens."""
    store.database.execute("PRAGMA synchronous = OFF")  # to count answers takes no disk
    tokens, sources = [], store.study.items["source"].to_numpy()
    for number in range(raters):
        random = np.random.default_rng(number)
        tokens.append(store.begin(f"rater {number}"))
        rater = store.rater(tokens[-1])
        for trial in range(store.length if stop is None else stop):
            shown = [str(source) for source in sources[list(store.shown(rater, trial))]]
            answer = say(number, shown, random)
            assert answer in CHOICES[store.study.settings["design"]]
            store.answer(rater, trial, answer, 1.0)
    return tokens


def careful(number, sources, random):
    """Knows noise and data, and takes six of ten generated shapes for real; prefers what comes first in this list."""
    order = [DATA, "example", "boxes-0", "boxes-1", "boxes-2", "noise"]
    if len(sources) == 2:
        return "AB"[int(np.argmax([-order.index(s) for s in sources]))]
    return "real" if sources[0] in {DATA, "example"} or (sources[0] != "noise" and random.random() < 0.6) else "generated"
