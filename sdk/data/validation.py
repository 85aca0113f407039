"""Rows that cannot be used: each is set aside with its file, line, reason and text, and too many stop the run."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from types import MappingProxyType

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sdk.base import schema
from sdk.base.config import DataConfig
from sdk.base.errors import TooManyRejectsError
from sdk.base.ids import NoIdError, whole_id
from sdk.base.types import Bools, Int64s
from sdk.data.foreign import runnable

EMPTY_LINE = "the line is empty"
NOT_UTF8 = "not valid UTF-8"
TOO_FEW_FIELDS = "too few fields: the line is cut short"
TOO_MANY_FIELDS = "too many fields"
UNKNOWN_ITEM = "unknown title: the item id is not in the titles file"
DUPLICATE_PAIR = "duplicate: the same user rated the same title again, and the latest rating stands"
DUPLICATE_ID = "duplicate id: the first row stands"
MISSING_TITLE = "the title is missing"
LATE_TIMESTAMP = "the timestamp is after the year 2100"
MAX_TIMESTAMP = 4_102_444_799  # 2100-01-01T00:00:00Z less one second
REMEDIES = MappingProxyType(
    {
        UNKNOWN_ITEM: "Give the titles, and links.csv if there is one, of the same data set: these ids are not there.",
        r"^the user id is (not a whole number|negative|too large)": 'Number the users: python -c "import pandas; '
        "t = pandas.read_csv('FILE'); c = t.filter(regex='(?i)^user.?id$').columns[0]; "
        "t[c] = pandas.factorize(t[c])[0]; t.to_csv('FILE', index=False)\"",
        r"^the item id is (not a whole number|negative|too large)": "Number the titles, alike in both files: "
        "python -c \"import pandas; f = 'TITLES', 'RATINGS'; m, r = map(pandas.read_csv, f); "
        "c, d = (t.filter(regex='(?i)^(movie|item).?id$').columns[0] for t in (m, r)); "
        "n = {x: i for i, x in enumerate(m[c].unique())}; m[c] = m[c].map(n); r[d] = r[d].map(n); "
        'm.to_csv(f[0], index=False); r.to_csv(f[1], index=False)"',
        NOT_UTF8: "Save it as UTF-8: python -c \"t = open('FILE', encoding='latin-1', newline='').read(); "
        "open('FILE', 'w', encoding='utf-8', newline='').write(t)\", if it is in Latin-1.",
        r"^the timestamp is": "Write each timestamp in one and the same form, seconds since 1970 such as 1300086400, "
        'or 2011-03-14 07:06:40 (UTC), as this does with many: python -c "import pandas; '
        "t = pandas.read_csv('FILE'); c = t.filter(regex='(?i)^timestamp$').columns[0]; "
        "t[c] = pandas.to_datetime(t[c]); t.to_csv('FILE', index=False)\"",
        DUPLICATE_PAIR: "Leave one rating of each user and title in it.",
        DUPLICATE_ID: "Leave one row of each id in it.",
        r"rating is not a whole or half star": "Round the ratings to whole or half stars.",
        r"rating is not a number": "Write ratings with a point, as 4.5.",
        r"too (few|many) fields": "Export it again with as many fields in each row as the first has, those that hold "
        "a comma or a line break in double quotes.",
    }
)
"""What mends a reason, by a pattern of it: of FILE, or of the files called TITLES and RATINGS in the same folder."""
_TEXT_LENGTH = 200


class BadRowError(Exception):
    """Why one row cannot be used, in words; caught where rows are read, never shown to a caller."""


def require_width(fields: Sequence[str], width: int) -> None:
    """Refuse a row of more or fewer fields than the file's rows have.

    Raises:
        BadRowError: it is one.
    """
    if len(fields) != width:
        raise BadRowError(TOO_FEW_FIELDS if len(fields) < width else TOO_MANY_FIELDS)


def rejects_table(file: str, rows: Sequence[tuple[int, str, str]]) -> pa.Table:
    """Rows set aside from one file, as ``schema.REJECTS``: (line, reason, text), texts shortened to 200 characters."""
    short = [text[:_TEXT_LENGTH].encode("utf-8", "replace").decode() for _, _, text in rows]
    columns = [[file] * len(rows), [line for line, _, _ in rows], [reason for _, reason, _ in rows], short]
    arrays = [pa.array(column, field.type) for column, field in zip(columns, schema.REJECTS, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema.REJECTS)


def check_share(
    where: object,
    rejects: pa.Table,
    total: int,
    config: DataConfig,
    remedies: Mapping[str, str] = MappingProxyType({}),
    *,
    adjustable: bool = True,
) -> None:
    """Stop when one file has more bad rows than ``config.max_reject_share``.

    Args:
        where: the file, for the message.
        rejects: its rows set aside, ``schema.REJECTS``.
        total: its rows.
        config: the share allowed.
        remedies: what mends a reason, by a pattern of it, before ``REMEDIES``.
        adjustable: whether the caller has options that raise the share.

    Raises:
        TooManyRejectsError: with the commonest reasons, their counts, and what mends the commonest.
    """
    if rejects.num_rows <= config.max_reject_share * total:
        return
    counts = pc.value_counts(rejects["reason"].combine_chunks()).to_pylist()
    counts.sort(key=lambda entry: (-entry["counts"], entry["values"]))
    reasons = "; ".join(f"{entry['counts']:,} x {entry['values']}" for entry in counts[:3])
    known = {**remedies, **REMEDIES}.items()
    remedy = next((remedy for pattern, remedy in known if re.search(pattern, counts[0]["values"])), "")
    remedy = _for_file(remedy, where)
    if adjustable and remedy.startswith("Number the ") and "pandas" in remedy:
        other = "Ids that are no numbers go through --interactions RATINGS.csv --items TITLES.csv, not --movielens"
        remedy = f"{other}. Or else: {remedy}"
    share = config.max_reject_share
    raise TooManyRejectsError(where, rejects.num_rows, total, share, reasons, remedy, adjustable)


def _for_file(remedy: str, where: object) -> str:
    """The remedy with the names of this data set's files; pandas reads CSV alone, so others are told in words."""
    file = PurePath(str(where)).name
    plain = file[:-3] if file.lower().endswith(".gz") else file
    if "pandas" in remedy and not plain.lower().endswith(".csv"):
        return f"{remedy.partition(': python')[0]}."
    if "TITLES" in remedy:
        titles, ratings = plain.replace("rating", "movie"), plain.replace("movie", "rating")
        remedy = remedy.replace("RATINGS", ratings).replace("TITLES", titles).replace(plain, "FILE")
    return runnable(remedy, where)


