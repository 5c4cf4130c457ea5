"""The study as a web server: pages, shapes, answers. Trusts nothing that comes in.

Flask with waitress: every request is one short SQLite statement, which threads serve well; waitress is pure Python, buffers
slow clients without giving them a thread, and needs no compiler. An asynchronous server would wait for the same disk.

A rater is known by a cookie (256 random bits, HttpOnly, SameSite=Strict). What changes something needs a second secret, which
only a page of ours can read (`/state`) and send in a header, so no other site can answer for a rater. Which shape comes next
the server decides: a request names a number of a trial, never a shape, and learns no shape beyond the next one. Requests must
come under one of the host's names where these are given, as they are on a laptop (`serve`), so that no foreign name that
resolves to it gets in; `Content-Security-Policy` lets pages load from here alone.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import math
import secrets
import sqlite3
import sys
import traceback
import unicodedata
import zlib
from pathlib import Path
from typing import Any

import flask
import numpy as np

from gan3d_eval.human.limits import RateLimit
from gan3d_eval.human.order import CHOICES, choices
from gan3d_eval.human.store import Conflict, Rater, Store
from gan3d_eval.human.study import DATA, EXAMPLE, Study
from gan3d_eval.voxels import unpack

__all__ = ["MAX_BODY", "create_app"]

MAX_BODY = 4096
PAGE = Path(__file__).parent / "page"
COLOR = (0.64, 0.66, 0.70)
"""Of every shape: neither that of generated nor that of real ones in the toolkit's pictures."""
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
YEAR = 365 * 24 * 3600


class Refusal(Exception):
    """An answer other than 200, with a line for whoever reads it."""

    def __init__(self, code: int, description: str, **headers: str) -> None:
        super().__init__(description)
        self.code, self.description, self.headers = code, description, headers


def create_app(store: Store, access_key: str | None = None, hosts: list[str] | None = None) -> flask.Flask:
    """Make the application.

    Parameters
    ----------
    store : Store
    access_key : str, optional
        What a link must bring to take part.
    hosts : list of str, optional
        Names (without port) under which requests may reach it; None allows any.
    """
    app = flask.Flask("gan3d-human-eval", static_folder=None)
    app.config.update(MAX_CONTENT_LENGTH=MAX_BODY, TRUSTED_HOSTS=hosts)
    server = _Server(store, access_key)
    for path, name in (
        ("/", "index.html"),
        ("/study.js", "study.js"),
        ("/study.css", "study.css"),
        ("/viewer.js", "viewer.js"),
    ):
        app.add_url_rule(path, path, functools.partial(server.page, name))
    app.add_url_rule("/state", view_func=server.state)
    app.add_url_rule("/example/<int:number>", view_func=server.example)
    app.add_url_rule("/shape/<int:trial>/<int:place>", view_func=server.shape)
    app.add_url_rule("/begin", view_func=server.begin, methods=["POST"])
    app.add_url_rule("/answer", view_func=server.answer, methods=["POST"])
    app.register_error_handler(Exception, _refuse)
    app.after_request(_finish)
    return app


def _finish(response: flask.Response) -> flask.Response:
    response.headers.extend(HEADERS)
    response.headers.setdefault("Cache-Control", "no-store")
    return response


def _refuse(fault: Exception) -> flask.Response:
    """Every refusal is JSON with a line; what nobody foresaw is logged in full, and not shown."""
    code = getattr(fault, "code", None)
    line = str(getattr(fault, "description", ""))
    if isinstance(fault, sqlite3.Error):
        code, line = 503, "The study's database does not answer; nothing was stored."
        print(f"warning: not stored: {fault}", file=sys.stderr)  # noqa: T201 - the server's log
    elif not isinstance(code, int):
        code, line = 500, "Something went wrong on the server."
        traceback.print_exception(fault)
    response = flask.jsonify(error=line)
    response.status_code = code
    response.headers.extend(getattr(fault, "headers", {}))
    return response


