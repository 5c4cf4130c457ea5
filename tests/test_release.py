"""What is released: one version everywhere, archives that hold what they must, and a command that works outside the checkout."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import gan3d_eval

ROOT = Path(__file__).parents[1]
ASSETS = {
    "gan3d_eval/report.html.j2",
    "gan3d_eval/viewer.js",
    "gan3d_eval/paper_numbers.csv",
    "gan3d_eval/human/page/index.html",
}
BUILD = "from setuptools import build_meta as b; import sys; to = sys.argv[1]; b.build_sdist(to); b.build_wheel(to)"


def test_there_is_one_version():
    said = re.search(r"^version: (.*)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert said.group(1) == newest.group(1) == gan3d_eval.__version__


def tracked():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("no checkout: git knows no files here")
    return {name for name in listed.stdout.split("\0") if name and (ROOT / name).exists()}


@pytest.mark.slow
def test_archives_hold_what_they_must_and_nothing_else(tmp_path):
    pytest.importorskip("setuptools", "77", reason="building needs setuptools 77 or newer")
    source = tmp_path / "source"
    for name in tracked():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes((ROOT / name).read_bytes())
    subprocess.run([sys.executable, "-c", BUILD, tmp_path], cwd=source, capture_output=True, check=True)
    (wheel,), (archive,) = tmp_path.glob("*.whl"), tmp_path.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as packed:
        names = {name for name in packed.namelist() if ".dist-info/" not in name}
        packed.extractall(tmp_path / "installed")
    code = {name for name in tracked() if name.endswith(".py") and not name.startswith(("tests/", "notebooks/"))}
    assert code <= names
    assert names >= ASSETS
    assert {Path(name).suffix for name in names} <= {".py", ".csv", ".j2", ".js", ".md", ".html", ".css"}
    with tarfile.open(archive) as packed:
        listed = {name.partition("/")[2] for name in packed.getnames()}
    left_out = {name for name in tracked() - listed if not name.startswith(".")}
    assert left_out == set()
    outside = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {
        "PYTHONPATH": str(tmp_path / "installed")
    }
    command = [sys.executable, "-c", "import cli; print(cli.__file__); cli.main(['study', 'list'])"]
    told = subprocess.run(command, cwd=tmp_path, env=outside, capture_output=True, text=True, check=True).stdout.splitlines()
    assert told[0] == str(tmp_path / "installed/cli.py")
    assert told[1].startswith("categories")
