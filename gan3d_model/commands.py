"""Train, draw samples, import, explore. Heavy imports live inside commands."""

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
    shapes_beside,
    split,
    threshold_option,
)

__all__ = ["check_run", "explore", "import_run", "sample", "train"]


RANGES = {int: click.IntRange, float: click.FloatRange}


class ConfigCommand(click.Command):
    """A command with one more option per field of TrainConfig, with its range, made when asked for; unset ones stay None."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """List the declared options, then the config's, then --help."""
        from gan3d_model.config import TrainConfig

        hints, made = typing.get_type_hints(TrainConfig), []
        for field in dataclasses.fields(TrainConfig):
            choices, doc = typing.get_args(hints[field.name]), field.metadata["doc"]
            known = [choice for choice in choices if choice != "unknown"]  # which only imports have
            kind: Any = click.Choice(known) if known else hints[field.name]
            if kind in RANGES:
                kind = RANGES[kind](field.metadata["low"], field.metadata["high"])
            name = "--" + field.name.replace("_", "-")
            if kind is bool:
                name = f"{name}/--no-{name[2:]}"
            made.append(click.Option([name], type=kind, default=None, show_default=False, help=doc[0].upper() + doc[1:]))
        own = super().get_params(ctx)
        return [*own[:-1], *made, own[-1]]


def warn(shapes: Any, run: Any) -> None:
    """Say that a training set holds empty shapes, which are trained on all the same, and what a run has lost that goes on."""
    from gan3d_model.runs import hold_run

    if empty := int((shapes.volume == 0).sum()):
        say(f"warning: empty shapes among the {len(shapes)} to train on: {empty}; `prepare --fix drop-empty` leaves them out")
    if run and (lost := run.log()[1]):
        say(f"warning: {lost}")
    if run and not run.checkpoints():
        with hold_run(run):  # or another process trains it, which is said instead
            pass
        say("there is no checkpoint yet to go on from: the training begins anew")


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
@click.option("--stop-on", help="Failures that end the run, with commas; see above.")
@click.option("--dry-run", is_flag=True, help="Print the settings that recipe and flags make, and stop.")
@device_option
def train(
    dataset_dir: Path, classes: tuple[str, ...], recipe: str | None, config_file: Path | None, runs: Path | None,
    out: Path | None, run_dir: Path | None, dry_run: bool, device: str, stop_on: str | None, **settings: Any,
) -> None:  # fmt: skip
    """Train on a dataset, and print the run directory. Settings come from the recipe, then from flags.

    --dry-run prints them all. Recipes: paper and slides as published, stable as it works, demo for toys.
    --stop-on knows gate-deadlock, d-saturated, empty, cube-like, collapsed and diverged.

    \b
    RUN=$(python cli.py train datasets/mn10-32 --class sofa --resolution 32 --epochs 200)
    python cli.py train datasets/mn10-32 --resume $RUN --epochs 400
    """  # noqa: D301 -- \b is click's mark for text that must not be rewrapped
    from gan3d_eval.run_dir import RunDir
    from gan3d_eval.voxels import VoxelSet
    from gan3d_model.config import RECIPES, TrainConfig, load_toml
    from gan3d_model.runs import check_resume, config_of, create_run

    if run_dir and (classes or recipe or runs or out):
        raise click.UsageError("--resume goes on with the run's own: it takes no --class, --recipe, --runs or --out")
    run, recipe = RunDir.open(run_dir) if run_dir else None, recipe or "slides"
    dataset, stops = VoxelSet.open(dataset_dir), split(stop_on)
    of_data = {"resolution": dataset.resolution}
    base = config_of(run) if run else TrainConfig.from_dict(of_data, str(dataset_dir), RECIPES[recipe])
    config = TrainConfig.from_dict(load_toml(config_file), str(config_file), base) if config_file else base
    config = TrainConfig.from_dict({k: v for k, v in settings.items() if v is not None}, "command line", config)
    shapes = dataset.select(chosen := run.meta["dataset"]["classes"] if run else list(classes), "train")
    from gan3d_model import train as training
    from gan3d_model.team import gather_team

    with gather_team(device) as (team, device):  # one process, or those that torchrun started
        training.check_start(config, shapes, device, stops, team)
        if run:
            check_resume(run, config, shapes)
        if team.leads:
            warn(shapes, run)
        if dry_run:
            if team.leads:
                click.echo(json.dumps(config.to_dict(), indent=2))
            return
        if not run and team.leads:
            run = create_run(config, recipe, shapes, dataset_dir, chosen, runs or Path("runs"), sys.argv, out)
        run = RunDir.open(Path(team.tell(str(run.path) if run else "")))
        try:
            training.train(config, shapes, run, device, say, stops, team, live=sys.stderr.isatty())
        finally:  # also of a training that was interrupted: a script wants its name
            if team.leads and run.checkpoints():
                click.echo(run.path)


