"""The engines that encode ratings, users and titles: one interface, two modules behind it."""

from __future__ import annotations

import importlib.util
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from sdk.base.config import EngineName, RunConfig
from sdk.base.errors import UsageError, how_to_get
from sdk.features import builtin
from sdk.features.builtin import Encoding, Transform

WORKFLOWS = ("interactions", "codes", "users", "items")
"""What is learnt: ids to rows and stars to labels, ids to embedding codes, and the attributes of both sides."""
_NEEDED = ("nvtabular", "merlin")


class FeatureEngine(Protocol):
    """What ``sdk.features.workflows`` (NVTabular) and ``sdk.features.builtin`` (Arrow and NumPy) both have.

    Both apply what ``builtin`` has learnt, and give the same tables.
    """

    def transformer(self, encoding: Encoding, lists: Collection[str], work: Path) -> Transform:
        """What encodes a table, as ``workflows.transformer`` says."""


def engine_of(asked: EngineName) -> FeatureEngine:
    """The engine that was asked for.

    Raises:
        UsageError: NVTabular is asked for and not installed.
    """
    if resolved(asked) == "builtin":
        return builtin
    from sdk.features import workflows

    return workflows


def resolved(asked: EngineName) -> EngineName:
    """``nvtabular`` or ``builtin``; ``auto`` is NVTabular where it is installed.

    Raises:
        UsageError: NVTabular is asked for and not installed.
    """
    if asked == "nvtabular" and not has_nvtabular():
        message = "features.engine: got 'nvtabular', which is not installed; choose 'builtin' (--features builtin)"
        raise UsageError(f"{message}, or get it: {how_to_get('merlin')}")
    return ("nvtabular" if has_nvtabular() else "builtin") if asked == "auto" else asked


def has_nvtabular() -> bool:
    """Whether NVTabular and the parts of Merlin that it stands on are installed."""
    return all(importlib.util.find_spec(name) is not None for name in _NEEDED)


def with_engine(config: RunConfig) -> RunConfig:
    """The configuration with the engine that it stands for, so that a bundle says which made it.

    Raises:
        UsageError: NVTabular is asked for and not installed.
    """
    return replace(config, features=replace(config.features, engine=resolved(config.features.engine)))
