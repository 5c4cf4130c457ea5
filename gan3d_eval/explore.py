"""What has G learned? Its latent space from inside: paths, arithmetic, single dimensions, and real shapes placed in it.

Everything is drawn from a checkpoint and a seed; no shape is picked by hand. What is shown of a few is measured on more.
"""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gan3d_eval.calibration import mann_whitney
from gan3d_eval.distances import jaccard_from_l1, nearest
from gan3d_eval.embedding import Embedding
from gan3d_eval.feature_map import MOST, feature_map
from gan3d_eval.feature_map import draw as draw_map
from gan3d_eval.files import Gan3dError, drafts
from gan3d_eval.latent import PATHS, Latents, LatentSpace, effects, iou, spherical
from gan3d_eval.provenance import Result, central
from gan3d_eval.render import GENERATED, REAL, animation
from gan3d_eval.run_dir import RunDir
from gan3d_eval.sheets import Tile, sheet
from gan3d_eval.statistics import statistics
from gan3d_eval.training_set import NO_DATA
from gan3d_eval.voxels import VoxelSet

__all__ = ["PARTS", "VERB", "explore"]

VERB = "explore"
PARTS = ("paths", "arithmetic", "dimensions", "recovery", "map")
PICTURES = (
    "paths.png", "morph.gif", "arithmetic.png", "dimensions.png", "map.png",
    *(f"recovery-{of}.png" for of in ("samples", "train", "test", "theirs")),
)  # fmt: skip
STEPS, PAIRS, SHOWN = 9, 50, 4
"""Shapes on a path, paths that are measured, and paths that are drawn."""
POOL = 1000  # samples among which groups are formed, and among which the search for a shape begins
GROUP = 100  # latents at either end of an attribute whose means are subtracted
ATTRIBUTES = {"extent_x": "width (x)", "extent_y": "depth (y)", "extent_z": "height", "volume": "volume"}
BASES, STRONGEST = 8, 6
FRAMES = 14  # of the animation, from one shape to the next
BOOTSTRAP = 2000
NO_TEST = "no held-out shapes at hand that do not stand in training too"
Rows = list[dict[str, Any]]


@dataclasses.dataclass
class _Tour:
    """A latent space, what it is set against, and what was found so far."""

    folder: Path
    space: LatentSpace
    train: VoxelSet | None
    test: VoxelSet | None
    seed: int
    name: str
    values: dict[str, Any] = dataclasses.field(default_factory=dict)
    intervals: dict[str, Any] = dataclasses.field(default_factory=dict)
    absent: dict[str, str] = dataclasses.field(default_factory=dict)
    rows: Rows = dataclasses.field(default_factory=list)
    drawn: set[str] = dataclasses.field(default_factory=set)

    def shapes(self, latents: Latents) -> VoxelSet:
        """What G makes of latents `(…, z)`, in that order."""
        return self.space.shapes(latents.reshape(-1, self.space.dimension))

    def draw(self, name: str, tiles: list[Tile], title: str, columns: int, notes: str) -> None:
        """Draw the picture of that name."""
        sheet(self.path(name), tiles, title, columns, tile=130, notes=notes)

    def path(self, name: str, suffix: str = ".png") -> Path:
        """Of a picture that is about to be drawn, `explore-<name>.png`."""
        self.drawn.add(f"{self.name}-{name}{suffix}")
        return self.folder / f"{self.name}-{name}{suffix}"

    def note(self, part: str, item: str, **measured: float) -> None:
        """Rows of the table: a line for each thing measured."""
        self.rows += [{"part": part, "item": item, "measure": key, "value": value} for key, value in measured.items()]


