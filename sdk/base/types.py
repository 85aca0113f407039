"""The frozen values that pass between stages. Each checks itself once, when it is made."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from sdk.base.description import Description

Int64s = NDArray[np.int64]
Int32s = NDArray[np.int32]
Float32s = NDArray[np.float32]
Float64s = NDArray[np.float64]
Bools = NDArray[np.bool_]
IdArray: TypeAlias = NDArray[Any]
"""Ids as they came: int64, or text, whose dtype is object. Known ids ascend; text by its UTF-8 bytes."""
Id = int | str


class Column(Protocol):
    """A column of NumPy, pandas, Polars or pyarrow."""

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        """Its values as an array."""


Ids = Iterable[int | str] | Column
"""Ids of users or titles: a list, a set, an array, a column (``sdk.base.ids``)."""


class ArrowStream(Protocol):
    """A table of Polars, pyarrow, DuckDB, or of whatever has the Arrow PyCapsule interface."""

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """Its rows."""


Table: TypeAlias = "ArrowStream | pd.DataFrame | pa.Table"
"""A table of any kind (``sdk.base.arrow_tables.as_table``); pandas has the interface from 2.2 on."""
Query = Literal["user_id", "item_id", "row"]
"""What a list answers: a user, a title, or (``row``) neither, such as a visitor's likes."""


def _require_same_length(value: object, *names: str) -> None:
    lengths = {name: len(getattr(value, name)) for name in names}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"{type(value).__name__}: columns differ in length: {lengths}")


def taken(indptr: Int64s, rows: Int64s) -> tuple[Int64s, Int64s]:
    """The ``indptr`` of some compressed sparse rows, in that order, and (N,) int64 where their entries stand."""
    lengths = indptr[rows + 1] - indptr[rows]
    found = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
    return found, np.repeat(indptr[rows] - found[:-1], lengths) + np.arange(found[-1])


@dataclass(frozen=True, slots=True, eq=False)
class Repeats:
    """Each event of the pairs that came more than once: what was known of a pair at any moment.

    Attributes:
        indptr: (N + 1,) int64; pair n's events are ``indptr[n]:indptr[n + 1]``, none where it came once.
        weight: (E,) float32 of each event.
        timestamp: (E,) int64 seconds, ascending within a pair.
    """

    indptr: Int64s
    weight: Float32s
    timestamp: Int64s

    def take(self, rows: Int64s) -> Repeats:
        """Those of (M,) pairs, in that order."""
        indptr, events = taken(self.indptr, rows)
        return Repeats(indptr, self.weight[events], self.timestamp[events])

    def first(self, timestamp: Int64s) -> Int64s:
        """(N,) int64 time at which each pair began; ``timestamp``: (N,) its latest."""
        out, several = timestamp.copy(), np.diff(self.indptr) > 0
        out[several] = self.timestamp[self.indptr[:-1][several]]
        return out

    def came(self, start: int, end: int, timestamp: Int64s) -> Bools:
        """(N,) bool, which pairs came from ``start`` on and before ``end``; ``timestamp``: (N,) the latest of each."""
        pair = np.repeat(np.arange(len(timestamp)), np.diff(self.indptr))
        within: Bools = (timestamp >= start) & (timestamp < end)
        within[pair[(self.timestamp >= start) & (self.timestamp < end)]] = True
        return within

    def as_of(self, moment: int, rating: Float32s, timestamp: Int64s) -> tuple[Float32s, Int64s]:
        """Each pair's weight and latest time by its events before a moment; as given, of those that began no earlier.

        Args:
            moment: seconds.
            rating: (N,) float32, what each pair weighs in all.
            timestamp: (N,) int64, its latest time.
        """
        pair = np.repeat(np.arange(len(rating)), np.diff(self.indptr))
        early = self.timestamp < moment
        weight = np.bincount(pair[early], self.weight[early], len(rating))
        newest = np.zeros(len(rating), np.int64)
        np.maximum.at(newest, pair[early], self.timestamp[early])
        changed = weight > 0
        found = np.minimum(weight.astype(np.float32), rating)
        return np.where(changed, found, rating), np.where(changed, newest, timestamp)


