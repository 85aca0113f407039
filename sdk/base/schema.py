"""Column names and Arrow schemas, once. MovieLens and TMDB spellings stop at the loaders."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import pyarrow as pa

from sdk.base.description import Description

_INT64, _INT32, _FLOAT32, _STRING = pa.int64(), pa.int32(), pa.float32(), pa.string()
_STRINGS = pa.list_(_STRING)


def _schema(columns: Mapping[str, pa.DataType], may_be_null: Collection[str] = ()) -> pa.Schema:
    return pa.schema([pa.field(name, kind, nullable=name in may_be_null) for name, kind in columns.items()])


RATINGS = _schema({"user_id": _INT64, "item_id": _INT64, "rating": _FLOAT32, "timestamp": _INT64})

ITEMS = _schema(
    {
        "item_id": _INT64,
        "title": _STRING,  # display name, without the year
        "year": _INT32,  # null where the title carries none
        "genres": _STRINGS,  # sorted, empty where none are listed
        "tags": _STRINGS,  # users' tags, lower case, repeated as often as given
        "tmdb_id": _INT64,  # null where links.csv has none
        "overview": _STRING,  # "" where unknown
        "keywords": _STRINGS,
        "cast": _STRINGS,  # billing order
        "directors": _STRINGS,
        "crew": _STRINGS,  # writers, composers, cinematographers …; no directors
        "companies": _STRINGS,
    },
    may_be_null=("year", "tmdb_id"),
)

USERS = _schema(
    {"user_id": _INT64, "gender": _STRING, "age": _INT32, "occupation": _STRING, "zip_prefix": _STRING},
    may_be_null=("gender", "age", "occupation", "zip_prefix"),  # where the data set has none
)
"""``zip_prefix`` is the first three characters."""

REJECTS = _schema({"file": _STRING, "line": _INT64, "reason": _STRING, "text": _STRING})
"""``line`` 1 is the first line of the file, header included; ``text`` is the row, shortened to 200 characters."""


def _lists(query: str, answer: str) -> pa.Schema:
    return _schema({query: _INT64, "rank": _INT32, answer: _INT64, "score": _FLOAT32, "source": _STRING})


USER_ITEMS = _lists("user_id", "item_id")
ITEM_ITEMS = _lists("item_id", "similar_item_id")
ITEM_USERS = _lists("item_id", "user_id")

LISTS = {"user_id": USER_ITEMS, "item_id": ITEM_ITEMS, "row": _lists("row", "item_id")}
"""The lists' schemas by what they answer; ``row`` counts lists that answer no id, from 0."""


def id_type(ids: object) -> pa.DataType:
    """The Arrow type of an array of ids: int64, or string where they are text."""
    return _STRING if getattr(getattr(ids, "dtype", None), "kind", "") == "O" else _INT64


def with_ids(lists: pa.Schema, queries: object, answers: object) -> pa.Schema:
    """One of ``LISTS`` with the types of these ids in its first and third column."""
    for at, ids in ((0, queries), (2, answers)):
        lists = lists.set(at, lists.field(at).with_type(id_type(ids)))
    return lists


ROLE_TYPES: Mapping[str, pa.DataType | None] = {
    "categorical": _STRING, "group": _STRING, "list": _STRINGS, "terms": _STRINGS, "continuous": pa.float64(),
    "time": _INT64, "text": _STRING, "title": _STRING, "image": _STRING, "url": _STRING, "ignore": None,
}  # fmt: skip
"""The type of a column of each role, of items and users that are not MovieLens's; None: whatever it is."""
NEVER_NULL = frozenset({"list", "terms", "text", "title"})
"""Roles whose columns have no nulls: an empty list or "" stands where nothing is known."""


def table_layout(id_name: str, about: Description, found: pa.Schema) -> pa.Schema:
    """The schema that a bundle's table of users or items should have.

    Args:
        id_name: ``user_id`` or ``item_id``.
        about: what the columns mean.
        found: the table's; of it the type of the ids is taken, which may be int64 or string, and of ignored columns.
    """
    films, roles = (USERS, about.users) if id_name == "user_id" else (ITEMS, about.items)
    key = pa.field(id_name, _STRING if found.field(id_name).type == _STRING else _INT64, nullable=False)
    if about.is_preset("users" if id_name == "user_id" else "items"):
        return films.set(0, key)
    fields = [pa.field(n, ROLE_TYPES[r] or found.field(n).type, nullable=r not in NEVER_NULL) for n, r in roles.items()]
    return pa.schema([key, *fields])


PROPENSITY = pa.field("propensity", pa.float64(), nullable=False)
"""Of randomised lists alone: the log-probability of a place, given those above; 0 where nothing was drawn."""
TITLE = pa.field("title", _STRING, nullable=False)
"""The display name of a list's item, where it is asked for."""
