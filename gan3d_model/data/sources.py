"""Find shapes where people keep them: a folder, a `.zip` read in place, or one file; say what class and split each has.

Known layouts: ModelNet `<class>/<split>/<name>.off`, 3DShapeNets `<class>/30/<split>/<name>.mat`, ShapeNet
`<class>/<name>/models/model_normalized.obj`, `<class>/<name>` (all train), and a flat folder (`chair_0001.off` is a chair;
else the folder's name is the class). Nothing is unpacked to disk: names inside an archive only ever become names.
"""

from __future__ import annotations

import dataclasses
import functools
import lzma
import os
import re
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

from gan3d_eval.voxels import VOXEL_SUFFIXES, VoxelError, suffix_of
from gan3d_model.data.meshes import MESH_SUFFIXES

__all__ = ["SPLITS", "Item", "Source", "chunks", "read_item"]

KINDS = {"meshes": MESH_SUFFIXES, "voxels": VOXEL_SUFFIXES}
KNOWN = {
    "dataset.json": "a dataset: describe, audit and export take it", "run.json": "a run: nn-check, compare and gallery take it",
}  # fmt: skip
SUFFIXES = MESH_SUFFIXES | VOXEL_SUFFIXES
SPLITS = ("train", "val", "test")
SPLIT_FOLDERS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val", "test": "test"}
MAX_FILE = 2**30
"""Bytes; a larger mesh or voxel file is refused, in an archive by what it would unpack to."""
MAX_PACKED, USUAL_MESH = 100, 2**26
"""Meshes pack into a tenth or so, and take many times their bytes to be read; of what packs better, no more bytes than that."""


@dataclasses.dataclass(frozen=True)
class Item:
    """One file with one shape (or a batch of grids of one class)."""

    path: str
    """Relative to the source, with slashes."""
    name: str
    label: str
    split: str
    size: int
    stamp: int
    """Changes when the file does: modification time in ns, or the archive's CRC."""

    @property
    def suffix(self) -> str:
        """The file's format."""
        return suffix_of(self.path)

    @property
    def row(self) -> dict[str, str]:
        """Beginning of the shape's row in `shapes.csv`, or in `rejected.csv`."""
        return {"name": self.name, "class": self.label, "split": self.split, "source": self.path}


@dataclasses.dataclass(frozen=True)
class Source:
    """Files to convert, sorted by class, split and name, and those that cannot even be tried."""

    root: Path
    items: list[Item]
    rejected: list[dict[str, str]]
    kind: str
    """`meshes` or `voxels`."""
    passed_over: int
    """Files of the other kind beside them."""

    @classmethod
    def find(cls, root: Path, pattern: str = "*", classes: Sequence[str] = (), kinds: Sequence[str] = tuple(KINDS)) -> Source:
        """List the shapes below `root` whose path matches `pattern`, of the first of `kinds` that is there.

        Raises
        ------
        VoxelError
            No shapes there, a class that is not there, or an archive that is none.
        """
        found, rejected = _members(root)
        rejected = [row for row in rejected if fnmatch(row["source"], pattern) or suffix_of(row["source"]) not in SUFFIXES]
        found = [entry for entry in found if fnmatch(entry[0], pattern) and not PurePosixPath(entry[0]).name.startswith(".")]
        by_kind = {kind: [entry for entry in found if suffix_of(entry[0]) in known] for kind, known in KINDS.items()}
        kind = next((kind for kind in kinds if by_kind[kind]), kinds[-1])
        above = [root.stem] if root.is_file() else list(root.resolve().parts[-2:])
        items = [Item(path, *_place(path, above), size, stamp) for path, size, stamp in by_kind[kind]]
        if unknown := sorted(set(classes) - {item.label for item in items}):
            there = ", ".join(sorted({item.label for item in items})) or "none"
            raise VoxelError(f"{root} has no class {', '.join(unknown)}; it has {there}")
        items = [item for item in items if not classes or item.label in classes]
        if not items and not rejected:
            known = ", ".join(sorted(suffix for kind in kinds for suffix in KINDS[kind]))
            matching = f" that match {pattern!r}" if pattern != "*" else ""
            hints = [f"; it is {what}" for mark, what in KNOWN.items() if (root / mark).is_file()]
            hints += ["; of voxels, as its names say, prepare makes a dataset"] if by_kind["voxels"] else []
            raise VoxelError(f"{root} holds no {' or '.join(kinds)} ({known}){matching}{''.join(hints[:1])}")
        items.sort(key=lambda item: (item.label, SPLITS.index(item.split), item.name, item.path))
        return cls(root, items, rejected, kind, len(found) - len(by_kind[kind]))


