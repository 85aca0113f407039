"""How ratings files are laid out, and their lines in blocks: what Arrow is told, and what counts as a plain line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sdk.data.archive import Source
from sdk.data.records import csv_header, positions, read_line

COLUMNS = ("user_id", "item_id", "rating", "timestamp")
_PUBLISHED = ("userId", "movieId", "rating", "timestamp")
_BLOCK_BYTES = 16 << 20
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
    """

    separator: str
    names: tuple[str, ...] = COLUMNS
    header_lines: int = 0

    @cached_property
    def arrow_names(self) -> list[str]:
        """Arrow's columns: it knows one-character separators only, so "::" has an empty column in between."""
        names: list[str] = []
        for number, name in enumerate(self.names):
            names += [f"between {number}"] * (number > 0 and self.separator == "::")
            names.append(name or f"unread {number}")
        return names

    @cached_property
    def arrow_types(self) -> dict[str, pa.DataType]:
        """The types to read; "between" columns are null, so that anything in them is an error."""
        types = {name: pa.null() for name in self.arrow_names if name.startswith("between")}
        return types | {name: pa.from_numpy_dtype(dtype) for name, dtype in DTYPES.items()}

    @cached_property
    def plain_line(self) -> re.Pattern[bytes]:
        """A line that Arrow is sure to read."""
        field = {"rating": rb"[0-9]{1,9}(?:\.[0-9]{1,18})?", "": rb'[^"\r\x80-\xff%s]*' % self.separator.encode()}
        fields = (field.get(name, rb"[0-9]{1,18}") for name in self.names)
        return re.compile(self.separator.encode().join(fields))

    @cached_property
    def plain_bytes(self) -> bytes:
        """The only bytes in a block of plain lines."""
        return b"0123456789.\r\n" + self.separator.encode()


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


def csv_layout(source: Source, file: str) -> Layout:
    """The layout of a ratings CSV, from its header.

    Raises:
        MissingColumnError: one of userId, movieId, rating and timestamp is not there.
        UnusableFileError: the file is empty.
    """
    with source.open(file) as stream:
        header = csv_header(stream, source.where(file))
    at = positions(header, _PUBLISHED, source.where(file))
    names = [""] * len(header)
    for position, name in zip(at, COLUMNS, strict=True):
        names[position] = name
    return Layout(",", tuple(names), header_lines=1)


def blocks(source: Source, file: str, layout: Layout) -> Iterator[Block]:
    """The lines below the header, in blocks of about 16 MiB; empty lines at the end of the file are left out."""
    first, held = 0, b""
    with source.open(file) as stream:
        for _ in range(layout.header_lines):
            read_line(stream, source.where(file))
        while chunk := stream.read(_BLOCK_BYTES):
            chunk = held + chunk + read_line(stream, source.where(file))
            content = chunk.rstrip(b"\r\n")
            line_end, _, held = chunk[len(content) :].partition(b"\n")  # held: empty lines, if more lines follow
            if content:
                yield (block := Block(first, content + line_end))
                first += block.num_lines
            else:
                held = chunk
