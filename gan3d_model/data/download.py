"""Fetch ModelNet's archives, resumably, and believe nothing that is not checked.

An archive is never unpacked (`prepare` reads the zip in place). It grows as `<name>.zip.part`, with a note beside it that
says where it comes from, and takes its name only after its size, its SHA-256 and its content are found right.
"""

from __future__ import annotations

import dataclasses
import json
import lzma
import re
import time
import zipfile
import zlib
from collections.abc import Callable, Sequence
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Any
from urllib.request import FTPHandler, Request, build_opener

from gan3d_eval.run_dir import Gan3dError, atomic_file
from gan3d_eval.voxels import check_space, file_hash
from gan3d_model.data.parts import alone

__all__ = ["ARCHIVES", "Archive", "DownloadError", "download"]

BLOCK, SPARE = 1 << 20, 100_000_000  # bytes asked of the connection at once; bytes that stay free on the disk
TRIES, PAUSE, REPORT_EVERY = 5, 1.0, 5.0  # connections per address; seconds before the second, then doubled; between reports
WEB = re.compile(r"https?://[!-Z^-~]+", re.IGNORECASE)
MESH = re.compile(r"(?!__MACOSX/).*/(train|test)/[^/.][^/]*\.off")  # macOS adds files of its own that end in .off as well


class DownloadError(Gan3dError):
    """An archive that could not be had, or is not what it should be."""


class _Refused(Exception):
    """Why an address is given up; the next one may do better."""


class _NoFtp(FTPHandler):
    """Of what redirections may lead to, urllib itself refuses all but http, https and ftp."""

    def ftp_open(self, req: Request) -> Any:
        raise _Refused(f"leads to {req.full_url}, expected http or https")


@dataclasses.dataclass(frozen=True)
class Archive:
    """What is known of an archive: `size` and (about) `unpacked` in bytes, `meshes` to train on and to test on."""

    file: str
    urls: tuple[str, ...]
    size: int | None
    sha256: str | None
    unpacked: int | None
    meshes: tuple[int, int]
    notice: str = "for academic research only; copyright of the models: their creators; cite Wu et al., 3D ShapeNets, CVPR 2015"


# Sizes and checksums are those of TensorFlow Datasets (url_checksums/modelnet10.txt and modelnet40.txt); Keras's PointNet
# example shows the same size at today's address of ModelNet10. Unpacked: according to github.com/SomTambe/ModelNet10-dataset.
ARCHIVES = {
    "modelnet10": Archive("ModelNet10.zip", ("http://3dvision.princeton.edu/projects/2014/3DShapeNets/ModelNet10.zip",),
        473_402_300, "9d8679435fc07d1d26f13009878db164a7aa8ea5e7ea3c8880e42794b7307d51", 2_200_000_000, (3991, 908)),
    "modelnet40": Archive("ModelNet40.zip", ("http://modelnet.cs.princeton.edu/ModelNet40.zip",),
        2_039_180_837, "42dc3e656932e387f554e25a4eb2cc0e1a1bd3ab54606e2a9eae444c60e536ac", None, (9843, 2468)),
}  # fmt: skip


def download(
    name: str, folder: Path, mirrors: Sequence[str] = (), sha256: str | None = None, force: bool = False,
    say: Callable[[str], None] = print, timeout: float = 30.0,
) -> Path:  # fmt: skip
    """Bring the archive `name` into `folder`, or check the one that is there, and return its path.

    `mirrors`, addresses of the file itself, go before the official ones; `sha256` stands in place of the published size and
    checksum; `force` replaces a file that is there, once the new one is found right.
    """
    if wrong := [url for url in mirrors if not WEB.fullmatch(url)]:
        raise DownloadError(f"{wrong[0]} is no mirror; expected an address that begins with http:// or https://")
    archive = ARCHIVES[name]
    if sha256 is not None and sha256.lower() != archive.sha256:
        if not re.fullmatch("[0-9a-fA-F]{64}", sha256):
            raise DownloadError(f"{sha256} is no SHA-256; expected 64 hexadecimal digits")
        archive = dataclasses.replace(archive, sha256=sha256.lower(), size=None)  # another file, of whatever size
    say(f"{archive.file}: {archive.notice}")
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / archive.file
    if force or not target.exists():
        with alone(target):
            _fetch([*mirrors, *archive.urls], target, archive, say, timeout)
    elif fault := _fault(target, archive, say):
        raise DownloadError(f"{target} {fault}; pass --force to download it again")
    say(f"{target} is whole; prepare reads it as it is" + (f", sparing {_mb(archive.unpacked)}" if archive.unpacked else ""))
    return target


def _fetch(urls: list[str], target: Path, archive: Archive, say: Callable[[str], None], timeout: float) -> None:
    """Put the file in its place from the first address that gives the right one."""
    part = target.with_name(f"{target.name}.part")
    begun, failed = _origin(part).get("url"), ""
    for url in sorted(urls, key=lambda url: url != begun):  # so that what came is continued
        say(f"{failed}; trying {url}" if failed else f"from {url}")
        try:
            _fill(url, part, archive, say, timeout)
            if fault := _fault(part, archive, say):
                _remove(part)  # so that the next try starts clean
                raise _Refused(f"what came {fault}")
            part.replace(target)
            return _remove(part)
        except _Refused as refusal:
            failed = f"{url}: {refusal}"
    kept = f"{part} keeps {_mb(_size(part))}, and the same command continues"
    raise DownloadError(f"{failed}; {kept if _size(part) else 'try again later, or pass --mirror with another address'}")


