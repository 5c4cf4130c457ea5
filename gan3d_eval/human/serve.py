"""Run a study: open its database, listen, say where, and stop cleanly."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import logging
import re
import signal
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from gan3d_eval.human.server import MAX_BODY, create_app
from gan3d_eval.human.store import Store
from gan3d_eval.human.study import Study, StudyError

__all__ = ["is_loopback", "serve"]

THREADS = 8
STOPS = (signal.SIGINT, signal.SIGTERM)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches `host`."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def serve(
    study: Study, path: Path, host: str, port: int, access_key: str | None, say: Callable[[str], None],
    out: Callable[[str], None],
) -> None:  # fmt: skip
    """Serve `study` until SIGINT or SIGTERM, with answers in the database at `path`.

    Parameters
    ----------
    host : str
        Address to listen at; one that is not of this machine alone needs `access_key`, of at least 16 letters, digits, - or _.
    port : int
        0 takes a free one.
    out : callable
        Takes the link for raters, once it works.

    Raises
    ------
    StudyError
        No or a weak key for an open address, a port that is taken, or a database that cannot be used (see `Store`).
    """
    if access_key is not None and not re.fullmatch(r"[\w-]{16,}", access_key, re.ASCII):
        raise StudyError("the --token is no key: expected at least 16 letters, digits, - or _, which nobody guesses")
    if not is_loopback(host) and access_key is None:
        raise StudyError(f"{host} can be reached from other machines: pass --token KEY, which raters must have in their link")
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # a short queue is no news
    with Store(path, study) as store:
        server = _listen(store, host, port, access_key)
        raters, answers = store.counts()
        say(f"answers go to {path}" + (f", which has {answers} of {raters} raters" if raters else ""))
        if host in {"0.0.0.0", "::"}:  # noqa: S104 - only compared
            say("raters take this machine's own name or address in place of the link's")
        name = f"[{host}]" if ":" in host else host
        before = {number: signal.signal(number, _stop) for number in STOPS}
        try:
            with contextlib.suppress(SystemExit):
                out(f"http://{name}:{server.effective_port}/" + (f"#{access_key}" if access_key else ""))
                server.run()  # returns at the first of these signals, with requests in hand answered
        finally:
            server.close()
            for number, handler in before.items():
                signal.signal(number, handler)
        raters, answers = store.counts()
        say(f"stopped: {answers} answers of {raters} raters in {path}")


def _listen(store: Store, host: str, port: int, access_key: str | None) -> Any:
    """A waitress server that listens already."""
    import waitress

    hosts = ["localhost", "127.0.0.1", "[::1]", host] if is_loopback(host) else None
    at = "127.0.0.1" if host == "localhost" else host  # a name may stand for two addresses: two servers with a port each
    try:
        return waitress.create_server(
            create_app(store, access_key, hosts), host=at, port=port, threads=THREADS, ident=None,
            max_request_body_size=MAX_BODY, max_request_header_size=16384, connection_limit=1000, channel_timeout=60,
            asyncore_use_poll=True, clear_untrusted_proxy_headers=True,
        )  # fmt: skip
    except (OSError, ValueError) as fault:
        if getattr(fault, "errno", None) == errno.EADDRINUSE:
            raise StudyError(f"port {port} of {host} is taken; pass another with --port") from None
        raise StudyError(f"cannot listen at {host}, port {port}: {fault}; pass another --host or --port") from None


def _stop(number: int, frame: FrameType | None) -> None:
    for again in STOPS:  # `timeout` and some terminals send it twice
        signal.signal(again, signal.SIG_IGN)
    raise SystemExit(0)
