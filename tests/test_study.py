"""Studies: what they run is what a user would type, and their pages say what their tables hold."""

from __future__ import annotations

import dataclasses
import importlib
import json
import re
import shutil
import types
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from gan3d_eval.files import Gan3dError
from gan3d_eval.run_dir import RunDir
from gan3d_eval.voxels import VoxelSet
from studies import novelty_power, tables
from studies.commands import STUDIES
from studies.novelty_power import SIZES, detected
from studies.runner import command_of, run
from studies.study import COMPARED, SCALES, VERBS, Cell, Measure, Scale, Study, Task
from studies.tables import NOT_RUN, collect, fill_page, markdown, publish, published
from studies.voxelization import with_stray_vertex

PAGES = Path(tables.__file__).parent
TABLES = sorted((PAGES / "results").glob("*.csv"))
SECTIONS = ["Runs and commands", "Differs from paper", "Results", "What did not work", "Cost"]


def named(name):
    return importlib.import_module(f"studies.{name}").STUDY


def toy(**cells):
    return Study("toy", "Does it train?", {label: Cell("sofa", recipe) for label, recipe in cells.items()})


def quiet(line):
    pass


def test_all_trainings_of_a_scale_see_equally_many_shapes_whatever_the_class(tmp_path):
    shapes = VoxelSet.from_grids(np.ones((880, 2, 2, 2), bool))
    shapes.table["class"], shapes.table["split"] = ["few"] * 200 + ["many"] * 680, "train"
    for column in ("source", "sha256", "occupied", "components", "flags"):
        shapes.table[column] = 0
    shapes.write(tmp_path / "d")
    cells = {"a": Cell("few", "stable", ("--r1", "2")), "b": Cell("many", width=0.5), "c": Cell()}
    study = Study("toy", "?", cells)
    few, many, every = (command_of(Task(study, label, 1, "cpu", tmp_path / "d", Path("o"))) for label in cells)
    assert [line[line.index("--epochs") + 1] for line in (few, many, every)] == ["200", "59", "46"]
    assert [line[line.index("--base-channels") + 1] for line in (few, many)] == ["16", "8"]
    assert few[:6] == ["train", str(tmp_path / "d"), "--class", "few", "--recipe", "stable"]
    assert few[-6:] == ["--seed", "1", "--r1", "2", "--out", "o/toy/cpu/a-s1"]
    assert "--class" not in every


ROWS = pd.DataFrame(
    {
        "cell": ["b", "b", "a", "a"], "seed": [0, 1, 0, 1], "failures": ["", "empty", None, None],
        "valid": [0.9, 1.0, 0.5, 0.625], "real": [1.0, 1.0, 1.0, 1.25], "far": [0.5, 0.5, None, None],
    }
)  # fmt: skip
MEASURED = (
    Measure("valid volume", "valid", "{:.3f}", "high"),
    Measure("off real", "abs(valid - real)", "{:.2f}", "low"),
    Measure("A", "far"),
)


def test_a_table_has_a_row_a_cell_with_mean_and_range_over_seeds_and_one_a_comparison():
    study = Study("toy", "?", {"b": Cell(), "a": Cell(against="b"), "c": Cell(against="b")}, measures=MEASURED)
    lines = markdown(study, "cpu", ROWS).splitlines()
    assert lines[0] == "| | runs | valid volume | off real | A | failures detected |"
    assert lines[2] == "| b | 2 | 0.950 [0.900, 1.000] | 0.05 [0.00, 0.10] | 0.50 | empty (1) |"
    assert lines[3] == "| a | 2 | 0.562 [0.500, 0.625] | 0.56 [0.50, 0.62] | – | none |"
    # Differences −0.4 and −0.375: mean −0.3875, s/√2 = 0.0125, t(0.975, 1) = 12.706; then 0.4 and 0.625.
    assert lines[4:6] == ["", "| | against | measure (better) | difference, 95 % | seeds | answer |"]
    assert lines[7] == "| a | b | valid volume (high) | -0.388 [-0.546, -0.229] | 2 | worse |"
    assert lines[8].startswith("| a | b | off real (low) | +0.51 [-0.92, +1.94] | 2 | undecided; about ")
    # What was not run is not compared.
    assert lines[9:] == ["", "![Every run, and the mean of each cell](results/toy-cpu.png)"]


