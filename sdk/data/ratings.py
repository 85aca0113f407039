"""Ratings files, read by Arrow in blocks: a fast path for clean blocks, a careful one for blocks with a bad line.

Every line ends up either accepted or set aside; only empty lines at the very end of a file are passed over.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv

from sdk.base import schema
from sdk.base.arrow_memory import reader_of
from sdk.base.config import DataConfig
from sdk.base.errors import UnusableFileError
from sdk.base.progress import Progress
from sdk.base.types import Bools, Int64s, Interactions
from sdk.data import validation
from sdk.data.archive import Source
from sdk.data.rating_lines import COLUMNS, DTYPES, Block, Columns, Layout, Values, blocks, fields_of
from sdk.data.times import BEFORE_1970
from sdk.data.validation import BadRowError, check_share, rejects_table, whole_number

MISSING_RATING = "the rating is missing"
NO_NUMBER = "the rating is not a number"
OFF_STEP = "the rating is not a whole or half star"
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_ENDS = (1, 5, 10, 20, 100)  # of other scales than MovieLens's
_FILLED = 0.7  # of a usual scale: 0, 1 and 2 are on none from 0 to 5
_WHAT = {"user_id": "user id", "item_id": "item id"}


@dataclass(frozen=True, slots=True, eq=False)
class Ratings:
    """What a ratings file held.

    Attributes:
        interactions: the accepted rows, in file order, unique by (user, item).
        rejects: ``schema.REJECTS``, in line order.
        order: (N,) row numbers that sort the accepted rows by user, then item; None where they are sorted.
    """

    interactions: Interactions
    rejects: pa.Table
    order: Int64s | None


def read_ratings(
    source: Source,
    file: str,
    layout: Layout,
    known_items: Int64s | None,
    config: DataConfig,
    *,
    until: int = validation.MAX_TIMESTAMP,
    repeats_are_bad: bool = True,
) -> Ratings:
    """Read and validate a ratings file; memory is about 60 bytes per row at the peak.

    Args:
        source: where the file lies.
        file: its name.
        layout: how it is laid out.
        known_items: (I,) int64, the ids of the titles; None accepts every title.
        config: the scale, and how many rows may be bad.
        until: seconds since 1970-01-01 UTC; later ratings are passed over, as if they had not been made yet.
        repeats_are_bad: whether ratings that a later one of the same pair replaces count among the bad rows, of which
            there may be only so many. In a log of ratings, for which a bundle sets the scale, they are nothing odd.

    Raises:
        TooManyRejectsError: more rows are bad than the configuration allows.
        UnusableFileError: the file holds no row, or is damaged.
    """
    parser = _Parser(layout, known_items, config)
    columns, rejects, total = _read_blocks(source, file, layout, parser)
    if not total:
        raise UnusableFileError(source.where(file), "it holds no rating", "Export it again, with its rows.")
    remedies = parser.remedies(adjustable=repeats_are_bad)
    check_share(source.where(file), rejects, total, config, remedies, adjustable=repeats_are_bad)
    # the compact blocks are given up on the way
    user, item, rating, time = (np.concatenate(columns.pop(name), dtype=dtype) for name, dtype in DTYPES.items())
    interactions = Interactions(user, item, rating, time)
    counted = np.flatnonzero(interactions.timestamp <= until)
    if len(counted) < len(interactions):
        interactions = interactions.take(counted)
    order = validation.sorted_order(interactions.user_id, interactions.item_id)
    loses = validation.superseded(interactions.user_id, interactions.item_id, interactions.timestamp, order)
    if order is None or loses is None:
        return Ratings(interactions, rejects, order)
    rejected = rejects["line"].to_numpy() - layout.header_lines - 1
    rows = counted[loses]  # among the accepted; what was rejected before each is stepped over
    rows += np.searchsorted(rejected - np.arange(len(rejected)), rows, side="right")
    rejects = pa.concat_tables([rejects, _duplicates(source, file, layout, rows)]).sort_by("line")
    if repeats_are_bad:
        check_share(source.where(file), rejects, total, config)
    new_row = np.cumsum(~loses) - 1
    return Ratings(interactions.take(~loses), rejects, new_row[order[~loses[order]]])


_Parsed = tuple[Columns, dict[int, str]]
"""Of one block: the accepted rows' columns, and the rejected rows with a reason each, ascending."""


def _compact(values: Values) -> Values:
    small = values.dtype == np.int64 and values.max(initial=0) < 1 << 32
    return values.astype(np.uint32) if small else values


