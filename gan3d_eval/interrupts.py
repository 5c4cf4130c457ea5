"""What ctrl-C must not break, or be lost in."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator

__all__ = ["ctrl_c_afterwards"]


@contextlib.contextmanager
def ctrl_c_afterwards() -> Iterator[None]:
    """Nothing in here is interrupted: ctrl-C is heard when it ends.

    For libraries that would swallow it, print an error and go on with half of the work, or crash.
    """
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):  # or nobody is to hear it
        yield
        return
    heard: list[int] = []
    signal.signal(signal.SIGINT, lambda number, frame: heard.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if heard:
        before(signal.SIGINT, None)