def test_only_runs_of_the_same_seed_are_compared():
    study = Study("toy", "?", {"b": Cell(), "a": Cell(against="b")}, measures=MEASURED[:1])
    lines = markdown(study, "cpu", ROWS[1:]).splitlines()
    assert lines[-3] == "| a | b | valid volume (high) | -0.375 | 1 | undecided; one seed |"
    assert "against" not in markdown(study, "cpu", ROWS[2:])


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
    found = text.split(f"<!-- {scale} -->\n")[1].split(f"\n<!-- end {scale} -->")[0]
    assert markdown(named(name), scale, pd.read_csv(table)) == found
    assert table.with_suffix(".png").is_file()


def test_the_table_of_the_readme_is_that_of_the_study():
    rows = pd.read_csv(PAGES / "results" / "categories-cpu.csv")
    text = (PAGES.parent / "README.md").read_text()
    for label in ("dresser", "monitor", "table", "sofa"):
        shown = re.search(rf"^\| {label} \|(.*)\|$", text, re.MULTILINE)[1].split("|")
        cells = [rows[rows["cell"] == f"{label}-{recipe}"] for recipe in ("slides", "paper", "stable", "stable-double")]
        found = [cell["one_nna_l1"].mean() for cell in cells] + [cells[0]["one_nna_l1_real"].mean()]
        assert [value.strip() for value in shown] == [f"{value:.2f}" for value in found]


@pytest.mark.parametrize("name", STUDIES)
def test_every_study_has_a_page_with_its_question_and_no_number_that_was_not_run(name):
    study, text = named(name), (PAGES / f"{name}.md").read_text()
    assert study.name == name
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == SECTIONS
    assert "**Question.**" in text
    assert f"study run {name}" in text
    assert f"[{name}]({name}.md)" in (PAGES / "README.md").read_text()
    tables = re.findall(r"<!-- (\w+) -->\n(.*?)\n<!-- end \1 -->", text, re.DOTALL)
    assert tables
    for scale, table in tables:
        assert (table != NOT_RUN) == (PAGES / "results" / f"{name}-{scale}.csv").is_file()


@pytest.mark.parametrize("name", STUDIES)
def test_every_cell_is_a_training_that_exists_and_is_compared_with_another(name, dataset_dir, tmp_path, cli):
    study = named(name)
    for label, cell in study.cells.items():
        assert not cell.against or (cell.against in study.cells and cell.against != label)
        if not study.make:
            settings = ("--recipe", cell.recipe, "--batch-size", "8", *cell.options)
            assert json.loads(cli("train", dataset_dir, *settings, "--dry-run").stdout)["resolution"] == 16
    used = {result for result, _ in study.columns.values()}
    assert used <= set(study.verbs)


def test_only_cells_that_exist_can_be_chosen():
    study = toy(a="slides", b="stable")
    assert list(study.only(["b"]).cells) == ["b"]
    assert study.only([]) == study
    with pytest.raises(Gan3dError, match="toy has no cell c; there are a, b"):
        study.only(["c"])


