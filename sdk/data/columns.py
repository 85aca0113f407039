"""Columns of anybody's items and users, whatever type they came in, as the type that their role has."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from sdk.base.description import Role
from sdk.base.errors import DataError
from sdk.base.schema import ROLE_TYPES

_STRING = pa.string()
_STRINGS = pa.list_(_STRING)
_WHOLE = re.compile(r"(-?[0-9]+)\.0")
_UNITS = ((1e17, 10**9), (1e14, 10**6), (1e11, 10**3))  # from which size on a number of seconds would be absurd
_KEPT = (pa.int64(), pa.float64(), pa.bool_(), _STRING, _STRINGS)


def plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column of one of few types: string, int64, float64, bool, times, lists of them; others as they are."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        return plain(column.cast(kind.value_type))
    if "string_view" in str(kind) and not pa.types.is_nested(kind):
        return pa.chunked_array([pa.array(column.to_pylist(), _STRING)])  # pyarrow 17 cannot cast it
    if pa.types.is_large_string(kind):
        return column.cast(_STRING)
    if pa.types.is_decimal(kind) or pa.types.is_floating(kind) or kind == pa.uint64():
        return column.cast(pa.float64())
    return column.cast(pa.int64()) if pa.types.is_integer(kind) else column


def is_listed(kind: pa.DataType) -> bool:
    """Whether a column holds several values a row."""
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def as_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """(N,) string, blanks at the ends left off; whole floats without their ``.0``; nothing is null.

    Raises:
        pa.ArrowException: its values have no text, such as structs.
    """
    column = plain(column)
    text = column.cast(_STRING)
    if pa.types.is_floating(column.type):
        text = pc.replace_substring_regex(text, pattern=r"^(-?[0-9]+)\.0$", replacement=r"\1")
        text = pc.if_else(pc.is_in(text, pa.array(["nan", "inf", "-inf"])), pa.scalar(None, _STRING), text)
    text = pc.utf8_trim_whitespace(text)
    return pc.if_else(pc.equal(text, ""), pa.scalar(None, _STRING), text)


def as_numbers(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """(N,) float64; what is no finite number is null."""
    column = plain(column)
    if pa.types.is_boolean(column.type) or pa.types.is_integer(column.type):
        column = column.cast(pa.int64()).cast(pa.float64(), safe=False)
    elif not pa.types.is_floating(column.type):
        read = pd.to_numeric(as_text(column).to_pandas(), errors="coerce")
        column = pa.chunked_array([pa.array(read.astype("float64"), pa.float64(), from_pandas=True)])
    return pc.if_else(pc.is_finite(column), column, pa.scalar(None, pa.float64()))


def as_seconds(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """(N,) int64, seconds since 1970-01-01 UTC of dates, times, ISO text, or numbers of s, ms, us or ns; else null."""
    column = plain(column)
    if pa.types.is_date(column.type) or pa.types.is_timestamp(column.type):
        zone = getattr(column.type, "tz", None)
        return column.cast(pa.timestamp("s", zone), safe=False).cast(pa.int64())
    if pa.types.is_string(column.type):
        numbers = as_numbers(column)
        if numbers.null_count > len(numbers) / 2:
            return _of_texts(as_text(column))
        column = numbers
    values = as_numbers(column).to_numpy()
    known = np.isfinite(values)
    size = float(np.median(np.abs(values[known]))) if known.any() else 0.0
    per_second = next((unit for least, unit in _UNITS if size >= least), 1)
    whole = np.where(known, np.floor(np.where(known, values, 0) / per_second), 0).astype(np.int64)
    return pa.chunked_array([pa.array(whole, pa.int64(), mask=~known)])


def _of_texts(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    when = pd.to_datetime(texts.to_pandas(), errors="coerce", utc=True, format="mixed")
    seconds = pa.array(when).cast(pa.timestamp("s", "UTC"), safe=False)
    return pa.chunked_array([seconds.cast(pa.int64())])


def as_lists(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """(N,) list of strings, none of them empty: of lists, of ``a|b|c``, or of the text of JSON lists."""
    kind = column.type
    if is_listed(kind):
        rows = column.to_pylist()
    else:
        texts = as_text(column)
        unique = {text: parts_of(text) for text in texts.unique().to_pylist() if text is not None}
        rows = [unique.get(text) for text in texts.to_pylist()]
    lists = [[_word(value) for value in row or () if value is not None and _word(value)] for row in rows]
    return pa.chunked_array([pa.array(lists, _STRINGS)])


def parts_of(text: str) -> list[str]:
    """The values that a text lists: JSON's, or those between bars; of films in TMDB's manner, their names."""
    if text[:1] == "[" and text[-1:] == "]":
        try:
            values = json.loads(text)
        except ValueError:
            values = [part.strip(" '\"") for part in text[1:-1].split(",")]  # as Python and NumPy write lists
        return [str(value.get("name", "")) if isinstance(value, dict) else _word(value) for value in values]
    return text.split("|")


def _word(value: object) -> str:
    text = str(value).strip()
    whole = _WHOLE.fullmatch(text) if isinstance(value, float) else None
    return whole[1] if whole else text


def _shown(column: pa.ChunkedArray) -> pa.ChunkedArray:
    column = plain(column)
    return column if column.type in _KEPT else as_text(column)


def _no_nulls(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return as_text(column).fill_null("")


def _distinct(column: pa.ChunkedArray) -> pa.ChunkedArray:
    lists = as_lists(column).to_pylist()
    return pa.chunked_array([pa.array([sorted(set(row)) for row in lists], _STRINGS)])


_READ: dict[Role, Callable[[pa.ChunkedArray], pa.ChunkedArray]] = {
    "categorical": as_text, "group": as_text, "list": _distinct, "terms": as_lists, "continuous": as_numbers,
    "time": as_seconds, "text": _no_nulls, "title": _no_nulls, "image": as_text, "url": as_text, "ignore": _shown,
}  # fmt: skip


def of_role(column: pa.ChunkedArray, role: Role, where: str) -> pa.ChunkedArray:
    """A column as ``schema.ROLE_TYPES`` has it for a role; what cannot be read as it is null, or an empty list or text.

    Args:
        column: of any type.
        role: what it is.
        where: file and column, for the message.

    Raises:
        DataError: it is of a type that has no such values.
    """
    try:
        found = _READ[role](column)
        wanted = ROLE_TYPES[role]
        return found if wanted is None else found.cast(wanted)
    except (pa.ArrowException, TypeError, ValueError) as error:
        got = f"{where} is {column.type}, which has no values of role {role!r} ({error})"
        raise DataError(f"{got}. Give it another role, such as ignore, in dataset.toml.") from error


def unread(before: pa.ChunkedArray, after: pa.ChunkedArray) -> int:
    """How many values were there, and are none after ``of_role``."""
    if not pa.types.is_string(before.type) or is_listed(after.type):
        return max(0, after.null_count - before.null_count)
    return max(0, after.null_count - as_text(before).null_count)
