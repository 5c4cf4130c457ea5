#!/usr/bin/env python3
"""The command line of gan3d: every command parses, calls one function and echoes. Heavy imports live inside commands.

stdout is the answer (a path, a small table, or `--json`); stderr is log and progress. Exit codes: 0 done, 1 could not,
2 wrong usage, 3 the check itself failed, 130 interrupted.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import sys
import typing
from pathlib import Path
from typing import Any

import click

from gan3d_eval import __version__
from studies.commands import bench, study

PathArg = click.Path(path_type=Path)


class Cli(click.Group):
    """Turns the project's own errors, and the system's, into one clear line and exit code 1."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; errors that a user can cause become one line."""
        from gan3d_eval.files import Gan3dError

        try:
            return super().invoke(ctx)
        except Gan3dError as fault:
            code = fault.exit_code
            click.echo(f"error: {fault}", err=True)
        except OSError as fault:
            code = 1
            click.echo(f"error: {fault.filename or 'file system'}: {fault.strerror or fault}", err=True)
        except MemoryError:
            code = 1
            click.echo("error: out of memory", err=True)
        except KeyboardInterrupt:
            code = 130
            click.echo("error: interrupted", err=True)
        return ctx.exit(code)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """List in the order in which data flows, which is that of this file."""
        return list(self.commands)


@click.group(cls=Cli, context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(__version__, prog_name="gan3d")
def main() -> None:
    """Train 3D-GANs on voxel shapes, and judge anyone's: is it real, is it new, is it better?

    \b
    Start here:   python cli.py demo
    Your data:    python cli.py prepare ModelNet10.zip datasets/mn10 --resolution 64
                  RUN=$(python cli.py train datasets/sofa --recipe slides)
    Judge it:     python cli.py nn-check $RUN && python cli.py report $RUN
    """


def say(line: str) -> None:
    """Progress and log go to stderr."""
    click.echo(line, err=True)


# --- options with one spelling everywhere --------------------------------------------------------------------------------


run_argument = click.argument("run_dir", type=PathArg)
seed_option = click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Root of every random choice."
)
force_option = click.option("--force", is_flag=True, help="Replace what is already there.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print the whole result as JSON.")
device_option = click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1 …")
threshold_option = click.option(
    "--threshold", type=click.FloatRange(0, 1), default=0.5, show_default=True, help="Probabilities above it are occupied."
)
samples_option = click.option("--samples", help="Which sample file, without .npz.  [default: final, else the newest]")
reference_option = click.option("--reference", type=PathArg, help="Dataset to judge against, if not the run's own.")


leak_option = click.option(
    "--allow-leak", is_flag=True, help="Go on though more than a fifth of the held-out shapes stand in training, without these."
)


def judging_options(command: Any) -> Any:
    """What every verb that judges samples against data takes."""
    cache_option = click.option("--no-cache", is_flag=True, help="Compute everything anew.")
    for option in (json_option, seed_option, cache_option, leak_option, samples_option, reference_option):
        command = option(command)  # in reverse: decorators apply from the last
    return command


def feature_options(command: Any) -> Any:
    """Which discriminator makes features, and whether any does."""
    for option in (
        device_option,
        click.option("--features/--no-features", default=True, help="Use what D knows, where a discriminator is at hand."),
        click.option("--features-from", type=PathArg, help="Run whose discriminator makes the features.  [default: RUN_DIR]"),
    ):
        command = option(command)
    return command