@click.command()
@run_argument
@click.option("-n", "--n-samples", type=click.IntRange(min=1), help="Shapes to draw.  [default: the config's n_samples]")
@click.option("--step", type=int, help="Checkpoint to draw from.  [default: the newest]")
@click.option("--seed", type=click.IntRange(min=0), help="Of the latents.  [default: the run's]")
@click.option("--name", default="final", help="Written to samples/NAME.npz.")
@threshold_option
@click.option("--probabilities", "soft", is_flag=True, help="Keep what G returned before the threshold, too.")
@device_option
@force_option
def sample(run_dir: Path, n_samples: int | None, **options: Any) -> None:
    """Draw shapes from a checkpoint. Prints the file, below RUN_DIR/samples."""
    from gan3d_eval.files import refuse_closed
    from gan3d_eval.run_dir import RunDir
    from gan3d_model.sample import sample as draw

    run = RunDir.open(run_dir)
    refuse_closed(run_dir)
    click.echo(draw(run, n_samples, **options))


@click.command("import-run")
@click.argument("source", type=PathArg)
@run_argument
@click.option("--dataset", type=PathArg, help="Dataset directory that the generator was trained on.")
@click.option("--class", "classes", multiple=True, help="Which classes of it; repeat for several, default all.")
@click.option("--axes", help="What the axes of the grids are, in order: xyz, zyx, xz-y …  [default: found from the shapes]")
@click.option("--up", help="Which axis is up: z, y, x, -z …  [default: found from the shapes]")
@click.option("--threshold", type=click.FloatRange(0, 1), help="Where probabilities are cut (0.5), or binary shapes were.")
@click.option("--pattern", default="*", help="Take only files whose path matches, e.g. '*12000*'.")
@click.option("--array", help="Which array holds the shapes, where a file has several.")
@click.option("--log", type=PathArg, help="Training log: TensorBoard's events, CSV, text.  [default: what SOURCE has]")
@click.option("--weights", type=PathArg, multiple=True, help="File of G, of D; repeat for both.  [default: what SOURCE has]")
@click.option("--prior", type=click.Choice(["uniform", "normal", "normal0.33"]), help="Law of the latents; needed to draw any.")
@click.option("--latent-scale", default=1.0, help="By which latents of that law were multiplied.")
@click.option("--output", type=click.Choice(["sigmoid", "tanh"]), help="After G's last layer.  [default: as the shapes show]")
@click.option("-r", "--resolution", type=int, help="Voxels along each axis: of meshes, of weights without shapes.")
def import_run(
    source: Path, run_dir: Path, dataset: Path | None, classes: tuple[str, ...], prior: str | None, resolution: int | None,
    weights: tuple[Path, ...], latent_scale: float, output: str | None, **how: Any,
) -> None:  # fmt: skip
    """Make a run of what anybody's generator left. SOURCE is a file, a folder or a .zip with shapes, weights, logs.

    \b
    python cli.py import-run their_samples.npy runs/theirs --dataset datasets/mn10 --class sofa
    python cli.py import-run their_run/ runs/theirs --prior normal0.33 --up y
    """  # noqa: D301 -- \b is click's mark for text that must not be rewrapped
    from gan3d_eval.files import refuse_taken
    from gan3d_eval.foreign import Readers
    from gan3d_eval.import_run import gather
    from gan3d_eval.run_dir import RunDirError
    from gan3d_model.data.as_dataset import mesh_reader
    from gan3d_model.import_weights import write_weights
    from gan3d_model.sample import sample as draw
    from gan3d_model.tensors import parse_grids

    refuse_taken(run_dir)
    found = gather(source, dataset, list(classes), readers=Readers(parse_grids, *mesh_reader(dataset, resolution)), **how)
    mapped = mapped_weights(found, weights, resolution, prior, latent_scale, output)
    if found.shapes is None and prior is None:
        raise RunDirError(f"{source} holds weights and no shapes; say --prior, and some are drawn")

    def fill(run: Any) -> None:
        if mapped:
            write_weights(run, mapped)
        if found.shapes is None:
            draw(run)

    for note in [*found.notes, *(mapped.notes + mapped.matched if mapped else [])]:
        say(note)
    run = found.write(run_dir, sys.argv, resolution, fill)
    drawn = "" if found.shapes else ", drawn from the weights, as none came with them"
    say(f"imported {len(run.samples())} shapes at {run.resolution}³{drawn}")
    click.echo(run.path)


