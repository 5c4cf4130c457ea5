"""Renderings, figures and the report: not blank, the right way up, self-contained, and honest about what is missing."""

from __future__ import annotations

import base64
import ctypes
import hashlib
import html
import json
import re
import shlex
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gan3d_eval import render
from gan3d_eval.curves import curves, seconds_per_epoch
from gan3d_eval.files import Gan3dError
from gan3d_eval.gallery import gallery
from gan3d_eval.interrupts import ctrl_c_afterwards
from gan3d_eval.plotting import figure
from gan3d_eval.provenance import Result
from gan3d_eval.render import GENERATED, LOOKS, REAL, RenderError, _smoothed, voxel_faces
from gan3d_eval.report import report
from gan3d_eval.report_answers import answers
from gan3d_eval.run_dir import RunDir, RunDirError
from gan3d_eval.sheets import Paper, sheet
from gan3d_eval.training_set import training_set
from gan3d_eval.voxels import VoxelSet
from gan3d_model.runs import hold_run


@pytest.fixture(autouse=True)
def rendering():
    """Skip where this machine cannot draw, naming what it lacks."""
    try:
        render._pyvista()
    except RenderError as fault:
        pytest.skip(str(fault))


def test_a_single_voxel_has_six_faces_looking_outward(grids):
    grid = np.zeros((4, 4, 4), bool)
    grid[1, 2, 3] = True
    points, quads, openness = voxel_faces(grid)
    assert len(quads) == 6
    assert openness.min() > 0.9
    corners = points[quads]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 1])
    outward = corners.mean(axis=1) - (1.5, 2.5, 3.5)
    assert np.allclose(normals, 2 * outward)
    assert sorted(map(tuple, np.unique(points, axis=0)[[0, -1]])) == [(1, 2, 3), (2, 3, 4)]


def test_faces_are_counted_where_occupied_meets_empty(grids):
    for grid in grids:
        solid = np.pad(grid, 1).astype(int)
        expected = sum(np.abs(np.diff(solid, axis=axis)).sum() for axis in range(3))
        assert len(voxel_faces(grid)[1]) == expected


def test_a_face_in_a_corner_is_darker_than_one_in_the_open():
    grid = np.zeros((12, 12, 12), bool)
    grid[:, :, :2] = True  # a floor
    grid[:, 10:, :] = True  # and a wall
    points, quads, openness = voxel_faces(grid)
    centres = points[quads].mean(axis=1)
    floor = np.isclose(centres[:, 2], 2) & np.isclose(centres[:, 0], 6.5)
    at = dict(zip(centres[floor, 1], openness[floor], strict=True))
    assert at[9.5] < at[4.5]


def test_what_is_above_is_drawn_above_and_colours_are_told_apart(tmp_path):
    low, high = np.zeros((2, 16, 16, 16), bool)
    low[6:10, 6:10, 1:3] = True
    high[6:10, 6:10, 13:15] = True
    path = sheet(
        tmp_path / "a.png", [(low, "low", REAL), (high, "high", GENERATED), (low & high, "empty", REAL)], "Test", tile=120
    )
    image = np.asarray(Image.open(path)).astype(int)[54 : 54 + 120]
    ink = [(image[:, 10 + i * 120 : 10 + (i + 1) * 120].sum(axis=2) < 600) for i in range(3)]
    rows = [np.argwhere(part)[:, 0].mean() for part in ink[:2]]
    assert rows[1] + 30 < rows[0]
    assert 0 < ink[2].sum() < 400  # the word "empty" and nothing else
    colors = [image[:, 10 + i * 120 : 10 + (i + 1) * 120][ink[i]].mean(axis=0) for i in range(2)]
    assert colors[0][0] > colors[0][2]  # sand
    assert colors[1][0] < colors[1][2]  # blue


def test_a_machine_that_cannot_draw_names_the_package(monkeypatch):
    def nothing(name):
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", nothing)
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("VTK_DEFAULT_OPENGL_WINDOW", raising=False)
    with pytest.raises(RenderError, match="apt-get install libegl1"):
        render._pyvista()