def test_a_study_trains_judges_resumes_and_is_collected(dataset_dir, tmp_path, monkeypatch):
    monkeypatch.setitem(SCALES, "smoke", Scale(2, 60, 1, 12, ("--batch-size", "8")))
    columns = {name: of for name, of in COMPARED.items() if of[0] == "curves"}
    study = dataclasses.replace(toy(gated="slides"), verbs={"curves": VERBS["curves"]}, columns=columns)
    said = []
    with pytest.raises(Gan3dError, match="holds no judged run"):
        collect(study, "smoke", tmp_path)
    run(study, dataset_dir, "smoke", tmp_path, 1, said.append)
    assert said == ["toy smoke: 1 of 1 runs to make", "gated, seed 0: done"]
    (row,) = collect(study, "smoke", tmp_path).to_dict("records")
    assert (row["cell"], row["seed"], row["steps"], row["n_train"]) == ("gated", 0, 9, 24)
    assert 0 <= row["d_updated_share"] <= 1

    path = tmp_path / "toy" / "smoke" / "gated-s0"
    before = (path / "metrics.csv").read_bytes()
    RunDir.open(path).update(status="running")
    shutil.rmtree(path / "results")
    for checkpoint in RunDir.open(path).checkpoints():
        checkpoint.unlink()  # as if it was killed before the first one
    run(study, dataset_dir, "smoke", tmp_path, 1, said.append)
    assert len((path / "metrics.csv").read_bytes().splitlines()) == len(before.splitlines())
    assert collect(study, "smoke", tmp_path)["d_updated_share"].tolist() == [row["d_updated_share"]]
    run(study, dataset_dir, "smoke", tmp_path, 1, said.append)
    assert said[-1] == "toy smoke: 0 of 1 runs to make"


def test_a_training_that_fails_is_named_with_its_reason(dataset_dir, tmp_path):
    study = Study("toy", "?", {"wide": Cell("sofa", "slides", ("--batch-size", "4096"))})
    with pytest.raises(Gan3dError, match=r"1 of 1 runs failed: wide-s0: training shapes: \d+, fewer than one batch"):
        run(study, dataset_dir, "smoke", tmp_path, 1, quiet)


def test_a_study_of_data_says_once_that_it_needs_some(tmp_path, cli):
    done = cli("study", "run", "accuracy_gate", "--scale", "smoke", "--out", tmp_path)
    assert done.exit_code == 1
    assert done.stderr == "error: accuracy_gate needs a data set: python cli.py study run accuracy_gate DATASET\n"
    done = cli("study", "run", "accuracy_gate", tmp_path / "nowhere", "--out", tmp_path)
    assert done.stderr.startswith(f"error: {tmp_path / 'nowhere'} does not exist")
    assert done.stderr.count("\n") == 1


def test_a_study_that_makes_its_data_takes_no_other(dataset_dir, tmp_path, cli):
    done = cli("study", "run", "voxelization", dataset_dir, "--scale", "smoke", "--out", tmp_path)
    assert done.exit_code == 1
    assert "voxelization makes its data sets itself and takes none: python cli.py study run voxelization" in done.stderr
    assert list(tmp_path.iterdir()) == []


def count(task):
    """What a study that trains nothing may do."""
    if task.label.startswith("bad"):
        raise Gan3dError("no luck")
    path = task.path / "results" / "count.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"values": {"found": len(task.label) + task.seed}}))


COUNTING = Study(
    "counting", "How long?", {"a": Cell(), "abc": Cell(against="a")}, verbs={"count": ()}, columns={"found": ("count", "found")},
    measures=(Measure("letters", "found", "{:.1f}", "high"),), make=count, own_data=True,
)  # fmt: skip


def test_a_study_without_training_is_collected_drawn_and_put_on_its_page(tmp_path):
    run(COUNTING, None, "smoke", tmp_path / "runs", 1, quiet, seeds=2)
    page = tmp_path / "counting.md"
    page.write_text("<!-- smoke -->\nNot run yet.\n<!-- end smoke -->\n")
    bare = publish(COUNTING, "smoke", tmp_path / "runs", tmp_path / "no-checkout")
    assert [path.name for path in bare] == ["counting-smoke.csv", "counting-smoke.png"]
    table, figure, _ = publish(COUNTING, "smoke", tmp_path / "runs", tmp_path)
    assert pd.read_csv(table).to_dict("list") == {"cell": ["a", "a", "abc", "abc"], "seed": [0, 1, 0, 1], "found": [1, 2, 3, 4]}
    assert figure.stat().st_size > 1000
    assert "| abc | 2 | 3.5 [3.0, 4.0] |\n" in page.read_text()
    assert "| abc | a | letters (high) | +2.0 | 2 | undecided; the same in every seed |" in page.read_text()


