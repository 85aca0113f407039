"""Anybody's data set: interactions, and items and users where they are known, as a ``Dataset``."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Any, NamedTuple

import pyarrow as pa

from sdk.base import schema
from sdk.base.config import DataConfig
from sdk.base.description import FILMS, PEOPLE, Description, Feedback, Role
from sdk.base.errors import DataError, MissingColumnError
from sdk.base.ids import as_texts, is_text, rows_of
from sdk.base.paths import as_path
from sdk.base.types import Dataset, IdArray, Int64s, Interactions
from sdk.data.column_names import ROLES, columns_of
from sdk.data.dataset_file import read_dataset_file
from sdk.data.events import Loaded, read_interactions
from sdk.data.fingerprint import fingerprint
from sdk.data.readers import open_counted
from sdk.data.side_tables import SideTable, described, films_of, is_films, read_side, union
from sdk.data.validation import sorted_order

log = logging.getLogger(__name__)
_DEFAULT = DataConfig()


def dataset(
    interactions: Any,
    items: Any = None,
    users: Any = None,
    *,
    columns: Mapping[str, str] | None = None,
    events: Mapping[str, float] | None = None,
    seen: Collection[str] | None = None,
    item_roles: Mapping[str, str] | None = None,
    user_roles: Mapping[str, str] | None = None,
    name: str | None = None,
    item: str = "",
    feedback: Feedback | None = None,
    scale: Sequence[float] | None = None,
    config: DataConfig = _DEFAULT,
) -> Dataset:
    """A data set of anybody's tables: pandas, Polars, Arrow, DuckDB, or paths, URLs and queries.

    Rows that cannot be used are set aside, each with file, row and reason. With items, so are interactions of others.

    Args:
        interactions: who met what: ``user_id`` and ``item_id``, and where known ``rating`` or ``weight``, ``event`` and
            ``timestamp``, under these or other common names. Or the path of a ``dataset.toml``, which names all else.
        items: the catalogue; None takes the items of the interactions, of which nothing else is known.
        users: what is known of users; of who is not in it, nothing is.
        columns: our name of a column -> the tables' own, such as ``{"item_id": "sku"}``.
        events: kind of event -> its weight.
        seen: the events that take an item out of the user's lists; None: all do.
        item_roles: column of the items -> its role (``sdk.base.description``), where the guess is not right.
        user_roles: likewise of users.
        name: what the data set is called in reports; None calls it as its file or folder is called.
        item: what one of the items is called in reasons and pages, ``product``; "" calls it ``item``.
        feedback: ``explicit`` or ``implicit``; None: what the columns say, ratings or none.
        scale: the least and the greatest rating that there may be; None for any.
        config: how many rows may be set aside.

    Raises:
        UsageError: an argument is no table, or names a column or a role that is not there.
        DataError: the data cannot be used.
    """
    if isinstance(interactions, str | os.PathLike) and os.fspath(interactions).endswith(".toml"):
        path = as_path(interactions)
        return dataset(**read_dataset_file(path).arguments(path.parent), config=config)
    told = dict(columns or {})
    return gather(
        interactions, items, users, columns=told, events=events, seen=seen, item_roles=item_roles,
        user_roles=user_roles, name=name, item=item, feedback=feedback, scale=scale, config=config,
    ).together()  # fmt: skip


def from_tables(
    ratings: Any, items: Any, users: Any = None, *, name: str = "tables", config: DataConfig = _DEFAULT
) -> Dataset:
    """``dataset`` of tables with MovieLens's columns, which sets nothing aside: what cannot be used is refused.

    Args:
        ratings: ``user_id``, ``item_id``, ``rating`` and ``timestamp``, one row per user and item.
        items: ``item_id`` and ``title``, and what is known of the other columns of ``schema.ITEMS``.
        users: ``user_id`` and what is known of the columns of ``schema.USERS``; None takes who has rated.
        name: what the data set is called in reports.
        config: the rating scale.

    Raises:
        UsageError: one of them is no table.
        MissingColumnError: a column is missing.
        DataError: a row cannot be used, an id occurs twice, a rating is off the scale or of an unknown user or item.
    """
    scale, strict = (config.rating_min, config.rating_max), replace(config, max_reject_share=0.0)
    read = gather(
        ratings, items, users, columns={}, name=name, feedback="explicit", scale=scale, config=strict, of="ratings",
        films=True,
    )  # fmt: skip
    if read.loaded.feedback == "implicit":
        raise MissingColumnError("ratings", "rating", list(read.loaded.columns.values()))  # noqa: EM101
    if again := read.loaded.counts["merged"]:
        message = f"ratings: {again:,} are of a user and an item that have another rating. Leave one of each."
        raise DataError(message)
    if read.users is not None and (strange := len(union(read.users.ids, read.loaded.user_id)) - len(read.users.ids)):
        raise DataError(f"ratings: {strange:,} users who rated are not in users. Add them, or leave users out.")
    return read.together()


def gather(
    interactions: Any, items: Any = None, users: Any = None, *, columns: Mapping[str, str],
    events: Mapping[str, float] | None = None, seen: Collection[str] | None = None,
    item_roles: Mapping[str, str] | None = None, user_roles: Mapping[str, str] | None = None, name: str | None = None,
    item: str = "", feedback: Feedback | None = None, scale: Sequence[float] | None = None,
    config: DataConfig = _DEFAULT, of: str = "interactions", films: bool = False,
) -> Tables:  # fmt: skip
    """All tables, read and not yet put together; arguments and errors as ``dataset``'s.

    ``of`` is what the interactions are called in messages; ``films``: the items are titles, whatever columns they have.
    """
    catalogue = None if items is None else read_side(items, "items", columns, config)
    films = catalogue is not None and not item_roles and (films or is_films(catalogue.table))
    catalogue = films_of(catalogue) if films and catalogue is not None else catalogue
    people = None if users is None else read_side(users, "users", columns, config)
    told = {role: column for role, column in columns.items() if role in ROLES}
    told = told if feedback is None else of_feedback(interactions, told, feedback, of)
    loaded = read_interactions(
        interactions, name=of, columns=told, events=events, seen=seen or (), config=config,
        items=None if catalogue is None else catalogue.ids,
    )  # fmt: skip
    _require_scale(loaded, scale, of)
    called = name or name_of(interactions)
    how = {"item": item, "columns": told, "events": dict(events or {}), "seen": tuple(seen or ())}
    return Tables(called, loaded, catalogue, people, item_roles or {}, user_roles or {}, films, how)


def of_feedback(
    interactions: Any, told: Mapping[str, str], feedback: Feedback, of: str = "interactions"
) -> dict[str, str]:
    """The columns with ratings as weights, or weights as ratings, where the feedback is to be of that kind."""
    source = open_counted(interactions, of, told)
    used = columns_of(source.where, source.columns, told)
    role, other = ("rating", "weight") if feedback == "explicit" else ("weight", "rating")
    return {**used, role: used[other], other: ""} if other in used and role not in used else dict(told)


def _require_scale(loaded: Loaded, scale: Sequence[float] | None, of: str) -> None:
    if not scale:
        return
    least, most = loaded.scale
    if least < min(scale) or most > max(scale):
        found = f"ratings from {least:g} to {most:g}, expected {min(scale):g} to {max(scale):g} by its scale"
        raise DataError(f"{of}: {found}. Mend the rows, or the scale in dataset.toml.")


def name_of(given: Any) -> str:
    """What a data set is called after its interactions: their file's or folder's name; ``tables`` of any others."""
    given = given[0] if isinstance(given, list | tuple) and given else given
    text = str(given) if isinstance(given, str | Path) else ""
    if text.lower().startswith("duckdb:"):
        return "tables"
    return PurePath(text.rstrip("/")).name.split(".")[0] or "tables"


class Tables(NamedTuple):
    """What was read, and the roles that were given; ``films``: the items are MovieLens's titles."""

    name: str
    loaded: Loaded
    items: SideTable | None
    users: SideTable | None
    item_roles: Mapping[str, str]
    user_roles: Mapping[str, str]
    films: bool
    how: Mapping[str, Any]  # items are called, and the interactions were read, for newer ones

    def together(self) -> Dataset:
        """All of it in one order, as described."""
        loaded = self.loaded
        items = self.items.like(loaded.item_id) if self.items is not None else _bare(loaded.item_id, "items")
        users = self.users.like(loaded.user_id) if self.users is not None else _bare(loaded.user_id, "users")
        user_ids = union(users.ids, loaded.user_id)
        item_ids = items.like(loaded.item_id).ids
        pairs = _onto(loaded, user_ids, item_ids)
        item_table, of_items, notes = (
            _films(items) if self.films else described(items.table, "items", item_ids, self.item_roles, items.where)
        )
        user_table, of_users, more = self._people(users, user_ids)
        for note in (*notes, *more):
            log.warning("%s", note)
        about = Description(feedback=loaded.feedback, items=of_items, users=of_users, **self.how)
        rejects = pa.concat_tables([loaded.rejects, items.rejects, users.rejects]).combine_chunks()
        return _finished(self.name, pairs, item_table, user_table, rejects, about, loaded.counts)

    def _people(self, users: SideTable, ids: IdArray) -> tuple[pa.Table, Mapping[str, Role], list[str]]:  # fmt: skip
        table = users.rows(ids)
        if self.films and not self.user_roles and set(table.column_names) <= PEOPLE.keys():
            known = {name: table[name] for name in table.column_names}
            nothing = [known.get(name, pa.nulls(len(ids))) for name in PEOPLE]
            whole = pa.table([pa.array(ids, schema.id_type(ids)), *nothing], names=["user_id", *PEOPLE])
            return whole, PEOPLE, []
        return described(table, "users", ids, self.user_roles, users.where)


