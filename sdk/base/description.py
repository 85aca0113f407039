"""What a data set's columns mean: its feedback, and the role of each column of its items and its users."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, get_args

from sdk.base.config import Checked, from_json, to_json
from sdk.base.errors import ConfigError

Feedback = Literal["explicit", "implicit"]
Role = Literal[
    "categorical", "list", "terms", "continuous", "time", "text", "title", "group", "image", "url", "ignore"
]  # fmt: skip
FEATURES: tuple[Role, ...] = ("categorical", "group", "list", "continuous", "time")
"""Roles whose columns the rankers take as fields or numbers of their own."""
CONTENT: tuple[Role, ...] = ("categorical", "group", "list", "terms", "text", "title", "continuous", "time")
"""Roles whose columns the content model reads."""
FILMS: Mapping[str, Role] = MappingProxyType(
    {
        "title": "title", "year": "continuous", "genres": "list", "tags": "terms", "tmdb_id": "ignore",
        "overview": "text", "keywords": "terms", "cast": "terms", "directors": "terms", "crew": "terms",
        "companies": "terms",
    }
)  # fmt: skip
"""MovieLens's titles with TMDB's details: ``schema.ITEMS``."""
PEOPLE: Mapping[str, Role] = MappingProxyType(
    {"gender": "categorical", "age": "continuous", "occupation": "categorical", "zip_prefix": "categorical"}
)
"""MovieLens's users: ``schema.USERS``."""
_MAY_LACK = ("item", "columns", "events", "seen")
_WORD = re.compile(r"[^\W\d_][\w -]{0,39}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Description(Checked):
    """What the columns of a data set mean. The default is MovieLens with TMDB.

    Attributes:
        feedback: ``explicit``, ratings on a scale; or ``implicit``: every pair is a like, and its rating a weight.
        items: column of the items, besides ``item_id`` -> its role. ``categorical``: one of few values; ``group``: the
            same, and the name of a series, brand or author; ``list``: several of few values; ``terms``: several of
            many, for the content model alone; ``continuous``; ``time``: seconds since 1970-01-01 UTC; ``text``: words
            for the content model; ``title``: the display name; ``image``, ``url``: shown only; ``ignore``: kept.
        users: column of the users, besides ``user_id`` -> its role.
        item: what one of the items is called, ``product``; "" calls it ``item``.
        columns: ours of the interactions -> the tables' own, where it was said, so that newer ones are read alike.
        events: kind of event -> its weight; empty: every event is one.
        seen: the events that take an item out of its user's lists; empty: all do.

    Raises:
        ConfigError: a role is none, two columns are the title, or ``item`` is no word.
    """

    feedback: Feedback = "explicit"
    items: Mapping[str, Role] = field(default_factory=lambda: FILMS)
    users: Mapping[str, Role] = field(default_factory=lambda: PEOPLE)
    item: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)
    events: Mapping[str, float] = field(default_factory=dict)
    seen: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        Checked.__post_init__(self)
        if self.item and not _WORD.fullmatch(self.item):
            raise ConfigError(
                type(self).__name__, "item", self.item, "a word for one item, as product; 40 letters at most"
            )
        roles = get_args(Role)
        for side in ("items", "users"):
            given = getattr(self, side)
            for name, role in given.items():
                if role not in roles:
                    expected = f"one of {', '.join(roles)}"
                    raise ConfigError(type(self).__name__, f"{side}.{name}", role, expected)
            object.__setattr__(self, side, MappingProxyType(dict(given)))
        if len(titles := [name for name, role in self.items.items() if role == "title"]) > 1:
            raise ConfigError(type(self).__name__, "items", titles, "one column at most whose role is title")

    def __reduce__(self) -> tuple[Any, ...]:
        return (from_json, (Description, to_json(self)))

    def as_json(self) -> dict[str, Any]:
        """Plain values: columns as pairs, since files sort the names of a mapping, and columns have an order."""
        return {
            name: list(map(list, value.items())) if isinstance(value, dict) else value
            for name, value in to_json(self).items()
            if value or name not in _MAY_LACK
        }

    @classmethod
    def of_json(cls, values: Mapping[str, Any]) -> Description:
        """What ``as_json`` gave; sides that are not there are MovieLens's.

        Raises:
            UsageError: a value is none of its kind.
            ValueError: columns are no pairs.
        """
        plain = {name: value if name in ("feedback", "item", "seen") else dict(value) for name, value in values.items()}
        return from_json(cls, plain)

    def is_preset(self, side: Literal["items", "users"]) -> bool:
        """Whether a side has MovieLens's columns: those of ``schema.ITEMS`` or ``schema.USERS``."""
        return self.items == FILMS if side == "items" else self.users == PEOPLE

    def item_columns(self, *roles: Role) -> tuple[str, ...]:
        """The items' columns of these roles, in the order of the table."""
        return tuple(name for name, role in self.items.items() if role in roles)

    def user_columns(self, *roles: Role) -> tuple[str, ...]:
        """The users' columns of these roles, in the order of the table."""
        return tuple(name for name, role in self.users.items() if role in roles)