def test_what_needs_no_picture_still_works_where_none_can_be_drawn(run_copy, cli, monkeypatch):
    def refuse():
        raise RenderError("no off-screen OpenGL found; install it")

    monkeypatch.setattr(render, "_pyvista", refuse)
    done = cli("nn-check", run_copy.path)
    assert done.exit_code == 0
    assert "warning: no pictures: no off-screen OpenGL" in done.stderr
    assert "exact_copies" in done.stdout
    assert cli("curves", run_copy.path).exit_code == 0
    assert cli("report", run_copy.path).exit_code == 0
    done = cli("gallery", run_copy.path)
    assert done.exit_code == 1
    assert done.stderr.splitlines()[-1].startswith("error: no off-screen OpenGL")


def test_the_gallery_draws_what_there_is_data_for(run_copy):
    train = training_set(run_copy)[0]
    result = gallery(run_copy, run_copy.samples(), train, n=3)
    assert list(result.values) == ["samples", "training", "pairs", "progress"]
    assert set(result.absent) == {"best", "worst", "thresholds"}
    for name in result.values.values():
        image = np.asarray(Image.open(run_copy.path / name).convert("L"))
        assert (image < 200).mean() > 0.005, name
    assert result.inputs["samples"]["step"] == 6
    alone = gallery(run_copy, run_copy.samples(), None, n=3)
    assert set(alone.absent) == {"training", "pairs", "best", "worst", "thresholds"}
    assert [path.stem for path in run_copy.pictures("gallery")] == ["progress", "samples"]  # nothing stale beside them


def test_an_interrupted_gallery_leaves_the_one_before_whole(run_copy, monkeypatch):
    train = training_set(run_copy)[0]
    gallery(run_copy, run_copy.samples(), train, n=2)
    before = {path.name: path.read_bytes() for path in (run_copy.path / "gallery").iterdir()}

    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("gan3d_eval.gallery._progress", interrupted)
    with pytest.raises(KeyboardInterrupt):
        gallery(run_copy, run_copy.samples(run_copy.sample_names()[0]), train, n=3)
    assert {path.name: path.read_bytes() for path in (run_copy.path / "gallery").iterdir()} == before


def test_the_report_of_a_training_that_was_killed_before_it_had_samples_says_how_to_go_on(run_copy, cli):
    for path in [*run_copy.checkpoints(), *(run_copy.path / "samples").iterdir()]:
        path.unlink()
    page = report([run_copy.update(status="running")]).read_text()
    assert f"run did not finish: it was killed; go on with: <code>{run_copy.resumption()}</code>" in page
    assert "killed ·" in page
    assert page.count(f"<code>{run_copy.resumption()}</code>") >= 4  # in place of each verb that needs samples
    assert "there is no checkpoint yet" in page
    assert "no weights came" not in page
    with hold_run(run_copy):
        page = report([run_copy]).read_text()
    assert "--resume" not in page.split("Provenance")[0]


def test_curves_describe_the_log(run_copy):
    result = curves(run_copy)
    log = run_copy.metrics()
    assert result.values["steps"] == 6
    assert result.values["d_updated_share"] == pytest.approx(log["d_updated"].mean())
    assert result.values["last_loss_g"] == pytest.approx(log["loss_g"].iloc[-1])
    assert (run_copy.path / "figures/curves.png").stat().st_size > 20_000


def test_curves_of_a_strangers_log_use_what_is_there(run_copy):
    (run_copy.path / "metrics.csv").write_text("step,loss_g\n1,2.0\n2,1.0\n")
    result = curves(run_copy)
    assert result.values == {"steps": 2, "last_loss_g": 1.0}
    assert "no such column" in result.absent["last_acc_d"]
    (run_copy.path / "metrics.csv").write_text("step,loss_g\n")
    with pytest.raises(RunDirError, match="no row of a training log"):
        curves(run_copy)


@pytest.mark.parametrize("bad", ["nan", "inf"])
def test_curves_of_a_diverged_run_are_drawn_and_what_is_not_finite_is_absent(run_copy, bad):
    (run_copy.path / "metrics.csv").write_text(f"step,epoch,seconds,loss_d,loss_g\n1,0.5,1,1.5,{bad}\n")
    result = curves(run_copy)
    assert result.values == {"steps": 1, "epochs": 0.5, "last_loss_d": 1.5}
    assert result.absent["last_loss_g"] == "no finite value in the last tenth"
    assert "no two consecutive rows" in result.absent["seconds_per_epoch"]
    run_copy.write_result(result)