def explore(
    run: RunDir, space: LatentSpace, train: VoxelSet | None, test: VoxelSet | None, parts: tuple[str, ...] = PARTS,
    n_recover: int = 16, theirs: VoxelSet | None = None, embed: Embedding | None = None, umap: bool = False, seed: int = 0,
    name: str = VERB, say: Callable[[str], None] = lambda line: None,
) -> tuple[Result, pd.DataFrame]:  # fmt: skip
    """Walk through the latent space of a generator and draw `figures/explore-*.png` (and one `.gif`).

    Parameters
    ----------
    run : RunDir
        Where pictures go.
    space : LatentSpace
    train, test : VoxelSet, optional
        Shapes that G learned from, and others of their kind: for neighbours along paths, and for recovery. Of `test` those
        that stand in `train` too are left out.
    parts : of `PARTS`
    n_recover : int
        Shapes of each set that are looked for in the latent space.
    theirs : VoxelSet, optional
        Further shapes to look for.
    embed, umap
        Features and axes of the map (`feature_map`).
    name : str
        What the pictures' names begin with (`result_name`).

    Returns
    -------
    result : Result
    rows : DataFrame
        part, item, measure, value: what every path, attribute, dimension and recovered shape gave.

    Raises
    ------
    Gan3dError, RenderError
        Shapes of another resolution; no off-screen rendering here.
    """
    started = time.perf_counter()
    if theirs is not None and theirs.resolution != space.resolution:
        raise Gan3dError(f"your shapes have {theirs.resolution}³, but G makes {space.resolution}³; bring them to that")
    if train is not None and test is not None:
        test = test.apart_from(train)
    with drafts(run.path / "figures") as folder:
        tour = _Tour(folder, space, train, test, seed, name)
        for part in parts:
            say(f"{part} …")
            if part == "recovery":
                _recovery(tour, n_recover, theirs, say)
            elif part == "map":
                _map(tour, embed, umap)
            else:
                {"paths": _paths, "arithmetic": _arithmetic, "dimensions": _dimensions}[part](tour)
    for picture in {f"{name}-{what}" for what in PICTURES} - tour.drawn:
        (run.path / "figures" / picture).unlink(missing_ok=True)  # of parts that were left out this time
    inputs = {"train": train.identity() if train else None, "test": test.identity() if test else None}
    inputs["samples"] = {"path": space.name, "sha256": None, "n": POOL}
    options = {"parts": list(parts), "n_recover": n_recover, "column": "linear"}
    sets = "".join(f"-{key}{of.sha256[:8]}" for key, of in (("train", train), ("test", test)) if of is not None)
    protocol = f"explore-{space.resolution}-n{n_recover}{sets}"
    result = Result(
        VERB, protocol, inputs, options, tour.values, tour.intervals, absent=tour.absent, seed=seed, started=started
    )
    return result, pd.DataFrame(tour.rows)