def _fill(url: str, part: Path, archive: Archive, say: Callable[[str], None], timeout: float) -> None:
    """Complete the part from one address, again after each cut; begin it anew if it is not of the same file."""
    for attempt in range(1, TRIES + 1):
        origin = _origin(part, url)
        if _size(part) == origin.get("total"):  # stopped while it was being checked
            return
        headers = {"User-Agent": "gan3d"} | ({"Range": f"bytes={_size(part)}-"} if origin else {})
        headers |= {"If-Range": origin["validator"]} if origin.get("validator") else {}
        try:
            with build_opener(_NoFtp).open(Request(url, headers=headers), timeout=timeout) as response:  # noqa: S310
                _receive(response, part, _agree(response, url, part, origin, archive), say)
            return
        except (OSError, HTTPException, UnicodeError) as fault:
            code, reason = getattr(fault, "code", 0), str(fault).strip("<>")
            if code == 416:
                _remove(part)
                reason = f"found less than the {origin.get('total')} bytes that it announced"
            if attempt == TRIES or (300 <= code < 500 and code not in (408, 429)) or isinstance(fault, PermissionError):
                raise _Refused(reason) from None
            say(f"{reason}; trying again ({attempt + 1} of {TRIES})")
            time.sleep(PAUSE * 2 ** (attempt - 1))


def _agree(response: HTTPResponse, url: str, part: Path, origin: dict[str, Any], archive: Archive) -> int:
    """Settle whether the part is continued or begun anew, note where it comes from, and return the file's length."""
    tag = response.headers.get("ETag", "W/")  # a weak one does not promise the same bytes
    validator = response.headers.get("Last-Modified", "") if tag.startswith("W/") else tag
    if response.status == 206:
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", ""))
        same = found and (int(found[1]), int(found[2])) == (_size(part), origin.get("total"))
        if not same or validator not in ("", origin["validator"]):
            _remove(part)
            raise ConnectionError("the file there is no longer the one that was begun")
        total, validator = origin["total"], origin["validator"]
    elif response.status != 200 or response.headers.get_content_type() == "text/html":
        raise _Refused(f"found {response.headers.get_content_type()} with status {response.status}, expected a zip")
    else:
        total = archive.size if response.length is None else response.length
        if total is None:
            raise _Refused("found no announced length, expected one: without it a part cannot be told from the whole")
        if archive.size not in (None, total):
            raise _Refused(f"announces {total:,} bytes, expected {archive.size:,} (for another edition pass its --sha256)")
        _remove(part)
    check_space(part.parent, total - _size(part) + SPARE, str(part), DownloadError, ", or choose another folder")
    with atomic_file(Path(f"{part}.json")) as temporary:
        temporary.write_text(json.dumps({"url": url, "validator": validator, "total": total}), encoding="utf-8")
    return int(total)


def _receive(response: HTTPResponse, part: Path, total: int, say: Callable[[str], None]) -> None:
    """Append what comes, up to `total` and never beyond it."""
    first = size = _size(part)
    began = said = time.monotonic()
    with part.open("ab") as file:
        while size < total:
            if not (block := response.read1(min(BLOCK, total - size))):
                raise ConnectionError(f"the connection ended at {size:,} of {total:,} bytes")
            file.write(block)
            size += len(block)
            if (now := time.monotonic()) - said >= REPORT_EVERY:
                said, left = now, (total - size) * (now - began) / (size - first)
                say(f"{_mb(size)} of {_mb(total)}, {left // 60:.0f} min {left % 60:.0f} s left")


def _fault(path: Path, archive: Archive, say: Callable[[str], None]) -> str:
    """What is wrong with a file that should be the archive; without a checksum, its own evidence (every CRC) must do."""
    size, digest = path.stat().st_size, file_hash(path)
    say(f"{path}: sha256 {digest}")
    if archive.sha256 not in (None, digest):
        return f"is {size:,} bytes of SHA-256 {digest}, expected {archive.sha256} (for another edition pass its --sha256)"
    try:
        with zipfile.ZipFile(path) as content:
            if archive.sha256 is None and (damaged := content.testzip()):
                raise zipfile.BadZipFile(f"{damaged} does not match its CRC")
            splits = [found[1] for found in map(MESH.fullmatch, content.namelist()) if found]
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, RuntimeError, ValueError) as fault:
        return f"is no whole zip ({fault})"
    found, expected = (f"{n:,} train + {m:,} test" for n, m in ((splits.count("train"), splits.count("test")), archive.meshes))
    return "" if found == expected else f"holds {found} meshes, expected {expected}"


def _origin(part: Path, url: str = "") -> dict[str, Any]:
    """The note of where a part comes from; empty where there is nothing to continue (from `url`)."""
    try:
        note = json.loads(Path(f"{part}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    known = isinstance(note, dict) and note.keys() == {"url", "validator", "total"} and _size(part) > 0
    return note if known and url in ("", note["url"]) else {}


def _remove(part: Path) -> None:
    part.unlink(missing_ok=True)
    Path(f"{part}.json").unlink(missing_ok=True)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _mb(n: int) -> str:
    return f"{n / 1e6:,.0f} MB"