class _Server:
    """What the addresses do."""

    def __init__(self, store: Store, access_key: str | None) -> None:
        self.store, self.settings = store, store.study.settings
        self.access_key = access_key
        self.cookie = f"rater_{self.settings['items']['sha256'][:12]}"  # cookies do not tell ports, so studies must
        self.zipped = [zlib.compress(row.tobytes(), 6, wbits=31) for row in store.study.packed]
        self.zoom = _zoom(store.study)
        self.of_rater = RateLimit(40, 10)
        self.of_address = RateLimit(1000, 50)
        self.of_beginner = RateLimit(200, 1)

    def page(self, name: str) -> flask.Response:
        """A file of the pages; nothing in it depends on the study."""
        folder = PAGE.parents[1] if name == "viewer.js" else PAGE
        response = flask.send_from_directory(folder, name)
        response.headers["Cache-Control"] = "no-cache"
        return response

    def state(self) -> flask.Response:
        """Where the rater stands, and what the page needs to go on."""
        self._admit()
        token, rater = self._rater()
        fresh = token or secrets.token_urlsafe(32)  # before one takes part: a cookie that stands for nobody, against forgery
        response = flask.jsonify(self._state(fresh, rater))
        return response if token else self._give(response, fresh)

    def begin(self) -> flask.Response:
        """Take a rater in; the token of a visitor is never kept, so that nobody can plant one."""
        self._admit()
        token, rater = self._rater()
        self._forbid_forgery(token)
        if rater:
            return flask.jsonify(self._state(token, rater))
        body = _body({"consent": bool, "name": str})
        if not body["consent"]:
            raise Refusal(400, "Without consent there is no taking part.")
        self._limit(self.of_beginner, flask.request.remote_addr or "")
        fresh = self.store.begin(_clean(body["name"]))
        return self._give(flask.jsonify(self._state(fresh, self.store.rater(fresh))), fresh)

    def answer(self) -> flask.Response:
        """Store an answer, then acknowledge it; of two to the same trial the first one counts."""
        self._admit()
        token, rater = self._rater()
        self._forbid_forgery(token)
        body = _body({"trial": int, "answer": str, "seconds": float | None})
        if rater is None:
            raise Refusal(401, "This study does not know you; open its page again.")
        seconds, trial = body["seconds"], body["trial"]
        if body["answer"] not in CHOICES[self.settings["design"]] or not 0 <= trial < self.store.length:
            raise Refusal(400, "That is no answer to a trial of this study.")
        if seconds is not None and not (0 <= seconds < YEAR):  # false for NaN too
            raise Refusal(400, "The time that the answer took is no such time.")
        try:
            position = self.store.answer(rater, trial, body["answer"], seconds)
        except Conflict:
            raise Refusal(409, "That trial is not your next one.") from None
        return flask.jsonify(trial=position, total=self.store.length)

    def example(self, number: int) -> flask.Response:
        """One of the real shapes that the welcome page shows as such."""
        self._admit()
        self._rater()
        items = self.store.study.rows(EXAMPLE)
        if number >= len(items):
            raise Refusal(404, "There is no such example.")
        return self._voxels(int(items[number]))

    def shape(self, trial: int, place: int) -> flask.Response:
        """What stands in a place of a trial: of those answered, the current one, or the next, which a page fetches ahead."""
        self._admit()
        _, rater = self._rater()
        if rater is None:
            raise Refusal(401, "This study does not know you; open its page again.")
        if trial > rater.position + 1 or trial >= self.store.length:
            raise Refusal(404, "That trial is not your next one.")
        shown = self.store.shown(rater, trial)
        if place >= len(shown):
            raise Refusal(404, "There is no such place.")
        return self._voxels(shown[place])

    def _voxels(self, item: int) -> flask.Response:
        if flask.request.accept_encodings["gzip"]:
            return flask.Response(self.zipped[item], mimetype="application/octet-stream", headers={"Content-Encoding": "gzip"})
        return flask.Response(self.store.study.packed[item].tobytes(), mimetype="application/octet-stream")

    def _state(self, token: str, rater: Rater | None) -> dict[str, Any]:
        design, answered = self.settings["design"], rater.position if rater else 0
        return {
            "phase": "welcome" if rater is None else "done" if answered == self.store.length else "trial",
            "trial": answered, "total": self.store.length, "design": design, "category": self.settings["category"],
            "resolution": self.settings["resolution"], "consent": self.settings["consent"], "color": COLOR, "zoom": self.zoom,
            "choices": choices(design, rater.number if rater else 0), "examples": len(self.store.study.rows(EXAMPLE)),
            "csrf": _csrf(token),
        }  # fmt: skip

    def _admit(self) -> None:
        """Refuse (403) who does not bring the key of the link."""
        brought = flask.request.headers.get("X-Access-Key", "")
        if self.access_key and not hmac.compare_digest(brought.encode(), self.access_key.encode()):
            self._limit(self.of_address, flask.request.remote_addr or "")
            raise Refusal(403, "This study opens with its full link only; ask for it where you got this one.")

    def _rater(self) -> tuple[str, Rater | None]:
        """The cookie's token ("" without one) and whom it belongs to; refuses (429) who asks too often."""
        token = flask.request.cookies.get(self.cookie, "")
        rater = self.store.rater(token) if token else None
        if rater:
            self._limit(self.of_rater, str(rater.number))
        else:
            self._limit(self.of_address, flask.request.remote_addr or "")
        return token, rater

    @staticmethod
    def _limit(limit: RateLimit, key: str) -> None:
        if seconds := limit.wait(key):
            raise Refusal(429, "Too many requests; wait a moment.", **{"Retry-After": str(math.ceil(seconds))})

    @staticmethod
    def _forbid_forgery(token: str) -> None:
        """Refuse (403) what no page of ours has sent."""
        brought = flask.request.headers.get("X-CSRF-Token", "")
        if not token or not hmac.compare_digest(brought.encode(), _csrf(token).encode()):
            raise Refusal(403, "The page that sent this is not of this study; open it again, with cookies allowed.")

    def _give(self, response: flask.Response, token: str) -> flask.Response:
        response.set_cookie(self.cookie, token, max_age=YEAR, httponly=True, samesite="Strict")
        return response


