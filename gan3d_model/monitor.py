"""TensorBoard: scalars of every step, the settings, and the progress samples as pictures. A convenience; nothing reads it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from gan3d_eval.run_dir import RunDir
from gan3d_eval.voxels import VoxelSet
from gan3d_model.config import TrainConfig

__all__ = ["Board", "depth_sheet", "tensorboard"]

SCALARS = ("loss_d", "loss_g", "acc_d", "d_updated", "occupancy_g", "lr_g")


class Board:
    """What the loop shows; deaf without a writer."""

    def __init__(self, writer: object = None) -> None:
        self.writer = writer

    def row(self, row: dict[str, float], step: int) -> None:
        """Add the scalars of a step."""
        for name in SCALARS if self.writer else ():
            self.writer.add_scalar(name, row[name], step)  # type: ignore[attr-defined]

    def samples(self, shapes: VoxelSet, step: int) -> None:
        """Add the progress samples as one picture."""
        if self.writer:
            self.writer.add_image("samples", depth_sheet(shapes.grids())[None], step)  # type: ignore[attr-defined]


@contextlib.contextmanager
def tensorboard(run: RunDir, config: TrainConfig, first: int) -> Iterator[Board]:
    """A board that forgets steps after `first`, which a resumed run takes again."""
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(run.path / "tensorboard"), purge_step=first + 1) as writer:
        rows = "\n".join(f"| {name} | {value} |" for name, value in config.to_dict().items())
        writer.add_text("settings", f"| setting | value |\n|---|---|\n{rows}", first)
        yield Board(writer)


def depth_sheet(grids: NDArray[np.bool_], columns: int = 4, scale: int = 4) -> NDArray[np.uint8]:
    """Shapes `(n, d, d, d)` seen from the front (along +y, z up): the nearer the brighter, black where nothing is.

    Rendered without a graphics library, which a training machine need not have; `gallery` draws them properly.

    Returns
    -------
    (rows · d · scale, columns · d · scale) uint8
    """
    n, d = len(grids), grids.shape[1]
    depth = np.where(grids.any(axis=2), grids.argmax(axis=2), d)  # (n, x, z): first occupied y
    light = (255 * (1 - depth / d) ** 0.7).astype(np.uint8)
    picture = np.zeros((-(-n // columns) * d, columns * d), np.uint8)
    for i, face in enumerate(light):
        top, left = i // columns * d, i % columns * d
        picture[top : top + d, left : left + d] = face.T[::-1]
    return picture.repeat(scale, axis=0).repeat(scale, axis=1)
