"""The shape of the house: who may import whom, how long things may be, and documents that tell the truth."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = [
    *sorted(p for folder in ("gan3d_eval", "gan3d_model", "studies") for p in (ROOT / folder).rglob("*.py")),
    ROOT / "cli.py",
]
NAMES = [p.relative_to(ROOT).as_posix() for p in SOURCES]
VERBS = {
    "audit",
    "watch",
    "describe",
    "export",
    "nn_check",
    "compare",
    "curves",
    "explore",
    "gallery",
    "report",
    "import_run",
    "check_run",
}
OURS = {"gan3d_eval", "gan3d_model", "studies", "cli"}
COMMAND_LINE = {"cli", "command_line", "commands"}


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} uses a relative import"
            yield node.module
            yield from (
                f"{node.module}.{alias.name}" for alias in node.names if (ROOT / node.module.replace(".", "/")).is_dir()
            )


@pytest.mark.parametrize("path", SOURCES, ids=NAMES)
def test_imports_follow_the_arrows(path):
    package = path.relative_to(ROOT).parts[0].removesuffix(".py")
    for name in imports(path):
        top = name.split(".")[0]
        assert path.stem in COMMAND_LINE or (top != "click" and name.split(".")[-1] not in COMMAND_LINE), name
        if package == "gan3d_eval":
            assert top not in {"torch", "gan3d_model", "studies", "cli"}
            if path.stem in VERBS:
                assert name.split(".")[-1] not in VERBS - {path.stem} or not name.startswith("gan3d_eval."), (
                    "verbs do not import each other"
                )
        if package == "gan3d_model":
            assert top not in {"studies", "cli"}
            free = path.stem == "commands" or not name.startswith("gan3d_eval.")
            assert free or name.split(".")[1] in {"run_dir", "voxels", "compiled", "interrupts"}, name
            if "data" in path.parts:
                assert top != "torch"
        if package == "studies":
            assert top != "cli"


@pytest.mark.parametrize("path", SOURCES, ids=NAMES)
def test_modules_and_functions_stay_small(path):
    text = path.read_text()
    assert text.count("\n") <= 300
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            doc = ast.get_docstring(node, clean=False)
            lines = node.end_lineno - node.lineno + 1 - (doc.count("\n") + 1 if doc else 0)
            assert lines <= (120 if node.name == "_loop" else 40), f"{node.name} has {lines} lines"


def test_every_module_is_in_the_architecture_document_and_no_other():
    text, folder, named = (ROOT / "ARCHITECTURE.md").read_text(), "", []
    for indent, name in re.findall(r"^( *)([\w/]+(?:/|\.py))(?=\s)", text, re.MULTILINE):
        folder = name if name.endswith("/") else folder if indent else ""
        named += [folder + name] * name.endswith(".py")
    assert sorted(named) == sorted(name for name in NAMES if not name.endswith("__init__.py"))


def test_every_dependency_is_declared_and_justified():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [*project["optional-dependencies"]["cluster"], *project["optional-dependencies"]["umap"]]
    declared = {re.match(r"[\w-]+", d).group().lower() for d in project["dependencies"] + extras}
    text = (ROOT / "ARCHITECTURE.md").read_text().lower()
    for name in declared:
        assert re.search(rf"\b{re.escape(name)}\b", text), f"{name} is not justified in ARCHITECTURE.md"
    package = {"sklearn": "scikit-learn", "faiss": "faiss-cpu", "PIL": "seaborn", "matplotlib": "seaborn", "umap": "umap-learn"}
    package["google"] = "protobuf"
    import sys

    used = {name.split(".")[0] for path in SOURCES for name in imports(path)} - OURS - set(sys.stdlib_module_names)
    used -= {"open3d"}  # a peer in a benchmark, measured where somebody has it
    assert {package.get(name, name) for name in used} <= declared
    pins = (ROOT / "constraints.txt").read_text()
    assert all(re.search(rf"^{re.escape(name)}==", pins, re.MULTILINE | re.IGNORECASE) for name in declared)


def test_every_command_in_the_readme_exists():
    from cli import main

    text = "\n".join((ROOT / name).read_text() for name in ("README.md", "gan3d_eval/RUN_DIR.md", "BENCHMARKS.md"))
    used = set(re.findall(r"cli\.py ([a-z][a-z-]+)", text))
    assert used <= set(main.commands)
    assert {"demo", "prepare", "train", "nn-check", "report"} <= used


def test_the_changelog_names_the_version():
    from gan3d_eval import __version__

    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_the_project_speaks_of_itself_alone():
    words = re.compile(r"/ho" + r"me/(?!me/x)|/wo" + r"rk/|/tm" + r"p/|pypi\.o" + r"rg", re.IGNORECASE)
    for path in [*SOURCES, *ROOT.glob("*.md"), *(ROOT / "tests").glob("*.py"), ROOT / "Makefile", ROOT / ".ci/run"]:
        assert not words.search(path.read_text()), path
