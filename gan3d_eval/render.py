"""Draw voxel shapes off-screen: one camera, one light, one palette for every picture of the toolkit.

A shape is drawn as the outer faces of its voxels (nothing is smoothed: what is seen is what is measured), shaded by
ambient occlusion, which is what makes a seat, a leg and a gap readable at 32³.
"""

from __future__ import annotations

import ctypes
import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from gan3d_eval.files import Gan3dError, atomic_file
from gan3d_eval.voxels import VoxelSet

__all__ = ["GENERATED", "REAL", "RenderError", "Surface", "Tile", "pair_sheet", "sheet", "voxel_faces"]

GENERATED = (0.30, 0.50, 0.78)
REAL = (0.72, 0.62, 0.48)
BACKGROUND, INK, FAINT = (255, 255, 255), (30, 33, 38), (110, 115, 122)


@dataclasses.dataclass(frozen=True)
class Surface:
    """A mesh in the coordinates of a grid of `resolution`³ voxels."""

    points: NDArray[np.float64]
    """`(v, 3)`"""
    faces: NDArray[np.int64]
    """`(f, 3)`"""
    resolution: int


Tile = tuple[NDArray[np.bool_] | Surface, str, tuple[float, float, float]]
"""A grid `(d, d, d) bool` or a mesh, its caption (lines), its colour."""


class RenderError(Gan3dError):
    """No picture can be drawn on this machine; the message names the package that is missing."""


def sheet(path: Path, tiles: Sequence[Tile], title: str, columns: int = 8, tile: int = 220, notes: str = "") -> Path:
    """Draw `tiles` in rows of `columns`, with a title above, captions below each, and `notes` at the foot, to a PNG.

    Raises
    ------
    RenderError
        No off-screen rendering here.
    """
    from PIL import Image, ImageDraw

    lines = max(caption.count("\n") + 1 if caption else 0 for _, caption, _ in tiles)
    head, foot, line = 54, 34 if notes else 10, 17
    high = tile + lines * line + 8
    columns = min(columns, len(tiles))
    rows = -(-len(tiles) // columns)
    page = Image.new("RGB", (columns * tile + 20, head + rows * high + foot), BACKGROUND)
    pen = ImageDraw.Draw(page)
    pen.text((14, 16), title, fill=INK, font=_font(20, bold=True))
    for i, image in enumerate(_render([t[0] for t in tiles], [t[2] for t in tiles], tile)):
        left, top = 10 + i % columns * tile, head + i // columns * high
        page.paste(Image.fromarray(image), (left, top))
        shape = tiles[i][0]
        if isinstance(shape, np.ndarray) and not shape.any():
            pen.text((left + tile / 2, top + tile / 2), "empty", fill=FAINT, font=_font(13), anchor="mm")
        for j, text in enumerate(tiles[i][1].split("\n")):
            pen.text((left + tile / 2, top + tile + j * line), text, fill=FAINT, font=_font(12), anchor="ma")
    if notes:
        pen.text((14, page.height - 26), notes, fill=FAINT, font=_font(12))
    with atomic_file(path) as temporary:
        page.save(temporary, format="PNG", optimize=True)
    return path


def pair_sheet(
    path: Path, gen: VoxelSet, train: VoxelSet, pairs: Sequence[tuple[int, int, str]], title: str, columns: int = 6
) -> Path:
    """Draw pairs (row of `gen`, row of `train`, line for the sample's caption), each sample beside its training shape."""
    tiles: list[Tile] = []
    for sample, neighbour, line in pairs:
        tiles.append((gen.grids([sample])[0], f"{gen.names[sample]}\n{line}", GENERATED))
        tiles.append((train.grids([neighbour])[0], f"{train.names[neighbour]}\n(training)", REAL))
    return sheet(path, tiles, title, columns, notes="Blue: generated. Sand: training shapes. Same camera and threshold.")


def voxel_faces(grid: NDArray[np.bool_]) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.float32]]:
    """The outer faces of a shape: corners, quads, and how open each face is.

    Parameters
    ----------
    grid : (d, d, d) bool

    Returns
    -------
    points : (4q, 3) float32
        Corners in voxel units, four to a face, counter-clockwise seen from outside.
    quads : (q, 4) int64
    openness : (q,) float32
        Share of empty voxels in the 5³ neighbourhood of the empty voxel before the face, in [0, 1].
    """
    solid = np.pad(grid, 1)
    closed = ndimage.uniform_filter(solid.astype(np.float32), size=5, mode="constant")
    corners, openness = [], []
    for axis in range(3):
        u, v = (axis + 1) % 3, (axis + 2) % 3
        for side in (0, 1):
            outside = np.roll(solid, -1 if side else 1, axis)
            cells = np.argwhere(solid & ~outside)  # (q, 3), coordinates of the padded grid
            before = cells.copy()
            before[:, axis] += 1 if side else -1
            openness.append(1 - closed[tuple(before.T)])
            square = np.zeros((4, 3), np.float32)
            square[:, axis] = side
            around = ((0, 0), (1, 0), (1, 1), (0, 1)) if side else ((0, 0), (0, 1), (1, 1), (1, 0))
            square[:, u], square[:, v] = np.transpose(around)
            corners.append((cells - 1).astype(np.float32)[:, None] + square)
    points = np.concatenate(corners).reshape(-1, 3)
    return points, np.arange(len(points)).reshape(-1, 4), np.concatenate(openness).astype(np.float32)


