"""Compiling inner loops with Numba: once per machine where the machine code can be kept, else once per process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import njit

F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F) -> F:
    """Compile on first call, without the interpreter lock; keep the machine code on disk where a folder allows it."""
    return _compile(function, fastmath=False)


def compiled_loosely(function: F) -> F:
    """``compiled``, but sums may run in any order, so that they fill vector registers: for training, not for scores."""
    return _compile(function, fastmath={"reassoc", "contract", "nsz"})


def _compile(function: F, *, fastmath: bool | set[str]) -> F:
    try:
        return cast(F, njit(nogil=True, cache=True, fastmath=fastmath)(function))
    except RuntimeError:  # no folder to write to: numba refuses to cache, so compile for this process alone
        return cast(F, njit(nogil=True, fastmath=fastmath)(function))
