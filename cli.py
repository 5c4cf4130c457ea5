#!/usr/bin/env python3
"""The command line of gan3d: every command parses, calls one function and echoes. Heavy imports live inside commands.

stdout is the answer (a path, a small table, or `--json`); stderr is log and progress. Exit codes: 0 done, 1 could not,
2 wrong usage, 3 the check itself failed, 130 interrupted.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from gan3d_eval import __version__

Command = Callable[..., Any]
PathArg = click.Path(path_type=Path)


class Cli(click.Group):
    """Turns the project's own errors, and the system's, into one clear line and exit code 1."""

    def invoke(self, ctx: click.Context) -> Any:
        from gan3d_eval.files import Gan3dError

        try:
            return super().invoke(ctx)
        except Gan3dError as fault:
            code = 130 if type(fault).__name__ == "Interrupted" else 1
            click.echo(f"error: {fault}", err=True)
        except OSError as fault:
            code = 1
            click.echo(f"error: {fault.filename or 'file system'}: {fault.strerror or fault}", err=True)
        except MemoryError:
            code = 1
            click.echo("error: out of memory", err=True)
        ctx.exit(code)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group(cls=Cli, context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(__version__, prog_name="gan3d")
def main() -> None:
    """Train 3D-GANs on voxel shapes, and judge anyone's: is it real, is it new, is it better?

    \b
    Start here:   python cli.py demo
    Your data:    python cli.py prepare MESHES datasets/sofa --resolution 64
                  RUN=$(python cli.py train datasets/sofa --recipe slides)
    Judge it:     python cli.py nn-check $RUN && python cli.py report $RUN
    """


def say(line: str) -> None:
    """Progress and log go to stderr."""
    click.echo(line, err=True)


# --- options with one spelling everywhere --------------------------------------------------------------------------------


def run_argument(command: Command) -> Command:
    """RUN_DIR, opened."""
    return click.argument("run_dir", type=PathArg)(command)


seed_option = click.option("--seed", default=0, show_default=True, help="Root of every random choice.")
force_option = click.option("--force", is_flag=True, help="Replace what is already there.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print the whole result as JSON.")
device_option = click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1 …")
reference_option = click.option("--reference", type=PathArg, help="Dataset to judge against, if not the run's own.")


def config_options(command: Command) -> Command:
    """One option per field of TrainConfig; unset ones stay with the recipe."""
    from gan3d_model.config import TrainConfig

    hints = typing.get_type_hints(TrainConfig)
    for field in reversed(dataclasses.fields(TrainConfig)):
        choices = typing.get_args(hints[field.name])
        kind: Any = click.Choice(choices) if choices else hints[field.name]
        name = "--" + field.name.replace("_", "-")
        command = click.option(name, type=kind, default=None, help=field.metadata["doc"], show_default=False)(command)
    return command


def echo_result(result: dict[str, Any], path: Path, as_json: bool) -> None:
    """The answer on stdout: all of it as JSON, or a small table of values with their intervals."""
    if as_json:
        click.echo(json.dumps(result, indent=2, ensure_ascii=False))
        return
    for key, value in result["values"].items():
        interval = result["intervals"].get(key)
        around = f"  [{interval['low']:.4g}, {interval['high']:.4g}] {interval['kind']}" if interval else ""
        shown = f"{value:.4g}" if isinstance(value, float) else value
        click.echo(f"{key:22} {shown}{around}")
    for key, reason in result["absent"].items():
        click.echo(f"{key:22} absent: {reason}")
    click.echo(f"{'protocol':22} {result['protocol']}")
    click.echo(f"{'written to':22} {path}")


# --- data ------------------------------------------------------------------------------------------------------------------


@main.command()
@click.argument("mesh_dir", type=PathArg)
@click.option("--class", "classes", multiple=True, help="sofa, table, dresser, monitor; repeat for several, default all.")
@click.option("--n-train", default=200, help="Training shapes per class.")
@click.option("--n-test", default=50, help="Test shapes per class.")
@seed_option
def synthetic(mesh_dir: Path, classes: tuple[str, ...], n_train: int, n_test: int, seed: int) -> None:
    """Write procedural furniture as .off meshes in ModelNet's layout below MESH_DIR."""
    from gan3d_model.data.synthetic import CLASSES, write_furniture

    n = write_furniture(mesh_dir, list(classes) or list(CLASSES), n_train, n_test, seed)
    say(f"wrote {n} meshes")
    click.echo(mesh_dir)