def test_what_another_machine_has_published_is_neither_made_again_nor_lost(tmp_path):
    run(COUNTING, None, "smoke", tmp_path / "there", 1, quiet, seeds=2)
    table, *_ = publish(COUNTING, "smoke", tmp_path / "there", tmp_path)
    rows = pd.read_csv(table)
    rows.assign(found=[1, 2, 7, 7]).to_csv(table, index=False)  # what stands there is believed
    known, said = published(COUNTING, "smoke", tmp_path), []
    run(COUNTING, None, "smoke", tmp_path / "here", 1, said.append, seeds=3, known=known)
    assert said[1:] == ["a, seed 2: done", "abc, seed 2: done"]
    shutil.copytree(tmp_path / "there/counting/smoke/abc-s0", tmp_path / "here/counting/smoke/abc-s0")
    publish(COUNTING, "smoke", tmp_path / "here", tmp_path, add=True)
    found = pd.read_csv(table)
    assert found["cell"].tolist() == ["a"] * 3 + ["abc"] * 3
    assert found["seed"].tolist() == [0, 1, 2] * 2
    assert found["found"].tolist() == [1, 2, 3, 3, 7, 5]  # a run that is here wins
    publish(COUNTING, "smoke", tmp_path / "here", tmp_path)
    assert pd.read_csv(table)["found"].tolist() == [3, 3, 5]
    assert published(COUNTING.only(["a"]), "smoke", tmp_path)["cell"].tolist() == ["a"]
    assert published(COUNTING, "cpu", tmp_path).empty


def test_runs_are_spread_over_a_cluster_and_the_others_go_on_where_one_fails(tmp_path):
    distributed = pytest.importorskip("distributed")
    import dataclasses

    study = dataclasses.replace(COUNTING, cells={"a": Cell(), "bad": Cell(), "abc": Cell(), "bad2": Cell()})
    with (
        distributed.LocalCluster(n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None) as cluster,
        pytest.raises(Gan3dError, match=r"2 of 4 runs failed: bad2?-s0, bad2?-s0: no luck$"),
    ):
        run(study, None, "smoke", tmp_path, 1, quiet, scheduler=cluster.scheduler_address)
    assert collect(study, "smoke", tmp_path)["cell"].tolist() == ["a", "abc"]


def test_the_list_says_how_many_runs_are_there(tmp_path, cli):
    lines = cli("study", "list", "--scale", "smoke", "--out", tmp_path).stdout.splitlines()
    assert [line.split()[0] for line in lines] == list(STUDIES)
    assert lines[1].split()[1] == "0/10"


# --- what single studies make -----------------------------------------------------------------------------------------


def test_parts_of_a_data_set_are_nested_and_keep_the_held_out_shapes(dataset_dir, tmp_path):
    study = named("dataset_size")
    task = study.tasks("smoke", dataset_dir, tmp_path)[0]
    study.data(task)
    study.data(task)  # what is there stays
    parts = [VoxelSet.open(task.data / name) for name in ("1-of-8", "1-of-4", "1-of-2")]
    names = [set(part.select(["sofa"], "train").names) for part in parts]
    assert [len(some) for some in names] == [3, 6, 12]
    assert names[0] < names[1] < names[2]
    assert {tuple(part.select(["sofa"], "test").names) for part in parts} == {
        tuple(VoxelSet.open(dataset_dir).select(["sofa"], "test").names)
    }
    assert parts[0].info["n"] == len(parts[0]) == 27
    assert parts[0].info["name"] == "1-of-8"


