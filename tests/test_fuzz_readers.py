"""Whatever a stranger's file holds, only our own errors come out, soon, and memory stays bounded.

Valid files of every format are damaged with some knowledge of their structure: numbers in them are set to those that break
programs, parts are cut out, doubled and moved, and what stands in a packed or framed format is damaged before it is packed, so
that checksums hold. `-m slow` tries more than 100,000 files.
"""

from __future__ import annotations

import faulthandler
import gc
import gzip
import io
import json
import struct
import sys
import time
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch
import trimesh
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gan3d_eval.check_run import check_run
from gan3d_eval.files import Gan3dError
from gan3d_eval.foreign import Readers, collect
from gan3d_eval.formats import parse_voxels, write_binvox
from gan3d_eval.logs import read_log
from gan3d_eval.run_dir import RunDir
from gan3d_eval.trust import MOST_NUMBERS
from gan3d_model.data.meshes import parse_mesh
from gan3d_model.foreign_layers import read_players
from gan3d_model.players import read_checkpoint
from gan3d_model.tensors import parse_grids

SECONDS, MEMORY = 5.0, 2**30
GRIDS = np.random.default_rng(0).random((3, 8, 8, 8)) < 0.3
NUMBERS = (0, 1, 2, 3, 127, 128, 255, 256, 4095, 65535, 65536, 10**6, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1)
TOKENS = (b"0", b"-1", b"1e999", b"nan", b"99999999999999999999", b"2147483648", b"", b"\0", b"[" * 400, b"{}", b"null", b"x", b",", b"\n", b"\xff")  # fmt: skip


def saved(write):
    stream = io.BytesIO()
    write(stream)
    return stream.getvalue()


def npy(array=GRIDS):
    return saved(lambda s: np.save(s, array))


def hdf5(matlab, **how):
    h5py = pytest.importorskip("h5py", reason="writes the valid HDF5 files; pip install h5py")
    stream = io.BytesIO()
    with h5py.File(stream, "w", userblock_size=512 if matlab else 0) as file:
        file.create_dataset("Volume", data=GRIDS.astype(np.uint8).T if matlab else GRIDS.astype(np.uint8), **how)
        file["Volume"].attrs["MATLAB_class"] = np.bytes_("uint8")
        file.create_group("#refs#")["a"] = np.arange(4.0)
        file["other"] = np.ones((2, 3))
    data = stream.getvalue()
    return b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + data[128:] if matlab else data


def torch_file(content, legacy=False):
    return saved(lambda s: torch.save(content, s, _use_new_zipfile_serialization=not legacy))


def state_dict():
    from test_import_weights import port

    return port(32, 1, 1, latent=3).state_dict()


def events():
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary

    made = [Event(step=i, summary=Summary(value=[Summary.Value(tag="loss/loss_D", simple_value=0.5 * i)])) for i in range(5)]
    return [event.SerializeToString() for event in made]


def framed(records):
    return b"".join(struct.pack("<Q", len(r)) + bytes(4) + r + bytes(4) for r in records)


def packed_mat(element):
    body = zlib.compress(element)
    return b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM" + struct.pack("<II", 15, len(body)) + body


def zipped(files, deflated=True):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED if deflated else zipfile.ZIP_STORED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return stream.getvalue()


def unzipped(data):
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def mesh(kind):
    data = trimesh.creation.box().export(file_type=kind)
    return data.encode() if isinstance(data, str) else data


def repacked(data):
    """The parts of a zip of PyTorch that may be damaged, and what puts one back."""
    files = unzipped(data)
    return [
        (part, lambda new, name=name: zipped(files | {name: new}, deflated=False))
        for name, part in files.items()
        if len(part) > 8
    ]


def plain(data):
    return (data, bytes)


def run_files(tmp):
    run = RunDir.create(tmp / "valid", json.loads(META))
    run.write_samples("final", occupancy=np.packbits(GRIDS.reshape(3, -1), axis=1), names=np.array(["a", "b", "c"]))
    return {"run.json": META, "metrics.csv": CSV, "config.json": b'{"resolution": 8, "prior": "uniform"}',
            "samples/final.npz": (run.path / "samples/final.npz").read_bytes(), "results/nn-check.json": RESULT}  # fmt: skip