@pytest.mark.parametrize(
    ("log", "values"),
    [
        ("step,epoch,loss_d\n1,0.5,2\n2,,1\n", {"steps": 2, "epochs": 0.5, "last_loss_d": 1.0}),
        ("step,epoch,d_updated\n1,,\n2,,\n", {"steps": 2}),
    ],
)
def test_curves_of_a_log_with_gaps_hold_numbers_alone(run_copy, log, values):
    (run_copy.path / "metrics.csv").write_text(log)
    result = curves(run_copy)
    assert result.values == values
    run_copy.write_result(result)  # strict JSON takes no NaN


def test_curves_refuse_a_row_without_a_step(run_copy):
    (run_copy.path / "metrics.csv").write_text("step,loss_d\n1,2.0\n,1.0\n")
    with pytest.raises(RunDirError, match="line 3: step is nan, expected a number; delete that line"):
        curves(run_copy)


def test_seconds_per_epoch_survives_a_resumed_clock(run_copy):
    log = run_copy.metrics().head(4).copy()
    log["epoch"], log["seconds"] = [1, 2, 3, 4], [10, 20, 1, 11]  # the clock of a resumed run starts anew
    assert seconds_per_epoch(log) == 10


def test_a_figure_leaves_the_callers_backend_and_figures_alone(tmp_path):
    import matplotlib.pyplot as plt

    before = plt.get_backend()
    plt.switch_backend("svg")  # as a notebook's inline backend: anything but Agg
    try:
        theirs = plt.figure()
        with figure(tmp_path / "a.png") as axis:
            axis.plot([1, 2])
        assert plt.get_backend() == "svg"
        assert plt.gcf() is theirs
    finally:
        plt.close("all")
        plt.switch_backend(before)


def test_the_report_is_one_file_that_asks_for_nothing_and_says_what_is_missing(run_copy, cli):
    page = report([run_copy]).read_text()
    assert f"python cli.py nn-check {run_copy.path}" in page
    assert cli("nn-check", run_copy.path).exit_code == 0
    cli("curves", run_copy.path)
    page = report([RunDir.open(run_copy.path)]).read_text()
    assert f"python cli.py nn-check {run_copy.path}" not in page
    assert f"python cli.py gallery {run_copy.path}" in page
    assert not re.search(r'(src|href)="(?!data:|#)', page)
    assert not re.search(r"url\(|@import", page)
    scripts = re.findall(r"<script( type=\"application/json\")?>(.*?)</script>", page, re.DOTALL)
    code = [text for data, text in scripts if not data]
    assert len(code) == 1
    allowed = base64.b64encode(hashlib.sha256(code[0].encode()).digest()).decode()
    assert f"script-src 'sha256-{allowed}'" in page
    assert len(re.findall(r'<img [^>]*alt="[^"]+"', page)) == page.count("<img ") == 4
    assert "Exact copies" in page
    assert run_copy.meta["run_id"] in page


def test_a_stranger_s_report_says_what_it_can_never_have(run_copy):
    (run_copy.path / "metrics.csv").unlink()
    (run_copy.path / "config.json").unlink()
    page = report([run_copy]).read_text()
    assert "The run brought no training log" in page
    assert "cli.py curves" not in page


def test_a_report_s_commands_name_a_dataset_where_the_run_s_own_is_gone(run_copy):
    shutil.rmtree(run_copy.path / "results", ignore_errors=True)
    path = shlex.quote(str(run_copy.path))
    here = html.unescape(report([run_copy]).read_text())
    for verb in ("compare", "nn-check", "gallery", "human-eval serve", "classify-features"):
        assert f"python cli.py {verb} {path}<" in here
    gone = html.unescape(report([run_copy.update(dataset=None)]).read_text())
    for verb in ("compare", "nn-check", "gallery", "human-eval serve"):
        assert f"python cli.py {verb} {path} --reference DATASET_DIR<" in gone
    assert f"python cli.py classify-features {path} --dataset DATASET_DIR<" in gone
    assert f"python cli.py curves {path}<" in gone


