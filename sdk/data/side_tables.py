"""Tables of items and of users, whoever made them: ids that are unique and ascend, and columns of known roles."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sdk.base import schema
from sdk.base.config import DataConfig
from sdk.base.description import FILMS, Role
from sdk.base.errors import DataError, MissingColumnError, UnusableFileError
from sdk.base.ids import as_texts, is_text, rows_of
from sdk.base.types import Bools, IdArray
from sdk.data.column_names import COUNTED, is_no_header, recognised
from sdk.data.columns import as_lists, as_text, of_role, unread
from sdk.data.id_columns import IdColumn
from sdk.data.readers import OpenTable, open_counted, open_table
from sdk.data.roles import Guess, guess_roles, words_of
from sdk.data.titles import clean_genres, split_title
from sdk.data.validation import DUPLICATE_ID, MISSING_TITLE, check_share, rejects_table
from sdk.data.whole_tables import Whole, read_whole

SideName = Literal["items", "users"]
KEYS: Mapping[SideName, str] = {"items": "item_id", "users": "user_id"}
_PEOPLE = frozenset(
    ["user", "users", "customer", "customers", "member", "members", "people", "household", "households"]
)
_TAKEN = re.compile(r"id|item_id|user_id|log_count|like_rate|content_\d+")  # what our tables call columns of their own
_REMEDIES = {"id is missing": "Give every row an id, or name the column that has them: --columns {key}=COLUMN."}


@dataclass(frozen=True, slots=True, eq=False)
class SideTable:
    """One table of items or users, as it was read.

    Attributes:
        ids: (N,) ascending ids, each once.
        table: the other columns, a row per id, as they came.
        rejects: ``schema.REJECTS``, the rows that were set aside.
        where: what it is, for messages.
    """

    ids: IdArray
    table: pa.Table
    rejects: pa.Table
    where: str

    def like(self, others: IdArray) -> SideTable:
        """The same, its ids as text where the others are."""
        if is_text(self.ids) or not is_text(others):
            return self
        ids = as_texts(self.ids)
        order = np.argsort(ids, kind="stable")
        return replace(self, ids=ids[order], table=self.table.take(pa.array(order)))

    def rows(self, ids: IdArray) -> pa.Table:
        """The rows of (M,) ids, of nulls where an id is not there."""
        at = rows_of(self.ids, ids)
        return self.table.take(pa.array(at, pa.int64(), mask=at < 0))


def union(some: IdArray, others: IdArray) -> IdArray:
    """Ascending ids of both, which are text where either is."""
    if is_text(some) or is_text(others):
        every = set(as_texts(some).tolist()) | set(as_texts(others).tolist())
        return np.array(sorted(every), dtype=object)
    return np.union1d(some, others)


def read_side(given: Any, side: SideName, columns: Mapping[str, str], config: DataConfig) -> SideTable:
    """Read a table of items or users, or several of the same columns.

    Args:
        given: as ``open_table`` takes it, or a list of such.
        side: which it is.
        columns: our name of a column -> the table's own; of it the ids' is read here.
        config: how many rows may be set aside.

    Raises:
        DataError: it cannot be read, has no column of ids, or too many of its rows are unusable.
    """
    read = read_whole(given, side)
    whole, where, key = read.table, read.where, KEYS[side]
    if not whole.num_rows:
        raise UnusableFileError(where, "it holds no rows", f"Leave --{side} out, or export it again.")
    name = id_column(whole.column_names, side, columns, where)
    column = IdColumn(key.replace("_", " "), where, name, untyped=name in read.untyped)
    values, faults = column.checked(whole[name])
    bad = np.logical_or.reduce([rows for _, rows in faults])
    column.keep(values, ~bad)
    ids, keys = column.finished()
    good = np.flatnonzero(~bad)
    first = good[np.unique(keys, return_index=True)[1]]  # in the order of the ids
    faults.append((DUPLICATE_ID, ~bad & ~np.isin(np.arange(len(bad)), first)))
    rejects = pa.concat_tables([read.rejects, _rejects(read, name, faults)])
    remedies = {pattern: remedy.format(key=key) for pattern, remedy in _REMEDIES.items()}
    check_share(where, rejects, len(whole) + len(read.rejects), config, remedies)
    return SideTable(ids, whole.drop_columns([name]).take(pa.array(first)), rejects, where)


def kind_of(given: Any, columns: Mapping[str, str]) -> Literal["interactions", "items", "users"]:
    """Which table this is, by its columns: of users and items both, of items, or of users.

    Raises:
        DataError: it cannot be read, or has neither.
    """
    source = _by_header(given, columns) or open_counted(given, "table", columns)
    has = {side: _id_name(source.columns, side, columns, bare=False) is not None for side in KEYS}
    if all(has.values()):
        return "interactions"
    if not any(has.values()):
        if "id" in {" ".join(words_of(name)) for name in source.columns}:
            return "users" if _PEOPLE & set(words_of(PurePath(source.where).stem)) else "items"
        names = ", ".join(source.columns[:40])
        remedy = "Name them: --columns user_id=COLUMN,item_id=COLUMN, or give the table by --items or --users."
        remedy = COUNTED if is_no_header(source.columns) else remedy
        raise DataError(f"{source.where}: no column is known to be of users' or items' ids (it has {names}). {remedy}")
    return "items" if has["items"] else "users"


def _by_header(given: Any, columns: Mapping[str, str]) -> OpenTable | None:
    """The table, where its header names somebody's ids: counted columns may be those of another table then."""
    with contextlib.suppress(UnusableFileError):
        source = open_table(given, "table")
        if any(_id_name(source.columns, side, columns, bare=True) is not None for side in KEYS):
            return source
    return None


