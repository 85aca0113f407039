"""The one rule for ids of users and items: in files and options, in Python and in requests to a server.

A data set's ids are whole numbers or text, those of users one of the two and those of items one of the two. Text is
kept as it came: leading zeros, case, Unicode. Ids ascend as numbers do, or as the bytes of their UTF-8 do.

A number that is an id is a whole number from 0 to 2**63 - 1. It may come as any kind of integer, or as a decimal or
float that is whole; a float only below 2**53, from where on floats are not exact. In files and options it is the text
of one. Whoever asks for an id below 0 asks for nobody's. Anything else (fractions, True, nothing at all, text among
Python's numbers) is refused, and nothing is ever cut to fit.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from numbers import Integral, Rational, Real
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sdk.base.errors import UnknownItemError, UsageError
from sdk.base.types import Id, IdArray, Int64s
from sdk.base.types import nobody as nobody  # for those who look for it here

if TYPE_CHECKING:
    import pyarrow as pa

MAX_ID = 2**63 - 1
_LEAST = -(2**63)
_EXACT = 2**53
_DIGITS = re.compile(r"([+-]?)0*([0-9]+)", re.ASCII)
_MOST_DIGITS = 19
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[+-]?[0-9]+)?", re.ASCII | re.IGNORECASE)
_MISSING = frozenset({"", "null", "none", "na", "n/a", "nan", "snan", "nat", "<na>", "\\n"})
_FEW = 1024  # texts that are looked up one by one
_SHOWN = 60  # characters of a wrong value
MISSING, NOT_WHOLE, NEGATIVE = "is missing", "is not a whole number", "is negative"
TEXT, TOO_LARGE, NOT_EXACT = "is text", "is too large", "is too large for a float to be exact"


class NoIdError(ValueError):
    """A value is no id; the message says why, in words that follow its name: "is negative"."""


def whole(value: object) -> int:
    """A number of 64 bits, exactly as it was given.

    Raises:
        NoIdError: it is missing, not whole, too large or not exact.
    """
    if isinstance(value, str):
        return _of_text(value.strip())
    if isinstance(value, Integral) and not isinstance(value, (bool, np.timedelta64)):
        return _in_range(int(value))
    if str(value).lower() in _MISSING:
        raise NoIdError(MISSING)
    if isinstance(value, Integral) or not isinstance(value, (Real, Decimal)):
        raise NoIdError(NOT_WHOLE)
    if isinstance(value, (Decimal, Rational)):
        return _in_range(_of_float(value, 2**64))
    return _of_float(value, _exact_below(value.dtype) if isinstance(value, np.floating) else _EXACT)


def whole_id(value: object) -> int:
    """An id.

    Raises:
        NoIdError: it is none.
    """
    number = whole(value)
    if number < 0:
        raise NoIdError(NEGATIVE)
    return number


def _of_text(text: str) -> int:
    if digits := _DIGITS.fullmatch(text):
        return _in_range(int(digits[1] + digits[2][: _MOST_DIGITS + 1]))  # more are too many, whatever they say
    if _NUMBER.fullmatch(text):
        return _of_float(Decimal(text), _EXACT)
    raise NoIdError(MISSING if text.lower() in _MISSING else NOT_WHOLE)


def _of_float(value: Any, exact_below: int) -> int:
    if not -exact_below < value < exact_below:
        raise NoIdError(NOT_EXACT)
    if value != int(value):
        raise NoIdError(NOT_WHOLE)
    return int(value)


def _exact_below(dtype: np.dtype[Any]) -> int:
    """From where on floats of this type leave whole numbers out."""
    return int(min(2 ** (np.finfo(dtype).nmant + 1), _EXACT))


def _in_range(number: int) -> int:
    if not _LEAST <= number <= MAX_ID:
        raise NoIdError(TOO_LARGE)
    return number


def is_text(ids: IdArray) -> bool:
    """Whether ids are text, not whole numbers."""
    return ids.dtype == object


def text_ids(values: Any) -> IdArray:
    """(N,) object, text as it came, of N texts that are known to be some: a list, or a column of Arrow's."""
    listed = values.to_pylist() if hasattr(values, "to_pylist") else list(values)
    return np.fromiter(listed, dtype=object, count=len(listed))


def as_texts(ids: IdArray) -> IdArray:
    """Ids as text, in the same order."""
    return ids if is_text(ids) else text_ids([str(one) for one in ids.tolist()])


def ids_in(column: pa.ChunkedArray | pa.Array) -> IdArray:
    """(N,) int64 or object ids of an Arrow column of numbers or text without nulls."""
    from sdk.base.arrow_tables import numbers_in

    return numbers_in(column) if str(column.type) == "int64" else text_ids(column)


def ids_of(values: Any, name: str = "ids", known: IdArray | None = None) -> IdArray:
    """(N,) ids from whatever holds N of them: a list, a set, an array, a Series, a column; one id is N = 1.

    Args:
        values: what was given.
        name: of the argument or column, for the message.
        known: ids of the kind that is expected; None expects whole numbers.

    Returns:
        (N,) int64; (N,) object where the known ones are text.

    Raises:
        UsageError: one of them is no number of 64 bits, or no text where ids are text, or they do not stand in one
            row; the message names the first.
    """
    if known is not None and is_text(known):
        return _texts(values, name)
    if type(values) is np.ndarray and values.dtype == np.int64 and values.ndim == 1:
        return values
    array = _one_row(values, name)
    if array.dtype.kind in "iu" and (array.dtype != np.uint64 or not (array > MAX_ID).any()):
        return array.astype(np.int64)
    if array.dtype.kind == "f" and _all_whole(array):
        return array.astype(np.int64)
    return np.array([_numbered(at, value, name) for at, value in enumerate(array)], dtype=np.int64)