def test_a_run_without_its_dataset_still_has_a_gallery(run_copy, cli):
    run_copy.update(dataset=run_copy.meta["dataset"] | {"path": "gone"})
    done = cli("gallery", run_copy.path, "-n", 2)
    assert done.exit_code == 0, done.stderr
    assert [Path(line).name for line in done.stdout.split()] == ["samples.png", "progress.png"]


@pytest.mark.parametrize(
    "failures", [None, 3, "bad", ["bad"], [{"name": "empty", "step": 7, "diagnosis": "G is <b>empty</b>"}]]
)
def test_the_report_tells_of_failures_whatever_stands_there(run_copy, failures):
    page = report([run_copy.update(failures=failures)]).read_text()
    assert ("empty at step 7: G is &lt;b&gt;empty&lt;/b&gt;" in page) == isinstance(
        (failures or [0])[0] if isinstance(failures, list) else 0, dict
    )


def test_a_broken_result_is_left_out_of_the_report_with_its_reason(run_copy, cli):
    assert cli("curves", run_copy.path).exit_code == 0
    (run_copy.path / "results" / "compare.json").write_text('{"verb": "compare"}')
    (run_copy.path / "results" / "nn-check.json").write_text('{"verb": "nn-ch')
    result = run_copy.results([])["curves"]
    for name, change in (("a", {"inputs": {"samples": 3}}), ("b", {"intervals": {"x": {"low": 1}}}), ("c", {"inputs": None})):
        (run_copy.path / "results" / f"{name}.json").write_text(json.dumps(result | change))
    said = []
    page = report([RunDir.open(run_copy.path)], say=said.append).read_text()
    assert page.count("Left out: ") == len(said) == 5
    assert "results/compare.json lacks absent, created" in page
    with pytest.raises(RunDirError, match="run its verb again"):
        RunDir.open(run_copy.path).results()


def test_a_damaged_picture_is_left_out_of_the_report(run_copy, cli):
    assert cli("curves", run_copy.path).exit_code == 0
    whole = cli("report", run_copy.path)
    assert whole.stderr == ""
    (run_copy.path / "figures/curves.png").write_text("x")
    done = cli("report", run_copy.path)
    assert done.exit_code == 0
    assert done.stderr == f"warning: left out: {run_copy.path}/figures/curves.png is no picture; run curves again\n"


def test_a_damaged_log_and_damaged_samples_are_left_out_of_the_report_with_their_reasons(run_copy, cli):
    assert cli("nn-check", run_copy.path, "--raw").exit_code == cli("curves", run_copy.path).exit_code == 0
    with (run_copy.path / "metrics.csv").open("a") as file:
        file.write('xx,"\n')
    (run_copy.path / "samples/final.npz").write_bytes(b"PK")
    done = cli("report", run_copy.path)
    assert done.exit_code == 0, done.output
    said = done.stderr.splitlines()
    assert "samples/final.npz is truncated" in said[0]
    assert "metrics.csv: cannot be read" in said[1]
    assert len(said) == 2
    page = (run_copy.path / "report.html").read_text()
    assert page.count("Left out: ") == 2
    assert "have changed" in page  # what was judged cannot be compared with what is there


def test_the_report_shows_strange_text_as_text(run_copy):
    run_copy.update(category="<script>alert(1)</script>", failure="<b>bold</b>")
    page = report([RunDir.open(run_copy.path)]).read_text()
    assert "<script>alert" not in page
    assert "&lt;b&gt;bold" in page


def test_a_result_from_another_reference_stands_under_its_own_name(run_copy, cli, dataset_dir):
    run_copy.update(dataset=run_copy.meta["dataset"] | {"sha256": "0" * 64})
    assert cli("nn-check", run_copy.path).exit_code == 1
    done = cli("nn-check", run_copy.path, "--reference", dataset_dir)
    assert done.exit_code == 0, done.stderr
    for label in ("sofa", "table"):  # of one dataset each class has its own
        assert cli("nn-check", run_copy.path, "--raw", "--reference", dataset_dir, "--class", label).exit_code == 0
        assert (run_copy.path / f"results/nn-check-furniture-{label}-raw.json").is_file()
    result = json.loads((run_copy.path / "results/nn-check-furniture.json").read_text())
    assert any("is not known to be what the run was trained on" in note for note in result["notes"])


