"""Reading meshes: every dialect of OFF, nothing that lies; indices that count from 1 are found by evidence."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import trimesh
from hypothesis import given
from hypothesis import strategies as st

from gan3d_eval.voxels import VoxelError
from gan3d_model.data.meshes import _parse_body, parse_mesh, read_mesh
from gan3d_model.data.synthetic import furniture
from gan3d_model.data.topology import index_base, is_closed
from gan3d_model.data.voxelize import Voxelizer, voxelize

PLAIN = b"OFF\n4 2 0\n0 0 0\n1 0 0\n0 1 0\n0 0 1\n3 0 1 2\n3 0 2 3\n"


@pytest.mark.parametrize("text", [
    PLAIN,
    PLAIN.replace(b"OFF\n", b"OFF"),  # glued, as in 2,000 files of ModelNet40
    PLAIN.replace(b"OFF\n", b"OFF "),
    PLAIN.replace(b"\n", b"\r\n"),
    PLAIN.replace(b"4 2 0", b"4 2"),
    PLAIN.replace(b"OFF\n", b"OFF # made by hand\n# a comment\n\n").replace(b"0 1 0\n", b"0 1 0 # third\n"),
    PLAIN.replace(b"OFF", b"COFF").replace(b"0 0 0\n1 0 0\n0 1 0\n0 0 1\n", b"0 0 0 9 9 9 1\n1 0 0 9 9 9 1\n0 1 0 9 9 9 1\n0 0 1 9 9 9 1\n"),
    PLAIN.replace(b"3 0 1 2\n", b"3 0 1 2 255 0 0\n"),
    PLAIN.replace(b"\n", b"\n\n").replace(b"3 0 1 2", b"  3  0\t1 2  "),
    b"\xef\xbb\xbf" + PLAIN,
], ids=["plain", "glued", "one line", "CRLF", "two counts", "comments", "colours", "face colours", "blank lines", "BOM"])  # fmt: skip
def test_every_dialect_of_off_is_the_same_mesh(text):
    mesh = parse_mesh(text, ".off")
    assert mesh.vertices.tolist() == [[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]
    assert mesh.faces.tolist() == [[0, 1, 2], [0, 2, 3]]


def test_polygons_are_cut_into_fans_and_lines_are_left_out():
    mesh = parse_mesh(b"OFF\n5 3 0\n0 0 0\n1 0 0\n1 1 0\n0 1 0\n0 2 0\n5 0 1 2 4 3\n2 0 1\n3 0 1 2\n", ".off")
    assert mesh.faces.tolist() == [[0, 1, 2], [0, 2, 4], [0, 4, 3], [0, 1, 2]]


@pytest.mark.parametrize(("text", "reason"), [
    (b"", "does not begin with OFF"),
    (b"hello", "does not begin with OFF"),
    (b"OFF BINARY\n\x00\x00", "no OFF counts"),
    (b"OFF", "no OFF counts|counts \\[\\]"),
    (b"OFF\n-1 3 0\n", r"counts \[-1, 3, 0\]"),
    (b"OFF\n3 1 0\n0 0 0\n1 0 0\n", "promises 3 vertices and 1 faces, but holds .* truncated"),
    (PLAIN[:-10], "truncated"),
    (b"OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 99999999999999999999\n# no triangles alone\n", "too large"),
    (PLAIN[:-3], "truncated"),
    (PLAIN.replace(b"4 2 0", b"4 3 0"), "but holds 4 and 2: truncated"),
    (PLAIN.replace(b"4 2 0", b"3 2 0"), "1 more lines follow|something else"),
    (PLAIN.replace(b"4 2 0", b"1000000000 2 0"), "promises 1000000000 vertices and 2 faces, but holds .* bytes"),
    (PLAIN.replace(b"4 2 0", b"4 0 0"), "no faces"),
    (PLAIN.replace(b"3 0 1 2", b"3 0 1 9"), "refers to vertex 9, but there are 4"),
    (PLAIN.replace(b"3 0 1 2", b"3 0 -1 2"), "refers to vertex -1"),
    (PLAIN.replace(b"3 0 1 2", b"3 0 1 99999999999999999999"), "something else than numbers"),
    (PLAIN.replace(b"1 0 0\n", b"nan 0 0\n"), "NaN or infinite"),
    (PLAIN.replace(b"1 0 0\n", b"inf 0 0\n"), "NaN or infinite"),
    (PLAIN.replace(b"1 0 0\n", b"1 0 zero\n"), "something else than numbers"),
    (PLAIN.replace(b"3 0 1 2\n3 0 2 3", b"2 0 1\n2 0 2"), "no faces"),
    (b"OFF\n3 1 0\n0 0\n1 0\n0 1\n3 0 1 2\n", "vertices of 2 coordinates; expected x, y and z"),
])  # fmt: skip
def test_an_off_that_lies_is_refused_with_its_reason(text, reason):
    with pytest.raises(VoxelError, match=reason):
        parse_mesh(text, ".off")


@given(st.binary(max_size=200), st.sampled_from([".off", ".obj", ".ply", ".stl", ".glb"]))
def test_no_bytes_whatever_raise_anything_but_a_reason(data, suffix):
    try:
        mesh = parse_mesh(data, suffix)
    except VoxelError:
        return
    assert len(mesh.faces)


@given(st.integers(0, len(PLAIN) - 1), st.integers(0, 255))
def test_one_damaged_byte_raises_nothing_but_a_reason(at, byte):
    try:
        mesh = parse_mesh(PLAIN[:at] + bytes([byte]) + PLAIN[at + 1 :], ".off")
    except VoxelError:
        return
    assert mesh.faces.max() < len(mesh.vertices)


@pytest.mark.parametrize("suffix", [".off", ".obj", ".ply", ".stl", ".glb"])
def test_every_format_holds_the_same_triangles(tmp_path, suffix):
    shape = furniture("sofa", 1)
    shape.export(tmp_path / f"a{suffix}")
    mesh = read_mesh(tmp_path / f"a{suffix}")
    assert len(mesh.faces) == len(shape.faces)
    found, expected = (
        np.sort(v[f].sum(axis=1), axis=0) for v, f in ((mesh.vertices, mesh.faces), (shape.vertices, shape.faces))
    )
    assert np.allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("line", [b"3 00 01 02\n", b"3 00 01 02 99 99 99\n", b"4 00 01 02 00\n", b"3 00 01 02\r\n"])
def test_a_mesh_takes_few_times_its_bytes_of_memory(line, monkeypatch):
    """One object a word would be twenty to sixty times. (Words of one letter are not made anew; these have two.)"""
    monkeypatch.setattr("gan3d_model.data.meshes.BLOCK", 2**12)
    body = b"0 0 0\n1 0 0\n0 1 0\n" + line * 20_000
    tracemalloc.start()
    try:
        _, triangles = _parse_body(body, 3, 20_000)
        assert tracemalloc.get_traced_memory()[1] < 10 * len(body)
    finally:
        tracemalloc.stop()
    assert len(triangles) == 20_000 * (2 if line.startswith(b"4") else 1)


@given(block=st.integers(1, 40))
def test_where_a_text_is_cut_changes_nothing(block):
    polygons = b"OFF\r\n5 3 0\r\n0 0 0\r\n1 0 0 9\r1 1 0\n\n0 1 0\r\n0 2 0\r\n5 0 1 2 4 3\r\n2 0 1\r\n3 0 1 2"
    for text in (PLAIN, PLAIN.replace(b" ", b"\t  "), polygons):
        with pytest.MonkeyPatch.context() as patch:
            whole = parse_mesh(text, ".off")
            patch.setattr("gan3d_model.data.meshes.BLOCK", block)
            cut = parse_mesh(text, ".off")
        assert np.array_equal(cut.vertices, whole.vertices)
        assert np.array_equal(cut.faces, whole.faces)


def test_an_error_begins_with_the_path(tmp_path):
    (tmp_path / "bad.off").write_text("hello")
    with pytest.raises(VoxelError, match=rf"^{tmp_path}/bad\.off: is no OFF file"):
        read_mesh(tmp_path / "bad.off")


def test_real_files_with_glued_headers_and_crlf_are_the_same_meshes(real_data):
    def read(name):
        mesh = read_mesh(real_data / "meshes" / name)
        return mesh.faces, voxelize(mesh, Voxelizer(32)).grid

    for one, other in (("modelnet/bathtub/train/bathtub_0003.off", "glued-header/bathtub_0003.off"),
                       ("modelnet/bed/train/bed_0001.off", "crlf/bed_0001.off")):  # fmt: skip
        (faces, grid), (other_faces, other_grid) = read(one), read(other)  # the second lies elsewhere in space
        assert np.array_equal(faces, other_faces)
        assert np.array_equal(grid, other_grid)


# --- what indices count from --------------------------------------------------------------------------------------------


def test_an_index_equal_to_the_number_of_vertices_proves_a_file_that_counts_from_1():
    mesh = parse_mesh(b"OFF\n4 2 0\n0 0 0\n1 0 0\n0 1 0\n0 0 1\n3 1 2 3\n3 1 3 4\n", ".off")
    assert mesh.base == 1
    assert mesh.faces.tolist() == [[0, 1, 2], [0, 2, 3]]
    assert mesh.evidence == "index 4 is used and there are 4 vertices"
    with pytest.raises(VoxelError, match="refers to vertex 4, but there are 4"):
        parse_mesh(PLAIN.replace(b"3 0 2 3", b"3 0 2 4"), ".off")


@pytest.mark.parametrize("size", [1e-200, 1.0, 1e200])
def test_the_size_of_a_mesh_decides_nothing_about_its_indices(size):
    rng = np.random.default_rng(0)
    vertices, faces = rng.random((9, 3)), np.array([[1, 2, 3], [3, 4, 5], [5, 6, 7]])
    assert index_base(vertices * size, faces) == index_base(vertices, faces)


def test_a_mesh_that_never_uses_its_first_vertex_still_counts_from_0(real_data):
    """What the slides called ill-defined and could not decide."""
    for name, least in (("bathtub/train/bathtub_0001", 13), ("bathtub/train/bathtub_0004", 34), ("bed/train/bed_0001", 4)):
        mesh = read_mesh(real_data / f"meshes/modelnet/{name}.off")
        assert mesh.raw_faces.min() == least
        assert mesh.base == 0
        assert "disorder" in mesh.evidence


def doubtful(vertices, faces, rng):
    """The mesh with faces at both ends of the vertex list left out, so that neither reading can be proven."""
    first, last = rng.integers(1, 20, 2)
    faces = faces[(faces.min(axis=1) >= faces.min() + first) & (faces.max(axis=1) <= faces.max() - last)]
    low, high = faces.min() - 1, faces.max() + 2
    return vertices[low:high], faces - low


def verdicts(meshes, rng):
    """Right answers for each mesh as it stands, and with all its indices shifted by one."""
    clean, shifted = [], []
    for vertices, faces in meshes:
        vertices, faces = doubtful(vertices, faces, rng)
        if len(faces) < 300 or faces.min() != 1 or faces.max() != len(vertices) - 2:
            continue
        clean.append(index_base(vertices, faces)[0] == 0)
        shifted.append(index_base(vertices, faces + 1)[0] == 1)
    return clean, shifted


def test_the_base_of_indices_is_right_for_real_meshes_and_fragments_of_them(real_data):
    """Neither reading can be proven here: the evidence alone decides."""
    rng = np.random.default_rng(0)
    meshes = []
    for path in sorted((real_data / "meshes").glob("[mw]*/**/*.off")):
        mesh = read_mesh(path)
        meshes += [(mesh.vertices, mesh.faces)] * 4
        for size in (400, 1000, 4000):
            for start in rng.integers(0, max(len(mesh.faces) - size, 1), 4 if len(mesh.faces) > size else 0):
                meshes.append((mesh.vertices, mesh.faces[start : start + size]))
    clean, shifted = verdicts(meshes, rng)
    assert len(clean) > 150
    assert all(clean)
    assert np.mean(shifted) >= 0.995


def test_closed_means_that_every_edge_has_two_sides():
    box = trimesh.creation.box()
    assert is_closed(np.asarray(box.vertices), np.asarray(box.faces))
    assert is_closed(box.vertices[box.faces].reshape(-1, 3), np.arange(36).reshape(-1, 3))  # a vertex per face and corner
    assert not is_closed(np.asarray(box.vertices), np.asarray(box.faces)[1:])
    doubled = np.concatenate([box.faces, box.faces[:3, ::-1]])
    assert is_closed(np.asarray(box.vertices), doubled)
    assert not is_closed(np.zeros((3, 3)), np.array([[0, 1, 2]]))


@pytest.mark.parametrize("stray", [np.nan, np.inf])
def test_a_vertex_that_is_no_place_does_not_change_what_indices_count_from(stray):
    ball = trimesh.creation.icosphere(2)
    vertices, faces = np.vstack([ball.vertices, [[stray] * 3], ball.vertices[:1]]), np.asarray(ball.faces)
    for base in (0, 1):
        used = np.vstack([vertices[:1], vertices]) if base == 0 else vertices
        assert index_base(used, faces + 1)[0] == base
