"""What an item's own page says of it, column by column, where the catalogue is no list of films."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa

from sdk.base.description import Description, Role
from sdk.base.printable import is_hidden

LABELS: tuple[Role, ...] = ("group", "categorical", "list")
"""Roles whose values stand beside an item's name in lists."""
_LONGEST_ADDRESS = 2000
_MOST_TERMS = 20
_MOST_HOSTS = 20  # that every answer's policy names
_HOST = re.compile(r"https?://[a-z0-9.-]+(:[0-9]+)?")


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
    """Every described column of which something is known, but for the name, pictures and what is to be ignored."""
    unsaid = ("title", "image", "ignore")
    columns = ((name, role, row[name]) for name, role in about.items.items() if role not in unsaid)
    found = (Fact(name, _words(role, value), _address(role, value)) for name, role, value in columns)
    return tuple(fact for fact in found if fact.value)


def pictures_of(items: pa.Table, about: Description) -> tuple[list[str], tuple[str, ...]]:
    """Each item's picture, "" for none, and the hosts where they lie: at most 20, those of the most pictures."""
    column = next(iter(about.item_columns("image")), None)
    if column is None:
        return [""] * items.num_rows, ()
    found = [text if isinstance(text, str) and is_safe(text) else "" for text in items[column].to_pylist()]
    hosts = [_host(address) for address in found]
    shown = tuple(host for host, _ in Counter(filter(None, hosts)).most_common(_MOST_HOSTS))
    return [one if host in shown else "" for one, host in zip(found, hosts, strict=True)], shown


def _host(address: str) -> str:
    """``https://cdn.example``; "" of a name that a policy could not hold."""
    parts = urlsplit(address)
    host = f"{parts.scheme}://{parts.netloc.lower()}"
    return host if _HOST.fullmatch(host) else ""


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
    return value if role == "url" and isinstance(value, str) and is_safe(value) else ""


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
