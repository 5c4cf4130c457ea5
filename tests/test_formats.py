"""Foreign voxel files: what is written comes back, what is damaged or hostile is refused in words."""

from __future__ import annotations

import gzip
import io
import zipfile

import numpy as np
import pytest
import scipy.io
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from gan3d_eval.formats import MAX_SIDE, VoxelError, parse_voxels, suffix_of, turn_up, write_binvox, write_mat
from gan3d_eval.voxels import MAX_RESOLUTION, pack

WIDE = np.zeros((70, 70, 70), np.bool_)
WIDE[10:60, 3:, 5:] = True  # runs far longer than the 255 that a byte counts


def read(path):
    return parse_voxels(io.BytesIO(path.read_bytes()), suffix_of(path.name))


@given(grid=arrays(np.bool_, st.integers(1, 9).map(lambda d: (d, d, d))), up=st.sampled_from("yz"))
def test_binvox_comes_back_as_it_was(tmp_path_factory, grid, up):
    path = tmp_path_factory.mktemp("b") / "a.binvox"
    write_binvox(path, grid, up)
    back = read(path)[""]
    assert np.array_equal(turn_up(back) if up == "y" else back, grid)


def test_long_runs_are_cut_at_255(tmp_path):
    write_binvox(tmp_path / "a.binvox", WIDE)
    assert np.array_equal(read(tmp_path / "a.binvox")[""], WIDE)
    assert (tmp_path / "a.binvox").stat().st_size < 50_000


def test_binvox_runs_go_along_y_then_z_then_x():
    """By hand: the second voxel of the file is the second along y, the third starts the next z."""
    header = b"#binvox 1\ndim 2 2 2\ntranslate 0 0 0\nscale 1\ndata\n"
    grid = parse_voxels(io.BytesIO(header + bytes([0, 1, 1, 2, 0, 5])), ".binvox")[""]
    assert np.argwhere(grid).tolist() == [[0, 0, 1], [0, 1, 0]]  # x, y, z


def test_a_real_binvox_file_is_reproduced_byte_for_byte(real_data, tmp_path):
    path = next((real_data / "voxels/chair-binvox-64").glob("*.binvox"))
    write_binvox(tmp_path / "a.binvox", read(path)[""])
    body = [p.read_bytes().partition(b"data\n")[2] for p in (path, tmp_path / "a.binvox")]
    assert body[0] == body[1]


def test_mat_holds_the_volume_and_nothing_else(tmp_path, grids):
    """The slides' first files held the whole workspace."""
    write_mat(tmp_path / "a.mat", grids[0])
    content = scipy.io.loadmat(tmp_path / "a.mat")
    assert [name for name in content if not name.startswith("__")] == ["Volume"]
    assert content["Volume"].dtype == np.uint8
    assert np.array_equal(read(tmp_path / "a.mat")["Volume"] > 0, grids[0])


def test_a_sample_file_of_ours_is_grids_or_the_probabilities_kept_with_them(run_copy):
    run_copy.write_samples("binary", occupancy=run_copy.samples().packed)
    assert np.array_equal(read(run_copy.path / "samples/binary.npz")["occupancy"], run_copy.samples().grids())
    soft = np.random.default_rng(0).random((3, 16, 16, 16)).astype(np.float16)
    run_copy.write_samples("soft", occupancy=pack(soft > 0.5), probability=soft)
    assert np.array_equal(read(run_copy.path / "samples/soft.npz")["probability"], soft)
    run_copy.write_samples("odd", occupancy=np.zeros((3, 100), np.uint8))
    with pytest.raises(VoxelError, match="packed grids of 100 bytes, which none of resolution 16 has"):
        read(run_copy.path / "samples/odd.npz")


@pytest.mark.parametrize("name", ["Volume", "instance", "voxels", "anything"])
def test_a_grid_is_found_among_other_variables(tmp_path, grids, name):
    others = {"FV": {"faces": np.ones((4, 3))}, "n": 3.0, "title": "chair"}
    scipy.io.savemat(tmp_path / "a.mat", {name: grids[0].astype(np.int8)} | others)
    assert list(read(tmp_path / "a.mat")) == [name]


def test_real_mat_files_of_both_kinds_are_read(real_data):
    for folder, name, d in (("voxels/chair-mat-30", "instance", 30), ("polygon2voxel-64", "Volume", 64)):
        for path in (real_data / folder).glob("*.mat"):
            (found,) = read(path).items()
            assert found[0] == name
            assert found[1].shape == (d, d, d)


