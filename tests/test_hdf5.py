"""HDF5 is read without the HDF5 library: plain data sets, and nothing that reaches out of the file or fills the memory."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest

from gan3d_eval.formats import VoxelError, parse_voxels

h5py = pytest.importorskip("h5py", reason="writes the files; pip install h5py")
GRIDS = np.random.default_rng(0).random((4, 12, 12, 12)) < 0.3
CLAIM = (3000, 64, 64, 64)


def made(fill, matlab=False, **how):
    stream = io.BytesIO()
    with h5py.File(stream, "w", userblock_size=512 if matlab else 0, **how) as file:
        fill(file)
    data = stream.getvalue()
    return b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + data[128:] if matlab else data


def read(data, most=2**32):
    return parse_voxels(io.BytesIO(data), ".mat", most)


@pytest.mark.parametrize("how", [
    {}, {"compression": "gzip", "chunks": (2, 5, 12, 7)}, {"chunks": (1, 12, 12, 12), "shuffle": True, "fletcher32": True, "compression": 9},
    {"chunks": (3, 4, 4, 4), "maxshape": (None, 12, 12, 12)},
])  # fmt: skip
@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64", "int16", ">f4"])
def test_every_plain_way_to_store_an_array_is_read_as_h5py_reads_it(how, dtype):
    array = GRIDS.astype(dtype) * (0.5 if "f" in dtype else 1)
    data = made(lambda f: f.create_dataset("voxels", data=array, **how))
    assert np.array_equal(read(data)["voxels"], array)


def test_matlabs_axes_are_turned_back():
    """MATLAB writes an array (8, 32, 32, 32) as (32, 32, 32, 8)."""
    data = made(lambda f: f.create_dataset("Volume", data=GRIDS.T.astype(np.uint8), compression="gzip"), matlab=True)
    assert np.array_equal(read(data)["Volume"], GRIDS)


def test_the_variable_with_a_known_name_is_taken_alone():
    def fill(f):
        f["other"] = np.ones((3, 3, 3))
        f["instance"] = GRIDS[0].astype(np.int8)
        f["title"] = "chair"
        f.create_group("#refs#")["a"] = np.ones((4, 4, 4))
        f["soft"] = h5py.SoftLink("/other")

    assert list(read(made(fill))) == ["instance"]


def external_link(f):
    f["Volume"] = h5py.ExternalLink("/etc/passwd", "/x")


def external_data(f):
    f.create_dataset("Volume", (12, 12, 12), "u1", external=[("/etc/passwd", 0, h5py.h5f.UNLIMITED)])


def virtual(f):
    layout = h5py.VirtualLayout((12, 12, 12), "u1")
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", (12, 12, 12))
    f.create_virtual_dataset("Volume", layout)


@pytest.mark.parametrize(("fill", "reason"), [
    (external_link, "HDF5|no grid"), (external_data, "in other files"), (virtual, "in other files|cannot be read as HDF5"),
    (lambda f: f.create_dataset("Volume", CLAIM, "u1", chunks=(1, 64, 64, 64), compression="gzip"), "promises 786,432,000 bytes"),
    (lambda f: f.create_dataset("Volume", CLAIM, "f8"), "promises"),
    (lambda f: f.create_dataset("Volume", (12, 12, 12), "u1"), "never written|no grid|promises"),
    (lambda f: f.create_dataset("Volume", data=GRIDS.astype("u1"), compression="lzf"), "filter 32000"),
    (lambda f: f.create_dataset("Volume", data=np.array([b"x"])), "no grid"),
    (lambda f: None, "no grid"),
])  # fmt: skip
def test_what_reaches_out_of_the_file_or_was_never_written_is_refused(fill, reason):
    with pytest.raises(VoxelError, match=reason):
        read(made(fill))


def test_pieces_that_were_never_written_are_no_zeros():
    def fill(f):
        grids = f.create_dataset("Volume", (4, 12, 12, 12), "u1", chunks=(1, 12, 12, 12))
        grids[:2] = 1

    with pytest.raises(VoxelError, match="2 of the 4 pieces"):
        read(made(fill))


def test_a_piece_that_unpacks_to_more_than_it_should_is_not_unpacked_whole():
    """The stored stream is replaced by one of 100 MB; only the piece's own size is taken of it, and the rest is refused."""
    import zlib

    data = bytearray(
        made(
            lambda f: f.create_dataset(
                "Volume", data=np.arange(12**3, dtype="u4").reshape(12, 12, 12), chunks=(12, 12, 12), compression=0
            )
        )
    )
    bomb = zlib.compress(bytes(10**8), 9)
    packed = zlib.compress(np.arange(12**3, dtype="u4").tobytes(), 0)
    at = data.find(packed)
    assert at > 0
    data[at : at + len(bomb)] = bomb if len(bomb) < len(packed) else bomb[: len(packed)]
    import tracemalloc

    tracemalloc.start()
    with contextlib.suppress(VoxelError):
        read(bytes(data))
    assert tracemalloc.get_traced_memory()[1] < 10**7
    tracemalloc.stop()


def test_what_the_reader_does_not_know_is_refused_with_what_to_do():
    data = made(lambda f: f.create_dataset("Volume", data=GRIDS.astype("u1"), chunks=(1, 12, 12, 12)), libver="latest")
    with pytest.raises(VoxelError, match=r"save it again in Matlab with: save\(…, '-v7'\)"):
        read(data)


def test_many_names_of_one_data_set_are_believed_no_further_than_one():
    """A name is 100 bytes of file; what it stands for would be unpacked anew for each."""

    def fill(f):
        f.create_dataset("a0", data=np.zeros((10, 100, 100), "u1"), compression="gzip", chunks=(10, 100, 100))
        for number in range(1, 30):
            f[f"a{number}"] = f["a0"]

    data = made(fill)
    with pytest.raises(VoxelError, match="holds 3,000,000 bytes of numbers, 200,000 may still be read"):
        read(data, most=200_000)
    assert len(read(data, most=3_000_000)) == 30
