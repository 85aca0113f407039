"""A night's manifest in words and figures for its page; what an older or newer manifest lacks is left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_COUNTS = {
    "user_rows": "Rows in users' lists", "item_rows": "Rows in titles' lists",
    "fallback_users": "Users served by popularity", "fallback_items": "Titles served by popularity",
}  # fmt: skip
_ORDER = ("failed", "skipped", "passed", "not compared")
_SIDES = {"user_items": "users' lists", "item_items": "titles' lists"}


@dataclass(frozen=True, slots=True)
class Gate:
    """One check that a night was held to.

    Attributes:
        name: such as ``users.complete``.
        got: the figure in words.
        bound: such as ``at most 0.5``.
        state: ``passed``, ``failed``, ``skipped``, or ``not compared`` where there was nothing to compare with.
        meaning: the note on it, or what a failure may mean.
    """

    name: str
    got: str
    bound: str
    state: str
    meaning: str


def figures(manifest: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Labels and values: model, data, counts, and what the lists look like."""
    inputs, checks = _part(manifest, "inputs"), _part(manifest, "checks")
    data, bundle = _part(inputs, "data"), _part(checks, "bundle")
    found = [
        ("Model", inputs.get("model")), ("Titles per list", inputs.get("k")), ("Data set", data.get("name")),
        ("Users", data.get("num_users")), ("Titles", data.get("num_items")), ("Ratings", data.get("num_ratings")),
        ("Validation AUC", bundle.get("validation_auc")),
        *((label, _part(manifest, "counts").get(name)) for name, label in _COUNTS.items()),
        *_shape(checks),
        ("Compared with the night of", checks.get("previous")),
    ]  # fmt: skip
    return [(label, _text(value)) for label, value in found if isinstance(value, (str, int, float))]


def gates(manifest: Mapping[str, Any]) -> list[Gate]:
    """The checks: those that failed or were skipped first, those with nothing to compare with last."""
    listed = _part(manifest, "checks").get("gates")
    rows = [_gate(one) for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
    return sorted(rows, key=lambda gate: _ORDER.index(gate.state))


def _shape(checks: Mapping[str, Any]) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for side, label in _SIDES.items():
        part = _part(checks, side)
        found.append((f"Share of the catalogue in {label}", _percent(part.get("coverage"))))
        found.append((f"Gini index of {label}", part.get("gini")))
    return found


def _gate(one: Mapping[str, Any]) -> Gate:
    passed = "passed" if one.get("passed") else "skipped" if one.get("skipped") else "failed"
    state = passed if one.get("got") is not None else "not compared"
    bound = f"{'at most' if one.get('at_most') else 'at least'} {_text(one.get('threshold'))}"
    return Gate(
        str(one.get("name", "")), _text(one.get("got")), bound, state, str(one.get("note") or one.get("meaning", ""))
    )


def _part(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = values.get(name)
    return found if isinstance(found, dict) else {}


def _percent(value: object) -> str | None:
    return f"{value:.1%}" if isinstance(value, (int, float)) else None


def _text(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.3f}".rstrip("0").rstrip(".")
    return f"{value:,}" if isinstance(value, int) else str(value)
