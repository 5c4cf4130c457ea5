"""Count the answers to a study: who is counted, what they say of each run, and tables for other programs.

A rater is left out by the attention checks alone, by a rule that was stored before the first answer: more wrong than tolerated,
or fewer than half of them answered. Everything is given before and after.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gan3d_eval.files import atomic_file, content_hash, in_shell
from gan3d_eval.human.judgement import detection
from gan3d_eval.human.measures import measure
from gan3d_eval.human.responses import default_path, read_answers
from gan3d_eval.human.study import DATA, DESIGNS, StudyError, run_name
from gan3d_eval.provenance import Result, software
from gan3d_eval.run_dir import RunDir

__all__ = ["ALL", "VERB", "find_responses", "tally", "write_tables"]

VERB = "human-eval"
ALL = "all raters"
NOTES = {
    "yes-no": "A perfect generator's fooling rate is the hit rate (how often real shapes are called real), not ½; its d′ is 0.",
    "2afc": "preferred against data: ½ for a perfect generator. strength: log-odds of being preferred, of mean 0.",
}
CLUSTERS = "Wilson's interval takes answers for independent; the clustered one allows for raters and shapes that differ."


def find_responses(runs: Sequence[RunDir]) -> list[Path]:
    """The databases in `responses/` of these runs; StudyError if there is none."""
    found = [path for run in runs for design in DESIGNS if (path := default_path(run.path, design)).is_file()]
    if not found:
        raise StudyError(
            f"{runs[0].path}/responses holds no answers; ask for some with: python cli.py human-eval serve "
            f"{in_shell(runs[0].path)}, or name the file with --responses"
        )
    return found


def tally(path: Path, runs: Sequence[RunDir], seed: int = 0) -> list[tuple[Result, Path]]:
    """Count the answers in the database at `path`, also while it is served, and write the result of each of `runs` in it.

    Writes `results/human-eval.json` (`-2afc` in that design) and a `.csv` with a row for each shape, or pair.

    Raises
    ------
    StudyError
        No answers yet, or none of the runs has a part in the study.
    """
    started = time.perf_counter()
    settings, trials, raters = read_answers(path)
    if not (shown := {name: run for run in runs if (name := run_name(run)) in settings["runs"]}):
        raise StudyError(f"{runs[0].path} has no part in the study of {path}, which is of {', '.join(settings['runs'])}")
    answered = trials[trials["answer"].notna()]
    measured = measured_answers(answered)
    if measured.empty:
        raise StudyError(f"{path} has no answers yet, of {len(raters)} raters; human-eval serve asks for some")
    people = rater_table(settings, trials, raters)
    counted = measured[measured["rater"].isin(people.loc[people["status"] == "counted", "rater"])]
    sources = [*settings["runs"], *([DATA] if settings["data"]["shown"] else [])]
    written = []
    for name, run in shown.items():
        kept, everyone = (measure(settings["design"], part, name, sources, seed) for part in (counted, measured))
        result = Result(
            VERB, _protocol(settings),
            {"samples": settings["runs"][name]["samples"], "responses": _identity(path, answered),
             "test": {"path": settings["data"]["name"], "sha256": settings["data"]["sha256"], "n": settings["data"]["n"]}},
            {"column": "attentive raters", "design": settings["design"], "checks": settings["checks"]},
            _exclusions(people) | _both(kept.values, everyone.values), _both(kept.intervals, everyone.intervals),
            [NOTES[settings["design"]], CLUSTERS, *_notes(settings, name, people)],
            _both(kept.absent, everyone.absent), seed, software("numpy", "scipy", "pandas"), started=started,
        )  # fmt: skip
        suffix = "" if settings["design"] == DESIGNS[0] else settings["design"]
        written.append((result, run.write_result(result, shape_table(counted, settings["design"]), suffix)))
    return written


def measured_answers(answered: pd.DataFrame) -> pd.DataFrame:
    """The answers that count, without attention checks; `unit` is what was shown, whatever its order."""
    measured = answered[answered["expected"].isna()].copy()
    second = measured["item_b"].fillna(measured["item"]).astype(np.int64)
    low, high = np.minimum(measured["item"], second), np.maximum(measured["item"], second)
    measured["unit"] = [f"{a}-{b}" if a != b else str(a) for a, b in zip(low, high, strict=True)]
    return measured


def rater_table(settings: dict[str, Any], trials: pd.DataFrame, raters: pd.DataFrame) -> pd.DataFrame:
    """One row for each rater who answered.

    Columns: rater, name, began, answers, checks, checks_wrong, status (counted; failed checks; too few checks),
    median_seconds, and in `yes-no` d_prime, criterion.
    """
    checks, rows = settings["checks"], []
    for number, part in trials[trials["answer"].notna()].groupby("rater"):
        check = part[part["expected"].notna()]
        wrong, measured = int((check["answer"] != check["expected"]).sum()), part[part["expected"].isna()]
        status = "counted" if 2 * len(check) >= checks["number"] else "too few checks"
        if wrong > checks["tolerated"]:
            status = "failed checks"
        row = {"rater": number, "answers": len(measured), "checks": len(check), "checks_wrong": wrong, "status": status}
        row["median_seconds"] = measured["seconds"].median()
        if settings["design"] == "yes-no":
            real, yes = measured["source"] == DATA, measured["answer"] == "real"
            d_prime, criterion = detection((yes & real).sum(), real.sum(), (yes & ~real).sum(), (~real).sum())
            row |= {"d_prime": float(d_prime), "criterion": float(criterion)}
        rows.append(row)
    return raters.merge(pd.DataFrame(rows), on="rater")


def shape_table(measured: pd.DataFrame, design: str) -> pd.DataFrame:
    """One row for each shape, or pair, that was judged.

    Columns: source, name, (`2afc`: source_b, name_b,) answers, how many of them were `real` (`a`: preferred the first of the
    two), and their share.
    """
    if design == "yes-no":
        said, columns, key = measured["answer"] == "real", ["source", "name"], "real"
    else:
        turned = measured["item"] > measured["item_b"]
        measured = measured.copy()
        for column in ("source", "name"):
            first, second = measured[column].copy(), measured[f"{column}_b"].copy()
            measured[column], measured[f"{column}_b"] = first.where(~turned, second), second.where(~turned, first)
        said, columns, key = (measured["answer"] == "A") ^ turned, ["source", "name", "source_b", "name_b"], "a"
    rows = said.groupby([measured["unit"], *(measured[column] for column in columns)], sort=False).agg(["size", "sum", "mean"])
    rows = rows.reset_index().drop(columns="unit").rename(columns={"size": "answers", "sum": key, "mean": "share"})
    return rows.sort_values(columns, kind="stable", ignore_index=True)


def write_tables(path: Path, folder: Path) -> list[Path]:
    """Write `answers.csv` (a row for each answer), `raters.csv` and `shapes.csv` (of counted raters) to `folder`."""
    settings, trials, raters = read_answers(path)
    answered, people = trials[trials["answer"].notna()], rater_table(settings, trials, raters)
    counted = answered["rater"].isin(people.loc[people["status"] == "counted", "rater"])
    shapes = shape_table(measured_answers(answered[counted]), settings["design"])
    tables = {"answers": answered, "raters": people, "shapes": shapes}
    written = []
    for name, table in tables.items():
        written.append(folder / f"{name}.csv")
        with atomic_file(written[-1]) as temporary:
            table.apply(_harmless).to_csv(temporary, index=False, lineterminator="\n", float_format="%.6g")
    return written


def _harmless(column: pd.Series) -> pd.Series:
    """No text, which raters and strangers' files have chosen, becomes a formula in a spreadsheet."""
    return column.map(lambda value: f"'{value}" if isinstance(value, str) and value.startswith(tuple("=+-@")) else value)


