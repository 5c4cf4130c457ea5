"""Loops that NumPy cannot express, compiled by numba."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba

__all__ = ["compiled"]


def compiled(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Decorate a function as `numba.njit(**options)` does, and keep its machine code beside the source or in the user's cache.

    Where neither can be written (another's installation, a container without a home), every process compiles it anew, which
    takes seconds. NUMBA_CACHE_DIR names another folder.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        try:
            return numba.njit(cache=True, **options)(function)
        except RuntimeError:  # "no locator available"
            return numba.njit(**options)(function)

    return decorate
