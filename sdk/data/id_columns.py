"""A column of ids, gathered part by part: whole numbers as they are, texts once each and rows as their places."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sdk.base.errors import UnusableFileError
from sdk.base.ids import NEGATIVE, NOT_WHOLE, TOO_LARGE, rows_of, text_ids
from sdk.base.types import Bools, IdArray, Int64s

MOST_BYTES = 1000
_CANONICAL = r"^(0|[1-9][0-9]{0,18})$"
_MISSING = ("nan", "NaN", "null", "NULL", "None", "<NA>", "NaT", "\\N")
_TEXT = pa.dictionary(pa.int32(), pa.string())
Faults = list[tuple[str, Bools]]


def not_among(known: IdArray, ids: pa.DictionaryArray | Int64s) -> Bools:
    """(N,) bool, which of a part's ids (``IdColumn.checked``) are none of the known, whichever of both are numbers."""
    if isinstance(ids, np.ndarray):
        if known.dtype != object:
            return rows_of(known, ids) < 0
        each, places = np.unique(ids, return_inverse=True)
        ids = pa.DictionaryArray.from_arrays(pa.array(places.astype(np.int32)), pa.array(each).cast(pa.string()))
    texts = pa.array(known, pa.string()) if known.dtype == object else pa.array(known).cast(pa.string())
    is_known = np.append(np.asarray(pc.is_in(ids.dictionary, value_set=texts)).astype(np.bool_), True)
    at = ids.indices.fill_null(len(is_known) - 1).to_numpy(zero_copy_only=False)
    return ~is_known[at]


class IdColumn:
    """Gathers the ids of users or of items.

    Args:
        what: ``user id`` or ``item id``, for reasons.
        where: the table, for messages.
        column: its name there.
        untyped: whether its text may be whole numbers.
    """

    def __init__(self, what: str, where: str, column: str, *, untyped: bool) -> None:
        self._what, self._where, self._column, self._untyped = what, where, column, untyped
        self._numbers: list[NDArray[Any]] = []
        self._texts: list[pa.DictionaryArray] = []

    def checked(self, column: pa.ChunkedArray) -> tuple[pa.DictionaryArray | Int64s, Faults]:
        """A part's ids, and what is wrong with them: reasons, and the rows each holds for.

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
        return found.astype(np.int64), faults

    def _checked_texts(self, column: pa.ChunkedArray) -> tuple[pa.DictionaryArray, Faults]:
        coded = _coded(column)
        texts, places = coded.dictionary, coded.indices
        size = pc.binary_length(texts)
        what, last = f"the {self._what}", len(texts)
        wrong = [
            (f"{what} is missing", pc.or_(pc.equal(size, 0), pc.is_in(texts, pa.array(_MISSING)))),
            (f"{what} has more than {MOST_BYTES:,} bytes", pc.greater(size, MOST_BYTES)),
            (f"{what} has a NUL or a line break", _broken(texts)),
        ]
        at = places.fill_null(last).to_numpy()
        faults: Faults = []
        for number, (reason, bad) in enumerate(wrong):
            mask = np.append(np.asarray(bad.fill_null(True)).astype(np.bool_), number == 0)
            faults.append((reason, mask[at] if mask.any() else np.zeros(len(at), np.bool_)))
        return coded, faults

    def keep(self, ids: pa.DictionaryArray | Int64s, rows: Bools | None) -> None:
        """Take a part's ids; of them those of ``rows``, or all."""
        if isinstance(ids, np.ndarray):
            kept = ids if rows is None else ids[rows]
            self._numbers.append(kept.astype(np.uint32) if kept.max(initial=0) < 1 << 32 else kept)
        else:
            self._texts.append(ids if rows is None else ids.filter(pa.array(rows)))

    def finished(self) -> tuple[IdArray, Int64s]:
        """The known ids, ascending, and each row's key: its id where ids are numbers, else its place among them.

        Raises:
            UnusableFileError: some parts have numbers and others text.
        """
        if self._numbers and self._texts:
            problem = f"column {self._column!r} holds numbers in some parts and text in others"
            raise UnusableFileError(self._where, problem, "Write it as one of them everywhere.")
        if not self._texts:
            keys = np.concatenate([np.zeros(0, np.uint32), *self._numbers], dtype=np.int64)
            self._numbers.clear()
            return np.asarray(pc.unique(pa.array(keys)).sort()), keys
        return self._finished_texts()

    def _finished_texts(self) -> tuple[IdArray, Int64s]:
        together = pa.chunked_array(self._texts, _TEXT).unify_dictionaries()
        self._texts.clear()
        texts = together.chunk(0).dictionary
        places = np.concatenate([chunk.indices.to_numpy() for chunk in together.chunks])
        del together
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


def _broken(texts: pa.StringArray) -> pa.BooleanArray:
    """Which texts hold a NUL or a line break: hardly ever any, so their bytes are looked through first."""
    data = texts.buffers()[2]
    held = bytes(data) if data is not None else b""
    if not any(one in held for one in (b"\x00", b"\n", b"\r")):
        return pa.repeat(pa.scalar(False), len(texts))
    return pc.match_substring_regex(texts, r"[\x00\r\n]")


def _coded(column: pa.ChunkedArray) -> pa.DictionaryArray:
    """One dictionary array of text."""
    if not pa.types.is_dictionary(column.type):
        column = column.cast(pa.string()).dictionary_encode()
    if column.type != _TEXT:
        column = column.cast(_TEXT)
    if column.num_chunks > 1:
        column = column.unify_dictionaries()
    if column.num_chunks == 0:
        return pa.DictionaryArray.from_arrays(pa.array([], pa.int32()), pa.array([], pa.string()))
    if column.num_chunks == 1:
        return column.chunk(0)
    places = pa.concat_arrays([chunk.indices for chunk in column.chunks])
    return pa.DictionaryArray.from_arrays(places, column.chunk(0).dictionary)
