"""Before and after: meshes beside their voxels, same camera, with what voxelising covered and lost.

The slides' "function to visualize properly corresponding objects before and after the transition", and its issue #1, "loss of
some details; edges with many triangles might have holes", made measurable.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from gan3d_eval.render import GENERATED, REAL, Surface
from gan3d_eval.sheets import Tile, sheet
from gan3d_eval.voxels import VoxelError
from gan3d_model.data.coverage import coverage
from gan3d_model.data.meshes import parse_mesh
from gan3d_model.data.sources import Source, read_item
from gan3d_model.data.voxelize import Voxelizer, place, voxelize

__all__ = ["draw", "view"]


def view(source: Path, hows: list[Voxelizer], n: int = 8, seed: int = 0) -> tuple[pd.DataFrame, list[Tile]]:
    """Measure the first `n` meshes of `source` under each voxeliser.

    Returns
    -------
    rows : DataFrame
        A row per mesh and voxeliser: `name`, `method`, `resolution`, and the fields of `Coverage`.
    tiles : list of Tile
        For `draw`: each mesh, then its voxels under each voxeliser.

    Raises
    ------
    VoxelError
        No meshes, or one that cannot be read.
    """
    if not source.exists():
        raise VoxelError(f"{source} does not exist; expected a mesh, or a folder or .zip of meshes")
    found = Source.find(source, kinds=["meshes"])
    if not found.items:
        (bad, *_), n_bad = found.rejected, len(found.rejected)
        raise VoxelError(f"{source}: no mesh can be read; the first of {n_bad} is {bad['source']}: {bad['reason']}")
    items = found.items[:n]
    tiles: list[Tile] = []
    rows: list[dict[str, Any]] = []
    frame = Voxelizer(max(how.resolution for how in hows), up=hows[0].up)
    for item in items:
        try:
            mesh = parse_mesh(read_item(source.resolve(), item), item.suffix)
            tiles.append(
                (Surface(place(mesh, frame)[0], mesh.faces, frame.resolution), f"{item.name}\n{len(mesh.faces)} faces", REAL)
            )
            for how in hows:
                made = voxelize(mesh, how)
                row = {"name": item.name, "method": how.method, "resolution": how.resolution, "occupied": int(made.grid.sum())}
                row |= vars(coverage(mesh, made, how, seed)) | {"leaks": made.leaks}
                rows.append(row)
                grid = made.grid.transpose(1, 0, 2) if how.method == "polygon2voxel" else made.grid
                tiles.append((grid, _caption(row, how), GENERATED))
        except VoxelError as fault:
            where = source if item.path == source.name else f"{source}, {item.path}"
            raise VoxelError(f"{where}: {fault}") from None
    return pd.DataFrame(rows), tiles


NOTES = "Sand: mesh. Blue: voxels. Same camera. Uncovered: surface in empty voxels. Tunnels: openings one can see through."


def draw(out: Path, tiles: list[Tile], n_hows: int) -> None:
    """Draw what `view` found under `n_hows` voxelisers to the PNG `out`; RenderError without off-screen rendering."""
    columns = (1 + n_hows) * (2 if n_hows < 3 and len(tiles) > 1 + n_hows else 1)
    sheet(out, tiles, "Meshes and their voxels", columns, tile=350, notes=NOTES)


def _caption(row: dict[str, Any], how: Voxelizer) -> str:
    """Two lines below a picture."""
    kind = how.method if how.method != "exact" else "solid" if how.solid else "surface"
    leaks = ", leaks" if row["leaks"] else ""
    return (
        f"{kind} {how.resolution}³, {row['occupied']} voxels{leaks}\n"
        f"{row['uncovered']:.2%} uncovered, tunnels: {row['tunnels']} (twice as fine: {row['finer_tunnels']})"
    )
