"""Times, however they are written: numbers of some unit since 1970-01-01, dates with a time of day, Arrow's own types.

Those without a zone are UTC.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sdk.base.types import Bools, Int64s
from sdk.data.validation import LATE_TIMESTAMP, MAX_TIMESTAMP, BadRowError, whole_number

MISSING = "the timestamp is missing"
NO_TIME = "the timestamp is neither a number of seconds nor a date as 2011-03-14 07:06:40"
EITHER = "the timestamp may be day/month or month/day: write it as 2011-03-14"
BEFORE_1970 = "the timestamp is before the year 1970"
_SAMPLE = 1000
_DAY = 86_400
_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_SLASHED = re.compile(r"(\d{1,2})([/.-])(\d{1,2})\2(\d{4})(.*)", re.ASCII | re.DOTALL)
_YEAR_FIRST = re.compile(r"(\d{4})([/.])(\d{1,2})\2(\d{1,2})(.*)", re.ASCII | re.DOTALL)
_FLOAT = re.compile(r"(\d+)\.\d*|\d+(?:\.\d*)?[eE]\+?\d{1,2}", re.ASCII)
Seconds = tuple[Int64s, list[tuple[str, Bools]]]
"""(N,) int64 seconds, and what is wrong: a reason and the rows it holds for, (N,) bool."""

_FINE: list[tuple[str, Bools]] = []
_LEAST = 10**8  # seconds; what is below it in the smaller units is no time of this century's data
_TEXT = re.compile(
    r"(?P<day>\d{4}-\d\d-\d\d)(?:[ T](?P<time>\d\d:\d\d(?::\d\d)?)(?:[.,]\d+)?)?"
    r"\s*(?P<zone>Z|UTC|[+-]\d\d(?::?\d\d)?)?",
    re.ASCII,
)
_DIGITS = re.compile(r"[0-9]{1,19}", re.ASCII)
_PLAIN_TEXT = (
    rb"(?:19|20)[0-9]{2}-(?:0[1-9]|1[0-2])-(?:0[1-9]|1[0-9]|2[0-8])"  # whether there is a 29th needs a calendar
    rb"[ T](?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,9})?"
)


@dataclass(frozen=True, slots=True)
class TimeForm:
    """How a column writes times.

    Attributes:
        words: what it holds, for messages.
        arrow: the type that Arrow reads it as; its int64 values count ``per_second`` to a second.
        per_second: see there.
        plain: a pattern of what Arrow is sure to read, without quotes.
        text: whether it is a date with a time of day.
    """

    words: str
    arrow: pa.DataType
    per_second: int = 1
    plain: bytes = rb"[0-9]{1,18}"
    text: bool = False

    @property
    def not_this(self) -> str:
        """Why a row of another form is set aside."""
        return f"the timestamp is not in {self.words} as the file's others are"

    @property
    def least(self) -> int:
        """The least number that can be of this unit; a smaller one is of another."""
        return 0 if self.per_second == 1 or self.text else _LEAST * self.per_second

    def plain_text(self, text: str) -> str:
        """An odd but sound field as Arrow reads it.

        Raises:
            BadRowError: it is not of this form.
        """
        if not self.text or not text.strip():
            return str(_number(text))
        seconds = _seconds_of_text(text.strip())
        if seconds is None:
            raise BadRowError(self.not_this)
        when = datetime.fromtimestamp(_in_range(seconds), UTC).strftime("%Y-%m-%d %H:%M:%S")
        return when + "Z" * (self == ZONED)


SECONDS = TimeForm("seconds", pa.int64())
TEXT = TimeForm("dates and times", pa.timestamp("ns"), 10**9, _PLAIN_TEXT, text=True)
ZONED = TimeForm("dates and times with a zone", pa.timestamp("ns", "UTC"), 10**9, _PLAIN_TEXT + rb"Z", text=True)
_NUMBERS = (
    SECONDS,
    TimeForm("milliseconds", pa.int64(), 10**3),
    TimeForm("microseconds", pa.int64(), 10**6),
    TimeForm("nanoseconds", pa.int64(), 10**9, rb"[0-9]{1,18}|[1-8][0-9]{18}"),
)


def commonest_form(fields: Iterable[str]) -> TimeForm:
    """The form of most of a column's first fields; seconds where none is a time."""
    forms = Counter(form for text in fields if (form := form_of(text.strip())) is not None)
    return max(forms, key=lambda form: forms[form]) if forms else SECONDS


def seconds_of(text: str, *, bounded: bool = True) -> int:
    """Seconds since 1970 of a time in any form.

    Raises:
        BadRowError: it is none, or where it must be ``bounded`` none from 1970 to the end of 2099.
    """
    seconds = _seconds_of_text(text.strip())
    if seconds is None:
        seconds = _number(text) // (form_of(text.strip()) or SECONDS).per_second
    return _in_range(seconds) if bounded else seconds


def form_of(text: str) -> TimeForm | None:
    """The form that a text is a time of; None where it is none."""
    if _DIGITS.fullmatch(text):
        number = int(text)
        fitting = (form for form in _NUMBERS if form.least <= number < (MAX_TIMESTAMP + 1) * form.per_second)
        return next(fitting, None)
    if _seconds_of_text(text) is None:
        return None
    match = _TEXT.fullmatch(text)
    return ZONED if match and match["zone"] else TEXT


def _number(text: str) -> int:
    """A number of any unit: nanoseconds have 19 digits."""
    digits = text.strip()
    fits = _DIGITS.fullmatch(digits) and int(digits) < 1 << 63
    return int(digits) if fits else whole_number(text, "timestamp")


def _seconds_of_text(text: str) -> int | None:
    match = _TEXT.fullmatch(text)
    if match is None:
        return None
    zone = match["zone"] or "Z"
    zone = "+00:00" if zone in ("Z", "UTC") else f"{zone[:3]}:{zone[3:].strip(':') or '00'}"
    try:
        return int(datetime.fromisoformat(f"{match['day']} {match['time'] or '00:00'}{zone}").timestamp())
    except ValueError:  # such as the 31st of February
        return None


def _in_range(seconds: int) -> int:
    if seconds < 0:
        raise BadRowError(BEFORE_1970)
    if seconds > MAX_TIMESTAMP:
        raise BadRowError(LATE_TIMESTAMP)
    return seconds


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
        form = self._known(lambda: map(_whole, texts.drop_null().slice(0, _SAMPLE).to_pylist()))
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
        text = _whole(text)
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
            return seconds_of(text, bounded=False)
        except BadRowError as bad:
            raise BadRowError(NO_TIME if "whole number" in str(bad) else str(bad)) from None


def _whole(text: str) -> str:
    """A number without its fraction, as tables of floats are written; another text as it is."""
    found = _FLOAT.fullmatch(text.strip())
    return text if found is None else found[1] or str(int(float(text)))


def _of_arrow(column: pa.ChunkedArray) -> Int64s:
    kind = column.type
    if pa.types.is_date(kind):
        return column.cast(pa.date32()).cast(pa.int32()).fill_null(0).to_numpy().astype(np.int64) * _DAY
    return column.cast(pa.int64()).fill_null(0).to_numpy() // _PER_SECOND[kind.unit]