def id_column(names: Iterable[str], side: SideName, columns: Mapping[str, str], where: str) -> str:
    """Which column holds the ids: the one that ``columns`` names, or the one whose name says so.

    Raises:
        DataError: none does.
    """
    names, key = list(names), KEYS[side]
    if (found := _id_name(names, side, columns, bare=True)) is not None:
        return found
    message = f"no column is known to be the {key} (it has {', '.join(names[:40])})"
    raise DataError(f"{where}: {message}. Name it: --columns {key}={names[0] if names else 'NAME'}.")


def _id_name(names: Sequence[str], side: SideName, columns: Mapping[str, str], *, bare: bool) -> str | None:
    """As told, else as tables of interactions call it, else, of a table of its own, ``id``."""
    if (wanted := columns.get(KEYS[side])) in names:
        return wanted
    if (found := recognised(side, KEYS[side], names)) is not None or not bare:
        return found
    return next((name for name in names if " ".join(words_of(name)) == "id"), None)


def _rejects(read: Whole, name: str, faults: Sequence[tuple[str, Bools]]) -> pa.Table:
    """The rows that have a fault, each for its first, file by file."""
    why = {row: reason for reason, rows in reversed(faults) for row in np.flatnonzero(rows).tolist()}
    tables, column = [schema.REJECTS.empty_table()], read.table[name]
    for file in dict.fromkeys(read.files[row] for row in sorted(why)):
        rows = [row for row in sorted(why) if read.files[row] == file]
        texts = (f"{name} = {column[row].as_py()}" if column[row].is_valid else "" for row in rows)
        numbers = (int(read.numbers[row]) for row in rows)
        tables.append(rejects_table(file, list(zip(numbers, map(why.__getitem__, rows), texts, strict=True))))
    return pa.concat_tables(tables)


def is_films(table: pa.Table) -> bool:
    """Whether a table of items, without its ids, has MovieLens's columns and no others: title and genres at least."""
    names = {_film_name(name) for name in table.column_names}
    return {"title", "genres"} <= names <= FILMS.keys()


def _film_name(name: str) -> str:
    return "_".join(words_of(name))


