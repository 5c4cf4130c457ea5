"""What a stranger's folder, archive or file holds: generated grids, weights, training logs; and what is refused, with reasons.

Kinds are told by content (`trust.kind_of`). Archives are read in place; names in them only ever become names.
"""

from __future__ import annotations

import dataclasses
import io
import os
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gan3d_eval.files import UNREADABLE, Gan3dError
from gan3d_eval.formats import VoxelError, parse_voxels
from gan3d_eval.logs import EXPECTED, read_log
from gan3d_eval.logs import MOST_BYTES as MOST_LOG
from gan3d_eval.trust import HEAD, MOST_NUMBERS, RESAVE, check_promise, check_size, kind_of

__all__ = ["Entry", "Found", "Readers", "as_batch", "collect"]

SUFFIX_OF = {"npy": ".npy", "npz": ".npz", "npy.gz": ".npy.gz", "mat": ".mat", "hdf5": ".h5", "binvox": ".binvox"}
MOST_FILES, MOST_MESH = 100_000, 2**30
LOGS, TEXTS = ("events", "log"), (".log", ".txt", ".csv")
READABLE = ".npy, .npz, .mat, .h5, .binvox, .pt, .t7, .zip or a mesh"


@dataclasses.dataclass(frozen=True)
class Entry:
    """One file, on disk or in an archive."""

    name: str
    """Relative to the source, with slashes."""
    open: Callable[[], AbstractContextManager[BinaryIO]]

    @classmethod
    def of(cls, path: Path) -> Entry:
        """A file on disk."""
        return cls(path.name, lambda: path.open("rb"))

    def read(self, most: int = MOST_NUMBERS) -> bytes:
        """All of it; Gan3dError if that is more than `most` bytes."""
        with self.open() as stream:
            check_size(stream, most)
            return stream.read()


@dataclasses.dataclass(frozen=True)
class Readers:
    """Functions that know what this package does not: PyTorch's tensors, and how meshes become voxels.

    `tensors` turns the bytes of a file into arrays by name; `mesh` turns bytes and suffix into a grid `(d, d, d) bool` that
    lies as the mesh does, by a voxeliser with the parameters `voxelizer`.
    """

    tensors: Callable[[bytes], Mapping[str, NDArray[Any]]] | None = None
    mesh: Callable[[bytes, str], NDArray[np.bool_]] | None = None
    voxelizer: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class Found:
    """What was found, by file name."""

    batches: dict[str, NDArray[Any]] = dataclasses.field(default_factory=dict)
    """`(n, d, d, d)`, in the order of the source."""
    meshes: int = 0
    """How many of them were voxelised."""
    weights: list[Entry] = dataclasses.field(default_factory=list)
    logs: dict[str, pd.DataFrame] = dataclasses.field(default_factory=dict)
    refused: dict[str, str] = dataclasses.field(default_factory=dict)
    notes: list[str] = dataclasses.field(default_factory=list)
    passed_over: int = 0
    """Files of kinds that are not looked at."""
    texts: list[str] = dataclasses.field(default_factory=list)
    """Those of them that could have been training logs."""
    left: int = dataclasses.field(default_factory=lambda: MOST_NUMBERS)
    """Bytes of grids that may still be read."""

    def keep(self, name: str, batch: NDArray[Any]) -> None:
        """Take in what a file holds; Gan3dError if with all that was taken before it is too much. (What is mapped is not.)"""
        size = 0 if isinstance(batch, np.memmap) else batch.nbytes
        check_promise(size, size, self.left)
        self.left -= size
        self.batches[name] = batch


