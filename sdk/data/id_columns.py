"""A column of ids, gathered part by part: whole numbers as they are, texts once each and rows as their places."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sdk.base.errors import UnusableFileError
from sdk.base.ids import NEGATIVE, NOT_WHOLE, TOO_LARGE, as_texts, is_text, rows_in, rows_of, text_ids
from sdk.base.types import Bools, IdArray, Int32s, Int64s
from sdk.data.text_places import TextPlaces

MOST_BYTES = 1000
_CANONICAL = r"^(0|[1-9][0-9]{0,18})$"
_LINES = "has a NUL or a line break"
_MISSING = ("nan", "NaN", "null", "NULL", "None", "<NA>", "NaT", "\\N")
UNKNOWN_ITEM = "unknown item: its id is not among the items"
Faults = list[tuple[str, Bools]]


class IdColumn:
    """Gathers the ids of users or of items.

    Args:
        what: ``user id`` or ``item id``, for reasons.
        where: the table, for messages.
        column: its name there.
        untyped: whether its text may be whole numbers.
        among: the items that there are; None takes any.
    """

    def __init__(self, what: str, where: str, column: str, *, untyped: bool, among: IdArray | None = None) -> None:
        self._what, self._where, self._column, self._untyped, self._among = what, where, column, untyped, among
        self._numbers: list[NDArray[Any]] = []
        self._places: list[NDArray[Any]] = []
        self._known = TextPlaces(MOST_BYTES + 1)
        self._texts: list[pa.StringArray] = []
        self._wrong = np.zeros(0, np.int8)  # of each of the texts

    def checked(self, column: pa.ChunkedArray) -> tuple[Int32s | Int64s, Faults]:
        """A part's ids, numbers or where they are text int32 places, and what is wrong with them.

        Reasons, and the rows each holds for.

        Raises:
            UnusableFileError: values of this type are no ids.
        """
        kind = column.type
        if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
            return self._checked_numbers(column)
        if pa.types.is_dictionary(kind):
            kind = kind.value_type
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind)):
            remedy = "Name another column with --columns, or write its ids as whole numbers or text."
            raise UnusableFileError(self._where, f"column {self._column!r} is {kind}, expected ids", remedy)
        return self._checked_texts(column)

    def _checked_numbers(self, column: pa.ChunkedArray) -> tuple[Int64s, Faults]:
        missing = np.asarray(column.is_null())
        if pa.types.is_decimal(column.type):
            column = column.cast(pa.float64())
        found = column.fill_null(0).to_numpy()
        missing = missing | (np.isnan(found) if found.dtype.kind == "f" else False)
        with np.errstate(invalid="ignore"):
            faults = [(f"the {self._what} is missing", missing), (f"the {self._what} {NEGATIVE}", found < 0)]
            if found.dtype.kind == "f":
                faults.append((f"the {self._what} {NOT_WHOLE}", (found != np.trunc(found)) & ~missing))
                faults.append((f"the {self._what} {TOO_LARGE} for a float", found >= 2.0**53))
                found = np.where((found >= 0) & (found < 2.0**53), found, 0)
            elif found.dtype == np.uint64:
                faults.append((f"the {self._what} {TOO_LARGE}", found >= np.uint64(1 << 63)))
        ids = found.astype(np.int64)
        if self._among is not None:
            faults.append((UNKNOWN_ITEM, _unknown(ids, self._among)))
        return ids, faults

    def _checked_texts(self, column: pa.ChunkedArray) -> tuple[Int32s, Faults]:
        before = len(self._texts)
        places = np.concatenate([np.zeros(0, np.int32), *(self._placed(chunk) for chunk in column.chunks)])
        if new := self._texts[before:]:
            self._wrong = np.append(self._wrong, self._faults(pa.concat_arrays(new)))
        which = self._wrong[places] if self._wrong.any() else np.zeros(len(places), np.int8)
        what = f"the {self._what}"
        reasons = f"{what} is missing", f"{what} has more than {MOST_BYTES:,} bytes", f"{what} {_LINES}", UNKNOWN_ITEM
        return places, [(reason, which == code) for code, reason in enumerate(reasons, 1)]

    def _placed(self, chunk: pa.Array) -> Int32s:
        """Of each row the place of its text; of a null that of the empty one."""
        if not pa.types.is_dictionary(chunk.type):
            return self._entered(chunk.cast(pa.string()).fill_null(""))
        each = self._entered(pa.concat_arrays([chunk.dictionary.cast(pa.string()).fill_null(""), pa.array([""])]))
        return each[np.asarray(chunk.indices.cast(pa.int64()).fill_null(len(each) - 1))]

    def _entered(self, texts: pa.StringArray) -> Int32s:
        sizes = pc.binary_length(texts)
        if (pc.max(sizes).as_py() or 0) > MOST_BYTES:
            texts = pc.if_else(pc.greater(sizes, MOST_BYTES), "x" * (MOST_BYTES + 1), texts)
        places, new = self._known.of(texts)
        self._texts += new
        return places

    def _faults(self, texts: pa.StringArray) -> NDArray[np.int8]:
        """Which of the reasons holds for each text, counted from 1; 0 where none does."""
        size = pc.binary_length(texts)
        wrong = [pc.or_(pc.equal(size, 0), pc.is_in(texts, pa.array(_MISSING))), pc.greater(size, MOST_BYTES)]
        wrong.append(_broken(texts))
        if self._among is not None:
            known = pa.array(as_texts(self._among), pa.string())
            wrong.append(pc.invert(pc.is_in(texts, value_set=known)))
        found = np.zeros(len(texts), np.int8)
        for code, bad in reversed(list(enumerate(wrong, 1))):
            found[np.asarray(bad).astype(np.bool_)] = code
        return found

    def keep(self, ids: Int32s | Int64s, rows: Bools | None) -> None:
        """Take a part's ids; of them those of ``rows``, or all."""
        kept = ids if rows is None else ids[rows]
        if ids.dtype == np.int32:
            self._places.append(kept)
        else:
            self._numbers.append(kept.astype(np.uint32) if kept.max(initial=0) < 1 << 32 else kept)

    def finished(self) -> tuple[IdArray, Int64s]:
        """The known ids, ascending, and each row's key: its id where ids are numbers, else its place among them.

        Raises:
            UnusableFileError: some parts have numbers and others text.
        """
        if self._numbers and self._places:
            problem = f"column {self._column!r} holds numbers in some parts and text in others"
            raise UnusableFileError(self._where, problem, "Write it as one of them everywhere.")
        if not self._places:
            keys = np.concatenate([np.zeros(0, np.uint32), *self._numbers], dtype=np.int64)
            self._numbers.clear()
            return np.asarray(pc.unique(pa.array(keys)).sort()), keys
        return self._finished_texts()

    def _finished_texts(self) -> tuple[IdArray, Int64s]:
        texts, places = pa.concat_arrays([pa.array([], pa.string()), *self._texts]), np.concatenate(self._places)
        self._texts.clear()
        self._places.clear()
        used = np.flatnonzero(np.bincount(places, minlength=len(texts)))
        known = texts.take(pa.array(used))
        numbers = self._as_numbers(known)
        order = np.asarray(pc.sort_indices(known if numbers is None else numbers))
        rank = np.zeros(len(texts), np.int64)
        rank[used[order]] = np.arange(len(order)) if numbers is None else numbers.take(pa.array(order)).to_numpy()
        ids = text_ids(known.take(pa.array(order))) if numbers is None else numbers.take(pa.array(order)).to_numpy()
        return ids, rank[places]

    def _as_numbers(self, known: pa.Array) -> pa.Array | None:
        """Ids of a source without types, where every one is a whole number as numbers are written."""
        if not (self._untyped and pc.all(pc.match_substring_regex(known, _CANONICAL)).as_py()):
            return None
        try:
            return known.cast(pa.int64())
        except pa.ArrowInvalid:
            return None


def _unknown(ids: Int64s, among: IdArray) -> Bools:
    """Which numbers are none of the known ids, which may be the text of numbers."""
    if not is_text(among):
        return rows_of(among, ids) < 0
    each, places = np.unique(ids, return_inverse=True)
    found: Bools = rows_in(among, pa.array(each).cast(pa.string()))[places] < 0
    return found


def _broken(texts: pa.StringArray) -> pa.BooleanArray:
    """Which texts hold a NUL or a line break: hardly ever any, so their bytes are looked through first."""
    data = texts.buffers()[2]
    held = bytes(data) if data is not None else b""
    if not any(one in held for one in (b"\x00", b"\n", b"\r")):
        return pa.repeat(pa.scalar(False), len(texts))
    return pc.match_substring_regex(texts, r"[\x00\r\n]")
