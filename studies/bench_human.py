"""The study's real server under many raters at once: is every answer stored once, and how long does one wait?

Raters are threads of this process, each with its own connection to a server process on loopback, and obey the rate limit.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from gan3d_eval.files import Gan3dError
from gan3d_eval.human.responses import read_answers
from gan3d_eval.human.study import CHECKS

__all__ = ["RaterClient", "bench_human", "study_server"]

ROOT = Path(__file__).parents[1]


class RaterClient:
    """A rater without a browser: cookie, forgery token, one connection."""

    def __init__(self, address: str) -> None:
        self.connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=60)
        self.headers: dict[str, str] = {}
        self.enter(self.ask("/state"))

    def ask(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """Get, or post `body`; waits as long as the rate limit says, and raises at every other refusal."""
        while True:
            data = None if body is None else json.dumps(body)
            kind = {} if body is None else {"Content-Type": "application/json"}
            self.connection.request("GET" if body is None else "POST", path, data, self.headers | kind)
            reply = self.connection.getresponse()
            content = reply.read()
            if cookie := reply.getheader("Set-Cookie"):
                self.headers["Cookie"] = cookie.partition(";")[0]
            if reply.status != 429:
                break
            time.sleep(float(reply.getheader("Retry-After", "1")))
        if reply.status != 200:
            raise RuntimeError(f"{path}: {reply.status} {content[:200]!r}")
        return json.loads(content) if reply.getheader("Content-Type") == "application/json" else content

    def enter(self, state: dict[str, Any]) -> dict[str, Any]:
        """Take the forgery token of a state."""
        self.headers["X-CSRF-Token"] = state["csrf"]
        return state

    def begin(self, name: str = "") -> dict[str, Any]:
        """Consent."""
        return self.enter(self.ask("/begin", {"consent": True, "name": name}))


@contextlib.contextmanager
def study_server(*arguments: object) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Run `human-eval serve` with these arguments on a free port; yields its address and process, or refuses as it does."""
    command = [sys.executable, "-m", "cli", "human-eval", "serve", "--port", "0", *map(str, arguments)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        address = process.stdout.readline().strip() if process.stdout else ""
        if not address:
            *_, last = ["", *process.communicate()[1].splitlines()]
            raise Gan3dError(last.removeprefix("error: ") or "the study's server ended without a word")
        yield address, process
    finally:
        process.terminate()
        process.communicate()


def bench_human(run_dir: Path, raters: int = 50, answers: int = 40, think: float = 0.0) -> Iterator[str]:
    """Let `raters` at once answer `answers` trials each, `think` seconds after a shape came; then count what is stored."""
    with tempfile.TemporaryDirectory() as folder:
        database = Path(folder) / "answers.sqlite"
        with study_server(run_dir.resolve(), "-n", answers - CHECKS, "--out", database) as (address, _):
            waits: dict[str, list[float]] = {"shape": [], "answer": []}
            faults: list[BaseException] = []
            sent: list[dict[int, str]] = [{} for _ in range(raters)]
            threads = [threading.Thread(target=_rate, args=(address, i, think, waits, faults, sent[i])) for i in range(raters)]
            start = time.perf_counter()
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            seconds = time.perf_counter() - start
            if faults:
                raise faults[0]
        trials = read_answers(database)[1].dropna(subset="answer")
    stored = sorted(tuple(zip(part["trial"], part["answer"], strict=True)) for _, part in trials.groupby("rater"))
    same = stored == sorted(tuple(sorted(mine.items())) for mine in sent)
    yield (
        f"{raters} raters × {answers} answers, {think:g} s of thought: {len(trials)} of {raters * answers} stored in "
        f"{seconds:.1f} s"
    )
    yield f"each once and as it was sent: {'yes' if same else 'NO'}"
    for what, times in waits.items():
        p50, p95, most = 1000 * np.quantile(times, [0.5, 0.95, 1.0])
        yield f"{what}: p50 {p50:.0f} ms, p95 {p95:.0f} ms, longest {most:.0f} ms, n = {len(times)}"


def _rate(
    address: str, number: int, think: float, waits: dict[str, list[float]], faults: list[BaseException], sent: dict[int, str]
) -> None:
    """Answer a whole study at random, and note what was acknowledged."""
    coin = np.random.default_rng(number)
    try:
        rater = RaterClient(address)
        state = rater.begin()
        while state["trial"] < state["total"]:
            trial, answer = state["trial"], ("real", "generated")[coin.integers(2)]
            start = time.perf_counter()
            rater.ask(f"/shape/{trial}/0")
            shown = time.perf_counter()
            time.sleep(think)
            asked = time.perf_counter()
            state = rater.ask("/answer", {"trial": trial, "answer": answer, "seconds": asked - shown})
            waits["shape"].append(shown - start)
            waits["answer"].append(time.perf_counter() - asked)
            sent[trial] = answer
    except BaseException as fault:  # noqa: BLE001 - a thread's fault is the caller's
        faults.append(fault)
