"""The study's server trusts nothing: order, forgery, replay, foreign tokens, oversized and malformed requests."""

from __future__ import annotations

import json
import sqlite3

import numpy as np
import pytest
from human_study import make_study
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gan3d_eval.human.limits import RateLimit
from gan3d_eval.human.responses import read_answers
from gan3d_eval.human.serve import is_loopback, serve
from gan3d_eval.human.server import MAX_BODY, create_app
from gan3d_eval.human.store import Store
from gan3d_eval.human.study import StudyError


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("server")


@pytest.fixture(scope="module")
def study(root):
    return make_study(root)


@pytest.fixture
def store(study, tmp_path):
    with Store(tmp_path / "answers.sqlite", study) as opened:
        yield opened


@pytest.fixture
def app(store):
    return create_app(store, hosts=["localhost"])


class Page:
    """What the study's page does, without the page."""

    def __init__(self, app, **headers):
        self.client, self.headers = app.test_client(), headers
        self.state = self.get("/state").get_json()

    def get(self, path):
        return self.client.get(path, headers=self.headers)

    def post(self, path, body, **headers):
        return self.client.post(path, json=body, headers={"X-CSRF-Token": self.state.get("csrf", "")} | self.headers | headers)

    def begin(self, name="", consent=True):
        reply = self.post("/begin", {"consent": consent, "name": name})
        self.state = reply.get_json()
        return reply

    def answer(self, trial, answer="real", seconds=1.0, **headers):
        return self.post("/answer", {"trial": trial, "answer": answer, "seconds": seconds}, **headers)


def rater(app, **headers):
    page = Page(app, **headers)
    assert page.begin().status_code == 200
    return page


def test_a_whole_study(app, store, study):
    page = Page(app)
    assert page.state["phase"] == "welcome"
    page.begin("Ada")
    sources = study.items["source"].to_numpy()
    for trial in range(page.state["total"]):
        voxels = np.frombuffer(page.get(f"/shape/{trial}/0").data, np.uint8)
        (item,) = store.shown(
            store.rater(page.client.get_cookie(f"rater_{study.settings['items']['sha256'][:12]}").value), trial
        )
        assert (voxels == study.packed[item]).all()
        assert page.answer(trial, "generated" if sources[item] == "noise" else "real").get_json()["trial"] == trial + 1
    assert page.get("/state").get_json()["phase"] == "done"
    trials = read_answers(store.path)[1]
    assert trials["answer"].notna().all()
    checks = trials.dropna(subset="expected")
    assert (checks["answer"] == checks["expected"]).all()


def test_no_reply_tells_what_is_real(app, study):
    page = rater(app)
    replies = [page.get(path) for path in ("/", "/state", "/shape/0/0", "/study.js")] + [page.answer(0)]
    for reply in replies:
        text = reply.data + str(reply.headers).encode()
        assert not any(
            str(word).encode() in text for word in (*study.settings["runs"], *study.items["sha256"], *study.items["name"])
        )


def test_the_server_keeps_the_order(app, store):
    page = rater(app)
    assert page.answer(1).status_code == 409
    assert page.get("/shape/1/0").status_code == 200  # fetched ahead
    assert page.get("/shape/2/0").status_code == 404
    assert page.get("/shape/0/1").status_code == 404
    assert page.answer(0).status_code == 200
    assert page.answer(0).get_json()["trial"] == 1  # sent again
    assert page.answer(0, "generated").status_code == 409
    assert store.counts() == (1, 1)
    assert page.get("/state").get_json()["trial"] == 1  # after a reload it goes on


def test_without_consent_nobody_takes_part(app, store):
    assert Page(app).begin(consent=False).status_code == 400
    assert store.counts() == (0, 0)


def test_begun_twice_is_begun_once(app, store):
    page = rater(app)
    page.answer(0)
    assert page.begin().get_json()["trial"] == 1
    assert store.counts() == (1, 1)


def test_forged_requests_are_refused(app, store):
    page, other = rater(app), rater(app)
    for token in ("", "wrong", other.state["csrf"]):
        assert page.answer(0, **{"X-CSRF-Token": token}).status_code == 403
    assert Page(app).post("/begin", {"consent": True, "name": ""}, **{"X-CSRF-Token": "wrong"}).status_code == 403
    form = page.client.post(
        "/answer", data={"trial": 0, "answer": "real"}, headers={"X-CSRF-Token": page.state["csrf"]}
    )  # what a form on another site can send
    assert form.status_code == 400
    assert store.counts() == (2, 0)


