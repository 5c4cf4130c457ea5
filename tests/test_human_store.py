"""Answers in SQLite: none lost, doubled or changed; what else may stand at the path is refused in a line."""

from __future__ import annotations

import os
import signal
import sqlite3
import threading
import time

import pytest
from human_study import answer_all, careful, make_study

from gan3d_eval.human.responses import read_answers
from gan3d_eval.human.serve import serve
from gan3d_eval.human.store import Conflict, Store
from gan3d_eval.human.study import StudyError
from studies.bench_human import RaterClient, study_server


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("stores")


@pytest.fixture(scope="module")
def study(root):
    return make_study(root)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "answers.sqlite"


def test_answers_come_in_order_and_stay(study, path):
    with Store(path, study) as store:
        rater = store.rater(store.begin("Ada"))
        with pytest.raises(Conflict):
            store.answer(rater, 1, "real", 1.0)  # not yet
        assert store.answer(rater, 0, "real", 1.0) == 1
        assert store.answer(rater, 0, "real", 9.0) == 1  # sent again, because the acknowledgement was lost
        with pytest.raises(Conflict):
            store.answer(rater, 0, "generated", 1.0)  # no second thoughts
        for trial in range(1, store.length):
            store.answer(rater, trial, "generated", None)
        with pytest.raises(Conflict):
            store.answer(rater, store.length, "real", 1.0)
    _, trials, raters = read_answers(path)
    assert trials["answer"].tolist() == ["real"] + ["generated"] * (store.length - 1)
    assert trials["seconds"][0] <= 1.0
    assert raters["name"].tolist() == ["Ada"]


def test_stored_answers_cannot_be_changed_or_deleted(study, path):
    with Store(path, study) as store:
        answer_all(store, 1, careful)
    database = sqlite3.connect(path)
    for statement in ("UPDATE answers SET answer = 'real'", "DELETE FROM answers"):
        with pytest.raises(sqlite3.IntegrityError, match="never"):
            database.execute(statement)


def test_only_the_hash_of_a_token_is_stored(study, path):
    with Store(path, study) as store:
        tokens = [store.begin("") for _ in range(3)]
        assert len(set(tokens)) == 3
        assert all(len(token) >= 43 for token in tokens)  # 256 bits
        assert store.rater("no such token") is None
    content = b"".join(p.read_bytes() for p in path.parent.iterdir() if p.is_file())
    assert not any(token.encode() in content for token in tokens)


def test_reopened_with_the_same_settings_it_goes_on(study, path, root):
    with Store(path, study) as store:
        token = store.begin("")
        store.answer(store.rater(token), 0, "real", 1.0)
        shown = [store.shown(store.rater(token), trial) for trial in range(store.length)]
    with Store(path, make_study(root)) as store:
        rater = store.rater(token)
        assert rater == (0, 1)
        assert [store.shown(rater, trial) for trial in range(store.length)] == shown
        assert store.rater(store.begin("")).number == 1


def test_other_settings_are_refused_with_what_differs(study, path, root):
    Store(path, study).__exit__()
    with pytest.raises(
        StudyError, match=r"other settings \(seed: 0 there, 1 asked for; .*items\.sha256.* 0 answers; .* or remove"
    ):
        Store(path, make_study(root, seed=1))
    long = study.settings["consent"] + " More."
    with pytest.raises(StudyError, match="consent: I take part"):
        Store(path, make_study(root, consent=long))
    Store(path, study).__exit__()  # the refused ones have let go of it


def test_two_servers_on_one_database_are_refused(study, path):
    with Store(path, study), pytest.raises(StudyError, match="served by another process"):
        Store(path, study)


def test_a_database_that_is_locked_elsewhere_is_refused(study, path, monkeypatch):
    monkeypatch.setattr("gan3d_eval.human.store.PATIENCE", 0.1)
    Store(path, study).__exit__()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("PRAGMA journal_mode = DELETE")
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(StudyError, match="locked by another program"):
        Store(path, study)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"no database at all " * 100, "damaged, or no SQLite"), (b"SQLite format 3\0" + b"\xff" * 5000, "damaged, or no SQLite")],
)
def test_what_is_no_database_is_refused_and_kept(study, path, content, message):
    path.write_bytes(content)
    for attempt in (lambda: Store(path, study), lambda: read_answers(path)):
        with pytest.raises(StudyError, match=message):
            attempt()
    assert path.read_bytes() == content


