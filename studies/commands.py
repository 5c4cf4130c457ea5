"""The commands view, demo, study and bench. Heavy imports live inside commands."""

from __future__ import annotations

import functools
import importlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from gan3d_eval.command_line import FileArg, PathArg, device_option, say, seed_option
from gan3d_model.data.commands import FURNITURE, voxelizer, voxelizer_options

__all__ = ["bench", "demo", "study", "view"]

COUNT = click.IntRange(min=1)


@click.command()
@click.argument("source", type=PathArg)
@click.option("-r", "--resolution", type=int, default=64, help="Voxels along each axis.")
@voxelizer_options
@click.option("--compare", is_flag=True, help="Show Matlab's polygon2voxel beside it.")
@click.option("-n", "--n-samples", type=click.IntRange(min=1), default=8, help="Meshes shown.")
@click.option("--out", type=FileArg(".png"), default=Path("view.png"), help="Picture to draw.")
@seed_option
def view(source: Path, compare: bool, n_samples: int, out: Path, seed: int, **options: Any) -> None:
    """Meshes beside their voxels. With what voxelising covered and lost. SOURCE is a mesh, or a folder or .zip of meshes.

    \b
    uncovered      share of the surface that lies in empty voxels: holes
    inflation      volume, as a multiple of that at twice the resolution
    tunnels        openings one can see through; finer_tunnels: at twice the resolution
    pieces         parts that do not touch
    """  # noqa: D301 -- \b is click's mark for text that must not be rewrapped
    from gan3d_eval.files import refuse_closed
    from gan3d_eval.render import RenderError
    from studies.view import draw
    from studies.view import view as run

    refuse_closed(out.parent, "and --out names a place in it; give another")
    hows = [voxelizer(options)]
    if compare:
        hows.append(voxelizer({"resolution": hows[0].resolution, "method": "polygon2voxel"}))
    table, tiles = run(source, hows, n_samples, seed)
    click.echo(table.to_string(index=False, float_format="{:.4g}".format))
    try:
        draw(out, tiles, len(hows))
    except RenderError as fault:
        say(f"warning: no picture: {fault}")
    else:
        click.echo(out)


@click.command()
@click.option("--out", type=PathArg, default=Path("demo"), help="Folder for data and run.")
@click.option("--class", "category", type=click.Choice(FURNITURE), default="sofa", help="What is built and learned.")
@click.option("--n-train", type=click.IntRange(min=16), default=280, help="Training shapes.")
@click.option("--n-test", type=click.IntRange(min=20), default=70, help="Held-out shapes.")
@click.option("--epochs", type=COUNT, default=40, help="Passes over the training shapes.")
@seed_option
def demo(category: str, **options: Any) -> None:
    """Everything once, in minutes, on built-in furniture. Voxels, training, judging, pictures; prints the report."""
    from gan3d_eval.files import refuse_closed
    from studies.demo import demo as run

    refuse_closed(options["out"], "and what is made belongs there; give another --out")
    click.echo(run(category=category, command=sys.argv, say=say, **options))


@click.group()
def study() -> None:
    """Questions, answered with runs.

    What came of them stands in studies/README.md.
    """


STUDIES = (
    "categories", "label_smoothing", "accuracy_gate", "dataset_size", "voxelization", "features", "novelty_power",
)  # fmt: skip
study_argument = click.argument("name", type=click.Choice(STUDIES), metavar="NAME")
scale_option = click.option(
    "--scale", type=click.Choice(["smoke", "cpu", "gpu", "paper"]), default="cpu", help="How large the runs are."
)
study_out_option = click.option("--out", type=PathArg, default=Path("runs/studies"), help="Folder of the runs.")


def named_study(name: str) -> Any:
    """The study of that name."""
    return importlib.import_module(f"studies.{name}").STUDY


def pages_of(name: str, out: Path) -> Path:
    """Where that study's page and results are: in the checkout, or, installed, with its runs."""
    pages = Path(__file__).parent
    return pages if (pages / f"{name}.md").exists() else out