def test_best_and_worst_are_ranked_by_held_out_shapes(run_copy):
    train, test, _ = training_set(run_copy)
    gen = test.take(np.arange(3))  # three held-out shapes themselves, and one that no held-out shape is like
    noise = np.random.default_rng(0).random((1, 16, 16, 16)) < 0.5
    gen = VoxelSet.from_grids(np.concatenate([noise, gen.grids()]))
    drawn = {}

    def keep(path, gen, real, pairs, title, kind, *rest):
        drawn[path.stem] = (list(gen.volume), [line for *_, line in pairs], kind)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gan3d_eval.gallery.pair_sheet", keep)
        gallery(run_copy, gen, train, test, n=2)
    volume, lines, kind = drawn["best"]
    assert lines[:3] == ["IoU 1.00"] * 3
    assert volume[-1] == noise.sum()
    assert drawn["worst"][0][0] == noise.sum()
    assert kind == "held-out"
    assert drawn["pairs"][2] == "training"
    leaked = VoxelSet.from_grids(np.concatenate([train.grids(slice(1)), test.grids()]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gan3d_eval.gallery.pair_sheet", keep)
        gallery(run_copy, train.take(np.arange(1)), train, leaked, n=2)
    assert drawn["best"][1] != ["IoU 1.00"]  # a copy of a training shape is not good because that is held out, too


def test_sheets_are_png_pdf_and_svg_with_text_and_the_same_bytes_again(tmp_path):
    grid = np.zeros((8, 8, 8), bool)
    grid[2:6, 2:6, :4] = True
    tiles = [(grid, "a box", GENERATED), (grid & False, "nothing", REAL)]
    for suffix in ("png", "pdf", "svg"):
        paths = [sheet(tmp_path / f"{i}.{suffix}", tiles, "Boxes", tile=60, paper=Paper("edges", 2)) for i in range(2)]
        assert paths[0].read_bytes() == paths[1].read_bytes()
    assert "a box" in (tmp_path / "0.svg").read_text()
    assert (tmp_path / "0.pdf").read_bytes().startswith(b"%PDF")
    with pytest.raises(Gan3dError, match="png, pdf, svg"):
        sheet(tmp_path / "0.bmp", tiles, "Boxes")


def test_print_resolution_has_more_pixels_and_transparency_has_nothing_behind(tmp_path):
    grid = np.zeros((8, 8, 8), bool)
    grid[2:6, 2:6, 2:6] = True
    plain, fine = (
        Image.open(sheet(tmp_path / f"{s}.png", [(grid, "", REAL)], "Box", tile=60, paper=Paper("cubes", s, s > 1)))
        for s in (1, 3)
    )
    assert fine.size == tuple(3 * side for side in plain.size)
    assert fine.getpixel((0, 0))[3] == 0
    middle = fine.getpixel((fine.width // 2 - 30, (54 + 30) * 3))
    assert middle[3] == 255
    assert middle[0] > middle[2]  # sand


@pytest.mark.parametrize("look", LOOKS)
def test_every_look_draws_a_shape_where_it_is(look):
    grid = np.zeros((16, 16, 16), bool)
    grid[4:12, 4:12, 2:10] = True
    image = render.render([grid, grid & False], [GENERATED] * 2, 80, look)
    assert (image[0] < 240).any(axis=2).mean() > 0.05
    assert (image[1] == 255).all()


def test_a_smooth_look_loses_no_part_however_thin():
    """A contour of the voxels themselves, smoothed, lost legs and single voxels."""
    import pyvista

    grid = np.zeros((16, 16, 16), np.bool_)
    grid[3, 3, 3] = grid[8, 8, 2:14] = grid[12:15, 2:15, 12] = True
    bodies = _smoothed(pyvista, grid).split_bodies()
    assert len(bodies) == 3
    for body, box in zip(
        sorted(bodies, key=lambda body: body.bounds[0]),
        ((3, 4, 3, 4, 3, 4), (8, 9, 8, 9, 2, 14), (12, 15, 2, 15, 12, 13)),
        strict=True,
    ):
        assert np.allclose(body.bounds, box, atol=0.25)


def test_a_shape_turns_in_an_animation(tmp_path):
    grid = np.zeros((8, 8, 8), bool)
    grid[:2, :, :2] = True
    path = render.animation(tmp_path / "a.gif", [[grid, grid]] * 4, REAL, 360)
    with Image.open(path) as gif:
        assert gif.n_frames == 4
        assert gif.size == (2 * render.FRAME, render.FRAME)


def test_the_report_answers_first_and_marks_what_is_of_other_samples(run_copy, cli):
    assert cli("nn-check", run_copy.path).exit_code == 0
    page = report([RunDir.open(run_copy.path)]).read_text()
    assert "Is it new?" in page
    assert "are not there any more" not in page
    assert "Not asked yet" not in page.split("Is it new?")[1].split("</tr>")[0]
    assert '"near_name": "sofa_' in page
    assert cli("sample", run_copy.path, "-n", 12, "--force", "--seed", 5).exit_code == 0
    page = report([RunDir.open(run_copy.path)]).read_text()
    assert (
        "The samples of nn-check are not there any more, or have changed. Make it again with: <code>python cli.py nn-check"
        in page
    )
    assert "Asked of older samples" in page.split("Is it new?")[1].split("</tr>")[0]
    assert "A under L1" not in page  # no tile of theirs either
    assert "near_name" not in page.split("<script>")[0]


def test_a_study_of_older_samples_is_held_again_by_a_command_that_exists(run_copy, cli):
    assert cli("nn-check", run_copy.path).exit_code == 0
    counted = json.loads((run_copy.path / "results/nn-check.json").read_text()) | {"verb": "human-eval", "table": {}}
    counted["inputs"]["samples"]["sha256"] = "0" * 64
    for name, verb in (("human-eval", "human-eval serve"), ("human-eval-2afc", "human-eval serve --design 2afc")):
        path = run_copy.path / f"results/{name}.json"
        path.write_text(json.dumps(counted))
        page = html.unescape(report([RunDir.open(run_copy.path)]).read_text())
        assert page.count(f"<code>python cli.py {verb} {shlex.quote(str(run_copy.path))}</code>") == 2  # answer and section
        path.unlink()


def test_the_report_of_an_interrupted_run_names_the_command_that_goes_on_with_it(run_copy):
    stopped = run_copy.update(status="interrupted", failure="Interrupted: run was interrupted at step 3 of 9")
    page = report([stopped]).read_text()
    assert f"at step 3 of 9; go on with: <code>{stopped.resumption()}</code>" in page
    assert stopped.resumption().endswith(f"--resume {run_copy.path}")


def test_neighbours_of_other_samples_are_not_shown_beside_the_newest(run_copy, cli):
    older = run_copy.sample_names()[0]
    assert cli("nn-check", run_copy.path, "--samples", older).exit_code == 0
    page = report([RunDir.open(run_copy.path)]).read_text()
    assert "near_name" not in page.split("<script>")[0]


def test_neighbours_of_a_table_that_is_not_the_result_s_are_not_shown(run_copy, cli):
    """As a kill between the writing of both leaves them."""
    assert cli("nn-check", run_copy.path, "--raw").exit_code == 0
    assert "near_name" in report([RunDir.open(run_copy.path)]).read_text().split("<script>")[0]
    table = run_copy.path / "results" / "nn-check-raw.csv"
    table.write_text("\n".join(table.read_text().splitlines()[:4]) + "\n")
    assert "near_name" not in report([RunDir.open(run_copy.path)]).read_text().split("<script>")[0]


def test_what_compares_with_another_run_stands_in_the_report_without_a_value_of_its_own(run_copy):
    interval = {"low": 0.1, "high": 0.3, "kind": "95 %"}
    values, key = {"fooling_rate": 0.4, "fooling_rate_lead/theirs": 0.2}, "fooling_rate_lead/theirs"
    run_copy.write_result(Result("human-eval", "p", {}, {"column": "this run"}, values, {key: interval}))
    row = report([run_copy]).read_text().split("Lead in fooling rate")[1].split("</tr>")[0]
    assert "0.2" in row
    assert "theirs: 0.1 – 0.3" in row


def test_names_of_shapes_may_be_numbers(run_copy, cli, tmp_path):
    train, _, _ = training_set(run_copy)
    table = train.table.assign(name=[f"{i:04d}" for i in range(len(train))])
    VoxelSet(train.packed, train.resolution, table).write(tmp_path / "numbered")
    run = run_copy.update(dataset=run_copy.meta["dataset"] | {"path": str(tmp_path / "numbered")})
    assert cli("nn-check", run.path).exit_code == 0
    assert re.search(r'"near_name": "00\d\d"', report([run]).read_text())


def test_every_table_is_closed_even_of_a_result_without_values(run_copy):
    run_copy.write_result(Result("explore", "explore-16-n1", {}, {}, {}, {}))
    run_copy.write_result(Result("compare", "p", {}, {}, {"n": 3, "jsd": 0.5, "jsd/real": 0.4}, {}))
    run_copy.write_result(Result("history", "p", {}, {}, {"jsd": 0.5, "jsd/real": 0.4}, {}))
    page = report([run_copy]).read_text()
    for tag in ("table", "tbody", "div", "section"):
        assert page.count(f"<{tag}") == page.count(f"</{tag}>"), tag
    assert page.count("<caption>") == 3


def test_several_runs_stand_side_by_side(run_copy, cli, tmp_path):
    run, other = run_copy.path, run_copy.path.with_name("other")
    shutil.copytree(run, other)
    assert "a run is named twice" in cli("report", run, other, run, "--out", tmp_path / "both.html").stderr
    assert cli("report", run, other).exit_code == 1
    done = cli("report", run, other, "--out", tmp_path / "both.html")
    assert done.exit_code == 0, done.stderr
    page = (tmp_path / "both.html").read_text()
    assert page.count('class="run"') == 2
    assert page.count("Is it real?") == 1


def result_of(values, notes=()):
    return {"values": values, "intervals": {}, "absent": {}, "notes": list(notes)}


def test_what_the_report_says_of_real_shapes_noise_and_a_collapsed_run():
    def said(gen, ref, coverage):
        real = {"one_nna_gen_l1/real": 0.5, "one_nna_ref_l1/real": 0.54, "coverage_l1/real": 0.5}
        values = {"one_nna_gen_l1": gen, "one_nna_ref_l1": ref, "coverage_l1": coverage, "valid": 1.0}
        return answers({"compare": result_of(values | real)}, (), "", str)[0]["tone"]

    assert said(0.5, 0.55, 0.48) == "good"
    assert said(0.0, 1.0, 0.02) == "bad"  # noise: their mean would be ½
    assert said(0.55, 0.55, 0.1) == "bad"  # a collapsed one, whatever its neighbours say
    assert said(0.7, 0.7, 0.45) == "fair"


def test_without_weights_nobody_is_sent_to_ask_for_features():
    assert [answers({}, (), why, str)[2]["answer"] for why in ("", "no weights")] == ["Not asked yet", "Cannot be asked"]


def test_features_no_better_than_untrained_or_than_voxels_are_said_to_be_so():
    def said(trained, untrained, voxels, p):
        values = {"accuracy": trained, "accuracy/untrained-0": untrained, "accuracy/voxels-8": voxels, "p_untrained": p}
        return answers({"classify-features": result_of(values)}, (), "", str)[2]

    assert said(0.9, 0.86, 0.88, 0.01)["tone"] == "good"
    assert said(0.9, 0.86, 0.92, 0.01)["tone"] == "fair"
    assert said(0.87, 0.86, 0.8, 0.4)["tone"] == "bad"
    assert answers({}, (), "", str)[2]["answer"] == "Not asked yet"


def test_ctrl_c_while_a_shape_is_drawn_is_heard_afterwards():
    drawn = []

    def draw():
        with ctrl_c_afterwards():
            signal.raise_signal(signal.SIGINT)
            drawn.append("whole")
        drawn.append("and on")

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            draw()
        assert drawn == ["whole"]
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # as in a job of `&`
        draw()
        assert drawn == ["whole", "whole", "and on"]
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
