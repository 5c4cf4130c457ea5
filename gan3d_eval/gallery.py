"""What do the shapes look like? Contact sheets by stated rules: nothing is picked by hand, nothing is cleaned up."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gan3d_eval.distances import jaccard_from_l1, nearest
from gan3d_eval.files import drafts
from gan3d_eval.provenance import Result
from gan3d_eval.render import GENERATED, REAL, animation
from gan3d_eval.run_dir import RunDir
from gan3d_eval.sheets import FORMATS, Paper, Tile, pair_sheet, sheet
from gan3d_eval.training_set import NO_DATA
from gan3d_eval.voxels import VoxelSet

__all__ = ["VERB", "gallery"]

VERB = "gallery"
PROGRESS_ROWS = 8
PAIRS = 12
THRESHOLDS, SWEPT = (0.1, 0.3, 0.5, 0.7, 0.9), 6
TURNED, TURNS = 4, 36


class _Album:
    """Where pictures go, how they look, and which are there so far."""

    def __init__(self, folder: Path, paper: Paper, suffix: str, say: Callable[[str], None]) -> None:
        self.folder, self.paper, self.suffix, self.say = folder, paper, suffix, say
        self.drawn: list[Path] = []
        self.absent: dict[str, str] = {}

    def path(self, name: str, suffix: str = "") -> Path:
        """Of a picture that is about to be drawn."""
        self.say(f"drawing {name} …")
        self.drawn.append((self.folder / name).with_suffix(suffix or self.suffix))
        return self.drawn[-1]

    def tiles(self, name: str, tiles: Sequence[Tile], title: str, columns: int = 8, tile: int = 220) -> None:
        """Draw a sheet."""
        sheet(self.path(name), tiles, title, columns, tile, paper=self.paper)

    def pairs(self, name: str, gen: VoxelSet, real: VoxelSet, rows: NDArray[np.int64], title: str, kind: str) -> None:
        """Draw these samples, each beside the real shape nearest under L1."""
        some = gen.take(rows)
        jaccard, near = _nearest(some, real)
        pairs = [(i, int(near[i]), f"IoU {1 - jaccard[i]:.2f}") for i in range(len(some))]
        pair_sheet(self.path(name), some, real, pairs, title, kind, 8, self.paper)


def gallery(
    run: RunDir, gen: VoxelSet, train: VoxelSet | None, test: VoxelSet | None = None,
    probabilities: NDArray[np.floating] | None = None, n: int = 32, seed: int = 0, paper: Paper | None = None,
    suffix: str = ".png", turntable: bool = False, say: Callable[[str], None] = lambda line: None,
) -> Result:  # fmt: skip
    """Draw contact sheets into `gallery/`, each by its rule; those for which there is no data are absent, with the reason.

    `samples`: the first n samples in the order in which they were drawn. `training`: n training shapes drawn at random with
    `seed`. `pairs`: the first 12 samples, each beside the training shape nearest under L1. `best` and `worst`: the 12 samples
    nearest to, and farthest from, any held-out shape (Jaccard distance to the one nearest under L1); held-out, and not in
    training too, because a copy of a training shape is not good. `thresholds`: the first 6 samples cut at 0.1 … 0.9.
    `progress`: the same latents through training. `turntable` (a GIF): the first 4 samples.

    Parameters
    ----------
    probabilities : (N, d, d, d) float in [0, 1], optional
        Of all samples, before their threshold.
    suffix : {".png", ".pdf", ".svg"}
        The report shows PNG only.

    Raises
    ------
    RenderError
        No off-screen rendering here.
    """
    started = time.perf_counter()
    with drafts(run.path / VERB) as folder:
        album = _Album(folder, paper or Paper(), suffix, say)
        _samples(album, gen, n)
        _training(album, gen, train, n, seed)
        _best_and_worst(album, gen, test if test is None or train is None else test.apart_from(train))
        _thresholds(album, probabilities)
        _progress(album, run)
        if turntable:
            first = gen.grids(slice(TURNED))
            animation(album.path("turntable", ".gif"), [list(first)] * TURNS, GENERATED, 360)
    names = {path.name for path in album.drawn}
    for path in list((run.path / VERB).iterdir()):
        if path.suffix[1:] in (*FORMATS, "gif") and path.name not in names:
            path.unlink()  # of other samples, or of a dataset that is no longer there
    inputs = {"samples": gen.identity(), "train": train.identity() if train else None}
    inputs["test"] = test.identity() if test else None
    values: dict[str, Any] = {path.stem: f"{VERB}/{path.name}" for path in album.drawn}
    return Result(VERB, "gallery-2", inputs, {"n": n}, values, {}, absent=album.absent, seed=seed, started=started)


def _samples(album: _Album, gen: VoxelSet, n: int) -> None:
    """The first n samples."""
    tiles: list[Tile] = [(grid, name, GENERATED) for grid, name in zip(gen.grids(slice(n)), gen.names, strict=False)]
    album.tiles("samples", tiles, f"Generated: the first {len(tiles)} samples, as drawn")


def _training(album: _Album, gen: VoxelSet, train: VoxelSet | None, n: int, seed: int) -> None:
    """Training shapes at random, and the first samples beside those nearest to them."""
    if train is None:
        album.absent |= dict.fromkeys(("training", "pairs"), NO_DATA)
        return
    rows = np.sort(np.random.default_rng(seed).permutation(len(train))[:n])
    tiles: list[Tile] = [(train.grids([row])[0], train.names[row], REAL) for row in rows]
    album.tiles("training", tiles, f"Training shapes: {len(rows)} of {len(train)}, drawn at random")
    title = "The first samples, each beside the training shape nearest under L1"
    album.pairs("pairs", gen, train, np.arange(min(PAIRS, len(gen))), title, "training")


def _best_and_worst(album: _Album, gen: VoxelSet, test: VoxelSet | None) -> None:
    """Samples nearest to held-out shapes, and farthest from them."""
    if test is None:
        album.absent |= dict.fromkeys(("best", "worst"), "no held-out shapes at hand")
        return
    order = np.argsort(_nearest(gen, test)[0], kind="stable")
    title = f"The {{}} of {len(gen)} samples: {{}} held-out shapes (Jaccard distance), each beside its nearest"
    best, worst = order[:PAIRS], order[::-1][:PAIRS]
    album.pairs("best", gen, test, best, title.format("best", "nearest to"), "held-out")
    album.pairs("worst", gen, test, worst, title.format("worst", "farthest from"), "held-out")


def _thresholds(album: _Album, probabilities: NDArray[np.floating] | None) -> None:
    """The same samples, cut at other thresholds."""
    if probabilities is None:
        album.absent["thresholds"] = "samples without probabilities: draw some (sample --probabilities), or import uncut ones"
        return
    some = probabilities[:SWEPT]
    tiles: list[Tile] = [
        (grid > threshold, f"above {threshold}" if i == 0 else "", GENERATED)
        for threshold in THRESHOLDS
        for i, grid in enumerate(some)
    ]
    album.tiles("thresholds", tiles, f"The first {len(some)} samples, cut at other thresholds", len(some), 170)


def _progress(album: _Album, run: RunDir) -> None:
    """The same latents through training."""
    steps = [name for name in run.sample_names() if name.isdecimal()]
    if len(steps) < 2:
        album.absent["progress"] = "fewer than two sample files from training"
        return
    chosen = [steps[i] for i in np.unique(np.linspace(0, len(steps) - 1, PROGRESS_ROWS).astype(int))]
    files = {name: run.samples(name) for name in chosen}
    columns = min(8, *map(len, files.values()))
    tiles: list[Tile] = [
        (grid, f"step {int(name)}" if i == 0 else "", GENERATED)
        for name, shapes in files.items()
        for i, grid in enumerate(shapes.grids(slice(columns)))
    ]
    album.tiles("progress", tiles, "The same latents through training", columns, 170)


def _nearest(gen: VoxelSet, real: VoxelSet) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Jaccard distance to the real shape nearest under L1, and its row: `(n,)` each."""
    l1, rows = nearest(gen.packed, real.packed)
    return jaccard_from_l1(l1[:, 0], gen.volume, real.volume[rows[:, 0]]), rows[:, 0]
