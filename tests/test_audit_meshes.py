"""The mesh audit finds what was planted, and what is known of real files."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from gan3d_eval.voxels import VoxelError
from gan3d_model.data.audit_meshes import audit_meshes, inspect, report
from gan3d_model.data.meshes import Mesh


def facts(vertices, faces):
    return inspect(Mesh(np.asarray(vertices, np.float64), np.asarray(faces, np.int64)))


def test_a_box_has_nothing_wrong_with_it():
    box = trimesh.creation.box(extents=(1, 2, 3))
    found = facts(box.vertices, box.faces)
    assert found | {"extent_x": 1.0, "extent_y": 2.0, "extent_z": 3.0} == found
    assert {key: found[key] for key in ("vertices", "faces", "components", "closed")} == {"vertices": 8, "faces": 12, "components": 1, "closed": True}  # fmt: skip
    assert not any(found[key] for key in ("unreferenced", "stray", "degenerate", "duplicate", "open_edges", "crowded_edges"))


def test_every_planted_defect_is_counted():
    box = trimesh.creation.box()
    vertices = np.vstack([box.vertices, [[0, 0, 0], [9, 9, 9]], box.vertices + 5])
    faces = np.vstack([
        box.faces[1:], box.faces[3][::-1], box.faces[3], [[0, 0, 1]], box.faces + 10,
    ])  # fmt: skip
    found = facts(vertices, faces)
    assert found["unreferenced"] == 2
    assert found["stray"] == 1
    assert found["duplicate"] == 2
    assert found["degenerate"] == 1
    assert found["components"] == 2
    assert found["open_edges"] == 3
    assert not found["closed"]


def test_three_sheets_at_one_edge_are_crowded():
    vertices = [[0, 0, 0], [0, 0, 1], [1, 0, 0], [0, 1, 0], [-1, -1, 0]]
    assert facts(vertices, [[0, 1, 2], [0, 1, 3], [0, 1, 4]])["crowded_edges"] == 1


def test_what_is_known_of_real_meshes_is_found(real_data):
    table, answer = audit_meshes(real_data / "meshes", say=lambda line: None)
    table = table.set_index("source")
    tub = table.loc["modelnet/bathtub/train/bathtub_0001.off"]
    assert (tub["unreferenced"], tub["stray"]) == (28, 12)
    assert table.loc["modelnet/toilet/test/toilet_0345.off", "degenerate"] == 222
    for name in ("bathtub/train/bathtub_0002", "bed/train/bed_0003", "chair/test/chair_0890"):
        row = table.loc[f"modelnet/{name}.off"]
        assert row["duplicate"] == row["faces"] / 2
    assert answer["n"] == 17
    assert answer["defects"]["no index shows if 0 or 1 is first"] == 4
    assert answer["defects"]["counting from 1"] == 0
    assert answer["unreadable"] == {}


def test_unreadable_files_are_listed_and_hide_no_other(tmp_path):
    trimesh.creation.box().export(tmp_path / "good.off")
    (tmp_path / "bad.off").write_text("OFF\n3 1 0\n")
    table, answer = audit_meshes(tmp_path)
    assert answer["n"] == 2
    assert "truncated" in answer["unreadable"]["bad.off"]
    assert any("bad.off: promises 3 vertices" in line for line in report(answer))
    assert "no defect found in those that could be read" in report(answer | {"defects": {}})
    assert table["reason"].notna().sum() == 1
    (tmp_path / "good.off").unlink()
    with pytest.raises(VoxelError, match="no mesh can be read; the first of 1 is bad.off"):
        audit_meshes(tmp_path)
    with pytest.raises(VoxelError, match="does not exist"):
        audit_meshes(tmp_path / "nothing")


def test_a_single_file_gets_its_facts_as_lines(tmp_path):
    trimesh.creation.box(extents=(1, 2, 3)).export(tmp_path / "a.off")
    lines = report(audit_meshes(tmp_path / "a.off")[1])
    assert any(line.split() == ["extent_z", "3"] for line in lines)
    assert any("index 0 is used" in line for line in lines)
