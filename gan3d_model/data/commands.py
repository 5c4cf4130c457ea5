"""The data verbs: get shapes, make a data set of them, look at it, hand it on. Heavy imports live inside commands."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from gan3d_eval.command_line import FileArg, PathArg, force_option, json_option, samples_option, say, seed_option, split

__all__ = ["FURNITURE", "audit", "describe", "download", "export", "prepare", "synthetic", "voxelizer", "voxelizer_options"]

FURNITURE = ("dresser", "monitor", "sofa", "table")
"""What `synthetic` builds: the names of `data.synthetic.CLASSES`, without its heavy imports."""


class Resolution(click.types.IntParamType):
    """A number of voxels that has no default, because what is made of it depends on it."""

    def get_missing_message(self, param: click.Parameter, ctx: click.Context | None) -> str:
        """Which ones there is a use for."""
        from gan3d_model.config import RESOLUTIONS

        return f"Networks train at {', '.join(map(str, RESOLUTIONS))}"


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


@click.command()
@click.argument("mesh_dir", type=PathArg)
@click.option("--class", "classes", multiple=True, type=click.Choice(FURNITURE), help="Repeat for several.  [default: all]")
@click.option("--n-train", default=200, help="Training shapes per class.")
@click.option("--n-test", default=50, help="Test shapes per class.")
@seed_option
@force_option
def synthetic(mesh_dir: Path, classes: tuple[str, ...], n_train: int, n_test: int, seed: int, force: bool) -> None:
    """Write procedural furniture as .off meshes. They lie below MESH_DIR in ModelNet's layout."""
    from gan3d_eval.files import refuse_ours
    from gan3d_model.data.synthetic import CLASSES, write_furniture

    refuse_ours(mesh_dir)
    n = write_furniture(mesh_dir, list(classes) or list(CLASSES), n_train, n_test, seed, force)
    say(f"wrote {n} meshes")
    click.echo(mesh_dir)


@click.command()
@click.argument("name", type=click.Choice(["modelnet10", "modelnet40"]))
@click.argument("folder", type=PathArg, default=Path())
@click.option("--mirror", "mirrors", multiple=True, help="Address of the archive itself, tried before the official one.")
@click.option("--sha256", help="Expect this checksum, not the published one.")
@force_option
def download(name: str, folder: Path, mirrors: tuple[str, ...], sha256: str | None, force: bool) -> None:
    """Fetch ModelNet's archive, resumably, checked. Prints its path; prepare reads it as it is."""
    from gan3d_model.data.download import download as run

    click.echo(run(name, folder, mirrors, sha256, force, say))


@click.command()
@click.argument("source", type=PathArg)
@click.argument("dataset_dir", type=PathArg)
@click.option("-r", "--resolution", type=Resolution(), required=True, help="Voxels along each axis, 1 to 512.")
@click.option("--class", "classes", multiple=True, help="Take only this class; repeat for several, default all.")
@click.option("--pattern", default="*", help="Take only files whose path matches, e.g. '*.solid.binvox'.")
@click.option("--names", help="Arrays: names of labels 0, 1, …, separated by commas.")
@voxelizer_options
@click.option(
    "--fix",
    help="drop-empty, dedupe (one of identical shapes stays, in train; none if labels differ), or both.",
)
@click.option("--scheduler", help="Address of a Dask cluster that sees SOURCE under the same path (tcp://host:8786).")
@click.option("--audit/--no-audit", "check", default=True, help="Look for defects of the result.")
@force_option
def prepare(
    source: Path, dataset_dir: Path, classes: tuple[str, ...], names: str | None, fix: str | None, check: bool, **options: Any
) -> None:
    """Make a dataset of meshes or voxels, and audit it. SOURCE is a folder, a .zip, or one file of arrays.

    \b
    python cli.py prepare ModelNet10.zip datasets/mn10-64 -r 64
    python cli.py prepare modelnet10.npz datasets/mn10-32 -r 32 --fix drop-empty,dedupe
    python cli.py prepare ShapeNet/ datasets/chairs -r 64 --up y --pattern '*.solid.binvox'

    Interrupted while it converts, the same command goes on where it was. The audit alone is repeated by audit.
    """  # noqa: D301 -- \b is click's mark for text that must not be rewrapped
    from gan3d_eval.audit import audit as verb
    from gan3d_eval.audit import findings
    from gan3d_eval.files import in_shell
    from gan3d_model.config import RESOLUTIONS
    from gan3d_model.data.prepare import prepare as run
    from gan3d_model.data.prepare import workspace

    how = voxelizer(options)
    try:
        shapes = run(source, dataset_dir, how, list(classes), names=split(names), fix=tuple(split(fix)), say=say, **options)
    except KeyboardInterrupt:
        kept = "what is done is kept in a hidden folder beside the target: the same command goes on there"
        say(kept if workspace(dataset_dir).exists() else "nothing is made yet; the same command begins anew")
        raise
    for label, splits in shapes.info["counts"].items():
        say(f"{label:14} " + "  ".join(f"{part} {n}" for part, n in splits.items()))
    for reason, count in shapes.info["rejected_for"].items():
        say(f"left out, {count}: {reason}")
    if shapes.info["rejected"]:
        say(f"{shapes.info['rejected']} left out in all, listed in {dataset_dir}/rejected.csv")
    if leaking := int(shapes.table["flags"].str.contains("leaks").sum()):
        say(f"warning: {leaking} of {len(shapes)} shapes have a hole that lets the outside in; their inside stayed empty")
    found = []
    if check:
        say(f"audit … ({dataset_dir} is whole already; python cli.py audit {in_shell(dataset_dir)} repeats this)")
        found = findings(verb(shapes)[0])
    for finding in found:
        say(f"audit: {finding}")
    if check and not found:
        say("audit: nothing found")
    if found:
        say(f"which shapes these are: python cli.py audit {in_shell(dataset_dir)} --out shapes.csv")
    if how.resolution not in RESOLUTIONS:
        fitting = ", ".join(map(str, RESOLUTIONS))
        say(f"note: networks train at resolutions {fitting}; at {how.resolution} this set serves for judging only")
    click.echo(dataset_dir)


