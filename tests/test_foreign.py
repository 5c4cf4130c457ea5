"""A stranger's folder is looked through by content: grids, weights and logs are found, and nothing in it is executed."""

from __future__ import annotations

import io
import os
import pickle
import zipfile

import numpy as np
import pytest
import scipy.io
import torch
from hypothesis import given
from hypothesis import strategies as st

from gan3d_eval.files import Gan3dError
from gan3d_eval.foreign import Readers, as_batch, collect
from gan3d_eval.formats import VoxelError, write_binvox
from gan3d_eval.trust import HEAD, kind_of
from gan3d_model.data.sources import Source
from gan3d_model.tensors import parse_grids

GRIDS = np.random.default_rng(0).random((5, 8, 8, 8)) < 0.3
READERS = Readers(parse_grids)


class Trap:
    """Would write a file if it were unpickled."""

    def __reduce__(self):
        return os.system, ("touch trapped",)


@pytest.mark.parametrize(("shape", "batch"), [
    ((8, 8, 8), (1, 8, 8, 8)), ((5, 8, 8, 8), (5, 8, 8, 8)), ((5, 1, 8, 8, 8), (5, 8, 8, 8)), ((5, 8, 8, 8, 1), (5, 8, 8, 8)),
    ((8, 8, 8, 5), (5, 8, 8, 8)), ((1, 8, 8, 8), (1, 8, 8, 8)), ((1, 1, 8, 8, 8), (1, 8, 8, 8)), ((8, 8, 8, 8), (8, 8, 8, 8)),
    ((5, 8, 8), None), ((5, 8, 8, 7), None), ((5, 2, 8, 8, 8), None), ((0, 8, 8, 8), None), ((5, 200), None), ((), None),
])  # fmt: skip
def test_common_orders_of_axes_become_a_batch(shape, batch):
    found = as_batch(np.zeros(shape))
    assert (None if found is None else found.shape) == batch


def test_samples_along_the_last_axis_are_each_what_they_were():
    assert np.array_equal(as_batch(np.moveaxis(GRIDS, 0, -1)), GRIDS)


def every_format(folder):
    """The same five grids in every format that holds several."""
    np.save(folder / "a.npy", GRIDS)
    np.savez_compressed(folder / "b.npz", samples=GRIDS[:, None].astype(np.float32), z=np.zeros((5, 20)))
    scipy.io.savemat(folder / "c.mat", {"voxels": GRIDS[:, None].astype(float), "inputs": np.zeros((5, 20))})
    torch.save(torch.from_numpy(GRIDS).float(), folder / "d.pt")
    torch.save({"fake": torch.from_numpy(GRIDS).half()}, folder / "e.pth", _use_new_zipfile_serialization=False)
    torch.save({"fake": torch.from_numpy(GRIDS).bfloat16()}, folder / "f.pkl")
    torch.save({"fake": torch.from_numpy(GRIDS).to(torch.float8_e4m3fn)}, folder / "g.pt")
    return sorted(folder.iterdir())


def test_every_format_gives_the_same_grids(tmp_path):
    for path in every_format(tmp_path):
        found = collect(path, readers=READERS)
        (batch,) = found.batches.values()
        assert np.array_equal(batch > 0.5, GRIDS), path.name


@pytest.mark.parametrize("suffix", ["dat", "mat", "npy", "pt"])
def test_names_do_not_matter_where_the_content_tells(tmp_path, suffix):
    for path in every_format(tmp_path):
        other = path.rename(tmp_path / f"{path.stem}.{suffix}")
        assert len(next(iter(collect(other, readers=READERS).batches.values()))) == 5


