"""Download: what is wrong never takes the archive's name, what came is never lost, and nobody is believed.

A server on this machine plays the official address and its mirrors, with all their faults; no test leaves the machine.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import threading
import time
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import numpy as np
import pytest

from gan3d_eval.voxels import VoxelError
from gan3d_model.data import download as module
from gan3d_model.data.download import ARCHIVES, Archive, DownloadError, download
from gan3d_model.data.parts import alone


def packed(n_train=3, n_test=2):
    """A small archive in the layout of the real ones, with what macOS adds to them."""
    buffer = io.BytesIO()
    rng = np.random.default_rng(0)
    with zipfile.ZipFile(buffer, "w") as content:
        content.writestr("ModelNet10/README.txt", "for research")
        for split, n in (("train", n_train), ("test", n_test)):
            for i in range(n):
                content.writestr(f"ModelNet10/bed/{split}/bed_{i:04d}.off", rng.bytes(20_000))
            content.writestr(f"ModelNet10/bed/{split}/.DS_Store", "")
            content.writestr(f"ModelNet10/bed/{split}/._bed_0000.off", "")
            content.writestr(f"__MACOSX/ModelNet10/bed/{split}/bed_0000.off", "")
    return buffer.getvalue()


def damaged_lzma():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_LZMA) as content:
        content.writestr("ModelNet10/bed/train/bed_0000.off", bytes(1000))
    data = buffer.getvalue()
    return data[:70] + b"\xff" * 10 + data[80:]


GOOD = packed()
DAMAGED = GOOD[:9_000] + bytes([GOOD[9_000] ^ 1]) + GOOD[9_001:]
SHA256 = hashlib.sha256(GOOD).hexdigest()
TAG = '"first"'


def answer(
    content=GOOD, tag=TAG, cut=None, announce=0, ranges=True, always_rest=False, shift=0, total=0, length=True, stall=0,
    kind="application/zip", status=200,
):  # fmt: skip
    """How to answer one request; without arguments as a good server does."""

    def handle(request):
        first, wanted = 0, request.headers.get("Range")
        unchanged = always_rest or request.headers.get("If-Range", tag) == tag
        if wanted and ranges and unchanged:
            first = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if first >= len(content):
                return request.send_error(416)
        body = content[first + shift if first else 0 :]
        request.send_response(206 if first else status)
        request.send_header("Content-Type", kind)
        if tag:
            request.send_header("ETag", tag)
        if length:
            request.send_header("Content-Length", str(len(body) + announce))
        if first:
            request.send_header("Content-Range", f"bytes {first + shift}-{len(content) - 1}/{len(content) + total}")
        request.end_headers()
        request.wfile.write(body[:cut])
        time.sleep(stall)
        return None

    return handle


def error(status):
    return lambda request: request.send_error(status)


def redirect(url):
    def handle(request):
        request.send_response(302)
        request.send_header("Location", url)
        request.end_headers()

    return handle


@pytest.fixture
def server(monkeypatch):
    """Answers request after request as `answers[path]` says (the last one for good), and remembers what it was asked."""
    state = SimpleNamespace(answers={}, asked=[])

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            state.asked.append((self.path, self.headers.get("Range"), self.headers.get("If-Range")))
            left = state.answers[self.path]
            (left.pop(0) if len(left) > 1 else left[0])(self)

        def log_message(self, *arguments):
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.005})
    thread.start()
    state.url = f"http://127.0.0.1:{http.server_port}"
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    yield state
    http.shutdown()
    http.server_close()
    thread.join()


@pytest.fixture
def get(server, tmp_path, monkeypatch):
    """Call `download` for a tiny archive: `get(answers of the official address, mirror=its answers, size=…, **options)`."""
    monkeypatch.setattr(module, "PAUSE", 0)
    monkeypatch.setattr(module, "SPARE", 0)
    monkeypatch.setattr(module, "BLOCK", 8192)
    monkeypatch.setattr(module, "TRIES", 3)
    folder = tmp_path / "deep" / "data"

    def call(*official, mirror=(), size=None, known=None, **options):
        server.answers = {"/official": list(official) or [answer()], "/mirror": list(mirror)}
        archive = Archive("Tiny.zip", (f"{server.url}/official",), size, known, None, (3, 2))
        monkeypatch.setitem(ARCHIVES, "tiny", archive)
        server.asked.clear()
        call.said.clear()
        mirrors = [f"{server.url}/mirror"] if mirror else []
        return download("tiny", folder, **{"mirrors": mirrors, "say": call.said.append, "timeout": 5.0} | options)

    def refused(*official, **options):
        with pytest.raises(DownloadError) as caught:
            call(*official, **options)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    call.refused, call.folder, call.said = refused, folder, []
    call.left = lambda: sorted(path.name for path in folder.iterdir())
    call.part = folder / "Tiny.zip.part"
    return call


# --- the good case -------------------------------------------------------------------------------------------------------


def test_a_whole_archive_arrives_with_its_notice_first_and_its_checksum_told(get):
    path = get()
    assert path == get.folder / "Tiny.zip"
    assert path.read_bytes() == GOOD
    assert get.left() == ["Tiny.zip"]
    assert "academic research only" in get.said[0]
    assert "CVPR 2015" in get.said[0]
    assert any(SHA256 in line for line in get.said)


def test_an_archive_that_is_there_is_checked_without_the_network(get, server):
    get()
    assert get() == get.folder / "Tiny.zip"
    assert server.asked == []
    assert any(SHA256 in line for line in get.said)


def test_the_published_archives_are_described_in_full():
    for archive in ARCHIVES.values():
        assert all(module.WEB.fullmatch(url) and url.endswith(archive.file) for url in archive.urls)
        assert len(bytes.fromhex(archive.sha256)) == 32
        assert archive.sha256 == archive.sha256.lower()
    assert sum(ARCHIVES["modelnet10"].meshes) == 4_899
    assert sum(ARCHIVES["modelnet40"].meshes) == 12_311


@pytest.mark.parametrize(("name", "split"), [
    ("ModelNet10/bed/train/bed_0001.off", "train"),
    ("ModelNet10/night_stand/test/night_stand_0201.off", "test"),
    ("bed/test/bed_0001.off", "test"),
    ("__MACOSX/ModelNet10/bed/train/bed_0001.off", None),
    ("ModelNet10/bed/train/._bed_0001.off", None),
    ("ModelNet10/bed/train/", None),
    ("ModelNet10/bed/bed_0001.off", None),
    ("ModelNet10/bed/train/notes.txt", None),
])  # fmt: skip
def test_meshes_are_counted_by_their_split_and_nothing_else_is(name, split):
    found = module.MESH.fullmatch(name)
    assert (found and found[1]) == split


def test_progress_tells_how_much_came_and_how_long_it_will_take(get, monkeypatch):
    monkeypatch.setattr(module, "REPORT_EVERY", 0.0)
    get()
    assert sum("0 MB of 0 MB, 0 min 0 s left" in line for line in get.said) > 3


# --- cuts and continuing -------------------------------------------------------------------------------------------------


def test_a_cut_connection_is_continued_where_it_ended(get, server):
    assert get(answer(cut=30_000), answer()).read_bytes() == GOOD
    assert server.asked == [("/official", None, None), ("/official", "bytes=30000-", TAG)]
    assert get.left() == ["Tiny.zip"]
    assert any("the connection ended at 30,000 of" in line and "trying again (2 of 3)" in line for line in get.said)


def test_a_silent_server_counts_as_a_cut(get, server):
    assert get(answer(cut=30_000, stall=0.3), answer(), timeout=0.1).read_bytes() == GOOD
    assert server.asked[1][1] == "bytes=30000-"
    assert any("timed out" in line for line in get.said)


def test_a_busy_server_is_asked_again(get, server):
    assert get(error(503), error(429), answer()).read_bytes() == GOOD
    assert len(server.asked) == 3


def test_each_try_waits_longer_than_the_one_before(get, monkeypatch):
    waited = []
    monkeypatch.setattr(module, "PAUSE", 1.0)
    monkeypatch.setattr(module, "TRIES", 4)
    monkeypatch.setattr(time, "sleep", waited.append)
    get.refused(error(503))
    assert [pause for pause in waited if pause] == [1.0, 2.0, 4.0]


def test_two_calls_do_not_fill_one_part(get, server):
    with alone(get.folder / "Tiny.zip"), pytest.raises(VoxelError, match=r"Tiny.zip is being made by another process"):
        get(answer())
    assert server.asked == []


def test_a_folder_that_cannot_be_written_is_not_tried_again(get, server, monkeypatch):
    def forbidden(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(module, "atomic_file", forbidden)
    text = get.refused()
    assert "Permission denied" in text
    assert str(get.folder) in text
    assert len(server.asked) == 1


def test_after_many_cuts_the_part_is_kept_and_the_same_command_continues(get, server):
    text = get.refused(answer(cut=10_000))
    assert len(server.asked) == 3
    assert "the connection ended at 30,000 of" in text
    assert f"{get.part} keeps" in text
    assert "the same command continues" in text
    assert get.part.read_bytes() == GOOD[:30_000]
    assert get.left() == ["Tiny.zip.part", "Tiny.zip.part.json"]
    assert json.loads((get.folder / "Tiny.zip.part.json").read_text()) == {
        "url": f"{server.url}/official", "validator": TAG, "total": len(GOOD),
    }  # fmt: skip
    assert get().read_bytes() == GOOD
    assert server.asked == [("/official", "bytes=30000-", TAG)]
    assert get.left() == ["Tiny.zip"]


def test_an_interrupted_download_keeps_what_came(get, server, monkeypatch):
    monkeypatch.setattr(module, "REPORT_EVERY", 0.0)

    def interrupt(line):
        if " left" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        get(say=interrupt)
    came = get.part.stat().st_size
    assert 0 < came < len(GOOD)
    assert get().read_bytes() == GOOD
    assert server.asked == [("/official", f"bytes={came}-", TAG)]


def test_a_part_that_was_left_while_it_was_checked_is_only_checked(get, server):
    get.refused(answer(cut=10_000))
    get.part.write_bytes(GOOD)
    assert get().read_bytes() == GOOD
    assert server.asked == []
    assert get.left() == ["Tiny.zip"]


@pytest.mark.parametrize("changed", [
    answer(tag='"second"'),  # a good server sends the whole file of now
    answer(ranges=False),
], ids=["another tag", "no ranges"])  # fmt: skip
def test_the_whole_file_replaces_a_part(get, changed):
    assert get(answer(content=b"x" * len(GOOD), cut=30_000), changed).read_bytes() == GOOD
    assert get.left() == ["Tiny.zip"]


@pytest.mark.parametrize("rest", [
    answer(tag='"second"', always_rest=True),
    answer(shift=5),
    answer(total=1),
], ids=["of another tag", "from elsewhere", "of another length"])  # fmt: skip
def test_a_rest_that_does_not_fit_begins_the_file_again(get, server, rest):
    assert get(answer(cut=30_000), rest, answer()).read_bytes() == GOOD
    assert [wanted for _, wanted, _ in server.asked] == [None, "bytes=30000-", None]
    assert any("no longer the one that was begun" in line for line in get.said)


@pytest.mark.parametrize("tag", ["", 'W/"first"'], ids=["no tag", "weak tag"])
def test_without_a_tag_that_promises_the_same_bytes_the_length_alone_decides(get, server, tag):
    assert get(answer(tag=tag, cut=30_000), answer(tag=tag)).read_bytes() == GOOD
    assert server.asked[1] == ("/official", "bytes=30000-", None)


def test_a_note_without_its_part_is_nothing_to_continue(get, server):
    get.refused(answer(cut=10_000))
    get.part.unlink()
    assert get().read_bytes() == GOOD
    assert server.asked == [("/official", None, None)]


@pytest.mark.parametrize("note", ["", "[]", "{}", None], ids=["empty", "list", "nothing known", "missing"])
def test_a_part_without_a_sound_note_is_begun_again(get, server, note):
    get.folder.mkdir(parents=True)
    get.part.write_bytes(b"x" * 100)
    if note is not None:
        (get.folder / "Tiny.zip.part.json").write_text(note)
    assert get().read_bytes() == GOOD
    assert server.asked == [("/official", None, None)]
    assert get.left() == ["Tiny.zip"]


# --- several addresses ---------------------------------------------------------------------------------------------------


def test_mirrors_go_first_and_the_official_address_helps_out(get, server):
    assert get(mirror=[error(404)]).read_bytes() == GOOD
    assert [path for path, _, _ in server.asked] == ["/mirror", "/official"]
    assert any("/mirror: HTTP Error 404" in line and line.endswith("/official") for line in get.said)


def test_the_address_that_a_part_came_from_goes_before_the_mirrors(get, server):
    get.refused(answer(cut=10_000))
    get(mirror=[answer()])
    assert server.asked == [("/official", "bytes=30000-", TAG)]


def test_a_part_is_not_continued_from_another_address(get, server):
    get(answer(), mirror=[answer(content=b"x" * len(GOOD), cut=10_000)])
    assert server.asked[-1] == ("/official", None, None)
    assert (get.folder / "Tiny.zip").read_bytes() == GOOD


def test_an_address_that_has_nothing_leaves_the_part_of_another(get):
    get.refused(answer(cut=10_000))
    text = get.refused(answer(cut=10_000), mirror=[error(404)])
    assert "/mirror: HTTP Error 404" in text
    assert get.part.read_bytes() == GOOD[:60_000]


def test_no_server_at_all_is_one_line_with_advice(get):
    text = get.refused(answer(), mirrors=["http://127.0.0.1:1/x.zip"], known="0" * 64)
    assert any("127.0.0.1:1" in line and "Connection refused" in line for line in get.said)
    assert "--mirror" in text
    assert get.left() == []


def test_redirections_are_followed_within_the_web_only(get, server):
    assert get(redirect(f"{server.url}/mirror"), mirror=[answer()], mirrors=[]).read_bytes() == GOOD


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://127.0.0.1:1/x.zip"])
def test_redirections_to_anything_else_are_refused(get, url):
    text = get.refused(redirect(url))
    assert url.split(":")[0] in text
    assert get.left() == []


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "ftp://host/x.zip", "ModelNet10.zip", "http://", "http://a b", "http://[", ""]
)
def test_a_mirror_that_is_no_address_is_refused_before_anything_is_asked(get, server, url):
    assert "expected an address that begins with http" in get.refused(mirrors=[url])
    assert server.asked == []
    assert not get.folder.exists()


# --- lies and garbage ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("wrong", "options", "reason"), [
    (answer(content=b"<html>log in</html>", kind="text/html"), {}, "found text/html with status 200"),
    (answer(content=b"no zip at all"), {}, "is no whole zip"),
    (answer(content=packed(3, 1)), {}, "holds 3 train + 1 test meshes, expected 3 train + 2 test"),
    (answer(content=DAMAGED), {}, "bed_0000.off does not match its CRC"),
    (answer(content=damaged_lzma()), {}, "is no whole zip (Corrupt input data)"),
    (answer(content=DAMAGED), {"known": SHA256}, f"expected {SHA256}"),
    (answer(content=GOOD[:-9]), {"size": len(GOOD)}, f"announces {len(GOOD) - 9:,} bytes, expected {len(GOOD):,}"),
    (answer(announce=-9), {}, "is no whole zip"),
    (answer(announce=9), {}, f"found less than the {len(GOOD) + 9} bytes that it announced"),
    (answer(length=False), {}, "found no announced length"),
    (answer(status=203), {}, "status 203"),
], ids=["web page", "no zip", "meshes", "CRC", "LZMA", "checksum", "size", "too short", "too long", "no length", "status"])  # fmt: skip
def test_what_is_wrong_is_refused_in_one_line_and_leaves_nothing(get, wrong, options, reason):
    assert reason in get.refused(wrong, **options)
    assert get.left() == []
    get(mirror=[wrong], **options | {"known": SHA256, "size": len(GOOD)})
    assert (get.folder / "Tiny.zip").read_bytes() == GOOD


def test_a_web_page_in_between_does_not_cost_the_part(get):
    get.refused(answer(cut=10_000))
    assert "text/html" in get.refused(answer(content=b"<html>", tag="", kind="text/html"))
    assert get.part.read_bytes() == GOOD[:30_000]
    assert get().read_bytes() == GOOD


def test_never_more_is_written_than_the_known_size(get):
    assert get(answer(content=GOOD + b"x" * 500_000, length=False), size=len(GOOD)).read_bytes() == GOOD


# --- disk and checksums --------------------------------------------------------------------------------------------------


def test_a_disk_that_is_too_small_is_told_before_anything_is_written(get, monkeypatch):
    monkeypatch.setattr(module, "SPARE", 2_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1_000_000))
    assert "MB, the disk has 1.0 MB free; free some, or choose another folder" in get.refused()
    assert get.left() == []


def test_a_disk_that_fills_up_keeps_the_part(get, monkeypatch):
    get.refused(answer(cut=10_000))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=len(GOOD) - 30_001))
    assert "the disk has 0.1 MB free; free some" in get.refused()
    assert get.part.read_bytes() == GOOD[:30_000]
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=len(GOOD) - 30_000))
    assert get().read_bytes() == GOOD


def test_a_checksum_of_ones_own_stands_in_place_of_what_is_published(get):
    assert get(size=7, known="0" * 64, sha256=SHA256.upper()).read_bytes() == GOOD
    assert "announces" in get.refused(size=7, known=SHA256, sha256=SHA256.upper(), force=True)
    text = get.refused(sha256="1" * 64)
    assert SHA256 in text
    assert "1" * 64 in text
    assert "pass --force" in text
    assert "expected 64 hexadecimal digits" in get.refused(sha256="abc")
    assert get.left() == ["Tiny.zip"]


def test_a_wrong_file_that_is_there_is_replaced_only_when_told_and_only_by_a_right_one(get, server):
    get()
    (get.folder / "Tiny.zip").write_bytes(DAMAGED)
    text = get.refused()
    assert f"{get.folder / 'Tiny.zip'} is no whole zip" in text
    assert "pass --force" in text
    assert server.asked == []
    get.refused(error(404), force=True)
    assert (get.folder / "Tiny.zip").read_bytes() == DAMAGED
    assert get(force=True).read_bytes() == GOOD
    assert len(server.asked) == 1
