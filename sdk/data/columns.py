"""Columns of anybody's items and users, whatever type they came in, as the type that their role has."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sdk.base.description import Role
from sdk.base.errors import DataError
from sdk.base.schema import ROLE_TYPES
from sdk.base.types import Bools
from sdk.data.times import BEFORE_1970, TimeReader
from sdk.data.validation import LATE_TIMESTAMP

_STRING = pa.string()
_STRINGS = pa.list_(_STRING)
SEPARATORS = "|;,"
_WHOLE = re.compile(r"(-?[0-9]+)\.0")
_LARGEST = float(np.finfo(np.float32).max)
_KEPT = (pa.int64(), pa.float64(), pa.bool_(), _STRING, _STRINGS)


def plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column as ``readers`` gives it of one of few types: string, int64, float64, bool, times, lists; others stay."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        return plain(column.cast(kind.value_type))
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
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.int64())
    values, faults = numbers_of(column, "number")
    return _where_sound(pa.float64(), values, [*faults, ("", ~np.isfinite(values))])


def as_seconds(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """(N,) int64, seconds since 1970-01-01 UTC of all that ``times`` reads, whatever the year; else null."""
    values, faults = TimeReader().seconds(plain(column))
    return _where_sound(pa.int64(), values, [one for one in faults if one[0] not in (BEFORE_1970, LATE_TIMESTAMP)])


def _where_sound(kind: pa.DataType, values: NDArray[Any], faults: Sequence[tuple[str, Bools]]) -> pa.ChunkedArray:
    bad = np.logical_or.reduce([rows for _, rows in faults])
    return pa.chunked_array([pa.array(values, kind, mask=bad)])


def numbers_of(column: pa.ChunkedArray, what: str) -> tuple[NDArray[np.float64], list[tuple[str, Bools]]]:
    """A column of ratings or weights as numbers, and what is wrong with it: a reason and the rows it holds for.

    Raises:
        TypeError: values of this type are no numbers.
    """
    if pa.types.is_string(column.type) or pa.types.is_dictionary(column.type):
        column, strange = _numbers_in_text(column.cast(pa.string()))
    elif pa.types.is_temporal(column.type) or pa.types.is_nested(column.type):
        raise TypeError
    else:
        column, strange = column.cast(pa.float64()), np.zeros(len(column), np.bool_)
    values = column.fill_null(0.0).to_numpy()
    nothing = (np.asarray(column.is_null()) & ~strange) | np.isnan(values)
    faults = [
        (f"the {what} is missing", nothing), (f"the {what} is not a number", strange),
        (f"the {what} is too large", np.abs(values) > _LARGEST),
    ]  # fmt: skip
    return values, faults


def _numbers_in_text(texts: pa.ChunkedArray) -> tuple[pa.ChunkedArray, Bools]:
    try:
        return texts.cast(pa.float64()), np.zeros(len(texts), np.bool_)
    except pa.ArrowInvalid:
        trimmed = pc.utf8_trim_whitespace(texts)
        sound = pc.match_substring_regex(trimmed, r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$")
        plain = pc.if_else(sound.fill_null(False), pc.utf8_ltrim(trimmed, "+"), None)
        missing = pc.or_(texts.is_null(), pc.equal(pc.utf8_length(trimmed), 0)).fill_null(True)
        return plain.cast(pa.float64()), ~np.asarray(sound.fill_null(True)) & ~np.asarray(missing)


def as_lists(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """(N,) list of strings, none of them empty: of lists, of ``a|b|c``, or of the text of JSON lists.

    Where no row has a bar, semicolons part the values, and where none has one either, commas.
    """
    kind = column.type
    if is_listed(kind):
        rows = column.to_pylist()
    else:
        texts = as_text(column)
        whole = [text for text in texts.unique().to_pylist() if text is not None]
        separator = separator_of(whole)
        unique = {text: parts_of(text, separator) for text in whole}
        rows = [unique.get(text) for text in texts.to_pylist()]
    lists = [[_word(value) for value in row or () if value is not None and _word(value)] for row in rows]
    return pa.chunked_array([pa.array(lists, _STRINGS)])


def separator_of(texts: Collection[str]) -> str:
    """What parts the values of lists that are written as text: a bar, else a semicolon, else a comma."""
    return next((sign for sign in SEPARATORS if any(sign in text for text in texts if text[:1] != "[")), ",")


def parts_of(text: str, separator: str = "|") -> list[str]:
    """The values that a text lists: JSON's, or those that a sign parts; of films in TMDB's manner, their names."""
    if text[:1] == "[" and text[-1:] == "]":
        try:
            values = json.loads(text)
        except ValueError:
            values = [part.strip(" '\"") for part in text[1:-1].split(",")]  # as Python and NumPy write lists
        return [str(value.get("name", "")) if isinstance(value, dict) else _word(value) for value in values]
    return text.split(separator)


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