@click.command()
@click.argument("source", type=PathArg)
@click.option("--out", type=FileArg(".csv"), help="Write the table, a row per file or shape, to this .csv.")
@click.option(
    "--strict",
    is_flag=True,
    help="Exit with 3 on empties, held-out shapes that stand in training, label conflicts, or unreadable files.",
)
@json_option
def audit(source: Path, out: Path | None, strict: bool, as_json: bool) -> None:
    """Find what is wrong with meshes or a dataset. SOURCE is a mesh, a folder, a .zip, or a dataset directory.

    \b
    python cli.py audit chair_0001.off
    python cli.py audit ModelNet10.zip --out meshes.csv
    python cli.py audit datasets/mn10-32 --json
    """  # noqa: D301 -- \b is click's mark for text that must not be rewrapped
    if (source / "dataset.json").is_file():
        from gan3d_eval.audit import audit as verb
        from gan3d_eval.audit import findings, why_unfit
        from gan3d_eval.voxels import VoxelSet

        result, table = verb(VoxelSet.open(source))
        answer, lines, unfit = result.to_dict(), findings(result) or ["no defect found"], why_unfit(result)
    else:
        from gan3d_model.data.audit_meshes import audit_meshes, report

        table, answer = audit_meshes(source, say)
        lines, unfit = report(answer), f"{len(answer['unreadable'])} files are unreadable" * bool(answer["unreadable"])
    if out:
        from gan3d_eval.files import atomic_file

        with atomic_file(out) as temporary:
            table.to_csv(temporary, index=False)
    click.echo(json.dumps(answer, indent=2, ensure_ascii=False) if as_json else "\n".join(lines))
    if strict and unfit:
        say(f"failed: {unfit}")
        sys.exit(3)


@click.command()
@click.argument("datasets", type=PathArg, nargs=-1, required=True)
@click.option("--out", type=FileArg(".png"), help="Draw the comparison to this .png.")
@seed_option
@json_option
def describe(datasets: tuple[Path, ...], out: Path | None, seed: int, as_json: bool) -> None:
    """Data sets side by side, and beside published figures. Sizes, classes, occupancy, extents, symmetry, diversity."""
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


@click.command()
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
    """Write shapes for other programs, into FOLDER. SOURCE is a dataset, or a run, whose samples are meant."""
    from gan3d_eval.export import export as verb
    from gan3d_eval.run_dir import RunDir
    from gan3d_eval.voxels import VoxelSet

    is_run = (source / "run.json").is_file()
    if how["up"] != "z" and how["kind"] != "binvox":
        raise click.UsageError("--up is for binvox; other files have z up")
    if is_run and classes:
        raise click.UsageError("--class is for datasets; a run's samples have no classes")
    shapes = RunDir.open(source).samples(samples) if is_run else VoxelSet.open(source).select(list(classes))
    shapes = shapes.take(range(len(shapes))[:n_samples])
    try:
        paths = verb(shapes, folder, **how)
    except KeyboardInterrupt:
        say(f"a part of the files is in {folder}; the same command with --force writes all of them")
        raise
    skipped = (
        f"; {len(shapes) - len(paths)} empty shapes have no mesh" if how["kind"] != "npz" and len(paths) < len(shapes) else ""
    )
    say(f"files written: {len(paths)}{skipped}")
    click.echo(folder)
