"""Items become tokens: which words, names and phrases of an item count, field by field.

What a column lists or names is a whole token ("Christopher Nolan" is one), so two films do not resemble each other
because their actors share a first name. Only texts and titles are split into words. A number lies in soft buckets.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyarrow as pa

from sdk.base.description import Role
from sdk.base.errors import MissingColumnError
from sdk.base.types import Float64s, Int64s
from sdk.data.titles import without_accents
from sdk.models.content.fields import NUMBERS, ONE, WORDS, numbers

TABLE = "items"
"""What errors call the table of titles."""

SERIES_MARK = "series: "
"""Stands before the title token of a whole series name, which is thereby never mistaken for a word."""

YEAR_STEP = 5
"""Years between two buckets' centres."""

YEAR_REACH = 10
"""A title lies in every bucket whose centre is fewer than this many years away."""

_TITLE_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
_OVERVIEW_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
_POSSESSIVE = re.compile(r"['’]s?$")
_SUBTITLE = re.compile(r":| [-–—] |\(")
_NUMBER = re.compile(r"\d+(?:st|nd|rd|th)?|[ivx]+")
_RAISED = re.compile("[²³½]")
_SERIES_WORDS = frozenset({"part", "chapter", "episode", "vol", "volume", "movie", "film"})


@dataclass(frozen=True, slots=True, eq=False)
class Tokens:
    """The tokens of one field, one row per occurrence.

    Attributes:
        row: (T,) int64, ascending: the title each token belongs to.
        token: (T,) Arrow string array without nulls.
        value: (T,) float64 above 0: how much each occurrence counts.
    """

    row: Int64s
    token: pa.Array
    value: Float64s


def field_tokens(
    items: pa.Table, field: str, role: Role, *, first: int | None = None, lower: bool = False,
    edges: Sequence[float] | None = None,
) -> Tokens:  # fmt: skip
    """Read one field's tokens.

    Args:
        items: only the column of this field is read.
        field: its name.
        role: what it holds.
        first: how many values of a list are read; None reads all.
        lower: whether case counts for nothing, in values that are whole tokens.
        edges: of a number, the centres of its buckets, ascending; None where it is a year.

    Raises:
        MissingColumnError: the table has no such column.
    """
    if field not in items.column_names:
        raise MissingColumnError(TABLE, field, items.column_names)
    column = items[field].combine_chunks()
    if role in NUMBERS:
        return year_tokens(column) if edges is None else number_tokens(numbers(column), edges, role)
    if role in WORDS:
        return _text_tokens(column, overview_words if role == "text" else title_tokens)
    return _tidied(_one_each(column) if role in ONE else _list_tokens(column, first), lower=lower)


def _one_each(column: pa.Array) -> Tokens:
    """Of each item that has a value, that value."""
    known = np.flatnonzero(column.is_valid().to_numpy(zero_copy_only=False))
    return Tokens(known.astype(np.int64), column.drop_null().cast(pa.string()), np.ones(len(known)))


