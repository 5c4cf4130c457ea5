"""Furniture, voxeliser and prepare: real variety, the right place in the grid, nothing lost without a word."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import trimesh
from scipy import ndimage

from gan3d_eval.run_dir import Gan3dError
from gan3d_eval.voxels import VoxelError, VoxelSet
from gan3d_model.data.prepare import MODELNET10_COUNTS, prepare
from gan3d_model.data.synthetic import CLASSES, furniture, write_furniture
from gan3d_model.data.voxelize import Voxelizer, read_mesh, voxelize


def grid_of(mesh, **how):
    return voxelize(np.asarray(mesh.vertices), np.asarray(mesh.faces), Voxelizer(**{"resolution": 16, **how}))


def quiet(line):
    pass


# --- furniture -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("label", CLASSES)
def test_every_class_stands_on_the_floor_in_one_piece_with_real_variety(label):
    grids = np.array([grid_of(furniture(label, i), resolution=32) for i in range(6)])
    for grid in grids:
        assert ndimage.label(grid)[1] == 1
        assert 300 < grid.sum() < 20_000
    volumes = grids.sum(axis=(1, 2, 3))
    assert volumes.std() > 0.1 * volumes.mean()


def test_a_shape_depends_on_seed_class_and_number_alone():
    assert np.array_equal(furniture("sofa", 3).vertices, furniture("sofa", 3).vertices)
    others = [furniture("sofa", 4), furniture("sofa", 3, seed=1), furniture("table", 3)]
    assert all(m.vertices.shape != furniture("sofa", 3).vertices.shape or not np.array_equal(m.vertices, furniture("sofa", 3).vertices) for m in others)  # fmt: skip


def test_furniture_lies_in_modelnets_layout(tmp_path):
    assert write_furniture(tmp_path, ["table"], 2, 1) == 3
    assert [p.relative_to(tmp_path).as_posix() for p in sorted(tmp_path.rglob("*.off"))] == [
        "table/test/table_0003.off", "table/train/table_0001.off", "table/train/table_0002.off",
    ]  # fmt: skip
    assert (tmp_path / "table/train/table_0001.off").read_text().startswith("OFF")
    with pytest.raises(Gan3dError, match="no class chair; there are dresser"):
        write_furniture(tmp_path, ["chair"], 1, 1)


# --- voxelising ------------------------------------------------------------------------------------------------------------


def test_a_box_fills_the_grid_less_its_margin_and_is_centred():
    grid = grid_of(trimesh.creation.box(extents=(4, 2, 1)))
    at = np.argwhere(grid)
    assert (at.min(axis=0) + at.max(axis=0)).tolist() == [15, 15, 15]
    assert np.ptp(at[:, 0]) + 1 == 14
    assert grid.sum() == np.prod(np.ptp(at, axis=0) + 1)  # solid: no hole inside


def test_a_surface_is_hollow_and_a_solid_is_not():
    ball = trimesh.creation.icosphere(subdivisions=3)
    solid, shell = grid_of(ball), grid_of(ball, solid=False)
    assert shell[8, 8, 8] == 0
    assert solid[8, 8, 8] == 1
    assert np.array_equal(ndimage.binary_fill_holes(shell), solid)


def test_stray_vertices_do_not_shrink_the_shape():
    """One known converter bounds all vertices, used or not: stray ones leave a tiny, off-centre object."""
    box = trimesh.creation.box(extents=(4, 2, 1))
    with_stray = np.vstack([box.vertices, [[1000, 1000, 1000]]])
    assert np.array_equal(voxelize(with_stray, box.faces, Voxelizer(16)), grid_of(box))


@pytest.mark.parametrize("move", [lambda v: v * 7, lambda v: v + 100, lambda v: v * 0.001])
def test_scale_and_place_of_the_mesh_do_not_matter(move):
    chair = furniture("table", 1)
    assert np.array_equal(voxelize(move(chair.vertices), chair.faces, Voxelizer(16)), grid_of(chair))


def test_y_up_meshes_are_turned_not_mirrored():
    mesh = furniture("sofa", 7)  # an L-sofa: mirroring would show
    z_up = grid_of(mesh)
    y_up = mesh.vertices[:, [0, 2, 1]] * (1, 1, -1)  # (x, y, z) → (x, z, −y), the inverse turn
    assert np.array_equal(voxelize(y_up, mesh.faces, Voxelizer(16, up="y")), z_up)


@pytest.mark.parametrize(("text", "reason"), [
    ("OFF\n3 1 0\n0 0 0\n1 0 0\n", "cannot be read"),
    ("OFF\n3 0 0\n0 0 0\n1 0 0\n0 1 0\n", "no faces|cannot be read"),
    ("OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 9\n", "refers to vertex 9|cannot be read"),
    ("OFF\n3 1 0\n0 0 0\nnan 0 0\n0 1 0\n3 0 1 2\n", "NaN"),
    ("hello", "cannot be read"),
])  # fmt: skip
def test_a_bad_mesh_is_refused_with_its_reason(tmp_path, text, reason):
    path = tmp_path / "bad.off"
    path.write_text(text)
    with pytest.raises(VoxelError, match=rf"bad\.off: .*({reason})"):
        read_mesh(path)


# --- prepare -----------------------------------------------------------------------------------------------------------------


def test_meshes_keep_their_class_split_and_order(tmp_path):
    write_furniture(tmp_path / "m", ["sofa", "table"], 2, 1)
    shapes = prepare(tmp_path / "m", tmp_path / "d", Voxelizer(16), say=quiet)
    assert shapes.info["counts"] == {"sofa": {"test": 1, "train": 2}, "table": {"test": 1, "train": 2}}
    assert shapes.names == ["sofa_0001", "sofa_0002", "sofa_0003", "table_0001", "table_0002", "table_0003"]
    assert np.array_equal(shapes.grids([0])[0], grid_of(furniture("sofa", 1)))
    assert (shapes.table["components"] == 1).all()
    assert (shapes.table["occupied"] == shapes.volume).all()
    only = prepare(tmp_path / "m", tmp_path / "e", Voxelizer(16), ["table"], say=quiet)
    assert set(only.table["class"]) == {"table"}
    with pytest.raises(VoxelError, match="no class bed; it has sofa, table"):
        prepare(tmp_path / "m", tmp_path / "f", Voxelizer(16), ["bed"], say=quiet)


def test_one_bad_file_is_listed_and_does_not_stop_the_others(tmp_path):
    write_furniture(tmp_path / "m", ["sofa"], 2, 0)
    (tmp_path / "m/sofa/train/sofa_0000.off").write_text("hello")
    shapes = prepare(tmp_path / "m", tmp_path / "d", Voxelizer(16), say=quiet)
    assert len(shapes) == 2
    rejected = pd.read_csv(tmp_path / "d/rejected.csv")
    assert rejected["name"].tolist() == ["sofa_0000"]
    assert "cannot be read" in rejected["reason"][0]


def test_arrays_keep_their_split_are_padded_evenly_and_empties_are_dropped(tmp_path, grids):
    some = grids.copy()
    some[2] = False
    np.savez(tmp_path / "a.npz", X_train=some.astype(np.int32), y_train=[0, 1, 0, 1, 0, 1], X_test=grids[:2], y_test=[1, 0])
    shapes = prepare(tmp_path / "a.npz", tmp_path / "d", Voxelizer(12), names=["bed", "sofa"], say=quiet)
    assert shapes.info["counts"] == {"bed": {"test": 1, "train": 2}, "sofa": {"test": 1, "train": 3}}
    assert np.array_equal(shapes.grids([0])[0], np.pad(grids[0], 2))
    rejected = pd.read_csv(tmp_path / "d/rejected.csv")
    assert rejected.values.tolist() == [["bed_0002", "bed", "train", "empty: no voxel is occupied"]]
    assert shapes.names == ["bed_0001", "sofa_0001", "sofa_0002", "bed_0003", "sofa_0003", "sofa_0004", "bed_0004"]


def test_arrays_can_be_filtered_by_class_and_need_enough_names(tmp_path, grids):
    np.savez(tmp_path / "a.npz", X_train=grids, y_train=[0, 1, 0, 1, 0, 1])
    only = prepare(tmp_path / "a.npz", tmp_path / "d", Voxelizer(8), ["sofa"], names=["bed", "sofa"], say=quiet)
    assert np.array_equal(only.grids(), grids[1::2])
    with pytest.raises(VoxelError, match="no class sofa; it has class0, class1"):
        prepare(tmp_path / "a.npz", tmp_path / "e", Voxelizer(8), ["sofa"], say=quiet)
    with pytest.raises(VoxelError, match="names for 1 only: bed"):
        prepare(tmp_path / "a.npz", tmp_path / "e", Voxelizer(8), names=["bed"], say=quiet)


def test_force_never_removes_the_source_or_a_folder_of_another_kind(tmp_path):
    write_furniture(tmp_path / "all/m", ["sofa"], 1, 0)
    for target in ("all", "all/m"):
        with pytest.raises(VoxelError, match="holds the source"):
            prepare(tmp_path / "all/m", tmp_path / target, Voxelizer(16), force=True, say=quiet)
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis/a.tex").write_text("precious")
    with pytest.raises(Gan3dError, match="holds no dataset.json"):
        prepare(tmp_path / "all/m", tmp_path / "thesis", Voxelizer(16), force=True, say=quiet)
    assert (tmp_path / "thesis/a.tex").exists()
    assert (tmp_path / "all/m/sofa/train/sofa_0001.off").exists()


def test_y_up_arrays_are_turned_as_meshes_are(tmp_path):
    z_up = grid_of(furniture("sofa", 7))
    y_up = z_up.transpose(0, 2, 1)[:, :, ::-1]  # the inverse turn
    np.savez(tmp_path / "a.npz", X_train=y_up[None])
    shapes = prepare(tmp_path / "a.npz", tmp_path / "d", Voxelizer(16, up="y"), say=quiet)
    assert np.array_equal(shapes.grids()[0], z_up)


def truncated(path, grids):
    np.savez(path, X_train=grids)
    path.write_bytes(path.read_bytes()[:300])


@pytest.mark.parametrize(("make", "reason"), [
    (truncated, "is truncated"),
    (lambda p, g: np.savez(p, X_train=g[:0]), "n ≥ 1"),
    (lambda p, g: np.savez(p, X_train=np.zeros((3, 8, 8, 9))), "cubic"),
    (lambda p, g: np.savez(p, X_train=g, y_train=[0, 1]), "y_train is .* expected 6 integers"),
    (lambda p, g: np.savez(p, X_train=np.full((2, 8, 8, 8), np.nan)), r"X?a\.npz\[train\]: 2 of 2 shapes hold NaN"),
    (lambda p, g: np.savez(p, a=g, b=g), "expected X_train and X_test, or a single one"),
    (lambda p, g: np.savez(p, names=np.array(["a"])), "holds no array of grids"),
    (lambda p, g: np.savez(p, X_train=np.zeros((2, 8, 8, 8), bool)), "no usable shape"),
    (lambda p, g: np.savez(p, X_train=np.zeros((2, 9, 9, 9), bool)), "9³ grids; they can be padded evenly to 11³, 13³ …, but not to 16³"),
    (lambda p, g: np.savez(p, X_train=np.zeros((2, 20, 20, 20), bool)), "not to 16³"),
    (lambda p, g: np.savez(p, X_train=np.array([{}] * 2, dtype=object)), "is truncated"),
])  # fmt: skip
def test_bad_arrays_are_refused_and_nothing_is_left_behind(tmp_path, grids, make, reason):
    make(tmp_path / "a.npz", grids)
    with pytest.raises(VoxelError, match=reason):
        prepare(tmp_path / "a.npz", tmp_path / "d", Voxelizer(16), say=quiet)
    assert [p.name for p in tmp_path.iterdir()] == ["a.npz"]


def test_nothing_is_overwritten_and_nothing_is_made_of_nothing(tmp_path):
    with pytest.raises(VoxelError, match="does not exist"):
        prepare(tmp_path / "m", tmp_path / "d", Voxelizer(16))
    (tmp_path / "m").mkdir()
    with pytest.raises(VoxelError, match="holds no meshes"):
        prepare(tmp_path / "m", tmp_path / "d", Voxelizer(16))
    with pytest.raises(VoxelError, match="already exists"):
        prepare(tmp_path / "m", tmp_path / "m", Voxelizer(16))


# --- real shapes ----------------------------------------------------------------------------------------------------------


def test_real_modelnet10_is_recognised_and_its_empties_are_found(real_data, tmp_path):
    shapes = prepare(real_data / "voxels/modelnet10-30/modelnet10.npz", tmp_path / "d", Voxelizer(32), say=quiet)
    assert len(shapes) == 4899 - 8
    assert sum(MODELNET10_COUNTS[0]) == 3991
    rejected = pd.read_csv(tmp_path / "d/rejected.csv")
    assert rejected["split"].value_counts().to_dict() == {"train": 7, "test": 1}
    assert shapes.info["counts"]["sofa"] == {"test": 100, "train": 680}
    assert "official" in json.loads((tmp_path / "d/dataset.json").read_text())["class_names"]
    assert VoxelSet.open(tmp_path / "d").select(["bed"], "train").volume.min() > 0


def test_real_meshes_become_one_object_that_fills_the_grid(real_data, tmp_path):
    shapes = prepare(real_data / "meshes/modelnet", tmp_path / "d", Voxelizer(32), say=quiet)
    assert len(shapes) == 10
    for grid in shapes.grids():
        assert max(np.ptp(np.argwhere(grid), axis=0)) + 1 == 30