@study.command("list")
@scale_option
@study_out_option
def study_list(scale: str, out: Path) -> None:
    """Every study, how many of its runs are there, its question."""
    for name in STUDIES:
        tasks = named_study(name).tasks(scale, None, out)
        click.echo(f"{name:16} {sum(task.done() for task in tasks):3}/{len(tasks):<3} {named_study(name).question}")


@study.command("run")
@study_argument
@click.argument("dataset_dir", type=PathArg, required=False)
@scale_option
@study_out_option
@click.option("--jobs", type=click.IntRange(min=1), default=1, help="Runs at a time; of a cluster, on one machine.")
@click.option("--seeds", type=click.IntRange(min=1), help="Runs of each cell.  [default: the scale's]")
@click.option("--cell", "cells", multiple=True, help="Only these cells; repeat for several.")
@click.option("--scheduler", help="Dask cluster that makes the runs, and sees data sets and runs under the same paths.")
@click.option("--add", is_flag=True, help="Leave out runs that the study's CSV has already.")
def study_run(name: str, dataset_dir: Path | None, out: Path, cells: tuple[str, ...], add: bool, **options: Any) -> None:
    """Make and judge what is not there yet. A study that was cut off goes on where it was.

    NAME is one of those that `study list` prints. DATASET_DIR is what it is about; only voxelization makes all its data itself.
    """
    from studies.runner import run
    from studies.tables import published

    chosen = named_study(name).only(cells)
    known = published(chosen, options["scale"], pages_of(name, out)) if add else None
    run(chosen, dataset_dir, out=out, say=say, known=known, **options)


@study.command("collect")
@study_argument
@scale_option
@study_out_option
@click.option("--add", is_flag=True, help="Keep the CSV's rows of runs that are not in OUT: another machine's.")
def study_collect(name: str, scale: str, out: Path, add: bool) -> None:
    """Write the study's CSV, figure and tables. Into studies/ of a checkout; else into OUT/results."""
    from studies.tables import publish

    for path in publish(named_study(name), scale, out, pages_of(name, out), add):
        click.echo(path)


@click.group()
def bench() -> None:
    """Measure ours against a peer, in one process. BENCHMARKS.md holds the figures."""


def benchmark(module: str) -> Callable[[Callable[[], None]], click.Command]:
    """Make of a declared `bench_<name>` a command that prints, line by line, what that function of studies.<module> returns."""

    def command_of(declared: Callable[[], None]) -> click.Command:
        @functools.wraps(declared)
        def run(**options: Any) -> None:
            for line in getattr(importlib.import_module(f"studies.{module}"), declared.__name__)(**options):
                click.echo(line)

        return bench.command(declared.__name__.removeprefix("bench_").replace("_", "-"))(run)

    return command_of


@benchmark("bench")
@click.option("--dataset", type=PathArg, help="Shapes to use, at 32³ (voxels doubled) or 64³.  [default: random bits]")
@click.option("--n-gen", type=COUNT, default=1000, help="Samples.")
@click.option("--n-train", type=COUNT, default=3991, help="Training shapes.")
@click.option("--n-test", type=COUNT, default=100, help="Held-out shapes.")
@click.option("--repeats", type=COUNT, default=3, help="Timed repeats of each.")
def bench_nn_check() -> None:
    """The whole novelty check against a bare faiss search, at 64³."""


@benchmark("bench")
@click.option("--dataset", type=PathArg, required=True, help="Shapes with a train and a test split, at most 64³.")
@click.option("-n", type=COUNT, default=500, help="Held-out shapes to search for.")
@click.option("--shift", type=click.IntRange(min=0), default=2, help="Voxels along each axis.")
@click.option("--repeats", type=COUNT, default=1, help="Timed repeats of each.")
def bench_alignment() -> None:
    """Neighbours over every shift, against faiss. Bits of whole lines are counted; faiss searches once a shift."""