META = json.dumps({
    "format": 1, "run_id": "a", "category": "a", "resolution": 8, "status": "imported", "created": "2026-01-01T00:00:00Z",
    "seed": None, "dataset": {"name": "a", "sha256": "b", "n": 3}, "grid": {"axes": "xyz"}, "prior": None, "producer": {},
    "software": {}, "command": [],
}).encode()  # fmt: skip
CSV = b"step,epoch,loss_d,loss_g\n1,0.5,1.2,0.7\n2,1.0,1.1,0.8\n3,1.5,nan,inf\n"
RESULT = json.dumps({
    "format": 1, "status": "ok", "verb": "nn-check", "protocol": "p", "inputs": {}, "options": {}, "values": {"a": 0.5},
    "intervals": {}, "notes": [], "absent": {}, "seed": 0, "software": {}, "created": "2026-01-01T00:00:00Z", "seconds": 1.0,
}).encode()  # fmt: skip
LOG = b"Iter-100; , D_loss : 0.512, G_loss : 2.31, D_acu : 0.75\nIter-200; , D_loss : 0.4, G_loss : 3.1, D_acu : 0.8\n"


def sources(tmp):
    """Of each format: valid files as (what is damaged, what packs it again), and the reader."""
    write_binvox(tmp / "a.binvox", GRIDS[0])
    loose = saved(lambda s: scipy.io.savemat(s, {"Volume": GRIDS.astype(np.uint8), "FV": {"x": np.ones(3)}}))
    alone = saved(lambda s: scipy.io.savemat(s, {"Volume": GRIDS.astype(np.uint8)}))
    from test_torch7 import network, written

    voxels = {
        "npy": (".npy", [plain(npy()), plain(npy(GRIDS.astype(np.float32)))]),
        "npz": (".npz", [plain(zipped({"a.npy": npy()})), (npy(), lambda d: zipped({"a.npy": d, "b.npy": npy(np.arange(3))}))]),
        "npy.gz": (".npy.gz", [plain(gzip.compress(npy())), (npy(), lambda d: gzip.compress(d, 1))]),
        "mat5": (".mat", [plain(loose), (alone[128:], packed_mat)]),
        "mat73": (".mat", [plain(hdf5(True)), plain(hdf5(True, compression="gzip", chunks=(4, 4, 8, 1))), plain(hdf5(False, shuffle=True, fletcher32=True, chunks=(1, 8, 8, 8)))]),
        "binvox": (".binvox", [plain((tmp / "a.binvox").read_bytes())]),
    }  # fmt: skip
    found = {
        name: (parts, lambda data, s=suffix: parse_voxels(io.BytesIO(data), s, MOST_NUMBERS))
        for name, (suffix, parts) in voxels.items()
    }
    state, samples = torch_file({"G": state_dict(), "step": 3}), torch_file({"samples": torch.from_numpy(GRIDS)})
    found["pt"] = ([plain(samples), *repacked(samples)], parse_grids)
    found["weights"] = (
        [plain(state), *repacked(state)[:3], plain(torch_file(state_dict(), legacy=True))],
        lambda d: read_players(d, False),
    )
    found["t7"] = ([plain(written(network()))], lambda d: read_players(d, True))
    found["events"] = (
        [plain(framed(events())), *((r, lambda d: framed([*events()[:2], d])) for r in events()[2:])],
        lambda d: read_log(d, True),
    )
    found["log"] = ([plain(CSV), plain(LOG)], lambda d: read_log(d, False))
    for kind in ("off", "obj", "ply", "stl", "glb"):
        found[kind] = ([plain(mesh(kind))], lambda d, k=kind: parse_mesh(d, f".{k}"))
    files = run_files(tmp)

    def run_with(name):
        return lambda data: judged_run(tmp / "run", files | {name: data})

    for name in files:
        found[name] = ([plain(files[name])], run_with(name))
    found["archive"] = (
        [plain(zipped({"a/1.npy": npy(), "a/G_1.pt": state, "log.csv": CSV, "a.pkl": b"\x80\x04N."}))],
        lambda d: collected(tmp, d),
    )
    content = {"format": 3, "step": 1, "config": {}, "recent": torch.zeros(1)}
    found["checkpoint"] = ([plain(torch_file(content))], lambda d: checkpoint(tmp, d))
    return found


def judged_run(path, files):
    """Every file of a run directory is read, as check-run and the verbs do."""
    for name, data in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    check_run(path)
    run = RunDir.open(path)
    for read in (run.samples, run.probabilities, run.metrics, run.config, run.results, run.checkpoints):
        read()


def collected(tmp, data):
    (tmp / "a.zip").write_bytes(data)
    collect(tmp / "a.zip", readers=Readers(parse_grids))