def _paths(tour: _Tour) -> None:
    """From sample to sample, straight and round: drawn, and measured for jumps, loss of volume, and nearness to training."""
    ends = tour.space.draw("paths", 2 * PAIRS).reshape(2, PAIRS, -1)
    tiles: list[list[Tile]] = [[] for _ in range(SHOWN)]
    for name, way in PATHS.items():
        end = "" if name == "linear" else f"/{name}"
        shapes = tour.shapes(way(ends[0], ends[1], STEPS, tour.space.centre))  # step after step, each of all pairs
        packed, volume = shapes.packed.reshape(STEPS, PAIRS, -1), shapes.volume.reshape(STEPS, PAIRS)
        change = np.array([1 - iou(packed[i], packed[i + 1]) for i in range(STEPS - 1)])
        jump = change.max(axis=0) / np.maximum(change.sum(axis=0), 1e-12)
        midway = volume[STEPS // 2] / np.maximum(volume[[0, -1]].mean(axis=0), 1)
        found: dict[str, NDArray[np.float64]] = {"largest_jump": jump, "volume_midway": midway}
        if tour.train is not None:
            l1, near = nearest(shapes.packed, tour.train.packed)
            jaccard = jaccard_from_l1(l1[:, 0], shapes.volume, tour.train.volume[near[:, 0]]).reshape(STEPS, PAIRS)
            found |= {"jaccard_ends": jaccard[[0, -1]].mean(axis=0), "jaccard_midway": jaccard[STEPS // 2]}
        for key, measured in found.items():
            tour.values[f"{key}{end}"] = float(np.median(measured))
        for pair in range(PAIRS):
            tour.note("paths", f"{name}-{pair}", **{key: float(measured[pair]) for key, measured in found.items()})
        for pair in range(SHOWN):
            rows = np.arange(STEPS) * PAIRS + pair
            tiles[pair] += [(grid, name if i == 0 else "", GENERATED) for i, grid in enumerate(shapes.grids(rows))]
        if name == "spherical" and tour.train is not None:
            for pair in range(SHOWN):
                rows = near[np.arange(STEPS) * PAIRS + pair, 0]
                texts = [f"training {d:.2f}" for d in jaccard[:, pair]]
                tiles[pair] += [(tour.train.grids([row])[0], text, REAL) for row, text in zip(rows, texts, strict=True)]
    if tour.train is None:
        tour.absent |= {f"jaccard_{at}{end}": NO_DATA for at in ("ends", "midway") for end in ("", "/spherical")}
    title = f"From sample to sample: the first {SHOWN} pairs drawn"
    notes = "Sand: the training shape nearest to the one above it under L1, with its Jaccard distance."
    tour.draw("paths", [tile for row in tiles for tile in row], title, STEPS, notes if tour.train is not None else "")
    stops = np.concatenate([ends[0, :SHOWN], ends[0, :1]])
    way_round = [spherical(a, b, FRAMES + 1, tour.space.centre)[:-1] for a, b in itertools.pairwise(stops)]
    frames = tour.shapes(np.concatenate(way_round)).grids()
    animation(tour.path("morph", ".gif"), [[grid] for grid in frames], GENERATED, 360)


def _arithmetic(tour: _Tour) -> None:
    """A − B + C, where A and B are mean latents of samples at either end of an attribute (Radford et al. 2016, sec. 6.3.2)."""
    pool, others = tour.space.draw("pool", POOL), tour.space.draw("arithmetic", POOL // 10)
    made = tour.shapes(pool)
    full = made.volume > 0  # empty ones are the least in all respects, and would make all directions one
    if full.sum() < 2 * GROUP:
        tour.absent |= dict.fromkeys((f"moved_{name}" for name in ATTRIBUTES), f"only {full.sum()} of {POOL} samples not empty")
        return
    pool, of_pool, before = pool[full], statistics(made.take(full)), statistics(tour.shapes(others))
    tiles: list[Tile] = []
    random = np.random.default_rng(tour.seed)
    for name, label in ATTRIBUTES.items():
        order = np.argsort(of_pool[name].to_numpy(), kind="stable")
        low, high = pool[order[:GROUP]].mean(axis=0), pool[order[-GROUP:]].mean(axis=0)
        moved = others + (high - low)
        after = tour.shapes(moved)
        apart = float(of_pool[name].to_numpy()[order[-GROUP:]].mean() - of_pool[name].to_numpy()[order[:GROUP]].mean())
        change = statistics(after)[name].to_numpy(np.float64) - before[name].to_numpy(np.float64)
        if apart > 0:
            tour.values[f"moved_{name}"] = float(change.mean() / apart)
            again = random.choice(change, (BOOTSTRAP, len(change))).mean(axis=1) / apart
            tour.intervals[f"moved_{name}"] = central(again, "95 % bootstrap over samples")
        else:
            tour.absent[f"moved_{name}"] = "all samples are alike in it"
        for i, value in enumerate(change):
            tour.note("arithmetic", f"{name}-{i}", change=float(value))
        ends = pool[order[[-1, 0]]]  # no pictures of the means: these lie near the prior's centre, where hardly any sample does
        shown = tour.shapes(np.concatenate([ends, *(np.stack([others[i], moved[i]]) for i in range(3))]))
        texts = [f"of A: most {label}", "of B: least"] + ["C", "A − B + C"] * 3
        tiles += [(grid, text, GENERATED) for grid, text in zip(shown.grids(), texts, strict=True)]
    title = f"Arithmetic: A and B are the mean latents of {GROUP} of {len(pool)} samples each"
    tour.draw("arithmetic", tiles, title, 8, "C: the first samples drawn, the same in every row.")


def _dimensions(tour: _Tour) -> None:
    """How much each z changes alone, and the strongest ones drawn."""
    bases = tour.space.draw("dimensions", BASES)
    found = effects(tour.space, bases)
    strongest = np.argsort(-found, kind="stable")[:STRONGEST]
    tour.values["strongest_effect"], tour.values["median_effect"] = float(found.max()), float(np.median(found))
    tour.values["effective_dimensions"] = float(found.sum() ** 2 / np.maximum((found**2).sum(), 1e-12))
    for dimension, effect in enumerate(found):
        tour.note("dimensions", f"z{dimension}", effect=float(effect))
    low, high = tour.space.ends
    tiles: list[Tile] = []
    for dimension in strongest:
        row = np.repeat(bases[:1], STEPS, axis=0)
        row[:, dimension] = np.linspace(low, high, STEPS)
        texts = [f"z{dimension}: {found[dimension]:.2f}"] + [""] * (STEPS - 1)
        tiles += [(grid, text, GENERATED) for grid, text in zip(tour.shapes(row).grids(), texts, strict=True)]
    title = f"One z at a time, from {low:.2f} to {high:.2f}: the {STRONGEST} that change most"
    tour.draw("dimensions", tiles, title, STEPS, f"Effect: Jaccard distance between both ends, mean of {BASES} samples.")


def _recovery(tour: _Tour, n: int, theirs: VoxelSet | None, say: Callable[[str], None]) -> None:
    """Which shapes has G a latent for? Training shapes no better than held-out ones, if it has not learned them by heart."""
    random = np.random.default_rng(tour.seed)
    pool = tour.space.draw("pool", POOL)
    drawn = tour.shapes(pool)
    sets = {"samples": tour.shapes(tour.space.draw("recovery", n)), "train": tour.train, "test": tour.test, "theirs": theirs}
    overlaps: dict[str, NDArray[np.float64]] = {}
    for name, shapes in sets.items():
        if shapes is None:
            if name != "theirs":
                tour.absent[f"recovered_{name}"] = NO_DATA if tour.train is None else NO_TEST
            continue
        some = shapes if name == "theirs" else shapes.take(np.sort(random.permutation(len(shapes))[:n]))
        some = some.without_empty()  # an empty shape is found by any G that can make one
        if not len(some):
            tour.absent[f"recovered_{name}"] = "all of the shapes drawn are empty"
            continue
        begin = nearest(some.packed, drawn.packed)[1][:, 0]
        left = f", {n - len(some)} empty left out" * (name == "samples" and len(some) < n)
        say(f"recovery of {len(some)} shapes ({name}{left}) …")
        latents, found = tour.space.recover(some, pool[begin])
        before, overlaps[name] = iou(some.packed, drawn.packed[begin]), found
        tour.values[f"recovered_{name}"] = float(np.median(found))
        tour.values[f"nearest_sample_{name}"] = float(np.median(before))
        if len(some) > 1:
            again = np.median(random.choice(found, (BOOTSTRAP, len(some))), axis=1)
            tour.intervals[f"recovered_{name}"] = central(again, f"95 % bootstrap over {len(some)} shapes")
        for label, after, start in zip(some.names, found, before, strict=True):
            tour.note("recovery", f"{name}:{label}", recovered=float(after), nearest_sample=float(start))
        first, color = range(min(8, len(some))), GENERATED if name == "samples" else REAL
        tiles: list[Tile] = [(grid, label, color) for grid, label in zip(some.grids(first), some.names, strict=False)]
        tiles += [(grid, f"IoU {found[i]:.2f}", GENERATED) for i, grid in enumerate(tour.shapes(latents[: len(first)]).grids())]
        title = f"Looked for in the latent space: {'samples drawn for it' if name == 'samples' else name}"
        tour.draw(f"recovery-{name}", tiles, title, len(first), "Below each shape the nearest that G was found to make.")
    if {"train", "test"} <= set(overlaps):
        ours, other = overlaps["train"], overlaps["test"]
        tour.values["a_recovered"] = mann_whitney(ours, other)[0]
        again = np.array(
            [mann_whitney(random.choice(ours, len(ours)), random.choice(other, len(other)))[0] for _ in range(BOOTSTRAP)]
        )
        tour.intervals["a_recovered"] = central(again, "95 % bootstrap over both sets")


def _map(tour: _Tour, embed: Embedding | None, umap: bool) -> None:
    """Real and generated shapes in one plane."""
    if tour.train is None:
        tour.absent["map"] = NO_DATA
        return
    sets = {"train": tour.train} | ({"test": tour.test} if tour.test is not None else {})
    rows, shown, label = feature_map(sets | {"generated": tour.shapes(tour.space.draw("pool", MOST))}, embed, tour.seed, umap)
    draw_map(tour.path("map"), rows, shown, label)
    for name, shape, x, y in rows.itertuples(index=False):
        tour.note("map", f"{name}:{shape}", x=x, y=y)
