"""Train, draw samples, explore. Heavy imports live inside commands."""

from __future__ import annotations

import dataclasses
import json
import sys
import typing
from pathlib import Path
from typing import Any

import click

from gan3d_eval.command_line import (
    PathArg,
    device_option,
    echo_result,
    force_option,
    json_option,
    reference_option,
    run_argument,
    say,
    seed_option,
    split,
    threshold_option,
)

__all__ = ["explore", "sample", "train"]


class ConfigCommand(click.Command):
    """A command with one more option per field of TrainConfig, made when it is asked for; unset ones stay None."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """List the declared options, then the config's, then --help."""
        from gan3d_model.config import TrainConfig

        hints, made = typing.get_type_hints(TrainConfig), []
        for field in dataclasses.fields(TrainConfig):
            choices, doc = typing.get_args(hints[field.name]), field.metadata["doc"]
            kind: Any = click.Choice(choices) if choices else hints[field.name]
            name = "--" + field.name.replace("_", "-")
            if kind is bool:
                name = f"{name}/--no-{name[2:]}"
            made.append(click.Option([name], type=kind, default=None, show_default=False, help=doc[0].upper() + doc[1:]))
        own = super().get_params(ctx)
        return [*own[:-1], *made, own[-1]]


def warn_of_empty(shapes: Any) -> None:
    """Say that a training set holds empty shapes; they are trained on all the same."""
    if empty := int((shapes.volume == 0).sum()):
        say(f"warning: {empty} of the {len(shapes)} training shapes are empty; `prepare --fix drop-empty` leaves them out")


def fitting(resolution: int, dataset: Path) -> int:
    """The dataset's resolution, if networks of that size exist."""
    from gan3d_model.config import RESOLUTIONS, ConfigError

    if resolution not in RESOLUTIONS:
        known = ", ".join(map(str, RESOLUTIONS))
        raise ConfigError(
            f"{dataset} has resolution {resolution}, and networks have {known}; prepare it again with one of these"
        )
    return resolution


@click.command(cls=ConfigCommand)
@click.argument("dataset_dir", type=PathArg)
@click.option("--class", "classes", multiple=True, help="Train on these classes only; repeat for several.")
@click.option(
    "--recipe", type=click.Choice(["slides", "paper", "stable", "demo"]), help="Where settings start.  [default: slides]"
)
@click.option("--config", "config_file", type=PathArg, help="TOML file of settings, over the recipe and under the flags.")
@click.option("--runs", type=PathArg, help="Folder in which the run directory is made.  [default: runs]")
@click.option("--out", type=PathArg, help="The run directory itself, instead of RUNS/<run_id>.")
@click.option("--resume", "run_dir", type=PathArg, help="Go on with this run from its newest checkpoint.")
@click.option("--stop-on", default="", help="Failures that end the run, with commas: gate-deadlock, empty, collapsed …")
@click.option("--dry-run", is_flag=True, help="Print the settings and stop.")
@device_option
def train(
    dataset_dir: Path, classes: tuple[str, ...], recipe: str | None, config_file: Path | None, runs: Path | None,
    out: Path | None, run_dir: Path | None, dry_run: bool, device: str, stop_on: str, **settings: Any,
) -> None:  # fmt: skip
    """Train on the train split of DATASET_DIR and print the run directory; settings come from the recipe, then flags.

    \b
    RUN=$(python cli.py train datasets/mn10-32 --class sofa --resolution 32 --epochs 200)
    python cli.py train datasets/mn10-32 --resume $RUN --epochs 400
    """  # noqa: D301 -- \b is click's mark for text that must not be rewrapped
    from gan3d_eval.run_dir import RunDir
    from gan3d_eval.voxels import VoxelSet
    from gan3d_model.config import RECIPES, TrainConfig, load_toml

    if run_dir and (classes or recipe or runs or out):
        raise click.UsageError("--resume goes on with the run's own: it takes no --class, --recipe, --runs or --out")
    run, recipe = RunDir.open(run_dir) if run_dir else None, recipe or "slides"
    base = TrainConfig.from_dict(run.config(), str(run_dir)) if run else RECIPES[recipe]
    dataset = VoxelSet.open(dataset_dir)
    if not run:
        settings["resolution"] = settings["resolution"] or fitting(dataset.resolution, dataset_dir)
    config = TrainConfig.from_dict(load_toml(config_file), str(config_file), base) if config_file else base
    config = TrainConfig.from_dict({k: v for k, v in settings.items() if v is not None}, "command line", config)
    if dry_run:
        click.echo(json.dumps(config.to_dict(), indent=2))
        return
    chosen = run.meta["dataset"]["classes"] if run else list(classes)
    shapes = dataset.select(chosen, "train")
    warn_of_empty(shapes)
    from gan3d_model.players import pick_device
    from gan3d_model.runs import create_run, resume_run
    from gan3d_model.team import gather_team
    from gan3d_model.train import train as play

    with gather_team(device) as (team, device):  # one process, or those that torchrun started
        pick_device(device)  # a wrong one is refused before a run is made
        if run:
            resume_run(run, config, shapes)
        elif team.leads:
            run = create_run(config, recipe, shapes, dataset_dir, chosen, runs or Path("runs"), sys.argv, out)
        run = RunDir.open(Path(team.tell(str(run.path) if run else "")))
        if team.leads:
            say(f"training {run.path} on {len(shapes)} shapes; ctrl-C stops after a checkpoint")
        play(config, shapes, run, device, say, split(stop_on), team, live=sys.stderr.isatty())
        if team.leads:
            click.echo(run.path)


