"""Read triangle meshes: OFF strictly and by ourselves, everything else through trimesh.

OFF is read here because its indices must be seen as they stand in the file: whether they count from 0 or from 1 is decided
by evidence (`topology.index_base`), and a header that promises more than the file holds is refused, not filled up.
"""

from __future__ import annotations

import dataclasses
import io
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gan3d_eval.interrupts import ctrl_c_afterwards
from gan3d_eval.voxels import VoxelError
from gan3d_model.data.topology import index_base

with ctrl_c_afterwards():  # its `except BaseException` around what it imports swallows a ctrl-C
    import trimesh

__all__ = ["MESH_SUFFIXES", "Mesh", "parse_mesh", "read_mesh"]

MESH_SUFFIXES = frozenset({".off", ".obj", ".ply", ".stl", ".glb"})
FAULTS = (
    ArithmeticError, AssertionError, AttributeError, LookupError, MemoryError, NameError, OSError, RuntimeError, TypeError,
    ValueError,
)  # fmt: skip
"""What damaged files make trimesh raise."""
BLOCK = 2**20
"""Bytes of a text that are split at once: each word becomes an object of many times its size."""
END_OF_WORD, END_OF_LINE = re.compile(rb"\s"), re.compile(rb"\n|\r(?!\n)")
HEADER = re.compile(rb"(?:\xef\xbb\xbf)?\s*(?:#[^\r\n]*\s+)*(?:ST)?C?N?OFF(?![A-Z])")


@dataclasses.dataclass(frozen=True)
class Mesh:
    """Triangles as they stand in a file.

    Attributes
    ----------
    vertices : (v, 3) float64
    faces : (f, 3) int64
        Indices from 0, polygons cut into fans.
    raw_faces : (f, 3) int64
        Indices as in the file.
    base, evidence : int, str
        What `raw_faces` count from, and how that is known.
    """

    vertices: NDArray[np.float64]
    raw_faces: NDArray[np.int64]
    base: int = 0
    evidence: str = "indices count from 0 in this format"

    @property
    def faces(self) -> NDArray[np.int64]:
        """Indices from 0."""
        return self.raw_faces - self.base if self.base else self.raw_faces


def read_mesh(path: Path) -> Mesh:
    """Read a mesh file; VoxelError, beginning with the path, says what is wrong with it."""
    try:
        return parse_mesh(path.read_bytes(), path.suffix.lower())
    except VoxelError as fault:
        raise VoxelError(f"{path}: {fault}") from None


def parse_mesh(data: bytes, suffix: str) -> Mesh:
    """Parse the bytes of a mesh file of the format `suffix` (one of `MESH_SUFFIXES`).

    Raises
    ------
    VoxelError
        Not this format, truncated, no faces, indices that no vertex has, NaN or infinite coordinates.
    """
    if suffix == ".off":
        vertices, faces = _parse_off(data)
        base, evidence = index_base(vertices, faces)
        mesh = Mesh(vertices, faces, base, evidence)
    else:
        mesh = Mesh(*_parse_other(data, suffix))
        if mesh.faces.min() < 0 or mesh.faces.max() >= len(mesh.vertices):
            raise VoxelError(f"a face refers to vertex {mesh.faces.max()}, but there are {len(mesh.vertices)}")
    if not np.isfinite(mesh.vertices).all() and not np.isfinite(mesh.vertices[mesh.faces]).all():
        raise VoxelError("has NaN or infinite coordinates in vertices that faces use")
    return mesh


def _parse_other(data: bytes, suffix: str) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Vertices and faces through trimesh, whose readers fail in many ways."""
    try:
        mesh = trimesh.load_mesh(io.BytesIO(data), file_type=suffix[1:], process=False)
        vertices, faces = np.asarray(mesh.vertices, np.float64), np.asarray(mesh.faces, np.int64)
    except FAULTS as fault:
        raise VoxelError(f"is damaged, or no {suffix} file (trimesh: {_brief(fault)})") from None
    if len(faces) == 0:
        raise VoxelError("has no faces")
    return vertices, faces.reshape(-1, 3)


def _parse_off(data: bytes) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Vertices and raw faces of an OFF file: header glued or not, comments, CRLF, colours, polygons."""
    header = HEADER.match(data)
    if header is None:
        raise VoxelError("is no OFF file: it does not begin with OFF")
    body = data[header.end() :]
    if b"#" in body:
        body = re.sub(rb"#[^\r\n]*", b"", body)
    lines = body.lstrip().split(b"\n", 1)
    try:
        counts = [int(token) for token in lines[0].split()]
    except ValueError:
        raise VoxelError(f"has no OFF counts, but {_brief(lines[0][:60])}") from None
    if len(counts) < 2 or min(counts) < 0:
        raise VoxelError(f"has OFF counts {counts}; expected the numbers of vertices and faces")
    n_vertices, n_faces = counts[:2]
    if n_faces == 0 or n_vertices == 0:
        raise VoxelError("has no faces")
    rest = lines[1] if len(lines) > 1 else b""
    if n_vertices * 6 + n_faces * 2 > len(rest) + 1:  # "0 0 0\n" and "0\n" are the shortest lines
        raise VoxelError(f"promises {n_vertices} vertices and {n_faces} faces, but holds {len(rest)} bytes: truncated")
    return _parse_body(rest, n_vertices, n_faces)


