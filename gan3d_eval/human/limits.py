"""How many requests one may make: a bucket of tokens for each rater, and one for each address of who is no rater yet."""

from __future__ import annotations

import threading
import time

__all__ = ["RateLimit"]


class RateLimit:
    """At most `burst` requests at once, and `rate` a second in the long run, of each key."""

    def __init__(self, burst: int, rate: float, keys: int = 10_000) -> None:
        self.burst, self.rate, self.keys = burst, rate, keys
        self.buckets: dict[str, tuple[float, float]] = {}
        self.guard = threading.Lock()

    def wait(self, key: str) -> float:
        """Take a token; seconds until there is one, 0.0 if there was."""
        now = time.monotonic()
        with self.guard:
            left, then = self.buckets.pop(key, (float(self.burst), now))
            left = min(self.burst, left + (now - then) * self.rate)
            self.buckets[key] = (left - 1 if left >= 1 else left, now)
            if len(self.buckets) > self.keys:  # a flood of addresses makes it forget who asked longest ago
                del self.buckets[next(iter(self.buckets))]
        return 0.0 if left >= 1 else (1 - left) / self.rate
