"""Benchmarks compare like with like: the reference computes what ours computes, and the work is counted by hand."""

from __future__ import annotations

import subprocess

import torch

from gan3d_model.config import TrainConfig
from gan3d_model.players import Players
from studies.bench_train import _plain, bench_train, flops_per_shape


def test_the_reference_layers_compute_what_ours_do(tiny):
    players = Players.build(tiny, torch.device("cpu"))
    latents = torch.randn(3, tiny.latent_dim)
    fake = players.generator(latents)
    assert torch.allclose(_plain(players.generator)(latents), fake, atol=1e-5)
    assert torch.allclose(_plain(players.discriminator)(fake), players.discriminator(fake), atol=1e-4)


def test_the_work_of_a_step_is_counted_as_by_hand():
    """At 16³ and base 2: G 8 → 16 × 4³ → 8 × 8³ → 1 × 16³, D back; each layer 2 · weights · positions."""
    config = TrainConfig(resolution=16, base_channels=2, latent_dim=8)
    g = 2 * 64 * (8 * 16 * 1 + 16 * 8 * 4**3 + 8 * 1 * 8**3)
    d = 2 * 64 * (1 * 8 * 8**3 + 8 * 16 * 4**3 + 16 * 1)
    assert flops_per_shape(config) == 3 * g + 8 * d


def test_the_benchmark_of_the_step_says_all_it_measured():
    lines = list(bench_train(16, 2, 4, 1, 1, "cpu", "auto"))
    assert "shapes/s" in lines[1]
    assert "times as fast" in lines[2]
    assert "GFLOP/s" in lines[3]


def test_the_benchmark_of_alignment_compares_with_a_search_for_each_shift(dataset_dir, cli):
    done = cli("bench", "alignment", "--dataset", dataset_dir, "-n", 5, "--shift", 1)
    assert done.exit_code == 0, done.output
    assert "5 against 48 shapes at 16³, shifts up to 1; peer: a faiss search for each shift: ours" in done.stdout


def test_the_benchmark_of_judging_tells_cold_from_cached_and_what_a_million_cost(dataset_dir, cli):
    done = cli("bench", "eval", "--dataset", dataset_dir, "-n", 30, "--draws", 5, "--mapped", 64)
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert lines[0].startswith("nn-check, five distances; 30 samples, 30 held out, 36 training shapes at 16³: ")
    assert "once the data's own part is cached" in lines[1]
    assert "a million shapes (33 GB): " in lines[2]


def test_all_benchmarks_run_in_one_sitting_each_in_a_process_of_its_own(cli, monkeypatch, tmp_path):
    ran = []
    monkeypatch.setattr(
        subprocess, "run", lambda command, check: ran.append(command[3:]) or subprocess.CompletedProcess(command, len(ran) > 6)
    )
    done = cli("bench", "all", "--dataset", tmp_path)
    assert done.exit_code == 1
    assert "bench train --precision float32 failed" in done.stderr
    assert "cores of" in done.stdout
    assert "torch 2." in done.stdout
    assert [run[0] for run in ran] == ["nn-check", "alignment", "eval", "voxelize", "layers", "precision", "train"]
    from cli import main

    for run in ran:  # as the commands take them
        main.commands["bench"].commands[run[0]].make_context(run[0], run[1:])


def test_a_run_that_the_studys_server_refuses_is_refused_in_its_words(cli, tmp_path):
    done = cli("bench", "human", tmp_path)
    assert done.exit_code == 1
    assert done.stderr == f"error: {tmp_path} is no run directory, as made by train or import-run: it has no run.json\n"
