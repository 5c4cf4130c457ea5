"""The command line: the answer on stdout, one clear line per mistake, and the exit codes that scripts rely on."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from joblib import Parallel, delayed
from scipy import ndimage

from gan3d_eval.run_dir import RunDir
from gan3d_eval.training_set import training_set
from gan3d_model.config import RECIPES, TrainConfig

ROOT = Path(__file__).parents[1]


def test_help_needs_no_heavy_import():
    script = "import sys, cli\ncli.main(['--help'], standalone_mode=False)\nprint(sorted(set(sys.modules) & {'torch', 'numpy', 'pandas', 'faiss', 'vtk'}))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.slow
def test_help_answers_in_well_under_a_third_of_a_second():
    def once():
        start = time.perf_counter()
        subprocess.run([sys.executable, "cli.py", "--help"], cwd=ROOT, check=True, capture_output=True)
        return time.perf_counter() - start

    assert min(once() for _ in range(5)) < 0.3


def test_examples_in_help_keep_their_lines(cli):
    assert "\n  RUN=$(python cli.py train" in cli("train", "--help").stdout
    assert "\n  Start here:   python cli.py demo\n" in cli("--help").stdout


def test_train_has_an_option_for_every_setting(cli):
    text = cli("train", "--help").stdout
    for field in dataclasses.fields(TrainConfig):
        assert "--" + field.name.replace("_", "-") in text


def test_settings_come_from_recipe_then_file_then_flags(cli, dataset_dir, tmp_path):
    toml = tmp_path / "c.toml"
    toml.write_text("epochs = 3\nlr_g = 0.01\nbatch_size = 8\n")
    done = cli("train", dataset_dir, "--recipe", "paper", "--config", toml, "--lr-g", "0.02", "--dry-run")
    config = TrainConfig.from_dict(json.loads(done.stdout))
    assert config == dataclasses.replace(RECIPES["paper"], epochs=3, batch_size=8, lr_g=0.02, resolution=16)


def test_a_resolution_in_the_file_is_not_passed_over(cli, dataset_dir, tmp_path):
    (tmp_path / "c.toml").write_text("resolution = 64\n")
    done = cli("train", dataset_dir, "--config", tmp_path / "c.toml", "--runs", tmp_path / "runs")
    assert done.exit_code == 1
    assert "the dataset has resolution 16, but the config says 64" in done.stderr
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(("side", "line"), [(20, "resolution is 20; expected one of 16, 32, 64, 128"), (8, "resolution is 8")])
def test_a_dataset_that_no_network_fits_is_named(cli, tmp_path, side, line):
    np.save(tmp_path / "a.npy", np.ones((2, side, side, side), np.bool_))
    assert cli("prepare", tmp_path / "a.npy", tmp_path / "d", "-r", side).exit_code == 0
    done = cli("train", tmp_path / "d", "--runs", tmp_path / "runs")
    assert done.exit_code == 1
    assert f"error: {tmp_path / 'd'}: {line}" in done.stderr


@pytest.mark.parametrize(("wrong", "reason"), [
    ("--stop-on=bored", "no failure bored is known"), ("--device=cuda:99", "cuda:99"),
    ("--resolution=32", "32"), ("--class=chair", "chair"), ("--batch-size=4096", "4096"),
])  # fmt: skip
def test_a_dry_run_refuses_what_a_run_would(cli, dataset_dir, wrong, reason):
    done = cli("train", dataset_dir, "--dry-run", wrong)
    assert done.exit_code == 1
    assert reason in done.stderr


def test_a_run_that_was_killed_before_its_first_checkpoint_says_that_it_begins_anew(cli, dataset_dir, run_copy):
    shutil.rmtree(run_copy.path / "checkpoints")
    run_copy.update(status="running")
    done = cli("train", dataset_dir, "--resume", run_copy.path, "--dry-run")
    assert done.exit_code == 0, done.stderr
    assert "there is no checkpoint yet to go on from: the training begins anew" in done.stderr


def test_a_worker_that_is_killed_is_told_in_one_line(cli, meshes, tmp_path, monkeypatch):
    def work(*arguments):
        yield from Parallel(n_jobs=2)(delayed(os._exit)(9) for _ in range(2))

    monkeypatch.setattr("gan3d_model.data.prepare.work", work)
    done = cli("prepare", meshes, tmp_path / "d", "-r", 16)
    assert done.exit_code == 1
    assert done.stderr.splitlines()[-1].startswith("error: a worker process was killed, perhaps for want of memory")


def test_a_flag_of_zero_is_a_value(cli, dataset_dir):
    config = json.loads(cli("train", dataset_dir, "--gate", 0, "--keep", 0, "--dry-run").stdout)
    assert (config["gate"], config["keep"]) == (0, 0)


def test_from_nothing_to_a_report(cli, tmp_path):
    """Every step of README's quick start, each reading what the one before printed."""
    meshes = cli("synthetic", tmp_path / "meshes", "--class", "table", "--n-train", 30, "--n-test", 24).stdout.strip()
    data = cli("prepare", meshes, tmp_path / "data", "-r", 16).stdout.strip()
    settings = "--base-channels 4 --latent-dim 8 --batch-size 10 --epochs 1 --n-samples 25 --device cpu".split()
    done = cli("train", data, *settings, "--runs", tmp_path / "runs")
    assert done.exit_code == 0, done.stderr
    run = done.stdout.strip()
    assert RunDir.open(Path(run)).meta["category"] == "data"
    for verb in ("check-run", "nn-check", "curves", "gallery", "report"):
        done = cli(verb, run, *(["-n", 2] if verb == "gallery" else []))
        assert done.exit_code == 0, (verb, done.stderr)
    assert Path(done.stdout.strip()).read_text().startswith("<!doctype html>")
    assert cli("check-run", run).stdout == ""