def _read_blocks(
    source: Source, file: str, layout: Layout, parser: _Parser
) -> tuple[dict[str, list[Values]], pa.Table, int]:
    """The accepted rows' columns, block by block and compact; the rejected rows; and the number of all."""
    columns: dict[str, list[Values]] = {name: [] for name in COLUMNS}
    tables, total = [schema.REJECTS.empty_table()], 0
    with Progress(file, "B", total=source.size(file)) as progress:
        for block in blocks(source, file, layout):
            accepted, rejected = parser.parse(block)
            for name, values in accepted.items():
                columns[name].append(_compact(values))
            total += block.num_lines
            if rejected:
                rows = np.fromiter(rejected, np.int64)
                tables.append(_table(file, layout, block, rows, list(rejected.values())))
            progress.advance(len(block.data) + 1)
    return columns, pa.concat_tables(tables), total


def _table(file: str, layout: Layout, block: Block, rows: Int64s, reasons: list[str]) -> pa.Table:
    lines = (rows + block.first + layout.header_lines + 1).tolist()
    texts = (block.lines[row].decode("utf-8", "replace") for row in rows)
    return rejects_table(file, list(zip(lines, reasons, texts, strict=True)))


def _duplicates(source: Source, file: str, layout: Layout, rows: Int64s) -> pa.Table:
    """The rejects of superseded rows; their text is fetched by a second pass over the file."""
    tables = []
    for block in blocks(source, file, layout):
        low, high = np.searchsorted(rows, [block.first, block.first + block.num_lines])
        if low < high:
            reasons = [validation.DUPLICATE_PAIR] * int(high - low)
            tables.append(_table(file, layout, block, rows[low:high] - block.first, reasons))
    return pa.concat_tables(tables)