def test_foreign_tokens_are_nobodys(app, store, study):
    name = f"rater_{study.settings['items']['sha256'][:12]}"
    stranger = rater(app)
    stranger.client.set_cookie(name, "A" * 43)
    stranger.state = stranger.get("/state").get_json()
    assert stranger.state["phase"] == "welcome"
    assert stranger.answer(0).status_code == 401
    assert stranger.get("/shape/0/0").status_code == 401
    planted = Page(app)
    planted.client.set_cookie(name, "planted")
    planted.state = planted.get("/state").get_json()
    planted.begin()
    assert planted.client.get_cookie(name).value != "planted"
    assert store.counts() == (2, 0)


def test_the_token_is_kept_from_scripts_and_other_sites(app):
    page = Page(app)
    cookie = page.begin().headers["Set-Cookie"]
    assert {"HttpOnly", "SameSite=Strict"} <= set(cookie.split("; "))


def test_every_reply_forbids_foreign_content(app):
    page = rater(app)
    for reply in (page.get("/"), page.get("/state"), page.get("/nowhere"), page.answer(99)):
        policy = reply.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "http" not in policy
        assert reply.headers["X-Content-Type-Options"] == "nosniff"
    assert page.get("/state").headers["Cache-Control"] == "no-store"


def test_the_page_has_no_inline_script_or_style_and_no_foreign_address(app):
    html = Page(app).get("/").get_data(as_text=True)
    assert "<script>" not in html
    assert "style=" not in html
    assert "://" not in html
    assert not any(f" on{event}=" in html for event in ("click", "load", "error", "submit"))


@pytest.mark.parametrize("path", ["/../pyproject.toml", "/..%2f..%2frun_dir.py", "/page/..%5c..", "/%2e%2e/%2e%2e/etc/passwd", "/server.py",
                                  "/page/study.js", "/shape/-1/0", "/shape/0/-1", "/shape/1e9/0", "/shape/99999999999999999999/0", "/example/3", "/%00"])  # fmt: skip
def test_other_paths_lead_nowhere(app, path):
    assert rater(app).get(path).status_code == 404


def test_oversized_bodies_are_refused(app, store):
    page = Page(app)
    assert page.post("/begin", {"consent": True, "name": "x" * MAX_BODY}).status_code == 413
    assert store.counts() == (0, 0)


def test_names_with_scripts_are_text(app, store):
    page = Page(app)
    page.begin("  <script>alert(1)</script>\n\u202e\x00 " + "é" * 100)
    (name,) = read_answers(store.path)[2]["name"]
    assert name == ("<script>alert(1)</script> " + "é" * 100)[:64]
    assert b"<script>alert" not in page.get("/").data + page.get("/state").data


def test_requests_to_another_name_are_refused(app):
    assert app.test_client().get("/state", base_url="http://evil.example/").status_code == 400
    assert app.test_client().get("/state", base_url="http://localhost:1234/").status_code == 200


def test_an_access_key_opens_an_open_address(store):
    app = create_app(store, "k" * 20)
    for headers in ({}, {"X-Access-Key": "wrong"}, {"X-Access-Key": "é"}):
        client = app.test_client()
        assert client.get("/").status_code == 200  # the page itself knows nothing
        assert client.get("/state", headers=headers).status_code == 403
        assert client.get("/example/0", headers=headers).status_code == 403
        assert client.post("/begin", json={}, headers=headers).status_code == 403
    assert rater(app, **{"X-Access-Key": "k" * 20}).answer(0).status_code == 200


def test_who_asks_too_often_waits(app):
    page = rater(app)
    replies = [page.get("/state") for _ in range(60)]
    assert replies[0].status_code == 200
    assert replies[-1].status_code == 429
    assert int(replies[-1].headers["Retry-After"]) >= 1
    assert rater(app).answer(0).status_code == 200  # others do not


def test_a_bucket_fills_again(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    limit = RateLimit(2, 0.5, keys=3)
    assert [limit.wait("a") for _ in range(4)] == [0.0, 0.0, 2.0, 2.0]
    now[0] = 2.0
    assert [limit.wait("a"), limit.wait("a")] == [0.0, 2.0]
    for key in "bcdefg":
        limit.wait(key)
    assert len(limit.buckets) == 3  # however many ask


def test_a_database_that_fails_stores_nothing_and_says_so(app, store, monkeypatch, capsys):
    page = rater(app)
    other = sqlite3.connect(store.path, isolation_level=None)
    store.database.execute("PRAGMA busy_timeout = 50")
    other.execute("BEGIN IMMEDIATE")
    reply = page.answer(0)
    assert reply.status_code == 503
    assert "nothing was stored" in reply.get_json()["error"]
    assert "locked" in capsys.readouterr().err
    other.execute("ROLLBACK")
    assert page.answer(0).status_code == 200  # the page sends again


def test_an_unforeseen_fault_is_logged_and_not_shown(app, store, monkeypatch, capsys):
    page = rater(app)
    monkeypatch.setattr(store, "answer", lambda *_: 1 / 0)
    reply = page.answer(0)
    assert reply.status_code == 500
    assert b"ZeroDivision" not in reply.data
    assert "ZeroDivisionError" in capsys.readouterr().err


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda part: st.lists(part, max_size=3) | st.dictionaries(st.sampled_from(["trial", "answer", "seconds", "name", "consent", "x"]), part),
    max_leaves=6,
)  # fmt: skip


