"""What is a stranger's file, and may it be read? Told by its first bytes, never by its name alone; nothing is executed.

Python's pickles run what stands in them, so none is read; they are recognised and refused with how to save them again.
Compressed files can promise any amount of numbers: what is promised is believed only as far as the file's size reaches.
"""

from __future__ import annotations

import contextlib
import os
import re
import zipfile
from typing import BinaryIO

from gan3d_eval.files import Gan3dError

__all__ = [
    "HDF5", "HDF5_BLOCK", "HEAD", "MOST_NUMBERS", "RESAVE", "SLACK", "check_memory", "check_promise", "check_size", "kind_of",
]  # fmt: skip

HDF5, HDF5_BLOCK = b"\x89HDF\r\n\x1a\n", 512
"""How HDF5 begins, at the front of the file or behind MATLAB's own block."""
HEAD = 640
"""Bytes of a file that tell what it is; HDF5 may begin behind a block of 512."""
DEFLATE = 1032
"""Deflate packs at most so many bytes into one."""
SLACK = 2**16
USUAL, MOST_UNUSUAL = 500, 2**30
"""Grids pack into a hundredth or so, empty ones into a thousandth; of what packs better than usual, no more bytes than that."""
MOST_NUMBERS = 2**32
"""Bytes of grids that are read from one source of a stranger, all its files together: 16,384 grids of 64³ bytes."""
RESAVE = (
    "where it was made, save it again: np.save('samples.npy', np.asarray(grids)) for shapes, "
    "torch.save(G.state_dict(), 'G.pt') for weights"
)
MAGIC = {
    b"\x93NUMPY": "npy", b"#binvox": "binvox", b"MATLAB 5.0": "mat", HDF5: "hdf5",
    b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.": "torch",
}  # fmt: skip
SUFFIXES = {
    "mat": "mat", "t7": "torch7", "csv": "log", "log": "log", "txt": "log",
    "off": "mesh", "obj": "mesh", "ply": "mesh", "stl": "mesh", "glb": "mesh",
}  # fmt: skip
OLD_PICKLE = re.compile(rb"\(?c[A-Za-z_][\w.]*\n[A-Za-z_][\w.]*\n|\((lp|dp|tp|i[A-Za-z_])|[\]}]q\x00|[\]}l(d][\[(]*[IFSVK]")
"""Protocols 0 and 1 have no mark; so begin a class, a list, a dictionary."""


def kind_of(head: bytes, name: str, stream: BinaryIO | None = None) -> str | None:
    """What a file is: npy, npz, npy.gz, binvox, mat, hdf5, torch, torch7, pickle, events, log, mesh, zip, or None of these.

    Parameters
    ----------
    head : bytes
        Its first `HEAD` bytes.
    name : str
        Its name, which decides where the content says nothing: logs, meshes.
    stream : BinaryIO, optional
        The open file, to look into archives.
    """
    name = name.lower()
    for magic, kind in MAGIC.items():
        if head.startswith(magic) or (kind == "hdf5" and head[HDF5_BLOCK:].startswith(magic)):
            return kind
    if head.startswith(b"PK\x03\x04"):
        return _archive(stream) if stream is not None else "zip"
    if re.match(rb"\x80[\x00-\x05]", head):
        return "pickle"
    if head.startswith(b"\x1f\x8b"):
        return "npy.gz" if name.endswith(".npy.gz") else None
    if "tfevents" in name:
        return "events"
    by_name = SUFFIXES.get(name.rpartition(".")[2])
    return "pickle" if by_name in {None, "mat"} and OLD_PICKLE.match(head) else by_name


def _archive(stream: BinaryIO) -> str:
    """Whether a .zip is NumPy's, PyTorch's or anybody's."""
    try:
        with zipfile.ZipFile(stream) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, ValueError, OSError, LookupError, NotImplementedError):
        return "zip"
    if any(name == "data.pkl" or name.endswith("/data.pkl") for name in names):
        return "torch"
    return "npz" if names and all(name.endswith(".npy") and "/" not in name for name in names) else "zip"


def check_promise(promised: int, stored: int, most: int = MOST_NUMBERS) -> None:
    """Refuse (Gan3dError) `promised` bytes of numbers that a file of `stored` bytes cannot hold, or more than `most`."""
    if promised > stored * DEFLATE + SLACK or promised > max(stored * USUAL, MOST_UNUSUAL):
        raise Gan3dError(f"promises {promised:,} bytes of numbers and has {stored:,}: damaged, or made to fill the memory")
    if promised > most:
        raise Gan3dError(
            f"holds {promised:,} bytes of numbers, {most:,} may still be read (of one source, {MOST_NUMBERS:,}): "
            "save occupancy as bytes or bits, or choose fewer files with --pattern"
        )
    check_memory(promised)


def check_size(stream: BinaryIO, most: int = MOST_NUMBERS) -> int:
    """Bytes that an open file has; it is at its beginning afterwards.

    Refuses (Gan3dError) files of more than `most`, and large sparse ones: these promise zeros that nobody ever wrote.
    """
    size = stored = stream.seek(0, 2)
    stream.seek(0)
    if size > MOST_UNUSUAL:
        with contextlib.suppress(OSError, AttributeError):  # what lies in memory has no descriptor
            stored = min(size, 512 * os.fstat(stream.fileno()).st_blocks)
    check_promise(size, stored, most)
    return size


def check_memory(size: int) -> None:
    """Refuse (Gan3dError) `size` bytes that a header promises and memory cannot hold: a bomb, or a damaged header."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if size > memory:
        raise Gan3dError(f"promises {size / 2**30:.0f} GiB of numbers, and memory has {memory / 2**30:.0f} GiB")
