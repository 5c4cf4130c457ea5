"""What is wrong with a mesh file, or with a whole tree of them, before anyone voxelises it.

For each file: what its indices count from and how that is known, vertices that no face uses (`stray` ones lie outside the box
of the used ones, and would shrink the shape of a careless converter), degenerate and repeated faces, connected components,
and whether the surface is closed.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from gan3d_eval.voxels import VoxelError
from gan3d_model.data.meshes import Mesh, parse_mesh
from gan3d_model.data.parts import deaf_to_ctrl_c
from gan3d_model.data.sources import Item, Source, read_item
from gan3d_model.data.topology import all_even, distinct_faces, edge_use, merge_positions

__all__ = ["audit_meshes", "inspect", "report"]


def inspect(mesh: Mesh) -> dict[str, Any]:
    """Facts of one mesh.

    Returns
    -------
    dict
        `vertices`, `faces`, `unreferenced`, `stray` (counts); `degenerate` (faces without area), `duplicate` (faces that
        stand on the same three positions as an earlier one, whichever way round); `components` (of faces that share a
        position); `open_edges` (one face), `crowded_edges` (more than two); `closed` (every edge has an even number of
        faces); `extent_x` … in units of the mesh; `index_base`, whether an index
        proves it (`base_proven`), and the `evidence`.
    """
    vertices, faces = mesh.vertices, mesh.faces
    used = np.zeros(len(vertices), np.bool_)
    used[faces] = True
    low, high = vertices[used].min(axis=0), vertices[used].max(axis=0)
    places = merge_positions(vertices)
    distinct = distinct_faces(places, faces)
    corners = vertices[faces]
    with np.errstate(over="ignore", invalid="ignore"):
        area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    edges, uses = edge_use(distinct)
    three = (np.diff(np.sort(places[faces], axis=1), axis=1) > 0).all(axis=1)
    return {
        "vertices": len(vertices),
        "faces": len(faces),
        "unreferenced": int((~used).sum()),
        "stray": int((~used & ((vertices < low) | (vertices > high)).any(axis=1)).sum()),
        "degenerate": int((~(area > 0)).sum()),
        "duplicate": int(three.sum()) - len(distinct),
        "components": _components(edges),
        "open_edges": int((uses == 1).sum()),
        "crowded_edges": int((uses > 2).sum()),
        "closed": all_even(uses),
        **{f"extent_{axis}": float(side) for axis, side in zip("xyz", high - low, strict=True)},
        "index_base": mesh.base,
        "base_proven": int(mesh.raw_faces.min()) == 0 or int(mesh.raw_faces.max()) == len(vertices),
        "evidence": mesh.evidence,
    }


def _components(edges: np.ndarray[Any, Any]) -> int:
    """Connected components of the graph of positions and edges, leaving out positions without an edge."""
    if len(edges) == 0:
        return 0
    nodes, ends = np.unique(edges, return_inverse=True)
    ends = ends.reshape(-1, 2)
    graph = coo_array((np.ones(len(ends), np.int64), (ends[:, 0], ends[:, 1])), shape=(len(nodes), len(nodes)))
    return int(connected_components(graph, directed=False)[0])


Row = dict[str, Any]
DEFECTS: dict[str, tuple[Callable[[Row], Any], str]] = {
    "no index shows if 0 or 1 is first": (
        lambda row: not row["base_proven"],
        "read by evidence; other readers may shift it",
    ),
    "counting from 1": (lambda row: row["index_base"] == 1, "prepare corrects it; other readers fail or shift it"),
    "vertices that no face uses": (lambda row: row["unreferenced"] > 0, "harmless here"),
    "such vertices outside the shape": (lambda row: row["stray"] > 0, "harmless here; elsewhere the shape shrinks"),
    "faces without area": (lambda row: row["degenerate"] > 0, "harmless here"),
    "repeated faces": (lambda row: row["duplicate"] > 0, "harmless here"),
    "several components": (lambda row: row["components"] > 1, "parts may stand apart"),
    "not closed": (lambda row: not row["closed"], "a hole wider than a voxel keeps --solid from filling; prepare says so"),
}


def audit_meshes(path: Path, say: Callable[[str], None] = print) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Inspect one mesh file, or all in a folder or `.zip`, on all cores.

    Returns
    -------
    table : DataFrame
        A row for each file: `source`, the facts of `inspect`, and `reason` if it cannot be read.
    answer : dict
        `n` files, `defects` (in how many files each stands), `unreadable` (reason by file), and of a single file its facts.

    Raises
    ------
    VoxelError
        Nothing there, no meshes, or none that can be read.
    """
    if not path.exists():
        raise VoxelError(f"{path} does not exist; expected a mesh, a folder or a .zip of meshes, or a dataset directory")
    found = Source.find(path, kinds=["meshes"])
    items = found.items
    jobs = 1 if len(items) < 8 else -1
    rows = []
    with deaf_to_ctrl_c():
        work = Parallel(n_jobs=jobs, return_as="generator")(delayed(_inspect_item)(path.resolve(), item) for item in items)
    for i, row in enumerate(work, 1):
        rows.append(row)
        if i % 500 == 0:
            say(f"{i}/{len(items)} meshes")
    bad = {row["source"]: row["reason"] for row in [*found.rejected, *rows] if "reason" in row}
    good = [row for row in rows if "reason" not in row]
    if not good:
        source, reason = next(iter(bad.items()))
        raise VoxelError(f"{path}: no mesh can be read; the first of {len(bad)} is {source}: {reason}")
    defects = {name: sum(bool(test(row)) for row in good) for name, (test, _) in DEFECTS.items()}
    answer: dict[str, Any] = {"n": len(good) + len(bad), "defects": defects, "unreadable": bad}
    if len(good) == 1 and not bad:
        answer |= {"mesh": good[0]}
    return pd.DataFrame([*good, *({"source": s, "reason": r} for s, r in bad.items())]), answer


def _inspect_item(root: Path, item: Item) -> dict[str, Any]:
    try:
        return {"source": item.path} | inspect(parse_mesh(read_item(root, item), item.suffix))
    except VoxelError as fault:
        return {"source": item.path, "reason": str(fault)}


def report(answer: dict[str, Any]) -> list[str]:
    """The answer of `audit_meshes` as lines for people: the facts of a single mesh, the defects and what they mean."""
    if "mesh" in answer:
        facts = answer["mesh"].items()
        lines = [f"{key:34} {f'{value:g}' if isinstance(value, float) else value}" for key, value in facts]
    else:
        lines = [f"{'meshes':34} {answer['n']}", f"{'unreadable':34} {len(answer['unreadable'])}"]
    counts = {name: n if "mesh" not in answer else "yes" for name, n in answer["defects"].items() if n}
    lines += [f"{name:34} {n:<5} {DEFECTS[name][1]}" for name, n in counts.items()]
    if not any(answer["defects"].values()):
        lines.append("no defect found" + " in those that could be read" * bool(answer["unreadable"]))
    return lines + [f"  {source}: {reason}" for source, reason in answer["unreadable"].items()]
