"""The exact voxeliser against an oracle in integers; no holes, no leaks, the right place; the slides' voxels bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.io
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from gan3d_eval.voxels import VoxelError
from gan3d_model.data.meshes import Mesh, read_mesh
from gan3d_model.data.synthetic import furniture
from gan3d_model.data.voxelize import Voxelizer, fill, mark_surface, place, voxelize

EVERYWHERE = np.ones((3, 3, 3))
UP = np.array([0, 0, 1])


def mesh_of(shape):
    return Mesh(np.asarray(shape.vertices, np.float64), np.asarray(shape.faces, np.int64))


def grid_of(shape, **how):
    return voxelize(mesh_of(shape), Voxelizer(**{"resolution": 16, **how})).grid


def mark(triangles, d):
    """Surface of triangles `(t, 3, 3)` in grid coordinates."""
    grid = np.zeros((d, d, d), np.bool_)
    points = np.ascontiguousarray(triangles, np.float64).reshape(-1, 3)
    mark_surface(points, np.arange(len(points)).reshape(-1, 3), grid)
    return grid


def oracle(triangle, unit, d):
    """Which closed cubes touch a triangle, in exact integers: all 13 separating axes for every voxel.

    `triangle` `(3, 3)` holds integers, `unit` to a voxel; everything is doubled so that centres are integers too.
    """
    corners = 2 * triangle.astype(np.int64)
    centre = (2 * np.stack(np.meshgrid(*[np.arange(d)] * 3, indexing="ij"), axis=-1) + 1) * unit
    a, b, c = (corner - centre for corner in corners)
    edges = [corners[1] - corners[0], corners[2] - corners[1], corners[0] - corners[2]]
    axes = [*np.eye(3, dtype=np.int64), np.cross(edges[0], edges[1])]
    axes += [np.cross(edge, axis) for edge in edges for axis in np.eye(3, dtype=np.int64)]
    touched = np.ones((d, d, d), np.bool_)
    for axis in axes:
        reach = unit * np.abs(axis).sum()
        shadow = [corner @ axis for corner in (a, b, c)]
        touched &= (np.minimum.reduce(shadow) <= reach) & (np.maximum.reduce(shadow) >= -reach)
    return touched


# --- the surface ---------------------------------------------------------------------------------------------------------


@settings(max_examples=2000)
@given(arrays(np.int64, (3, 3), elements=st.integers(-16, 64)))
def test_every_triangle_on_a_lattice_marks_what_exact_arithmetic_says(triangle):
    """Hypothesis likes the hard ones: points, segments, faces on voxel borders, corners outside the grid."""
    assert np.array_equal(mark(triangle[None] / 8, 6), oracle(triangle, 8, 6))


@settings(max_examples=500)
@given(st.integers(0, 2**32), st.sampled_from([1e-7, 1e-4, 1e-2, 1.0]))
def test_needles_of_any_thinness_mark_what_exact_arithmetic_says(seed, thickness):
    rng = np.random.default_rng(seed)
    unit = 2**14
    a, b = rng.uniform(-1, 7, (2, 3))
    triangle = np.rint(np.array([a, b, a + rng.uniform() * (b - a) + rng.normal(size=3) * thickness]) * unit)
    assert np.array_equal(mark(triangle[None] / unit, 6), oracle(triangle, unit, 6))


def test_triangles_of_real_meshes_mark_what_exact_arithmetic_says(real_data):
    rng = np.random.default_rng(0)
    unit, n = 2**9, 0
    for path in sorted((real_data / "meshes").rglob("*.off")):
        mesh = read_mesh(path)
        points = np.rint(place(mesh, Voxelizer(24))[0] * unit)
        for face in mesh.faces[rng.choice(len(mesh.faces), 100)]:
            assert np.array_equal(mark(points[face][None] / unit, 24), oracle(points[face], unit, 24)), (path, face)
            n += 1
    assert n == 1700


def test_a_triangle_larger_than_the_grid_is_clipped_to_it():
    plane = np.array([[[-900, -900, 2.5], [1800, -900, 2.5], [-900, 1800, 2.5]]])
    grid = mark(plane, 8)
    assert grid[:, :, 2].all()
    assert grid.sum() == 64
    assert not mark(plane + 100 * UP, 8).any()
    assert not mark(plane - 2.6 * UP, 8).any()


def test_a_face_between_two_voxels_belongs_to_both_whichever_way_it_is_turned():
    square = np.array([[[1, 1, 4], [7, 1, 4], [1, 7, 4.0]]])
    grid = mark(square, 8)
    assert np.array_equal(grid[:, :, 3], grid[:, :, 4])
    assert grid[:, :, [2, 5]].sum() == 0
    assert np.array_equal(mark(square[:, ::-1], 8), grid)
    assert np.array_equal(mark(square[..., [1, 2, 0]], 8), grid.transpose(1, 2, 0))


@pytest.mark.parametrize("axis", range(3))
def test_mirroring_the_mesh_mirrors_its_voxels(axis):
    for label in ("sofa", "table", "monitor"):
        mesh = mesh_of(furniture(label, 2))
        mirrored = Mesh(mesh.vertices * np.where(np.arange(3) == axis, -1, 1), mesh.raw_faces)
        for how in (Voxelizer(32, solid=False), Voxelizer(31)):
            assert np.array_equal(voxelize(mirrored, how).grid, np.flip(voxelize(mesh, how).grid, axis))


def test_order_and_repetition_of_faces_do_not_matter():
    mesh = mesh_of(furniture("sofa", 1))
    grid = voxelize(mesh, Voxelizer(32)).grid
    faces = np.concatenate([mesh.faces, mesh.faces[::-1, ::-1], np.repeat(mesh.faces[:5, :1], 3, axis=1)])
    assert np.array_equal(voxelize(Mesh(mesh.vertices, faces), Voxelizer(32)).grid, grid)


@settings(max_examples=50)
@given(st.integers(0, 10**6), st.integers(5, 40))
def test_no_path_of_neighbours_crosses_the_surface_of_a_closed_mesh(seed, d):
    """Not even diagonally: 26-connected flood fill from outside never reaches the middle of a ball."""
    rng = np.random.default_rng(seed)
    ball = trimesh.creation.icosphere(subdivisions=2)
    ball.apply_transform(trimesh.transformations.random_rotation_matrix(rng.uniform(size=3)))
    points, scale, _ = place(mesh_of(ball), Voxelizer(d, margin=1))
    grid = np.zeros((d, d, d), np.bool_)
    mark_surface(points, mesh_of(ball).faces, grid)
    outside = ndimage.label(~grid, EVERYWHERE)[0]
    inside = np.linalg.norm(np.moveaxis(np.indices(grid.shape), 0, -1) + 0.5 - d / 2, axis=-1) < scale * 0.9 - 1.8
    assert not (outside[inside & ~grid] == outside[0, 0, 0]).any()


def test_real_watertight_meshes_do_not_leak(real_data):
    for path in sorted((real_data / "meshes/watertight").glob("*.off")):
        mesh = read_mesh(path)
        if not trimesh.Trimesh(mesh.vertices, mesh.faces).is_watertight:
            continue
        for d in (32, 64, 100):
            made = voxelize(mesh, Voxelizer(d))
            volume = abs(trimesh.Trimesh(mesh.vertices, mesh.faces).volume) * made.scale**3
            shell = voxelize(mesh, Voxelizer(d, solid=False)).grid.sum()
            assert not made.leaks
            assert volume < made.grid.sum() < volume + shell  # all of the inside, and no more than its shell besides


# --- the inside ------------------------------------------------------------------------------------------------------------


def test_a_surface_is_hollow_and_a_solid_is_not():
    ball = trimesh.creation.icosphere(subdivisions=3)
    solid, shell = grid_of(ball), grid_of(ball, solid=False)
    assert shell[8, 8, 8] == 0
    assert solid[8, 8, 8] == 1
    assert np.array_equal(ndimage.binary_fill_holes(shell), solid)


@settings(max_examples=200)
@given(arrays(np.bool_, (5, 5, 5)))
def test_filling_is_what_scipy_calls_filling(grid):
    assert np.array_equal(fill(grid)[0], ndimage.binary_fill_holes(grid))


def test_a_shape_that_leaks_is_reported_and_not_filled():
    box = trimesh.creation.box(extents=(2, 2, 2)).subdivide().subdivide()
    front = box.triangles_center[:, 1] < -0.99
    small = front & (np.abs(box.triangles_center[:, [0, 2]]) < 0.3).all(axis=1)
    assert small.any()
    box.update_faces(~small)
    made = voxelize(mesh_of(box), Voxelizer(32))
    assert made.leaks
    assert made.grid[16, 16, 16] == 0
    open_box = trimesh.creation.box(extents=(2, 2, 2)).subdivide()
    open_box.update_faces(open_box.triangles_center[:, 2] < 0.99)  # no lid: open to one side, as a bathtub is
    assert not voxelize(mesh_of(open_box), Voxelizer(32)).leaks
    assert not voxelize(mesh_of(trimesh.creation.box()), Voxelizer(32)).leaks


# --- the place -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("margin", [0, 1, 2.5])
def test_the_longest_side_fills_the_grid_less_its_margin_and_is_centred(margin):
    grid = grid_of(trimesh.creation.box(extents=(4, 2, 1)), margin=margin)
    at = np.argwhere(grid)
    assert (at.min(axis=0) + at.max(axis=0)).tolist() == [15, 15, 15]
    assert np.ptp(at[:, 0]) + 1 == np.ceil((16 - 2 * margin) / 2) * 2
    assert grid.sum() == np.prod(np.ptp(at, axis=0) + 1)  # solid: no hole inside


def test_scale_and_offset_lead_from_the_mesh_to_its_voxels():
    mesh = mesh_of(furniture("table", 3))
    moved = Mesh(mesh.vertices * 7 + [100, -3, 5], mesh.raw_faces)
    made = voxelize(moved, Voxelizer(32, solid=False))
    at = np.floor(moved.vertices * made.scale + made.offset).astype(int)
    assert made.grid[tuple(at.T)].all()


def test_stray_vertices_do_not_shrink_the_shape():
    """One known converter bounds all vertices, used or not: stray ones leave a tiny, off-centre object."""
    box = trimesh.creation.box(extents=(4, 2, 1))
    with_stray = Mesh(np.vstack([box.vertices, [[1000, 1000, 1000]]]), np.asarray(box.faces))
    assert np.array_equal(voxelize(with_stray, Voxelizer(16)).grid, grid_of(box))


@pytest.mark.parametrize("move", [lambda v: v * 7, lambda v: v + 100, lambda v: v * 0.001])
def test_scale_and_place_of_the_mesh_do_not_matter(move):
    mesh = mesh_of(furniture("table", 1))
    assert np.array_equal(
        voxelize(Mesh(move(mesh.vertices), mesh.raw_faces), Voxelizer(16)).grid, grid_of(furniture("table", 1))
    )


def test_y_up_meshes_are_turned_not_mirrored():
    mesh = furniture("sofa", 7)  # an L-sofa: mirroring would show
    y_up = mesh.vertices[:, [0, 2, 1]] * (1, 1, -1)  # (x, y, z) → (x, z, −y), the inverse turn
    turned = voxelize(Mesh(np.asarray(y_up), np.asarray(mesh.faces)), Voxelizer(16, up="y")).grid
    assert np.array_equal(turned, grid_of(mesh))


@pytest.mark.parametrize(("vertices", "reason"), [
    ([[1, 1, 1]] * 3, "no extent"),
    ([[-1e308, 0, 0], [1e308, 0, 0], [0, 1, 0]], "too large"),
    ([[0, 0, 0], [1e-320, 0, 0], [0, 1e-320, 0]], "no extent"),
])  # fmt: skip
def test_a_mesh_without_a_sensible_size_is_refused(vertices, reason):
    with pytest.raises(VoxelError, match=reason):
        voxelize(Mesh(np.array(vertices, np.float64), np.array([[0, 1, 2]])), Voxelizer(16))


@pytest.mark.parametrize(("how", "reason"), [
    ({"resolution": 0}, "expected 1 to 512"),
    ({"margin": 8}, "asked for; expected 0 to below half"),
    ({"up": "x"}, "expected y or z"),
    ({"method": "fast"}, "expected exact or polygon2voxel"),
    ({"method": "polygon2voxel"}, "surfaces as they lie"),
])  # fmt: skip
def test_settings_that_cannot_be_are_refused(how, reason):
    with pytest.raises(VoxelError, match=reason):
        Voxelizer(**{"resolution": 16, **how})


# --- the slides' method -----------------------------------------------------------------------------------------------------

SLIDES = {"solid": False, "margin": 0, "method": "polygon2voxel"}


def test_the_slides_voxels_are_reproduced_bit_for_bit(real_data):
    """Nine meshes through the slides' own Matlab scripts, among them one that its reader shifts into garbage."""
    expected = sorted((real_data / "polygon2voxel-64").glob("*.mat"))
    assert len(expected) == 9
    for path in expected:
        (mesh,) = (real_data / "meshes").glob(
            f"watertight/{path.stem[-1]}.off" if "watertight" in path.stem else f"modelnet/*/*/{path.stem}.off"
        )
        made = voxelize(read_mesh(mesh), Voxelizer(64, **SLIDES))
        assert np.array_equal(made.grid, scipy.io.loadmat(path)["Volume"] > 0), path


