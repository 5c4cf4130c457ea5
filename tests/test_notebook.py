"""The Colab notebook runs from its first cell to its last, and again, on the embedded data."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "colab.ipynb"
SMALL = """
REPOSITORY = ""
STORE = {store!r}
DATA, CATEGORY, RECIPE = "furniture", "sofa", "stable"
RESOLUTION, WIDTH, EPOCHS = 16, 4, 2
"""


def test_the_notebook_is_committed_without_outputs():
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert len(code) > 5
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    assert sum(cell["metadata"].get("tags") == ["parameters"] for cell in code) == 1


@pytest.mark.slow
def test_the_notebook_runs_and_takes_up_again_what_it_began(tmp_path, monkeypatch):
    nbclient = pytest.importorskip("nbclient", reason="needs pip install -e .[notebook]")
    nbformat = pytest.importorskip("nbformat", reason="needs pip install -e .[notebook]")
    monkeypatch.chdir(NOTEBOOK.parents[1])  # where cli.py is: nothing is cloned
    for _ in range(2):
        notebook = nbformat.read(NOTEBOOK, as_version=4)
        for cell in notebook.cells:
            if "parameters" in cell.metadata.get("tags", []):
                cell.source = SMALL.format(store=str(tmp_path))
        nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(NOTEBOOK.parents[1])}}).execute()
    assert (tmp_path / "runs" / "sofa-stable-16" / "report.html").is_file()
    pictures = [
        output for cell in notebook.cells for output in cell.get("outputs", []) if "image/png" in output.get("data", {})
    ]
    assert len(pictures) == 3
