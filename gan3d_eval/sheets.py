"""Contact sheets: shapes in rows with captions, to PNG, or with text and vector captions to PDF and SVG."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gan3d_eval.files import Gan3dError, atomic_file
from gan3d_eval.render import GENERATED, REAL, Look, Surface, render
from gan3d_eval.voxels import VoxelSet

__all__ = ["FORMATS", "Paper", "Tile", "pair_sheet", "sheet"]

Tile = tuple[NDArray[np.bool_] | Surface, str, tuple[float, float, float]]
"""A grid `(d, d, d) bool` or a mesh, its caption (lines), its colour."""
FORMATS = ("png", "pdf", "svg")
DPI = 100  # a pixel of the layout is 1/100 inch in PDF and SVG
INK, FAINT = "#1e2126", "#5f646b"
MARGIN, HEAD, FOOT, LINE = 10, 54, 34, 17


@dataclasses.dataclass(frozen=True)
class Paper:
    """What sheets are printed on: how shapes look, on what, and how finely."""

    look: Look = "cubes"
    scale: int = 1
    """Pixels for each pixel of the layout: 3 is print resolution (300 dpi)."""
    transparent: bool = False


def sheet(
    path: Path, tiles: Sequence[Tile], title: str, columns: int = 8, tile: int = 220, notes: str = "",
    paper: Paper | None = None,
) -> Path:  # fmt: skip
    """Draw `tiles` in rows of `columns`, with a title above, captions below each, and `notes` at the foot.

    The suffix of `path` is the format: of a PDF or SVG the captions are text, and the shapes pictures.

    Raises
    ------
    RenderError
        No off-screen rendering here.
    """
    from matplotlib.figure import Figure

    if path.suffix[1:] not in FORMATS:
        raise Gan3dError(f"{path}: no format for a sheet; choose one of {', '.join(FORMATS)}")
    paper = paper or Paper()
    if paper.look == "smooth":
        notes = f"{notes} Voxels are drawn as smooth surfaces.".strip()
    lines = max(caption.count("\n") + 1 if caption else 0 for _, caption, _ in tiles)
    high, columns = tile + lines * LINE + 8, min(columns, len(tiles))
    width = 2 * MARGIN + max(columns * tile, _wide(title, 20, "bold"), _wide(notes, 12))
    height = HEAD + -(-len(tiles) // columns) * high + (FOOT if notes else MARGIN)
    page = Figure(figsize=(width / DPI, height / DPI), dpi=DPI * paper.scale)

    def write(x: float, y: float, text: str, size: float, **style: Any) -> None:
        """At x, y in pixels of the layout from the upper left corner."""
        page.text(x / width, 1 - y / height, text, va="top", fontsize=size * 72 / DPI, family="DejaVu Sans", **style)

    write(MARGIN + 4, 16, title, 20, color=INK, weight="bold")
    write(MARGIN + 4, height - 26, notes, 12, color=FAINT)
    images = render([t[0] for t in tiles], [t[2] for t in tiles], tile * paper.scale, paper.look, paper.transparent)
    for i, ((shape, caption, _), image) in enumerate(zip(tiles, images, strict=True)):
        left, top = MARGIN + i % columns * tile, HEAD + i // columns * high
        page.figimage(image, left * paper.scale, (height - top - tile) * paper.scale)
        if isinstance(shape, np.ndarray) and not shape.any():
            write(left + tile / 2, top + tile / 2, "empty", 13, color=FAINT, ha="center")
        for j, text in enumerate(caption.split("\n")):
            write(left + tile / 2, top + tile + j * LINE, text, 12, color=FAINT, ha="center")
    return _save(page, path, paper.transparent)


def _wide(text: str, size: int, weight: str = "normal") -> int:
    """Pixels of the layout that a line takes, so that a sheet of few shapes does not cut it."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath

    font = FontProperties(family="DejaVu Sans", weight=weight)
    return math.ceil(TextPath((0, 0), text, size, prop=font).get_extents().width) + 8 if text else 0


def _save(page: Any, path: Path, transparent: bool) -> Path:
    """Write a figure; the same one is the same bytes on any day."""
    import matplotlib

    dates = {"png": {}, "pdf": {"CreationDate": None}, "svg": {"Date": None}}[path.suffix[1:]]
    with matplotlib.rc_context({"svg.hashsalt": "gan3d", "svg.fonttype": "none"}), atomic_file(path) as temporary:
        page.savefig(temporary, format=path.suffix[1:], dpi=page.dpi, transparent=transparent, metadata=dates)
    return path


def pair_sheet(
    path: Path, gen: VoxelSet, real: VoxelSet, pairs: Sequence[tuple[int, int, str]], title: str, kind: str = "training",
    columns: int = 6, paper: Paper | None = None, note: str = "",
) -> Path:  # fmt: skip
    """Draw pairs (row of `gen`, row of `real`, line for the sample's caption), each sample beside its real shape."""
    tiles: list[Tile] = []
    for sample, neighbour, line in pairs:
        tiles.append((gen.grids([sample])[0], f"{gen.names[sample]}\n{line}", GENERATED))
        tiles.append((real.grids([neighbour])[0], f"{real.names[neighbour]}\n({kind})", REAL))
    notes = f"Blue: generated. Sand: {kind} shapes. Same camera and threshold. {note}".rstrip()
    return sheet(path, tiles, title, columns, notes=notes, paper=paper)
