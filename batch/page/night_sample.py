"""The sample of a night that its report is drawn from: users by a fixed rule, whatever the night's size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from batch.checks.audit import parts_of, published_part
from batch.store.layout import USER_ITEMS
from batch.store.target import Target
from sdk.base.types import Bools, Float32s, Float64s, IdArray, Int32s, Int64s
from sdk.features.tables import FIRST_KNOWN, EncodedTable
from sdk.scoring.recommender import POPULAR

MAX_USERS = 20_000
MAX_ROWS = 1_000_000
TOP = 10
LEAST_PARTS = 8
_COLUMNS = ["user_id", "rank", "item_id", "score", "source"]


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """Lists of some users: N rows of U users.

    Attributes:
        users: (U,) ids, ascending as in the parts.
        user: (N,) int64, the row's place in ``users``.
        rank: (N,) int32 from 1.
        item: (N,) ids.
        score: (N,) float32.
        fallback: (N,) bool, whether popularity made the row.
        parts: names of the parts that were read.
    """

    users: IdArray
    user: Int64s
    rank: Int32s
    item: IdArray
    score: Float32s
    fallback: Bools
    parts: tuple[str, ...]

    @classmethod
    def of(cls, rows: pd.DataFrame, parts: Sequence[str]) -> Sample:
        """From rows whose lists are runs of one user's."""
        user, users = pd.factorize(rows["user_id"])
        rank, score = rows["rank"].to_numpy(), rows["score"].to_numpy()
        popular = (rows["source"] == POPULAR).to_numpy()
        return cls(_plain(users), user, rank, _plain(rows["item_id"]), score, popular, tuple(parts))


def sample_users(target: Target, folder: str) -> Sample:
    """Users spread evenly over a night: all of them where they are at most 20,000, with at most 1,000,000 rows.

    A few parts are read, at even distances, and of each the lists at even distances.

    Args:
        target: where the night lies.
        folder: the night, staged or published.

    Raises:
        OutputError: a part cannot be read.
    """
    paths = parts_of(target, f"{folder}/{USER_ITEMS}")
    if not paths:
        return Sample.of(pd.DataFrame({name: [] for name in _COLUMNS}), ())
    first = _read(target, paths[0])
    users, rows = max(first["user_id"].nunique(), 1), max(len(first), 1)
    most = max(min(MAX_USERS, MAX_ROWS * users // rows), 1)
    chosen = [paths[i] for i in _spread(len(paths), max(-(-most // users), LEAST_PARTS))]
    each = max(most // len(chosen), 1)
    found = [_thinned(first if path == paths[0] else _read(target, path), each) for path in chosen]
    return Sample.of(pd.concat(found, ignore_index=True), [path.rpartition("/")[2] for path in chosen])


def same_parts(target: Target, folder: str, parts: Sequence[str]) -> Iterator[Sample]:
    """The parts of another night that have these names, one at a time: mostly the same users, as ids ascend.

    Raises:
        OutputError: a part cannot be read.
    """
    for path in parts_of(target, f"{folder}/{USER_ITEMS}"):
        if path.rpartition("/")[2] in parts:
            yield Sample.of(_read(target, path), ())


def _read(target: Target, path: str) -> pd.DataFrame:
    rows: pd.DataFrame = published_part(target, path, _COLUMNS).to_pandas()
    return rows


def _plain(ids: pd.Series[Any] | pd.Index[Any]) -> IdArray:
    """Ids as an array of numbers or of Python's texts, where pandas holds them as categories or its own strings."""
    return ids.to_numpy() if pd.api.types.is_integer_dtype(ids.dtype) else ids.astype(object).to_numpy()


def _spread(count: int, most: int) -> Int64s:
    """At most ``most`` places of ``count``, at even distances, the first among them."""
    return np.unique(np.linspace(0, count, min(count, most), endpoint=False).astype(np.int64))


def _thinned(part: pd.DataFrame, most: int) -> pd.DataFrame:
    users = part["user_id"].unique()
    return part[part["user_id"].isin(users[_spread(len(users), most)])]


def coverage_by_rank(sample: Sample, titles: EncodedTable) -> Float64s:
    """(k,) share of the catalogue that stands in a sampled list at this rank or a better one."""
    depth = int(sample.rank.max()) if len(sample.rank) else 0
    return _shares_reached(sample, sample.rank - 1, depth, titles)


def coverage_by_users(sample: Sample, titles: EncodedTable) -> Float64s:
    """(U,) share of the catalogue in the lists of the first so many sampled users, in an order drawn with seed 0."""
    order = np.random.default_rng(0).permutation(len(sample.users))
    return _shares_reached(sample, order[sample.user], len(order), titles)


def _shares_reached(sample: Sample, step: Int64s | Int32s, steps: int, titles: EncodedTable) -> Float64s:
    """(steps,) share of the titles that a row names at this step or an earlier one."""
    place, num_titles = titles.index_of(sample.item) - FIRST_KNOWN, len(titles.known_ids)
    known = (place >= 0) & (step >= 0)
    first = np.full(num_titles, steps, dtype=np.int64)
    np.minimum.at(first, place[known], step[known])
    return np.bincount(first, minlength=steps + 1)[:steps].cumsum() / max(num_titles, 1)


def churn(sample: Sample, before: Sample) -> Float64s:
    """(C,) share of the titles in a user's top 10 that were not in it the night before, for users in both.

    Args:
        sample: tonight's.
        before: of the night before.
    """
    if (sample.users.dtype, sample.item.dtype) != (before.users.dtype, before.item.dtype):
        return np.zeros(0)  # the data set's ids are of another type since
    now, old = (_top(one) for one in (sample, before))
    both = now[now["user"].isin(old["user"])].merge(old.drop_duplicates(), how="left", indicator="new")
    fresh = both["new"].eq("left_only")
    return fresh.groupby(both["user"]).mean().to_numpy().astype(np.float64)


def _top(sample: Sample) -> pd.DataFrame:
    top = sample.rank <= TOP
    return pd.DataFrame({"user": sample.users[sample.user[top]], "item": sample.item[top]})
