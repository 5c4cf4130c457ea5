"""MATLAB 5 files are read as SciPy reads them, and where that would crash, refused."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
import scipy.io

from gan3d_eval.formats import VoxelError, parse_voxels

VALUES = np.random.default_rng(0).random((3, 4, 5)) * 3


def saved(compressed=True, **variables):
    stream = io.BytesIO()
    scipy.io.savemat(stream, variables, do_compression=compressed)
    return stream.getvalue()


def read(data, most=2**32):
    return parse_voxels(io.BytesIO(data), ".mat", most)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8", "?"])
def test_every_numeric_class_is_read_as_scipy_reads_it(dtype, compressed):
    others = {"a": {"x": 1}, "title": "chair", "z": np.ones((2, 2, 2)) * 1j, "cell": np.array([1, "b"], dtype=object)}
    arrays = read(saved(compressed, **others, voxels=VALUES.astype(dtype), n=3.0))
    assert list(arrays) == ["voxels"]
    assert np.array_equal(arrays["voxels"], VALUES.astype(dtype))


def test_doubles_that_matlab_keeps_in_bytes_and_big_endian_files_are_read():
    """By hand: a 2 × 2 × 2 double array, its numbers as uint8."""
    numbers = np.arange(8, dtype=np.uint8).reshape(2, 2, 2, order="F")
    for order, mark in (("<", b"IM"), (">", b"MI")):
        parts = struct.pack(f"{order}IIII", 6, 8, 6, 0) + struct.pack(f"{order}IIiii4x", 5, 12, 2, 2, 2)
        parts += struct.pack(f"{order}II", 1, 6) + b"Volume\0\0" + struct.pack(f"{order}II", 2, 8) + numbers.tobytes(order="F")
        data = (
            b"MATLAB 5.0".ljust(124)
            + struct.pack(f"{order}H", 0x100)
            + mark
            + struct.pack(f"{order}II", 14, len(parts))
            + parts
        )
        assert np.array_equal(read(data)["Volume"], numbers)


def test_real_files_are_read_as_scipy_reads_them(real_data):
    for path in sorted(real_data.rglob("*.mat")):
        (found,) = read(path.read_bytes()).items()
        assert np.array_equal(found[1], scipy.io.loadmat(path)[found[0]])


def test_a_file_of_many_megabytes_of_zeros_in_few_bytes_is_not_unpacked():
    element = (
        struct.pack("<IIII", 6, 8, 8, 0)
        + struct.pack("<IIiii4x", 5, 12, 2000, 2000, 2000)
        + struct.pack("<II", 1, 6)
        + b"Volume\0\0"
    )
    element += struct.pack("<II", 1, 4 * 10**9) + bytes(1000)
    packed = zlib.compress(struct.pack("<II", 14, 4 * 10**9) + element)
    data = b"MATLAB 5.0".ljust(124) + b"\x00\x01IM" + struct.pack("<II", 15, len(packed)) + packed
    with pytest.raises(VoxelError, match="promises 4,000,000,000 bytes of numbers and has"):
        read(data)


@pytest.mark.parametrize(("data", "reason"), [
    (saved(False, Volume=VALUES)[:-300], "truncated"),
    (saved(True, Volume=VALUES)[:-30], "truncated"),
    (saved(False, Volume=VALUES).replace(struct.pack("<iii", 3, 4, 5), struct.pack("<iii", 3, 4, 6)), r"promises \(3, 4, 6\)"),
    (saved(True, title="chair"), "no grid called Volume, .*found nothing of numbers"),
    (saved(True, faces=np.ones((4, 3))), r"found faces \(4, 3\)"),
])  # fmt: skip
def test_what_is_damaged_or_holds_no_grids_is_refused(data, reason):
    with pytest.raises(VoxelError, match=reason):
        read(data)


@pytest.mark.parametrize("compressed", [False, True])
def test_what_may_be_read_holds_for_all_variables_together(compressed):
    data = saved(compressed, **{f"a{number}": np.zeros((10, 10, 10), np.uint8) for number in range(5)})
    with pytest.raises(VoxelError, match="may still be read"):
        read(data, most=1200)
    assert len(read(data, most=6000)) == 5