def test_a_folder_of_single_shapes_is_one_set_and_a_zip_of_it_the_same(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    for i, grid in enumerate(GRIDS):
        write_binvox(folder / f"chair_{i}.binvox", grid)
    (folder / "notes.md").write_text("words")
    with zipfile.ZipFile(tmp_path / "out.zip", "w") as archive:
        for path in folder.iterdir():
            archive.write(path, f"deep/{path.name}")
    found, packed = collect(folder), collect(tmp_path / "out.zip")
    assert list(found.batches) == [f"chair_{i}.binvox" for i in range(5)]
    assert found.passed_over == 1
    for (_, a), (_, b), grid in zip(found.batches.items(), packed.batches.items(), GRIDS, strict=True):
        assert np.array_equal(a[0], grid)
        assert np.array_equal(b[0], grid)


def test_members_of_an_archive_without_a_name_are_left_out(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("Xnameless", b"")
        np.save(tmp_path / "g.npy", GRIDS)
        archive.write(tmp_path / "g.npy", "g.npy")
    data = (tmp_path / "a.zip").read_bytes()
    (tmp_path / "a.zip").write_bytes(data.replace(b"Xnameless", b"\0nameless"))  # a name ends at its first zero
    assert list(collect(tmp_path / "a.zip").batches) == ["g.npy"]
    assert [item.path for item in Source.find(tmp_path / "a.zip").items] == ["g.npy"]


def pickled(protocol):
    return pickle.dumps({"volume": GRIDS[0], "trap": Trap()}, protocol)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("name", ["a.pkl", "a.pt", "a.pth", "a.mat", "a.npy", "a.npz", "a.dat", "a"])
def test_a_pickle_is_known_by_its_content_under_any_name_and_never_read(tmp_path, monkeypatch, protocol, name):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / name
    path.write_bytes(pickled(protocol))
    with pytest.raises(VoxelError, match=r"pickle.* np\.save\('samples\.npy'.*torch\.save\(G\.state_dict\(\)"):
        collect(path, readers=READERS)
    assert not (tmp_path / "trapped").exists()


def objects(path):
    np.save(path, np.array([Trap(), GRIDS[0]], dtype=object), allow_pickle=True)


def whole_network(path):
    torch.save(torch.nn.Linear(2, 2), path)


def trapped(path):
    torch.save({"volume": torch.zeros(3), "trap": Trap()}, path)


@pytest.mark.parametrize(("make", "name", "reason"), [
    (objects, "a.npy", r"Python objects.*np\.save\('samples\.npy'"), (whole_network, "a.pt", r"holds more than tensors .*torch\.save\("),
    (trapped, "a.pt", r"holds more than tensors"),
])  # fmt: skip
def test_pickles_inside_of_other_formats_are_refused_with_how_to_save_them_again(tmp_path, monkeypatch, make, name, reason):
    monkeypatch.chdir(tmp_path)
    make(tmp_path / name)
    with pytest.raises(Gan3dError, match=reason):
        collect(tmp_path / name, readers=READERS)
    assert not (tmp_path / "trapped").exists()


@given(st.binary(max_size=700))
def test_grids_in_a_binary_file_are_not_taken_for_a_pickle(data):
    assert kind_of(b"\x93NUMPY" + data[:HEAD], "a.npy") == "npy"
    assert kind_of(b"#binvox 1\n" + data[:HEAD], "a.dat") == "binvox"


def test_weights_and_logs_are_found_beside_the_grids(tmp_path):
    np.save(tmp_path / "samples.npy", GRIDS)
    torch.save(torch.nn.Linear(2, 2).state_dict(), tmp_path / "G_5.pkl")
    torch.save({"state": {0: {"exp_avg": torch.zeros(2)}}, "param_groups": []}, tmp_path / "G_optim_5.pkl")
    (tmp_path / "log.csv").write_text("iteration,d_loss\n1,0.5\n2,0.4\n")
    (tmp_path / "old.pkl").write_bytes(pickled(4))
    found = collect(tmp_path, readers=READERS)
    assert [entry.name for entry in found.weights] == ["G_5.pkl", "G_optim_5.pkl"]
    assert found.logs["log.csv"]["loss_d"].tolist() == [0.5, 0.4]
    assert list(found.refused) == ["old.pkl"]


def zip_bomb(path):
    """Two gigabytes of empty grids in two megabytes, as the directory of the archive says."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", os.urandom(2 * 10**6))
        archive.filelist[0].file_size = 2 * 10**9


def quine(path):
    """One member that stands in the directory a thousand times: its bytes would be read again and again."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", bytes(10**6))
        member = archive.filelist[0]
        for i in range(1000):
            copy = zipfile.ZipInfo(f"b{i}.npy")
            for key in ("compress_type", "CRC", "compress_size", "file_size", "header_offset"):
                setattr(copy, key, getattr(member, key))
            archive.filelist.append(copy)


def sparse(path):
    """A file of a terabyte that takes no room on the disk."""
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": (4 * 10**6, 64, 64, 64)})
        file.truncate(10**12)


def repeated(path):
    torch.save(torch.zeros(1).expand(1000, 512, 512, 512), path)


def compressed_tensors(path):
    torch.save(torch.zeros(10, 8, 8, 8), path)
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)


def sparse_tensor(path):
    torch.save(torch.sparse_coo_tensor([[0], [0], [0]], [1.0], (10**4, 10**4, 10**4)), path)


@pytest.mark.parametrize(("make", "name", "reason"), [
    (zip_bomb, "a.npz", "promises 2,000,000,000 bytes of numbers and has 2,00"), (quine, "a.npz", "promises"),
    (sparse, "a.npy", "promises 1,000,000,000,000 bytes of numbers and has"), (repeated, "a.pt", "claims 134,217,728,000 numbers, and the file has fewer"),
    (compressed_tensors, "a.pt", "compressed archive"), (sparse_tensor, "a.pt", "expected plain numbers|truncated or damaged"),
])  # fmt: skip
def test_what_would_fill_the_memory_is_refused_before_it_is_read(tmp_path, make, name, reason):
    import tracemalloc

    make(tmp_path / name)
    tracemalloc.start()
    try:
        with pytest.raises(Gan3dError, match=reason):
            collect(tmp_path / name, readers=READERS)
        assert tracemalloc.get_traced_memory()[1] < 2**26
    finally:
        tracemalloc.stop()