def _texts(values: Any, name: str) -> IdArray:
    listed = values.to_pylist() if hasattr(values, "to_pylist") else None
    array = _one_row(values, name) if listed is None else np.fromiter(listed, dtype=object, count=len(listed))
    if array.dtype == object and set(map(type, array)) <= {str}:
        return array
    texts = np.array([str(value) if isinstance(value, str) else value for value in array], dtype=object)
    for at, value in enumerate(texts):
        if not isinstance(value, str):
            found = f"{name}: number {at + 1} is {_short(value)}, which is no text"
            raise UsageError(f"{found}; the ids of this data are text, such as '00417'")
    return texts


def _all_whole(array: NDArray[Any]) -> bool:
    return bool(((np.abs(array) < _exact_below(array.dtype)) & (array == np.trunc(array))).all())


def _one_row(values: Any, name: str) -> NDArray[Any]:
    """The values as they are: NumPy would make True a 1 and cut text, floats and large numbers of a list alike."""
    values = values if hasattr(values, "__array__") else _of_arrow(values, name)
    if isinstance(values, (str, bytes, Mapping)) or not (hasattr(values, "__array__") or isinstance(values, Iterable)):
        values = [values]
    if isinstance(values, np.ma.MaskedArray):
        values = values.tolist()  # a masked value is None there
    if not hasattr(values, "__array__"):
        values = _listed(list(values))
    array = np.asarray(values)
    array = array.reshape(1) if array.ndim == 0 else array
    if array.ndim != 1 or array.dtype.kind in "mMcV":
        raise UsageError(f"{name}: got {array.dtype} of shape {array.shape}, expected one row of ids")
    return array


def _of_arrow(values: Any, name: str) -> Any:
    """The values of a column that is Arrow's alone, and has NumPy's way nowhere."""
    for way, read in (("__arrow_c_array__", "array"), ("__arrow_c_stream__", "chunked_array")):
        if hasattr(values, way):
            import pyarrow as pa

            try:
                return getattr(pa, read)(values)
            except (pa.ArrowException, TypeError) as error:
                raise UsageError(f"{name}: pyarrow {pa.__version__} cannot read such a column ({error})") from error
    return values


def _listed(values: list[Any]) -> NDArray[Any]:
    if set(map(type, values)) <= {int} and (not values or _LEAST <= min(values) <= max(values) <= MAX_ID):
        return np.array(values, dtype=np.int64)
    return np.fromiter(values, dtype=object, count=len(values))


def _numbered(at: int, value: object, name: str) -> int:
    try:
        if isinstance(value, str):
            raise NoIdError(TEXT)
        return whole(value)
    except NoIdError as error:
        message = f"{name}: number {at + 1} is {_short(value)}, which {error}; expected ids from 0 to 2**63 - 1"
        raise UsageError(message) from error


def id_of(value: object, name: str, known: IdArray | None = None) -> Id:
    """One id; see ``ids_of``.

    Raises:
        UsageError: it is none.
    """
    found = ids_of(value, name, known)
    if len(found) != 1:
        raise UsageError(f"{name}: got {len(found)} ids, expected one")
    return plain_id(found[0])


def plain_id(value: Any) -> Id:
    """One id of an array as Python's own int or str."""
    return value if isinstance(value, str) else int(value)


def count_of(value: object, name: str, least: int = 1) -> int:
    """A whole number of things, such as a list's length; one of more than 64 bits, which is all of them, is cut.

    Raises:
        UsageError: it is no whole number, or below ``least``.
    """
    try:
        number = int(value) if type(value) is int else whole(None if isinstance(value, str) else value)
    except NoIdError as error:
        raise UsageError(f"{name}: got {_short(value)}, expected a whole number of at least {least}") from error
    if number < least:
        raise UsageError(f"{name}: got {number}, expected at least {least}")
    return min(number, MAX_ID)


def rows_of(known: NDArray[Any], wanted: NDArray[Any]) -> Int64s:
    """Where each wanted value stands among ascending known ones; -1 where it does not. Quicker than ``np.isin``.

    Args:
        known: (N,) ascending ids, or keys of another kind.
        wanted: of any shape.

    Returns:
        int64 of the shape of ``wanted``.
    """
    if not len(known):
        return np.full(wanted.shape, -1, dtype=np.int64)
    if known.dtype == object and wanted.size > _FEW:
        return _hashed(known, wanted.ravel()).reshape(wanted.shape)
    at = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
    return np.where(known[at] == wanted, at, -1)


def _hashed(known: IdArray, wanted: IdArray) -> Int64s:
    """``rows_of`` texts by hashing: Python would compare each of them some twenty times."""
    import pyarrow as pa

    return rows_in(known, pa.array(wanted, pa.string()))


def rows_in(known: IdArray, column: pa.ChunkedArray | pa.Array) -> Int64s:
    """``rows_of`` an Arrow column of ids, by hashing, which finds hundreds of thousands eight times as fast."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = pa.string() if is_text(known) else pa.int64()
    found = pc.index_in(column, value_set=pa.array(known, kind))
    return np.asarray(found.fill_null(-1)).astype(np.int64)


def title_rows(known: IdArray, item_id: IdArray) -> Int64s:
    """``rows_of`` titles that must be known.

    Raises:
        UnknownItemError: one is not; names the first.
    """
    rows = rows_of(known, item_id)
    if len(wrong := np.flatnonzero(rows < 0)):
        raise UnknownItemError(plain_id(item_id[wrong[0]]), len(known))
    return rows


def _short(value: object) -> str:
    try:
        text = repr(value.item() if isinstance(value, np.generic) else value)  # 0.5, not np.float64(0.5)
    except ValueError:  # Python writes out no integer of more than some thousand digits
        return "a number of thousands of digits"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
