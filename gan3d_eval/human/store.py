"""Where answers are kept: one SQLite file (WAL) for one study, to which rows are added and never changed.

An answer is on disk (`synchronous=FULL`) before it is acknowledged, so neither a killed server nor a power cut loses one that
a rater believes stored. The file knows the study: settings, items with their hashes, each rater's trials in their order. Of a
rater's token it has the hash alone. Tables:

    study     settings (JSON)
    items     item, source, name, sha256
    raters    rater, token_hash, name, began
    trials    rater, trial, first, second, expected      what is shown in which place; `expected` of attention checks
    answers   rater, trial, answer, seconds, answered    seconds as the browser measured them
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import json
import secrets
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import filelock

from gan3d_eval.human.order import Dealer
from gan3d_eval.human.responses import APPLICATION, FORMAT, check_kind, explained
from gan3d_eval.human.study import Study, StudyError

__all__ = ["Conflict", "Rater", "Store"]

PATIENCE = 2.0  # seconds that a write waits for another program's lock
SCHEMA = f"""
CREATE TABLE study (settings TEXT NOT NULL) STRICT;
CREATE TABLE items (item INTEGER PRIMARY KEY, source TEXT NOT NULL, name TEXT NOT NULL, sha256 TEXT NOT NULL) STRICT;
CREATE TABLE raters (
    rater INTEGER PRIMARY KEY, token_hash TEXT NOT NULL UNIQUE, name TEXT NOT NULL, began TEXT NOT NULL
) STRICT;
CREATE TABLE trials (
    rater INTEGER NOT NULL REFERENCES raters, trial INTEGER NOT NULL, first INTEGER NOT NULL REFERENCES items,
    second INTEGER REFERENCES items, expected TEXT, PRIMARY KEY (rater, trial)
) STRICT;
CREATE TABLE answers (
    rater INTEGER NOT NULL, trial INTEGER NOT NULL, answer TEXT NOT NULL, seconds REAL, answered TEXT NOT NULL,
    PRIMARY KEY (rater, trial), FOREIGN KEY (rater, trial) REFERENCES trials
) STRICT;
CREATE TRIGGER answers_are_not_changed BEFORE UPDATE ON answers BEGIN SELECT RAISE(ABORT, 'answers are never changed'); END;
CREATE TRIGGER answers_are_not_deleted BEFORE DELETE ON answers BEGIN SELECT RAISE(ABORT, 'answers are never deleted'); END;
PRAGMA application_id = {APPLICATION};
PRAGMA user_version = {FORMAT};
"""


class Conflict(Exception):
    """An answer to a trial that is not the rater's next one."""


class Rater(NamedTuple):
    """Who a token belongs to, and the next trial; both count from 0."""

    number: int
    position: int


