"""What an item's own page says of it, column by column, where the catalogue is no list of films."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from sdk.base.description import Description, Role
from sdk.base.printable import is_hidden

LABELS: tuple[Role, ...] = ("group", "categorical", "list")
"""Roles whose values stand beside an item's name in lists."""
_LONGEST_ADDRESS = 2000
_MOST_TERMS = 20


@dataclass(frozen=True, slots=True)
class Fact:
    """One column of an item: its name, its value in words, and that as an address where it may be opened."""

    name: str
    value: str
    address: str = ""


def labels_of(row: Mapping[str, Any], about: Description) -> tuple[str, ...]:
    """The values that stand beside an item's name: its groups, categories and lists."""
    values = [row[name] for name in about.item_columns(*LABELS)]
    return tuple(one for value in values for one in (value if isinstance(value, list) else [value]) if one)


def facts_of(row: Mapping[str, Any], about: Description) -> tuple[Fact, ...]:
    """Every described column of which something is known, but for the name and for what is to be ignored."""
    columns = ((name, role, row[name]) for name, role in about.items.items() if role not in ("title", "ignore"))
    found = (Fact(name, _words(role, value), _address(role, value)) for name, role, value in columns)
    return tuple(fact for fact in found if fact.value)


def is_safe(address: str) -> bool:
    """Whether an address of a catalogue may be a link: of the web, in full, and without anything hidden in it."""
    try:
        parts = urlsplit(address)
        known = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.username is None
    except ValueError:
        return False
    plain = not any(char.isspace() or is_hidden(char) or char in "\"'<>\\`" for char in address)
    return known and plain and len(address) <= _LONGEST_ADDRESS


def _address(role: Role, value: Any) -> str:
    return value if role in ("image", "url") and isinstance(value, str) and is_safe(value) else ""


def _words(role: Role, value: Any) -> str:
    if value is None:
        return ""
    if role == "time":
        return _day(value)
    if role == "continuous":
        return f"{value:,.10g}"
    return ", ".join(value[:_MOST_TERMS]) if isinstance(value, list) else str(value)


def _day(seconds: int) -> str:
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d}"
    except (OverflowError, OSError, ValueError):
        return ""