@benchmark("bench_eval")
@click.option("--dataset", type=PathArg, required=True, help="Shapes with a train and a test split, at most 64³.")
@click.option("-n", type=COUNT, default=500, help="Samples, and held-out shapes.")
@click.option("--draws", type=COUNT, default=1000, help="Draws of compare.")
@click.option("--mapped", type=COUNT, default=8000, help="Shapes at 64³ of a file that is searched through a memory map.")
def bench_eval() -> None:
    """nn-check and compare, cold and cached. Their memory, and the search of data larger than memory."""


@benchmark("bench_voxelize")
@click.option("--meshes", type=PathArg, help="Folder or .zip of meshes.  [default: procedural furniture]")
@click.option("-r", "--resolution", type=COUNT, default=64, help="Voxels along each axis.")
@click.option("--repeats", type=COUNT, default=3, help="Timed repeats of each.")
def bench_voxelize() -> None:
    """The exact voxeliser against trimesh and Open3D. The latter where it is installed; and the whole pipeline."""


@benchmark("bench_train")
@click.option("-r", "--resolution", type=COUNT, default=64, help="Voxels along each axis.")
@click.option("--base-channels", type=COUNT, default=64, help="Width of the networks, as of train.")
@click.option("--batch", type=COUNT, default=8, help="Shapes per batch.")
@click.option("--steps", type=COUNT, default=2, help="Steps in a repeat.")
@click.option("--repeats", type=COUNT, default=3, help="Timed repeats of each.")
@click.option(
    "--precision", type=click.Choice(["auto", "float32", "bfloat16"]), default="auto", help="Of ours.", show_default=True
)
@device_option
def bench_train() -> None:
    """Our training step against a plain one. And against the device's matrix products."""


@benchmark("bench")
@click.option("--batch", type=COUNT, default=8, help="Shapes per batch.")
@click.option("--repeats", type=COUNT, default=7, help="Timed repeats of each.")
def bench_layers() -> None:
    """Our one-channel layers against PyTorch's own. Forward and backward."""


@benchmark("bench")
@click.option("-r", "--resolution", type=COUNT, default=64, help="Voxels along each axis.")
@click.option("--base-channels", type=COUNT, default=64, help="Width of the networks, as of train.")
@click.option("--batch", type=COUNT, default=4, help="Shapes per batch.")
@click.option("--repeats", type=COUNT, default=5, help="Timed repeats of each.")
def bench_precision() -> None:
    """float32 against bfloat16 on this CPU."""


@bench.command("all")
@click.option("--dataset", type=PathArg, required=True, help="Shapes at 32³ with a train and a test split.")
@click.option("--meshes", type=PathArg, help="Folder or .zip of meshes.  [default: procedural furniture]")
def bench_all(dataset: Path, meshes: Path | None) -> None:
    """All that need no study of raters, in one sitting. On a machine that does nothing else; each in a process of its own."""
    from gan3d_eval.files import Gan3dError
    from studies.bench import machine
    from studies.runner import ROOT

    click.echo(machine())
    runs = [[name, "--dataset", str(dataset)] for name in ("nn-check", "alignment", "eval")]
    runs += [["voxelize", *(("--meshes", str(meshes)) if meshes else ())], ["layers"]]
    for sizes in ([], ["-r", "32", "--base-channels", "16", "--batch", "32"]):
        runs += [["precision", *sizes], *(["train", "--precision", precision, *sizes] for precision in ("float32", "auto"))]
    for run in runs:  # the most memory that a process took is asked for, so none has a past
        if subprocess.run([sys.executable, str(ROOT / "cli.py"), "bench", *run], check=False).returncode:
            raise Gan3dError(f"bench {' '.join(run)} failed; what was measured before stands above")


@benchmark("bench_human")
@click.argument("run_dir", type=PathArg)
@click.option("--raters", type=COUNT, default=50, help="At once.")
@click.option("--answers", type=click.IntRange(min=8), default=40, help="Of each.")
@click.option("--think", type=click.FloatRange(min=0), default=0.0, help="Seconds from a shape to its answer.")
def bench_human() -> None:
    """Many raters at once on the server of a study. Latency, and whether every answer is stored, once."""
