"""Shapes that the report lets its reader turn: the first samples, each with the training shape that nn-check found."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pandas as pd

from gan3d_eval.distances import jaccard_from_l1
from gan3d_eval.files import Gan3dError, file_hash
from gan3d_eval.run_dir import RunDir, RunDirError
from gan3d_eval.training_set import training_set
from gan3d_eval.voxels import VoxelSet

__all__ = ["is_stale", "turned"]

SHOWN = 24


def turned(run: RunDir, results: dict[str, dict[str, Any]]) -> dict[str, Any] | None:
    """`{d, shapes: [{name, bits, near, near_name, iou}]}` as the viewer takes them; None for a run without samples.

    Neighbours come from the table of nn-check, or of nn-check --raw, if it is of these samples and its training shapes are
    at hand.
    """
    if not run.sample_names():
        return None
    gen = run.samples()
    shapes = [{"name": gen.names[i], "bits": _bits(gen, i)} for i in range(min(SHOWN, len(gen)))]
    verb = "nn-check" if "nn-check" in results else "nn-check-raw"
    result, table = results.get(verb), run.path / "results" / f"{verb}.csv"
    if result is None or not table.is_file() or (result.get("table") or {}).get("sha256") not in {None, file_hash(table)}:
        return {"d": gen.resolution, "shapes": shapes}
    if result["inputs"]["samples"]["sha256"] == gen.sha256 and (train := _searched(run, result)):
        rows = pd.read_csv(table)
        rows = rows[rows["set"] == "generated"].head(SHOWN)
        near = rows["neighbour1_row"].to_numpy(np.int64)
        apart = jaccard_from_l1(rows["l1"].to_numpy(np.int64), gen.volume[: len(near)], train.volume[near])
        for shape, row, jaccard in zip(shapes, near, apart, strict=True):
            shape |= {"near": _bits(train, row), "near_name": train.names[row], "iou": f"{1 - jaccard:.2f}"}
    return {"d": gen.resolution, "shapes": shapes}


def _searched(run: RunDir, result: dict[str, Any]) -> VoxelSet | None:
    """The training shapes that nn-check searched; None where the run's dataset is gone, or is another one now."""
    try:
        train = training_set(run)[0]
    except Gan3dError:
        return None
    return train if train.sha256 == result["inputs"]["train"]["sha256"] else None


def is_stale(run: RunDir, result: dict[str, Any]) -> bool:
    """Whether a result is of samples that are not there any more, cannot be read, or have changed."""
    samples = result["inputs"].get("samples") or {}
    path, sha256 = str(samples.get("path")), samples.get("sha256")
    if sha256 is None or not path.startswith("samples/"):
        return False
    try:
        return bool(run.samples(path.removeprefix("samples/").removesuffix(".npz")).sha256 != sha256)
    except RunDirError:
        return True


def _bits(shapes: VoxelSet, row: int) -> str:
    return base64.b64encode(shapes.packed[row].tobytes()).decode()