def _parse_body(rest: bytes, n_vertices: int, n_faces: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Read the lines of vertices and faces: at once if they are plain triangles, else line by line."""
    try:
        if sum(len(block.split()) for block in _blocks(rest, END_OF_WORD)) == 3 * n_vertices + 4 * n_faces:
            vertices, table = _parse_plain(rest, 3 * n_vertices, 4 * n_faces)
            if (table[:, 0] == 3).all():
                return vertices, np.ascontiguousarray(table[:, 1:])
        return _parse_lines(rest, n_vertices, n_faces)
    except VoxelError:
        raise
    except (ValueError, OverflowError) as fault:
        raise VoxelError(f"holds something else than numbers in its lines ({_brief(fault)})") from None


def _blocks(text: bytes, end: re.Pattern[bytes]) -> Iterator[bytes]:
    """A text in pieces of about `BLOCK` bytes, each cut behind an `end`."""
    at = 0
    while at < len(text):
        found = end.search(text, at + BLOCK)
        begin, at = at, found.end() if found else len(text)
        yield text[begin:at]


def _parse_plain(rest: bytes, n_floats: int, n_ints: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Vertices and the table of faces, of a text of exactly so many words."""
    vertices, table, at = np.empty(n_floats, np.float64), np.empty(n_ints, np.int64), 0
    for block in _blocks(rest, END_OF_WORD):
        words = block.split()
        cut = min(max(n_floats - at, 0), len(words))
        vertices[at : at + cut] = np.array(words[:cut], np.float64)
        first = max(at - n_floats, 0)
        table[first : first + len(words) - cut] = np.array(words[cut:], np.int64)
        at += len(words)
    return vertices.reshape(-1, 3), table.reshape(-1, 4)


def _parse_lines(rest: bytes, n_vertices: int, n_faces: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Vertices and triangles of lines that may hold colours and polygons."""
    n_lines = sum(sum(1 for line in block.splitlines() if line.strip()) for block in _blocks(rest, END_OF_LINE))
    promise = f"promises {n_vertices} vertices and {n_faces} faces"
    if n_lines < n_vertices + n_faces:
        found = f"{min(n_lines, n_vertices)} and {max(n_lines - n_vertices, 0)}"
        raise VoxelError(f"{promise}, but holds {found}: truncated")
    if n_lines > n_vertices + n_faces:
        raise VoxelError(f"{promise}, but {n_lines - n_vertices - n_faces} more lines follow")
    vertices, faces, at = [], [], 0
    for block in _blocks(rest, END_OF_LINE):
        lines = [line.split() for line in block.splitlines() if line.strip()]
        cut = min(max(n_vertices - at, 0), len(lines))
        if cut:
            vertices.append(np.array([line[:3] for line in lines[:cut]], np.float64))
        faces.append(_fans(lines[cut:], max(at - n_vertices, 0)))
        at += len(lines)
    points, triangles = np.concatenate(vertices), np.concatenate(faces)
    if points.shape[1] < 3:
        raise VoxelError(f"has vertices of {points.shape[1]} coordinates; expected x, y and z")
    if not len(triangles):
        raise VoxelError("has no faces")
    return points, triangles


def _fans(lines: list[list[bytes]], first: int) -> NDArray[np.int64]:
    """Cut polygons into fans of triangles; points and lines have no area and are left out. The first is face `first`."""
    sizes = [int(line[0]) for line in lines]
    polygons = [[int(word) for word in line[1 : 1 + size]] for line, size in zip(lines, sizes, strict=True)]
    for number, (polygon, size) in enumerate(zip(polygons, sizes, strict=True), first):
        if len(polygon) != size:
            raise VoxelError(f"has {len(polygon)} indices in face {number}, which promises {size}: truncated")
    return np.array([(p[0], p[i], p[i + 1]) for p in polygons for i in range(1, len(p) - 1)], np.int64).reshape(-1, 3)


def _brief(fault: object) -> str:
    """First line of a foreign error, cut to a readable length."""
    text = str(fault).strip().split("\n")[0] or type(fault).__name__
    return text if len(text) <= 100 else text[:97] + "…"
