"""A column of times as seconds since 1970, whatever writes them: numbers of some unit, text, Arrow's own types."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sdk.base.types import Bools, Int64s
from sdk.data.times import BEFORE_1970, TimeForm, commonest_form, form_of, seconds_of
from sdk.data.validation import LATE_TIMESTAMP, MAX_TIMESTAMP, BadRowError

MISSING = "the timestamp is missing"
NO_TIME = "the timestamp is neither a number of seconds nor a date as 2011-03-14 07:06:40"
EITHER = "the timestamp may be day/month or month/day: write it as 2011-03-14"
_SAMPLE = 1000
_LARGEST = float(np.finfo(np.float32).max)
_DAY = 86_400
_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_SLASHED = re.compile(r"(\d{1,2})([/.-])(\d{1,2})\2(\d{4})(.*)", re.ASCII | re.DOTALL)
_YEAR_FIRST = re.compile(r"(\d{4})([/.])(\d{1,2})\2(\d{1,2})(.*)", re.ASCII | re.DOTALL)
_WITH_FRACTION = re.compile(r"(\d+)\.\d*", re.ASCII)
Seconds = tuple[Int64s, list[tuple[str, Bools]]]
"""(N,) int64 seconds, and what is wrong: a reason and the rows it holds for, (N,) bool."""

_FINE: list[tuple[str, Bools]] = []


class TimeReader:
    """Reads one column, part by part; what its numbers count is taken from its first values."""

    def __init__(self) -> None:
        self._form: TimeForm | None = None
        self._day_first: bool | None = None

    def seconds(self, column: pa.ChunkedArray) -> Seconds:
        """Seconds since 1970-01-01 UTC; times without a zone are UTC.

        Raises:
            TypeError: values of this type are no times.
        """
        kind = column.type
        missing = np.asarray(column.is_null())
        if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
            values, wrong = _of_arrow(column), _FINE
        elif pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
            values, wrong = self._of_numbers(column, missing)
        elif pa.types.is_null(kind):
            values, wrong = np.zeros(len(column), np.int64), _FINE
        else:
            values, wrong = self._of_text(column, missing)
        late = [(BEFORE_1970, values < 0), (LATE_TIMESTAMP, values > MAX_TIMESTAMP)]
        return values, [(MISSING, missing), *wrong, *late]

    def _of_numbers(self, column: pa.ChunkedArray, missing: Bools) -> Seconds:
        if pa.types.is_integer(column.type):
            numbers: NDArray[Any] = column.cast(pa.int64(), safe=False).fill_null(0).to_numpy()
        else:
            numbers = np.floor(column.cast(pa.float64()).fill_null(0).to_numpy())
            missing |= np.isnan(numbers)
        form = self._known(lambda: [f"{int(one)}" for one in numbers[~missing][:_SAMPLE] if np.isfinite(one)])
        with np.errstate(invalid="ignore"):
            other = ~((numbers >= form.least) & (numbers < 2.0**63)) & ~missing & ~(numbers < 0)
            whole = np.where(other | (numbers < -(2.0**62)), 0, numbers).astype(np.int64)
        return whole // form.per_second, [(form.not_this, other)]

    def _known(self, sample: Any) -> TimeForm:
        if self._form is None:
            self._form = commonest_form(sample())
        return self._form

    def _of_text(self, column: pa.ChunkedArray, missing: Bools) -> Seconds:
        texts = column.cast(pa.string())
        form = self._known(lambda: texts.drop_null().slice(0, _SAMPLE).to_pylist())
        try:
            if not form.text:
                return self._of_numbers(texts.cast(pa.int64()), missing)
            return texts.cast(form.arrow).cast(pa.int64()).fill_null(0).to_numpy() // form.per_second, []
        except pa.ArrowInvalid:
            return self._one_by_one(texts, form)

    def _one_by_one(self, texts: pa.ChunkedArray, form: TimeForm) -> Seconds:
        """Each distinct text by itself."""
        coded = texts.combine_chunks().dictionary_encode()
        distinct = [text.strip() for text in coded.dictionary.to_pylist()]
        self._learn_order(distinct)
        reasons: dict[str, int] = {}
        values, why = np.zeros(len(distinct) + 1, np.int64), np.zeros(len(distinct) + 1, np.int32)
        for at, text in enumerate(distinct):
            try:
                values[at] = self._one(text, form)
            except BadRowError as bad:
                why[at] = reasons.setdefault(str(bad), len(reasons) + 1)
        places = coded.indices.fill_null(len(distinct)).to_numpy()
        return values[places], [(reason, why[places] == code) for reason, code in reasons.items()]

    def _learn_order(self, texts: list[str]) -> None:
        """Whether 3/4/2011 is in April, by those that can be one of the two only."""
        if self._day_first is None:
            pairs = [(int(one[1]), int(one[3])) for text in texts if (one := _SLASHED.fullmatch(text))]
            first, second = (max((pair[at] for pair in pairs), default=0) for at in (0, 1))
            if max(first, second) > 12:
                self._day_first = first > 12

    def _one(self, text: str, form: TimeForm) -> int:
        if whole := _WITH_FRACTION.fullmatch(text):
            text = whole[1]
        if (found := form_of(text)) is not None and not found.text and found != form and not form.text:
            raise BadRowError(form.not_this)
        if match := _YEAR_FIRST.fullmatch(text):
            text = f"{match[1]}-{int(match[3]):02}-{int(match[4]):02}{match[5]}"
        elif match := _SLASHED.fullmatch(text):
            if self._day_first is None:
                raise BadRowError(EITHER)
            day, month = (match[1], match[3]) if self._day_first else (match[3], match[1])
            text = f"{match[4]}-{int(month):02}-{int(day):02}{match[5]}"
        try:
            return seconds_of(text)
        except BadRowError as bad:
            raise BadRowError(NO_TIME if "whole number" in str(bad) else str(bad)) from None


def _of_arrow(column: pa.ChunkedArray) -> Int64s:
    kind = column.type
    if pa.types.is_date(kind):
        return column.cast(pa.date32()).cast(pa.int32()).fill_null(0).to_numpy().astype(np.int64) * _DAY
    return column.cast(pa.int64()).fill_null(0).to_numpy() // _PER_SECOND[kind.unit]


def numbers_of(column: pa.ChunkedArray, what: str) -> tuple[NDArray[np.float64], list[tuple[str, Bools]]]:
    """A column of ratings or weights as numbers, and what is wrong with it, as ``Seconds`` has it.

    Raises:
        TypeError: values of this type are no numbers.
    """
    missing = np.asarray(column.is_null())
    if pa.types.is_string(column.type) or pa.types.is_dictionary(column.type):
        column, strange = _numbers_in_text(column.cast(pa.string()))
    elif pa.types.is_temporal(column.type) or pa.types.is_nested(column.type):
        raise TypeError
    else:
        column, strange = column.cast(pa.float64()), np.zeros(len(column), np.bool_)
    values = column.fill_null(0.0).to_numpy()
    nothing = missing | np.isnan(values)
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