def checkpoint(tmp, data):
    (tmp / "000001.pt").write_bytes(data)
    read_checkpoint(tmp / "000001.pt", torch.device("cpu"))


def damaged(data, edits):
    """Apply edits (kind, place in [0, 1], number, length) to bytes."""
    out = bytearray(data)
    for kind, place, number, length in edits:
        if not out:
            break
        at = min(int(place * len(out)), len(out) - 1)
        if kind == "bit":
            out[at] ^= 1 << number % 8
        elif kind == "byte":
            out[at] = number % 256
        elif kind == "number":
            width = (1, 2, 4, 8)[length % 4]
            out[at : at + width] = (NUMBERS[number % len(NUMBERS)] % 2 ** (8 * width)).to_bytes(
                width, "little" if number % 3 else "big"
            )
        elif kind == "cut":
            del out[at : at + length]
        elif kind == "end":
            del out[at:]
        elif kind == "double":
            out[at:at] = out[at : at + length]
        elif kind == "move":
            out[at : at + length] = out[number % len(out) :][:length]
        else:
            out[at : at + length % 8] = TOKENS[number % len(TOKENS)]
    return bytes(out)


KINDS = ("bit", "byte", "number", "number", "number", "cut", "end", "double", "move", "token")
EDITS = st.lists(
    st.tuples(st.sampled_from(KINDS), st.floats(0, 1, exclude_max=True) | st.floats(0, 0.05), st.integers(0, 2**16), st.integers(1, 64)),
    min_size=1, max_size=6,
)  # fmt: skip
FORMATS = (
    "npy npz npy.gz mat5 mat73 binvox pt weights t7 events log off obj ply stl glb run.json metrics.csv config.json samples/final.npz "
    "results/nn-check.json archive checkpoint"
).split()


class Meter:
    """What the worst case took."""

    def __init__(self):
        self.cases, self.seconds, self.memory, self.accepted = 0, 0.0, 0, 0

    def run(self, reader, data):
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        before, begin = resident("VmRSS"), time.process_time()  # not what a busy machine makes it wait
        faulthandler.dump_traceback_later(60, exit=True, file=sys.__stderr__)  # a hang in C hears no signal
        try:
            reader(data)
            self.accepted += 1
        except Gan3dError:
            pass
        finally:
            faulthandler.cancel_dump_traceback_later()
        took, grown = time.process_time() - begin, resident("VmHWM") - before
        self.cases, self.seconds, self.memory = self.cases + 1, max(self.seconds, took), max(self.memory, grown)
        assert took <= SECONDS, f"{took:.1f} s"
        assert grown <= MEMORY, f"{grown / 2**20:.0f} MiB"


def resident(key):
    """Bytes of memory that are in use (VmRSS), or the most that were (VmHWM)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(key))


def fuzz(parts, reader, cases):
    meter = Meter()

    @settings(max_examples=cases, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(st.integers(0, len(parts) - 1), EDITS)
    def try_one(which, edits):
        inner, pack = parts[which]
        meter.run(reader, pack(damaged(inner, edits)))

    try_one()
    gc.collect()
    return meter


@pytest.fixture(scope="module")
def formats(tmp_path_factory):
    return sources(tmp_path_factory.mktemp("fuzz"))


def test_every_format_is_listed(formats):
    assert sorted(formats) == sorted(FORMATS)


@pytest.mark.parametrize("name", FORMATS)
def test_undamaged_files_are_read(formats, name):
    (parts, reader), meter = formats[name], Meter()
    for inner, pack in parts:
        meter.run(reader, pack(inner))
    assert meter.accepted == len(parts)


@pytest.mark.parametrize("name", FORMATS)
def test_damaged_files_are_refused_in_our_own_words(formats, name):
    assert fuzz(*formats[name], cases=40).cases > 0


@pytest.mark.slow
def test_a_hundred_thousand_damaged_files_neither_crash_nor_hang_nor_fill_the_memory(formats, capsys):
    begin, lines = time.perf_counter(), []
    meters = {name: fuzz(*formats[name], cases=4600) for name in FORMATS}
    for name, m in meters.items():
        most = f"slowest {m.seconds:.2f} s, most memory {m.memory / 2**20:.0f} MiB"
        lines.append(f"{name:22} {m.cases:6} cases, {m.accepted:6} read, {most}")
    total = sum(meter.cases for meter in meters.values())
    with capsys.disabled():
        sys.stdout.write("\n".join(["", *lines, f"{total} cases in {time.perf_counter() - begin:.0f} s", ""]))
    assert total >= 100_000