def test_a_damaged_study_is_refused(study, path):
    with Store(path, study) as store:
        answer_all(store, 5, careful)
    content = bytearray(path.read_bytes())
    content[4096:] = b"\x5a" * (len(content) - 4096)
    path.write_bytes(content)
    with pytest.raises(StudyError, match="damaged"):
        Store(path, study)


def test_databases_of_others_are_refused(study, path):
    database = sqlite3.connect(path)
    database.execute("CREATE TABLE songs (title)")
    database.commit()
    database.close()
    with pytest.raises(StudyError, match="something else than a study"):
        Store(path, study)
    with pytest.raises(StudyError, match="something else"):
        read_answers(path)


def test_a_missing_or_empty_database_has_no_answers(path):
    with pytest.raises(StudyError, match="is missing"):
        read_answers(path)
    path.touch()
    with pytest.raises(StudyError, match="no study was ever served"):
        read_answers(path)


def test_a_full_disk_stores_nothing_and_recovers(study, path):
    with Store(path, study) as store:
        token = store.begin("")
        rater = store.rater(token)
        (pages,) = store.database.execute("PRAGMA page_count").fetchone()
        store.database.execute(f"PRAGMA max_page_count = {pages}")  # SQLite's own "database or disk is full"
        trial = 0
        with pytest.raises(sqlite3.OperationalError, match="full"):
            for _ in range(200):
                store.begin("x" * 64)
        before = store.counts()
        store.database.execute("PRAGMA max_page_count = 100000")
        assert store.counts() == before
        assert store.answer(rater, trial, "real", 1.0) == 1
        store.begin("room again")
    assert read_answers(path)[1]["answer"].notna().sum() == 1


def test_threads_of_one_rater_store_an_answer_once(study, path):
    with Store(path, study) as store:
        rater, outcomes = store.rater(store.begin("")), []

        def send(answer):
            try:
                outcomes.append(store.answer(rater, 0, answer, 1.0))
            except Conflict:
                outcomes.append("conflict")

        threads = [threading.Thread(target=send, args=(("real", "generated")[i % 2],)) for i in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(map(str, outcomes)) == ["1"] * 5 + ["conflict"] * 5
        assert store.counts() == (1, 1)


def test_a_killed_server_loses_no_acknowledged_answer(root, study, path):
    acknowledged: dict[int, str] = {}
    with study_server(root / "run0", "-n", 12, "--out", path) as (address, process):
        client = RaterClient(address)
        state = client.begin()

        def rate():
            at = state
            while at["trial"] < at["total"]:
                answer = ("real", "generated")[at["trial"] % 2]
                try:
                    after = client.ask("/answer", {"trial": at["trial"], "answer": answer, "seconds": 0.1})
                except (OSError, ValueError):
                    return
                acknowledged[at["trial"]] = answer
                at = after

        thread = threading.Thread(target=rate)
        thread.start()
        while len(acknowledged) < 5 and thread.is_alive():
            time.sleep(0.001)
        os.kill(process.pid, signal.SIGKILL)
        thread.join()
    assert len(acknowledged) >= 5
    trials = read_answers(path)[1].dropna(subset="answer")  # what the dead server left is readable as it is
    stored = dict(zip(trials["trial"], trials["answer"], strict=True))
    assert acknowledged.items() <= stored.items()
    assert len(stored) <= len(acknowledged) + 1  # one may be stored whose acknowledgement was on its way
    with study_server(root / "run0", "-n", 12, "--out", path) as (address, _):  # and the study goes on, rater and all
        again = RaterClient(address)
        again.headers["Cookie"] = client.headers["Cookie"]
        assert again.enter(again.ask("/state"))["trial"] == len(stored)
        again.ask("/answer", {"trial": len(stored), "answer": "real", "seconds": 0.1})


def test_a_stop_that_is_sent_twice_is_one_stop(study, path, monkeypatch):
    """`timeout -s INT` interrupts its child, and then its whole group: the second comes while the first is obeyed."""

    class Server:
        effective_port = 1

        def interrupted(self):
            signal.raise_signal(signal.SIGINT)

        run = close = interrupted

    monkeypatch.setattr("gan3d_eval.human.serve._listen", lambda *arguments: Server())
    before, said = signal.getsignal(signal.SIGINT), []
    serve(study, path, "127.0.0.1", 0, None, said.append, said.append)
    assert said[1:] == ["http://127.0.0.1:1/", f"stopped: 0 answers of 0 raters in {path}"]
    assert signal.getsignal(signal.SIGINT) is before