def test_a_stray_vertex_shrinks_what_polygon2voxel_makes_and_leaves_exact_voxels_alone(tmp_path):
    from gan3d_model.data.meshes import read_mesh
    from gan3d_model.data.synthetic import furniture
    from gan3d_model.data.voxelize import Voxelizer, voxelize

    off = furniture("monitor", 3).export(file_type="off")
    (tmp_path / "a.off").write_text(off)
    (tmp_path / "b.off").write_text(with_stray_vertex(off))
    meshes = [read_mesh(tmp_path / name) for name in ("a.off", "b.off")]
    exact = [voxelize(mesh, Voxelizer(32)).grid for mesh in meshes]
    assert (exact[0] == exact[1]).all()
    slides = [voxelize(mesh, Voxelizer(32, 0, False, method="polygon2voxel")).grid for mesh in meshes]
    wide = [max(np.ptp(axis) for axis in np.nonzero(grid)) for grid in slides]
    assert wide[0] > 2 * wide[1]
    assert 6 <= wide[1] <= 11


def test_copies_are_detected_and_honest_samples_are_not():
    random = np.random.default_rng(0)
    held, same, near = random.normal(10, 1, 200), random.normal(10, 1, 200), random.normal(5, 1, 200)
    assert detected({"l1": near}, {"l1": held}, (50, 50), [0], exact=False)
    assert not detected({"l1": same}, {"l1": held}, (50, 50), [0], exact=False)
    same[:] = np.where(np.arange(200) < 100, 0, same)
    assert detected({"l1": same}, {"l1": held}, (50, 50), [0], exact=True)


@pytest.fixture(scope="module")
def more_shapes(tmp_path_factory):
    """Sofas and dressers at 16³, 64 of each to train on: an eighth fills a batch."""
    from gan3d_model.data.prepare import prepare
    from gan3d_model.data.synthetic import write_furniture
    from gan3d_model.data.voxelize import Voxelizer

    root = tmp_path_factory.mktemp("more")
    write_furniture(root / "meshes", ["sofa", "dresser"], 64, 24)
    prepare(root / "meshes", root / "furniture", Voxelizer(16), say=quiet)
    return root / "furniture"


@pytest.mark.slow
@pytest.mark.parametrize("name", STUDIES)
def test_every_study_runs_at_smoke_scale(name, more_shapes, tmp_path):
    study = named(name)
    if name == "categories":  # sixteen cells, alike but for class and recipe
        study = study.only(["dresser-stable", "dresser-slides", "dresser-paper"])
    run(study, None if name == "voxelization" else more_shapes, "smoke", tmp_path / "runs", 2, quiet)
    (tmp_path / f"{name}.md").write_text("<!-- smoke -->\n\n<!-- end smoke -->\n")
    publish(study, "smoke", tmp_path / "runs", tmp_path)
    rows = pd.read_csv(tmp_path / "results" / f"{name}-smoke.csv")
    assert list(dict.fromkeys(rows["cell"])) == list(study.cells)
    missing = {novelty_power.column(size) for size in SIZES[1:]} if name == "novelty_power" else set()
    assert set(study.columns) - set(rows.dropna(axis=1, how="all")) <= missing | {
        "accuracy_without_leaks",
        "a_far",
        "flagged_share",
    }


@pytest.mark.parametrize("kind", ["copy-l1", "honest-all"])
def test_power_is_the_share_of_draws_that_are_called_copying(kind, tmp_path):
    random, names = np.random.default_rng(0), novelty_power.DISTANCES
    far = {of: random.uniform(50, 99, (60, len(names))) for of in ("held-out", "honest")} | {"copy": np.zeros((60, len(names)))}
    rows = pd.concat([pd.DataFrame(values, columns=list(names)).assign(set=of) for of, values in far.items()])
    rows.to_csv(tmp_path / "distances.csv", index=False)
    (tmp_path / "results").mkdir()
    cell = types.SimpleNamespace(options=tuple(kind.split("-")))
    novelty_power.power(types.SimpleNamespace(data=tmp_path, path=tmp_path, cell=cell, scale="smoke", seed=0))
    result = json.loads((tmp_path / "results" / "novelty-power.json").read_text())
    assert result["values"]["detected_50"] == (kind == "copy-l1")
    assert result["values"].get("a_far") == (0 if kind == "copy-l1" else None)
    assert "detected_500" in result["absent"]