def collect(
    source: Path, pattern: str = "*", array: str | None = None, readers: Readers | None = None, logs: bool = True
) -> Found:
    """Look through a folder, a `.zip` or one file.

    Parameters
    ----------
    pattern : str
        Only files whose path matches.
    array : str, optional
        Name of the array that holds the grids, where files have several.
    logs : bool
        Whether training logs are wanted, too.

    Raises
    ------
    Gan3dError
        No such file, a damaged archive, or nothing in it that can be used, with the reasons.
    """
    found, readers = Found(), readers or Readers()
    entries = [entry for entry in _entries(source) if fnmatch(entry.name, pattern)]
    for entry in entries:
        try:
            _take(entry, found, array, readers, logs, alone=len(entries) == 1)
        except Gan3dError as fault:
            found.refused[entry.name] = str(fault)
        except MemoryError:
            found.refused[entry.name] = "does not fit into memory"
        except UNREADABLE as fault:
            found.refused[entry.name] = f"cannot be read ({getattr(fault, 'strerror', None) or fault})"
    if not (found.batches or found.weights):
        raise VoxelError(_nothing(source, pattern, found, len(entries)))
    if found.texts and not found.logs:
        found.notes.append(f"no training log in {', '.join(found.texts[:3])}{' …' * (len(found.texts) > 3)}; {EXPECTED}")
    return found


def _nothing(source: Path, pattern: str, found: Found, n: int) -> str:
    """Why a source cannot be used."""
    if not found.refused:
        held = f"{n} files" if n != 1 else "one file"
        logs = f", of which {len(found.logs)} are logs" if found.logs else ""
        expected = "expected shapes (.npy, .npz, .mat, .binvox, .pt, meshes) or weights"
        return f"{source} holds no generated grids or weights ({held} matching {pattern!r}{logs}); {expected}"
    name, reason = next(iter(found.refused.items()))
    more = f" (and {len(found.refused) - 1} more files are refused)" if len(found.refused) > 1 else ""
    return f"{source if n == 1 else source / name} {reason}{more}"


def _entries(source: Path) -> Iterator[Entry]:
    """All regular files of a source, by name."""
    if source.is_dir():
        paths = sorted(p for folder, _, names in os.walk(source) for p in (Path(folder, name) for name in names) if p.is_file())
        if len(paths) > MOST_FILES:
            raise VoxelError(
                f"{source} holds {len(paths):,} files; at most {MOST_FILES:,} are looked at: choose with --pattern"
            )
        for path in paths:
            name = path.relative_to(source).as_posix()
            # a name that is no UTF-8 could not be written to any file of ours
            readable = os.fsencode(name).decode("utf-8", "backslashreplace")
            yield dataclasses.replace(Entry.of(path), name=readable)
        return
    if not source.is_file():
        raise VoxelError(f"{source} is missing, or no file")
    with source.open("rb") as stream:
        is_archive = kind_of(stream.read(HEAD), source.name, stream) == "zip"
    if is_archive:
        yield from _members(source)
    else:
        yield Entry.of(source)


def _members(source: Path) -> Iterator[Entry]:
    """Files of an archive that unpack to what they promise and no more."""
    try:
        archive = zipfile.ZipFile(source)
    except (zipfile.BadZipFile, OSError, ValueError, LookupError, NotImplementedError) as fault:
        kind = ".npz" if source.suffix == ".npz" else ".zip archive"
        raise VoxelError(f"{source} is no whole {kind} ({fault}); copy it again") from None
    members = [member for member in archive.infolist() if member.filename and not member.is_dir()]
    if len(members) > MOST_FILES:
        raise VoxelError(f"{source} holds {len(members):,} files; at most {MOST_FILES:,} are read")
    if len({member.filename for member in members}) < len(members):
        raise VoxelError(f"{source} holds two files of one name: which is meant cannot be known")

    def read(member: zipfile.ZipInfo) -> BinaryIO:
        check_promise(member.file_size, member.compress_size)
        with archive.open(member) as file:
            data = file.read(member.file_size + 1)
        if len(data) > member.file_size:
            raise VoxelError(f"unpacks to more than the {member.file_size:,} bytes that the archive promises")
        return io.BytesIO(data)

    for member in sorted(members, key=lambda member: member.filename):
        yield Entry(PurePosixPath(member.filename).as_posix(), lambda member=member: cast(Any, read(member)))  # type: ignore[misc]