def test_the_files_of_a_source_together_may_hold_no_more_than_one_of_them(tmp_path, monkeypatch):
    """Grids of 512 bytes in an archive: runs, arrays packed once more, meshes. Four fit; what follows is refused by name."""
    monkeypatch.setattr("gan3d_eval.foreign.MOST_NUMBERS", 4 * 512 + 200)  # an .npz counts with its headers
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for number, grid in enumerate(GRIDS[:2]):
            write_binvox(tmp_path / "one.binvox", grid)
            archive.write(tmp_path / "one.binvox", f"{number}.binvox")
            np.savez_compressed(tmp_path / "one.npz", grid)
            archive.write(tmp_path / "one.npz", f"{number + 2}.npz")
            archive.writestr(f"{number + 4}.off", b"OFF")
            archive.write(tmp_path / "one.npz", f"{number + 6}.npz")
    found = collect(tmp_path / "a.zip", readers=Readers(mesh=lambda data, suffix: GRIDS[0]))
    assert list(found.batches) == ["0.binvox", "1.binvox", "2.npz", "3.npz"]
    assert list(found.refused) == ["4.off", "5.off", "6.npz", "7.npz"]
    assert all("200 may still be read" in reason for reason in found.refused.values())


def test_what_is_mapped_fills_no_memory_and_is_not_counted(tmp_path, monkeypatch):
    monkeypatch.setattr("gan3d_eval.foreign.MOST_NUMBERS", 1000)
    for number, grid in enumerate(GRIDS):
        np.save(tmp_path / f"{number}.npy", grid)
    assert len(collect(tmp_path).batches) == 5


def test_a_damaged_lzma_member_is_refused_and_the_others_are_read(tmp_path):
    np.save(tmp_path / "a.npy", GRIDS)
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_LZMA) as archive:
        archive.write(tmp_path / "a.npy", "x/a.npy")
        archive.write(tmp_path / "a.npy", "x/b.npy")
    data = bytearray((tmp_path / "a.zip").read_bytes())
    data[100:110] = bytes(10)
    (tmp_path / "a.zip").write_bytes(data)
    found = collect(tmp_path / "a.zip")
    assert list(found.batches) == ["x/b.npy"]
    assert found.refused == {"x/a.npy": "cannot be read (Corrupt input data)"}


def test_links_and_pipes_in_a_folder_do_not_hold_it_up(tmp_path):
    np.save(tmp_path / "a.npy", GRIDS)
    os.mkfifo(tmp_path / "b.npy")
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "gone.npy").symlink_to(tmp_path / "nowhere.npy")
    assert list(collect(tmp_path).batches) == ["a.npy"]


def test_a_name_that_is_no_utf8_becomes_one(tmp_path):
    for byte in (b"\xe8", b"\xe9"):
        np.save(tmp_path / os.fsdecode(b"caf" + byte + b".npy"), GRIDS)
    assert list(collect(tmp_path).batches) == [r"caf\xe8.npy", r"caf\xe9.npy"]


def test_names_in_an_archive_only_ever_become_names(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        stream = io.BytesIO()
        np.save(stream, GRIDS)
        archive.writestr("../../evil.npy", stream.getvalue())
    assert len(collect(tmp_path / "a.zip").batches) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


@pytest.mark.parametrize(("name", "content", "reason"), [
    ("gone", None, "is missing, or no file"), ("README.md", b"# words", "holds no shapes that can be read"),
    ("a.off", b"OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 2\n", "is a mesh; import-run makes voxels of it"),
    ("log.txt", b"just words\n", "expected .npy, .* or a mesh\\), and holds no training log"), ("log.csv", b"step,loss_d\n1,2\n", "of which 1 are logs"),
    ("a.npz", b"PK\x05\x06" + bytes(18), "holds no shapes|0 arrays"),
])  # fmt: skip
def test_what_holds_no_grids_is_refused_with_the_reason(tmp_path, name, content, reason):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(VoxelError, match=reason):
        collect(tmp_path / name, readers=READERS)


def test_one_of_several_arrays_is_chosen_by_name(tmp_path):
    np.savez(tmp_path / "a.npz", one=GRIDS, two=~GRIDS)
    with pytest.raises(VoxelError, match="choose one with --array"):
        collect(tmp_path / "a.npz")
    assert np.array_equal(collect(tmp_path / "a.npz", array="two").batches["a.npz"], ~GRIDS)
    with pytest.raises(VoxelError, match="has no array 'three'; it holds one, two"):
        collect(tmp_path / "a.npz", array="three")
