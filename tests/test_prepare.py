"""Prepare: every source becomes the same kind of dataset, nothing is lost without a word, and a kill costs a moment."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import filelock
import numpy as np
import pandas as pd
import pytest

from gan3d_eval.files import Gan3dError
from gan3d_eval.formats import write_binvox, write_mat
from gan3d_eval.voxels import VoxelError, VoxelSet
from gan3d_model.data.meshes import Mesh
from gan3d_model.data.parts import Parts, alone
from gan3d_model.data.prepare import prepare
from gan3d_model.data.sources import Source
from gan3d_model.data.synthetic import furniture, write_furniture
from gan3d_model.data.voxelize import Voxelizer, voxelize

ROOT = Path(__file__).parents[1]


def grid_of(shape, **how):
    mesh = Mesh(np.asarray(shape.vertices, np.float64), np.asarray(shape.faces, np.int64))
    return voxelize(mesh, Voxelizer(**{"resolution": 16, **how})).grid


def quiet(line):
    pass


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
    assert rejected["reason"][0] == "is no OFF file: it does not begin with OFF"


def test_arrays_keep_their_split_are_padded_evenly_and_empties_are_dropped_if_asked(tmp_path, grids):
    some = grids.copy()
    some[2] = False
    np.savez(tmp_path / "a.npz", X_train=some.astype(np.int32), y_train=[0, 1, 0, 1, 0, 1], X_test=grids[:2], y_test=[1, 0])
    shapes = prepare(tmp_path / "a.npz", tmp_path / "d", Voxelizer(12), names=["bed", "sofa"], fix=("drop-empty",), say=quiet)
    assert shapes.info["counts"] == {"bed": {"test": 1, "train": 2}, "sofa": {"test": 1, "train": 3}}
    assert np.array_equal(shapes.grids([0])[0], np.pad(grids[0], 2))
    rejected = pd.read_csv(tmp_path / "d/rejected.csv")[["name", "class", "split", "reason"]]
    assert rejected.values.tolist() == [["bed_0002", "bed", "train", "empty: no voxel is occupied"]]
    assert not (tmp_path / ".d.parts").exists()
    kept = prepare(tmp_path / "a.npz", tmp_path / "e", Voxelizer(12), names=["bed", "sofa"], say=quiet)
    assert kept.table.set_index("name")["flags"]["bed_0002"] == "empty"
    assert "flags" in kept.table
    assert kept.table.loc[kept.table["occupied"] == 0, "name"].tolist() == ["bed_0002"]
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


def test_a_class_that_is_named_and_has_no_shape_is_refused(tmp_path, grids):
    np.savez(tmp_path / "a.npz", X_train=grids, y_train=[0, 1, 0, 1, 0, 1], classes=np.array(["sofa", "table", "lamp"]))
    with pytest.raises(VoxelError, match=r"a\.npz holds no shape of lamp"):
        prepare(tmp_path / "a.npz", tmp_path / "d", Voxelizer(8), ["lamp"], say=quiet)


def test_a_class_that_stands_in_few_blocks_of_a_large_file_is_found(tmp_path):
    """Blocks of 256 shapes; most hold none of the class."""
    labels = np.zeros(700, np.int64)
    labels[600:603] = 1
    np.savez(tmp_path / "a.npz", X_train=np.ones((700, 4, 4, 4), np.bool_), y_train=labels, classes=np.array(["a", "b"]))
    shapes = prepare(tmp_path / "a.npz", tmp_path / "d", Voxelizer(4), ["b"], say=quiet)
    assert shapes.names == ["b_0001", "b_0002", "b_0003"]


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
    (truncated, "is damaged, or no .npz"),
    (lambda p, g: np.savez(p, X_train=g[:0]), "n ≥ 1"),
    (lambda p, g: np.savez(p, X_train=np.zeros((3, 8, 8, 9))), "cubic"),
    (lambda p, g: np.savez(p, X_train=np.zeros((5, 8, 8))), r"X_train has shape \(5, 8, 8\)"),
    (lambda p, g: np.savez(p, X_train=g, y_train=[0, 1]), "y_train is .* expected 6 integers"),
    (lambda p, g: np.savez(p, X_train=g, X_test=g[:2], y_train=[0] * 6), "labels of some splits only; y_test is missing"),
    (lambda p, g: np.savez(p, X_train=g, y_train=[0, 1, 0, 1, 0, 10**12]), "y_train has label 1000000000000; expected labels below 10000"),
    (lambda p, g: np.savez(p, X_train=np.full((2, 8, 8, 8), np.nan)), r"a\.npz: \[train\]: 2 of 2 shapes hold NaN"),
    (lambda p, g: np.savez(p, a=g, b=g), "expected X_train and X_test, or a single one"),
    (lambda p, g: np.savez(p, names=np.array(["a"])), "holds no array of grids"),
    (lambda p, g: np.savez(p, X_train=np.zeros((2, 8, 8, 8), bool)), "no usable shape"),
    (lambda p, g: np.savez(p, X_train=np.zeros((2, 9, 9, 9), bool)), "holds 9³ grids; they can be kept at 9³ or padded evenly to 11³, 13³ …, not to 16³"),
    (lambda p, g: np.savez(p, X_train=np.zeros((2, 20, 20, 20), bool)), "not to 16³"),
    (lambda p, g: np.savez(p, X_train=np.array([{}] * 2, dtype=object)), r"Python objects \(a pickle\)"),
    (lambda p, g: np.savez(p, X_train=g, X_test=np.zeros((1, 10, 10, 10), bool)), "mixes resolutions: 8³, 10³"),
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
    with pytest.raises(VoxelError, match="holds no meshes or voxels"):
        prepare(tmp_path / "m", tmp_path / "d", Voxelizer(16))
    (tmp_path / "d").mkdir()
    with pytest.raises(Gan3dError, match="already exists"):
        prepare(tmp_path / "m", tmp_path / "d", Voxelizer(16))


# --- other sources ---------------------------------------------------------------------------------------------------------


def content(path):
    """Everything of a dataset but its name and where its shapes came from."""
    table = pd.read_csv(path / "shapes.csv").drop(columns="source")
    return table.to_csv(), (path / "voxels.npy").read_bytes()


def zipped(folder, target, prefix=""):
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*.*")):
            archive.write(path, prefix + path.relative_to(folder).as_posix())
    return target


def test_a_zip_is_read_in_place_and_gives_what_its_folder_gives(tmp_path):
    write_furniture(tmp_path / "m", ["sofa", "table"], 2, 1)
    source = zipped(tmp_path / "m", tmp_path / "ModelNet.zip", "ModelNet/")
    prepare(tmp_path / "m", tmp_path / "a", Voxelizer(16), say=quiet)
    prepare(source, tmp_path / "b", Voxelizer(16), say=quiet)
    assert content(tmp_path / "a") == content(tmp_path / "b")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["ModelNet.zip", "a", "b", "m"]


def test_a_zip_that_leads_outside_or_explodes_is_refused_file_by_file(tmp_path, monkeypatch):
    monkeypatch.setattr("gan3d_model.data.sources.MAX_FILE", 2**20)
    write_furniture(tmp_path / "m", ["sofa"], 1, 0)
    source = zipped(tmp_path / "m", tmp_path / "evil.zip")
    with zipfile.ZipFile(source, "a", zipfile.ZIP_DEFLATED) as archive:
        for name in ("../../sofa/train/out.off", "/etc/sofa.off", "sofa\\..\\x.off"):
            archive.writestr(name, "OFF")
        archive.writestr("sofa/train/bomb.off", b" " * 2**21)
    prepare(source, tmp_path / "d", Voxelizer(16), say=quiet)
    rejected = pd.read_csv(tmp_path / "d/rejected.csv").set_index("source")["reason"]
    assert rejected["sofa/train/bomb.off"] == "is 2 MiB unpacked; expected at most 1 MiB"
    assert (rejected.drop("sofa/train/bomb.off") == "its path leads out of the archive").all()
    assert len(rejected) == 4
    assert sorted(p.name for p in tmp_path.iterdir()) == ["d", "evil.zip", "m"]


def test_a_mesh_in_a_zip_that_packs_as_no_mesh_does_is_refused_unread(tmp_path, monkeypatch):
    monkeypatch.setattr("gan3d_model.data.sources.USUAL_MESH", 2**17)
    write_furniture(tmp_path / "m", ["sofa"], 2, 0)
    fat = tmp_path / "m/sofa/train/sofa_0001.off"
    fat.write_bytes(fat.read_bytes() + b"\n" * 2**18)
    prepare(zipped(tmp_path / "m", tmp_path / "a.zip"), tmp_path / "d", Voxelizer(16), say=quiet)
    (reason,) = pd.read_csv(tmp_path / "d/rejected.csv")["reason"]
    assert "made to fill the memory" in reason
    assert len(prepare(tmp_path / "m", tmp_path / "e", Voxelizer(16), say=quiet)) == 2  # on disk it is as large as it is


def test_a_damaged_lzma_member_costs_itself_alone(tmp_path):
    write_furniture(tmp_path / "m", ["sofa"], 2, 0)
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_LZMA) as archive:
        for path in sorted((tmp_path / "m").rglob("*.off")):
            archive.write(path, path.relative_to(tmp_path / "m").as_posix())
    data = bytearray((tmp_path / "a.zip").read_bytes())
    data[200:210] = bytes(10)
    (tmp_path / "a.zip").write_bytes(data)
    assert len(prepare(tmp_path / "a.zip", tmp_path / "d", Voxelizer(16), say=quiet)) == 1
    assert pd.read_csv(tmp_path / "d/rejected.csv")["reason"].tolist() == ["cannot be read (Corrupt input data)"]


def test_of_two_files_of_one_name_in_a_zip_the_first_is_not_lost_without_a_word(tmp_path):
    write_furniture(tmp_path / "m", ["sofa"], 1, 0)
    source = zipped(tmp_path / "m", tmp_path / "a.zip")
    with zipfile.ZipFile(source, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("sofa/train/sofa_0001.off", (tmp_path / "m/sofa/train/sofa_0001.off").read_bytes())
    assert len(prepare(source, tmp_path / "d", Voxelizer(16), say=quiet)) == 1
    assert "stands twice" in pd.read_csv(tmp_path / "d/rejected.csv")["reason"][0]


def test_a_dataset_never_lies_in_its_source_nor_is_one(tmp_path):
    write_furniture(tmp_path / "m", ["sofa"], 1, 0)
    with pytest.raises(VoxelError, match="lies in the source"):
        prepare(tmp_path / "m", tmp_path / "m/d", Voxelizer(16), say=quiet)
    prepare(tmp_path / "m", tmp_path / "d", Voxelizer(16), say=quiet)
    with pytest.raises(VoxelError, match="is a dataset already"):
        prepare(tmp_path / "d", tmp_path / "e", Voxelizer(16), say=quiet)


def test_a_broken_zip_and_a_damaged_member_have_clear_reasons(tmp_path):
    write_furniture(tmp_path / "m", ["sofa"], 3, 0)
    source = zipped(tmp_path / "m", tmp_path / "a.zip")
    data = source.read_bytes()
    source.write_bytes(data[:-30])
    with pytest.raises(VoxelError, match="is no whole .zip archive"):
        prepare(source, tmp_path / "d", Voxelizer(16), say=quiet)
    source.write_bytes(data[:200] + bytes(100) + data[300:])
    shapes = prepare(source, tmp_path / "d", Voxelizer(16), say=quiet)
    assert len(shapes) == 2
    assert "cannot be read" in pd.read_csv(tmp_path / "d/rejected.csv")["reason"][0]


@pytest.mark.parametrize("write", ["mat", "binvox", "npy", "npy.gz"])
def test_voxel_files_of_every_format_give_the_same_grids(tmp_path, grids, write):
    folder = tmp_path / "v/chair/30/train"
    folder.mkdir(parents=True)
    for i, grid in enumerate(grids):
        path = folder / f"chair_{i:04d}.{write}"
        if write == "mat":
            write_mat(path, grid)
        elif write == "binvox":
            write_binvox(path, grid)
        else:
            with gzip.open(path, "wb") if write == "npy.gz" else path.open("wb") as file:
                np.save(file, grid)
    shapes = prepare(tmp_path / "v", tmp_path / "d", Voxelizer(10), say=quiet)
    assert np.array_equal(shapes.grids(), np.pad(grids, ((0, 0), *[(1, 1)] * 3)))
    assert shapes.info["counts"] == {"chair": {"train": 6}}
    assert shapes.names[0] == "chair_0000"


def test_y_up_binvox_is_turned_as_meshes_are(tmp_path):
    grid = grid_of(furniture("sofa", 7))
    (tmp_path / "v").mkdir()
    write_binvox(tmp_path / "v/sofa_1.binvox", grid, up="y")
    assert np.array_equal(prepare(tmp_path / "v", tmp_path / "d", Voxelizer(16, up="y"), say=quiet).grids()[0], grid)


def test_resolutions_are_not_mixed(tmp_path, grids):
    (tmp_path / "v").mkdir()
    for i, side in enumerate((8, 8, 6)):
        write_mat(tmp_path / f"v/chair_{i}.mat", grids[i, :side, :side, :side])
    shapes = prepare(tmp_path / "v", tmp_path / "d", Voxelizer(8), say=quiet)
    assert len(shapes) == 2
    reason = pd.read_csv(tmp_path / "d/rejected.csv")["reason"][0]
    assert reason == "holds a grid of 6³ where the others have 8³: resolutions are not mixed"


def test_meshes_are_taken_and_voxels_beside_them_passed_over_with_a_word(tmp_path, grids):
    write_furniture(tmp_path / "m", ["sofa"], 1, 0)
    write_mat(tmp_path / "m/sofa/train/sofa_0001.mat", grids[0])
    said = []
    shapes = prepare(tmp_path / "m", tmp_path / "d", Voxelizer(16), say=said.append)
    assert shapes.table["source"].tolist() == ["sofa/train/sofa_0001.off"]
    assert said[0] == "takes 1 meshes; passed over beside them, of another kind: 1"
    only = prepare(tmp_path / "m", tmp_path / "e", Voxelizer(8), pattern="*.mat", say=quiet)
    assert only.table["source"].tolist() == ["sofa/train/sofa_0001.mat"]


@pytest.mark.parametrize(("path", "place"), [
    ("chair/train/chair_0001.off", ("chair_0001", "chair", "train")),
    ("ModelNet10/night_stand/test/night_stand_0201.off", ("night_stand_0201", "night_stand", "test")),
    ("chair/30/test/chair_000000182_1.mat", ("chair_000000182_1", "chair", "test")),
    ("03001627/1a6f615e/models/model_normalized.obj", ("1a6f615e", "03001627", "train")),
    ("sofa/a.ply", ("a", "sofa", "train")),
    ("train/sofa_1.off", ("sofa_1", "sofa", "train")),
    ("night_stand_0007.off", ("night_stand_0007", "night_stand", "train")),
    ("0.off", ("0", "things", "train")),
    ("sofa/val/a.off", ("a", "sofa", "val")),
    ("sofa/validation/a.off", ("a", "sofa", "val")),
    ("monitor.npy.gz", ("monitor", "monitor", "train")),
    ("train/1a6f615e/models/model_normalized.obj", ("1a6f615e", "things", "train")),
    ("30/1a6f615e/models/model_normalized.obj", ("1a6f615e", "30", "train")),
    ("0/a.off", ("a", "0", "train")),
])  # fmt: skip
def test_class_and_split_follow_from_the_place(tmp_path, path, place):
    file = tmp_path / "things" / path
    file.parent.mkdir(parents=True)
    file.touch()
    (item,) = Source.find(tmp_path / "things").items
    assert (item.name, item.label, item.split) == place


def test_a_folder_that_cannot_be_read_is_listed_and_hides_nothing(tmp_path, monkeypatch):
    write_furniture(tmp_path / "m", ["sofa", "table"], 1, 0)
    scandir = os.scandir

    def closed(path):
        if str(path).endswith("table"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", closed)
    shapes = prepare(tmp_path / "m", tmp_path / "d", Voxelizer(16), say=quiet)
    assert len(shapes) == 1
    assert pd.read_csv(tmp_path / "d/rejected.csv")["reason"].tolist() == ["the folder cannot be read (Permission denied)"]


def test_what_was_not_asked_for_is_not_rejected_either(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("../evil.off", "OFF")
        archive.writestr("sofa/b.binvox", "")
    assert Source.find(tmp_path / "a.zip", "*.binvox").rejected == []
    assert len(Source.find(tmp_path / "a.zip").rejected) == 1


def test_links_are_followed_once(tmp_path):
    write_furniture(tmp_path / "m", ["sofa"], 1, 0)
    (tmp_path / "m/sofa/again").symlink_to(tmp_path / "m")
    (tmp_path / "l").mkdir()
    (tmp_path / "l/sofa").symlink_to(tmp_path / "m/sofa")
    assert len(Source.find(tmp_path / "m").items) == 1
    assert Source.find(tmp_path / "l").items[0].label == "sofa"


# --- repairs ---------------------------------------------------------------------------------------------------------------


def test_dedupe_keeps_one_of_each_and_none_under_two_labels(tmp_path, grids):
    train = grids[[0, 0, 1, 2, 3]]
    np.savez(tmp_path / "a.npz", X_train=train, y_train=[0, 0, 0, 1, 1], X_test=grids[[1, 2, 4]], y_test=[0, 0, 1])
    shapes = prepare(tmp_path / "a.npz", tmp_path / "d", Voxelizer(8), names=["a", "b"], fix=("dedupe",), say=quiet)
    assert np.array_equal(shapes.grids(), grids[[0, 1, 3, 4]])
    assert shapes.table["split"].tolist() == ["train", "train", "train", "test"]
    reasons = pd.read_csv(tmp_path / "d/rejected.csv").set_index("name")["reason"].to_dict()
    assert reasons == {
        "a_0002": "the same voxels as a_0001 (a, train)",
        "a_0004": "the same voxels as a_0003 (a, train)",
        "b_0001": "the same voxels as a_0005 (a, test); which label is right is not known",
        "a_0005": "the same voxels as b_0001 (b, train); which label is right is not known",
    }
    assert json.loads((tmp_path / "d/dataset.json").read_text())["fixed"] == ["dedupe"]
    with pytest.raises(VoxelError, match="no fix everything; there are drop-empty, dedupe"):
        prepare(tmp_path / "a.npz", tmp_path / "e", Voxelizer(8), fix=("everything",), say=quiet)


# --- at scale --------------------------------------------------------------------------------------------------------------

KILLED = """
import os, sys
from pathlib import Path
from gan3d_model.data import parts
from gan3d_model.data.parts import Parts, alone
from gan3d_model.data.prepare import prepare
from gan3d_model.data.sources import Source
from gan3d_model.data.voxelize import Voxelizer