def _protocol(settings: dict[str, Any]) -> str:
    """Name under which values compare: the same question about the same real shapes."""
    return f"human-{settings['design']}-{settings['resolution']}-real{settings['data']['sha256'][:8]}-n{settings['answers']}"


def _identity(path: Path, answered: pd.DataFrame) -> dict[str, Any]:
    text = answered[["rater", "trial", "answer", "answered"]].to_csv(index=False)
    return {"path": path.name, "sha256": content_hash(np.frombuffer(text.encode(), np.uint8)), "n": len(answered)}


def _exclusions(people: pd.DataFrame) -> dict[str, int]:
    return {
        "failed_checks": int((people["status"] == "failed checks").sum()),
        "too_few_checks": int((people["status"] == "too few checks").sum()),
    }


def _both(attentive: dict[str, Any], everyone: dict[str, Any]) -> dict[str, Any]:
    """Attentive raters' values, and those of all raters in a column beside; what is a column of its own stays one."""
    beside = {f"{key}/{ALL}": value for key, value in everyone.items() if "/" not in key}
    return {key: value for key, value in attentive.items() if "/" not in key} | beside | attentive


def _notes(settings: dict[str, Any], name: str, people: pd.DataFrame) -> list[str]:
    checks, out = settings["checks"], _exclusions(people)
    facts = settings["runs"][name]
    notes = [
        f"Left out of {len(people)} raters: {out['failed_checks']} with more than {checks['tolerated']} of "
        f"{checks['number']} attention checks wrong, {out['too_few_checks']} who answered fewer than half of these."
    ]
    if facts["empty"]:
        notes.append(
            f"{facts['empty']} of {facts['samples']['n']} samples are empty and were not shown: nobody would call them real."
        )
    if settings["data"]["in_training"]:
        notes.append(f"Held-out shapes that stand in training too, and were not shown: {settings['data']['in_training']}.")
    return notes
