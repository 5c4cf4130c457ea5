"""The exact voxeliser against trimesh and Open3D on the same meshes in one process, and the pipeline from file to dataset."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from gan3d_model.data.meshes import MESH_SUFFIXES, Mesh, parse_mesh
from gan3d_model.data.sources import Source, read_item
from gan3d_model.data.synthetic import CLASSES, write_furniture
from gan3d_model.data.voxelize import Voxelizer, voxelize
from studies.bench import alternate

__all__ = ["bench_voxelize"]


def bench_voxelize(meshes: Path | None, resolution: int, repeats: int) -> Iterator[str]:
    """Run `prepare` as a user would, then time surface voxelisation of all its meshes, read beforehand, against each peer.

    (In this order, because a process that a large one starts is counted with its size.)

    Ours includes finding bounds, scaling and centring; the peers get meshes in their own representation and a voxel size
    that makes the same resolution. trimesh marks by subdivision (holes possible), Open3D by a triangle-box test.
    """
    with tempfile.TemporaryDirectory() as folder:
        if meshes is None:
            meshes = Path(folder) / "meshes"
            write_furniture(meshes, list(CLASSES), 25, 0)
        source = Source.find(meshes)
        items = [item for item in source.items if item.suffix in MESH_SUFFIXES]
        yield _pipeline(meshes, Path(folder) / "dataset", resolution, len(items))
        shapes = [parse_mesh(read_item(meshes.resolve(), item), item.suffix) for item in items]
        how = Voxelizer(resolution, solid=False)
        label = f"{len(shapes)} meshes, {sum(len(mesh.faces) for mesh in shapes)} faces, at {resolution}³; peer"

        def ours() -> None:
            for mesh in shapes:
                voxelize(mesh, how)

        for name, peer in (("trimesh", _trimesh(shapes, how)), ("Open3D", _open3d(shapes, how))):
            if peer is None:
                yield f"{label} {name}: absent, it is not installed here"
                continue
            timing = alternate(f"{label} {name}", ours, peer, repeats)
            yield f"{timing}: {1 / timing.ratio:.1f} times as fast"


def _pipeline(meshes: Path, target: Path, resolution: int, n: int) -> str:
    """`prepare --solid` as a user runs it, in processes of its own, so that their memory can be told from the peers'."""
    script = "import sys, cli; cli.main(sys.argv[1:])"
    command = [sys.executable, "-c", script, "prepare", str(meshes), str(target), "-r", str(resolution), "--no-audit"]
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)})
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    rate = f"{n / seconds:.1f} meshes/s ({seconds:.1f} s with the start of workers)"
    return f"prepare --solid, {n} files to a dataset at {resolution}³: {rate}; the largest process took {peak:.0f} MiB"


def _pitch(mesh: Mesh, how: Voxelizer) -> float:
    """Side of a voxel in units of the mesh."""
    return float(np.ptp(mesh.vertices[np.unique(mesh.faces)], axis=0).max()) / (how.resolution - 2 * how.margin)


def _trimesh(shapes: list[Mesh], how: Voxelizer) -> Callable[[], Any]:
    import trimesh

    made = [(trimesh.Trimesh(mesh.vertices, mesh.faces, process=False), _pitch(mesh, how)) for mesh in shapes]
    return lambda: [mesh.voxelized(pitch) for mesh, pitch in made]


def _open3d(shapes: list[Mesh], how: Voxelizer) -> Callable[[], Any] | None:
    try:
        import open3d as o3d  # no dependency: several hundred MB
    except ImportError:
        return None
    vector, triple = o3d.utility.Vector3dVector, o3d.utility.Vector3iVector
    made = [(o3d.geometry.TriangleMesh(vector(m.vertices), triple(m.faces)), _pitch(m, how)) for m in shapes]
    return lambda: [o3d.geometry.VoxelGrid.create_from_triangle_mesh(mesh, pitch) for mesh, pitch in made]