@dataclass(frozen=True, slots=True, eq=False)
class Interactions:
    """Ratings, or events of which each is a like of its weight; one row per (user, item) pair.

    Attributes:
        user_id: (N,) int64; where ids are text, their places in ``Dataset.users`` (``Dataset.user_keys``).
        item_id: (N,) int64; where ids are text, their places in ``Dataset.items`` (``Dataset.item_keys``).
        rating: (N,) float32, stars; of implicit feedback the weight.
        timestamp: (N,) int64, seconds since 1970-01-01 UTC; all 0 where it is not known.
        seen: (N,) bool, False where the pair does not take the item out of the user's lists, as a view; None: none.
        repeats: the events that were added up to pairs; None where none were, or nothing says when.
    """

    user_id: Int64s
    item_id: Int64s
    rating: Float32s
    timestamp: Int64s
    seen: Bools | None = None
    repeats: Repeats | None = None

    def __post_init__(self) -> None:
        _require_same_length(
            self, "user_id", "item_id", "rating", "timestamp", *([] if self.seen is None else ["seen"])
        )

    def __len__(self) -> int:
        return len(self.user_id)

    def take(self, rows: Int64s | Bools) -> Interactions:
        """The given rows (a boolean mask or row numbers), in that order."""
        seen = None if self.seen is None else self.seen[rows]
        again = None if self.repeats is None else self.repeats.take(np.arange(len(self))[rows])
        columns = (self.user_id[rows], self.item_id[rows], self.rating[rows], self.timestamp[rows])
        return Interactions(*columns, seen, again)

    @property
    def since(self) -> Int64s:
        """(N,) int64 seconds, when each pair began; what parts pairs by time."""
        return self.timestamp if self.repeats is None else self.repeats.first(self.timestamp)

    def as_of(self, moment: int) -> Interactions:
        """The same pairs; those that began before a moment as they were then, by events before it."""
        if self.repeats is None:
            return self
        rating, timestamp = self.repeats.as_of(moment, self.rating, self.timestamp)
        return replace(self, rating=rating, timestamp=timestamp)


def _of_films() -> Description:
    from sdk.base.description import Description

    return Description()


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """A validated data set.

    Attributes:
        name: what it is called in reports, e.g. ``ml-latest-small``.
        interactions: ratings, unique by (user, item); every item_id is in ``items``, every user_id in ``users``.
        items: the catalogue, ascending by item_id, unique: of MovieLens ``schema.ITEMS``, else ``item_id`` (int64 or
            string), ``title`` and the columns that ``about`` describes.
        users: likewise: of MovieLens ``schema.USERS``.
        rejects: ``schema.REJECTS``, the rows that were set aside.
        fingerprint: hex sha256 of the accepted content; the same data give the same fingerprint.
        about: what the columns mean.
        counts: of the rows of interactions that were read: ``rows`` are ``kept``, ``merged`` with others of their pair,
            ``rejected``, or passed over (``other_events``, ``later``); empty where nobody counted.

    Raises:
        DataError: ids do not ascend or occur twice, a pair is of an unknown id, or a column is not as described.
    """

    name: str
    interactions: Interactions
    items: pa.Table
    users: pa.Table
    rejects: pa.Table
    fingerprint: str
    about: Description = field(default_factory=_of_films)
    counts: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        from sdk.base.dataset_check import check_ids, check_side

        pairs = self.interactions
        check_ids("items", self.items, "item_id")
        check_ids("users", self.users, "user_id")
        check_side("items", self.items, self.about, pairs.item_id, self.item_keys)
        check_side("users", self.users, self.about, pairs.user_id, self.user_keys)

    @property
    def user_keys(self) -> Int64s:
        """(U,) int64, ascending: what ``interactions.user_id`` calls each row of ``users``."""
        return keys_of(self.users, "user_id")

    @property
    def item_keys(self) -> Int64s:
        """(I,) int64, ascending: what ``interactions.item_id`` calls each row of ``items``."""
        return keys_of(self.items, "item_id")


def keys_of(table: pa.Table, name: str) -> Int64s:
    """(R,) int64, ascending: the ids of a table of users or items, or where they are text their places in it."""
    import pyarrow as pa

    from sdk.base.arrow_tables import numbers_in

    is_text = pa.types.is_string(table.schema.field(name).type)
    keys: Int64s = np.arange(table.num_rows) if is_text else numbers_in(table[name]).astype(np.int64)
    return keys


def nobody(ids: IdArray) -> Any:
    """What stands among ids of this kind where there is none: -1, or the empty text."""
    return "" if ids.dtype == object else -1