def judged(run_dir: Path, options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Take the judging options out of a command's: the case, and what its verb takes of them."""
    from gan3d_eval.cache import NO_CACHE, Cache
    from gan3d_eval.judge import open_case

    case = open_case(run_dir, options.pop("reference"), options.pop("samples"), options.pop("allow_leak"))
    how = {"seed": options.pop("seed"), "cache": NO_CACHE if options.pop("no_cache") else Cache.default()}
    if "features" in options:
        source, wanted, device = options.pop("features_from"), options.pop("features"), options.pop("device")
        how["embed"] = discriminator_features(source or run_dir, device, how["cache"], source is not None) if wanted else None
    return case, how


def discriminator_features(run_dir: Path, device: str, cache: Any, needed: bool) -> Any:
    """The embedding by the discriminator of a run's newest checkpoint; None without one, unless it is needed."""
    from gan3d_eval.run_dir import RunDir

    run = RunDir.open(run_dir)
    if not run.checkpoints() and not needed:
        return None
    from gan3d_eval.embedding import Embedding
    from gan3d_model.features import extractor_of

    extractor = extractor_of(run, device=device)
    return Embedding(extractor.name, extractor.sha256, extractor.of, cache)


def workers(scheduler: str | None) -> Any:
    """A context with what spreads a search over the cluster at `scheduler`, or over nothing."""
    if scheduler is None:
        from gan3d_eval.distances import in_process

        return contextlib.nullcontext(in_process)
    from gan3d_model.data.parts import spread_over

    return spread_over(scheduler)


def print_series(result: Any, rows: Any, path: Path, as_json: bool) -> None:
    """A row for each state of the samples, then the result."""
    if not as_json:
        shown = [c for c in rows if c not in ("n", "jsd", "flagged_share") and "/" not in c]
        click.echo(rows[shown].to_string(index=False, float_format="{:.3g}".format))
    echo_result(result.to_dict(), path, as_json)


def voxelizer_options(command: Any) -> Any:
    """How meshes become voxels; unset ones depend on the method."""
    for option in (  # in reverse: decorators apply from the last
        click.option("--up", type=click.Choice(["z", "y"]), default="z", help="Axis of the source that points up."),
        click.option("--margin", type=float, help="Meshes: voxels left empty on each side.  [default: 1; polygon2voxel: 0]"),
        click.option("--solid/--surface", default=None, show_default=False,
                     help="Meshes: fill what is enclosed, or keep the shell.  [default: solid; polygon2voxel: surface]"),
        click.option("--method", type=click.Choice(["exact", "polygon2voxel"]), default="exact",
                     help="Meshes: every voxel that is touched, or what Matlab's polygon2voxel marks, bit for bit."),
    ):  # fmt: skip
        command = option(command)
    return command


def voxelizer(options: dict[str, Any]) -> Any:
    """Take the voxeliser's settings out of a command's options; the slides' method has but one way."""
    from gan3d_model.data.voxelize import Voxelizer

    how = {key: options.pop(key) for key in ("resolution", "method", "solid", "margin", "up") if key in options}
    plain = {"solid": False, "margin": 0.0} if how["method"] == "polygon2voxel" else {}
    return Voxelizer(**plain | {key: value for key, value in how.items() if value is not None})


def split(names: str) -> list[str]:
    """The parts of a list with commas."""
    return [name.strip() for name in names.split(",") if name.strip()]


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


def shown(result: dict[str, Any], key: str, kind: bool = False) -> str:
    """A value with its interval, and what kind that is; nothing if the value is absent."""
    value, interval = result["values"].get(key, ""), result["intervals"].get(key)
    around = f" [{interval['low']:.4g}, {interval['high']:.4g}]" if interval else ""
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return f"{text} {around} {interval['kind']}" if kind and interval else text + around


def echo_result(result: dict[str, Any], path: Path, as_json: bool) -> None:
    """The answer on stdout: all of it as JSON, or a small table of values with their intervals."""
    if as_json:
        click.echo(json.dumps(result, indent=2, ensure_ascii=False))
        return
    from gan3d_eval.provenance import variants

    values, wide = result["values"], {key.split("/")[0] for key in result["values"] if "/" in key}
    for key in [key for key in values if key not in wide and "/" not in key]:
        click.echo(f"{key:22} {shown(result, key, True)}")
    if wide:  # a key with variants, `<key>/<variant>`, is a row of a table
        columns = variants(values)
        click.echo(f"{'':22} " + " ".join(f"{name:24}" for name in (result["options"]["column"], *columns)))
        for key in dict.fromkeys(key.split("/")[0] for key in values if key.split("/")[0] in wide):
            cells = [shown(result, name) for name in (key, *(f"{key}/{column}" for column in columns))]
            click.echo(f"{key:22} " + " ".join(f"{cell:24}" for cell in cells).rstrip())
    for key, reason in result["absent"].items():
        click.echo(f"{key:22} absent: {reason}")
    for note in result["notes"]:
        say(f"note: {note}")
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
@click.argument("name", type=click.Choice(["modelnet10", "modelnet40"]))
@click.argument("folder", type=PathArg, default=Path())
@click.option("--mirror", "mirrors", multiple=True, help="Address of the archive itself, tried before the official one.")
@click.option("--sha256", help="Expect this checksum, not the published one.")
@force_option
def download(name: str, folder: Path, mirrors: tuple[str, ...], sha256: str | None, force: bool) -> None:
    """Fetch ModelNet's archive into FOLDER, resumably and checked, and print its path; prepare reads it as it is."""
    from gan3d_model.data.download import download as run

    click.echo(run(name, folder, mirrors, sha256, force, say))


@main.command()
@click.argument("source", type=PathArg)
@click.argument("dataset_dir", type=PathArg)
@click.option("-r", "--resolution", type=int, required=True, help="Voxels along each axis.")
@click.option("--class", "classes", multiple=True, help="Take only this class; repeat for several, default all.")
@click.option("--pattern", default="*", help="Take only files whose path matches, e.g. '*.solid.binvox'.")
@click.option("--names", default="", help="Arrays: names of labels 0, 1, …, separated by commas.")
@voxelizer_options
@click.option(
    "--fix",
    default="",
    help="drop-empty, dedupe (one of identical shapes stays, in train; none if labels differ), or both.",
)
@click.option("--scheduler", help="Address of a Dask cluster that sees SOURCE under the same path (tcp://host:8786).")
@click.option("--audit/--no-audit", "check", default=True, help="Look for defects of the result.")
@force_option
def prepare(
    source: Path, dataset_dir: Path, classes: tuple[str, ...], names: str, fix: str, check: bool, **options: Any
) -> None:
    """Make DATASET_DIR from SOURCE: meshes or voxel files in a folder or .zip, or one file of arrays; then audit it.

    \b
    python cli.py prepare ModelNet10.zip datasets/mn10-64 -r 64
    python cli.py prepare modelnet10.npz datasets/mn10-32 -r 32 --fix drop-empty,dedupe
    python cli.py prepare ShapeNet/ datasets/chairs -r 64 --up y --pattern '*.solid.binvox'

    Interrupted at any moment, the same command goes on where it was.
    """
    from gan3d_eval.audit import audit as verb
    from gan3d_eval.audit import findings
    from gan3d_model.config import RESOLUTIONS
    from gan3d_model.data.prepare import prepare as run

    how = voxelizer(options)
    shapes = run(source, dataset_dir, how, list(classes), names=split(names), fix=tuple(split(fix)), say=say, **options)
    for label, splits in shapes.info["counts"].items():
        say(f"{label:14} " + "  ".join(f"{part} {n}" for part, n in splits.items()))
    for reason, count in shapes.info["rejected_for"].items():
        say(f"left out, {count}: {reason}")
    if shapes.info["rejected"]:
        say(f"{shapes.info['rejected']} left out in all, listed in {dataset_dir}/rejected.csv")
    leaking = int(shapes.table["flags"].str.contains("leaks").sum())
    if leaking:
        say(f"warning: {leaking} of {len(shapes)} shapes have a hole that lets the outside in; their inside stayed empty")
    found = findings(verb(shapes)[0]) if check else []
    for finding in found:
        say(f"audit: {finding}")
    if found:
        say(f"which shapes these are: python cli.py audit {dataset_dir} --out shapes.csv")
    if how.resolution not in RESOLUTIONS:
        fitting = ", ".join(map(str, RESOLUTIONS))
        say(f"note: networks train at resolutions {fitting}; at {how.resolution} this set serves for judging only")
    click.echo(dataset_dir)


@main.command()
@click.argument("path", type=PathArg)
@click.option("--out", type=PathArg, help="Write the table, a row per file or shape, to this .csv.")
@click.option("--strict", is_flag=True, help="Exit with 3 on empties, leaks, label conflicts, or unreadable files.")
@json_option
def audit(path: Path, out: Path | None, strict: bool, as_json: bool) -> None:
    """What is wrong with a mesh, a folder or .zip of meshes, or a dataset directory, before anyone relies on it?

    \b
    python cli.py audit chair_0001.off
    python cli.py audit ModelNet10.zip --out meshes.csv
    python cli.py audit datasets/mn10-32 --json
    """
    if (path / "dataset.json").is_file():
        from gan3d_eval.audit import audit as verb
        from gan3d_eval.audit import findings, why_unfit
        from gan3d_eval.voxels import VoxelSet

        result, table = verb(VoxelSet.open(path))
        answer, lines, unfit = result.to_dict(), findings(result) or ["no defect found"], why_unfit(result)
    else:
        from gan3d_model.data.audit_meshes import audit_meshes, report

        table, answer = audit_meshes(path, say)
        lines, unfit = report(answer), f"{len(answer['unreadable'])} files are unreadable" * bool(answer["unreadable"])
    if out:
        from gan3d_eval.files import atomic_file

        with atomic_file(out) as temporary:
            table.to_csv(temporary, index=False)
    click.echo(json.dumps(answer, indent=2, ensure_ascii=False) if as_json else "\n".join(lines))
    if strict and unfit:
        say(f"failed: {unfit}")
        sys.exit(3)


@main.command()
@click.argument("datasets", type=PathArg, nargs=-1, required=True)
@click.option("--out", type=PathArg, help="Draw the comparison to this .png.")
@seed_option
@json_option
def describe(datasets: tuple[Path, ...], out: Path | None, seed: int, as_json: bool) -> None:
    """Data sets side by side: sizes, classes, occupancy, extents, symmetry, diversity; beside published figures."""
    from gan3d_eval import describe as verb
    from gan3d_eval.voxels import VoxelSet

    result, rows, shapes = verb.describe([VoxelSet.open(path) for path in datasets], seed=seed)
    if out:
        say(f"drawn to {verb.draw(out, rows, shapes)}")
    if as_json:
        click.echo(json.dumps(result.to_dict() | {"rows": json.loads(rows.to_json(orient="records"))}, indent=2))
        return
    click.echo(verb.table(rows))
    for note in result.notes:
        click.echo(note)


@main.command()
@click.argument("source", type=PathArg)
@click.option("-r", "--resolution", type=int, default=64, help="Voxels along each axis.")
@voxelizer_options
@click.option("--compare", is_flag=True, help="Show Matlab's polygon2voxel beside it.")
@click.option("-n", "--n-samples", type=click.IntRange(min=1), default=8, help="Meshes shown.")
@click.option("--out", type=PathArg, default=Path("view.png"), help="Picture to draw.")
@seed_option
def view(source: Path, compare: bool, n_samples: int, out: Path, seed: int, **options: Any) -> None:
    """Before and after: meshes of SOURCE beside their voxels, with what voxelising covered and lost.

    \b
    uncovered      share of the surface that lies in empty voxels: holes
    inflation      volume, as a multiple of that at twice the resolution
    tunnels        openings one can see through; finer_tunnels: at twice the resolution
    pieces         parts that do not touch
    """
    from gan3d_eval.render import RenderError
    from studies.view import view as run

    hows = [voxelizer(options)]
    if compare:
        hows.append(voxelizer({"resolution": hows[0].resolution, "method": "polygon2voxel"}))
    try:
        table = run(source, hows, out, n_samples, seed)
    except RenderError as fault:
        say(f"warning: no picture: {fault}")
        table = run(source, hows, None, n_samples, seed)
    say(table.to_string(index=False, float_format="{:.4g}".format))
    click.echo(out)


@main.command()
@click.argument("source", type=PathArg)
@click.argument("folder", type=PathArg)
@click.option("--format", "kind", type=click.Choice(["mat", "binvox", "npz", "ply", "stl", "obj"]), required=True)
@click.option("--surface", type=click.Choice(["marching-cubes", "cubes"]), default="marching-cubes", help="Meshes: how.")
@click.option("--up", type=click.Choice(["z", "y"]), default="z", help="binvox: axis that is up in the file.")
@click.option("--class", "classes", multiple=True, help="Datasets: only this class; repeat for several.")
@samples_option
@click.option("-n", "--n-samples", type=click.IntRange(min=1), help="Only the first so many.")
@force_option
def export(
    source: Path, folder: Path, classes: tuple[str, ...], samples: str | None, n_samples: int | None, **how: Any
) -> None:
    """Write the shapes of SOURCE, a dataset or a run's samples, into FOLDER for other programs."""
    from gan3d_eval.export import export as verb
    from gan3d_eval.run_dir import RunDir
    from gan3d_eval.voxels import VoxelSet

    is_dataset = (source / "dataset.json").is_file()
    shapes = VoxelSet.open(source).select(list(classes)) if is_dataset else RunDir.open(source).samples(samples)
    shapes = shapes.take(range(len(shapes))[:n_samples])
    paths = verb(shapes, folder, **how)
    skipped = (
        f"; {len(shapes) - len(paths)} empty shapes have no mesh" if how["kind"] != "npz" and len(paths) < len(shapes) else ""
    )
    say(f"wrote {len(paths)} files{skipped}")
    click.echo(folder)


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


# --- training ----------------------------------------------------------------------------------------------------------------


@main.command(cls=ConfigCommand)
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
    """
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


@main.command()
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


@main.command("import-run")
@click.argument("source", type=PathArg)
@run_argument
@click.option("--dataset", type=PathArg, help="Dataset directory that the generator was trained on.")
@click.option("--class", "classes", multiple=True, help="Which classes of it; repeat for several, default all.")
@threshold_option
def import_run(source: Path, run_dir: Path, dataset: Path | None, classes: tuple[str, ...], threshold: float) -> None:
    """Make RUN_DIR from anybody's generated grids in SOURCE (.npy or .npz), so that every verb judges them."""
    from gan3d_eval.import_run import import_run as make

    run = make(source, run_dir, dataset, list(classes), threshold, sys.argv)
    say(f"imported {len(run.samples())} shapes at {run.resolution}³")
    click.echo(run.path)


# --- judging -----------------------------------------------------------------------------------------------------------------


@main.command()
@run_argument
@click.option("--every", type=click.FloatRange(min=0.1), default=10.0, help="Seconds between two looks.")
@click.option("--judge", "n", type=click.IntRange(min=50), help="Judge so many shapes of every new checkpoint (history).")
@reference_option
@leak_option
def watch(run_dir: Path, every: float, n: int | None, reference: Path | None, allow_leak: bool) -> None:
    """Follow a run that is training, from another terminal or machine; ends when it does."""
    from gan3d_eval.cache import Cache
    from gan3d_eval.judge import open_case
    from gan3d_eval.run_dir import RunDir
    from gan3d_eval.watch import watch as verb

    run, seen = RunDir.open(run_dir), -1
    case = open_case(run_dir, reference, allow_leak=allow_leak) if n else None
    for now in verb(run, every):
        click.echo(now.line)
        if n and len(checkpoints := run.checkpoints()) and int(checkpoints[-1].stem) > seen:
            seen = int(checkpoints[-1].stem)
            result, rows, _ = judge_checkpoints(case, n, lambda line: None, seed=0, cache=Cache.default())
            last = rows.iloc[-1]
            click.echo(
                f"step {last['step']:.0f}: {last['verdict']}, 1-NNA {last['one_nna_l1']:.2f}, COV {last['coverage_l1']:.2f}, "
                f"valid {last['valid']:.2f}; best so far: step {result.values.get('best_step', '–')}"
            )
        if now.status == "killed":
            say(f"nobody trains it; go on with: python cli.py train DATASET --resume {run_dir}")


@main.command("check-run")
@run_argument
def check_run(run_dir: Path) -> None:
    """List the rules of gan3d_eval/RUN_DIR.md that RUN_DIR breaks; exit code 3 if there are any."""
    from gan3d_eval.check_run import check_run as check

    broken = check(run_dir)
    for rule, message in broken:
        click.echo(f"rule {rule}: {message}")
    say(f"{len(broken)} broken" if broken else "in order")
    sys.exit(3 if broken else 0)


@main.command("nn-check")
@run_argument
@click.option("--k", default=3, help="Neighbours listed per sample.")
@click.option("--shift", type=click.IntRange(min=0), default=2, help="Voxels by which a copy may have been moved.")
@click.option(
    "--poses",
    type=click.Choice(["as-is", "mirror", "turns", "turns-mirror"]),
    default="turns-mirror",
    help="How it may have been turned about z, and mirrored across x.",
)
@click.option("--raw", is_flag=True, help="L1 in place alone, without canaries: fast.")
@click.option("--scheduler", help="Dask cluster that shares the search under L1, and sees the dataset under the same path.")
@click.option(
    "--fail-above", type=click.FloatRange(0, 1), help="Exit with 3 if a larger share is flagged or copied, or none judged."
)
@feature_options
@judging_options
def nn_check(run_dir: Path, fail_above: float | None, scheduler: str | None, as_json: bool, **options: Any) -> None:
    """Does G copy? Neighbours of every sample in the training set, calibrated against held-out shapes, with canaries."""
    from gan3d_eval.judge import check_novelty
    from gan3d_eval.nn_check import why_failed

    case, how = judged(run_dir, options)
    with workers(scheduler) as spread:
        result, path = check_novelty(case, say, spread=spread, **how, **options)
    echo_result(result.to_dict(), path, as_json)
    if fail_above is not None and (reason := why_failed(result, fail_above)):
        say(f"failed: {reason}")
        sys.exit(3)


@main.command()
@click.argument("run_dirs", type=PathArg, nargs=-1, required=True)
@click.option("--draws", type=click.IntRange(min=1), default=1000, help="Draws of n shapes from each larger set.")
@click.option("--out", type=PathArg, help="Several runs: write their table and figure to OUT.csv and OUT.png.")
@feature_options
@judging_options
def compare(run_dirs: tuple[Path, ...], draws: int, out: Path | None, as_json: bool, **options: Any) -> None:
    """Is it real? COV, MMD, 1-NNA, FD, KID … against held-out shapes, beside what real shapes, the mean and noise reach.

    \b
    python cli.py compare RUN_DIR
    python cli.py compare runs/a runs/b --features-from runs/a --out board
    """
    from gan3d_eval.judge import compare_sets

    found = {}
    for run_dir in run_dirs:
        case, how = judged(run_dir, dict(options))
        result, path = compare_sets(case, draws=draws, **how)
        found[str(run_dir)] = result.to_dict()
        if len(run_dirs) == 1:
            echo_result(result.to_dict(), path, as_json)
    if len(run_dirs) > 1:
        print_leaderboard(found, out, as_json)


def print_leaderboard(results: dict[str, Any], out: Path | None, as_json: bool) -> None:
    """Several runs in one table, and to OUT.csv and OUT.png."""
    from gan3d_eval.files import atomic_file
    from gan3d_eval.leaderboard import draw, leaderboard, table

    rows = leaderboard(results)
    if out:
        with atomic_file(out.with_suffix(".csv")) as temporary:
            rows.to_csv(temporary, index=False)
        draw(rows, out.with_suffix(".png"))
        say(f"written to {out.with_suffix('.csv')} and {out.with_suffix('.png')}")
    click.echo(json.dumps(results, indent=2, ensure_ascii=False) if as_json else table(rows))
    if (groups := rows["protocol"].nunique()) > 1:
        say(f"note: {groups} protocols; values of different ones do not compare (other n, resolution or held-out shapes)")


@main.command()
@run_argument
@click.option("--draw", "n", type=click.IntRange(min=50), help="Draw so many shapes from every checkpoint first.")
@judging_options
def history(run_dir: Path, n: int | None, as_json: bool, **options: Any) -> None:
    """Quality and novelty at every checkpoint, one row each, and which one is best; also of a run that is still training."""
    case, how = judged(run_dir, options)
    print_series(*judge_checkpoints(case, n, say, **how), as_json)


def judge_checkpoints(case: Any, n: int | None, tell: Any, **how: Any) -> tuple[Any, Any, Path]:
    """Draw n shapes from each checkpoint that has none yet, then judge them all; what is known comes from the cache."""
    from gan3d_eval.history import history as verb

    if n is not None:
        from gan3d_model.sample import sample as draw

        for path in case.run.checkpoints():
            if f"at-{path.stem}" not in case.run.sample_names():
                draw(case.run, n, int(path.stem), name=f"at-{path.stem}")
    result, rows = verb(case, say=tell, **how)
    return result, rows, case.run.write_result(result, rows, case.suffix)


@main.command("threshold-sweep")
@run_argument
@judging_options
def threshold_sweep(run_dir: Path, as_json: bool, **options: Any) -> None:
    """Does the verdict depend on the threshold? The same samples cut at 0.1 … 0.9 (needs `sample --probabilities`)."""
    from gan3d_eval.threshold_sweep import threshold_sweep as verb

    case, how = judged(run_dir, options)
    result, rows = verb(case, say=say, **how)
    print_series(result, rows, case.run.write_result(result, rows, case.suffix), as_json)


@main.command("classify-features")
@run_argument
@click.option("--dataset", type=PathArg, help="Labelled shapes, both splits.  [default: the run's dataset, all its classes]")
@click.option("--step", type=int, help="Checkpoint whose D is asked.  [default: the newest]")
@click.option("--layers", default="", help="Convolutions of D, with commas.  [default: all but the first, as in the paper]")
@click.option("--side", default=2, help="Every layer's response is pooled to so many places along each axis.")
@click.option("--pooling", type=click.Choice(["max", "mean"]), default="max", help="How.")
@click.option("--untrained", "n_untrained", type=click.IntRange(min=0), default=3, help="Seeds of the untrained control.")
@click.option("--curve/--no-curve", default=True, help="Also learn from 1, 2, 5 … shapes of each class.")
@device_option
@click.option("--no-cache", is_flag=True, help="Compute everything anew.")
@seed_option
@json_option
def classify_features(run_dir: Path, dataset: Path | None, curve: bool, seed: int, as_json: bool, **options: Any) -> None:
    """Are D's features any good? A linear SVM on them, beside untrained D, plain voxels, shuffled labels."""
    from gan3d_eval.classify_features import classify_features as verb
    from gan3d_eval.classify_features import draw
    from gan3d_eval.run_dir import RunDir
    from gan3d_eval.voxels import VoxelSet

    run = RunDir.open(run_dir)
    shapes = VoxelSet.open(dataset or run.dataset_path()).without_empty()
    train, test = (shapes.select([], split) for split in ("train", "test"))
    sources = feature_sources(run, shapes, options)
    result, rows, sizes = verb(train, test, sources, seed, curve, say)
    path = run.write_result(result, rows)
    draw(run, result, rows, sizes)
    echo_result(result.to_dict(), path, as_json)


def feature_sources(run: Any, shapes: Any, options: dict[str, Any]) -> dict[str, Any]:
    """D's features of `shapes`, written to RUN_DIR/features, and the controls: name → function that makes both splits'."""
    from gan3d_eval.cache import NO_CACHE, Cache
    from gan3d_eval.cells import pooled
    from gan3d_eval.embedding import Embedding
    from gan3d_eval.files import read_arrays
    from gan3d_model.config import TrainConfig
    from gan3d_model.features import Extractor, discriminator_of, untrained, write_features

    cache = NO_CACHE if options["no_cache"] else Cache.default()
    how = {"layers": tuple(map(int, split(options["layers"]))), "side": options["side"], "pooling": options["pooling"]}
    of = {part: shapes.table["split"].eq(part).to_numpy() for part in ("train", "test")}

    def parts(features: Any) -> Any:
        return features[of["train"]], features[of["test"]]

    def of_discriminator() -> Any:
        discriminator, step = discriminator_of(run, options["step"], options["device"])
        extractor = Extractor(discriminator, label=f"D of step {step}", **how)
        path = write_features(run, shapes, extractor, str(shapes.info["name"]))
        return parts(read_arrays(path)["features"])

    def of_untrained(seed: int) -> Any:
        config = TrainConfig.from_dict(run.config(), f"{run.path}/config.json")
        extractor = Extractor(untrained(config, shapes.select([], "train"), seed, options["device"]), **how)
        return parts(Embedding("untrained D", extractor.sha256, extractor.of, cache)(shapes))

    sources = {"D": of_discriminator}
    sources |= {f"untrained-{i}": functools.partial(of_untrained, i) for i in range(options["n_untrained"])}
    return sources | {f"voxels-{side}": functools.partial(lambda side: parts(pooled(shapes, side)), side) for side in (8, 16)}


@main.command("paper-plots")
@click.argument("run_dirs", type=PathArg, nargs=-1, required=True)
@click.option("--out", type=PathArg, default=Path("paper"), help="Written: OUT.csv, OUT-accuracy.png, OUT-shapes.png.")
@click.option("--theirs", type=PathArg, multiple=True, help="Shapes of the paper or of anyone, above ours; repeat for several.")
@click.option("--up", type=click.Choice(["z", "y"]), default="z", help="Axis that is up in these files.")
@threshold_option
def paper_plots(run_dirs: tuple[Path, ...], out: Path, theirs: tuple[Path, ...], up: str, threshold: float) -> None:
    """Beside the paper: published accuracies with ours (after classify-features), and their shapes above ours."""
    from gan3d_eval import paper_plots as verb
    from gan3d_eval.files import atomic_file
    from gan3d_eval.run_dir import RunDir

    runs = [RunDir.open(path) for path in run_dirs]
    results = {str(run.path): run.results().get("classify-features", {}) for run in runs}
    if missing := [name for name, result in results.items() if not result]:
        say(f"no accuracies: {', '.join(missing)} has none; make them with: python cli.py classify-features {missing[0]}")
    else:
        rows = verb.comparison(results)
        with atomic_file(out.with_suffix(".csv")) as temporary:
            rows.to_csv(temporary, index=False)
        verb.draw(rows, out.with_name(f"{out.name}-accuracy.png"))
        shown = rows[["method", "supervision", "averaging", "accuracy", "low", "high", "verified"]]
        click.echo(shown.to_string(index=False, float_format="{:.1f}".format, na_rep=""))
        click.echo(out.with_name(f"{out.name}-accuracy.png"))
    if theirs:
        train = runs[0].training_set()[0] if runs[0].finds_dataset() else None
        shapes = verb.read_shapes(theirs, up, threshold)
        click.echo(verb.panel(shapes, runs[0].samples(), train, out.with_name(f"{out.name}-shapes.png")))
    else:
        say("no shapes beside ours: pass files of theirs with --theirs (the paper's release has .mat files with `voxels`)")


@main.command()
@run_argument
@json_option
def curves(run_dir: Path, as_json: bool) -> None:
    """Summarise and draw the training log, also of a run that is still training."""
    from gan3d_eval.curves import curves as verb
    from gan3d_eval.run_dir import RunDir

    run = RunDir.open(run_dir)
    result = verb(run)
    echo_result(result.to_dict(), run.write_result(result), as_json)


@main.command()
@run_argument
@reference_option
@samples_option
@click.option("-n", "--n-samples", type=click.IntRange(min=1), default=32, help="Shapes on a sheet.")
@seed_option
def gallery(run_dir: Path, reference: Path | None, samples: str | None, n_samples: int, seed: int) -> None:
    """Draw contact sheets: samples, training shapes, pairs with nearest neighbours, progress through training."""
    from gan3d_eval.gallery import gallery as verb
    from gan3d_eval.run_dir import RunDir

    run = RunDir.open(run_dir)
    train = run.training_set(reference)[0] if reference or run.finds_dataset() else None
    result = verb(run, run.samples(samples), train, n_samples, seed)
    run.write_result(result)
    for name, reason in result.absent.items():
        say(f"no {name}: {reason}")
    for picture in result.values.values():
        click.echo(run.path / picture)


@main.command()
@run_argument
def report(run_dir: Path) -> None:
    """Write RUN_DIR/report.html, one self-contained page of everything that is known, and print its path."""
    from gan3d_eval.report import report as verb
    from gan3d_eval.run_dir import RunDir

    click.echo(verb(RunDir.open(run_dir)))


@main.command()
@click.option("--out", type=PathArg, default=Path("demo"), help="Folder for data and run.")
@click.option("--class", "category", default="sofa", help="sofa, table, dresser or monitor.")
@click.option("--n-train", default=280, help="Training shapes.")
@click.option("--n-test", default=70, help="Held-out shapes.")
@click.option("--epochs", default=40, help="Passes over the training shapes.")
@seed_option
def demo(category: str, **options: Any) -> None:
    """Everything once, in minutes: furniture → voxels → training → novelty check → gallery → report. Prints the report."""
    from studies.demo import demo as run

    click.echo(run(category=category, command=sys.argv, say=say, **options))


main.add_command(study)
main.add_command(bench)


if __name__ == "__main__":
    main()