class _Parser:
    """Parses blocks of one file."""

    def __init__(self, layout: Layout, known_items: Int64s | None, config: DataConfig) -> None:
        self._layout, self._known, self._config = layout, known_items, config
        self._off_scale = f"the rating is off the scale of {config.rating_min:g} to {config.rating_max:g} stars"
        self._met = math.inf, -math.inf  # the lowest and the highest rating so far

    def remedies(self, *, adjustable: bool) -> dict[str, str]:
        """What mends the reasons that only a look at all ratings explains; a configuration only if ``adjustable``."""
        scale = self._config.rating_min, self._config.rating_max
        return {re.escape(self._off_scale): scale_remedy(*self._met, *scale, adjustable=adjustable)}

    def _meet(self, low: float, high: float) -> None:
        self._met = min(self._met[0], low), max(self._met[1], high)

    def parse(self, block: Block) -> _Parsed:
        """Part a block's lines into accepted and rejected ones."""
        columns = self._by_arrow(block.data, block.num_lines) if self._is_clean(block) else None
        if columns is not None:
            return self._checked(columns, np.arange(block.num_lines), {})
        return self._carefully(block)

    def _is_clean(self, block: Block) -> bool:
        odd = block.data.translate(None, self._layout.plain_bytes)
        return not odd and (not self._layout.quoted or self._has_sound_quotes(block.data))

    def _has_sound_quotes(self, data: bytes) -> bool:
        """Whether every quote begins or ends a field; Arrow would take others as they come."""
        comma = self._layout.separator.encode()
        begins = data.count(comma + b'"') + data.count(b'\n"') + data.startswith(b'"')
        ends = sum(data.count(b'"' + end) for end in (comma, b"\r\n", b"\n")) + data.endswith((b'"', b'"\r'))
        return begins == ends and begins + ends == data.count(b'"')

    def _by_arrow(self, data: bytes, num_lines: int) -> Columns | None:
        """Columns of exactly ``num_lines`` rows, or None where any line is not as it should be."""
        layout, types = self._layout, self._layout.arrow_types
        separator = layout.separator
        if len(separator) > 1:  # Arrow knows separators of one character only
            data, separator = data.replace(separator.encode(), b"\t"), "\t"
        quote = '"' if layout.quoted else False
        parsing = pa_csv.ParseOptions(delimiter=separator, quote_char=quote, ignore_empty_lines=False)
        converting = pa_csv.ConvertOptions(column_types=types, include_columns=list(types), null_values=[""])
        try:
            table = pa_csv.read_csv(
                reader_of(data), pa_csv.ReadOptions(column_names=layout.arrow_names), parsing, converting
            )
        except pa.ArrowInvalid:
            return None
        if table.num_rows != num_lines or any(table[name].null_count for name in COLUMNS):
            return None
        columns = {name: table[name].to_numpy() for name in COLUMNS}
        return columns | {"timestamp": columns["timestamp"].astype(np.int64, copy=False)}

    def _carefully(self, block: Block) -> _Parsed:
        """Line by line: plain lines go to Arrow together, others are repaired or set aside."""
        good, rows, rejected = [], [], {}
        is_plain = self._layout.plain_line.fullmatch
        for row, line in enumerate(block.lines):
            try:
                good.append(line if is_plain(line) else self._repaired(line))
                rows.append(row)
            except BadRowError as bad:
                rejected[row] = str(bad)
        columns = self._by_arrow(b"\n".join(good), len(good)) if good else None
        if columns is None:  # no good line; should Arrow ever refuse one that we call plain, all are set aside
            columns = {name: np.zeros(0, dtype) for name, dtype in DTYPES.items()}
            rejected |= dict.fromkeys(rows, "the line cannot be read")
            rows = []
        return self._checked(columns, np.array(rows, dtype=np.int64), rejected)

    def _repaired(self, line: bytes) -> bytes:
        """An odd but sound line (quotes, blanks, 4e0) as a plain one.

        Raises:
            BadRowError: the line is not sound.
        """
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError:
            raise BadRowError(validation.NOT_UTF8) from None
        if not text.strip():
            raise BadRowError(validation.EMPTY_LINE)
        names, separator = self._layout.names, self._layout.separator
        values = dict(zip(names, fields_of(text, separator, len(names)), strict=True))
        plain = {name: str(whole_number(values[name], what)) for name, what in _WHAT.items()}
        plain["timestamp"] = self._layout.time.plain_text(values["timestamp"])
        plain["rating"] = self._plain_rating(values["rating"].strip())
        return separator.join(plain.get(name, "") for name in names).encode()

    def _plain_rating(self, text: str) -> str:
        if not text:
            raise BadRowError(MISSING_RATING)
        if not _NUMBER.fullmatch(text):
            raise BadRowError(NO_NUMBER)
        value = float(text)
        if math.isfinite(value):
            self._meet(value, value)
        if not (math.isfinite(value) and self._config.rating_min <= value <= self._config.rating_max):
            raise BadRowError(self._off_scale)
        return f"{value:.9f}"

    def _checked(self, columns: Columns, rows: Int64s, rejected: dict[int, str]) -> _Parsed:
        """Drop rows that read well but say something impossible; timestamps become seconds."""
        bad = np.zeros(len(rows), dtype=np.bool_)
        for reason, mask in self._faults(columns):
            if mask.any():
                rejected |= dict.fromkeys(rows[mask & ~bad].tolist(), reason)
                bad |= mask
        if bad.any():
            columns = {name: column[~bad] for name, column in columns.items()}
        if self._layout.time.per_second > 1:
            columns = columns | {"timestamp": columns["timestamp"] // self._layout.time.per_second}
        return columns, dict(sorted(rejected.items()))

    def _faults(self, columns: Columns) -> Iterator[tuple[str, Bools]]:
        rating, low, high = columns["rating"], self._config.rating_min, self._config.rating_max
        if len(rating):
            self._meet(float(rating.min()), float(rating.max()))
        yield self._off_scale, (rating < low) | (rating > high)
        yield OFF_STEP, (np.clip(rating, low, high) * 2) % 1 != 0  # an infinity has no remainder
        form, time = self._layout.time, columns["timestamp"]
        yield BEFORE_1970, time < 0
        yield form.not_this, time < form.least
        yield validation.LATE_TIMESTAMP, time > (validation.MAX_TIMESTAMP + 1) * form.per_second - 1
        if self._known is not None:
            yield validation.UNKNOWN_ITEM, ~np.isin(columns["item_id"], self._known)


def scale_remedy(low: float, high: float, least: float, most: float, *, adjustable: bool) -> str:
    """What to do about ratings off the configured scale.

    Args:
        low: the lowest rating in the file.
        high: the highest.
        least: the lowest on the scale.
        most: the highest on the scale.
        adjustable: whether a configuration can be given.
    """
    scale = _scale_of(low, high) if adjustable else None
    rescale = f"rescale them to {least:g} to {most:g} in halves"
    if scale is None:
        return f"Its ratings run from {low:g} to {high:g}: {rescale}."
    settings = json.dumps(scale_settings(*scale))
    return (
        f"Its ratings run from {low:g} to {high:g}: give their scale in a file, --config scale.json, that holds "
        f"{settings} (ratings above like_above are likes), or {rescale}."
    )


def scale_settings(low: float, high: float) -> dict[str, dict[str, float]]:
    """The configuration of a scale: what 3, 4 and a star are on the usual one, in the same place on this one."""
    stars = (high - low) / 4.5
    like_above = round(low + 2.5 * stars) if stars >= 1 else low + (high - low) / 2
    return {
        "data": {"rating_min": low, "rating_max": high},
        "features": {"like_above": like_above},
        "history": {"like_at": round(low + 3.5 * stars, 2), "star_weight": round(0.4 / stars, 4)},
    }


def found_scale(low: float, high: float) -> tuple[float, float]:
    """The scale of ratings from ``low`` to ``high``: the least usual one that they fill well, else their own ends."""
    usual = _scale_of(low, high)
    if usual is None or high - usual[0] < _FILLED * (usual[1] - usual[0]):
        return low, high
    return usual


def _scale_of(low: float, high: float) -> tuple[int, int] | None:
    """The least usual scale that holds the ratings; None where there is none."""
    end = next((end for end in _ENDS if high <= end and low >= -end), None)
    if end is None or not math.isfinite(low):
        return None
    start = -end if low < 0 else int(low >= 1 and end > 1)
    return start, end
