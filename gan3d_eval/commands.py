"""The verbs that need no network: take in anybody's samples, judge, draw, report. Heavy imports live inside commands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from gan3d_eval.command_line import (
    FileArg,
    PathArg,
    echo_result,
    json_option,
    judged,
    judging_options,
    out_file,
    print_series,
    reference_option,
    refuse_runs,
    run_argument,
    samples_option,
    say,
    seed_option,
    shapes_beside,
    threshold_option,
)

__all__ = ["curves", "gallery", "paper_plots", "report", "threshold_sweep"]


@click.command("threshold-sweep")
@run_argument
@judging_options
def threshold_sweep(run_dir: Path, as_json: bool, **options: Any) -> None:
    """Judge the same samples cut at 0.1 … 0.9. Needs `sample --probabilities`."""
    from gan3d_eval.threshold_sweep import threshold_sweep as verb

    case, how = judged(run_dir, options)
    result, rows = verb(case, say=say, **how)
    print_series(result, rows, case.run.write_result(result, rows, case.suffix), as_json)


@click.command("paper-plots")
@click.argument("run_dirs", type=PathArg, nargs=-1, required=True)
@click.option("--out", type=PathArg, default=Path("paper"), help="Written: OUT.csv, OUT-accuracy.png, OUT-shapes.png.")
@click.option("--theirs", type=PathArg, multiple=True, help="Grids of anyone (.mat .binvox .npy …), above ours; repeat.")
@click.option("--up", type=click.Choice(["z", "y"]), default="z", help="Axis that is up in these files.")
@threshold_option
def paper_plots(run_dirs: tuple[Path, ...], out: Path, theirs: tuple[Path, ...], up: str, threshold: float) -> None:
    """Beside the paper: accuracies, and shapes. Theirs above ours; after classify-features."""
    from gan3d_eval import paper_plots as verb
    from gan3d_eval.files import Gan3dError, atomic_file, in_shell
    from gan3d_eval.foreign_shapes import read_shapes
    from gan3d_eval.run_dir import RunDir

    runs = [RunDir.open(path) for path in run_dirs]
    shapes = read_shapes(theirs, up, threshold) if theirs else None
    results = {str(run.path): run.results().get("classify-features", {}) for run in runs}
    if missing := [name for name, result in results.items() if not result]:
        why = f"no accuracies: {', '.join(missing)} has none"
        if RunDir.open(Path(missing[0])).checkpoints():
            why += f"; make them with: python cli.py classify-features {in_shell(missing[0])}"
        if not theirs:
            raise Gan3dError(f"{why}; and no shapes to show beside ours: pass files of theirs with --theirs")
        say(why)
    else:
        rows = verb.comparison(results)
        with atomic_file(out_file(out, ".csv")) as temporary:
            rows.to_csv(temporary, index=False)
        verb.draw(rows, out_file(out, "-accuracy.png"))
        shown = rows[["method", "supervision", "averaging", "accuracy", "low", "high", "interval", "verified"]]
        click.echo(shown.to_string(index=False, float_format="{:.1f}".format, na_rep=""))
        say(f"verified: read in the publication itself; the whole table: {out_file(out, '.csv')}")
        click.echo(out_file(out, "-accuracy.png"))
    if shapes is not None:
        train, *_ = shapes_beside(runs[0], None, ())
        click.echo(verb.panel(shapes, runs[0].samples(), train, out_file(out, "-shapes.png")))
    else:
        say("no shapes beside ours: pass files of theirs with --theirs (the paper's release has .mat files with `voxels`)")


@click.command()
@run_argument
@json_option
def curves(run_dir: Path, as_json: bool) -> None:
    """Summarise and draw the training log. Also of a run that is still training."""
    from gan3d_eval.curves import curves as verb
    from gan3d_eval.files import refuse_closed
    from gan3d_eval.run_dir import RunDir

    run = RunDir.open(run_dir)
    refuse_closed(run_dir)
    result = verb(run)
    echo_result(result.to_dict(), run.write_result(result), as_json)


@click.command()
@run_argument
@reference_option
@samples_option
@click.option("-n", "--n-samples", type=click.IntRange(min=1), default=32, help="Shapes on a sheet.")
@click.option("--look", type=click.Choice(["cubes", "edges", "smooth"]), default="cubes", help="How shapes are drawn.")
@click.option("--scale", type=click.IntRange(1, 8), default=1, help="Times as many pixels; 3 is print resolution.")
@click.option("--transparent", is_flag=True, help="Nothing behind the shapes, instead of white.")
@click.option("--format", "suffix", type=click.Choice(["png", "pdf", "svg"]), default="png", help="The report shows png only.")
@click.option("--turntable", is_flag=True, help="Also the first samples from all sides, as a GIF.")
@seed_option
def gallery(
    run_dir: Path, reference: Path | None, classes: tuple[str, ...], samples: str | None, n_samples: int, seed: int,
    suffix: str, turntable: bool, **paper: Any,
) -> None:  # fmt: skip
    """Contact sheets of samples and their neighbours. Best and worst, thresholds, training's progress, a turntable.

    They replace those that were drawn before.
    """
    from gan3d_eval.files import refuse_closed
    from gan3d_eval.gallery import gallery as verb
    from gan3d_eval.run_dir import RunDir
    from gan3d_eval.sheets import Paper

    run = RunDir.open(run_dir)
    refuse_closed(run_dir)
    train, test, _ = shapes_beside(run, reference, classes)
    result = verb(
        run, run.samples(samples), train, test, run.probabilities(samples), n=n_samples, seed=seed, paper=Paper(**paper),
        suffix=f".{suffix}", turntable=turntable, say=say,
    )  # fmt: skip
    run.write_result(result)
    for name, reason in result.absent.items():
        say(f"no {name}: {reason}")
    for picture in result.values.values():
        click.echo(run.path / picture)


@click.command()
@click.argument("run_dirs", type=PathArg, nargs=-1, required=True)
@click.option("--out", type=FileArg(".html"), help="Written there.  [default: RUN_DIR/report.html; needed for several runs]")
def report(run_dirs: tuple[Path, ...], out: Path | None) -> None:
    """One self-contained page of all that is known of runs. Prints its path."""
    from gan3d_eval.report import report as verb
    from gan3d_eval.run_dir import RunDir

    refuse_runs(run_dirs, None)
    click.echo(verb([RunDir.open(path) for path in run_dirs], out, say))
