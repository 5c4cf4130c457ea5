"""The contract in RUN_DIR.md: for each numbered rule, that we keep it and that `check-run` sees it broken."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from gan3d_eval import provenance
from gan3d_eval.check_run import check_run
from gan3d_eval.contract import METRICS
from gan3d_eval.files import Gan3dError
from gan3d_eval.provenance import Result, new_run_id, producer
from gan3d_eval.run_dir import RunDir, RunDirError
from gan3d_eval.training_set import training_set
from gan3d_eval.voxels import VoxelSet

META = {
    "run_id": "x", "category": "sofa", "resolution": 8, "status": "imported", "seed": None, "dataset": None, "grid": {}, "prior": None,
    "producer": {}, "software": {}, "command": [],
}  # fmt: skip


@pytest.fixture
def run(tmp_path):
    run = RunDir.create(tmp_path / "run", META)
    run.write_samples("final", occupancy=np.full((3, 64), 7, np.uint8))
    return run


def rules(run):
    return sorted({rule for rule, _ in check_run(run.path)})


def test_our_own_runs_and_imports_break_no_rule(run, trained):
    assert check_run(run.path) == []
    assert check_run(trained) == []


def test_rule_1_unknown_entries_and_missing_samples_are_seen(run):
    (run.path / "notes.txt").write_text("hello")
    shutil.rmtree(run.path / "samples")
    assert rules(run) == [1]
    assert len(check_run(run.path)) == 2


def test_rule_1_deleting_what_evaluation_wrote_loses_nothing(run_copy, cli):
    first = json.loads(cli("nn-check", run_copy.path, "--json").stdout)
    cli("gallery", run_copy.path, "-n", 2)
    cli("report", run_copy.path)
    for name in ("results", "figures", "gallery"):
        shutil.rmtree(run_copy.path / name)
    (run_copy.path / "report.html").unlink()
    again = json.loads(cli("nn-check", run_copy.path, "--json").stdout)
    assert (first["values"], first["intervals"]) == (again["values"], again["intervals"])


def test_rule_2_run_json_keeps_unknown_keys_and_refuses_an_unknown_format(run):
    run.update(mood="good", status="finished")
    assert RunDir.open(run.path).meta["mood"] == "good"
    meta = json.loads((run.path / "run.json").read_text())
    (run.path / "run.json").write_text(json.dumps(meta | {"format": 2}))
    with pytest.raises(RunDirError, match="format 2; this version reads 1"):
        RunDir.open(run.path)
    assert rules(run) == [2]


@pytest.mark.parametrize(
    "harm", [{"status": "done"}, {"resolution": 0}, {"resolution": "64"}, {"seed": ...}, {"dataset": "x"}, {"grid": [1]},
     {"category": 5}, {"dataset": {"name": "x", "sha256": None, "n": 1, "path": 5}},
     {"dataset": {"name": "x", "sha256": None, "n": 1, "classes": "sofa"}}],
)  # fmt: skip
def test_rule_2_bad_or_missing_keys_are_seen(run, harm):
    meta = json.loads((run.path / "run.json").read_text()) | harm
    meta = {key: value for key, value in meta.items() if value is not ...}
    (run.path / "run.json").write_text(json.dumps(meta))
    assert rules(run) == [2]


def test_all_that_is_wrong_is_listed_at_once(run):
    meta = json.loads((run.path / "run.json").read_text())
    (run.path / "run.json").write_text(
        json.dumps(meta | {"status": "done", "created": "yesterday", "software": None, "dataset": "x"})
    )
    (run.path / "notes.txt").touch()
    assert [rule for rule, _ in check_run(run.path)] == [1, 2, 2, 2]
    with pytest.raises(RunDirError, match=r"has status 'done'; .*; has dataset as str"):
        RunDir.open(run.path)


def test_rule_3_config_is_flat_and_ours_round_trips(run, trained, tiny):
    from gan3d_model.config import TrainConfig

    found = TrainConfig.from_dict(RunDir.open(trained).config())
    assert found == dataclasses.replace(tiny, precision=found.precision)
    assert found.precision != tiny.precision == "auto"  # what that comes to is settled by the first start
    run.write_config({"lr": {"g": 1}})
    assert rules(run) == [3]


def test_rule_3_a_misspelled_key_is_listed_of_our_own_runs_and_allowed_to_others(run_copy, cli):
    run_copy.write_config({("latent_dmi" if key == "latent_dim" else key): v for key, v in run_copy.config().items()})
    done = cli("check-run", run_copy.path)
    assert done.exit_code == 3
    assert done.stdout == "rule 3: config.json: unknown setting 'latent_dmi'; the nearest valid one is 'latent_dim'\n"
    run_copy.update(producer={"name": "theirs"})
    assert cli("check-run", run_copy.path).exit_code == 0


def test_rule_4_a_log_of_damaged_bytes_is_refused_in_words(run_copy):
    (run_copy.path / "metrics.csv").write_bytes(bytes(range(128, 256)))
    with pytest.raises(RunDirError, match=r"metrics\.csv is damaged: it is no text; copy it again"):
        run_copy.metrics()


def test_rule_3_a_training_of_ours_without_its_config_is_seen(run_copy):
    (run_copy.path / "config.json").unlink()
    assert check_run(run_copy.path) == [(3, "config.json, which every training writes, is missing")]
    run_copy.update(status="imported")
    assert check_run(run_copy.path) == []


def test_rule_3_a_config_without_its_settings_is_seen(run_copy):
    run_copy.write_config({})
    assert check_run(run_copy.path, lambda values, where: None) == [(3, "config.json: resolution is None, in run.json 16")]


def test_rule_4_a_log_that_lost_its_end_is_seen_and_said(run_copy, cli):
    log = run_copy.path / "metrics.csv"
    log.write_text("\n".join(log.read_text().splitlines()[:3]) + "\n")
    steps = int(run_copy.checkpoints()[-1].stem)
    lost = f"metrics.csv lacks {steps - 2} of the {steps} rows of this training, which are lost"
    assert check_run(run_copy.path) == [(4, lost)]
    assert f"note: {lost}" in cli("curves", run_copy.path).stderr
    resumed = cli("train", run_copy.dataset_path(), "--resume", run_copy.path, "--epochs", 3)
    assert f"warning: {lost}\n" in resumed.stderr
    assert len(check_run(run_copy.path)) == 1  # and the gap is still seen
    log.unlink()
    assert check_run(run_copy.path)[0][1].startswith("metrics.csv lacks 9 of the 9 rows")


def test_rule_4_a_row_being_written_is_ignored_and_a_broken_log_seen(run):
    row = dict.fromkeys(METRICS, 1.0)
    with run.metrics_log() as log:
        log(row | {"step": 1})
        log(row | {"step": 2})
        (run.path / "metrics.csv").open("a").write("3,1")
        assert run.metrics()["step"].tolist() == [1, 2]  # read while it is being written
    assert rules(run) == []
    (run.path / "metrics.csv").write_text("step,loss_g,mood\n2,x,1\n1,1,1\n")
    assert rules(run) == [4]
    assert len(check_run(run.path)) == 3  # unknown column, not numeric, not increasing


def test_rule_4_resuming_cuts_the_log_back(run):
    row = dict.fromkeys(METRICS, 0.5)
    with run.metrics_log() as log:
        for step in range(1, 6):
            log(row | {"step": step})
    before = (run.path / "metrics.csv").read_text().splitlines()
    with run.metrics_log(upto=3) as log:
        log(row | {"step": 4})
    assert (run.path / "metrics.csv").read_text().splitlines() == before[:5]


def test_rule_4_a_step_is_exact_however_large(run):
    with run.metrics_log() as log:
        for step in (1_234_567, 1_234_568):
            log(dict.fromkeys(METRICS, 0.5) | {"step": step})
    assert run.metrics()["step"].tolist() == [1_234_567, 1_234_568]
    assert rules(run) == []


@pytest.mark.parametrize("arrays", [
    {"occupancy": np.zeros((3, 63), np.uint8), "resolution": 8},
    {"occupancy": np.zeros((3, 64), np.int32), "resolution": 8},
    {"occupancy": np.zeros((0, 64), np.uint8), "resolution": 8},
    {"occupancy": np.zeros((3, 512), np.uint8), "resolution": 16},
    {"occupancy": np.zeros((3, 64), np.uint8)},
    {"occupancy": np.uint8(3), "resolution": 8},
    {"occupancy": np.zeros((3, 64), np.uint8), "resolution": np.arange(3)},
    {"occupancy": np.zeros((3, 64), np.uint8), "resolution": 8, "step": np.arange(3)},
    {"occupancy": np.zeros((3, 64), np.uint8), "resolution": 8, "latents": np.zeros((2, 5), np.float32)},
    {"occupancy": np.zeros((3, 64), np.uint8), "resolution": 8, "names": np.array(["a"])},
])  # fmt: skip
def test_rule_5_samples_that_are_not_as_described_are_seen(run, arrays):
    np.savez(run.path / "samples" / "000001.npz", **arrays)
    assert rules(run) == [5]


def test_rule_5_truncated_and_pickled_samples_are_refused(run):
    path = run.path / "samples" / "final.npz"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RunDirError, match=r"final\.npz is truncated.*; copy it again"):
        run.samples()
    np.savez(path, occupancy=np.array([{}], dtype=object), resolution=8)
    with pytest.raises(RunDirError, match="of numbers"):
        run.samples()
    assert rules(run) == [5]


def test_rule_5_final_comes_before_progress_and_progress_serves_a_running_run(run):
    run.write_samples("000010", occupancy=np.ones((1, 64), np.uint8))
    assert len(run.samples()) == 3
    (run.path / "samples" / "final.npz").unlink()
    assert len(run.samples()) == 1
    with pytest.raises(RunDirError, match=r"000099\.npz is missing; there are 000010"):
        run.samples("000099")


def test_rule_5_steps_are_ordered_as_numbers(run):
    for name in ("999999", "1000000", "at-000500"):
        run.write_samples(name, occupancy=np.full((1, 64), 7, np.uint8))
    assert run.sample_names() == ["at-000500", "999999", "1000000", "final"]  # history's of a step are no newer than it


def test_rule_6_features_need_all_their_arrays(run):
    (run.path / "features").mkdir()
    np.savez(run.path / "features" / "d.npz", features=np.zeros((3, 5), np.float32))
    assert rules(run) == [6]
    whole = {
        "labels": np.zeros(3),
        "names": np.array(list("abc")),
        "split": np.array(["train"] * 3),
        "layers": "2,3,4",
        "weights_sha256": "0",
    }
    np.savez(run.path / "features" / "d.npz", features=np.zeros((3, 5), np.float32), **whole)
    assert rules(run) == []


def test_rule_7_checkpoints_load_without_unpickling_and_a_bare_pickle_is_seen(run, trained):
    content = torch.load(RunDir.open(trained).checkpoints()[-1], weights_only=True)
    assert content["step"] == 6
    (run.path / "checkpoints").mkdir()
    run.checkpoint_path(5).write_bytes(b"\x80\x04K\x01.")
    assert rules(run) == [7]


def test_rule_8_results_have_every_key_and_never_a_nan(run):
    result = Result("nn-check", "p", {}, {}, {"a": 1}, {}, absent={"b": "no data"})
    path = run.write_result(result)
    assert json.loads(path.read_text())["status"] == "partial"
    assert rules(run) == []
    with pytest.raises(ValueError, match="JSON"):
        run.write_result(Result("nn-check", "p", {}, {}, {"a": float("nan")}, {}))
    assert json.loads(path.read_text())["values"] == {"a": 1}  # the old one stands
    for harm in ({"values": {"a": float("inf")}}, {"absent": {"a": "no data"}}, {"values": 5}, {"verb": None}):
        (run.path / "results" / "nn-check.json").write_text(json.dumps(result.to_dict() | harm))
        assert rules(run) == [8]
    with pytest.raises(RunDirError, match=r"nn-check\.json has verb as NoneType; run its verb again"):
        run.results()
    run.write_result(Result("nn-check", "p", {}, {}, {}, {}, notes=["samples hold NaN"]))
    assert rules(run) == []
    path.write_text(json.dumps({"verb": "nn-check"}))
    assert rules(run) == [8]


def test_rule_8_a_result_stays_in_the_run_whatever_its_dataset_is_called(run):
    path = run.write_result(Result("nn-check", "p", {}, {}, {}, {}), reference="../../../ModelNet 10")
    assert path == run.path / "results" / "nn-check-..-..-..-ModelNet-10.json"
    assert path.is_file()


def test_a_file_that_cannot_be_read_does_not_hide_the_next(run):
    for folder, suffix in (("features", ".npz"), ("results", ".json"), ("samples", ".npz")):
        (run.path / folder).mkdir(exist_ok=True)
        for name in ("000001", "000002"):
            (run.path / folder / (name + suffix)).write_bytes(b"x")
    assert [rule for rule, _ in check_run(run.path)] == [5, 5, 6, 6, 8, 8]


def test_rule_9_what_a_kill_left_is_seen_and_not_read(run):
    (run.path / "samples" / ".final.npz.abc.tmp").write_bytes(b"half")
    (run.path / "samples" / ".000001.npz").write_bytes(b"half")
    assert run.sample_names() == ["final"]
    assert rules(run) == [9]


def test_rule_10_a_run_never_overwrites_another(run, tmp_path):
    with pytest.raises(Gan3dError, match="already exists"):
        RunDir.create(tmp_path / "run", META)
    with pytest.raises(RunDirError, match="--force"):
        run.write_samples("final", occupancy=np.zeros((1, 64), np.uint8))
    shutil.copy(run.path / "samples" / "final.npz", run.path / "samples" / "000005.npz")
    shutil.copy(run.path / "samples" / "final.npz", run.path / "samples" / "5.npz")
    shutil.copy(run.path / "samples" / "final.npz", run.path / "samples" / "².npz")  # a digit, and no number
    assert rules(run) == [10]


def test_rule_11_a_run_can_be_moved_with_its_dataset_and_absolute_paths_are_seen(trained, tmp_path, run):
    shutil.copytree(trained.parents[1], tmp_path / "elsewhere")
    moved = RunDir.open(tmp_path / "elsewhere" / trained.relative_to(trained.parents[1]))
    train, test, own = training_set(moved)
    assert (len(train), len(test), own) == (24, 24, True)
    run.update(grid={"from": "/home/me/x"}, producer={"at": "C:\\x"})
    assert rules(run) == [11]
    assert len(check_run(run.path)) == 2


def test_a_run_is_judged_only_against_what_it_was_trained_on_unless_told(run_copy, dataset_dir):
    record = run_copy.meta["dataset"]
    changed = run_copy.update(dataset=record | {"sha256": "0" * 64})
    with pytest.raises(RunDirError, match="is not what .* was trained on"):
        training_set(changed)
    assert [rule for rule, _ in check_run(run_copy.path)] == [2]
    assert training_set(changed, dataset_dir)[2] is False
    assert training_set(run_copy.update(dataset=record | {"sha256": None}))[2] is True  # unknown is no contradiction
    assert len(training_set(changed, dataset_dir, ["sofa"])[0]) == 24
    empty = VoxelSet.open(dataset_dir)
    VoxelSet(np.zeros_like(empty.packed), empty.resolution, empty.table, empty.info).write(dataset_dir.with_name("empty"))
    with pytest.raises(RunDirError, match="empty: its 24 training shapes are all empty"):
        training_set(changed, dataset_dir.with_name("empty"))
    with pytest.raises(RunDirError, match="--class needs --reference"):
        training_set(changed, None, ["sofa"])
    with pytest.raises(RunDirError, match="--reference"):
        training_set(run_copy.update(dataset=record | {"path": "gone"}))
    with pytest.raises(RunDirError, match="--reference"):
        training_set(run_copy.update(dataset=None))


def test_what_is_no_run_directory_says_so(tmp_path):
    (tmp_path / "file").touch()
    for path, lacks in (("nothing", "nothing is there"), ("file", "it is a file"), ("", "it has no run.json")):
        with pytest.raises(RunDirError, match=f"no run directory, as made by train or import-run: {lacks}"):
            RunDir.open(tmp_path / path)
    with pytest.raises(RunDirError, match="no directory"):
        check_run(tmp_path / "nothing")


def test_run_ids_say_what_they_are_and_the_producer_who_made_them():
    assert new_run_id("sofa", "paper", 3).startswith("sofa-paper-s3-20")
    assert new_run_id("../a b", "paper", 3).startswith("..-a-b-paper-s3-20")
    assert set(producer()) == {"name", "version", "commit", "dirty"}


def test_a_repository_that_we_merely_lie_in_is_not_our_commit(tmp_path, monkeypatch):
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b.c"]
    for arguments in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "theirs"]):
        subprocess.run([*git, *arguments], check=True)
    (tmp_path / "site-packages").mkdir()
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "site-packages" / "provenance.py"))
    assert (producer()["commit"], producer()["dirty"]) == (None, None)


def test_the_contract_document_numbers_its_rules_one_to_eleven():
    text = (Path(__file__).parents[1] / "gan3d_eval" / "RUN_DIR.md").read_text()
    assert [int(line.split(".")[0]) for line in text.splitlines() if line[:2].strip(".").isdigit()] == list(range(1, 12))
    assert all(name in text for name in METRICS)


def test_samples_are_a_plain_zip_of_arrays(run):
    assert sorted(zipfile.ZipFile(run.path / "samples" / "final.npz").namelist()) == ["occupancy.npy", "resolution.npy"]


def test_what_is_damaged_names_a_way_out(run_copy, tmp_path, cli):
    (run_copy.path / "samples/final.npz").write_bytes(b"PK")
    with pytest.raises(
        RunDirError, match=r"take others with --samples: 000003, 000006; drawn anew by: .* --name final --force"
    ):
        run_copy.samples()
    draw = cli("sample", run_copy.path, "--name", "final", "--force", "-n", 4)
    assert draw.exit_code == 0
    assert len(run_copy.samples()) == 4
    (run_copy.path / "checkpoints/000006.pt").write_bytes(b"PK")
    judged = cli("nn-check", run_copy.path)
    assert "000006.pt is truncated" in judged.stderr
    assert judged.stderr.splitlines()[-1].endswith("; checkpoints of other steps: 3; --no-features judges without it")
    (run_copy.path / "run.json").write_text("{")
    with pytest.raises(RunDirError, match="import-run .*/samples/final.npz NEW_RUN_DIR makes a run of its samples"):
        RunDir.open(run_copy.path)
    taken = cli("import-run", run_copy.path / "samples/final.npz", tmp_path / "new")
    assert taken.exit_code == 0, taken.output
    assert RunDir.open(tmp_path / "new").samples().sha256 == run_copy.samples().sha256
