"""What the runs of a study found: one CSV, one figure, the tables of its page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from gan3d_eval.files import Gan3dError, atomic_file, read_json
from gan3d_eval.plotting import GENERATED, NEUTRAL, figure
from studies.study import Measure, Study
from studies.verdicts import MOST_SEEDS, Verdict, compared

__all__ = ["NOT_RUN", "collect", "fill_page", "markdown", "publish", "published"]

NOT_RUN = "Not run yet."
"""What stands in a page where a table would."""


def published(study: Study, scale: str, folder: Path) -> pd.DataFrame:
    """The rows of the table below `folder`, as `publish` wrote them; none if it has not been written."""
    path = _table(study, scale, folder)
    rows = pd.read_csv(path) if path.exists() else pd.DataFrame({"cell": [], "seed": []})
    return rows[rows["cell"].isin(study.cells)]


def _table(study: Study, scale: str, folder: Path) -> Path:
    return folder / "results" / f"{study.name}-{scale}.csv"


def collect(study: Study, scale: str, out: Path, known: pd.DataFrame | None = None) -> pd.DataFrame:
    """One row a run that has all its results: cell, seed, failures that were detected, and the study's columns.

    Rows of `known` are kept, but for runs that are here.
    """
    rows: list[dict[str, Any]] = []
    for label in study.cells:
        for path in sorted(study.folder(out, scale).glob(f"{label}-s[0-9]*"), key=_seed):
            results = {name: path / "results" / f"{name}.json" for name in study.verbs}
            if not all(file.exists() for file in results.values()):
                continue
            found = {name: read_json(file)["values"] for name, file in results.items()}
            meta = read_json(path / "run.json") if (path / "run.json").exists() else {}
            failures = " ".join(failure["name"] for failure in meta.get("failures", []))
            trained = {"n_train": meta["dataset"]["n"], "failures": failures} if meta else {}
            values = {column: found[name].get(key) for column, (name, key) in study.columns.items()}
            rows.append({"cell": label, "seed": _seed(path), **trained, **values})
    if not rows:
        raise Gan3dError(f"{study.folder(out, scale)} holds no judged run; `study run` makes some")
    here = pd.DataFrame(rows)
    if known is None or known.empty:
        return here
    both = pd.concat([here, known]).drop_duplicates(["cell", "seed"]).sort_values("seed")  # the first of two stays
    return both.sort_values("cell", key=lambda labels: labels.map(list(study.cells).index), kind="stable")


def _seed(path: Path) -> int:
    return int(path.name.rpartition("-s")[2])


def markdown(study: Study, scale: str, rows: pd.DataFrame) -> str:
    """What a study's page shows: each cell over its seeds, each cell against the one that it is compared with, the figure."""
    figure = f"![Every run, and the mean of each cell](results/{study.name}-{scale}.png)"
    return "\n".join([*_cells(study, rows), *_verdicts(study, rows), "", figure])


def _cells(study: Study, rows: pd.DataFrame) -> list[str]:
    """A row a cell: mean over seeds, with the smallest and the largest value."""
    trained = study.make is None
    headings = ["", "runs", *[measure.heading for measure in study.measures], *["failures detected"] * trained]
    lines = ["| " + " | ".join(headings).lstrip() + " |", "|---" * len(headings) + "|"]
    for label, part in rows.groupby("cell", sort=False):
        cells = [str(label), str(len(part))] + [_range(_values(part, measure), measure.form) for measure in study.measures]
        if trained:
            names = [name for names in part["failures"].dropna() for name in str(names).split()]
            cells.append(", ".join(f"{name} ({names.count(name)})" for name in dict.fromkeys(names)) or "none")
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _verdicts(study: Study, rows: pd.DataFrame) -> list[str]:
    """A row for each main measure of each cell that has a baseline with runs of the same seeds; nothing if none has."""
    lines = []
    for label, cell in study.cells.items():
        for measure in study.measures if cell.against else ():
            if not measure.better:
                continue
            pair = [_values(rows[rows["cell"] == name].set_index("seed"), measure) for name in (label, cell.against)]
            both = pd.concat(pair, axis=1, keys=["cell", "baseline"], join="inner")
            if len(both):
                verdict = compared(both["cell"], both["baseline"], measure.better)
                what = f"{measure.heading} ({measure.better})"
                lines.append(f"| {label} | {cell.against} | {what} | {_in_words(verdict, measure.form)} |")
    head = ["", "| | against | measure (better) | difference, 95 % | seeds | answer |", "|---|---|---|---|---|---|"]
    return head + lines if lines else []


