"""What do the slides' voxels cost? One set of meshes voxelised in four ways: what it does to training, and to measures.

ModelNet10's meshes are not at hand with every data set, and their defects would come on top; so the meshes are the built-in
procedural monitors, of which the slides report a "very small area compared to the 64x64x64 cube".
"""

from __future__ import annotations

import numpy as np

from gan3d_eval.files import atomic_file
from studies.runner import toolkit
from studies.study import COMPARED, MEASURES, SMALL, VERBS, Cell, Measure, Study, Task

__all__ = ["STUDY", "with_stray_vertex"]

CATEGORY = "monitor"
FAR = 2.0
"""Longest sides by which the stray vertex lies below the shape: polygon2voxel then fills at most a third of
the grid's side."""
SIZES = {"smoke": (64, 40, 16), "cpu": (400, 150, 32), "gpu": (400, 150, 64), "paper": (2000, 500, 64)}
"""Training shapes, held-out shapes, resolution."""
HOW = {
    "exact-solid": ("meshes", "--solid"),
    "exact-surface": ("meshes", "--surface"),
    "polygon2voxel": ("meshes", "--method", "polygon2voxel"),
    "polygon2voxel-stray": ("stray", "--method", "polygon2voxel"),
}
"""Data set → meshes and options of `prepare`."""
BASELINE = {"exact-surface": "exact-solid", "polygon2voxel": "exact-solid", "polygon2voxel-stray": "polygon2voxel"}


def variants(task: Task) -> None:
    """Make the meshes of a seed, the same with a stray vertex each, and every data set of them."""
    n_train, n_test, resolution = SIZES[task.scale]
    missing = {name: how for name, how in HOW.items() if not (task.data / name).exists()}
    if missing:
        counts = ("--n-train", str(n_train), "--n-test", str(n_test), "--seed", str(task.seed))
        toolkit(["synthetic", str(task.data / "meshes"), "--class", CATEGORY, *counts])
        for mesh in (task.data / "meshes").rglob("*.off"):
            with atomic_file(task.data / "stray" / mesh.relative_to(task.data / "meshes")) as temporary:
                temporary.write_text(with_stray_vertex(mesh.read_text()))
    for name, (meshes, *options) in missing.items():
        toolkit(["prepare", str(task.data / meshes), str(task.data / name), "-r", str(resolution), "--no-audit", *options])


def with_stray_vertex(off: str) -> str:
    """Return the text of an OFF file with one more vertex, `FAR` longest sides below the shape, which no face refers to."""
    head, counts, *lines = off.splitlines()
    n, *others = counts.split()
    points = np.array([line.split() for line in lines[: int(n)]], np.float64)
    stray = points.min(axis=0) - FAR * np.ptp(points, axis=0).max()
    lines.insert(int(n), " ".join(f"{value:.10f}" for value in stray))
    return "\n".join([head, " ".join([str(int(n) + 1), *others]), *lines, ""])


STUDY = Study(
    name="voxelization",
    question="What do the slides' voxels (polygon2voxel, stray vertices) do to training and to measures, and do shells?",
    # Not under `slides`: there every training failed, whatever the voxels (studies/voxelization.md).
    cells={name: Cell(CATEGORY, "stable", data=name, against=BASELINE.get(name, "")) for name in HOW},
    # Small shapes in few voxels coincide: more than a fifth of the held-out ones may stand in training.
    verbs={
        "curves": VERBS["curves"],
        "nn-check": ("nn-check", "--allow-leak"),
        "compare": ("compare", "--allow-leak"),
        "compare-exact-solid": ("compare", "--allow-leak", "--reference", "{data}/exact-solid"),
    },
    columns=COMPARED
    | {
        "n_exact": ("compare-exact-solid", "n"),
        "coverage_l1_exact": ("compare-exact-solid", "coverage_l1"),
        "one_nna_l1_exact": ("compare-exact-solid", "one_nna_l1"),
    },
    measures=(
        *MEASURES,
        Measure("COV of exact solids", "coverage_l1_exact", "{:.2f}", "high"),
        Measure("1-NNA against them", "one_nna_l1_exact", "{:.2f}", "low"),
    ),
    scales={"cpu": SMALL},
    data=variants,
    own_data=True,
)
