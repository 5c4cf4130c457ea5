"""What a training does when it is asked to stop: it ends the step and keeps a checkpoint."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["stop_signals"]

SAME_WISH = 1.0  # seconds in which a second signal is the first one's echo: torchrun sends each process one after the user's


@contextlib.contextmanager
def stop_signals(say: Callable[[str], None]) -> Iterator[Callable[[], bool]]:
    """Turn the first SIGINT, SIGTERM or SIGHUP into a question the loop asks; a later SIGINT interrupts at once."""
    since: list[float] = []
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return

    def request(number: int, frame: Any) -> None:
        since.append(time.monotonic())
        if len(since) == 1:
            with contextlib.suppress(OSError):  # nobody listens any more
                say("stopping, after a checkpoint; once more to stop at once")
        elif number == signal.SIGINT and since[-1] - since[0] > SAME_WISH:
            raise KeyboardInterrupt

    asked = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]  # Windows: no SIGHUP
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:  # nohup asked for it
        asked.remove(signal.SIGHUP)
    old = {number: signal.signal(number, request) for number in asked}
    try:
        yield lambda: bool(since)
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