@pytest.mark.parametrize("times", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_the_demo_runs_from_nothing_and_uses_its_data_again(cli, tmp_path, monkeypatch, times):
    monkeypatch.setitem(RECIPES, "demo", dataclasses.replace(RECIPES["demo"], base_channels=4, n_samples=40))
    arguments = "--n-train 24 --n-test 24 --epochs 1 --class table --out".split()
    for i in range(times):
        done = cli("demo", *arguments, tmp_path / "demo")
        assert done.exit_code == 0, done.stderr
        assert Path(done.stdout.strip()).stat().st_size > 100_000
        assert ("1/4" in done.stderr) == (i == 0)
        (path, *_) = (tmp_path / "demo/runs").iterdir()
        assert (
            "--dataset DATASET_DIR (labelled shapes; the run&#39;s own are of one class)"
            in Path(done.stdout.strip()).read_text()
        )
        assert {"best", "worst", "training"} <= set(RunDir.open(path).results()["gallery"]["values"])
    assert len(list((tmp_path / "demo/runs").iterdir())) == times


@pytest.mark.parametrize("at", ["gan3d_model.train._loop", "gan3d_eval.case.check_novelty"])
def test_an_interrupted_demo_says_what_is_left_of_it(cli, tmp_path, monkeypatch, at):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(at, interrupted)
    monkeypatch.setitem(RECIPES, "demo", dataclasses.replace(RECIPES["demo"], base_channels=4, n_samples=40))
    done = cli(*"demo --n-train 24 --n-test 24 --epochs 1 --class table --out".split(), tmp_path / "demo")
    assert done.exit_code != 0
    (run,) = (tmp_path / "demo/runs").iterdir()
    assert f"for verb in nn-check compare curves gallery report; do python cli.py $verb {run}; done" in done.stderr


@pytest.mark.slow
def test_the_demo_as_it_is_makes_recognisable_furniture_within_five_minutes(cli, tmp_path):
    start = time.perf_counter()
    report = Path(cli("demo", "--out", tmp_path).stdout.strip())
    assert time.perf_counter() - start < 300
    samples = RunDir.open(report.parent).samples()
    largest = []
    for grid in samples.grids():
        sizes = np.bincount(ndimage.label(grid)[0].ravel())[1:]
        largest.append(sizes.max() / sizes.sum() if len(sizes) else 0)
    assert (samples.volume > 0).mean() >= 0.9
    assert np.median(largest) >= 0.8


@pytest.mark.parametrize("benchmark", [
    "nn-check --n-gen 30 --n-train 60 --n-test 30", "layers --batch 1", "precision -r 16 --base-channels 2 --batch 2",
])  # fmt: skip
def test_benchmarks_say_what_they_compared(cli, benchmark):
    done = cli("bench", *benchmark.split(), "--repeats", 1)
    assert done.exit_code == 0, done.output
    assert "ours/peer" in done.stdout


@pytest.mark.parametrize(("arguments", "code", "line"), [
    (["train", "NOTHING"], 1, "does not exist; python cli.py prepare SRC"),
    (["train", "RUN"], 1, "is a run directory, no dataset; python cli.py prepare SRC DATASET_DIR makes a dataset"),
    (["bench", "layers", "--repeats", "0"], 2, "0 is not in the range x>=1"),
    (["nn-check", "RUN", "--shift", "16"], 1, "a shift of 16 voxels does not fit into 16³; expected 0 … 15"),
    (["train", "DATA", "--class", "boat"], 1, "no class boat in dataset furniture; it has sofa, table"),
    (["train", "DATA", "--resolution", "32"], 1, "the dataset has resolution 16, but the config says 32"),
    (["train", "DATA", "--batch-size", "4000"], 1, "fewer than one batch"),
    (["train", "DATA", "--base-channels", "0"], 2, "0 is not in the range 1<=x<=1024"),
    (["train", "DATA", "--config", "NOTHING"], 1, "nothing is missing; expected a TOML file of settings"),
    (["train", "DATA", "--prior", "gauss"], 2, "gauss"),
    (["train", "DATA", "--stop-on", "bored"], 1, "no failure bored is known; there are gate-deadlock"),
    (["train", "DATA", "--bogus"], 2, "No such option"),
    (["train", "DATA", "--resume"], 2, "requires an argument. See: main train -h"),
    (["human-eval", "tally", "--responses"], 2, "requires an argument. See: main human-eval -h"),
    (["train", "DATA", "--device", "cuda:9"], 1, "no CUDA device"),
    (["train", "DATA", "--device", "warp"], 1, "unknown device 'warp'"),
    (["train", "DATA", "--resume", "NOTHING"], 1, "nothing is there"),
    (["train", "DATA", "--resume", "RUN", "--class", "table"], 2, "--resume goes on with the run's own"),
    (["sample", "RUN", "--name", "../evil"], 1, "is no name for samples"),
    (["sample", "RUN", "--name", "000004"], 1, "is no name for samples"),
    (["sample", "RUN", "--name", "x", "--threshold", "nan"], 1, "threshold nan"),
    (["import-run", "GRIDS", "NEW", "--threshold", "nan"], 1, "threshold nan"),
    (["import-run", "GRIDS", "NEW", "--class", "sofa"], 1, "--class needs --dataset"),
    (["prepare", "MESHES", "MESHES", "-r", "16", "--force"], 1, "holds the source"),
    (["train", "MESHES"], 1, "is no dataset directory; python cli.py prepare SRC"),
    (["train", "DATA", "--resume", "IMPORTED"], 1, "was imported: how it was trained is unknown"),
    (["prepare", "NOTHING", "NEW", "-r", "32"], 1, "does not exist"),
    (["prepare", "MESHES", "NEW"], 2, "Missing option '-r' / '--resolution'. Networks train at 16, 32, 64, 128. See:"),
    (["prepare", "DATA", "DATA", "-r", "32"], 1, "is a dataset already"),
    (["prepare", "MESHES", "DATA", "-r", "32"], 1, "already exists"),
    (["prepare", "DATA", "NEW", "-r", "0"], 1, "resolution 0 asked for"),
    (["prepare", "DATA", "NEW", "-r", "16", "--margin", "8"], 1, "a margin of 8 asked for; expected 0 to below half"),
    (["sample", "RUN", "--threshold", "2"], 2, "2.0 is not in the range"),
    (["nn-check", "NOTHING"], 1, "is no run directory, as made by train or import-run: nothing is there"),
    (["nn-check", "DATA"], 1, "is no run directory, as made by train or import-run: it has no run.json"),
    (["nn-check", "RUN", "--k", "0"], 2, "0 is not in the range x>=1"),
    (["classify-features", "RUN", "--layers", "two"], 2, "--layers two: expected numbers with commas"),
    (["nn-check", "RUN", "--samples", "nope"], 1, "nope.npz is missing; there are 000003, 000006, final"),
    (["gallery", "DATA"], 1, "is no run directory"),
    (["gallery", "RUN", "-n", "0"], 2, "0 is not in the range"),
    (["sample", "RUN", "-n", "0", "--name", "x"], 2, "0 is not in the range x>=1"),
    (["sample", "RUN", "-n", "1"], 1, "--force"),
    (["sample", "RUN", "--seed", "-1", "--name", "x"], 2, "-1 is not in the range"),
    (["demo", "--class", "boat", "--out", "NEW"], 2, "'boat' is not one of"),
    (["human-eval", "power", "--rate", "0.5"], 1, "a rate of ½ is that of guessing"),
    (["demo", "--n-test", "5", "--out", "NEW"], 2, "5 is not in the range"),
    (["prepare", "RUN", "NEW", "-r", "32"], 1, "is a run, whose samples are no data to train on"),
    (["train", "DATA", "--class", "chair"], 1, "no class chair in dataset"),
    (["compare", "RUN", "--out", "NEW"], 2, "--out is for several runs"),
    (["compare", "RUN", "RUN"], 2, "a run is named twice. See:"),
    (["train", "DATA", "--shift", "5"], 1, "shift 5 moves shapes out of 16³; at most 4"),
    (["train", "DATA", "--lr-g", "0"], 2, "'--lr-g': 0.0 is not in the range 1e-09<=x<=1"),
    (["prepare", "--fixx"], 2, "Did you mean '--fix'? See:"),
    (["watch", "RUN", "--reference", "DATA"], 2, "are for --judge"),
    (["export", "RUN", "NEW", "--format", "npz", "--class", "sofa"], 2, "a run's samples have no classes"),
    (["demo", "--out", "GRIDS"], 1, "is a file, and no folder can be made there"),
    (["paper-plots", "IMPORTED"], 1, "imported has none; and no shapes to show beside ours"),
    (["import-run", "RUN", "NEW"], 1, "is a run directory already"),
    (["import-run", "GRIDS", "NEW", "--log", "NOTHING"], 1, "nothing is missing; expected a training log"),
    (["history", "IMPORTED", "--reference", "DATA"], 1, "nor are there checkpoints to draw from"),
    (["classify-features", "IMPORTED"], 1, "it names no dataset; pass --dataset DATASET_DIR"),
    (["describe", "DATA", "--out", "NEW"], 2, "has the suffix none; expected .png. See: main describe -h"),
    (["audit", "DATA", "--out", "table.txt"], 2, "table.txt has the suffix .txt; expected .csv. See: main audit -h"),
    (["report", "RUN", "--out", "page.pdf"], 2, "page.pdf has the suffix .pdf; expected .html"),
    (["audit", "RUN"], 1, "it is a run: nn-check, compare and gallery take it"),
    (["view", "DATA"], 1, "it is a dataset: describe, audit and export take it"),
    (["import-run", "GRIDS", "NEW", "--array", "foo"], 1, "holds one array without a name; leave --array foo out"),
    (["train", "DATA", "--inner-size", "3"], 2, "'3' is not one of '2', '4'"),
    (["nn-check", "RUN", "--raw", "--poses", "mirror"], 2, "--poses has no effect with --raw"),
    (["nn-check", "RUN", "--raw", "--features-from", "RUN"], 2, "--features-from has no effect with --raw"),
    (["export", "DATA", "NEW", "--format", "npz", "--up", "y"], 2, "--up is for binvox; other files have z up"),
    (["history", "RUN", "--samples", "final"], 2, "No such option '--samples'"),
])  # fmt: skip
def test_a_mistake_is_one_clear_line_and_loses_nothing(cli, run_copy, dataset_dir, tmp_path, arguments, code, line):
    places = {
        "DATA": dataset_dir,
        "RUN": run_copy.path,
        "NOTHING": tmp_path / "nothing",
        "NEW": tmp_path / "new",
        "IMPORTED": tmp_path / "imported",
        "GRIDS": tmp_path / "a.npy",
        "MESHES": dataset_dir.parent / "meshes",
    }
    np.save(tmp_path / "a.npy", np.ones((2, 16, 16, 16), bool))
    cli("import-run", tmp_path / "a.npy", tmp_path / "imported")
    before = sorted(p.relative_to(run_copy.path).as_posix() for p in run_copy.path.rglob("*"))
    extra = ["--out", tmp_path / "run"] if arguments[0] == "train" and "--resume" not in arguments else []
    done = cli(*[places.get(a, a) for a in arguments], *extra)
    assert done.exit_code == code, done.output
    assert line in done.stderr
    assert [x for x in done.stderr.splitlines() if x.startswith("error: ")] == [done.stderr.splitlines()[-1]]
    if code == 2:
        assert done.stderr.count("\n") == 1
    else:
        assert not (tmp_path / "run").exists()
        assert not (tmp_path / "new").exists()
    assert done.stdout == ""
    assert sorted(p.relative_to(run_copy.path).as_posix() for p in run_copy.path.rglob("*")) == before


def test_an_unknown_key_in_a_config_file_names_the_nearest(cli, dataset_dir, tmp_path):
    (tmp_path / "c.toml").write_text("epoch = 3\n")
    done = cli("train", dataset_dir, "--config", tmp_path / "c.toml")
    assert done.exit_code == 1
    assert done.stderr.strip().endswith("unknown setting 'epoch'; the nearest valid one is 'epochs'")


def test_results_that_cannot_be_written_are_refused_before_the_work(cli, run_copy, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode: path != run_copy.path)  # root may write everywhere
    for verb in ("nn-check", "classify-features"):
        done = cli(verb, run_copy.path)
        assert done.exit_code == 1
        assert (
            done.stderr == f"error: {run_copy.path} cannot be written to, and what is made belongs there; take a copy of it\n"
        )


def test_places_that_are_closed_and_no_run_are_not_to_be_copied(cli, run_copy, dataset_dir, monkeypatch, tmp_path):
    monkeypatch.setattr("os.access", lambda path, mode: path not in {tmp_path, run_copy.path})
    other = shutil.copytree(run_copy.path, tmp_path / "other")
    belongs = "cannot be written to, and what is made belongs there"
    for arguments, said in (
        (("demo", "--out", tmp_path / "new"), f"{tmp_path} {belongs}; give another --out"),
        (("compare", run_copy.path, other, "--out", tmp_path / "b"), f"{tmp_path} cannot be written to, and --out names a place "
         "in it; give another"),
        (("train", dataset_dir, "--resume", run_copy.path, "--epochs", 9), f"{run_copy.path} {belongs}; take a copy of it"),
        (("import-run", run_copy.path, tmp_path / "new"), f"{tmp_path} cannot be written to, and the run belongs there; choose "
         "another place"),
        (("view", tmp_path, "--out", tmp_path / "a.png"), f"{tmp_path} cannot be written to, and --out names a place in it; give "
         "another"),
    ):  # fmt: skip
        done = cli(*arguments)
        assert (done.exit_code, done.stderr) == (1, f"error: {said}\n")


def test_of_processes_that_are_interrupted_together_the_first_says_it(cli, run_copy, monkeypatch):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("gan3d_eval.run_dir.RunDir.open", interrupted)
    for rank, said in (("0", "error: interrupted\n"), ("1", "")):
        monkeypatch.setenv("RANK", rank)  # as torchrun does
        done = cli("curves", run_copy.path)
        assert (done.exit_code, done.stderr) == (130, said)


def test_ctrl_c_in_the_first_moment_is_heard_as_later(cli, run_copy, monkeypatch):
    class Imports:
        def find_spec(self, name, path=None, target=None):
            if name == "gan3d_eval.files":
                raise KeyboardInterrupt

    monkeypatch.delitem(sys.modules, "gan3d_eval.files")
    monkeypatch.setattr(sys, "meta_path", [Imports(), *sys.meta_path])
    done = cli("curves", run_copy.path)
    assert (done.exit_code, done.stderr) == (130, "error: interrupted\n")


@pytest.mark.parametrize("missing", ["click", "filelock"])
def test_whoever_forgets_to_activate_the_environment_is_told_so(missing):
    code = f"import sys; sys.modules[{missing!r}] = None; sys.argv = ['cli.py', 'curves', 'x']; import cli; cli.main()"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    told = f"error: {missing} is not installed for this Python; source .venv/bin/activate, or pip install .\n"
    assert (done.returncode, done.stderr) == (1, told)


def test_meshes_are_not_written_into_a_dataset(cli, dataset_dir):
    done = cli("synthetic", dataset_dir)
    assert (done.exit_code, done.stderr) == (1, f"error: {dataset_dir} is a dataset or a run; choose a folder of its own\n")


def test_a_group_or_the_program_alone_is_explained(cli):
    for arguments in ([], ["study"]):
        done = cli(*arguments)
        assert done.exit_code == 2
        assert done.stderr.startswith("Usage: main")
        assert "Commands:" in done.stderr


def test_check_run_lists_rules_and_exits_with_3(cli, run_copy):
    (run_copy.path / "junk").write_text("")
    done = cli("check-run", run_copy.path)
    assert done.exit_code == 3
    assert done.stdout == "rule 1: junk is no part of a run directory\n"


def test_fail_above_is_for_scripts(cli, run_copy):
    assert cli("nn-check", run_copy.path, "--fail-above", 1.0).exit_code == 0
    grids = training_set(run_copy)[0].packed[:1]
    run_copy.write_samples("final", force=True, occupancy=np.repeat(grids, 30, axis=0))
    done = cli("nn-check", run_copy.path, "--fail-above", 0.5)
    assert done.exit_code == 3
    assert done.stderr.splitlines()[-1] == "failed: 30 of 30 samples are exact copies, more than 50.0%"


def test_a_running_run_is_judged_by_its_newest_samples(cli, run_copy):
    (run_copy.path / "samples/final.npz").unlink()
    run_copy.update(status="running")
    result = json.loads(cli("nn-check", run_copy.path, "--json").stdout)
    assert result["inputs"]["samples"]["path"] == "samples/000006.npz"
    rows = {key.split("/")[0] for key in result["values"]}
    lines = cli("nn-check", run_copy.path).stdout.splitlines()
    (hidden,) = [int(line.split()[2]) for line in lines if line.startswith("not shown")]
    assert hidden + len(rows & {line.split(" ")[0] for line in lines}) == len(rows)
    assert not any(line.startswith("z_u") for line in lines)
    assert cli("curves", run_copy.path).exit_code == 0
    assert cli("report", run_copy.path).exit_code == 0


# --- data --------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def meshes(tmp_path):
    from gan3d_model.data.synthetic import write_furniture

    write_furniture(tmp_path / "m", ["sofa"], 3, 1)
    return tmp_path / "m"


def test_prepare_says_what_it_found_and_prints_the_dataset(cli, meshes, tmp_path):
    (meshes / "sofa/train/sofa_0000.off").write_text("OFF\n3 1 0\n")
    result = cli("prepare", meshes, tmp_path / "d", "-r", 12, "--surface")
    assert result.exit_code == 0
    assert result.stdout.strip() == str(tmp_path / "d")
    assert "sofa           test 1  train 3" in result.stderr
    assert "left out, 1: unusable" in result.stderr
    assert "networks train at resolutions 16, 32, 64, 128; at 12 this set serves for judging only" in result.stderr


def test_prepare_by_the_slides_method_takes_no_other_settings(cli, meshes, tmp_path):
    assert cli("prepare", meshes, tmp_path / "d", "-r", 16, "--method", "polygon2voxel").exit_code == 0
    result = cli("prepare", meshes, tmp_path / "e", "-r", 16, "--method", "polygon2voxel", "--solid")
    assert result.exit_code == 1
    assert "no --solid, no --margin, no --up y" in result.stderr
    np.savez(tmp_path / "a.npz", voxels=np.ones((2, 8, 8, 8), np.bool_))
    for options, reason in (
        (["--surface"], "are for meshes"),
        (["--pattern", "x"], "--pattern is for"),
        (["--names", "a,a"], "given twice"),
    ):
        assert reason in cli("prepare", tmp_path / "a.npz", tmp_path / "e", "-r", 16, *options).stderr
    assert "--names is for one file" in cli("prepare", meshes, tmp_path / "e", "-r", 16, "--names", "a").stderr


def test_prepare_warns_of_defects_and_fixes_them_when_told(cli, tmp_path, grids):
    grids[2] = False
    np.savez(tmp_path / "a.npz", X_train=grids[[0, 1, 2, 3]], X_test=grids[[0, 4]])
    result = cli("prepare", tmp_path / "a.npz", tmp_path / "d", "-r", 16)
    assert "audit: empty, 1 of 6 shapes" in result.stderr
    assert "audit: exact-leak, 1 of 2 held-out shapes" in result.stderr
    result = cli("prepare", tmp_path / "a.npz", tmp_path / "e", "-r", 16, "--fix", "drop-empty,dedupe")
    assert "exact-leak" not in result.stderr
    assert "left out, 1: empty\nleft out, 1: stands in training too\n2 left out in all" in result.stderr
    assert "audit: exact-leak" not in result.stderr
    assert cli("prepare", tmp_path / "a.npz", tmp_path / "f", "-r", 16, "--fix", "magic").exit_code == 1


def test_audit_answers_for_a_file_a_tree_and_a_dataset(cli, meshes, tmp_path, dataset_dir):
    one = cli("audit", meshes / "sofa/train/sofa_0001.off")
    assert "index 0 is used" in one.stdout
    tree = cli("audit", meshes, "--out", tmp_path / "t.csv")
    assert tree.stdout.splitlines()[0].split() == ["meshes", "4"]
    assert len((tmp_path / "t.csv").read_text().splitlines()) == 5
    assert json.loads(cli("audit", meshes, "--json").stdout)["n"] == 4
    assert json.loads(cli("audit", dataset_dir, "--json").stdout)["verb"] == "audit"
    nothing = cli("audit", tmp_path / "nothing")
    assert nothing.exit_code == 1
    assert "does not exist" in nothing.stderr


def test_a_strict_audit_fails_on_what_makes_numbers_wrong(cli, meshes, tmp_path, grids):
    np.savez(tmp_path / "a.npz", X_train=grids[[0, 1, 2, 3]], X_test=grids[[0, 4]])
    cli("prepare", tmp_path / "a.npz", tmp_path / "d", "-r", 16)
    assert cli("audit", tmp_path / "d").exit_code == 0
    result = cli("audit", tmp_path / "d", "--strict")
    assert result.exit_code == 3
    assert "failed: the data set is unfit as it stands: 1 exact-leak" in result.stderr
    assert cli("audit", meshes, "--strict").exit_code == 0
    (meshes / "bad.off").write_text("OFF")
    assert cli("audit", meshes, "--strict").exit_code == 3


def test_describe_sets_datasets_side_by_side(cli, dataset_dir, tmp_path):
    result = cli("describe", dataset_dir, "--out", tmp_path / "d.png")
    assert result.exit_code == 0
    assert result.stdout.startswith("dataset")
    assert "ShapeNetCore, 51,300 shapes in 55 categories (Chang et al. 2015" in result.stdout
    assert (tmp_path / "d.png").stat().st_size > 10_000
    assert "rows" in json.loads(cli("describe", dataset_dir, "--json").stdout)


def test_view_measures_and_draws(cli, meshes, tmp_path):
    result = cli("view", meshes, "-r", 16, "--compare", "-n", 1, "--out", tmp_path / "v.png")
    assert result.exit_code == 0
    assert "polygon2voxel" in result.stdout
    assert "uncovered" in result.stdout


def test_export_writes_datasets_and_samples(cli, dataset_dir, trained, tmp_path):
    assert cli("export", dataset_dir, tmp_path / "a", "--format", "binvox", "--class", "sofa", "-n", 2).exit_code == 0
    assert len(list((tmp_path / "a").rglob("*.binvox"))) == 2
    assert cli("export", trained, tmp_path / "b", "--format", "npz").exit_code == 0
    again = cli("export", trained, tmp_path / "b", "--format", "npz")
    assert again.exit_code == 1
    assert "--force" in again.stderr


def test_bench_voxelize_names_its_peers(cli, meshes):
    result = cli("bench", "voxelize", "--meshes", meshes, "-r", 16, "--repeats", 1)
    assert result.exit_code == 0
    assert "meshes/s" in result.stdout
    assert "peer trimesh" in result.stdout
    assert "peer Open3D" in result.stdout


def test_a_reader_that_has_seen_enough_is_no_error(cli, monkeypatch):
    from cli import main

    def stop(ctx, *arguments):
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr(main.commands["curves"], "invoke", stop)
    done = cli("curves", "run")
    assert (done.exit_code, done.stderr) == (1, "")
