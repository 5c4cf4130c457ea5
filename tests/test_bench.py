"""Benchmarks compare like with like: the reference computes what ours computes, and the work is counted by hand."""

from __future__ import annotations

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


def test_all_benchmarks_run_in_one_sitting_under_the_name_of_the_machine(cli, monkeypatch, tmp_path):
    from studies import bench, bench_eval, bench_train, bench_voxelize

    for module in (bench, bench_eval, bench_train, bench_voxelize):
        for name in [name for name in vars(module) if name.startswith("bench_")]:
            monkeypatch.setattr(module, name, lambda name=name, **options: [f"{name} {len(options)}"])
    done = cli("bench", "all", "--dataset", tmp_path)
    assert done.exit_code == 0, done.output
    first, *lines = done.stdout.splitlines()
    assert "cores of" in first
    assert "torch 2." in first
    train = ["bench_precision 4", "bench_train 7", "bench_train 7"]
    assert lines == [
        "bench_nn_check 5",
        "bench_alignment 4",
        "bench_eval 4",
        "bench_voxelize 3",
        "bench_layers 2",
        *train,
        *train,
    ]