@pytest.fixture(scope="module")
def fuzzed(study, tmp_path_factory):
    with Store(tmp_path_factory.mktemp("fuzz") / "answers.sqlite", study) as store:
        page = rater(create_app(store, hosts=["localhost"]))
        yield store, page


@given(
    st.sampled_from(["GET", "POST", "PUT", "DELETE", "OPTIONS", "HEAD", "PATCH"]),
    st.sampled_from(["/", "/state", "/begin", "/answer", "/shape/0/0", "/example/0"])
    | st.text(max_size=30).map(lambda t: "/" + t.lstrip("/")),  # of `//::` the test client itself would make a host and a port
    st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()),
    st.sampled_from(["application/json", "text/plain", "application/x-www-form-urlencoded", "application/json; charset=x"]),
    st.sampled_from(["", "right", "bad"]) | st.text(st.characters(min_codepoint=32, max_codepoint=126)),
)
@example("POST", "/answer", b"[" * 3000, "application/json", "right")
@example("POST", "/answer", b'{"trial": 1e999, "answer": "real", "seconds": NaN}', "application/json", "right")
@example("POST", "/answer", b'{"trial": true, "answer": "real", "seconds": 1}', "application/json", "right")
@example("POST", "/answer", b'{"trial": 0, "answer": "maybe", "seconds": 1}', "application/json", "right")
@example("POST", "/answer", b'{"trial": 0, "answer": "real", "seconds": -1}', "application/json", "right")
@example("POST", "/answer", b'{"trial": 0, "answer": "real", "seconds": 1e400}', "application/json", "right")
@example("POST", "/begin", b'{"consent": true, "name": "\\ud800"}', "application/json", "right")
@settings(max_examples=150)
def test_malformed_requests_are_refused_and_store_nothing(fuzzed, method, path, body, kind, token):
    store, page = fuzzed
    before = store.counts()[1]
    headers = {"X-CSRF-Token": page.state["csrf"] if token == "right" else token}
    reply = page.client.open(path, method=method, data=body, content_type=kind, headers=headers)
    assert reply.status_code < 500
    assert "Content-Security-Policy" in reply.headers
    assert store.counts()[1] == before


def test_lone_surrogates_in_a_name_are_refused_or_stored_as_text(app, store):
    page = Page(app)
    reply = page.client.post(
        "/begin", data=b'{"consent": true, "name": "a\\ud800b"}', content_type="application/json",
        headers={"X-CSRF-Token": page.state["csrf"]},
    )  # fmt: skip
    assert reply.status_code == 200
    assert read_answers(store.path)[2]["name"].tolist() == ["a b"]


def test_an_open_address_needs_a_key_that_is_one(study, tmp_path):
    for host, key, message in (
        ("0.0.0.0", None, "0.0.0.0 can be reached from other machines: pass --token"),
        ("0.0.0.0", "short", "16 letters"),
        ("127.0.0.1", "with a space in it", "16 letters"),
    ):
        with pytest.raises(StudyError, match=message):
            serve(study, tmp_path / "a.sqlite", host, 0, key, print, print)
    assert not list(tmp_path.iterdir())
    assert is_loopback("127.0.0.2")
    assert is_loopback("::1")
    assert not is_loopback("0.0.0.0")
    assert not is_loopback("example.org")


def test_a_port_that_is_taken_is_said(study, tmp_path):
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(StudyError, match=f"port {taken.getsockname()[1]} of 127.0.0.1 is taken"):
            serve(study, tmp_path / "a.sqlite", "127.0.0.1", taken.getsockname()[1], None, print, print)


def test_a_host_that_is_none_is_said(study, tmp_path):
    with pytest.raises(StudyError, match="cannot listen at no.such.host.invalid, port 0"):
        serve(study, tmp_path / "a.sqlite", "no.such.host.invalid", 0, "k" * 16, print, print)
