"""What every command shares: errors in one line, options with one spelling, how results are printed. Heavy imports live inside.

stdout is a path, a small table, or `--json`; stderr is log and progress.
"""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Collection, Sequence
from concurrent.futures import BrokenExecutor
from math import isnan
from pathlib import Path
from typing import Any

import click

__all__ = [
    "Cli",
    "FileArg",
    "PathArg",
    "cache_option",
    "device_option",
    "echo_result",
    "feature_options",
    "force_option",
    "json_option",
    "judged",
    "judging_options",
    "leak_option",
    "out_file",
    "print_leaderboard",
    "print_series",
    "reference_option",
    "refuse_beside",
    "refuse_runs",
    "run_argument",
    "samples_option",
    "say",
    "seed_option",
    "series_options",
    "shapes_beside",
    "split",
    "threshold_option",
]

PathArg = click.Path(path_type=Path)


OF_PATHS = ("ENOENT", "ENOTDIR", "EISDIR", "EEXIST", "EACCES", "EPERM", "EROFS", "ENAMETOOLONG", "ELOOP")
WAYS_OUT = {getattr(errno, name): "; give another path" for name in OF_PATHS} | {errno.ENOSPC: "; free some"}


class FileArg(click.Path):
    """A file to be written, of the one kind that is: its name ends in `suffix`."""

    def __init__(self, suffix: str) -> None:
        super().__init__(path_type=Path)
        self.suffix = suffix

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path; a usage error if it has another suffix."""
        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        if path.suffix.lower() != self.suffix:
            self.fail(f"{path} has the suffix {path.suffix or 'none'}; expected {self.suffix}.", param, ctx)
        return path


class Cli(click.Group):
    """Turns the project's own errors, and the system's, into one clear line and exit code 1."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; errors that a user can cause become one line."""
        try:
            from gan3d_eval.files import Gan3dError  # takes a moment, in which ctrl-C comes before the name

            return super().invoke(ctx)
        except KeyboardInterrupt:
            code, reason = 130, "interrupted"
        except ModuleNotFoundError as fault:
            code, reason = 1, f"{fault.name} is not installed for this Python; source .venv/bin/activate, or pip install ."
        except Gan3dError as fault:
            code, reason = fault.exit_code, str(fault)
        except click.exceptions.NoArgsIsHelpError:  # a group alone prints its help
            raise
        except click.UsageError as fault:
            said = " ".join(fault.format_message().split()).rstrip(".")
            where = fault.ctx.command_path if fault.ctx else f"{ctx.command_path} {ctx.invoked_subcommand or ''}".strip()
            code, reason = 2, f"{said}{'' if said.endswith('?') else '.'} See: {where} -h"
        except BrokenPipeError:  # `| head` has seen enough: click ends quietly
            raise
        except OSError as fault:
            what = (fault.strerror or str(fault)).lower()
            code, reason = 1, f"{fault.filename or 'file system'}: {what}{WAYS_OUT.get(fault.errno or 0, '')}"
        except BrokenExecutor:  # of joblib
            code, reason = 1, "a worker process was killed, perhaps for want of memory; the same call goes on, or begins anew"
        except MemoryError:
            code, reason = 1, "out of memory"
        if code != 130 or os.environ.get("RANK", "0") == "0":  # of torchrun's processes, which are all interrupted, one says it
            say(f"error: {reason}")
        return ctx.exit(code)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """List in the order in which they were added, which is that in which data flows."""
        return list(self.commands)


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
cache_option = click.option("--no-cache", is_flag=True, help="Compute everything anew.")
leak_option = click.option(
    "--allow-leak", is_flag=True, help="Go on though more than a fifth of the held-out shapes stand in training, without these."
)


def reference_option(command: Any) -> Any:
    """Which shapes, where they are not the run's own."""
    for option in (
        click.option("--class", "classes", multiple=True, help="Only these classes of --reference; repeat for several."),
        click.option("--reference", type=PathArg, help="Dataset to judge against, if not the run's own."),
    ):
        command = option(command)
    return command


