"""Column names and Arrow schemas, once. MovieLens and TMDB spellings stop at the loaders."""

from __future__ import annotations

import pyarrow as pa

_STRINGS = pa.list_(pa.string())

RATINGS = pa.schema(
    [
        pa.field("user_id", pa.int64(), nullable=False),
        pa.field("item_id", pa.int64(), nullable=False),
        pa.field("rating", pa.float32(), nullable=False),
        pa.field("timestamp", pa.int64(), nullable=False),
    ]
)

ITEMS = pa.schema(
    [
        pa.field("item_id", pa.int64(), nullable=False),
        pa.field("title", pa.string(), nullable=False),  # display name, without the year
        pa.field("year", pa.int32()),  # null where the title carries none
        pa.field("genres", _STRINGS, nullable=False),  # sorted, empty where none are listed
        pa.field("tags", _STRINGS, nullable=False),  # users' tags, lower case, repeated as often as given
        pa.field("tmdb_id", pa.int64()),  # null where links.csv has none
        pa.field("overview", pa.string(), nullable=False),  # "" where unknown
        pa.field("keywords", _STRINGS, nullable=False),
        pa.field("cast", _STRINGS, nullable=False),  # billing order
        pa.field("directors", _STRINGS, nullable=False),
        pa.field("crew", _STRINGS, nullable=False),  # writers, composers, cinematographers …; no directors
        pa.field("companies", _STRINGS, nullable=False),
    ]
)

USERS = pa.schema(
    [
        pa.field("user_id", pa.int64(), nullable=False),
        pa.field("gender", pa.string()),  # null where the data set has none
        pa.field("age", pa.int32()),
        pa.field("occupation", pa.string()),
        pa.field("zip_prefix", pa.string()),  # first three characters
    ]
)

REJECTS = pa.schema(
    [
        pa.field("file", pa.string(), nullable=False),
        pa.field("line", pa.int64(), nullable=False),  # 1 = first line of the file, header included
        pa.field("reason", pa.string(), nullable=False),
        pa.field("text", pa.string(), nullable=False),  # the offending row, shortened to 200 characters
    ]
)

USER_ITEMS = pa.schema(
    [
        pa.field("user_id", pa.int64(), nullable=False),
        pa.field("rank", pa.int32(), nullable=False),
        pa.field("item_id", pa.int64(), nullable=False),
        pa.field("score", pa.float32(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
    ]
)

ITEM_ITEMS = pa.schema(
    [
        pa.field("item_id", pa.int64(), nullable=False),
        pa.field("rank", pa.int32(), nullable=False),
        pa.field("similar_item_id", pa.int64(), nullable=False),
        pa.field("score", pa.float32(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
    ]
)

ITEM_USERS = pa.schema(
    [
        pa.field("item_id", pa.int64(), nullable=False),
        pa.field("rank", pa.int32(), nullable=False),
        pa.field("user_id", pa.int64(), nullable=False),
        pa.field("score", pa.float32(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
    ]
)
