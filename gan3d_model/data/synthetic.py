"""A procedural furniture source: sofas, tables, dressers and monitors as meshes in ModelNet's folder layout.

The embedded default data. Each shape is drawn from its own random stream, so shape 7 is the same in a set of 10 and of
1000. Classes overlap as real ones do: a low table with a shelf is nearly a dresser without drawers, a tall back makes a
sofa look like a bed's head. Units are metres, z is up, fronts look along −y.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.random import Generator

from gan3d_eval.interrupts import ctrl_c_afterwards
from gan3d_eval.run_dir import Gan3dError, atomic_file

with ctrl_c_afterwards():  # as in `meshes`
    import trimesh
    from trimesh import Trimesh

__all__ = ["CLASSES", "furniture", "write_furniture"]

Parts = list[Trimesh]


def block(
    x: tuple[float, float], y: tuple[float, float], z: tuple[float, float], taper: float = 1.0, lean: float = 0.0
) -> Trimesh:
    """A box between the given bounds; its bottom is scaled by `taper`, its top moved back (+y) by `lean`."""
    mesh = trimesh.creation.box(bounds=np.array([x, y, z]).T)
    centre = np.array([sum(x) / 2, sum(y) / 2])
    bottom = mesh.vertices[:, 2] < sum(z) / 2
    vertices = mesh.vertices.copy()
    vertices[bottom, :2] = centre + taper * (vertices[bottom, :2] - centre)
    vertices[~bottom, 1] += lean
    mesh.vertices = vertices
    return mesh


def disc(centre: tuple[float, float], radius: float, z: tuple[float, float]) -> Trimesh:
    """An upright cylinder."""
    ends = [[*centre, z[0]], [*centre, z[1]]]
    return trimesh.creation.cylinder(radius, segment=ends, sections=24)


def legs(x: float, y: float, height: float, width: float, taper: float, inset: float = 0.0) -> Parts:
    """Four legs under a rectangle of half sizes x and y."""
    half = width / 2
    at = [(sx * (x - half - inset), sy * (y - half - inset)) for sx in (-1, 1) for sy in (-1, 1)]
    return [block((cx - half, cx + half), (cy - half, cy + half), (0, height), taper) for cx, cy in at]


def sofa(rng: Generator) -> Parts:
    """Seat, back, arms of four kinds, cushions, feet; a third has a chaise (L)."""
    half, depth = rng.uniform(0.7, 1.3), rng.uniform(0.8, 1.05)
    foot = rng.choice([0.0, rng.uniform(0.06, 0.16)])
    seat, back = rng.uniform(0.36, 0.48), rng.uniform(0.68, 1.0)
    front, rear = -depth / 2, depth / 2
    thick, lean = rng.uniform(0.14, 0.28), rng.uniform(0.0, 0.14)
    arm = rng.choice(["block", "round", "thin", "none"], p=[0.4, 0.25, 0.2, 0.15])
    width = {"block": rng.uniform(0.14, 0.26), "round": rng.uniform(0.16, 0.24), "thin": 0.07, "none": 0.0}[str(arm)]
    top = rng.uniform(seat + 0.1, min(back - 0.02, seat + 0.28))
    parts = [
        block((-half, half), (front, rear), (foot, seat)),
        block((-half, half), (rear - thick, rear), (seat - 0.1, back), lean=lean),
    ]
    for side in (-1, 1) if width else ():
        x = sorted((side * half, side * (half - width)))
        parts.append(block((x[0], x[1]), (front, rear), (foot, top)))
        if arm == "round":
            middle = side * (half - width / 2)
            parts.append(
                trimesh.creation.cylinder(width * 0.62, segment=[[middle, front, top], [middle, rear, top]], sections=20)
            )
    inner, count = half - width, int(rng.integers(1, 4))
    for i in range(count):  # cushions
        left = -inner + 2 * inner * i / count
        right = left + 2 * inner / count
        parts.append(block((left + 0.015, right - 0.015), (front - 0.02, rear - thick), (seat, seat + rng.uniform(0.06, 0.1))))
    if rng.random() < 0.33:  # chaise
        side, reach = rng.choice([-1, 1]), rng.uniform(0.45, 0.8)
        x = sorted((side * half, side * (half - rng.uniform(0.55, 0.8))))
        parts.append(block((x[0], x[1]), (front - reach, front), (foot, seat + 0.08)))
    return parts + (legs(half, depth / 2, foot, 0.08, 0.7, 0.03) if foot else [])


def table(rng: Generator) -> Parts:
    """Four legs, a pedestal, or low with a shelf; rectangular or round tops."""
    kind = rng.choice(["four", "pedestal", "low"], p=[0.5, 0.25, 0.25])
    x, y = rng.uniform(0.5, 1.1), rng.uniform(0.35, 0.6)
    height = rng.uniform(0.32, 0.5) if kind == "low" else rng.uniform(0.68, 0.8)
    thick = rng.uniform(0.03, 0.09)
    under = height - thick
    round_top = kind == "pedestal" and rng.random() < 0.6
    parts = [disc((0, 0), y * 1.2, (under, height)) if round_top else block((-x, x), (-y, y), (under, height))]
    if kind == "pedestal":
        parts.append(disc((0, 0), rng.uniform(0.05, 0.12), (0.03, under)))
        reach = rng.uniform(0.5, 0.8) * y
        if rng.random() < 0.5:
            parts.append(disc((0, 0), reach, (0, 0.06)))
        else:
            parts += [block((-reach, reach), (-0.05, 0.05), (0, 0.07)), block((-0.05, 0.05), (-reach, reach), (0, 0.07))]
        return parts
    width = rng.uniform(0.05, 0.12)
    parts += legs(x, y, under, width, rng.uniform(0.5, 1.0), rng.choice([0.0, rng.uniform(0.0, 0.12)]))
    if rng.random() < 0.4:  # apron
        parts += [
            block((-x + 0.05, x - 0.05), (side * y * 0.85 - 0.015, side * y * 0.85 + 0.015), (under - 0.1, under))
            for side in (-1, 1)
        ]
    if kind == "low" and rng.random() < 0.6:
        shelf = rng.uniform(0.08, 0.18)
        parts.append(block((-x + width, x - width), (-y + width, y - width), (shelf, shelf + 0.04)))
    return parts


def dresser(rng: Generator) -> Parts:
    """A body with drawers in a grid, knobs or bars as handles, plinth or feet; a quarter carries a mirror."""
    half, depth, height = rng.uniform(0.4, 0.95), rng.uniform(0.4, 0.58), rng.uniform(0.65, 1.25)
    foot = rng.uniform(0.05, 0.2)
    front, rear = -depth / 2, depth / 2
    over = rng.uniform(0.0, 0.04)
    parts = [
        block((-half, half), (front, rear), (foot, height)),
        block((-half - over, half + over), (front - over, rear), (height - 0.04, height)),
    ]
    if rng.random() < 0.5:
        parts.append(block((-half + 0.03, half - 0.03), (front + 0.04, rear), (0, foot)))
    else:
        parts += legs(half, depth / 2, foot, 0.07, rng.uniform(0.6, 1.0))
    columns, rows, bar = int(rng.integers(1, 4)), int(rng.integers(2, 6)), rng.random() < 0.5
    wide, tall = 2 * half / columns, (height - 0.06 - foot) / rows
    for i in range(columns):
        for j in range(rows):
            left, low = -half + i * wide, foot + j * tall
            parts.append(block((left + 0.02, left + wide - 0.02), (front - 0.03, front), (low + 0.02, low + tall - 0.02)))
            middle, level, reach = left + wide / 2, low + tall / 2, wide * 0.25 if bar else 0.02
            parts.append(block((middle - reach, middle + reach), (front - 0.07, front - 0.03), (level - 0.015, level + 0.015)))
    if rng.random() < 0.25:
        share, rise = rng.uniform(0.5, 0.9) * half, rng.uniform(0.35, 0.7)
        parts.append(block((-share, share), (rear - 0.05, rear), (height, height + rise)))
    return parts


def monitor(rng: Generator) -> Parts:
    """A screen on a neck and a base, flat or with a tube behind it; some hang without a stand."""
    half, aspect = rng.uniform(0.2, 0.35), rng.choice([0.75, 0.625, 0.5625])
    thick, lean = rng.uniform(0.025, 0.07), rng.choice([0.0, rng.uniform(0.02, 0.06)])
    tall = 2 * half * aspect
    lift = rng.uniform(0.05, 0.16)
    parts = [block((-half, half), (-thick / 2, thick / 2), (lift, lift + tall), lean=lean)]
    if tube := rng.random() < 0.2:
        deep = rng.uniform(0.2, 0.32)
        parts.append(block((-half * 0.75, half * 0.75), (thick / 2, deep), (lift + tall * 0.12, lift + tall * 0.85)))
    elif rng.random() < 0.5:
        parts.append(block((-half * 0.5, half * 0.5), (thick / 2, thick / 2 + 0.05), (lift + tall * 0.2, lift + tall * 0.75)))
    if tube or rng.random() < 0.9:
        neck, reach, behind = rng.uniform(0.025, 0.07), rng.uniform(0.4, 0.75) * half, thick / 2 + 0.01
        parts.append(block((-neck, neck), (-0.02, behind + 0.03), (0.01, lift + tall * 0.35)))
        if rng.random() < 0.5:
            parts.append(disc((0, behind), reach * 0.8, (0, 0.025)))
        else:
            parts.append(block((-reach, reach), (behind - reach * 0.6, behind + reach * 0.6), (0, 0.025)))
    return parts


CLASSES: dict[str, Callable[[Generator], Parts]] = {"dresser": dresser, "monitor": monitor, "sofa": sofa, "table": table}


def furniture(label: str, index: int, seed: int = 0) -> Trimesh:
    """Shape number `index` of class `label`: triangles of overlapping closed parts, z up."""
    rng = np.random.default_rng([seed, zlib.crc32(label.encode()), index])
    return trimesh.util.concatenate(CLASSES[label](rng))


def _off(label: str, index: int, seed: int) -> str:
    """A piece of furniture as the text of an .off."""
    return str(furniture(label, index, seed).export(file_type="off"))


def write_furniture(target: Path, classes: list[str], n_train: int, n_test: int, seed: int = 0, force: bool = False) -> int:
    """Write `<class>/<split>/<class>_<number>.off` below `target` and return the number of meshes.

    Raises
    ------
    Gan3dError
        An unknown class, no shapes asked for, other meshes in `target`, or, without `force`, others under the same names.
    """
    if unknown := sorted(set(classes) - set(CLASSES)):
        raise Gan3dError(f"no class {', '.join(unknown)}; there are {', '.join(CLASSES)}")
    if n_train < 1 or n_test < 0:
        raise Gan3dError(f"{n_train} training and {n_test} test shapes asked for; expected at least 1 and 0")
    files = {
        target / label / ("train" if index <= n_train else "test") / f"{label}_{index:04d}.off": (label, index)
        for label in classes
        for index in range(1, n_train + n_test + 1)
    }
    if others := sorted(set(target.rglob("*.off")) - set(files)):
        raise Gan3dError(f"{target} holds other meshes ({others[0].name} …), which would be mixed in; choose another folder")
    for file in [file for file in files if file.exists() and not force]:
        if file.read_text(errors="replace") != _off(*files[file], seed):
            raise Gan3dError(f"{file} exists, and is another mesh; choose another folder, or pass --force to replace it")
    for file, (label, index) in files.items():
        with atomic_file(file) as path:
            path.write_text(_off(label, index, seed))
    return len(files)