def _render(
    shapes: Sequence[NDArray[np.bool_] | Surface], colors: Sequence[tuple[float, ...]], tile: int
) -> list[NDArray[np.uint8]]:
    """Render each shape to `(tile, tile, 3) uint8` with one plotter, whose camera moves only when the resolution changes."""
    pyvista = _pyvista()
    plotter = pyvista.Plotter(off_screen=True, window_size=(tile, tile), lighting="none")
    images = []
    try:
        plotter.set_background("white")
        plotter.enable_anti_aliasing("ssaa")
        placed = 0
        for shape, color in zip(shapes, colors, strict=True):
            d = shape.resolution if isinstance(shape, Surface) else shape.shape[0]
            if d != placed:
                _place_camera(pyvista, plotter, d)
                placed = d
            mesh = _polydata(pyvista, shape, color)
            if mesh is None:
                images.append(np.full((tile, tile, 3), 255, np.uint8))
                continue
            actor = plotter.add_mesh(
                mesh, scalars="rgb", rgb=True, ambient=0.35, diffuse=0.75, specular=0.0, reset_camera=False
            )
            images.append(np.array(plotter.screenshot(return_img=True))[:, :, :3])
            plotter.remove_actor(actor, reset_camera=False, render=False)
    finally:
        plotter.close()
    return images


def _polydata(pyvista: Any, shape: NDArray[np.bool_] | Surface, color: tuple[float, ...]) -> Any:
    """What VTK draws: flat faces with a colour each; None for an empty grid."""
    if isinstance(shape, Surface):
        mesh = pyvista.PolyData.from_regular_faces(shape.points, shape.faces)
        mesh.cell_data["rgb"] = np.tile((255 * np.array(color)).astype(np.uint8), (len(shape.faces), 1))
        return mesh
    points, quads, openness = voxel_faces(shape)
    if len(quads) == 0:
        return None
    mesh = pyvista.PolyData.from_regular_faces(points, quads)
    shade = 0.3 + 0.7 * np.clip((openness - 0.15) / 0.45, 0, 1)
    mesh.cell_data["rgb"] = (255 * np.outer(shade, color)).astype(np.uint8)
    return mesh


def _place_camera(pyvista: Any, plotter: Any, d: int) -> None:
    """Light, and a three-quarter view from above, facing −x and −y (ModelNet's fronts, and ours); the whole grid fits."""
    centre = np.full(3, d / 2)
    direction = np.array([-0.72, -1.0, 0.66])
    plotter.camera.position = centre + direction / np.linalg.norm(direction) * d * 5.3  # all eight corners fit
    plotter.camera.focal_point = centre
    plotter.camera.up = (0, 0, 1)
    plotter.camera.view_angle = 18
    plotter.camera.clipping_range = (d * 0.5, d * 9)
    plotter.remove_all_lights()
    for place, strength in (((-0.3, -0.6, 1.6), 0.75), ((0.3, -1.4, 0.4), 0.5), ((-1.4, -0.2, 0.3), 0.45)):
        plotter.add_light(pyvista.Light(position=centre + d * 4 * np.array(place), focal_point=centre, intensity=strength))


def _pyvista() -> Any:
    """Import pyvista, having made sure that VTK will find an off-screen OpenGL (without one it would abort)."""
    if not os.environ.get("DISPLAY") and "VTK_DEFAULT_OPENGL_WINDOW" not in os.environ:
        for library, window in (("libEGL.so.1", "vtkEGLRenderWindow"), ("libOSMesa.so.8", "vtkOSOpenGLRenderWindow")):
            try:
                ctypes.CDLL(library)
            except OSError:
                continue
            os.environ["VTK_DEFAULT_OPENGL_WINDOW"] = window
            break
        else:
            raise RenderError("no off-screen OpenGL found; install it with: apt-get install libegl1 libgl1 libgl1-mesa-dri")
    try:
        import pyvista
    except ImportError as fault:
        raise RenderError(f"pyvista cannot be loaded ({fault}); install it with: apt-get install libgl1 libxrender1") from None
    return pyvista


def _font(size: int, bold: bool = False) -> Any:
    """DejaVu Sans, which Matplotlib ships: the same letters on every machine."""
    import matplotlib
    from PIL import ImageFont

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name), size)
