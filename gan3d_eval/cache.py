"""What was computed once is not computed again: arrays in files that are named by the hash of all that they depend on.

A key holds hashes of the inputs (shapes, weights), the options, and always the sources of this package and the versions of
the libraries, so that no entry can be stale: whatever changes, changes the name. Entries are `.npz` without pickles, written
atomically; one that cannot be read is computed again. The oldest go when the folder grows beyond its limit, and what a killed
process left half-written after a day.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gan3d_eval.files import Gan3dError, atomic_file
from gan3d_eval.npy import read_arrays
from gan3d_eval.provenance import LIBRARIES, software

__all__ = ["NO_CACHE", "Cache"]

Arrays = dict[str, NDArray[Any]]
LIMIT = 2**30
DAY = 24 * 3600


@dataclasses.dataclass(frozen=True)
class Cache:
    """A folder of results, or none: then everything is computed anew."""

    folder: Path | None = None
    limit: int = LIMIT
    """Bytes, above which the entries that were not used for the longest time are deleted."""

    @classmethod
    def default(cls) -> Cache:
        """The user's: `$GAN3D_CACHE`, else `gan3d` below `$XDG_CACHE_HOME` or `~/.cache`."""
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        return cls(Path(os.environ.get("GAN3D_CACHE") or Path(base) / "gan3d"))

    def get(self, what: str, key: Mapping[str, Any], compute: Callable[[], Arrays]) -> Arrays:
        """The arrays of `compute()`, from the folder if they are there under `key` (JSON values)."""
        if self.folder is None:
            return compute()
        text = json.dumps([what, _code(), software(*LIBRARIES), key], sort_keys=True)
        path = self.folder / f"{what}-{hashlib.sha256(text.encode()).hexdigest()[:32]}.npz"
        try:
            found = read_arrays(path)
        except (Gan3dError, OSError):
            return self._store(path, compute())
        with contextlib.suppress(OSError):  # of another user's entry
            os.utime(path)
        return found

    def _store(self, path: Path, arrays: Arrays) -> Arrays:
        """Write an entry and make room; a folder that cannot be written costs time alone."""
        try:
            with atomic_file(path) as temporary, temporary.open("wb") as file:
                np.savez(file, allow_pickle=False, **arrays)
            entries = [(entry.stat().st_mtime, entry.stat().st_size, entry) for entry in path.parent.glob("*.npz")]
            total = sum(size for _, size, _ in entries)
            for _, size, entry in sorted(entries, key=lambda entry: entry[0])[:-1]:
                if total > self.limit:
                    entry.unlink(missing_ok=True)
                    total -= size
            for left in path.parent.glob(".*.tmp"):
                if time.time() - left.stat().st_mtime > DAY:
                    left.unlink(missing_ok=True)
        except OSError:
            pass
        return arrays


NO_CACHE = Cache()


@functools.cache
def _code() -> str:
    """Hash of this package's sources."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()