@main.command()
@click.argument("source", type=PathArg)
@click.argument("dataset_dir", type=PathArg)
@click.option("-r", "--resolution", type=int, required=True, help="Voxels along each axis.")
@click.option("--class", "classes", multiple=True, help="Meshes: take only these. Arrays: names of labels 0, 1, …; repeat.")
@click.option("--solid/--surface", default=True, help="Meshes: fill what the surface encloses, or keep the shell.")
@click.option("--margin", default=1.0, help="Meshes: empty voxels around the longest side.")
@click.option("--up", type=click.Choice(["z", "y"]), default="z", help="Axis of the source that points up.")
@force_option
def prepare(source: Path, dataset_dir: Path, classes: tuple[str, ...], force: bool, **how: Any) -> None:
    """Make DATASET_DIR from SOURCE: a folder of meshes <class>/<split>/<name>.off, or an .npz of voxel arrays.

    \b
    python cli.py prepare ModelNet10/ datasets/mn10-64 -r 64
    python cli.py prepare modelnet10.npz datasets/mn10-32 -r 32
    """
    from gan3d_model.data.prepare import Voxelizer
    from gan3d_model.data.prepare import prepare as run

    shapes = run(source, dataset_dir, Voxelizer(**how), list(classes), force, say)
    for label, splits in shapes.info["counts"].items():
        say(f"{label:14} " + "  ".join(f"{split} {n}" for split, n in splits.items()))
    if shapes.info["rejected"]:
        say(f"{shapes.info['rejected']} shapes rejected, listed in {dataset_dir}/rejected.csv")
    click.echo(dataset_dir)


# --- training ----------------------------------------------------------------------------------------------------------------


@main.command()
@click.argument("dataset_dir", type=PathArg)
@click.option("--class", "classes", multiple=True, help="Train on these classes only; repeat for several.")
@click.option("--recipe", type=click.Choice(["slides", "paper", "demo"]), default="slides", help="Where settings start from.")
@click.option("--config", "config_file", type=PathArg, help="TOML file of settings, over the recipe and under the flags.")
@click.option("--runs", type=PathArg, default=Path("runs"), help="Folder in which the run directory is made.")
@click.option("--out", type=PathArg, help="The run directory itself, instead of RUNS/<run_id>.")
@click.option("--resume", "run_dir", type=PathArg, help="Go on with this run from its newest checkpoint.")
@click.option("--dry-run", is_flag=True, help="Print the settings and stop.")
@device_option
@config_options
def train(
    dataset_dir: Path, classes: tuple[str, ...], recipe: str, config_file: Path | None, runs: Path, out: Path | None,
    run_dir: Path | None, dry_run: bool, device: str, **settings: Any,
) -> None:  # fmt: skip
    """Train on the train split of DATASET_DIR and print the run directory; settings come from the recipe, then flags.

    \b
    RUN=$(python cli.py train datasets/mn10-32 --class sofa --resolution 32 --epochs 200)
    python cli.py train datasets/mn10-32 --resume $RUN --epochs 400
    """
    from gan3d_eval.run_dir import RunDir
    from gan3d_eval.voxels import VoxelSet
    from gan3d_model.config import RECIPES, TrainConfig, load_toml

    run = RunDir.open(run_dir) if run_dir else None
    base = TrainConfig.from_dict(run.config() or {}, str(run_dir)) if run else RECIPES[recipe]
    dataset = VoxelSet.open(dataset_dir)
    if not run:
        settings["resolution"] = settings["resolution"] or dataset.resolution
    config = TrainConfig.from_dict(load_toml(config_file), str(config_file), base) if config_file else base
    config = TrainConfig.from_dict({k: v for k, v in settings.items() if v is not None}, "command line", config)
    if dry_run:
        click.echo(json.dumps(config.to_dict(), indent=2))
        return
    chosen = run.meta["dataset"]["classes"] if run else list(classes)
    shapes = dataset.select(chosen, "train")
    from gan3d_model.runs import create_run, resume_run
    from gan3d_model.train import train as play

    if run:
        resume_run(run, config, shapes)
    else:
        run = create_run(config, recipe, shapes, dataset_dir, chosen, runs, sys.argv, out)
    say(f"training {run.path} on {len(shapes)} shapes; ctrl-C stops after a checkpoint")
    play(config, shapes, run, device, say)
    click.echo(run.path)


@main.command()
@run_argument
@click.option("-n", "--n-samples", type=int, help="Shapes to draw.  [default: the config's n_samples]")
@click.option("--step", type=int, help="Checkpoint to draw from.  [default: the newest]")
@click.option("--seed", type=int, help="Of the latents.  [default: the run's]")
@click.option("--name", default="final", help="Written to samples/NAME.npz.")
@click.option("--threshold", default=0.5, help="Probability above which a voxel is occupied.")
@device_option
@force_option
def sample(run_dir: Path, n_samples: int | None, **options: Any) -> None:
    """Draw shapes from a checkpoint into RUN_DIR/samples, and print the file."""
    from gan3d_eval.run_dir import RunDir
    from gan3d_model.sample import sample as draw

    click.echo(draw(RunDir.open(run_dir), n_samples, **options))


if __name__ == "__main__":
    main()
