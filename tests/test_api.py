"""The verdict from Python, as the page says it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import boxes
from test_orientation import chairs, inverse

from gan3d_eval.api import judge
from gan3d_eval.check_run import check_run
from gan3d_eval.files import Gan3dError
from gan3d_eval.orientation import given
from gan3d_eval.report import report
from gan3d_eval.training_set import training_set
from gan3d_eval.voxels import VoxelSet

ROOT = Path(__file__).parents[1]
TRAIN, TEST, GEN = (boxes(n, seed) for n, seed in ((60, 1), (40, 2), (30, 3)))


@pytest.fixture(scope="module")
def honest():
    return judge(TRAIN, TEST.astype(np.uint8) * 255, VoxelSet.from_grids(GEN))


def test_an_honest_sampler_is_judged_and_the_run_directory_keeps_to_the_contract(honest, tmp_path):
    assert honest.verdict in {"no-evidence-of-copying", "undecided"}
    assert honest.novelty.values["exact_copies"] == 0
    assert honest.realism.values["n"] == 30
    assert honest.why_not == ""
    text = str(honest)
    assert text.startswith(f"{'verdict':40} {honest.verdict}")
    assert "1-NNA on samples" in text
    assert re.search(r"^1-NNA on held-out shapes, L1 \(½\) +0\.\d+.*, real shapes 0\.\d+$", text, re.MULTILINE)
    run = honest.write(tmp_path / "run")
    assert check_run(run.path) == []
    assert set(run.results()) == {"compare", "nn-check"}
    assert len(run.samples()) == 30
    assert report([run]).is_file()
    with pytest.raises(Gan3dError, match="already exists"):
        honest.write(tmp_path / "run")


def test_a_copycat_is_caught_and_without_held_out_shapes_nothing_is_said_of_realism(tmp_path):
    np.savez(tmp_path / "gen.npz", samples=TRAIN[:25].astype(np.float32))
    verdict = judge(TRAIN, None, tmp_path / "gen.npz")
    assert verdict.verdict == "copying"
    assert verdict.novelty.values["exact_copies"] == 25
    assert verdict.realism is None
    assert verdict.why_not.startswith("no held-out shapes were given: name them as `test`")
    assert "none: " in str(verdict)


def test_a_dataset_is_read_by_its_split(dataset_dir, tmp_path):
    verdict = judge(dataset_dir, dataset_dir, str(dataset_dir))
    assert verdict.novelty.inputs["train"]["n"] == verdict.novelty.inputs["test"]["n"] == 48
    sofas = judge(dataset_dir, dataset_dir, str(dataset_dir), classes=["sofa"])
    assert "beside training, held-out shapes         24, 24\n" in str(sofas)
    train, _, own = training_set(sofas.write(tmp_path / "run"))  # which the run names
    assert own
    assert set(train.table["class"]) == {"sofa"}
    assert check_run(tmp_path / "run") == []
    with pytest.raises(Gan3dError, match="`classes` chooses from a dataset directory, and neither `train` nor `test` is one"):
        judge(TRAIN, None, str(dataset_dir), classes=["sofa"])


def test_any_encoding_is_taken_and_samples_that_lie_otherwise_are_turned(tmp_path):
    random = np.random.default_rng(0)
    train, test, gen = (chairs(n, seed) for n, seed in ((40, 1), (25, 2), (20, 3)))
    tanh = np.where(gen, 1, -1) * random.uniform(0.2, 0.9, gen.shape).astype(np.float32)
    np.save(tmp_path / "tanh.npy", tanh[:, None])
    plain = judge(train, test, gen).novelty
    assert judge(train, None, tmp_path / "tanh.npy").novelty.values == judge(train, None, tanh).novelty.values
    turned = judge(train, test, inverse(given(None, "y").pose)(tanh))
    assert turned.novelty.values == plain.values
    assert "the samples were turned, axes xz-y" in str(turned)
    assert not any("seem to lie otherwise" in note for note in turned.novelty.notes)
    as_said = judge(train, None, inverse(given(None, "y").pose)(gen), axes="xyz")
    assert "turned" not in str(as_said)
    assert any("axes xz-y would lay them alike" in note for note in as_said.novelty.notes)
    with pytest.raises(Gan3dError, match=r"samples are 24³, training shapes 26³; voxelise these at 24³, or, .* pad"):
        judge(np.pad(train, ((0, 0), *[(1, 1)] * 3)), test, gen)
    with pytest.raises(Gan3dError, match=r"held-out shapes 26³"):
        judge(train, np.pad(test, ((0, 0), *[(1, 1)] * 3)), gen)


@pytest.mark.parametrize(
    "gen", [np.zeros((3, 4, 4)), np.full((3, 16, 16, 16), 7.0), boxes(5, 0, 16)[:, :8, :8, :8], "no/such/file.npy"]
)
def test_what_cannot_be_judged_is_refused_in_words(gen):
    with pytest.raises(Gan3dError):
        judge(TRAIN, TEST, gen)


def test_training_shapes_that_are_all_empty_are_refused():
    with pytest.raises(Gan3dError, match="training shapes are all empty"):
        judge(np.zeros((30, 16, 16, 16)), TEST, GEN)


def test_importing_the_package_is_cheap_and_its_page_says_what_works(tmp_path):
    page = (ROOT / "docs/bring-your-own-gan.md").read_text()
    code = re.search(r"```python\n(.*?)```", page, re.DOTALL)[1].replace("runs/judged", str(tmp_path / "run"))
    program = f"""
import sys
import gan3d_eval
assert not {{"numpy", "pandas", "torch", "scipy"}} & set(sys.modules)
assert gan3d_eval.__all__ == ["Judgement", "__version__", "judge"]
from test_api import GEN as gen, TEST as test, TRAIN as train
{code}
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "PATH": ""},
    )
    assert done.returncode == 0, done.stderr
    assert "verdict" in done.stdout
    assert check_run(tmp_path / "run") == []


def test_the_page_names_real_commands():
    from cli import main

    page = (ROOT / "docs/bring-your-own-gan.md").read_text()
    assert set(re.findall(r"cli\.py ([a-z][a-z-]+)", page)) <= set(main.commands)


def test_judge_stays_a_function_whatever_else_is_imported():
    code = "import gan3d_eval, gan3d_eval.case, gan3d_eval.series, gan3d_eval.history; assert callable(gan3d_eval.judge)"
    subprocess.run([sys.executable, "-c", code], check=True)