@dataclass(frozen=True, slots=True, eq=False)
class TopK:
    """The best items of each query row, best first.

    Attributes:
        item_id: (B, k) int64, or object where ids are text. Row b is real up to ``lengths[b]``; ignore the rest.
        scores: (B, k) float32. They rank one row of one model; never compare two models' or two rows'.
        lengths: (B,) int32. Below k where a user has fewer than k unseen items.
        source: (B,) str: the model that made row b (``dlrm``, ``ncf``, ``history``, ``content`` or ``popular``).
        query: what the rows answer: users (``user_id``), titles (``item_id``), or something without an id (``row``).
        query_id: (B,) int64 or object, the id that row b answers; None where ``query`` is ``row``.
        propensity: (B, k) float64, of lists that were drawn the log-probability of each place given those above; else
            None.

    It has the Arrow PyCapsule interface, so that ``pa.table``, ``pl.DataFrame`` and DuckDB read it as it is.
    """

    item_id: IdArray
    scores: Float32s
    lengths: Int32s
    source: NDArray[np.str_]
    query: Query = "row"
    query_id: IdArray | None = None
    propensity: Float64s | None = None

    def __post_init__(self) -> None:
        if self.item_id.shape != self.scores.shape:
            raise ValueError(f"TopK: item_id is {self.item_id.shape}, scores {self.scores.shape}")
        if self.query not in get_args(Query) or (self.query == "row") != (self.query_id is None):
            raise ValueError(f"TopK: query is {self.query!r}, query_id {type(self.query_id).__name__}")
        _require_same_length(self, "item_id", "lengths", "source", *(["query_id"] if self.query != "row" else []))

    def __len__(self) -> int:
        return len(self.item_id)

    def row(self, b: int) -> tuple[IdArray, Float32s]:
        """Row b's real item ids and scores, best first."""
        n = int(self.lengths[b])
        return self.item_id[b, :n], self.scores[b, :n]

    def answering(self, query: Query, query_id: IdArray) -> TopK:
        """The same lists, as those of (B,) users or titles."""
        return replace(self, query=query, query_id=np.array(query_id))

    def to_arrow(
        self, titles: Callable[[IdArray], Sequence[str]] | None = None, item_ids: IdArray | None = None
    ) -> pa.Table:
        """The lists as one table, a row per (query, rank), without nulls: the columns of a night's Parquet parts.

        ``user_id`` int64 (of look-alikes ``item_id``; of lists that answer no id ``row``, counted from 0), ``rank``
        int32 from 1, ``item_id`` int64 (of look-alikes ``similar_item_id``), ``score`` float32, ``source`` string.
        Ids that are text are strings.

        Args:
            titles: what gives (N,) item ids their names, such as ``bundle.titles``: they stand in a column ``title``.
            item_ids: (R,) the ids of a table's rows, where these lists are of its rows.
        """
        import pyarrow as pa

        from sdk.base.arrow_tables import long_form, named_by, real_places
        from sdk.base.schema import LISTS, PROPENSITY, TITLE, with_ids

        real = real_places(self.lengths, self.item_id.shape[1])
        queries = np.arange(len(self)) if self.query_id is None else self.query_id
        names, codes = np.unique(self.source, return_inverse=True)
        found, made_by = self.item_id[real], np.repeat(codes, self.lengths)
        answers = found if item_ids is None else named_by(item_ids, found)
        layout = with_ids(LISTS[self.query], queries, self.item_id if item_ids is None else item_ids)
        table = long_form(layout, real, queries, answers, self.scores[real], names, made_by)
        if self.propensity is not None:
            table = table.append_column(PROPENSITY, pa.array(self.propensity[real]))
        if titles is None:
            return table
        known, at = np.unique(answers, return_inverse=True)  # of a title that stands in many lists, its name once
        return table.append_column(TITLE, pa.array(titles(known), pa.string()).take(pa.array(at)))

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """``to_arrow`` for whatever reads the Arrow PyCapsule interface."""
        return self.to_arrow().__arrow_c_stream__(requested_schema)


def put_together(parts: Sequence[tuple[Int64s, TopK]], num_rows: int, width: int) -> TopK:
    """Lists of some rows each, later ones instead of earlier ones, in row order, cut or padded to one width."""
    empty = BestRows.empty(num_rows, width)
    source = np.full(num_rows, "", dtype="<U16")
    some = parts[0][1].item_id if parts else empty.row
    item_id = np.full((num_rows, width), nobody(some), dtype=some.dtype)
    drawn = any(lists.propensity is not None for _, lists in parts)
    propensity = np.zeros((num_rows, width)) if drawn else None
    for rows, lists in parts:
        columns = min(width, lists.item_id.shape[1])
        item_id[rows, :columns] = lists.item_id[:, :columns]
        empty.scores[rows, :columns] = lists.scores[:, :columns]
        empty.lengths[rows], source[rows] = np.minimum(lists.lengths, width), lists.source
        if propensity is not None and lists.propensity is not None:
            propensity[rows, :columns] = lists.propensity[:, :columns]
    return TopK(item_id, empty.scores, empty.lengths, source, propensity=propensity)


@dataclass(frozen=True, slots=True, eq=False)
class BestRows:
    """The best rows of a table for each query, best first; equal scores go to the smaller row.

    Attributes:
        row: (B, k) int64, -1 past the query's length.
        scores: (B, k) float32, -inf past the query's length.
        lengths: (B,) int32.
    """

    row: Int64s
    scores: Float32s
    lengths: Int32s

    @classmethod
    def empty(cls, num_queries: int, k: int) -> BestRows:
        """Lists without a row, to be filled in place."""
        return cls(
            np.full((num_queries, k), -1, np.int64),
            np.full((num_queries, k), -np.inf, np.float32),
            np.zeros(num_queries, np.int32),
        )

    def named(self, ids: IdArray, source: NDArray[np.str_]) -> TopK:
        """The same lists of ids; ``source`` says what made each. Past a list's end stands -1, or "" among text."""
        return TopK(np.where(self.row >= 0, ids[self.row], nobody(ids)), self.scores, self.lengths, source)

    @property
    def item_index(self) -> Int64s:
        """``row``, where the table is that of the items."""
        return self.row