def series_options(command: Any) -> Any:
    """What every verb that judges against data takes."""
    for option in (json_option, seed_option, cache_option, leak_option, reference_option):
        command = option(command)  # in reverse: decorators apply from the last
    return command


def judging_options(command: Any) -> Any:
    """What verbs take that judge one file of samples."""
    return samples_option(series_options(command))


def feature_options(command: Any) -> Any:
    """Which discriminator makes features, and whether any does."""
    for option in (
        device_option,
        click.option("--features/--no-features", default=True, help="Use what D knows, where a discriminator is at hand."),
        click.option("--features-from", type=PathArg, help="Run whose discriminator makes the features.  [default: RUN_DIR]"),
    ):
        command = option(command)
    return command


def say(line: str) -> None:
    """Progress and log go to stderr; commands that they name are called as this one was."""
    click.echo(line.replace("python cli.py", "gan3d") if Path(sys.argv[0]).stem == "gan3d" else line, err=True)


def refuse_beside(flag: str, *options: str) -> None:
    """Refuse options of the running command that were given and have no effect where `flag` is set."""
    context = click.get_current_context()
    idle = [o for o in options if context.get_parameter_source(o) is not click.core.ParameterSource.DEFAULT]
    if context.params[flag] and idle:
        raise click.UsageError(f"--{idle[0].replace('_', '-')} has no effect with --{flag}")


def split(names: str | None) -> list[str]:
    """The parts of a list with commas; none of an option that was not given."""
    return [name.strip() for name in (names or "").split(",") if name.strip()]


