"""Choosing a peer's settings: a seeded draw from its grid, measured on the validation part."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

log = logging.getLogger(__name__)

Settings = Mapping[str, Any]
Grid = Mapping[str, Sequence[Any]]


@dataclass(frozen=True, slots=True)
class Tuned:
    """What tuning found.

    Attributes:
        settings: the best ones; of equally good ones the first tried.
        value: theirs on the validation part.
        tried: number of settings measured.
    """

    settings: Settings
    value: float
    tried: int


def draw_settings(grid: Grid, budget: int, seed: int) -> list[dict[str, Any]]:
    """At most ``budget`` settings of a grid, all of them where they are no more.

    The first is always the first value of every entry, the field's usual setting; the others are drawn without
    replacement (random search, Bergstra and Bengio 2012, JMLR 13).

    Raises:
        ValueError: the budget is below 1, or an entry of the grid is empty.
    """
    everything = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    if budget < 1 or not everything:
        raise ValueError(
            f"draw_settings: got budget {budget} and {len(everything)} settings; expected at least 1 of each"
        )
    drawn = np.random.default_rng(seed).permutation(len(everything) - 1)[: budget - 1] + 1
    return [everything[0], *(everything[place] for place in sorted(drawn))]


def tune(settings: Sequence[Settings], measure: Callable[[Settings], tuple[float, Settings]], name: str) -> Tuned:
    """Measure every setting and keep the best.

    Args:
        settings: to try, at least one.
        measure: answers a setting's value, the more the better, and the setting with what measuring added to it (a
            number of rounds where training stopped early).
        name: shown in the log.
    """
    found = []
    for setting in settings:
        value, completed = measure(setting)
        log.debug("%s: %s gives %.4f on validation", name, dict(completed), value)
        found.append((value, completed))
    value, completed = max(found, key=lambda pair: pair[0])
    return Tuned(completed, value, len(found))