def _zoom(study: Study) -> float:
    """One magnification for all shapes, under which the largest real one fills the picture."""
    real = unpack(study.packed[np.concatenate([study.rows(EXAMPLE), study.rows(DATA)])], study.settings["resolution"])
    places = np.argwhere(real.any(axis=0))
    return float(np.clip(study.settings["resolution"] / (np.ptp(places, axis=0) + 1).max(), 1.0, 1.3))


def _csrf(token: str) -> str:
    return hmac.new(token.encode(), b"csrf", hashlib.sha256).hexdigest()


def _body(fields: dict[str, Any]) -> dict[str, Any]:
    """The request's JSON: an object with exactly these fields of these types, or a refusal (400)."""
    try:
        body = flask.request.get_json(silent=True)
    except RecursionError:
        body = None
    if not isinstance(body, dict) or set(body) != set(fields):
        raise Refusal(400, f"Expected a JSON object of {', '.join(fields)}.")
    for key, kind in fields.items():
        value = body[key]
        if isinstance(value, int) and not isinstance(value, bool) and kind == float | None:
            value = body[key] = float(value) if abs(value) < 2**53 else math.inf
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise Refusal(400, f"{key} has another type than expected.")
    return body


def _clean(name: str) -> str:
    """A name in one line, without control characters, of at most 64 letters. Pages show none; tables quote it."""
    printable = "".join(letter if not unicodedata.category(letter).startswith("C") else " " for letter in name)
    return " ".join(printable.split())[:64]
