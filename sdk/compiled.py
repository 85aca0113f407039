"""Compiling inner loops with Numba: once per machine where the machine code can be kept, else once per process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import njit

F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F) -> F:
    """Compile on first call, without the interpreter lock; keep the machine code on disk where a folder allows it."""
    return _compile(function, {})


def compiled_loosely(function: F) -> F:
    """``compiled``, for training rather than scores: loops fill vector registers.

    Sums may run in any order, and a division by zero is not an error but infinite: looking for one at every element
    would keep the loop scalar.
    """
    return _compile(function, {"fastmath": {"reassoc", "contract", "nsz"}, "error_model": "numpy"})


def _compile(function: F, options: dict[str, Any]) -> F:
    try:
        return cast(F, njit(nogil=True, cache=True, **options)(function))
    except RuntimeError:  # no folder to write to: numba refuses to cache, so compile for this process alone
        return cast(F, njit(nogil=True, **options)(function))