def read_item(root: Path, item: Item) -> bytes:
    """The bytes of one file of a source; VoxelError, without the path, says what is wrong with it."""
    if item.size > MAX_FILE:
        raise VoxelError(f"is {item.size / 2**20:.0f} MiB unpacked; expected at most {MAX_FILE / 2**20:.0f} MiB")
    try:
        if root.is_dir():
            return (root / item.path).read_bytes()
        if not zipfile.is_zipfile(root):
            return root.read_bytes()
        archive = _archive(root, root.stat().st_mtime_ns)
        if item.suffix in MESH_SUFFIXES:
            _check_packed(item, archive.getinfo(item.path).compress_size)
        with archive.open(item.path) as file:
            data = file.read(item.size + 1)
    except VoxelError:
        raise
    except (
        OSError, EOFError, LookupError, RuntimeError, ValueError, lzma.LZMAError, zipfile.BadZipFile, zlib.error,
    ) as fault:  # fmt: skip
        raise VoxelError(f"cannot be read ({getattr(fault, 'strerror', None) or fault})") from None
    if len(data) > item.size:
        raise VoxelError(f"unpacks to more than the {item.size} bytes that the archive promises")
    return data


def _check_packed(item: Item, stored: int) -> None:
    """Refuse (VoxelError) a mesh of an archive that packs as no mesh does: made to fill the memory."""
    if item.size > max(stored * MAX_PACKED, USUAL_MESH):
        raise VoxelError(f"is {item.size / 2**20:.0f} MiB unpacked, of {stored:,} bytes: made to fill the memory, or no mesh")


@functools.lru_cache(maxsize=1)
def _archive(path: Path, stamp: int) -> zipfile.ZipFile:
    """An archive kept open: its directory of thousands of names is read once in each process."""
    return zipfile.ZipFile(path)


Found = tuple[list[tuple[str, int, int]], list[dict[str, str]]]


def _members(root: Path) -> Found:
    """Paths with sizes and stamps, and rejected ones with reasons."""
    if root.is_dir():
        return _walk(root)
    if zipfile.is_zipfile(root) and suffix_of(root.name) != ".npz":
        return _list_archive(root)
    if root.suffix == ".zip":
        raise VoxelError(f"{root} is no whole .zip archive; download it again")
    status = root.stat()
    return [(root.name, status.st_size, status.st_mtime_ns)], []


def _walk(root: Path) -> Found:
    """All files below a folder, links followed once; folders that cannot be opened are rejected, not forgotten."""
    found, rejected, seen = [], [], set()

    def refuse(fault: OSError) -> None:
        path = Path(str(fault.filename)).relative_to(root).as_posix()
        rejected.append(_refusal(path, f"the folder cannot be read ({fault.strerror})"))

    for folder, below, names in os.walk(root, onerror=refuse, followlinks=True):
        below[:] = sorted(name for name in below if not name.startswith("."))
        if (real := Path(folder).resolve()) in seen:
            below.clear()
            continue
        seen.add(real)
        for name in sorted(names):
            path = Path(folder, name)
            if suffix_of(name) in SUFFIXES:
                try:
                    status = path.stat()
                    found.append((path.relative_to(root).as_posix(), status.st_size, status.st_mtime_ns))
                except OSError as fault:
                    rejected.append(_refusal(path.relative_to(root).as_posix(), f"cannot be read ({fault.strerror})"))
    return found, rejected


def _list_archive(root: Path) -> Found:
    """All files in an archive; names that point outside of it are refused."""
    found, rejected, seen = [], [], set()
    for member in _archive(root, root.stat().st_mtime_ns).infolist():
        path = PurePosixPath(member.filename)
        if suffix_of(path.name) not in SUFFIXES or member.is_dir() or "__MACOSX" in path.parts:
            continue
        if path.is_absolute() or ".." in path.parts or "\\" in member.filename or ":" in path.parts[0]:
            rejected.append(_refusal(member.filename, "its path leads out of the archive"))
        elif member.filename in seen:
            rejected.append(_refusal(member.filename, "stands twice in the archive: only the last one can be read"))
        else:
            seen.add(member.filename)
            found.append((member.filename, member.file_size, member.CRC))
    return found, rejected


def _refusal(path: str, reason: str) -> dict[str, str]:
    """A row of `rejected.csv`."""
    return {"name": PurePosixPath(path).stem, "class": "", "split": "", "source": path, "reason": reason}


def _place(path: str, above: list[str]) -> tuple[str, str, str]:
    """Name, class and split of a file from its place; `above` are the folders that hold the source."""
    *below, file = PurePosixPath(path).parts
    name = file[: len(file) - len(suffix_of(file))]
    folders = [*above, *below]
    if below and below[-1] == "models" and len(below) > 1:  # ShapeNet: the shape's name is a folder
        name, folders, below = below[-2], folders[:-2], below[:-2]
    split = "train"
    if folders and folders[-1].lower() in SPLIT_FOLDERS:
        split = SPLIT_FOLDERS[folders.pop().lower()]
        below = below[:-1]
        while below and len(folders) > 1 and re.fullmatch(r"\d{1,3}", folders[-1]):  # 3DShapeNets: <class>/30/<split>
            folders.pop()
            below = below[:-1]
    numbered = re.fullmatch(r"([A-Za-z][A-Za-z_-]*?)(?:_\d+)+", name)
    if not below and numbered:
        return name, numbered[1], split
    if not below and suffix_of(file) in {".npy", ".npz", ".npy.gz"}:
        return name, name, split
    return name, folders[-1] if folders else "shape", split


def chunks(items: list[Item], size: int) -> Iterator[list[Item]]:
    """Consecutive pieces of at most `size` items."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
