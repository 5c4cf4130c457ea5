"""Before and after: what voxelising covered and lost, by hand-solved cases; and the picture."""

from __future__ import annotations

import zipfile

import numpy as np
import pytest
import trimesh

from gan3d_eval.render import RenderError
from gan3d_eval.voxels import VoxelError
from gan3d_model.data.audit_meshes import audit_meshes
from gan3d_model.data.coverage import coverage, euler_number, topology
from gan3d_model.data.meshes import Mesh
from gan3d_model.data.synthetic import write_furniture
from gan3d_model.data.voxelize import Voxelizer, voxelize
from studies.view import draw, view

SLIDES = Voxelizer(32, solid=False, margin=0, method="polygon2voxel")


def frame(n):
    """A square with a hole in it, n voxels wide."""
    grid = np.zeros((8, 8, 8), np.bool_)
    grid[1 : n + 1, 1 : n + 1, 3] = True
    grid[2:n, 2:n, 3] = False
    return grid


def test_tunnels_pieces_and_euler_number_of_known_shapes():
    cube, shell = np.zeros((2, 8, 8, 8), np.bool_)
    cube[2:6, 2:6, 2:6] = True
    shell[1:7, 1:7, 1:7] = True
    shell[3:5, 3:5, 3:5] = False
    assert euler_number(cube) == 1
    assert topology(cube) == (1, 0)
    assert euler_number(shell) == 2
    assert topology(shell) == (1, 0)
    assert topology(frame(4)) == (1, 1)
    assert topology(np.concatenate([frame(4), cube])) == (2, 1)
    assert topology(np.zeros((4, 4, 4), np.bool_)) == (0, 0)


def test_a_torus_has_one_tunnel_until_the_grid_is_too_coarse():
    torus = trimesh.creation.torus(major_radius=3, minor_radius=1.5)
    mesh = Mesh(np.asarray(torus.vertices), np.asarray(torus.faces))
    assert topology(voxelize(mesh, Voxelizer(32)).grid) == (1, 1)
    made = voxelize(mesh, Voxelizer(8))
    lost = coverage(mesh, made, Voxelizer(8))
    assert (lost.tunnels, lost.finer_tunnels) == (0, 1)


@pytest.mark.parametrize("how", [Voxelizer(32), Voxelizer(33, solid=False, up="y")])
def test_the_exact_voxeliser_leaves_no_surface_uncovered(tmp_path, how):
    write_furniture(tmp_path, ["sofa", "monitor"], 2, 0)
    table, _ = view(tmp_path, [how])
    assert len(table) == 4
    assert (table["uncovered"] == 0).all()
    assert (table["inflation"] > 1).all()


def test_the_slides_method_leaves_surface_uncovered():
    rng = np.random.default_rng(0)
    mesh = Mesh(rng.random((90, 3)), np.arange(90).reshape(-1, 3))
    assert coverage(mesh, voxelize(mesh, SLIDES), SLIDES).uncovered > 0
    exact = Voxelizer(32, solid=False)
    assert coverage(mesh, voxelize(mesh, exact), exact).uncovered == 0


def test_what_has_no_finer_grid_to_be_compared_with_is_refused_in_words():
    with pytest.raises(VoxelError, match="cannot be measured at 300³: twice as fine is above 512³"):
        coverage(Mesh(np.eye(3), np.array([[0, 1, 2]])), None, Voxelizer(300))


def test_a_mesh_without_area_is_refused_in_words():
    mesh = Mesh(np.outer(np.arange(3.0), [1, 2, 3]), np.array([[0, 1, 2]]))
    with pytest.raises(VoxelError, match="the area of its faces is 0"):
        coverage(mesh, voxelize(mesh, Voxelizer(8)), Voxelizer(8))


def test_meshes_and_voxels_are_drawn_side_by_side(tmp_path):
    from PIL import Image

    write_furniture(tmp_path / "m", ["table"], 1, 0)
    try:
        draw(tmp_path / "v.png", view(tmp_path / "m", [Voxelizer(16), SLIDES])[1], 2)
    except RenderError as fault:
        pytest.skip(str(fault))
    picture = np.asarray(Image.open(tmp_path / "v.png").convert("RGB"), int)
    sand, blue = ((picture[..., 0] - picture[..., 2] > 20), (picture[..., 2] - picture[..., 0] > 40))
    third = picture.shape[1] // 3
    assert sand[:, :third].sum() > 1000
    assert blue[:, :third].sum() == 0
    assert blue[:, third:].sum() > 1000
    assert sand[:, third:].sum() == 0


def test_nothing_to_show_is_an_error_in_words(tmp_path):
    with pytest.raises(VoxelError, match="does not exist"):
        view(tmp_path / "m", [Voxelizer(16)])
    (tmp_path / "bad.off").write_text("hello")
    with pytest.raises(VoxelError, match=r"bad\.off: is no OFF file"):
        view(tmp_path, [Voxelizer(16)])


def test_of_voxels_neither_view_nor_audit_names_a_kind_that_it_refuses(tmp_path):
    np.save(tmp_path / "grids.npy", np.ones((2, 8, 8, 8), np.bool_))
    with zipfile.ZipFile(tmp_path / "out.zip", "w") as archive:
        archive.writestr("../a.off", "OFF\n0 0 0\n")
    for verb in (lambda path: view(path, [Voxelizer(16)]), audit_meshes):
        with pytest.raises(
            VoxelError, match=r"holds no meshes \(\.glb, .*\.stl\); of voxels, as its names say, prepare makes a dataset"
        ):
            verb(tmp_path / "grids.npy")
        with pytest.raises(VoxelError, match=r"no mesh can be read; the first of 1 is \.\./a\.off: its path leads out"):
            verb(tmp_path / "out.zip")
