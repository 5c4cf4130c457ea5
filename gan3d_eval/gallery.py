"""What do the shapes look like? Contact sheets by stated rules: nothing is picked by hand, nothing is cleaned up."""

from __future__ import annotations

import time

import numpy as np

from gan3d_eval.distances import jaccard_from_l1, nearest
from gan3d_eval.render import GENERATED, REAL, Tile, pair_sheet, sheet
from gan3d_eval.run_dir import Result, RunDir
from gan3d_eval.voxels import VoxelSet

__all__ = ["VERB", "gallery"]

VERB = "gallery"
PROGRESS_ROWS = 8


def gallery(run: RunDir, gen: VoxelSet, train: VoxelSet | None, n: int = 32, seed: int = 0) -> Result:
    """Draw contact sheets into `gallery/`.

    `samples.png`: the first n samples in the order in which they were drawn. `training.png`: n training shapes, drawn at
    random with `seed`. `pairs.png`: the first 12 samples, each beside the training shape nearest under L1. `progress.png`: the
    same latents through training. The last three only where there is data for them.

    Raises
    ------
    RenderError
        No off-screen rendering here.
    """
    started = time.perf_counter()
    absent: dict[str, str] = {}
    tiles: list[Tile] = [(grid, name, GENERATED) for grid, name in zip(gen.grids(slice(n)), gen.names, strict=False)]
    drawn = [sheet(run.picture_path(VERB, "samples"), tiles, f"Generated: the first {len(tiles)} samples, as drawn")]
    if train is None:
        absent = dict.fromkeys(
            ("training", "pairs"), "the run names no dataset, or it is not there; pass --reference DATASET_DIR"
        )
    else:
        rows = np.sort(np.random.default_rng(seed).permutation(len(train))[:n])
        tiles = [(train.grids([row])[0], train.names[row], REAL) for row in rows]
        title = f"Training shapes: {len(rows)} of {len(train)}, drawn at random"
        drawn.append(sheet(run.picture_path(VERB, "training"), tiles, title))
        first = gen.take(np.arange(min(12, len(gen))))
        title = "The first samples, each beside its nearest training shape"
        drawn.append(pair_sheet(run.picture_path(VERB, "pairs"), first, train, _pairs(first, train), title, columns=8))
    if len(steps := [name for name in run.sample_names() if name.isdigit()]) > 1:
        chosen = [steps[i] for i in np.unique(np.linspace(0, len(steps) - 1, PROGRESS_ROWS).astype(int))]
        files = {name: run.samples(name) for name in chosen}
        columns = min(8, *map(len, files.values()))
        tiles = [
            (grid, f"step {int(name)}" if i == 0 else "", GENERATED)
            for name, shapes in files.items()
            for i, grid in enumerate(shapes.grids(slice(columns)))
        ]
        drawn.append(sheet(run.picture_path(VERB, "progress"), tiles, "The same latents through training", columns, tile=170))
    else:
        absent["progress"] = "fewer than two sample files from training"
    for stale in set(run.pictures(VERB)) - set(drawn):  # of other samples, or of a dataset that is no longer there
        stale.unlink()
    inputs = {"samples": gen.identity(), "train": train.identity() if train else None}
    values = {path.stem: f"{VERB}/{path.name}" for path in drawn}
    return Result(VERB, "gallery-1", inputs, {"n": n}, values, {}, absent=absent, seed=seed, started=started)


def _pairs(gen: VoxelSet, train: VoxelSet) -> list[tuple[int, int, str]]:
    """Each sample with its nearest training shape under L1, and their intersection over union."""
    l1, rows = nearest(gen.packed, train.packed)
    jaccard = jaccard_from_l1(l1[:, 0], gen.volume, train.volume[rows[:, 0]])
    return [(i, int(rows[i, 0]), f"IoU with neighbour {1 - jaccard[i]:.2f}") for i in range(len(gen))]
