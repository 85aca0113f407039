"""``dataset.toml``: where a data set's tables lie, which column is what, how much events weigh, what columns mean."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sdk.base.config import from_json
from sdk.base.errors import MarqueeError, MissingFileError, UsageError
from sdk.base.paths import as_path
from sdk.base.rights import reason

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_ELSEWHERE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")  # a URL or a query


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """Paths, from the description's own folder on, URLs or queries; each list holds parts of one table."""

    interactions: tuple[str, ...]
    items: tuple[str, ...] = ()
    users: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetFile:
    """What a ``dataset.toml`` says.

    Attributes:
        files: where the tables lie.
        name: what the data set is called; "" calls it as its interactions' file is called.
        item: what one of the items is called, ``product``; "" calls it ``item``.
        feedback: ``explicit``, ``implicit``, or "" for what the columns say.
        scale: the least and the greatest rating that there may be; () for any.
        seen: events that take an item out of the user's lists; none: all do.
        columns: our name of a column -> the tables' own.
        events: event -> weight; none: each counts 1.
        items: column of the items -> its role.
        users: column of the users -> its role.
    """

    files: Files
    name: str = ""
    item: str = ""
    feedback: str = ""
    scale: tuple[float, ...] = ()
    seen: tuple[str, ...] = ()
    columns: Mapping[str, str] = field(default_factory=dict)
    events: Mapping[str, float] = field(default_factory=dict)
    items: Mapping[str, str] = field(default_factory=dict)
    users: Mapping[str, str] = field(default_factory=dict)

    def arguments(self, folder: Path) -> dict[str, Any]:
        """The arguments of ``sdk.dataset``, with paths from a folder on."""
        files = {name: [_from(folder, one) for one in getattr(self.files, name)] for name in ("items", "users")}
        return {
            "interactions": [_from(folder, one) for one in self.files.interactions],
            **{name: paths or None for name, paths in files.items()},
            "columns": self.columns, "events": self.events or None, "seen": self.seen, "name": self.name or None,
            "item": self.item, "item_roles": self.items, "user_roles": self.users, "feedback": self.feedback or None,
            "scale": self.scale or None,
        }  # fmt: skip


def _from(folder: Path, place: str) -> str:
    return place if _ELSEWHERE.match(place) else str(folder / as_path(place))


def read_dataset_file(path: str | Path) -> DatasetFile:
    """Read a ``dataset.toml``.

    Raises:
        MissingFileError: it is not there.
        UsageError: it is no TOML, or says something that is not known.
    """
    path = as_path(path)
    try:
        values = tomllib.loads(path.read_text("utf-8"))
        return from_json(DatasetFile, values)
    except FileNotFoundError as error:
        raise MissingFileError(path, "description of a data set") from error
    except (OSError, ValueError, TypeError, MarqueeError) as error:
        remedy = "Mend it, or let python -m sdk inspect FILES --out dataset.toml write one anew."
        raise UsageError(f"{path}: no description of a data set ({reason(error)}). {remedy}") from error


def as_toml(said: DatasetFile, why: Mapping[str, str], head: Sequence[str] = ()) -> str:
    """A description as TOML.

    Args:
        said: the description.
        why: section and key, such as ``items.brand`` -> a comment behind it.
        head: lines of comment at the top.
    """
    lines = [f"# {line}".rstrip() for line in head]
    for name in ("name", "item", "feedback", "scale", "seen"):
        value = getattr(said, name)
        if value or name == "seen":
            lines.append(_line(name, list(value) if isinstance(value, tuple) else value, why.get(name)))
    for section in ("files", "columns", "events", "items", "users"):
        values: Mapping[str, Any] = getattr(said, section)
        if isinstance(values, Files):
            values = {name: list(getattr(values, name)) for name in ("interactions", "items", "users")}
            values = {name: places for name, places in values.items() if places}
        if values:
            comment = f"  # {why[section]}" if section in why else ""
            lines += ["", f"[{section}]{comment}"]
            lines += [_line(name, value, why.get(f"{section}.{name}")) for name, value in values.items()]
    return "\n".join(lines) + "\n"


def _line(name: str, value: Any, comment: str | None) -> str:
    key = name if _BARE.fullmatch(name) else json.dumps(name, ensure_ascii=False)
    text = f"{key} = {json.dumps(value, ensure_ascii=False)}"  # TOML has JSON's text, numbers and lists
    return f"{text}  # {' '.join(comment.split())}" if comment else text
