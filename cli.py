#!/usr/bin/env python3
"""The command line of gan3d: every command parses, calls one function and echoes. Heavy imports live inside commands.

Here stand the verbs in which networks and evaluation meet; each package has the others in its `commands`.
Exit codes: 0 done, 1 could not, 2 wrong usage, 3 the check itself failed, 130 interrupted.
"""

from __future__ import annotations

import contextlib
import functools
import sys
from pathlib import Path
from typing import Any

try:
    import click
except ModuleNotFoundError:
    sys.exit("error: click is not installed for this Python; source .venv/bin/activate, or pip install .")

from gan3d_eval import __version__
from gan3d_eval import commands as evaluation
from gan3d_eval.command_line import (
    Cli,
    PathArg,
    cache_option,
    device_option,
    echo_result,
    feature_options,
    json_option,
    judged,
    judging_options,
    leak_option,
    print_leaderboard,
    print_series,
    reference_option,
    refuse_beside,
    refuse_runs,
    run_argument,
    say,
    seed_option,
    series_options,
    split,
)
from gan3d_eval.human.commands import human_eval
from gan3d_model import commands as model
from gan3d_model.data import commands as data
from studies import commands as studies


@click.group(cls=Cli, context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(__version__, prog_name="gan3d")
def main() -> None:
    """Train 3D-GANs on voxel shapes, and judge anyone's: is it real, is it new, is it better?

    \b
    Start here:   python cli.py demo
    Your data:    python cli.py prepare ModelNet10.zip datasets/mn10 --resolution 32
                  RUN=$(python cli.py train datasets/mn10 --class sofa \\
                        --recipe stable --base-channels 16 --epochs 59)
    Judge it:     python cli.py nn-check $RUN && python cli.py report $RUN
    """


def judged_with_features(run_dir: Path, options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """`judged`, and `embed`: features by the newest discriminator of the run that --features-from names, else of this one."""
    source, wanted, device = options.pop("features_from"), options.pop("features"), options.pop("device")
    case, how = judged(run_dir, options)
    how["embed"] = None
    if wanted and (source or case.run.checkpoints()):  # a run without any needs no PyTorch
        from gan3d_eval.embedding import Embedding
        from gan3d_eval.files import Gan3dError
        from gan3d_eval.run_dir import RunDir
        from gan3d_model.features import extractor_of

        try:
            extractor = extractor_of(RunDir.open(source) if source else case.run, device=device)
        except Gan3dError as fault:
            raise Gan3dError(f"{fault}; --no-features judges without it") from None
        how["embed"] = Embedding.by(extractor, how["cache"]) if extractor else None
        if source and extractor is None:
            raise Gan3dError(f"{source} has no discriminator to make features; name a run that has one with --features-from")
    return case, how


def workers(scheduler: str | None) -> Any:
    """A context with what spreads a search over the cluster at `scheduler`, or over nothing."""
    if scheduler is None:
        from gan3d_eval.distances import in_process

        return contextlib.nullcontext(in_process)
    from gan3d_model.data.parts import spread_over

    return spread_over(scheduler)


@click.command()
@run_argument
@click.option("--every", type=click.FloatRange(min=0.1), default=10.0, help="Seconds between two looks.")
@click.option("--judge", "n", type=click.IntRange(min=50), help="Judge so many shapes of every new checkpoint (history).")
@reference_option
@leak_option
def watch(
    run_dir: Path, every: float, n: int | None, reference: Path | None, classes: tuple[str, ...], allow_leak: bool
) -> None:
    """Follow a training from another terminal or machine. Ends when it does."""
    from gan3d_eval.cache import Cache
    from gan3d_eval.case import open_case
    from gan3d_eval.files import Gan3dError
    from gan3d_eval.run_dir import RunDir
    from gan3d_eval.series import in_words
    from gan3d_eval.watch import watch as verb

    if n is None and (reference or classes or allow_leak):
        raise click.UsageError("--reference, --class and --allow-leak are for --judge")
    run, seen = RunDir.open(run_dir), -1
    case = open_case(run_dir, reference, None, allow_leak, classes) if n else None
    if case and case.test is None:
        raise Gan3dError(f"{case.train.info['name']} has no held-out (test) shapes, and --judge compares with these")
    for now in verb(run, every):
        click.echo(now.line)
        if n and len(checkpoints := run.checkpoints()) and int(checkpoints[-1].stem) > seen:
            seen = int(checkpoints[-1].stem)
            result, rows, _ = judge_checkpoints(case, n, lambda line: None, seed=0, cache=Cache.default())
            last, best = rows.iloc[-1], result.values.get("best_step", "–")
            click.echo(f"{in_words(last, 'step')}, valid {last['valid']:.2f}; best so far: step {best}")
        if now.status == "killed":
            say(f"nobody trains it; go on with: {run.resumption()}")


@click.command("nn-check")
@run_argument
@click.option("--k", type=click.IntRange(min=1), default=3, help="Neighbours listed per sample.")
@click.option("--shift", type=click.IntRange(min=0), default=2, help="Voxels by which a copy may have been moved.")
@click.option(
    "--poses",
    type=click.Choice(["as-is", "mirror", "turns", "turns-mirror"]),
    default="turns-mirror",
    help="How it may have been turned about z, and mirrored across x.",
)
@click.option("--raw", is_flag=True, help="L1 in place alone, without canaries: fast. A result of its own: nn-check-raw.")
@click.option("--scheduler", help="Dask cluster that shares the search under L1, and sees the dataset under the same path.")
@click.option(
    "--fail-above", type=click.FloatRange(0, 1), help="Exit with 3 if a larger share is flagged or copied, or none judged."
)
@feature_options
@judging_options
def nn_check(run_dir: Path, fail_above: float | None, scheduler: str | None, as_json: bool, **options: Any) -> None:
    """Does G copy? Nearest training shapes, with canaries. Calibrated on held-out shapes; canaries show what is caught."""
    refuse_beside("raw", "shift", "poses", "features_from")
    options["features"] &= not options["raw"]
    from gan3d_eval.case import check_novelty
    from gan3d_eval.nn_check import FIRST, why_failed

    case, how = judged_with_features(run_dir, options)
    with workers(scheduler) as spread:
        result, path = check_novelty(case, say, spread=spread, **how, **options)
    echo_result(result.to_dict(), path, as_json, FIRST)
    if fail_above is not None and (reason := why_failed(result, fail_above)):
        say(f"failed: {reason}")
        sys.exit(3)


@click.command()
@click.argument("run_dirs", type=PathArg, nargs=-1, required=True)
@click.option("--draws", type=click.IntRange(min=1), default=1000, help="Draws of n shapes from each larger set.")
@click.option("--out", type=PathArg, help="Several runs: write their table and figure to OUT.csv and OUT.png.")
@feature_options
@judging_options
def compare(run_dirs: tuple[Path, ...], draws: int, out: Path | None, as_json: bool, **options: Any) -> None:
    """Is it real? COV, MMD, 1-NNA, FD, KID. Beside what real shapes, the mean shape and noise reach.

    \b
    python cli.py compare RUN_DIR
    python cli.py compare runs/a runs/b --features-from runs/a --out board
    """
    from gan3d_eval.case import compare_sets
    from gan3d_eval.compare import FIRST

    refuse_runs(run_dirs, out)
    found = {}
    for run_dir in run_dirs:
        case, how = judged_with_features(run_dir, dict(options))
        result, path = compare_sets(case, say, draws=draws, **how)
        found[str(run_dir)] = result.to_dict()
        if len(run_dirs) == 1:
            echo_result(result.to_dict(), path, as_json, FIRST)
    if len(run_dirs) > 1:
        print_leaderboard(found, out, as_json)


@click.command()
@run_argument
@click.option("--draw", "n", type=click.IntRange(min=50), help="First draw so many from each checkpoint that has fewer.")
@series_options
def history(run_dir: Path, n: int | None, as_json: bool, **options: Any) -> None:
    """Quality and novelty at every checkpoint, and the best. Also of a run that is still training."""
    case, how = judged(run_dir, options)
    print_series(*judge_checkpoints(case, n, say, **how), as_json)


def judge_checkpoints(case: Any, n: int | None, tell: Any, **how: Any) -> tuple[Any, Any, Path]:
    """Draw n shapes from each checkpoint that has none yet, then judge them all; what is known comes from the cache."""
    from gan3d_eval.history import history as verb
    from gan3d_eval.history import steps_of

    if n is not None:
        from gan3d_model.sample import sample as draw

        known = steps_of(case.run)
        for path in case.run.checkpoints():
            if len(known.get(int(path.stem), ())) < n and path.exists():  # a training may have dropped it meanwhile
                draw(case.run, n, int(path.stem), name=f"at-{path.stem}", force=True)
    result, rows = verb(case, say=tell, **how)
    return result, rows, case.run.write_result(result, rows, case.suffix)


@click.command("classify-features")
@run_argument
@click.option("--dataset", type=PathArg, help="Labelled shapes, both splits.  [default: the run's dataset, all its classes]")
@click.option("--step", type=int, help="Checkpoint whose D is asked.  [default: the newest]")
@click.option("--layers", help="Convolutions of D, with commas.  [default: all but the first, as in the paper]")
@click.option("--side", default=2, help="Every layer's response is pooled to so many places along each axis.")
@click.option("--pooling", type=click.Choice(["max", "mean"]), default="max", help="How.")
@click.option("--untrained", "n_untrained", type=click.IntRange(min=0), default=3, help="Seeds of the untrained control.")
@click.option("--curve/--no-curve", default=True, help="Also learn from 1, 2, 5 … shapes of each class.")
@device_option
@cache_option
@seed_option
@json_option
def classify_features(run_dir: Path, dataset: Path | None, curve: bool, seed: int, as_json: bool, **options: Any) -> None:
    """Are D's features any good? A linear SVM on them. Beside it untrained D, plain voxels, shuffled labels."""
    from gan3d_eval.classify_features import classify_features as verb
    from gan3d_eval.classify_features import draw
    from gan3d_eval.files import refuse_closed
    from gan3d_eval.run_dir import RunDir
    from gan3d_eval.voxels import VoxelSet

    run = RunDir.open(run_dir)
    refuse_closed(run_dir)
    shapes = VoxelSet.open(dataset or run.dataset_path("--dataset")).without_empty()
    train, test = (shapes.select([], split) for split in ("train", shapes.held_out))
    sources, made = feature_sources(run, shapes, options)
    result, rows, sizes = verb(train, test, sources, seed, curve, say, made)
    path = run.write_result(result, rows)
    draw(run, result, rows, sizes)
    echo_result(result.to_dict(), path, as_json)


def feature_sources(run: Any, shapes: Any, options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """D's features of `shapes`, written to RUN_DIR, and controls, each a function of both splits; and how D's are made."""
    from gan3d_eval.cache import NO_CACHE, Cache
    from gan3d_eval.cells import pooled
    from gan3d_eval.embedding import Embedding
    from gan3d_eval.files import safe_name
    from gan3d_eval.npy import read_arrays
    from gan3d_model.config import TrainConfig
    from gan3d_model.features import Extractor, discriminator_of, untrained, write_features

    cache = NO_CACHE if options["no_cache"] else Cache.default()
    try:
        layers = tuple(map(int, split(options["layers"])))
    except ValueError:
        raise click.UsageError(f"--layers {options['layers']}: expected numbers with commas, as in 2,3") from None
    how = {"layers": layers, "side": options["side"], "pooling": options["pooling"]}
    of = [shapes.table["split"].eq(part).to_numpy() for part in ("train", shapes.held_out)]

    def parts(features: Any) -> Any:
        return tuple(features[rows] for rows in of)

    discriminator, step = discriminator_of(run, options["step"], options["device"])
    judged = Extractor(discriminator, label=f"D of step {step}", **how)
    made = how | {"layers": list(judged.layers), "step": step, "sha256": judged.sha256}
    made["classes"] = (run.meta["dataset"] or {}).get("classes") or []

    def of_untrained(seed: int) -> Any:
        config = TrainConfig.from_dict(run.config(), f"{run.path}/config.json")
        extractor = Extractor(untrained(config, shapes.select([], "train"), seed, options["device"]), **how)
        return parts(Embedding.by(extractor, cache)(shapes))

    name = safe_name(str(shapes.info["name"]))
    sources: dict[str, Any] = {"D": lambda: parts(read_arrays(write_features(run, shapes, judged, name))["features"])}
    sources |= {f"untrained-{i}": functools.partial(of_untrained, i) for i in range(options["n_untrained"])}
    sources |= {f"voxels-{side}": functools.partial(lambda side: parts(pooled(shapes, side)), side) for side in (8, 16)}
    return sources, made


for command in (  # in the order in which data flows
    data.synthetic, data.download, data.prepare, data.audit, data.describe, studies.view, data.export,
    model.train, model.sample, model.import_run,
    watch, model.check_run, nn_check, compare, history, evaluation.threshold_sweep, classify_features,
    model.explore, evaluation.paper_plots, evaluation.curves, evaluation.gallery, human_eval, evaluation.report,
    studies.demo, studies.study, studies.bench,
):  # fmt: skip
    main.add_command(command)


if __name__ == "__main__":
    main()