def _list_tokens(column: pa.Array, first: int | None) -> Tokens:
    import pyarrow.compute as pc

    lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False).astype(np.int64)
    row = np.repeat(np.arange(len(column)), lengths)
    token = column.flatten().cast(pa.string())
    if first is not None:
        place = np.arange(len(row)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        keep = place < first
        row, token = row[keep], token.filter(pa.array(keep))
    return Tokens(row, token, np.ones(len(row)))


def _tidied(tokens: Tokens, *, lower: bool) -> Tokens:
    import pyarrow.compute as pc

    token = pc.fill_null(pc.utf8_trim_whitespace(pc.utf8_normalize(tokens.token, form="NFC")), "")
    token = pc.utf8_lower(token) if lower else token
    keep = pc.not_equal(token, "")
    mask = keep.to_numpy(zero_copy_only=False)
    return Tokens(tokens.row[mask], token.filter(keep), tokens.value[mask])


def _text_tokens(column: pa.Array, split: Callable[[str], Iterable[str]]) -> Tokens:
    words = [list(split(text or "")) for text in column.to_pylist()]
    row = np.repeat(np.arange(len(words)), [len(w) for w in words]).astype(np.int64)
    flat = pa.array([word for some in words for word in some], pa.string())
    return Tokens(row, flat, np.ones(len(row)))


def year_tokens(column: pa.Array) -> Tokens:
    """Soft buckets: a year lies in each bucket of 5 years nearby, the more the nearer its centre.

    So 1999 and 2001 are close although their decades differ, and 20 years apart share nothing.
    """
    years = numbers(column)
    known = np.flatnonzero(~np.isnan(years))
    row, centre, value = _soft(known, years[known].astype(np.int64), YEAR_STEP)
    return Tokens(row, pa.array(centre.astype(str).tolist(), pa.string()), value)


def number_tokens(values: Float64s, edges: Sequence[float], role: Role) -> Tokens:
    """Soft buckets like those of years, over numbers that part the known ones into equal shares.

    So two prices are close where few prices lie between them, whatever their scale. Of a column with one value: none.

    Args:
        values: (N,) float64, NaN where missing.
        edges: the buckets' centres, ascending.
        role: ``time`` names a bucket by its date.
    """
    known = np.flatnonzero(~np.isnan(values)) if len(edges) > 1 else np.zeros(0, np.int64)
    place = np.interp(values[known], edges, np.arange(len(edges))) if len(known) else np.zeros(0)
    row, centre, value = _soft(known, place, 1)
    inside = (centre >= 0) & (centre < len(edges))
    names = np.array([_edge_name(edge, role) for edge in edges], dtype=object)
    return Tokens(row[inside], pa.array(names[centre[inside]].tolist(), pa.string()), value[inside])


def _soft(row: Int64s, place: Int64s | Float64s, step: int) -> tuple[Int64s, Int64s, Float64s]:
    """Of places on a line, the centres (multiples of ``step``) fewer than two steps away: rows, centres, nearness."""
    reach = YEAR_REACH // YEAR_STEP
    centre = (np.floor_divide(place, step).astype(np.int64)[:, None] + np.arange(1 - reach, reach + 1)) * step
    value = 1 - np.abs(place[:, None] - centre) / (reach * step)
    keep = value > 0
    return np.broadcast_to(row[:, None], keep.shape)[keep], centre[keep], value[keep]


def _edge_name(edge: float, role: Role) -> str:
    if role != "time":
        return f"{edge:.12g}"
    try:
        return (datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=edge)).date().isoformat()
    except OverflowError:  # before year 1, after 9999
        return f"{edge:.12g}"


@lru_cache(maxsize=1)
def stop_words() -> frozenset[str]:
    """The English stop words of scikit-learn."""
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    return frozenset(ENGLISH_STOP_WORDS)


def fold(text: str) -> str:
    """Lower case without accents, raised digits apart: ``AMÉLIE`` becomes ``amelie``, ``Alien³`` ``alien 3``."""
    return without_accents(_RAISED.sub(r" \g<0>", text.casefold()))


def overview_words(text: str) -> list[str]:
    """An overview's words in order, folded, without stop words, numbers, single letters and possessive endings."""
    words = (_POSSESSIVE.sub("", word) for word in _OVERVIEW_WORD.findall(fold(text)))
    return [word for word in words if len(word) > 1 and word not in stop_words()]


def title_words(title: str) -> list[str]:
    """A title's telling words in order: no stop words, numbers (``2``, ``II``) or counting words (``Part``)."""
    words = [_POSSESSIVE.sub("", word) for word in _TITLE_WORD.findall(fold(title))]
    dull = stop_words() | _SERIES_WORDS
    return [word for word in words if word not in dull and not _NUMBER.fullmatch(word)]


def series_name(title: str) -> str:
    """The part of a title that a series keeps: ``Toy Story 2`` and ``Toy Story: The Return`` give ``toy story``.

    A title that is all numbers and stop words (``1984``, ``It``) is its own series.
    """
    stem = next((part for part in _SUBTITLE.split(title) if part.strip()), "")
    words = title_words(stem) or _TITLE_WORD.findall(fold(stem))
    return " ".join(words)


def title_tokens(title: str) -> list[str]:
    """The telling words of a title and, marked, its series name."""
    series = series_name(title)
    return [*title_words(title), SERIES_MARK + series] if series else title_words(title)


def as_vocabulary(tokens: Tokens, least: int) -> list[str]:
    """The distinct tokens of at least ``least`` titles, in code point order."""
    import pyarrow.compute as pc

    distinct = pc.dictionary_encode(tokens.token)
    names = distinct.dictionary.to_pylist()
    pairs = np.unique(tokens.row * max(len(names), 1) + distinct.indices.to_numpy(zero_copy_only=False))
    counts = np.bincount(pairs % max(len(names), 1), minlength=len(names))
    return sorted(name for name, count in zip(names, counts, strict=True) if count >= least)
