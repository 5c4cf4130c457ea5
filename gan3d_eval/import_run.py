"""Make a run directory from somebody else's output, so that it is judged exactly as ours are.

Shapes come from arrays, Matlab's files, `.binvox`, tensors or meshes (`foreign.py`), in any encoding (`foreign_shapes.py`) and
laid in any way (`orientation.py`); training logs become `metrics.csv`. What cannot be known (threshold of binary grids,
prior, seed, training) is recorded as null, never guessed; what was found out or assumed is said, and recorded under `imported`
in `run.json`. Weights are handed on to whoever can read them.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from gan3d_eval.files import Gan3dError, file_hash
from gan3d_eval.foreign import Entry, Found, Readers, collect
from gan3d_eval.foreign_shapes import Shapes, shapes_of
from gan3d_eval.logs import MOST_BYTES as MOST_LOG
from gan3d_eval.logs import LogError, read_log
from gan3d_eval.orientation import AS_THEY_LIE, SOME, Orientation, by_support, by_training_set, given, lies_otherwise
from gan3d_eval.provenance import dataset_record, imported_record
from gan3d_eval.run_dir import RunDir, RunDirError
from gan3d_eval.statistics import other_kind
from gan3d_eval.voxels import VoxelError, VoxelSet

__all__ = ["Imported", "gather"]

MOST_REFUSALS = 100
"""Of which the reasons are recorded."""


@dataclasses.dataclass
class Imported:
    """What a source gives, ready to be written as a run.

    Attributes
    ----------
    shapes : Shapes or None
        Samples, laid as the dataset's are; None where there are weights only.
    log : DataFrame or None
        For `metrics.csv`.
    weights : list of Entry
        Files of weights.
    notes : list of str
        What was found out or assumed, for people; `facts` the same for `run.json`.
    """

    source: Path
    dataset: Path | None = None
    classes: list[str] = dataclasses.field(default_factory=list)
    train: VoxelSet | None = None
    shapes: Shapes | None = None
    orientation: Orientation | None = None
    log: pd.DataFrame | None = None
    weights: list[Entry] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def resolution(self) -> int | None:
        """Voxels along each axis of the shapes, where there are some."""
        return self.shapes.resolution if self.shapes else None

    def write(
        self, target: Path, command: list[str], resolution: int | None = None, then: Callable[[RunDir], Any] = lambda run: None
    ) -> RunDir:
        """Make the run directory `target`; RunDirError if something stands there. Weights alone need a `resolution`.

        `then` puts in what others read (weights). If anything fails, nothing is left.
        """
        if resolution and self.resolution not in (None, resolution):
            raise RunDirError(
                f"{self.source} has shapes of {self.resolution}³, not of {resolution}³; leave --resolution out, "
                "which is of meshes, and of weights without shapes"
            )
        record = dataset_record(target, self.train, self.dataset, self.classes) if self.train and self.dataset else None
        category = "-".join(self.classes) or (record or {}).get("name") or self.source.name.split(".")[0] or "imported"
        size, name = self.resolution or resolution, self.source.name
        meta = imported_record(category, size, name, self.notes, command, self.facts, record, self._grid())
        run = RunDir.create(target, meta)
        try:
            if self.shapes:
                self.shapes.write(run)
            if self.log is not None:
                run.write_metrics(self.log)
            then(run)
        except BaseException:
            shutil.rmtree(target)  # made just now, and no run
            raise
        return run

    def _grid(self) -> dict[str, Any]:
        """How the grids lie and where they were cut, as far as that is known."""
        facts: dict[str, Any] = {}
        if self.orientation and self.orientation.decided:
            theirs = (self.train.info.get("grid") or {}) if self.train else {"axes": "xyz", "up": "z"}
            facts |= {key: theirs.get(key) for key in ("axes", "up")}
        return facts | {"threshold": self.shapes.threshold if self.shapes else None}


def gather(
    source: Path, dataset: Path | None = None, classes: list[str] | None = None, threshold: float | None = None,
    axes: str | None = None, up: str | None = None, pattern: str = "*", array: str | None = None, log: Path | None = None,
    readers: Readers | None = None,
) -> Imported:  # fmt: skip
    """Read a stranger's output.

    Parameters
    ----------
    source : Path
        A file, a folder or a `.zip` with shapes, and perhaps weights and logs.
    dataset : Path, optional
        Dataset directory of the shapes that the generator was trained on; samples smaller than these are padded, and samples
        that lie otherwise are turned.
    classes : list of str, optional
        Which classes of it (all, if empty).
    threshold : float, optional
        Probabilities above it are occupied (0.5, if None); of shapes that were cut already, where they were.
    axes, up : str, optional
        How the grids lie, where the data must not decide (`orientation.given`).
    pattern, array : str, optional
        Which files, and which array in them.
    log : Path, optional
        Training log, if it is not in the source.

    Raises
    ------
    Gan3dError
        Nothing usable; an unsuitable encoding, resolution or class; or a dataset is given, and the shapes do not tell how they
        lie.
    """
    if (source / "run.json").is_file():
        raise RunDirError(f"{source} is a run directory already; every verb reads it as it is")
    if classes and dataset is None:
        raise RunDirError("--class needs --dataset: it says which classes of the dataset the generator was trained on")
    made = Imported(source, dataset, classes or [])
    made.train = VoxelSet.open(dataset).select(made.classes, "train") if dataset else None
    if made.train and not made.classes and (known := made.train.table["class"].nunique()) > 1:
        made.notes.append(f"judged against all {known} classes of the dataset; --class says which it was trained on")
    made.orientation = given(axes, up) if axes or up else None
    found = collect(source, pattern, array, readers)
    if log is not None:
        if not log.is_file():
            raise LogError(f"{log} is missing; expected a training log: TensorBoard's events, CSV or text")
        try:
            found.logs = {log.name: read_log(Entry.of(log).read(MOST_LOG), "tfevents" in log.name)[0]}
        except Gan3dError as fault:
            raise LogError(f"{log} {fault}") from None
    made.weights = found.weights
    made.notes += found.notes
    made.facts = {"sha256": file_hash(source)} if source.is_file() else {"files": len(found.batches)}
    if found.meshes and readers:
        made.facts["voxelizer"] = readers.voxelizer
        parameters = ", ".join(f"{key} {value}" for key, value in readers.voxelizer.items() if key != "up")
        made.notes.append(f"meshes voxelised: {found.meshes}; {parameters}")
    _take_refusals(made, found)
    _take_log(made, found)
    if found.batches:
        _take_shapes(made, shapes_of(found, threshold, source))
    return made


def _take_shapes(made: Imported, shapes: Shapes) -> None:
    """Lay the samples as the dataset's shapes lie, or up; by the data, where the user has not said how they lie."""
    if made.train is not None:
        shapes = shapes.padded(made.train, made.source)
    if made.orientation is None:
        made.orientation = by_support(shapes.occupied) if made.train is None else by_training_set(shapes.occupied, made.train)
    found = made.orientation
    if not found.decided and made.train is not None:  # they will be judged by it: not to know is an error
        kind = " and ".join(made.classes) or "all its classes (else say --class)"
        raise VoxelError(
            f"{made.source}: {found.evidence}. If they are of {kind}, say how they lie: --axes xyz (as the dataset's), --up y, "
            "--axes zyx (reversed) …"
        )
    made.shapes = shapes.laid(found.pose)
    if made.train is not None:
        some = made.shapes.occupied[:SOME]
        said = [other_kind(VoxelSet.from_grids(some), made.train, 0)]
        said += [lies_otherwise(some, made.train)] if found.how == "given" else []
        made.notes += [f"warning: {what}" for what in said if what]
    turned = "" if found.pose == AS_THEY_LIE else ", so the shapes were turned" + ", and mirrored" * (not found.pose.is_turn)
    if empty := int((~shapes.occupied.any(axis=(1, 2, 3))).sum()):
        made.notes.append(f"warning: {empty} of {len(shapes.occupied)} shapes are empty")
    made.notes += [*shapes.told, f"axes {found.pose} ({found.how}){turned}: {found.evidence}"]
    if not found.decided:
        made.notes.append("which axis is up is not known, so they stay as they lie; --up or --axes says it")
    made.facts |= {"orientation": found.record(), "encoding": shapes.told}


def _take_refusals(made: Imported, found: Found) -> None:
    """Files that were refused, with reasons."""
    if found.refused:
        made.facts["refused"] = dict(list(found.refused.items())[:MOST_REFUSALS])
        name, reason = next(iter(found.refused.items()))
        more = f" (and {len(found.refused) - 1} more files)" if len(found.refused) > 1 else ""
        made.notes.append(f"refused: {name} {reason}{more}")


def _take_log(made: Imported, found: Found) -> None:
    """The longest log, or all event files joined, the later before the earlier."""
    if not found.logs:
        return
    names = [name for name in found.logs if "tfevents" in name]
    names = names or [max(found.logs, key=lambda name: len(found.logs[name]))]
    table = found.logs[names[-1]].set_index("step")
    for name in names[-2::-1]:
        table = table.combine_first(found.logs[name].set_index("step"))
    made.log = table.sort_index().reset_index()
    columns = ", ".join(str(column) for column in table.columns)
    made.notes.append(f"training log from {', '.join(names)}: {len(table)} rows of {columns}")