def films_of(side: SideTable) -> SideTable:
    """MovieLens's titles with the columns of ``schema.ITEMS``; a year is taken out of titles that end in one.

    A row without a title is set aside, as it is among MovieLens's own files.

    Raises:
        MissingColumnError: they have no titles.
    """
    table = side.table.rename_columns([_film_name(name) for name in side.table.column_names])
    if "title" not in table.column_names:
        raise MissingColumnError(side.where, "title", table.column_names)
    raw = as_text(table["title"]).fill_null("").to_pylist()
    parted = [(name, None) if "year" in table.column_names else split_title(name) for name in raw]
    good = np.array([bool(name) for name, _ in parted])
    columns: dict[str, list[Any]] = {"title": [name for name, _ in parted], "year": [year for _, year in parted]}
    if "year" in table.column_names:
        columns["year"] = of_role(table["year"], "continuous", f"{side.where}: column 'year'").to_pylist()
    if "genres" in table.column_names:
        columns["genres"] = [clean_genres(row) for row in as_lists(table["genres"]).to_pylist()]
    whole = pa.table([_film_column(table, field, columns) for field in schema.ITEMS.remove(0)], names=list(FILMS))
    rows = np.flatnonzero(~good)
    lost = rejects_table("items", [(0, MISSING_TITLE, str(side.ids[row])) for row in rows.tolist()])
    kept = pa.array(np.flatnonzero(good))
    return replace(
        side, ids=side.ids[good], table=whole.take(kept), rejects=pa.concat_tables([side.rejects, lost])
    )  # fmt: skip


def _film_column(table: pa.Table, field: pa.Field, made: Mapping[str, list[Any]]) -> pa.Array:
    if field.name in made:
        return pa.array(made[field.name]).cast(field.type)
    if field.name in table.column_names:
        found = of_role(table[field.name], FILMS[field.name], field.name)
        return found.cast(field.type).combine_chunks()
    nothing = None if field.nullable else [] if pa.types.is_list(field.type) else ""
    return pa.array([nothing] * len(table), field.type)


def described(
    table: pa.Table, side: SideName, ids: IdArray, roles: Mapping[str, str], where: str
) -> tuple[pa.Table, dict[str, Role], list[str]]:
    """Columns as their roles have them, with the ids in front.

    Args:
        table: the other columns, a row per id.
        side: items or users.
        ids: (N,) ascending.
        roles: column -> role, where the guess is not to stand.
        where: what the table is, for messages.

    Returns:
        The table; the role of each column, under the name that it has there; and what else is worth saying.

    Raises:
        UsageError: a role or a column that is given is unknown.
        DataError: a column cannot have the role that was given.
    """
    guesses = guess_roles(table, side, roles)
    names = _names(guesses, side)
    columns, notes = {KEYS[side]: pa.array(ids, schema.id_type(ids))}, []
    for column, guess in guesses.items():
        if pa.types.is_nested(table[column].type) and guess.role == "ignore":
            notes.append(f"{where}: column {column!r} is left out: {guess.why}")
            continue
        found = of_role(table[column], guess.role, f"{where}: column {column!r}")
        if lost := unread(table[column], found):
            notes.append(f"{where}: column {column!r}: {lost:,} values are not of role {guess.role!r}, and left empty")
        columns[names[column]] = found
    kept: dict[str, Role] = {names[name]: guess.role for name, guess in guesses.items() if names[name] in columns}
    if side == "items":
        _add_titles(columns, kept, ids)
    made = pa.table(columns).select([KEYS[side], *kept])
    return made.combine_chunks(), kept, notes


def _names(guesses: Mapping[str, Guess], side: SideName) -> dict[str, str]:
    """What each column is called: the title ``title``, and no column as one of our own."""
    found: dict[str, str] = {}
    title = next((name for name, guess in guesses.items() if guess.role == "title"), None)
    for name in guesses:
        plain_name = "title" if name == title else name.partition(":")[0]
        while (side == "items" and plain_name == "title" and name != title) or _TAKEN.fullmatch(plain_name):
            plain_name += "_"
        while plain_name in found.values():
            plain_name += "_"
        found[name] = plain_name
    return found


def _add_titles(columns: dict[str, Any], roles: dict[str, Role], ids: IdArray) -> None:
    """A display name for every item: its id where it has none."""
    texts = pa.array(as_texts(ids), pa.string())
    if "title" not in columns:
        columns["title"] = texts
        roles["title"] = "ignore"
        return
    named = pa.chunked_array(columns["title"]) if isinstance(columns["title"], pa.Array) else columns["title"]
    columns["title"] = pc.if_else(pc.equal(named, ""), texts, named)
