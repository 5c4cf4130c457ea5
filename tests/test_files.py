"""Atomic writes: what stood before survives whatever happens while writing."""

from __future__ import annotations

import io
import os
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from gan3d_eval.compiled import compiled
from gan3d_eval.files import Gan3dError, atomic_directory, atomic_file, content_hash, read_json, write_json
from gan3d_eval.npy import read_arrays
from gan3d_eval.trust import check_promise


def test_a_failed_write_leaves_the_old_file_and_no_temporary(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"x": 1})
    with pytest.raises(KeyboardInterrupt), atomic_file(path) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert read_json(path) == {"x": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_a_failed_directory_leaves_the_old_one(tmp_path):
    path = tmp_path / "data"
    path.mkdir()
    (path / "old").write_text("1")
    with pytest.raises(OSError, match="full"), atomic_directory(path, True, ["old"]) as temporary:
        (temporary / "new").write_text("2")
        raise OSError("full")
    assert [p.name for p in path.iterdir()] == ["old"]
    assert [p.name for p in tmp_path.iterdir()] == ["data"]


def test_a_directory_is_replaced_only_when_told_and_only_by_its_own_kind(tmp_path):
    path = tmp_path / "data"
    path.mkdir()
    (path / "thesis.tex").write_text("precious")
    for force in (False, True):  # nor is anybody told to replace it
        with pytest.raises(Gan3dError, match="holds no mark, so it is something else"), atomic_directory(path, force, ["mark"]):
            pass
    assert (path / "thesis.tex").read_text() == "precious"
    (path / "mark").write_text("1")
    with pytest.raises(Gan3dError, match="already exists.*--force"), atomic_directory(path, False, ["mark"]):
        pass
    held = "holds other things too, which --force would delete .thesis.tex.; move them"
    with pytest.raises(Gan3dError, match=held), atomic_directory(path, True, ["mark"]):
        pass
    assert (path / "thesis.tex").read_text() == "precious"
    (path / "thesis.tex").unlink()
    with atomic_directory(path, True, ["mark"]) as temporary:
        (temporary / "new").write_text("2")
    assert [p.name for p in path.iterdir()] == ["new"]


def test_a_directory_that_cannot_be_put_in_its_place_leaves_the_old_one_there(tmp_path, monkeypatch):
    path, rename = tmp_path / "data", Path.rename
    path.mkdir()
    (path / "mark").write_text("old")

    def failing(self, target):
        if self.suffix == ".tmp":
            raise OSError("gone")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(OSError, match="gone"), atomic_directory(path, True, ["mark"]):
        pass
    assert (path / "mark").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["data"]


def test_a_directory_that_somebody_else_made_meanwhile_is_not_replaced(tmp_path):
    path = tmp_path / "data"
    with pytest.raises(Gan3dError, match="already exists"), atomic_directory(path, False, ["mark"]) as temporary:
        (temporary / "mark").write_text("ours")
        path.mkdir()
        (path / "mark").write_text("theirs")
    assert (path / "mark").read_text() == "theirs"
    assert [p.name for p in tmp_path.iterdir()] == ["data"]


def test_what_is_written_has_the_rights_that_the_user_gives_new_files(tmp_path):
    old = os.umask(0o027)
    try:
        write_json(tmp_path / "a.json", {"x": 1})
        with atomic_directory(tmp_path / "data", False, ["mark"]) as temporary:
            (temporary / "mark").touch()
    finally:
        os.umask(old)
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in ("a.json", "data")] == [0o640, 0o750]


def test_a_write_that_cannot_begin_names_the_file_that_was_asked_for(tmp_path):
    path = tmp_path / ("long" * 64)
    with pytest.raises(OSError, match="too long") as caught, atomic_file(path):
        pass
    assert caught.value.filename == str(path)


@pytest.mark.parametrize("value", [float("nan"), np.float32("nan"), np.float64("inf")])
def test_json_never_holds_nan(tmp_path, value):
    with pytest.raises(ValueError, match=r"nan|inf|JSON"):
        write_json(tmp_path / "a.json", {"x": value})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["", "{", "[1]", "\xff", '{"a": 1}x', '{"a": NaN}', '{"a": -Infinity}'])
def test_broken_json_is_one_clear_error(tmp_path, text):
    path = tmp_path / "a.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(Gan3dError, match=r"a\.json"):
        read_json(path)


def test_the_hash_is_of_content_shape_and_order(tmp_path):
    a = np.arange(12, dtype=np.uint8).reshape(3, 4)
    np.save(tmp_path / "a.npy", a)
    assert content_hash(a) == content_hash(np.load(tmp_path / "a.npy", mmap_mode="r"))
    assert len({content_hash(x) for x in (a, a[::-1], a.reshape(4, 3), a.astype(np.int16))}) == 4


def test_more_than_memory_has_is_an_error_of_ours(monkeypatch, tmp_path):
    np.save(tmp_path / "a.npy", np.zeros(100))
    monkeypatch.setattr(os, "sysconf", lambda name: 10)
    with pytest.raises(Gan3dError, match="promises .* memory has"):
        check_promise(1000, 1000)
    with pytest.raises(Gan3dError, match=r"a\.npy.*memory has"):
        read_arrays(tmp_path / "a.npy")


def test_an_archive_that_promises_more_than_it_can_hold_is_refused_before_room_is_made(tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (2**30,)})
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("occupancy.npy", header.getvalue() + b"few")
    with pytest.raises(Gan3dError, match=r"a\.npz.*promises 1,073,741,824 bytes of numbers and has 1"):
        read_arrays(tmp_path / "a.npz")
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("occupancy.npy", header.getvalue() + bytes(2**20))
    bomb = (tmp_path / "bomb.npz").read_bytes()
    size = struct.pack("<I", len(header.getvalue()) + 2**20)
    assert bomb.count(size) == 2  # in front of the member, and in the directory
    (tmp_path / "bomb.npz").write_bytes(bomb.replace(size, struct.pack("<I", 2**31)))
    with pytest.raises(Gan3dError, match=r"bomb\.npz.*damaged, or made to fill the memory"):
        read_arrays(tmp_path / "bomb.npz")


def test_where_no_folder_can_keep_machine_code_functions_are_compiled_all_the_same(monkeypatch):
    def nowhere(*arguments):
        raise RuntimeError("cannot cache function: no locator available for file")

    monkeypatch.setattr("numba.core.dispatcher.Dispatcher.enable_caching", nowhere)
    assert compiled()(lambda x: x + 1)(2) == 3
