"""The engines that fit and apply the encodings of ratings, users and titles: one interface, two modules behind it."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import pandas as pd

from sdk.base.config import EngineName, FeatureConfig, RunConfig
from sdk.base.errors import UsageError, how_to_get
from sdk.base.types import Float64s, Int64s, Interactions

WORKFLOWS = ("interactions", "codes", "users", "items")
"""What an engine fits: ids to rows and stars to labels, ids to embedding codes, and the attributes of both sides."""
_NEEDED = ("nvtabular", "merlin")


class FeatureEngine(Protocol):
    """What ``sdk.features.workflows`` (NVTabular) and ``sdk.features.builtin`` (Arrow and NumPy) both have.

    A fitted workflow is the engine's own; it has ``save(folder)``. See ``workflows`` for what each function does.
    """

    def fit_interactions(self, user_ids: Int64s, item_ids: Int64s, config: FeatureConfig, work: Path) -> Any:
        """Fit (user_id, item_id, rating) to (row, row, label)."""

    def fit_codes(self, train: Interactions, config: FeatureConfig, work: Path) -> Any:
        """Fit ids to embedding codes."""

    def fit_attributes(
        self, table: pd.DataFrame, categorical: Sequence[str], numeric: Sequence[str], work: Path
    ) -> Any:
        """Fit one side's categories to codes, and its numbers to normalised ones."""

    def transform(self, workflow: Any, table: pd.DataFrame) -> pd.DataFrame:
        """A fitted workflow's output for a table that has its input columns."""

    def normalisation(self, workflow: Any, names: Sequence[str]) -> tuple[Float64s, Float64s]:
        """(F,) means and (F,) standard deviations of the named numbers."""

    def cardinalities(self, workflow: Any, names: Sequence[str]) -> Mapping[str, int]:
        """Number of codes of each named column, the three reserved ones included."""


def engine_of(asked: EngineName) -> FeatureEngine:
    """The engine that was asked for.

    Raises:
        UsageError: NVTabular is asked for and not installed.
    """
    if resolved(asked) == "builtin":
        from sdk.features import builtin

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
