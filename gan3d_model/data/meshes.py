"""Read triangle meshes: OFF strictly and by ourselves, everything else through trimesh.

OFF is read here because its indices must be seen as they stand in the file: whether they count from 0 or from 1 is decided
by evidence (`topology.index_base`), and a header that promises more than the file holds is refused, not filled up.
"""

from __future__ import annotations

import dataclasses
import io
import re
from pathlib import Path

import numpy as np
import trimesh
from numpy.typing import NDArray

from gan3d_eval.voxels import VoxelError
from gan3d_model.data.topology import index_base

__all__ = ["MESH_SUFFIXES", "Mesh", "parse_mesh", "read_mesh"]

MESH_SUFFIXES = frozenset({".off", ".obj", ".ply", ".stl", ".glb"})
FAULTS = (
    ArithmeticError, AssertionError, AttributeError, LookupError, MemoryError, NameError, OSError, RuntimeError, TypeError,
    ValueError,
)  # fmt: skip
"""What damaged files make trimesh raise."""
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
    tokens = rest.split()
    plain = len(tokens) == 3 * n_vertices + 4 * n_faces
    try:
        if plain:
            vertices = np.array(tokens[: 3 * n_vertices], np.float64).reshape(-1, 3)
            table = np.array(tokens[3 * n_vertices :], np.int64).reshape(-1, 4)
            if (table[:, 0] == 3).all():
                return vertices, np.ascontiguousarray(table[:, 1:])
        lines = [line.split() for line in rest.splitlines() if line.strip()]
        if len(lines) < n_vertices + n_faces:
            found = f"{min(len(lines), n_vertices)} and {max(len(lines) - n_vertices, 0)}"
            raise VoxelError(f"promises {n_vertices} vertices and {n_faces} faces, but holds {found}: truncated")
        if len(lines) > n_vertices + n_faces:
            more = len(lines) - n_vertices - n_faces
            raise VoxelError(f"promises {n_vertices} vertices and {n_faces} faces, but {more} more lines follow")
        vertices = np.array([line[:3] for line in lines[:n_vertices]], np.float64)
        if vertices.shape[1] < 3:
            raise VoxelError(f"has vertices of {vertices.shape[1]} coordinates; expected x, y and z")
        sizes = [int(line[0]) for line in lines[n_vertices:]]
        polygons = [[int(token) for token in line[1 : 1 + size]] for line, size in zip(lines[n_vertices:], sizes, strict=True)]
        return vertices, _fans(polygons, sizes)
    except VoxelError:
        raise
    except (ValueError, OverflowError) as fault:
        raise VoxelError(f"holds something else than numbers in its lines ({_brief(fault)})") from None


def _fans(polygons: list[list[int]], sizes: list[int]) -> NDArray[np.int64]:
    """Cut polygons into fans of triangles; points and lines have no area and are left out."""
    for number, (polygon, size) in enumerate(zip(polygons, sizes, strict=True)):
        if len(polygon) != size:
            raise VoxelError(f"has {len(polygon)} indices in face {number}, which promises {size}: truncated")
    fans = [(p[0], p[i], p[i + 1]) for p in polygons for i in range(1, len(p) - 1)]
    if not fans:
        raise VoxelError("has no faces")
    return np.array(fans, np.int64)


def _brief(fault: object) -> str:
    """First line of a foreign error, cut to a readable length."""
    text = str(fault).strip().split("\n")[0] or type(fault).__name__
    return text if len(text) <= 100 else text[:97] + "…"