class Store:
    """The database of a study, opened for writing by one process. Use it as a context manager; it may be used by threads.

    Raises
    ------
    StudyError
        Another process serves the same file, it is damaged or no database of a study, locked by another program, or belongs
        to a study with other settings (which differ is said).
    """

    def __init__(self, path: Path, study: Study) -> None:
        self.path, self.study, self.dealer = path, study, Dealer(study)
        self.guard = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        self.lock = filelock.FileLock(path.with_name(f".{path.name}.lock"), timeout=0)
        try:
            self.lock.acquire()
        except filelock.Timeout:
            why = "is being served by another process; stop that one, or"
            if not Path(self.lock.lock_file).exists():  # nobody holds what cannot be made: a place like /proc
                why = f"cannot be made, as no file can be written to {path.parent};"
            raise StudyError(f"{path} {why} choose another file (--out)") from None
        try:
            self.database = self._open()
        except BaseException:
            self.lock.release()
            raise

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.database.close()
        self.lock.release()

    def _open(self) -> sqlite3.Connection:
        with explained(self.path):
            database = sqlite3.connect(self.path, timeout=PATIENCE, isolation_level=None, check_same_thread=False)
            try:
                fresh = check_kind(database, self.path)
                database.executescript("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;")
                if fresh:
                    self._create(database)
                settings = json.loads(database.execute("SELECT settings FROM study").fetchone()[0])
                if differences := _differences(settings, self.study.settings):
                    answers = database.execute("SELECT count(*) FROM answers").fetchone()[0]
                    raise StudyError(
                        f"{self.path} is of a study with other settings ({'; '.join(differences)}) and has {answers} answers; "
                        f"serve with the same, or choose another file (--out){'' if answers else ', or remove this one'}"
                    )
            except BaseException:
                database.close()
                raise
            return database

    def _create(self, database: sqlite3.Connection) -> None:
        items = [(int(i), row["source"], row["name"], row["sha256"]) for i, row in self.study.items.iterrows()]  # type: ignore[call-overload]
        database.executescript(f"BEGIN IMMEDIATE; {SCHEMA}")
        database.execute("INSERT INTO study VALUES (?)", [json.dumps(self.study.settings)])
        database.executemany("INSERT INTO items VALUES (?, ?, ?, ?)", items)
        database.execute("COMMIT")

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing, and one at a time."""
        with self.guard:
            self.database.execute("BEGIN IMMEDIATE")
            try:
                yield self.database
                self.database.execute("COMMIT")
            except BaseException:
                if self.database.in_transaction:  # a full disk has ended it already
                    self.database.execute("ROLLBACK")
                raise

    def begin(self, name: str) -> str:
        """Take in a rater; returns the token by which alone he is known from now on."""
        token = secrets.token_urlsafe(32)
        with self._transaction() as database:
            number = int(database.execute("SELECT count(*) FROM raters").fetchone()[0])
            database.execute("INSERT INTO raters VALUES (?, ?, ?, ?)", (number, _hash(token), name, _now()))
            rows = [
                (number, i, *t.shown, *[None] * (2 - len(t.shown)), t.expected)
                for i, t in enumerate(self.dealer.trials(number))
            ]
            database.executemany("INSERT INTO trials VALUES (?, ?, ?, ?, ?)", rows)
        return token

    def rater(self, token: str) -> Rater | None:
        """Who has this token; None if nobody has."""
        with self.guard:
            row = self.database.execute(
                "SELECT rater, (SELECT count(*) FROM answers a WHERE a.rater = r.rater) FROM raters r WHERE token_hash = ?",
                [_hash(token)],
            ).fetchone()
        return Rater(*row) if row else None

    def shown(self, rater: Rater, trial: int) -> tuple[int, ...]:
        """The items of a rater's trial; KeyError if there is no such trial."""
        with self.guard:
            row = self.database.execute(
                "SELECT first, second FROM trials WHERE rater = ? AND trial = ?", (rater.number, trial)
            ).fetchone()
        if row is None:
            raise KeyError(trial)
        return tuple(item for item in row if item is not None)

    def answer(self, rater: Rater, trial: int, answer: str, seconds: float | None) -> int:
        """Store an answer and return the number of the next trial; the same answer to an old trial is known already.

        Raises
        ------
        Conflict
            `trial` is not the next one, and was not answered so before.
        """
        with self._transaction() as database:
            position = int(database.execute("SELECT count(*) FROM answers WHERE rater = ?", [rater.number]).fetchone()[0])
            if trial < position:  # the browser asks again if the acknowledgement did not reach it
                was = database.execute(
                    "SELECT answer FROM answers WHERE rater = ? AND trial = ?", (rater.number, trial)
                ).fetchone()
                if was != (answer,):
                    raise Conflict
                return position
            if trial > position or trial >= self.length:
                raise Conflict
            database.execute("INSERT INTO answers VALUES (?, ?, ?, ?, ?)", (rater.number, trial, answer, seconds, _now()))
            return position + 1

    @property
    def length(self) -> int:
        """Trials of each rater."""
        return int(self.study.settings["answers"] + self.study.settings["checks"]["number"])

    def counts(self) -> tuple[int, int]:
        """Raters and answers so far."""
        with self.guard:
            raters, answers = (self.database.execute(f"SELECT count(*) FROM {t}").fetchone()[0] for t in ("raters", "answers"))  # noqa: S608 - two names of ours
        return raters, answers


def _differences(stored: dict[str, Any], asked: dict[str, Any]) -> list[str]:
    """Which settings differ, as `key: stored there, asked for`."""

    def short(value: Any) -> str:
        return text if len(text := str(value)) <= 40 else f"{text[:39]}…"

    a, b = _flat(stored), _flat(asked)
    keys = [key for key in dict.fromkeys([*a, *b]) if a.get(key) != b.get(key)]
    return [f"{key}: {short(a.get(key))} there, {short(b.get(key))} asked for" for key in keys]


def _flat(value: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, part in value.items():
        flat |= _flat(part, f"{prefix}{key}.") if isinstance(part, dict) else {prefix + key: part}
    return flat


def _hash(token: str) -> str:
    """Of 256 random bits, which nobody can try out: no salt and no slow hash are needed."""
    return hashlib.sha256(token.encode()).hexdigest()


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
