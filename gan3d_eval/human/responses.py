"""The database of a study as it is read: what it is, whether it is whole, and its tables (`store.py` lists and writes them)."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd

from gan3d_eval.human.study import StudyError

__all__ = ["APPLICATION", "FORMAT", "check_kind", "default_path", "explained", "read_answers"]

APPLICATION = 0x67336468  # "g3dh", which `file` and we know the database by
FORMAT = 1


def default_path(run_dir: Path, design: str) -> Path:
    """Where the answers of a study of a run are kept: `responses/<design>.sqlite`."""
    return run_dir / "responses" / f"{design}.sqlite"


def read_answers(path: Path) -> tuple[dict[str, Any], pd.DataFrame, pd.DataFrame]:
    """Read settings, trials (one row each, answered or not) and raters of a study, also while it is being served.

    Returns
    -------
    settings : dict
    trials : DataFrame
        rater, trial, source, name, item, source_b, name_b, item_b, expected, answer, seconds, answered. `item`, `item_b`: what
        stood in the first (A) and second place (B). `seconds` are the browser's, at most those that the server saw pass since
        the answer before.
    raters : DataFrame
        rater, name, began.
    """
    if not path.is_file():
        raise StudyError(f"{path} is missing; a study is made with: python cli.py human-eval serve RUN_DIR")
    with explained(path), contextlib.closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)) as database:
        if check_kind(database, path):
            raise StudyError(f"{path} is empty: no study was ever served from it")
        database.execute("BEGIN")  # one state of all tables, whatever is stored meanwhile
        settings = json.loads(database.execute("SELECT settings FROM study").fetchone()[0])
        trials = pd.read_sql_query(
            "SELECT t.rater, t.trial, a.source, a.name, t.first AS item, b.source AS source_b, b.name AS name_b, "
            "t.second AS item_b, t.expected, answers.answer, answers.seconds, answers.answered FROM trials t "
            "JOIN items a ON a.item = t.first LEFT JOIN items b ON b.item = t.second "
            "LEFT JOIN answers ON answers.rater = t.rater AND answers.trial = t.trial ORDER BY t.rater, t.trial",
            database,
        )
        raters = pd.read_sql_query("SELECT rater, name, began FROM raters ORDER BY rater", database)
    began = trials["rater"].map(raters.set_index("rater")["began"])
    before = trials.groupby("rater")["answered"].shift().fillna(began)
    passed = (pd.to_datetime(trials["answered"], utc=True) - pd.to_datetime(before, utc=True)).dt.total_seconds()
    trials["seconds"] = pd.to_numeric(trials["seconds"]).clip(upper=passed)
    return settings, trials, raters


def check_kind(database: sqlite3.Connection, path: Path) -> bool:
    """Whether the database is still empty; StudyError if it is something else than a study's, or damaged."""
    application, version = (database.execute(f"PRAGMA {key}").fetchone()[0] for key in ("application_id", "user_version"))
    if application == 0 and version == 0 and not database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        return True
    if application != APPLICATION:
        raise StudyError(f"{path} is a database of something else than a study; choose another file (--out)")
    if version != FORMAT:
        raise StudyError(f"{path} has format {version}; this version reads {FORMAT}")
    if (state := database.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
        raise StudyError(f"{path} is damaged ({state}); restore a copy, or choose another file (--out)")
    return False


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """SQLite's errors on opening, in a line of ours."""
    try:
        yield
    except (sqlite3.Error, json.JSONDecodeError, pd.errors.DatabaseError) as fault:
        if "locked" in str(fault):
            raise StudyError(f"{path} is locked by another program; close it there and try again") from None
        if isinstance(fault, sqlite3.OperationalError):  # no permission, a full disk
            raise StudyError(f"{path} cannot be used: {fault}") from None
        raise StudyError(
            f"{path} is damaged, or no SQLite database ({fault}); restore a copy, or choose another file"
        ) from None
