"""What the triangles of a mesh say about each other: shared edges, and whether their indices count from 0 or from 1.

The slides' second issue, "a few meshes are ill-defined: their triangle connection starts from the second vertex. There is
no way to know". There is: OFF indices count from 0 by definition; an index equal to the number of vertices proves a file
that counts from 1; and where both readings are possible, the wrong one joins vertices that have nothing to do with each
other, which shows in the lengths of its edges.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from gan3d_eval.voxels import VoxelError

__all__ = ["all_even", "distinct_faces", "edge_use", "index_base", "is_closed", "merge_positions"]

PREFERENCE = 0.01
"""By how much the reading from 1 must be the more orderly one, in units of `_disorder`, to be believed."""


def merge_positions(vertices: NDArray[np.float64]) -> NDArray[np.int64]:
    """Number of the distinct position of each vertex, `(v,) int64`: files often repeat a position per face."""
    return np.unique(vertices, axis=0, return_inverse=True)[1].reshape(-1)


def distinct_faces(places: NDArray[np.int64], faces: NDArray[np.int64]) -> NDArray[np.int64]:
    """Faces with three distinct positions, as sorted triples of positions, each once, `(k, 3) int64`."""
    corners = np.sort(places[faces], axis=1)
    return np.unique(corners[(corners[:, 0] != corners[:, 1]) & (corners[:, 1] != corners[:, 2])], axis=0)


def edge_use(corners: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Undirected edges `(e, 2)` of distinct faces, and how many faces use each, `(e,)`."""
    edges = corners[:, [0, 1, 1, 2, 0, 2]].reshape(-1, 2)
    if len(edges) == 0:
        return edges, np.zeros(0, np.int64)
    key, used = np.unique(edges[:, 0] * (corners.max() + 1) + edges[:, 1], return_counts=True)
    return np.stack(np.divmod(key, corners.max() + 1), axis=1), used


def is_closed(vertices: NDArray[np.float64], faces: NDArray[np.int64]) -> bool:
    """Whether every edge has an even number of faces (two, mostly): then the surface separates inside from outside.

    Edges are between positions, not indices; coincident faces count once.
    """
    return all_even(edge_use(distinct_faces(merge_positions(vertices), faces))[1])


def all_even(used: NDArray[np.int64]) -> bool:
    """Whether there are edges, and each has an even number of faces."""
    return len(used) > 0 and bool((used % 2 == 0).all())


def index_base(vertices: NDArray[np.float64], raw: NDArray[np.int64]) -> tuple[int, str]:
    """Decide whether the indices `raw` `(f, 3)` count from 0 or from 1, and say by what evidence.

    Proof comes first: index 0 is used, or an index equals the number of vertices. Where both readings are possible, the one
    with the smaller `_disorder` is right; a tie goes to 0, which is OFF's definition.

    Raises
    ------
    VoxelError
        Indices that neither reading allows.
    """
    n, least, most = len(vertices), int(raw.min()), int(raw.max())
    if least < 0:
        raise VoxelError(f"a face refers to vertex {least}; indices count from 0")
    if most > n or (most == n and least == 0):
        raise VoxelError(f"a face refers to vertex {most}, but there are {n}")
    if least == 0:
        return 0, "index 0 is used"
    if most == n:
        return 1, f"index {most} is used and there are {n} vertices"
    places = merge_positions(vertices)
    as_it_stands, one_less = _disorder(vertices, places, raw), _disorder(vertices, places, raw - 1)
    compared = f"smallest index {least}: disorder {as_it_stands:.2f} counted from 0, {one_less:.2f} from 1"
    return (1 if one_less < as_it_stands - PREFERENCE else 0), compared


def _disorder(vertices: NDArray[np.float64], places: NDArray[np.int64], faces: NDArray[np.int64]) -> float:
    """How little the faces look like a surface: log of the edges' length per face, plus degenerate, less axis-parallel shares.

    Vertices next to each other in a file mostly belong together, so faces that are shifted by one vertex have longer edges,
    more often two corners at one place (repeated positions), and fewer edges along an axis. The weights were chosen on
    fragments of real meshes (tests/test_meshes.py measures the error).
    """
    corners = distinct_faces(places, faces)
    finite = np.asarray(np.isfinite(vertices).all(axis=1))
    if len(corners) == 0 or not finite[faces].all():
        return math.inf
    position = np.empty((places.max() + 1, 3))
    position[places] = vertices / (np.abs(vertices[finite]).max() or 1.0)  # squares of tiny or huge numbers are 0 or infinite
    ends = position[edge_use(corners)[0]]
    along = np.abs(ends[:, 0] - ends[:, 1])
    length = float(np.linalg.norm(along, axis=1).sum() / len(corners))
    straight = float(((along < 1e-9 * along.max()).sum(axis=1) == 2).mean())
    own = places[faces]
    degenerate = float(((own == np.roll(own, 1, axis=1)).any(axis=1)).mean())
    return (math.log(length) if length > 0 else -math.inf) + 4 * degenerate - straight
