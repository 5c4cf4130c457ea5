"""Commands of the studies and benchmarks, which `cli.py` takes in. Heavy imports live inside commands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

__all__ = ["bench", "study"]

PathArg = click.Path(path_type=Path)


def say(line: str) -> None:
    """Progress and log go to stderr."""
    click.echo(line, err=True)


@click.group()
def study() -> None:
    """Questions answered by trainings on real data (studies/README.md)."""


study_argument = click.argument("name", type=click.Choice(["categories"]))
scale_option = click.option(
    "--scale", type=click.Choice(["smoke", "cpu", "gpu", "paper"]), default="cpu", help="How large the trainings are."
)
study_out_option = click.option("--out", type=PathArg, default=Path("runs/studies"), help="Folder of the runs.")


def named_study(name: str) -> Any:
    """The study of that name."""
    import importlib

    return importlib.import_module(f"studies.{name}").STUDY


@study.command("run")
@study_argument
@click.argument("dataset_dir", type=PathArg)
@scale_option
@study_out_option
@click.option("--jobs", type=click.IntRange(min=1), default=1, help="Trainings at a time.")
@click.option("--seeds", type=click.IntRange(min=1), help="Trainings of each cell.  [default: the scale's]")
@click.option("--cell", "cells", multiple=True, help="Only these cells; repeat for several.")
def study_run(
    name: str, dataset_dir: Path, scale: str, out: Path, jobs: int, seeds: int | None, cells: tuple[str, ...]
) -> None:
    """Train and judge what is not there yet; a study that was cut off goes on where it was."""
    from studies.study import run

    run(named_study(name).only(cells), dataset_dir, scale, out, jobs, say, seeds)


@study.command("collect")
@study_argument
@scale_option
@study_out_option
def study_collect(name: str, scale: str, out: Path) -> None:
    """Write the study's CSV and figure below studies/results, and the table of its page."""
    from studies.study import publish

    for path in publish(named_study(name), scale, out):
        click.echo(path)


@click.group()
def bench() -> None:
    """Measure ours against a peer on the same arrays in the same process (BENCHMARKS.md holds the figures)."""


@bench.command("nn-check")
@click.option("--dataset", type=PathArg, help="Shapes to use, at 32³ (voxels doubled) or 64³.  [default: random bits]")
@click.option("--n-gen", default=1000, help="Samples.")
@click.option("--n-train", default=3991, help="Training shapes.")
@click.option("--n-test", default=100, help="Held-out shapes.")
@click.option("--repeats", default=3, help="Timed repeats of each.")
def bench_nn_check(**options: Any) -> None:
    """The whole novelty check against a bare faiss search, at 64³."""
    from studies.bench import bench_nn_check as run

    for timing in run(**options):
        click.echo(timing)


@bench.command("alignment")
@click.option("--dataset", type=PathArg, required=True, help="Shapes with a train and a test split, at most 64³.")
@click.option("-n", default=500, help="Held-out shapes to search for.")
@click.option("--shift", default=2, help="Voxels along each axis.")
@click.option("--repeats", default=1, help="Timed repeats of each.")
def bench_alignment(**options: Any) -> None:
    """Neighbours over every shift: counting bits of whole lines against one faiss search for each shift."""
    from studies.bench import bench_alignment as run

    for timing in run(**options):
        click.echo(timing)


@bench.command("eval")
@click.option("--dataset", type=PathArg, required=True, help="Shapes with a train and a test split, at most 64³.")
@click.option("-n", default=500, help="Samples, and held-out shapes.")
@click.option("--draws", default=1000, help="Draws of compare.")
@click.option("--mapped", default=8000, help="Shapes at 64³ of a file that is searched through a memory map.")
def bench_eval(**options: Any) -> None:
    """nn-check and compare, cold and cached, their memory, and the search of data larger than memory."""
    from studies.bench_eval import bench_eval as run

    for line in run(**options):
        click.echo(line)


@bench.command("voxelize")
@click.option("--meshes", type=PathArg, help="Folder or .zip of meshes.  [default: procedural furniture]")
@click.option("-r", "--resolution", default=64)
@click.option("--repeats", default=3, help="Timed repeats of each.")
def bench_voxelize(**options: Any) -> None:
    """The exact voxeliser against trimesh and, where it is installed, Open3D; and the whole pipeline."""
    from studies.bench_voxelize import bench_voxelize as run

    for line in run(**options):
        click.echo(line)


@bench.command("train")
@click.option("-r", "--resolution", default=64)
@click.option("--base-channels", default=64)
@click.option("--batch", default=8, help="Shapes per batch.")
@click.option("--steps", default=2, help="Steps in a repeat.")
@click.option("--repeats", default=3, help="Timed repeats of each.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1 …")
def bench_train(**options: Any) -> None:
    """Our training step against a plain one, and against the device's matrix products."""
    from studies.bench_train import bench_train as run

    for line in run(**options):
        click.echo(line)


@bench.command("layers")
@click.option("--batch", default=8, help="Shapes per batch.")
@click.option("--repeats", default=7, help="Timed repeats of each.")
def bench_layers(**options: Any) -> None:
    """Our one-channel layers against PyTorch's own, forward and backward."""
    from studies.bench import bench_layers as run

    for timing in run(**options):
        click.echo(timing)


@bench.command("precision")
@click.option("-r", "--resolution", default=64)
@click.option("--base-channels", default=64)
@click.option("--batch", default=4, help="Shapes per batch.")
@click.option("--repeats", default=5, help="Timed repeats of each.")
def bench_precision(**options: Any) -> None:
    """float32 against bfloat16 on this CPU."""
    from studies.bench import bench_precision as run

    for timing in run(**options):
        click.echo(timing)