def test_scale_and_offset_of_the_slides_method_lead_to_its_voxels_too():
    mesh = mesh_of(furniture("table", 3))
    made = voxelize(mesh, Voxelizer(32, **SLIDES))
    at = np.floor(mesh.vertices[np.unique(mesh.faces)][:, [1, 0, 2]] * made.scale + made.offset).astype(int)
    assert made.grid[tuple(at.T)].all()


def test_the_slides_method_leaves_holes_where_the_exact_one_has_none():
    """An edge length of √½ voxel between marked corners is too coarse: voxels that a face crosses in between stay empty."""
    slope = Mesh(np.array([[0, 0, 0], [1, 0.02, 0.031], [0.013, 1, 0.37]]), np.array([[0, 1, 2]]))
    seeds = voxelize(slope, Voxelizer(64, **SLIDES)).grid.transpose(1, 0, 2)
    exact = voxelize(slope, Voxelizer(64, solid=False, margin=0)).grid
    assert seeds.sum() < exact.sum()


def test_the_slides_reader_shifts_a_mesh_that_never_uses_its_first_vertex():
    box = trimesh.creation.box(extents=(4, 2, 1))
    stray = Mesh(np.vstack([[[0.1, 0.2, 0.3]], box.vertices]), np.asarray(box.faces) + 1)
    whole = mesh_of(box)
    assert not np.array_equal(voxelize(stray, Voxelizer(32, **SLIDES)).grid, voxelize(whole, Voxelizer(32, **SLIDES)).grid)
    assert np.array_equal(voxelize(stray, Voxelizer(32)).grid, voxelize(whole, Voxelizer(32)).grid)
