"""Draw voxel shapes off-screen: one camera, one light, one palette for every picture of the toolkit.

A shape is drawn as the outer faces of its voxels (nothing is smoothed, unless asked for: what is seen is what is measured),
shaded by ambient occlusion, which is what makes a seat, a leg and a gap readable at 32³.
"""

from __future__ import annotations

import ctypes
import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from gan3d_eval.files import Gan3dError, atomic_file
from gan3d_eval.interrupts import ctrl_c_afterwards

__all__ = ["GENERATED", "LOOKS", "REAL", "Look", "RenderError", "Surface", "animation", "render", "voxel_faces"]

GENERATED = (0.30, 0.50, 0.78)
REAL = (0.72, 0.62, 0.48)
FRAME = 300  # pixels along each side of an animation
Look = Literal["cubes", "edges", "smooth"]
LOOKS = get_args(Look)


@dataclasses.dataclass(frozen=True)
class Surface:
    """A mesh in the coordinates of a grid of `resolution`³ voxels."""

    points: NDArray[np.float64]
    """`(v, 3)`"""
    faces: NDArray[np.int64]
    """`(f, 3)`"""
    resolution: int


class RenderError(Gan3dError):
    """No picture can be drawn on this machine; the message names the package that is missing."""


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


def animation(
    path: Path, frames: Sequence[Sequence[NDArray[np.bool_]]], color: tuple[float, float, float], turn: float
) -> Path:
    """Draw an endless GIF of frames, each of some grids `(d, d, d) bool` side by side, turned by `turn` degrees in all."""
    from PIL import Image

    beside = len(frames[0])
    turns = [turn * i / len(frames) for i in range(len(frames)) for _ in range(beside)]
    images = render([grid for frame in frames for grid in frame], [color] * len(turns), FRAME, turns=turns)
    pages = [np.concatenate(images[i : i + beside], axis=1) for i in range(0, len(images), beside)]
    first, *others = (Image.fromarray(page) for page in pages)
    with atomic_file(path) as temporary:
        first.save(temporary, format="GIF", save_all=True, append_images=others, duration=70, loop=0)
    return path


def render(
    shapes: Sequence[NDArray[np.bool_] | Surface], colors: Sequence[tuple[float, ...]], tile: int, look: Look = "cubes",
    transparent: bool = False, turns: Sequence[float] | None = None,
) -> list[NDArray[np.uint8]]:  # fmt: skip
    """Render each shape with one plotter, whose camera moves only when the resolution changes.

    Parameters
    ----------
    shapes : sequence of (d, d, d) bool, or Surface
    colors : sequence of (r, g, b) in [0, 1]
    tile : int
        Pixels along each side.
    look : {"cubes", "edges", "smooth"}
        Voxels; voxels with their edges drawn; the smoothed surface through them (grids only).
    transparent : bool
        Nothing behind the shapes, instead of white.
    turns : sequence of float, optional
        Degrees by which each shape is turned about z.

    Returns
    -------
    list of (tile, tile, 3 or, if transparent, 4) uint8

    Raises
    ------
    RenderError
        No off-screen rendering here.
    """
    with ctrl_c_afterwards():
        pyvista = _pyvista()
        plotter = pyvista.Plotter(off_screen=True, window_size=(tile, tile), lighting="none")
        plotter.set_background("white")
        plotter.enable_anti_aliasing("ssaa")
    images: list[NDArray[np.uint8]] = []
    placed = 0
    try:
        for i, (shape, color) in enumerate(zip(shapes, colors, strict=True)):
            with ctrl_c_afterwards():
                d = shape.resolution if isinstance(shape, Surface) else shape.shape[0]
                if d != placed:
                    _place_camera(pyvista, plotter, d)
                    placed = d
                mesh = _polydata(pyvista, shape, color, look)
                if mesh is None:
                    images.append(np.full((tile, tile, 4), [255, 255, 255, 0], np.uint8)[:, :, : 4 if transparent else 3])
                    continue
                actor = plotter.add_mesh(
                    mesh, scalars="rgb", rgb=True, ambient=0.35, diffuse=0.75, specular=0.0, reset_camera=False,
                    show_edges=look == "edges", edge_color="white", edge_opacity=0.35, smooth_shading=look == "smooth",
                    render=False,
                )  # fmt: skip
                if turns:
                    actor.origin, actor.orientation = (d / 2,) * 3, (0, 0, turns[i])
                plotter.render()
                images.append(np.array(plotter.screenshot(return_img=True, transparent_background=transparent)))
                plotter.remove_actor(actor, reset_camera=False, render=False)
    finally:
        with ctrl_c_afterwards():
            plotter.close()
    return images


def _polydata(pyvista: Any, shape: NDArray[np.bool_] | Surface, color: tuple[float, ...], look: Look) -> Any:
    """What VTK draws: faces with a colour each; None for an empty grid."""
    if isinstance(shape, Surface):
        mesh = pyvista.PolyData.from_regular_faces(shape.points, shape.faces)
    elif not shape.any():
        return None
    elif look == "smooth":
        mesh = _smoothed(pyvista, shape)
    else:
        points, quads, openness = voxel_faces(shape)
        mesh = pyvista.PolyData.from_regular_faces(points, quads)
        shade = 0.3 + 0.7 * np.clip((openness - 0.15) / 0.45, 0, 1)
        mesh.cell_data["rgb"] = (255 * np.outer(shade, color)).astype(np.uint8)
        return mesh
    mesh.cell_data["rgb"] = np.tile((255 * np.array(color)).astype(np.uint8), (mesh.n_cells, 1))
    return mesh


def _smoothed(pyvista: Any, grid: NDArray[np.bool_]) -> Any:
    """A smooth surface about the voxels, in which every part is left, a single voxel too.

    Halved voxels are blurred by less than half a voxel before the contour is drawn, at a level that a single one reaches; then
    it is smoothed without shrinking (Taubin 1995). A contour of the voxels themselves would halve whatever is one voxel thick.
    """
    fine = np.pad(grid.repeat(2, 0).repeat(2, 1).repeat(2, 2), 3).astype(np.float32)
    fine = ndimage.gaussian_filter(fine, 0.8, truncate=3.0)
    image = pyvista.ImageData(dimensions=fine.shape, spacing=(0.5,) * 3, origin=(-1.25,) * 3)
    image.point_data["occupied"] = fine.flatten(order="F")
    return image.contour([0.35], scalars="occupied").smooth_taubin(n_iter=20, pass_band=0.12)


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
