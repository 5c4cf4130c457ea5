"""Export: other programs get the same voxels, and meshes that enclose them."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.io
import trimesh

from gan3d_eval.export import export, marching_cubes
from gan3d_eval.files import Gan3dError
from gan3d_eval.voxels import VoxelError, VoxelSet
from gan3d_model.data.prepare import prepare
from gan3d_model.data.voxelize import Voxelizer


def ball(d=20, radius=7.0):
    at = np.moveaxis(np.indices((d, d, d)), 0, -1) + 0.5 - d / 2
    return np.linalg.norm(at, axis=-1) < radius


@pytest.fixture
def shapes():
    return VoxelSet.from_grids(np.array([ball(), ball(radius=5.0)]), ["big", "small"])


def test_marching_cubes_close_the_surface_around_the_voxels():
    grid = ball()
    points, faces = marching_cubes(grid)
    mesh = trimesh.Trimesh(points, faces)
    assert mesh.is_watertight
    assert mesh.volume == pytest.approx(grid.sum(), rel=0.05)
    assert np.allclose(mesh.center_mass, 10, atol=0.05)  # voxel i spans [i, i + 1]
    full = np.ones((4, 4, 4), np.bool_)
    assert trimesh.Trimesh(*marching_cubes(full)).is_watertight  # also where the shape touches the border


@pytest.mark.parametrize("kind", ["ply", "stl", "obj"])
def test_a_mesh_of_cubes_encloses_exactly_the_voxels(tmp_path, shapes, kind):
    paths = export(shapes, tmp_path, kind, "cubes")
    assert [p.name for p in paths] == [f"big.{kind}", f"small.{kind}"]
    mesh = trimesh.load_mesh(paths[0])
    assert mesh.is_watertight
    assert mesh.volume == pytest.approx(ball().sum())


@pytest.mark.parametrize(("kind", "up"), [("mat", "z"), ("binvox", "z"), ("binvox", "y")])
def test_prepare_reads_back_what_export_wrote(tmp_path, shapes, kind, up):
    export(shapes, tmp_path / "out", kind, up=up)
    back = prepare(tmp_path / "out", tmp_path / "d", Voxelizer(20, up=up), say=lambda line: None)
    assert back.sha256 == shapes.sha256
    if kind == "mat":
        assert [n for n in scipy.io.loadmat(tmp_path / "out/big.mat") if n[0] != "_"] == ["Volume"]


def test_datasets_keep_their_folders_and_npz_their_names(tmp_path, dataset_dir):
    few = VoxelSet.open(dataset_dir).take([0, 1])
    (one, _) = export(few, tmp_path, "mat")
    row = few.table.iloc[0]
    assert one == tmp_path / row["class"] / row["split"] / f"{row['name']}.mat"
    (all_of_them,) = export(few, tmp_path, "npz")
    with np.load(all_of_them) as content:
        assert content["names_train"].tolist() == few.names
        assert np.array_equal(content["X_train"], few.grids())


def test_an_npz_keeps_class_and_split_for_prepare(tmp_path, dataset_dir):
    """Held-out shapes must not come back as training shapes."""
    shapes = VoxelSet.open(dataset_dir)
    export(shapes, tmp_path, "npz")
    back = prepare(tmp_path / "voxels.npz", tmp_path / "d", Voxelizer(16), say=lambda line: None)
    assert back.info["counts"] == shapes.info["counts"]
    for split in ("train", "test"):
        assert back.select(["sofa"], split).sha256 == shapes.select(["sofa"], split).sha256


def test_cubes_that_touch_at_an_edge_only_keep_their_faces_outside(tmp_path):
    """VTK turns faces where four meet at an edge, unless it is told not to; then volumes come out wrong, even negative."""
    grid = np.random.default_rng(0).random((8, 8, 8)) < 0.3
    for kind in ("ply", "stl"):
        (path,) = export(VoxelSet.from_grids(grid[None]), tmp_path, kind, "cubes")
        assert trimesh.load_mesh(path, process=False).volume == pytest.approx(grid.sum())


def test_empty_shapes_have_no_mesh_and_stop_no_other(tmp_path):
    some = VoxelSet.from_grids(np.array([ball(8, 3), np.zeros((8, 8, 8), np.bool_), ball(8, 2)]))
    assert [p.name for p in export(some, tmp_path, "ply")] == ["shape-0000.ply", "shape-0002.ply"]


def test_a_dataset_is_not_exported_into_itself(dataset_dir):
    with pytest.raises(Gan3dError, match="is a dataset or a run"):
        export(VoxelSet.open(dataset_dir), dataset_dir, "mat", force=True)


def test_names_never_lead_out_of_the_folder_or_hide_each_other(tmp_path):
    evil = VoxelSet.from_grids(np.array([ball(8, 3)] * 5), ["../../x", "a", "a", "a-2", "a"])
    paths = export(evil, tmp_path / "o", "mat")
    assert [p.relative_to(tmp_path / "o").as_posix() for p in paths] == [
        "_.._x.mat",
        "a.mat",
        "a-2.mat",
        "a-2-2.mat",
        "a-3.mat",
    ]
    assert all(p.exists() for p in paths)


def test_nothing_is_overwritten_and_no_mesh_is_made_of_nothing(tmp_path, shapes):
    export(shapes, tmp_path, "mat")
    with pytest.raises(VoxelError, match="already exists"):
        export(shapes, tmp_path, "mat")
    export(shapes, tmp_path, "mat", force=True)
    with pytest.raises(VoxelError, match="all 1 shapes are empty"):
        export(VoxelSet.from_grids(np.zeros((1, 4, 4, 4), np.bool_)), tmp_path, "ply")
    assert not list(tmp_path.glob("*.ply"))
    with pytest.raises(VoxelError, match="no format fbx"):
        export(shapes, tmp_path, "fbx")