def _take(entry: Entry, found: Found, array: str | None, readers: Readers, logs: bool, alone: bool) -> None:
    """Put what a file holds where it belongs."""
    with entry.open() as stream:
        head = stream.read(HEAD)
        stream.seek(0)
        kind = kind_of(head, entry.name, stream)
        stream.seek(0)
        if kind == "pickle":
            raise VoxelError(f"is a Python pickle, which could run anything when read, so it is not read; {RESAVE}")
        if kind in SUFFIX_OF:
            most = MOST_NUMBERS if kind == "npy" else found.left  # which is mapped where it lies on disk
            arrays = parse_voxels(stream, SUFFIX_OF[str(kind)], most)
            if array and alone and set(arrays) == {""}:
                raise VoxelError(f"holds one array without a name; leave --array {array} out")
            found.keep(entry.name, _grids(arrays, array))
            return
    if kind == "torch7":
        found.weights.append(entry)
    elif kind == "torch":
        _take_tensors(entry, found, array, readers)
    elif kind in LOGS and logs:
        _take_log(entry, found, kind, alone)
    elif kind == "mesh":
        if readers.mesh is None:
            raise VoxelError("is a mesh; import-run makes voxels of it, with --dataset or --resolution")
        found.keep(entry.name, readers.mesh(entry.read(MOST_MESH), PurePosixPath(entry.name).suffix.lower())[None])
        found.meshes += 1
    elif alone:
        raise VoxelError(f"holds no shapes that can be read; expected {READABLE}")
    else:
        found.passed_over += 1


def _take_tensors(entry: Entry, found: Found, array: str | None, readers: Readers) -> None:
    """A file of PyTorch: weights, if anything in it is called a weight; else grids."""
    if readers.tensors is None:
        raise VoxelError(
            "is a file of PyTorch, which is not read here; save NumPy arrays: np.save('samples.npy', tensor.numpy())"
        )
    arrays = readers.tensors(entry.read())
    names = {name.rpartition(".")[2] for name in arrays}
    if names & {"weight", "exp_avg"}:
        found.weights.append(entry)
    else:
        found.keep(entry.name, _grids(arrays, array))


def _take_log(entry: Entry, found: Found, kind: str, alone: bool) -> None:
    """A training log; text that is none is passed over."""
    try:
        found.logs[entry.name], left_out = read_log(entry.read(MOST_LOG), kind == "events")
    except Gan3dError as fault:
        if kind == "events":
            raise
        if alone:
            raise VoxelError(f"holds no shapes (expected {READABLE}), and {fault}") from None
        found.passed_over += 1
        found.texts += [entry.name] * (PurePosixPath(entry.name).suffix.lower() in TEXTS)
        return
    if left_out:
        found.notes.append(f"{entry.name}: not taken over: {', '.join(left_out[:8])}{' …' * (len(left_out) > 8)}")


def _grids(arrays: Mapping[str, NDArray[Any]], name: str | None) -> NDArray[Any]:
    """The one array of grids in a file, as a batch; VoxelError if there are none, or several and none was named."""
    if name is not None and name not in arrays and "" not in arrays:
        raise VoxelError(f"has no array {name!r}; it holds {', '.join(arrays) or 'nothing'}")
    batches = {key: as_batch(array) for key, array in arrays.items() if key == name or name is None or not key}
    grids = {key: batch for key, batch in batches.items() if batch is not None}
    if len(grids) != 1:
        named = [f"{key} {arrays[key].shape}".strip() for key in grids or arrays]
        held = ", ".join(named[:8]) or "nothing"
        if not grids:
            raise VoxelError(f"holds no array that could be grids, but {held}; expected a batch of cubic ones (n ≥ 1, d, d, d)")
        ways = "choose one with --array" + ", or stack them to one batch" * all(len(batch) == 1 for batch in grids.values())
        raise VoxelError(f"holds {len(grids)} arrays that could be grids ({held}{' …' * (len(named) > 8)}); {ways}")
    return next(iter(grids.values()))


def as_batch(array: NDArray[Any]) -> NDArray[Any] | None:
    """An array as `(n, d, d, d)`: axes of length 1 taken out, the axis of another length than the rest put first; or None."""
    if array.dtype.kind not in "biuf" or array.size == 0:
        return None
    grids = array.reshape([side for side in array.shape if side != 1])
    if grids.ndim == 3 and len(set(grids.shape)) == 1:
        return grids[None]
    if grids.ndim != 4:
        return None
    of_samples = [axis for axis in range(4) if len(set(grids.shape[:axis] + grids.shape[axis + 1 :])) == 1]
    return np.moveaxis(grids, of_samples[0], 0) if of_samples else None
