"""Compiling inner loops with Numba: once per machine where the machine code can be kept, else once per process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import njit

from sdk.machine.code_cache import KeptCode

_njit: Callable[..., Any] = njit  # its stubs do not know every option
F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F) -> F:
    """Compile on first call, without the interpreter lock; keep the machine code on disk where a folder allows it."""
    return _compile(function, {})


def compiled_within(function: F) -> F:
    """``compiled``, for what is called in a loop of lanes: as part of its caller, so that the loop fills registers."""
    return _compile(function, {"forceinline": True})


def compiled_loosely(function: F) -> F:
    """``compiled``, for training rather than scores: loops fill vector registers.

    Sums may run in any order, and a division by zero is not an error but infinite: looking for one at every element
    would keep the loop scalar.
    """
    return _compile(function, {"fastmath": {"reassoc", "contract", "nsz"}, "error_model": "numpy"})


def _compile(function: F, options: dict[str, Any]) -> F:
    dispatcher = _njit(nogil=True, no_cfunc_wrapper=True, **options)(function)
    if dispatcher is not function:  # NUMBA_DISABLE_JIT hands back the function
        dispatcher._cache = KeptCode(function)
    return cast(F, dispatcher)