def _bare(ids: IdArray, side: Any) -> SideTable:
    """A side of which only ids are known."""
    nothing = pa.table({"": pa.nulls(len(ids))}).select([])
    return SideTable(ids, nothing, schema.REJECTS.empty_table(), f"{side} of the interactions")


def _films(items: SideTable) -> tuple[pa.Table, Mapping[str, Role], list[str]]:
    """MovieLens's titles, as ``films_of`` gave them."""
    return items.table.add_column(0, "item_id", pa.array(items.ids, schema.id_type(items.ids))), FILMS, []


def _onto(loaded: Loaded, users: IdArray, items: IdArray) -> Interactions:
    """The pairs under the keys of all users and items."""
    pairs = loaded.interactions
    user, item = _keys(users, loaded.user_id, pairs.user_id), _keys(items, loaded.item_id, pairs.item_id)
    return replace(pairs, user_id=user, item_id=item)


def _keys(known: IdArray, found: IdArray, keys: Int64s) -> Int64s:
    """Keys among the ids found as keys among the known, which hold them all."""
    if not is_text(known):
        return keys
    return rows_of(known, as_texts(found))[keys if is_text(found) else rows_of(found, keys)]


def _finished(
    name: str, pairs: Interactions, items: pa.Table, users: pa.Table, rejects: pa.Table, about: Description,
    counts: Mapping[str, int],
) -> Dataset:  # fmt: skip
    items = items.cast(schema.table_layout("item_id", about, items.schema)).combine_chunks()
    users = users.cast(schema.table_layout("user_id", about, users.schema)).combine_chunks()
    digest = fingerprint(pairs, items, users, sorted_order(pairs.user_id, pairs.item_id), about)
    sizes = (f"{number:,}" for number in (len(pairs), len(items), len(users), rejects.num_rows))
    log.info("%s: %s pairs, %s items, %s users; %s rows set aside", name, *sizes)
    return Dataset(name, pairs, items, users, rejects, digest, about, counts)
