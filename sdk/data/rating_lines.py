"""How ratings files are laid out, and their lines in blocks: what Arrow is told, and what counts as a plain line."""

from __future__ import annotations

import csv
import logging
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sdk.data.archive import Source
from sdk.data.records import csv_header, positions, read_line
from sdk.data.times import SECONDS, TimeForm, commonest_form
from sdk.data.validation import BadRowError, require_width

log = logging.getLogger(__name__)
COLUMNS: tuple[str, ...] = ("user_id", "item_id", "rating", "timestamp")
_PUBLISHED = ("userId", "movieId", "rating", "timestamp")
BLOCK_BYTES = 16 << 20
_SAMPLE_LINES = 100
DTYPES = {"user_id": np.int64, "item_id": np.int64, "rating": np.float32, "timestamp": np.int64}
Values = NDArray[Any]
Columns = dict[str, Values]


@dataclass(frozen=True)
class Layout:
    """How one ratings file is laid out.

    Attributes:
        separator: ``,``, tab or ``::``.
        names: the fields of a line in file order: our column names, and "" for a field that is not read.
        header_lines: lines before the first row.
        quoted: whether fields stand in double quotes.
        time: how the timestamps are written.
    """

    separator: str
    names: tuple[str, ...]
    header_lines: int
    quoted: bool
    time: TimeForm

    @cached_property
    def arrow_names(self) -> list[str]:
        """Arrow's columns."""
        return [name or f"unread {number}" for number, name in enumerate(self.names)]

    @cached_property
    def arrow_types(self) -> dict[str, pa.DataType]:
        """The types to read."""
        return {name: pa.from_numpy_dtype(dtype) for name, dtype in DTYPES.items()} | {"timestamp": self.time.arrow}

    @cached_property
    def plain_line(self) -> re.Pattern[bytes]:
        """A line that Arrow is sure to read."""
        unread = rb'[^"\r\x80-\xff%s]*' % self.separator.encode()
        field = {"rating": rb"[0-9]{1,9}(?:\.[0-9]{1,18})?", "": unread, "timestamp": self.time.plain}
        fields = [field.get(name, rb"[0-9]{1,18}") for name in self.names]
        if self.quoted:
            fields = [rb'(?:"(?:%s)"|%s)' % (pattern, pattern) for pattern in fields]
        return re.compile(self.separator.encode().join(rb"(?:%s)" % pattern for pattern in fields))

    @cached_property
    def plain_bytes(self) -> bytes:
        """The only bytes in a block of plain lines."""
        more = b'"' * self.quoted + b"-: TZ+" * self.time.text
        return b"0123456789.\r\n" + self.separator.encode() + more


class Block:
    """Some whole lines of a file.

    Attributes:
        first: row number of the first line (0 = the first line below the header).
        data: the lines, without the last line feed.
    """

    def __init__(self, first: int, data: bytes) -> None:
        self.first, self.data = first, data
        self.num_lines = data.count(b"\n") + 1

    @cached_property
    def lines(self) -> list[bytes]:
        """The lines, without line ends."""
        return [line.removesuffix(b"\r") for line in self.data.split(b"\n")]


def layout_of(source: Source, file: str, separator: str) -> Layout:
    """How a ratings file is laid out: a CSV's header names its columns, its first lines show quotes and times.

    Args:
        source: where the file lies.
        file: its name.
        separator: ``,`` in a CSV file with a header; a tab or ``::`` in one that has the four columns and no header.

    Raises:
        MissingColumnError: one of userId, movieId, rating and timestamp is not there.
        UnusableFileError: the file is a CSV and empty.
    """
    where, names, is_csv = source.where(file), COLUMNS, separator == ","
    with source.open(file) as stream:
        if is_csv:
            header = csv_header(stream, where)
            ours = dict(zip(positions(header, _PUBLISHED, where), COLUMNS, strict=True))
            names = tuple(ours.get(place, "") for place in range(len(header)))
        raw = islice(iter(lambda: read_line(stream, where), b""), _SAMPLE_LINES)
        lines = [line.decode("utf-8", "replace").rstrip("\r\n") for line in raw]
    times, at = [], names.index("timestamp")
    for line in lines:
        with suppress(BadRowError):
            times.append(fields_of(line, separator, len(names))[at])
    time = commonest_form(times)
    if time is not SECONDS:
        log.info("%s: its timestamps are %s, read as seconds since 1970 UTC", where, time.words)
    return Layout(separator, names, int(is_csv), is_csv and any('"' in line for line in lines), time)


def fields_of(line: str, separator: str, width: int) -> list[str]:
    """The fields of one line.

    Raises:
        BadRowError: it is no CSV, or has not as many fields as it should.
    """
    try:
        fields = next(csv.reader([line], strict=True)) if separator == "," else line.split(separator)
    except csv.Error as error:
        raise BadRowError(f"not valid CSV: {error}") from None
    require_width(fields, width)
    return fields


def blocks(source: Source, file: str, layout: Layout) -> Iterator[Block]:
    """The lines below the header, in blocks of about 16 MiB; empty lines at the end of the file are left out."""
    first, held = 0, b""
    with source.open(file) as stream:
        for _ in range(layout.header_lines):
            read_line(stream, source.where(file))
        while chunk := stream.read(BLOCK_BYTES):
            chunk = held + chunk + read_line(stream, source.where(file))
            content = chunk.rstrip(b"\r\n")
            line_end, _, held = chunk[len(content) :].partition(b"\n")  # held: empty lines, if more lines follow
            if content:
                yield (block := Block(first, content + line_end))
                first += block.num_lines
            else:
                held = chunk
