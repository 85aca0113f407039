"""Column names and Arrow schemas, once. MovieLens and TMDB spellings stop at the loaders."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import pyarrow as pa

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
TITLE = pa.field("title", _STRING, nullable=False)
"""The display name of a list's item, where it is asked for."""
