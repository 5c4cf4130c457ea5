"""What a training tells while it runs: rows of the log, failures, progress, and TensorBoard (a convenience; nothing reads it).

The loop hands each step's numbers to a `Ledger`, which passes them on to all of these.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gan3d_eval.run_dir import RunDir
from gan3d_eval.voxels import VoxelSet
from gan3d_model.config import TrainConfig
from gan3d_model.detectors import Watch
from gan3d_model.runs import total_steps

__all__ = ["Board", "Ledger", "Progress", "depth_sheet", "duration", "tensorboard"]

SCALARS = ("loss_d", "loss_g", "acc_d", "d_updated", "occupancy_g", "lr_g")


class Progress:
    """Tells how far a training is: a line every ten seconds, or on a terminal a bar that is drawn over."""

    def __init__(self, say: Callable[[str], None] = print, live: bool = False) -> None:
        self._say, self.live = say, live
        self.last = time.perf_counter()

    def say(self, line: str) -> None:
        """Say a line that stays."""
        with contextlib.suppress(OSError):  # whoever listened is gone: no reason to lose a training
            self._draw("")
            self._say(line)

    def show(self, share: float, text: str) -> None:
        """Tell that `share` in [0, 1] is done; `text` says more."""
        now = time.perf_counter()
        if now - self.last < (0.2 if self.live else 10) and share < 1:
            return
        self.last = now
        if self.live:
            filled = round(24 * share)
            with contextlib.suppress(OSError):
                self._draw(f"{'█' * filled}{'░' * (24 - filled)} {share:4.0%}  {text}")
        else:
            self.say(text)

    def end(self) -> None:
        """Leave the bar where it is and begin a new line."""
        if self.live:
            with contextlib.suppress(OSError):
                sys.stderr.write("\n")

    def _draw(self, text: str) -> None:
        if self.live:
            width = shutil.get_terminal_size().columns - 1
            sys.stderr.write(f"\r\033[K{text[:width]}")
            sys.stderr.flush()


def duration(seconds: float) -> str:
    """`45 s`, `3 min 20 s`, `2 h 05 min`."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


class Ledger:
    """Rows of `metrics.csv` on their way from the device to all who want them.

    Each step adds its numbers, a tensor that stays on the device; `read` fetches all that were added, which waits once.
    """

    FACTS = ("loss_d_real", "loss_d_fake", "loss_g", "occupancy_g", "acc_d_real", "acc_d_fake", "d_updated")

    def __init__(
        self, config: TrainConfig, n: int, first: int, watch: Watch, log: Callable[[dict[str, float]], Any] | None = None,
        board: Board | None = None, progress: Progress | None = None,
    ) -> None:  # fmt: skip
        self.config, self.n, self.first, self.watch = config, n, first, watch
        self.log, self.board, self.progress = log, board, progress
        self.begin = time.perf_counter()
        self.waiting: list[tuple[dict[str, float], Tensor]] = []

    def add(self, step: int, facts: Tensor, lr_d: float, lr_g: float) -> None:
        """Take the numbers of a step, `(7,)` in the order of `FACTS`."""
        epoch = step * self.config.batch_size / self.n
        seconds = time.perf_counter() - self.begin
        self.waiting.append(({"step": step, "epoch": epoch, "seconds": seconds, "lr_d": lr_d, "lr_g": lr_g}, facts))

    def read(self) -> None:
        """Pass on what was added since; Failed if a loss is no longer finite."""
        values = torch.stack([facts for _, facts in self.waiting]).tolist()
        rows = [known | dict(zip(self.FACTS, row, strict=True)) for (known, _), row in zip(self.waiting, values, strict=True)]
        self.waiting.clear()
        for row in rows:
            row["loss_d"] = row["loss_d_real"] + row["loss_d_fake"]
            row["acc_d"] = (row["acc_d_real"] + row["acc_d_fake"]) / 2
            if self.log:
                self.log(row)
            if self.board:
                self.board.row(row)
            self.watch.row(row)
        if self.progress:
            self._tell(rows[-1], self.progress)

    def samples(self, shapes: VoxelSet, step: int) -> None:
        """Pass on progress samples."""
        self.watch.samples(shapes, step)
        if self.board:
            self.board.samples(shapes, step)

    def _tell(self, row: dict[str, float], progress: Progress) -> None:
        step, steps = row["step"], total_steps(self.config, self.n)
        left = (time.perf_counter() - self.begin) / (step - self.first) * (steps - step)
        progress.show(
            step / steps,
            f"epoch {min(row['epoch'], self.config.epochs):.1f}/{self.config.epochs}  loss D {row['loss_d']:.3f} "
            f"G {row['loss_g']:.3f}  accuracy {row['acc_d']:.2f}  occupancy {row['occupancy_g']:.3f}  {duration(left)} left",
        )


class Board:
    """TensorBoard's pages of a run, through its `SummaryWriter`."""

    def __init__(self, writer: Any) -> None:
        self.writer = writer

    def row(self, row: dict[str, float]) -> None:
        """Add the scalars of a step."""
        for name in SCALARS:
            self.writer.add_scalar(name, row[name], int(row["step"]))

    def samples(self, shapes: VoxelSet, step: int) -> None:
        """Add the progress samples as one picture."""
        self.writer.add_image("samples", depth_sheet(shapes.grids())[None], step)


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
