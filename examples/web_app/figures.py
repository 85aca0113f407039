"""A night's manifest in words and figures for its page; what an older or newer manifest lacks is left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from batch.gates.figures import Figures, GateResult
from batch.page.sparkline import sparkline

_COUNTS = {
    "user_rows": "Rows in users' lists", "item_rows": "Rows in {}s' lists",
    "fallback_users": "Users served by popularity", "fallback_items": "{}s served by popularity",
}  # fmt: skip
_ABSENT = {"name": "", "passed": False, "got": None, "threshold": None, "at_most": False, "meaning": ""}
_ORDER = ("failed", "skipped", "passed", "not compared")


@dataclass(frozen=True, slots=True)
class Gate:
    """One check that a night was held to.

    Attributes:
        name: such as ``users: complete``.
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


@dataclass(frozen=True, slots=True)
class NightLine:
    """A night as a line of a table.

    Attributes:
        date: of the night.
        status: ``in use``, ``published`` or ``refused``.
        shown: a figure in words for each of ``TREND``; "–" where there is none.
    """

    date: str
    status: str
    shown: tuple[str, ...]


TREND = ("Overlap", "Catalogue shown", "Popular lists", "Validation AUC")
"""What the table of nights has a column for."""


def night_line(date: str, status: str, found: Sequence[float | None]) -> NightLine:
    """A night's line; the last figure is no share."""
    *shares, auc = found or [None] * len(TREND)
    return NightLine(date, status, (*(_percent(share) or "–" for share in shares), _text(auc)))


def trend_of(manifest: Mapping[str, Any]) -> tuple[float | None, ...]:
    """The figures of ``TREND``: overlap, coverage and share of popular lists of the users' lists, and the AUC."""
    found = _read(manifest)
    auc = None if found.bundle is None else found.bundle.validation_auc
    return found.users.overlap, found.users.coverage, found.users.fallback, auc


def trends(nights: Sequence[Sequence[float | None]]) -> list[tuple[str, Markup]]:
    """Each figure over nights, the oldest first, as a sparkline; those of fewer than two nights are left out."""
    drawn = [(name, sparkline([night[at] for night in nights], name)) for at, name in enumerate(TREND)]
    return [(name, Markup(line)) for name, line in drawn if line]


def rule_words(manifest: Mapping[str, Any]) -> list[str]:
    """The night's rules and draws, each in a few words; none where it has none."""
    inputs = _part(manifest, "inputs")
    rules, explore = _part(inputs, "rules"), _part(inputs, "explore")
    least = _part(rules, "at_least")
    said = [
        f"at most {count} that share {column.replace('_', ' ')}" for column, count in _part(rules, "at_most").items()
    ]
    said += [f"at least {least['count']} new or pinned ones"] if least.get("count") else []
    said += ["more variety than by score alone"] if rules.get("diversity") else []
    dial = rules.get("popularity") or 0
    said += [f"what is popular counts {'more' if dial > 0 else 'less'}"] if dial else []
    share = explore.get("share")
    return said + ([f"{_percent(share)} of the users get a draw"] if share else [])


def figures(manifest: Mapping[str, Any], item: str = "title") -> list[tuple[str, str]]:
    """Labels and values: model, data, counts, and what the lists look like; ``item`` is what is listed."""
    inputs, found_out = _part(manifest, "inputs"), _read(manifest)
    data, bundle = _part(inputs, "data"), found_out.bundle
    pairs = "Ratings" if item == "title" else "Interactions"
    found = [
        ("Ranker", inputs.get("model")), ("{}s per list", inputs.get("k")), ("Data set", data.get("name")),
        ("Users", data.get("num_users")), ("{}s", data.get("num_items")), (pairs, data.get("num_ratings")),
        ("Validation AUC", None if bundle is None else bundle.validation_auc),
        *((label, _part(manifest, "counts").get(name)) for name, label in _COUNTS.items()),
        *_shape(found_out),
        ("Compared with the night of", found_out.previous),
    ]  # fmt: skip
    shown = [(label, value) for label, value in found if isinstance(value, (str, int, float))]
    return [(_named(label, item), _text(value)) for label, value in shown]


def gates(manifest: Mapping[str, Any]) -> list[Gate]:
    """The checks: those that failed or were skipped first, those with nothing to compare with last."""
    rows = [_gate(one) for one in _read(manifest).gates]
    return sorted(rows, key=lambda gate: _ORDER.index(gate.state))


def _read(manifest: Mapping[str, Any]) -> Figures:
    """What the audit found; a gate's line that lacks something is shown without it."""
    checks = _part(manifest, "checks")
    listed = checks.get("gates")
    lines = [_ABSENT | one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
    return Figures.read({**manifest, "checks": {**checks, "gates": lines}})


def _shape(found: Figures) -> list[tuple[str, Any]]:
    lines: list[tuple[str, Any]] = []
    for side, label in ((found.users, "users' lists"), (found.titles, "{}s' lists")):
        lines += [
            (f"Share of the catalogue in {label}", _percent(side.coverage)),
            (f"Gini index of {label}", side.gini),
        ]
    return lines


def _named(label: str, item: str) -> str:
    return label.format(item.capitalize() if label.startswith("{}") else item)


def _gate(one: GateResult) -> Gate:
    bound = f"{'at most' if one.at_most else 'at least'} {_text(one.threshold)}"
    return Gate(
        str(one.name).replace(".", ": ").replace("_", " "),
        _text(one.got),
        bound,
        one.verdict,
        str(one.note or one.meaning),
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