def _in_words(verdict: Verdict, form: str) -> str:
    """Difference with interval, seeds, and the answer."""
    signed = form.replace(":", ":+", 1)
    around = "" if verdict.low is None else f" [{signed.format(verdict.low)}, {signed.format(verdict.high)}]"
    if verdict.needed:
        why = f"about {verdict.needed} seeds would decide it"
    elif verdict.low is None:
        why = "one seed" if verdict.n == 1 else "the same in every seed"
    else:
        why = f"more than {MOST_SEEDS} seeds would"
    answer = verdict.answer if verdict.answer != "undecided" else f"undecided; {why}"
    return f"{signed.format(verdict.difference)}{around} | {verdict.n} | {answer}"


def _values(rows: pd.DataFrame, measure: Measure) -> pd.Series[Any]:
    """The measure's values, where it has any."""
    return pd.Series(rows.eval(measure.of), index=rows.index, dtype=float).dropna()


def _range(values: pd.Series[Any], form: str) -> str:
    if values.empty:
        return "–"
    mean, low, high = (form.format(value) for value in (values.mean(), values.min(), values.max()))
    return mean if low == high else f"{mean} [{low}, {high}]"


def fill_page(page: Path, scale: str, table: str) -> None:
    """Put `table` between the page's marks for `scale`; Gan3dError if it has none."""
    text, begin, end = page.read_text(encoding="utf-8"), f"<!-- {scale} -->\n", f"<!-- end {scale} -->"
    if begin not in text or end not in text:
        raise Gan3dError(f"{page} has no place for the table: expected {begin.strip()} and {end.strip()}")
    before, rest = text.split(begin, 1)
    with atomic_file(page) as temporary:
        temporary.write_text(before + begin + table + "\n" + end + rest.split(end, 1)[1], encoding="utf-8")


def draw(study: Study, rows: pd.DataFrame, path: Path) -> None:
    """Every run as a dot, a panel for each main measure."""
    shown = [measure for measure in study.measures if measure.better]
    cells = list(dict.fromkeys(rows["cell"]))[::-1]
    with figure(path, 1, len(shown), 1.5 + 3.2 * len(shown), 0.9 + (0.34 if len(cells) < 20 else 0.2) * len(cells)) as axes:
        for i, (axis, measure) in enumerate(zip([axes] if len(shown) == 1 else axes, shown, strict=True)):
            values = _values(rows, measure)
            at = rows.loc[values.index, "cell"].map(cells.index)
            axis.plot(values, at, "o", color=GENERATED, alpha=0.75)
            for y, mean in values.groupby(at).mean().items():
                axis.plot(mean, y, "|", color=NEUTRAL, markersize=14, markeredgewidth=2)
            axis.set_yticks(range(len(cells)), [""] * len(cells) if i else cells)
            axis.set_ylim(-0.6, len(cells) - 0.4)
            low, high = values.min(), values.max()  # all are shares, or ratios of such; dots that lie close need no 0
            axis.set_xlim(*((low - 0.02, high + 0.02) if high - low < 0.1 else (-0.02, max(1.02, 1.05 * high))))
            axis.set_title(f"{measure.heading}: {measure.better}", loc="left")


def publish(study: Study, scale: str, out: Path, folder: Path, add: bool = False) -> list[Path]:
    """Collect the runs into `results/<name>-<scale>.csv` and `.png` below `folder`, and into the study's page there if any.

    With `add`, rows that the table has of runs that are not in `out` stay: those of another machine.
    """
    rows = collect(study, scale, out, published(study, scale, folder) if add else None)
    table = _table(study, scale, folder)
    with atomic_file(table) as temporary:
        rows.to_csv(temporary, index=False, lineterminator="\n", float_format="%.6g")
    rows = pd.read_csv(table)  # as anyone reads it: the page says what the file says
    draw(study, rows, table.with_suffix(".png"))
    page = folder / f"{study.name}.md"
    if not page.exists():
        return [table, table.with_suffix(".png")]
    fill_page(page, scale, markdown(study, scale, rows))
    return [table, table.with_suffix(".png"), page]
