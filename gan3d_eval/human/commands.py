"""The commands human-eval serve, tally and power."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import click

from gan3d_eval.command_line import (
    PathArg,
    echo_result,
    json_option,
    leak_option,
    reference_option,
    samples_option,
    say,
    seed_option,
)

__all__ = ["human_eval"]

runs_argument = click.argument("run_dirs", type=PathArg, nargs=-1, required=True, metavar="RUN_DIR...")


@click.group("human-eval")
def human_eval() -> None:
    """What do people think? A web study and its tally. And how many raters it needs.

    \b
    python cli.py human-eval power --rate 0.4        # before: how many raters
    python cli.py human-eval serve RUN_DIR           # prints the link for raters; ctrl-C stops, the same command goes on
    python cli.py human-eval tally RUN_DIR           # at any time

    docs/human-eval.md says how to run a study whose numbers can be believed.
    """  # noqa: D301 - a backslash-b is click's mark for text that must not be rewrapped


@human_eval.command()
@runs_argument
@click.option(
    "--design", type=click.Choice(["yes-no", "2afc"]), default="yes-no",
    help="One shape, real or generated? Or two, which looks more real?",
)  # fmt: skip
@click.option("--data/--no-data", default=None, show_default=False, help="2afc: real shapes compete.  [default: with one run]")
@click.option("-n", "--answers", type=click.IntRange(min=2, max=1000), default=40, help="Of each rater, beside 6 checks.")
@click.option("--shapes", type=click.IntRange(min=1), default=100, help="Of each run, and of the data, drawn at random.")
@click.option("--consent", help="What raters agree to.  [default: a line of ours]")
@click.option("--out", type=PathArg, help="Database for the answers.  [default: RUN_DIR/responses/DESIGN.sqlite]")
@click.option("--host", default="127.0.0.1", help="Address to listen at; one that others can reach needs --token.")
@click.option("--port", type=click.IntRange(0, 65535), default=8765, help="0 takes a free one.")
@click.option("--token", envvar="GAN3D_STUDY_TOKEN", help="Key that raters must have in their link ($GAN3D_STUDY_TOKEN).")
@samples_option
@reference_option
@leak_option
@seed_option
def serve(
    run_dirs: tuple[Path, ...], design: str, data: bool | None, out: Path | None, host: str, port: int, token: str | None,
    consent: str | None, samples: str | None, reference: Path | None, classes: tuple[str, ...],
    allow_leak: bool, **options: Any,
) -> None:  # fmt: skip
    """Ask people, in their browsers. Prints the link; ctrl-C stops, the same command goes on."""
    from gan3d_eval.case import open_case
    from gan3d_eval.files import refuse_closed
    from gan3d_eval.human.responses import default_path
    from gan3d_eval.human.serve import serve as run
    from gan3d_eval.human.study import CONSENT, design_study

    cases = [open_case(path, reference, samples, allow_leak, classes) for path in run_dirs]
    competes = len(cases) == 1 if data is None else data
    study = design_study(cases, design, with_data=competes, consent=consent or CONSENT, **options)
    if out is None:
        refuse_closed(run_dirs[0])
    run(study, out or default_path(run_dirs[0], design), host, port, token, say, click.echo)
    where = [*map(str, run_dirs), *(["--responses", str(out)] if out else [])]
    say(f"count them with: python cli.py human-eval tally {shlex.join(where)}")


@human_eval.command()
@runs_argument
@click.option("--responses", type=PathArg, help="Database of the answers.  [default: those in RUN_DIR/responses]")
@click.option("--csv", "folder", type=PathArg, help="Write answers.csv, raters.csv and shapes.csv to this folder.")
@json_option
@seed_option
def tally(run_dirs: tuple[Path, ...], responses: Path | None, folder: Path | None, as_json: bool, seed: int) -> None:
    """Count the answers, also while they come in. Writes results/human-eval.json of each RUN_DIR."""
    from gan3d_eval.human.tally import find_responses, write_tables
    from gan3d_eval.human.tally import tally as run
    from gan3d_eval.run_dir import RunDir

    runs = [RunDir.open(path) for path in run_dirs]
    paths = [responses] if responses else find_responses(runs)
    seen: set[Path] = set()
    for path in paths:
        results = run(path, runs, seed)
        for result, written in results:
            echo_result(result.to_dict(), written, as_json)
            if written in seen:
                say(f"warning: {written} is of {path} now; the run is in several studies, choose with --responses")
            seen.add(written)
        if len(results) < len(runs):
            say(f"note: {len(runs) - len(results)} of the runs have no part in {path}")
        if folder:
            for table in write_tables(path, folder / f"{path.parents[1].name}-{path.stem}" if len(paths) > 1 else folder):
                say(f"written to {table}")


@human_eval.command()
@click.option("--rate", type=click.FloatRange(0, 1, min_open=True, max_open=True), required=True, help="Expected rate.")
@click.option("--other", type=click.FloatRange(0, 1, min_open=True, max_open=True),
              help="Expected rate of another run in the same study.  [default: the rate is told from ½]")  # fmt: skip
@click.option("--power", "wanted", type=click.FloatRange(0.5, 0.99), default=0.8, help="Chance to find the difference.")
@click.option("-n", "--answers", type=click.IntRange(min=1), default=20,
              help="Answers of each rater about each run; in a yes-no study half of all are about real shapes.")  # fmt: skip
@click.option("--shapes", type=click.IntRange(min=2), default=100, help="Of each run.")
@click.option("--rater-sd", type=click.FloatRange(0, 5), default=0.5, help="How raters differ: sd of log-odds (assumed).")
@click.option("--shape-sd", type=click.FloatRange(0, 5), default=0.5, help="How shapes differ: sd of log-odds (assumed).")
@seed_option
def power(rate: float, other: float | None, wanted: float, seed: int, **options: Any) -> None:
    """How many raters a study needs. To tell a rate (or, in 2afc, a preference) from ½, or two runs apart."""
    from gan3d_eval.human.power import STUDIES, Plan, answers_needed, raters_needed

    plan = Plan(rate, other, **options)
    if other is None:
        independent = answers_needed(rate, wanted)
        click.echo(f"answers, if independent    {independent} (exact binomial test, two-sided, 5 %)")
        click.echo(f"raters, if independent     {-(-independent // plan.answers)}")
    raters, reached = raters_needed(plan, wanted, seed)
    click.echo(f"raters                     {raters}, each with {plan.answers} answers a run to {plan.shapes} shapes")
    click.echo(f"power                      {reached:.3f} ({STUDIES} simulated studies, t with two-way clustered errors, 5 %)")
    say(f"note: assumes log-odds that differ by {plan.rater_sd:g} among raters, by {plan.shape_sd:g} among shapes (sd)")