def judged(run_dir: Path, options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Take the judging options out of a command's: the case, and what its verb takes of them."""
    from gan3d_eval.cache import NO_CACHE, Cache
    from gan3d_eval.case import open_case
    from gan3d_eval.files import refuse_closed

    case = open_case(
        run_dir, options.pop("reference"), options.pop("samples", None), options.pop("allow_leak"), options.pop("classes")
    )
    refuse_closed(run_dir)
    return case, {"seed": options.pop("seed"), "cache": NO_CACHE if options.pop("no_cache") else Cache.default()}


def refuse_runs(run_dirs: Sequence[Path], out: Path | None) -> None:
    """Refuse runs that cannot be set beside each other, or written to `out`, before the work on any of the runs."""
    from gan3d_eval.files import refuse_closed
    from gan3d_eval.run_dir import RunDir

    if out and len(run_dirs) == 1:
        raise click.UsageError("--out is for several runs; of one the result is in its results/")
    if len({RunDir.open(run_dir).path.resolve() for run_dir in run_dirs}) < len(run_dirs):
        raise click.UsageError("a run is named twice")
    if out:
        refuse_closed(out.parent, "and --out names a place in it; give another")


def shapes_beside(run: Any, reference: Path | None, classes: tuple[str, ...]) -> tuple[Any, Any, str]:
    """Training and held-out shapes to show beside a run's own, and `Case.suffix`; None where none are at hand, or named."""
    from gan3d_eval.case import open_case

    if not (reference or classes or run.finds_dataset()):
        return None, None, ""
    case = open_case(run.path, reference, allow_leak=True, classes=classes)
    return case.train, case.test, case.suffix


def out_file(out: Path, end: str) -> Path:
    """The file OUT<end>. OUT may have dots of its own, as `v1.2` has; a suffix of ours at its end is not doubled."""
    return out.with_name((out.stem if out.suffix in {".csv", ".png"} else out.name) + end)


def shown(result: dict[str, Any], key: str, kind: bool = False) -> str:
    """A value with its interval, and what kind that is; nothing if the value is absent."""
    from gan3d_eval.provenance import around

    value, interval = result["values"].get(key, ""), result["intervals"].get(key)
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return f"{text} {around(interval)} {interval['kind']}" if kind and interval else text + around(interval)


def in_columns(rows: list[list[str]]) -> str:
    """Rows of as many cells as lines of columns, the first as wide as the keys of single values."""
    widths = [22, *(max(map(len, cells)) for cells in list(zip(*rows, strict=True))[1:])]
    return "\n".join(" ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)


def echo_result(result: dict[str, Any], path: Path, as_json: bool, first: Collection[str] = ()) -> None:
    """The answer on stdout: all of it as JSON, or a small table of values with their intervals, of those in `first` if any."""
    if as_json:
        click.echo(json.dumps(result, indent=2, ensure_ascii=False))
        return
    from gan3d_eval.provenance import variants

    values, wide = result["values"], {key.split("/")[0] for key in result["values"] if "/" in key}
    rows = dict.fromkeys(key.split("/")[0] for key in values)
    told = [key for key in rows if not first or key in first]
    for key in [key for key in told if key not in wide]:
        click.echo(f"{key:22} {shown(result, key, True)}")
    if wide:  # a key with variants, `<key>/<variant>`, is a row of a table
        columns = variants(values)
        cells = [
            [key, *(shown(result, name) for name in (key, *(f"{key}/{c}" for c in columns)))] for key in told if key in wide
        ]
        click.echo(in_columns([["", result["options"]["column"], *columns], *cells]))
    if len(rows) > len(told):
        click.echo(f"{'not shown':22} {len(rows) - len(told)} further rows: --json, or the report")
    for reason in dict.fromkeys(result["absent"].values()):
        keys = [key for key, why in result["absent"].items() if why == reason]
        click.echo(f"{'absent':22} {', '.join(keys)}: {reason}")
    for note in result["notes"]:
        say(f"note: {note}")
    click.echo(f"{'protocol':22} {result['protocol']}")
    click.echo(f"{'written to':22} {path}")
    drawn = path.parent.with_name("figures")
    if any(drawn.glob(f"{path.stem}*.png")):
        click.echo(f"{'pictures':22} {drawn / path.stem}*.png")


def print_series(result: Any, rows: Any, path: Path, as_json: bool) -> None:
    """A row for each state of the samples, then the result."""
    from gan3d_eval.provenance import around

    if not as_json:
        drawn = [c for c in rows if f"{c}_low" in rows]
        hidden = {"n", "jsd", "flagged_share", *(f"{c}_{part}" for c in drawn for part in ("low", "high", "kind"))}
        table = rows[[c for c in rows if c not in hidden and "/" not in c]].copy()
        over = table.columns[0]
        table[over] = [f"{at:.10g}" for at in table[over]]
        for c in drawn:
            ends = zip(rows[c], rows[f"{c}_low"], rows[f"{c}_high"], strict=True)
            table[c] = ["" if isnan(value) else f"{value:.3g}{around({'low': low, 'high': high})}" for value, low, high in ends]
        click.echo(table.to_string(index=False, float_format="{:.3g}".format, na_rep=""))
    echo_result(result.to_dict(), path, as_json)


def print_leaderboard(results: dict[str, Any], out: Path | None, as_json: bool) -> None:
    """Several runs in one table, and to OUT.csv and OUT.png."""
    from gan3d_eval.files import atomic_file
    from gan3d_eval.leaderboard import draw, judges, leaderboard, table

    rows = leaderboard(results)
    if out:
        table_path, figure_path = out_file(out, ".csv"), out_file(out, ".png")
        with atomic_file(table_path) as temporary:
            rows.to_csv(temporary, index=False)
        draw(rows, figure_path)
        say(f"written to {table_path} and {figure_path}")
    click.echo(json.dumps(results, indent=2, ensure_ascii=False) if as_json else table(rows))
    if (groups := rows["protocol"].nunique()) > 1:
        say(f"note: {groups} protocols; values of different ones do not compare (other n, resolution or held-out shapes)")
    if any(len(by) > 1 for by in judges(results).values()):
        say("note: FD, KID and other measures of features are left out: not all runs were judged by the same discriminator; "
            "--features-from RUN_DIR takes one for all")  # fmt: skip