def whole_number(text: str, what: str) -> int:
    """Read a whole number, such as an id, by the one rule that holds for ids (``sdk.base.ids``).

    Args:
        text: the field.
        what: its name in the reason, e.g. ``user id``.

    Raises:
        BadRowError: missing, negative, not whole, or too large for 64 bits.
    """
    try:
        return whole_id(text)
    except NoIdError as error:
        raise BadRowError(f"the {what} {error}") from None


def is_unicode(text: str) -> bool:
    """Whether the text can be written as UTF-8, that is, holds no lone surrogate."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def sorted_order(user_id: Int64s, item_id: Int64s) -> Int64s | None:
    """The stable order that sorts pairs by user, then item; None where they are strictly ascending already.

    Args:
        user_id: (N,) int64, not negative.
        item_id: (N,) int64, not negative.
    """
    key = _pair_key(user_id, item_id)
    if bool(np.all(key[1:] > key[:-1])):
        return None
    return np.argsort(key, kind="stable")


def _pair_key(user_id: Int64s, item_id: Int64s) -> Int64s:
    """One int64 per pair that sorts as the pair does."""
    width = int(item_id.max(initial=0)) + 1
    if int(user_id.max(initial=0)) < (1 << 62) // width:
        return user_id * width + item_id
    items, item_rank = np.unique(item_id, return_inverse=True)
    return np.unique(user_id, return_inverse=True)[1] * len(items) + item_rank


def superseded(user_id: Int64s, item_id: Int64s, timestamps: Int64s, order: Int64s | None) -> Bools | None:
    """Which rows give way to another of the same (user, item): the latest stands, and of equals the later row.

    Args:
        user_id: (N,) int64.
        item_id: (N,) int64.
        timestamps: (N,) int64.
        order: what ``sorted_order`` gave for them.

    Returns:
        (N,) bool, True where the row gives way; None where no pair occurs twice.
    """
    if order is None:
        return None
    key = _pair_key(user_id, item_id)[order]
    same = key[1:] == key[:-1]  # sorted position p and p + 1 are the same pair
    if not same.any():
        return None
    grouped = np.flatnonzero(np.r_[same, False] | np.r_[False, same])
    rows, keys = order[grouped], key[grouped]
    by_time = np.lexsort((rows, timestamps[rows], keys))
    loses = np.r_[keys[by_time][1:] == keys[by_time][:-1], False]
    mask = np.zeros(len(user_id), dtype=np.bool_)
    mask[rows[by_time[loses]]] = True
    return mask
