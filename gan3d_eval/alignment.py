"""How far apart are two shapes when one of them may be moved, turned or mirrored? Exactly, over every allowed movement.

L1 punishes a shift of one voxel as much as another shape, so a copy that was moved escapes it. Here the
distance is the smallest over all shifts of up to `shift` voxels along each axis and over the poses of a chosen group. Space
goes on beyond the grid: voxels that a shift pushes out count as different, not as gone. Then

    L1(q moved, x) = |q| + |x| − 2 |q moved ∩ x|,

and all that is searched is the largest intersection, by counting bits of one line of voxels (a machine word) at a time.
Pairs that cannot be nearer than what was found are passed over: moved or not, two shapes differ at least by as much as
their numbers of voxels in each slice do (triangle inequality).
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numba.extending import intrinsic
from numpy.typing import NDArray

from gan3d_eval.compiled import compiled
from gan3d_eval.voxels import VoxelError, VoxelSet

__all__ = ["POSES", "nearest_aligned", "posed"]

POSES: dict[str, tuple[tuple[bool, int], ...]] = {
    "as-is": ((False, 0),),
    "mirror": ((False, 0), (True, 0)),
    "turns": tuple((False, turns) for turns in range(4)),
    "turns-mirror": tuple((mirrored, turns) for mirrored in (False, True) for turns in range(4)),
}
"""Groups of poses: mirrored across x or not, then so many quarter turns about z, which is up."""
UNFOLDED = 2**27  # bytes of the database's grids that are unfolded at a time; of the queries' half of that, all poses


def posed(grids: NDArray[np.bool_], mirrored: bool, turns: int) -> NDArray[np.bool_]:
    """Grids `(n, d, d, d)` in another pose."""
    return np.rot90(grids[:, ::-1] if mirrored else grids, turns, axes=(1, 2))


def nearest_aligned(
    queries: VoxelSet, database: VoxelSet, shift: int = 2, poses: str = "as-is", own: NDArray[np.int64] | None = None
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
    """The nearest shape of `database` under L1, and the nearest under Jaccard, each query moved as fits best.

    Parameters
    ----------
    queries, database : VoxelSet
        n and m shapes of one resolution of at most 64³; the database is read in blocks, so it may be a memory map.
    shift : int
        Voxels along each axis; 0 compares in place.
    poses : str
        One of `POSES`.
    own : (n,) int64, optional
        A row of the database that each query may not find, as it is the query itself; −1 for none.

    Returns
    -------
    l1 : (n,) int64, rows of `database` : (n,) int64, jaccard : (n,) float64 in [0, 1], rows : (n,) int64
        Of equally near shapes the first.

    Raises
    ------
    VoxelError
        Different resolutions, above 64³, nothing to compare, or an unknown group of poses.
    """
    d = queries.resolution
    if d != database.resolution or d > 64:
        raise VoxelError(f"cannot align shapes at {d}³ with shapes at {database.resolution}³; expected the same, at most 64³")
    if not 0 <= shift < d:
        raise VoxelError(f"a shift of {shift} voxels does not fit into {d}³; expected 0 … {d - 1}")
    if not len(queries) or not len(database) or poses not in POSES:
        raise VoxelError(
            f"cannot align {len(queries)} with {len(database)} shapes over poses {poses!r}; "
            f"expected shapes, and poses out of {', '.join(POSES)}"
        )
    skip = np.full(len(queries), -1) if own is None else own
    if len(queries) > (most := max(1, UNFOLDED // (2 * d**3 * len(POSES[poses])))):
        parts = [slice(i, i + most) for i in range(0, len(queries), most)]
        every = np.arange(len(queries))
        found = [nearest_aligned(queries.take(every[part]), database, shift, poses, skip[part]) for part in parts]
        l1, first, jaccard, second = (np.concatenate(of) for of in zip(*found, strict=True))
        return l1, first, jaccard, second
    grids, size = queries.grids(), max(1, UNFOLDED // d**3)
    turned = np.stack([posed(grids, *pose) for pose in POSES[poses]], axis=1)  # (n, p, d, d, d)
    moved, slices = _moved(turned, shift), _slices(turned, shift)
    best = np.repeat([[np.inf], [1.0]], len(queries), axis=1)  # L1, Jaccard
    rows = np.zeros((2, len(queries)), np.int64)
    for start in range(0, len(database), size):
        block = database.grids(slice(start, start + size))
        arrays = _lines(block), _slices(block[:, None], 0)[:, 0], database.volume[start : start + size]
        _search(moved, slices, queries.volume, *arrays, start, moved.dtype.type(0), skip, best, rows)
    return best[0].astype(np.int64), rows[0], best[1], rows[1]


def _lines(grids: NDArray[np.bool_]) -> NDArray[Any]:
    """`(…, d, d, d) bool` → `(…, d, d)`, each line along z as the bits of one word."""
    bits = 32 if grids.shape[-1] <= 32 else 64
    padded = np.zeros((*grids.shape[:-1], bits), np.bool_)
    padded[..., : grids.shape[-1]] = grids
    return np.packbits(padded, axis=-1, bitorder="little").view(f"<u{bits // 8}")[..., 0]


def _moved(grids: NDArray[np.bool_], shift: int) -> NDArray[Any]:
    """`(n, p, d, d, d)` → `(n, p, 2s + 1, d + 2s, d + 2s)`: lines shifted along z, with room to be shifted along x and y."""
    d = grids.shape[-1]
    room = np.zeros((*grids.shape[:2], 2 * shift + 1, d + 2 * shift, d + 2 * shift), _lines(grids[:1, :1]).dtype)
    for i in range(2 * shift + 1):
        shifted = np.zeros_like(grids)
        low, high = max(0, i - shift), d + min(0, i - shift)
        shifted[..., low:high] = grids[..., low - i + shift : high - i + shift]
        room[:, :, i, shift : shift + d, shift : shift + d] = _lines(shifted)
    return room


def _slices(grids: NDArray[np.bool_], shift: int) -> NDArray[np.int32]:
    """`(n, p, d, d, d)` → `(n, p, 3, d + 2s)`: voxels in each slice across x, y and z, with room to be shifted."""
    sums = [grids.sum(axis=tuple(axis for axis in (2, 3, 4) if axis != across)) for across in (2, 3, 4)]
    return np.pad(np.stack(sums, axis=2), ((0, 0), (0, 0), (0, 0), (shift, shift))).astype(np.int32)


@intrinsic
def _add_common(context: Any, total: Any, a: Any, b: Any) -> Any:
    """Total + number of bits that a and b have in common, all in the type of `a`, so that it becomes vector code."""

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.add(values[0], builder.ctpop(builder.and_(values[1], values[2])))

    return a(a, a, a), code


@compiled()
def _bounds(slices: Any, other: Any, least: Any) -> Any:
    """Fill `(3, 2s + 1)`: L1 is at least this for each shift along each axis; return what it is at least for any shift."""
    d, shifts = other.shape[1], least.shape[1]
    bound = np.int64(0)
    for axis in range(3):
        smallest = np.int64(2**62)
        for shift in range(shifts):
            total = np.int64(0)
            for i in range(slices.shape[1]):
                at = i - (shifts - 1 - shift)
                total += abs(slices[axis, i] - (other[axis, at] if 0 <= at < d else 0))
            least[axis, shift] = total
            smallest = min(smallest, total)
        bound = max(bound, smallest)
    return bound


@compiled()
def _common(moved: Any, lines: Any, least: Any, both: Any, need: float, zero: Any) -> Any:
    """Largest number of voxels that a shape has in common with a shifted one, if that is at least `need`; else less."""
    shifts, d, best = moved.shape[0], lines.shape[0], zero
    for c in range(shifts):
        for a in range(shifts):
            for b in range(shifts):
                most = (both - max(least[0, a], least[1, b], least[2, c])) / 2
                if most < need or most <= best:
                    continue
                total = zero
                for i in range(d):
                    mine, other = moved[c, shifts - 1 - a + i, shifts - 1 - b : shifts - 1 - b + d], lines[i]
                    for j in range(d):
                        total = _add_common(total, mine[j], other[j])  # type: ignore[call-arg]
                best = max(best, total)
    return best


@compiled(parallel=True)
def _search(
    moved: Any, slices: Any, volume: Any, lines: Any, other: Any, other_volume: Any, start: int, zero: Any, own: Any,
    best: Any, rows: Any,
) -> None:  # fmt: skip
    """Update the best of each query, `(2, n)`, with the shapes of one block, nearest bounds first."""
    n, poses, m = moved.shape[0], moved.shape[1], lines.shape[0]
    for q in numba.prange(n):
        bounds, least = np.empty((m, poses), np.int64), np.empty((3, moved.shape[2]), np.int64)
        nearest = np.empty(m, np.int64)
        for x in range(m):
            for p in range(poses):
                bounds[x, p] = _bounds(slices[q, p], other[x], least)
            nearest[x] = bounds[x].min()
        for x in np.argsort(nearest, kind="mergesort"):
            both = volume[q] + other_volume[x]
            # In common must be as much as makes L1, or Jaccard, at least as small as what was found.
            need = min((both - best[0, q]) / 2, both * (1 - best[1, q]) / (2 - best[1, q]) - 1e-6)
            if start + x == own[q] or (both - nearest[x]) / 2 < need:
                continue
            common = zero
            for p in range(poses):
                if (both - bounds[x, p]) / 2 >= max(need, np.float64(common)):
                    _bounds(slices[q, p], other[x], least)
                    common = max(common, _common(moved[q, p], lines[x], least, both, need, zero))
            l1 = np.float64(both - 2 * np.int64(common))
            jaccard = 2 * l1 / (both + l1) if both > 0 else 0.0
            if l1 < best[0, q] or (l1 == best[0, q] and start + x < rows[0, q]):
                best[0, q], rows[0, q] = l1, start + x
            if jaccard < best[1, q] or (jaccard == best[1, q] and start + x < rows[1, q]):
                best[1, q], rows[1, q] = jaccard, start + x