def mapped_weights(
    found: Any, files: tuple[Path, ...], resolution: int | None, prior: str | None, scale: float, output: str | None
) -> Any:
    """Weights among what was found, or in `files`, for our networks; None, with a note, where shapes are there without."""
    from gan3d_eval.files import Gan3dError
    from gan3d_eval.foreign import Entry
    from gan3d_model.import_weights import read_weights

    entries = [Entry.of(path) for path in files] or found.weights
    pose = found.orientation and found.orientation.pose
    if not entries:
        if prior or output or scale != 1.0:
            raise Gan3dError("--prior, --latent-scale and --output are of weights, and there are none; --weights names them")
        return None
    output = output or ("tanh" if found.shapes and found.shapes.signed else "sigmoid")
    try:
        return read_weights(entries, found.resolution or resolution, prior, scale, output, pose, bool(files))
    except Gan3dError as fault:
        if found.shapes is None:
            raise
        if files:  # it is what was asked for
            raise Gan3dError(f"{fault}; without --weights the shapes alone are imported") from None
        found.notes.append(f"weights were not taken over: {fault}")
        return None


@click.command("check-run")
@run_argument
def check_run(run_dir: Path) -> None:
    """List the rules that a run directory breaks. Exit code 3 if there are any (gan3d_eval/RUN_DIR.md)."""
    from gan3d_eval.check_run import check_run as check
    from gan3d_model.config import TrainConfig

    broken = check(run_dir, TrainConfig.from_dict)
    for rule, message in broken:
        click.echo(f"rule {rule}: {message}")
    say(f"{len(broken)} broken" if broken else "in order")
    sys.exit(3 if broken else 0)


@click.command()
@run_argument
@reference_option
@click.option(
    "--parts", default="paths,arithmetic,dimensions,recovery,map",
    help="Which, with commas; what was found of the others before is deleted.",
)  # fmt: skip
@click.option("--recover", "n_recover", type=click.IntRange(min=2), default=16, help="Shapes of each set to look for.")
@click.option(
    "--shape", "shapes", type=PathArg, multiple=True, help="Look for these too (.off .mat .binvox .npy …); repeat for several."
)
@click.option("--up", type=click.Choice(["z", "y"]), default="z", help="Axis that is up in these files.")
@threshold_option
@click.option("--umap", is_flag=True, help="UMAP's axes for the map, instead of principal components.")
@click.option("--step", type=int, help="Checkpoint to explore.  [default: the newest]")
@device_option
@seed_option
@json_option
def explore(
    run_dir: Path, reference: Path | None, classes: tuple[str, ...], parts: str, shapes: tuple[Path, ...], up: str,
    threshold: float, step: int | None, device: str, seed: int, as_json: bool, **options: Any,
) -> None:  # fmt: skip
    """What has G learned? Paths and sums in its latent space. Single dimensions, real shapes found in it, a map."""
    from gan3d_eval.embedding import Embedding
    from gan3d_eval.explore import PARTS, VERB
    from gan3d_eval.explore import explore as verb
    from gan3d_eval.files import refuse_closed
    from gan3d_eval.foreign import Readers
    from gan3d_eval.foreign_shapes import read_shapes
    from gan3d_eval.provenance import result_name
    from gan3d_eval.run_dir import RunDir
    from gan3d_model.data.as_dataset import mesh_reader
    from gan3d_model.features import extractor_of
    from gan3d_model.latent import CheckpointSpace
    from gan3d_model.tensors import parse_grids

    chosen = split(parts)
    if not chosen or set(chosen) - set(PARTS):
        raise click.UsageError(f"--parts {parts}: choose of {', '.join(PARTS)}")
    run = RunDir.open(run_dir)
    refuse_closed(run_dir)
    train, test, suffix = shapes_beside(run, reference, classes)
    theirs = None
    if shapes:
        made_as = mesh_reader(reference or (run.dataset_path() if train else None), run.resolution)
        theirs = read_shapes(shapes, up, threshold, train, Readers(parse_grids, *made_as))
    space, extractor = CheckpointSpace.open(run, step, seed, device), extractor_of(run, step, device)
    embed = Embedding.by(extractor) if extractor else None
    options |= {"theirs": theirs, "embed": embed, "seed": seed, "name": result_name(VERB, suffix)}
    result, rows = verb(run, space, train, test, tuple(chosen), say=say, **options)
    echo_result(result.to_dict(), run.write_result(result, rows, suffix), as_json)