save = parts.Parts.save
def killed(self, part, done=[]):
    save(self, part)
    done.append(part)
    if len(done) == 2:
        os.kill(os.getpid(), 9)
parts.Parts.save = killed
prepare(Path(sys.argv[1]), Path(sys.argv[2]), Voxelizer(16))
"""


@pytest.mark.parametrize("kind", ["meshes", "arrays"])
def test_after_kill_9_the_same_call_goes_on_and_gives_the_same_bytes(tmp_path, kind):
    if kind == "meshes":
        write_furniture(source := tmp_path / "m", ["sofa", "table"], 24, 0)
    else:
        random = np.random.default_rng(0)
        grids, labels = random.random((700, 8, 8, 8)) < 0.3, random.integers(0, 3, 700)
        np.savez(
            source := tmp_path / "m.npz", X_train=grids[:600], y_train=labels[:600], X_test=grids[600:], y_test=labels[600:]
        )
    command = [sys.executable, "-c", KILLED, str(source), str(tmp_path / "d")]
    assert subprocess.run(command, check=False).returncode == -9
    assert not (tmp_path / "d").exists()
    said = []
    shapes = prepare(source, tmp_path / "d", Voxelizer(16), say=said.append)
    assert len(shapes) == {"meshes": 48, "arrays": 700}[kind]
    assert said[0] == "goes on after 2 finished parts of an earlier, interrupted call"
    prepare(source, tmp_path / "e", Voxelizer(16), say=quiet)
    assert content(tmp_path / "d") == content(tmp_path / "e")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["d", "e", source.name]


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="looks for child processes in /proc, which is Linux's")
def test_ctrl_c_while_workers_start_prints_no_traceback(tmp_path):
    """A shell sends it to the whole group; workers that were importing answered with a traceback each."""
    write_furniture(tmp_path / "meshes", ["sofa"], 4, 0)
    for path in (tmp_path / "meshes").rglob("*.off"):  # enough bytes that processes are started
        path.write_bytes(path.read_bytes() + b"# padding\n" * 150_000)
    command = [sys.executable, "cli.py", "prepare", tmp_path / "meshes", tmp_path / "d", "-r", "512"]
    process = subprocess.Popen(
        command, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # which a shell ignores for what it starts with &
    )  # fmt: skip
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    while process.poll() is None and not children.read_text().split():
        time.sleep(0.005)
    time.sleep(0.15)  # they are importing
    said = None
    while said is None:  # in the moment in which they are made it is not heard: a user would press again
        os.killpg(process.pid, signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            said = process.communicate(timeout=8)[1]
    assert process.returncode == 130, said
    assert "Traceback" not in said
    assert said.endswith("the same command goes on there\nerror: interrupted\n")


@pytest.mark.parametrize("module", ["meshes", "synthetic"])
def test_ctrl_c_while_trimesh_is_imported_is_not_swallowed(tmp_path, module):
    """trimesh imports what it can do without in `try … except BaseException`."""
    swallows = (
        "import signal\ntry:\n    signal.raise_signal(signal.SIGINT)\nexcept BaseException:\n    pass\nTrimesh = object\n"
    )
    (tmp_path / "trimesh.py").write_text(swallows)
    process = subprocess.run(
        [sys.executable, "-c", f"import gan3d_model.data.{module}\nprint('and on')"], cwd=ROOT, capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": str(tmp_path)}, check=False,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    assert process.returncode == -signal.SIGINT, process.stderr
    assert process.stdout == ""


def test_workers_end_with_a_parent_that_was_killed(tmp_path):
    """They would wait for work for ever, and hold the pipe that somebody reads."""
    script = (
        "import os, subprocess, sys, time\n"
        "from joblib import Parallel, delayed\n"
        "from gan3d_model.data import parts\n"
        "Parallel(n_jobs=2)(delayed(parts._end_with)(os.getpid()) for _ in range(2))\n"
        "print('ready', flush=True)\n"
        "time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"ready\n"
    process.kill()
    start = time.monotonic()
    process.stdout.read()  # returns when the last process that holds the pipe is gone
    assert time.monotonic() - start < 20


def test_parts_of_other_settings_or_a_changed_source_are_not_used(tmp_path, monkeypatch):
    write_furniture(tmp_path / "m", ["sofa"], 40, 0)
    save = Parts.save

    def interrupted(self, part):
        save(self, part)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Parts, "save", interrupted)
        prepare(tmp_path / "m", tmp_path / "d", Voxelizer(16), say=quiet)
    assert (tmp_path / ".d.parts").is_dir()
    said = []
    shapes = prepare(tmp_path / "m", tmp_path / "d", Voxelizer(17), say=said.append)
    assert shapes.resolution == 17
    assert not any("goes on" in line for line in said)


def test_two_calls_do_not_prepare_the_same_dataset_at_once(tmp_path):
    write_furniture(tmp_path / "m", ["sofa"], 1, 0)
    with alone(tmp_path / "d"), pytest.raises(VoxelError, match="is being made by another process"):
        prepare(tmp_path / "m", tmp_path / "d", Voxelizer(16), say=quiet)


def test_a_place_where_nothing_can_be_written_is_not_called_taken(tmp_path, monkeypatch):
    def refuse(lock, timeout):
        raise filelock.Timeout(lock.lock_file)  # what filelock says where it can make no file, as in /proc

    monkeypatch.setattr(filelock.FileLock, "acquire", refuse)
    with (
        pytest.raises(VoxelError, match="d cannot be made: no file can be written to .*; choose another place"),
        alone(tmp_path / "d"),
    ):
        pass


def test_the_lock_file_goes_while_it_is_held_or_it_could_be_anothers(tmp_path, monkeypatch):
    release, there = filelock.FileLock.release, []
    monkeypatch.setattr(filelock.FileLock, "release", lambda lock: (there.append(Path(lock.lock_file).exists()), release(lock)))
    with alone(tmp_path / "d"):
        assert (tmp_path / ".d.lock").exists()
    assert there == [False]


def test_a_disk_that_is_too_small_is_noticed_before_work(tmp_path, monkeypatch):
    write_furniture(tmp_path / "m", ["sofa"], 1, 0)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 9, 1))
    with pytest.raises(VoxelError, match="the disk has 0.0 MB free"):
        prepare(tmp_path / "m", tmp_path / "d", Voxelizer(16), say=quiet)


def test_a_cluster_gives_the_same_bytes_though_a_worker_is_killed_midway(tmp_path):
    """Two real worker processes; one is killed -9 when the first part has arrived."""
    distributed = pytest.importorskip("distributed", reason="the extra 'cluster' is not installed")
    write_furniture(tmp_path / "m", ["sofa", "table"], 40, 0)
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster:
        victim = next(iter(cluster.workers.values())).pid
        said = []

        def say(line):
            said.append(line)

        save = Parts.save

        def kill_one(self, part):
            save(self, part)
            if len(self.numbers()) == 1:
                os.kill(victim, signal.SIGKILL)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Parts, "save", kill_one)
            shapes = prepare(tmp_path / "m", tmp_path / "d", Voxelizer(16), scheduler=cluster.scheduler_address, say=say)
    with pytest.raises(ProcessLookupError):
        os.kill(victim, 0)
    assert len(shapes) == 80
    prepare(tmp_path / "m", tmp_path / "e", Voxelizer(16), say=quiet)
    assert content(tmp_path / "d") == content(tmp_path / "e")


def test_a_scheduler_that_does_not_answer_is_an_error_in_words(tmp_path, monkeypatch):
    pytest.importorskip("distributed", reason="the extra 'cluster' is not installed")
    monkeypatch.setattr("gan3d_model.data.parts.CONNECT_SECONDS", 1)
    write_furniture(tmp_path / "m", ["sofa"], 1, 0)
    with pytest.raises(VoxelError, match="no Dask scheduler answers at tcp://127.0.0.1:9"):
        prepare(tmp_path / "m", tmp_path / "d", Voxelizer(16), scheduler="tcp://127.0.0.1:9", say=quiet)


# --- real shapes ----------------------------------------------------------------------------------------------------------


def test_real_modelnet10_is_recognised_and_its_empties_are_found(real_data, tmp_path):
    source = real_data / "voxels/modelnet10-30/modelnet10.npz"
    shapes = prepare(source, tmp_path / "d", Voxelizer(32), fix=("drop-empty",), say=quiet)
    assert len(shapes) == 4899 - 8
    assert sum(counts["train"] for counts in shapes.info["expected_counts"].values()) == 3991
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


def test_real_trees_of_mat_and_binvox_files_are_read(real_data, tmp_path):
    chairs = prepare(real_data / "voxels/chair-mat-30", tmp_path / "a", Voxelizer(32), say=quiet)
    assert chairs.info["counts"] == {"chair": {"train": 24}}
    y_up = prepare(real_data / "voxels/chair-binvox-64", tmp_path / "b", Voxelizer(64, up="y"), say=quiet)
    assert len(y_up) == 15
    for shapes in (chairs, y_up):  # chairs stand on legs: fewer voxels in the lowest quarter than in the next one
        height = shapes.grids().any(axis=(1, 2)).argmax(axis=1)
        level = shapes.grids().sum(axis=(1, 2))
        quarter = (shapes.resolution - 2 * int(np.median(height))) // 4
        lowest, next_one = (
            np.array([row[h + i * quarter :][:quarter].sum() for row, h in zip(level, height, strict=True)]) for i in (0, 1)
        )
        assert np.mean(lowest < next_one) > 0.7


def test_a_real_binvox_lies_as_our_voxels_of_the_same_mesh_do(real_data, tmp_path):
    """The binvox program voxelised this mesh too: axes, turn and scale agree."""
    folder = real_data / "meshes/modelnet/toilet/test"
    theirs = prepare(folder, tmp_path / "a", Voxelizer(30), pattern="*.binvox", say=quiet).grids()[0]
    ours = prepare(folder, tmp_path / "b", Voxelizer(30, margin=0.5), pattern="*.off", say=quiet).grids()[0]
    assert (ours & theirs).sum() / (ours | theirs).sum() > 0.8
