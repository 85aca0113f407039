"""How files write a time: as a number of some unit since 1970-01-01, or as a date with a time of day. Always UTC."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

import pyarrow as pa

from sdk.data.validation import LATE_TIMESTAMP, MAX_TIMESTAMP, BadRowError, whole_number

BEFORE_1970 = "the timestamp is before the year 1970"
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


def seconds_of(text: str) -> int:
    """Seconds since 1970 of a time in any form.

    Raises:
        BadRowError: it is none from 1970 to the end of 2099.
    """
    seconds = _seconds_of_text(text.strip())
    if seconds is None:
        seconds = _number(text) // (form_of(text.strip()) or SECONDS).per_second
    return _in_range(seconds)


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