def npy_with_header(shape):
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return stream.getvalue() + b"\0" * 100


def of_nothing(descr, shape):
    """Numbers of no bytes, or rows of no numbers: as many as one likes, and none is missing from the file."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": descr, "fortran_order": False, "shape": shape})
    return stream.getvalue()


def zipped(data):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a.npy", data)
    return stream.getvalue()


def damaged_lzma():
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("a.npy", npy_with_header((100,)))
    return stream.getvalue().replace(stream.getvalue()[60:70], bytes(10))


def npz_bomb():
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", npy_with_header((10**6, 10**6, 10**6)))
    return stream.getvalue()


def pickled():
    stream = io.BytesIO()
    np.save(stream, np.array([{}], dtype=object), allow_pickle=True)
    return stream.getvalue()


@pytest.mark.parametrize(("data", "suffix", "reason"), [
    (b"", ".binvox", "no binvox file"),
    (b"#binvox 1\ndim 2 2\ndata\n\0\x08", ".binvox", "dimensions"),
    (b"#binvox 1\ndim 2 2 99999\ndata\n\0\x08", ".binvox", "from 1 to 512"),
    (b"#binvox 1\ndim 2 2 2\ndata\n\0\x07", ".binvox", "runs for 7 voxels; its header promises 8"),
    (b"#binvox 1\ndim 2 2 two\ndata\n\0\x08", ".binvox", "is damaged, or no .binvox"),
    (b"hello", ".mat", "no MATLAB file of version 6 or 7"),
    (b"MATLAB 7.3 MAT-file" + bytes(600), ".mat", "cannot be read as HDF5 .* save it again in Matlab"),
    (b"hello", ".npy", "is damaged, or no .npy"),
    (b"PK\x03\x04hello", ".npz", "is damaged, or no .npz"),
    (npy_with_header((10**6, 10**6, 10**6)), ".npy", "promises 1,000,000,000,000,000,000 bytes of numbers and has 228"),
    (of_nothing("<U0", (10**12,)), ".npy", r"promises an array of \(1000000000000,\) and 0 bytes each"),
    (zipped(of_nothing("<U0", (10**3,))), ".npz", r"promises an array of \(1000,\) and 0 bytes each"),
    (gzip.compress(of_nothing("|u1", (10**12, 0)), mtime=0), ".npy.gz", r"promises an array of \(1000000000000, 0\) and 1 bytes"),
    (damaged_lzma(), ".npz", "is damaged, or no .npz"),
    (npz_bomb(), ".npz", "GiB of numbers, and memory has"),
    (gzip.compress(npy_with_header((64, 64, 64)), mtime=0), ".npy.gz", "promises 262,144 bytes of numbers and has 93"),
    (b"no gzip", ".npy.gz", "is damaged, or no .npy.gz"),
    (pickled(), ".npy", "allow_pickle=False"),
])  # fmt: skip
def test_what_is_damaged_or_hostile_is_refused_in_words(data, suffix, reason):
    with pytest.raises(VoxelError, match=reason):
        parse_voxels(io.BytesIO(data), suffix)


def test_a_binvox_file_unpacks_to_no_more_than_may_be_read(tmp_path):
    write_binvox(tmp_path / "a.binvox", WIDE)
    with pytest.raises(VoxelError, match="holds 343,000 bytes of numbers, 342,999 may still be read"):
        parse_voxels((tmp_path / "a.binvox").open("rb"), ".binvox", 342_999)


def test_no_file_has_a_side_that_no_dataset_may_have():
    assert MAX_SIDE == MAX_RESOLUTION


@given(st.binary(max_size=300), st.sampled_from([".mat", ".binvox", ".npy", ".npz", ".npy.gz"]), st.booleans())
def test_no_bytes_whatever_raise_anything_but_a_reason(data, suffix, with_magic):
    magic = {".npy": b"\x93NUMPY\x01\x00", ".npz": b"PK\x03\x04", ".binvox": b"#binvox 1\ndim 2 2 2\ndata\n", ".mat": b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM"}  # fmt: skip
    if with_magic:
        data = magic.get(suffix, b"") + data
    try:
        arrays = parse_voxels(io.BytesIO(data), suffix)
    except VoxelError:
        return
    assert all(isinstance(array, np.ndarray) for array in arrays.values())


@pytest.mark.parametrize(("name", "suffix"), [("a.npy.gz", ".npy.gz"), ("A.OFF", ".off"), ("a.b.MAT", ".mat"), ("a", "")])
def test_the_suffix_of_a_name(name, suffix):
    assert suffix_of(name) == suffix
