"""A night's figures beside those of the nights before it, and the one sentence that a report begins with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import quantiles
from typing import Any

from batch.gates.figures import Figures
from batch.page.sparkline import sparkline
from sdk.base.printable import number

LEAST_NIGHTS = 7
"""Nights before it from which on a figure can be far from all of them."""
_NAMES = {
    "users": "users", "titles": "titles", "rows": "rows", "fallback": "popular lists",
    "coverage": "catalogue coverage", "gini": "Gini index", "overlap": "overlap with the night before",
    "validation_auc": "validation AUC", "users_per_s": "users per second", "seconds": "seconds",
    "peak_memory_mib": "peak memory, MiB",
}  # fmt: skip
_SHARES = ("fallback", "coverage", "overlap")
_OF_A_RUN = ("users_per_s", "seconds", "peak_memory_mib")


@dataclass(frozen=True, slots=True)
class Compared:
    """One figure of a night.

    Attributes:
        name: for people.
        shown: its value.
        change: against the night before; "" where that is not known.
        line: over the last nights, as SVG; "" for fewer than two.
        is_far: whether it is far from what it was in the nights before.
    """

    name: str
    shown: str
    change: str
    line: str
    is_far: bool


def comparable(figures: Figures) -> dict[str, float]:
    """What the run record keeps of a night's figures, so that nights are compared when their parts are gone."""
    users, titles, bundle = figures.users, figures.titles, figures.bundle
    found = {
        "users": users.queries, "titles": titles.queries, "rows": (users.rows or 0) + (titles.rows or 0) or None,
        "fallback": users.fallback, "coverage": users.coverage, "gini": users.gini, "overlap": users.overlap,
        "validation_auc": None if bundle is None else bundle.validation_auc,
    }  # fmt: skip
    return {name: value for name, value in found.items() if value is not None}


def figures_of(
    figures: Figures, record: Mapping[str, Any], before: Sequence[Mapping[str, Any]], items: str = "titles"
) -> list[Compared]:
    """A night's figures, those that are known.

    Args:
        figures: what its audit found.
        record: its run record; may be empty.
        before: the records of the nights before it, the oldest first.
        items: what is listed, in the plural.
    """
    earlier, names = [_of(one) for one in before], {**_NAMES, "titles": items}
    tonight = {**comparable(figures), **_of_run(record)}
    known = (name for name in names if name in tonight)
    return [_figure(names[name], name, [one.get(name) for one in earlier], tonight[name]) for name in known]


def headline(figures: Figures, shown: Sequence[Compared], *, published: bool, items: str = "titles") -> str:
    """What was published, what changed, and what to look at."""
    users, titles, overlap = figures.users.queries or 0, figures.titles.queries or 0, figures.users.overlap
    done = "Published" if published else "Not published"
    if overlap is None:
        changed = "there is no night before to compare with" if figures.previous is None else "nothing was compared"
    else:
        changed = f"users' top tens overlap by {_share(overlap)} with those of {figures.previous}"
    look = [f"{gate.name} ({gate.verdict})" for gate in figures.gates if gate.verdict in ("failed", "skipped")]
    look += [f"{one.name}, far from what it was" for one in shown if one.is_far]
    asks = f"look at {', '.join(look)}" if look else "nothing asks for a look"
    return f"{done}: lists for {users:,} users and {titles:,} {items}; {changed}; {asks}."


def _figure(said: str, name: str, before: Sequence[float | None], value: float) -> Compared:
    change = "" if not before or before[-1] is None else _change(name, value, before[-1])
    known = [one for one in before if one is not None]
    far = name not in _OF_A_RUN and is_far(value, known)
    return Compared(said, _shown(name, value), change, sparkline([*before, value], said), far)


def is_far(value: float, before: Sequence[float]) -> bool:
    """Whether a value lies beyond the outer fences of those before, three times the quartiles' distance away from them.

    Tukey, Exploratory Data Analysis (1977), section 2C. Never of fewer than seven values.
    """
    if len(before) < LEAST_NIGHTS:
        return False
    low, _, high = quantiles(before, n=4, method="inclusive")
    return low != high and not low - 3 * (high - low) <= value <= high + 3 * (high - low)


def _of(record: Mapping[str, Any]) -> dict[str, float]:
    figures = record.get("figures")
    return {**(_numbers(figures) if isinstance(figures, Mapping) else {}), **_of_run(record)}


def _of_run(record: Mapping[str, Any]) -> dict[str, float]:
    """Rates and seconds; of a run that scored nothing they are left out."""
    stages = record.get("seconds")
    seconds = sum(_numbers(stages).values()) if isinstance(stages, Mapping) else 0.0
    found = {
        "users_per_s": record.get("users_per_s"),
        "seconds": seconds,
        "peak_memory_mib": record.get("peak_memory_mib"),
    }
    return {
        name: round(value) if name != "seconds" else round(value, 1) for name, value in _numbers(found).items() if value
    }


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    return {name: value for name, value in values.items() if type(value) in (int, float)}


def _shown(name: str, value: float) -> str:
    return _share(value) if name in _SHARES else number(value)


def _share(value: float) -> str:
    return f"{100 * value:.1f} %"


def _change(name: str, value: float, before: float) -> str:
    if value == before:
        return "as before"
    if name in _SHARES:
        return f"{100 * (value - before):+.1f} points"
    difference = value - before
    return f"{difference:+,}" if isinstance(difference, int) else f"{difference:+.3g}"
