"""Studies: what they run is what a user would type, and their pages say what their tables hold."""

from __future__ import annotations

import importlib
import shutil
from pathlib import Path

import pandas as pd
import pytest

from gan3d_eval.run_dir import Gan3dError, RunDir
from studies import study as frame
from studies.study import SCALES, Cell, Scale, Study, collect, command_of, fill_page, markdown, run

PAGES = Path(frame.__file__).parent
TABLES = sorted((PAGES / "results").glob("*.csv"))


def toy(**cells):
    return Study("toy", "Does it train?", {label: Cell("sofa", recipe) for label, recipe in cells.items()})


def test_all_trainings_of_a_scale_see_equally_many_shapes_whatever_the_class():
    few, many = (
        command_of(Cell("sofa", "stable", ("--r1", "2")), SCALES["cpu"], 1, n, Path("d"), Path("r")) for n in (200, 680)
    )
    assert few[few.index("--epochs") + 1] == "200"
    assert many[many.index("--epochs") + 1] == "59"
    assert few[:6] == ["train", "d", "--class", "sofa", "--recipe", "stable"]
    assert few[-6:] == ["--seed", "1", "--r1", "2", "--out", "r"]


def test_a_table_has_a_row_a_cell_with_mean_and_range_over_seeds():
    rows = pd.DataFrame(
        {
            "cell": ["b", "b", "a"], "seed": [0, 1, 0], "failures": ["", "empty", None], "valid": [0.9, 1.0, 0.5],
            "empty": [0.0, 0.0, 0.25], "coverage_l1": [0.2, 0.4, 0.3], "coverage_l1_real": [0.5, 0.5, 0.6],
            "one_nna_l1": [0.6, 0.7, 0.99], "one_nna_l1_real": 0.5, "a_far": [0.5, 0.5, None], "d_updated_share": 1.0,
        }
    )  # fmt: skip
    lines = markdown(rows).splitlines()
    assert lines[0].startswith("| | runs | valid volume | empty | COV ÷ real | 1-NNA |")
    assert lines[2] == (
        "| b | 2 | 0.950 [0.900, 1.000] | 0.000 | 0.60 [0.40, 0.80] | 0.65 [0.60, 0.70] | 0.50 | 0.50 | 1.00 | empty (1) |"
    )
    assert lines[3] == "| a | 1 | 0.500 | 0.250 | 0.50 | 0.99 | 0.50 | – | 1.00 | none |"


def test_a_page_keeps_its_words_and_takes_the_new_table(tmp_path):
    page = tmp_path / "p.md"
    page.write_text("# A\n<!-- cpu -->\n<!-- end cpu -->\nWords.\n")
    for table in ("| new |", "| newer |\n| 1 |"):
        fill_page(page, "cpu", table)
    assert page.read_text() == "# A\n<!-- cpu -->\n| newer |\n| 1 |\n<!-- end cpu -->\nWords.\n"
    with pytest.raises(Gan3dError, match="has no place for the table"):
        fill_page(page, "gpu", "")


@pytest.mark.parametrize("table", TABLES, ids=lambda path: path.stem)
def test_the_table_of_a_page_is_that_of_its_csv(table):
    name, scale = table.stem.rsplit("-", 1)
    text = (PAGES / f"{name}.md").read_text()
    assert markdown(pd.read_csv(table)) == text.split(f"<!-- {scale} -->\n")[1].split(f"\n<!-- end {scale} -->")[0]
    assert table.with_suffix(".png").is_file()


def test_only_cells_that_exist_can_be_chosen():
    study = toy(a="slides", b="stable")
    assert list(study.only(["b"]).cells) == ["b"]
    assert study.only([]) == study
    with pytest.raises(Gan3dError, match="toy has no cell c; there are a, b"):
        study.only(["c"])


def test_a_study_trains_judges_resumes_and_is_collected(dataset_dir, tmp_path, monkeypatch):
    monkeypatch.setitem(SCALES, "smoke", Scale(2, 60, 1, 12, ("--batch-size", "8")))
    study, said = toy(gated="slides"), []
    with pytest.raises(Gan3dError, match="holds no judged run"):
        collect(study, "smoke", tmp_path)
    run(study, dataset_dir, "smoke", tmp_path, 1, said.append)
    (row,) = collect(study, "smoke", tmp_path).to_dict("records")
    assert (row["cell"], row["seed"], row["n"]) == ("gated", 0, 12)
    assert 0 <= row["coverage_l1"] <= 1

    path = study.path(tmp_path, "smoke", "gated", 0)
    before = (path / "metrics.csv").read_bytes()
    RunDir.open(path).update(status="interrupted")
    shutil.rmtree(path / "results")
    for checkpoint in RunDir.open(path).checkpoints():
        checkpoint.unlink()  # as if it was killed before the first one
    run(study, dataset_dir, "smoke", tmp_path, 1, said.append)
    assert len((path / "metrics.csv").read_bytes().splitlines()) == len(before.splitlines())
    assert collect(study, "smoke", tmp_path)["coverage_l1"].tolist() == [row["coverage_l1"]]


def test_a_training_that_fails_is_named_with_its_reason(dataset_dir, tmp_path):
    study = Study("toy", "?", {"wide": Cell("sofa", "slides", ("--batch-size", "4096"))})
    with pytest.raises(
        Gan3dError, match=r"1 of 1 trainings failed: wide-s0: error: \d+ training shapes are fewer than one batch"
    ):
        run(study, dataset_dir, "smoke", tmp_path, 1, lambda line: None)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["categories"])
def test_every_study_runs_at_smoke_scale(name, dataset_dir, tmp_path):
    study = importlib.import_module(f"studies.{name}").STUDY
    known = {label: cell for label, cell in study.cells.items() if cell.category == "sofa"}
    run(study.only(known), dataset_dir, "smoke", tmp_path, 2, lambda line: None)
    assert set(collect(study, "smoke", tmp_path)["cell"]) == set(known)