@click.command()
@run_argument
@click.option("-n", "--n-samples", type=int, help="Shapes to draw.  [default: the config's n_samples]")
@click.option("--step", type=int, help="Checkpoint to draw from.  [default: the newest]")
@click.option("--seed", type=int, help="Of the latents.  [default: the run's]")
@click.option("--name", default="final", help="Written to samples/NAME.npz.")
@threshold_option
@click.option("--probabilities", "soft", is_flag=True, help="Keep what G returned before the threshold, too.")
@device_option
@force_option
def sample(run_dir: Path, n_samples: int | None, **options: Any) -> None:
    """Draw shapes from a checkpoint into RUN_DIR/samples, and print the file."""
    from gan3d_eval.run_dir import RunDir
    from gan3d_model.sample import sample as draw

    click.echo(draw(RunDir.open(run_dir), n_samples, **options))


@click.command()
@run_argument
@reference_option
@click.option("--parts", default="paths,arithmetic,dimensions,recovery,map", help="Which, with commas.")
@click.option("--recover", "n_recover", type=click.IntRange(min=2), default=16, help="Shapes of each set to look for.")
@click.option(
    "--shape", "shapes", type=PathArg, multiple=True, help="Look for the shapes of this file too; repeat for several."
)
@click.option("--up", type=click.Choice(["z", "y"]), default="z", help="Axis that is up in these files.")
@threshold_option
@click.option("--umap", is_flag=True, help="UMAP's axes for the map, instead of principal components.")
@click.option("--step", type=int, help="Checkpoint to explore.  [default: the newest]")
@device_option
@seed_option
@json_option
def explore(
    run_dir: Path, reference: Path | None, parts: str, shapes: tuple[Path, ...], up: str, threshold: float, step: int | None,
    device: str, seed: int, as_json: bool, **options: Any,
) -> None:  # fmt: skip
    """What has G learned? Paths and arithmetic in its latent space, single dimensions, real shapes found in it, a map."""
    from gan3d_eval.embedding import Embedding
    from gan3d_eval.explore import PARTS
    from gan3d_eval.explore import explore as verb
    from gan3d_eval.paper_plots import read_shapes
    from gan3d_eval.run_dir import RunDir
    from gan3d_model.features import extractor_of
    from gan3d_model.latent import CheckpointSpace

    chosen = split(parts)
    if not chosen or set(chosen) - set(PARTS):
        raise click.UsageError(f"--parts {parts}: choose of {', '.join(PARTS)}")
    run = RunDir.open(run_dir)
    train, test, _ = run.training_set(reference) if reference or run.finds_dataset() else (None, None, False)
    theirs = read_shapes(shapes, up, threshold) if shapes else None
    features, space = extractor_of(run, step, device), CheckpointSpace.open(run, step, seed, device)
    embed = Embedding(features.name, features.sha256, features.of)
    result, rows = verb(run, space, train, test, tuple(chosen), theirs=theirs, embed=embed, seed=seed, say=say, **options)
    echo_result(result.to_dict(), run.write_result(result, rows), as_json)
