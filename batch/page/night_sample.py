"""The sample of a night that its report is drawn from: users by a fixed rule, whatever the night's size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.compute as pc

from batch.checks.audit import published_part
from batch.store.layout import USER_ITEMS
from batch.store.target import Target
from sdk.base.types import Bools, Float32s, Float64s, Int32s, Int64s
from sdk.features.tables import FIRST_KNOWN, EncodedTable
from sdk.scoring.recommender import POPULAR

MAX_USERS = 20_000
MAX_ROWS = 1_000_000
TOP = 10
_LEAST_PARTS = 8
_COLUMNS = ["user_id", "rank", "item_id", "score", "source"]


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """Lists of some users: N rows of U users.

    Attributes:
        users: (U,) int64 ids, ascending as in the parts.
        user: (N,) int64, the row's place in ``users``.
        rank: (N,) int32 from 1.
        item: (N,) int64 ids.
        score: (N,) float32.
        fallback: (N,) bool, whether popularity made the row.
        parts: names of the parts that were read.
    """

    users: Int64s
    user: Int64s
    rank: Int32s
    item: Int64s
    score: Float32s
    fallback: Bools
    parts: tuple[str, ...]


def sample_users(target: Target, folder: str) -> Sample:
    """Users spread evenly over a night: all of them where they are at most 20,000, with at most 1,000,000 rows.

    A few parts are read, at even distances, and of each the lists at even distances.

    Args:
        target: where the night lies.
        folder: the night, staged or published.

    Raises:
        OutputError: a part cannot be read.
    """
    names = sorted(name for name in target.files(f"{folder}/{USER_ITEMS}") if name.startswith("part-"))
    if not names:
        return _joined([], ())
    first = _read(target, folder, names[0])
    users, rows = max(len(first.users), 1), max(len(first.item), 1)
    most = max(min(MAX_USERS, MAX_ROWS * users // rows), 1)
    chosen = [names[i] for i in _spread(len(names), max(-(-most // users), _LEAST_PARTS))]
    each = max(most // len(chosen), 1)
    found = [_thinned(first if name == names[0] else _read(target, folder, name), each) for name in chosen]
    return _joined(found, chosen)


def same_parts(target: Target, folder: str, parts: Sequence[str]) -> Iterator[Sample]:
    """The parts of another night that have these names, one at a time: mostly the same users, as ids ascend.

    Raises:
        OutputError: a part cannot be read.
    """
    there = target.files(f"{folder}/{USER_ITEMS}")
    for name in parts:
        if name in there:
            yield _read(target, folder, name)


def _spread(count: int, most: int) -> Int64s:
    """At most ``most`` places of ``count``, at even distances, the first among them."""
    return np.unique(np.linspace(0, count, min(count, most), endpoint=False).astype(np.int64))


def _read(target: Target, folder: str, name: str) -> Sample:
    """A part's lists: runs of one user's rows."""
    table = published_part(target, f"{folder}/{USER_ITEMS}/{name}", _COLUMNS)
    ids = table.column("user_id").to_numpy()
    begins = np.append(True, ids[1:] != ids[:-1])[: len(ids)]
    return Sample(
        users=ids[begins],
        user=np.cumsum(begins) - 1,
        rank=table.column("rank").to_numpy(),
        item=table.column("item_id").to_numpy(),
        score=table.column("score").to_numpy(),
        fallback=np.asarray(pc.equal(table.column("source"), POPULAR)).astype(np.bool_),
        parts=(),
    )


def _thinned(part: Sample, most: int) -> Sample:
    kept = np.zeros(len(part.users), dtype=np.bool_)
    kept[_spread(len(part.users), most)] = True
    rows = kept[part.user]
    return Sample(
        part.users[kept], (np.cumsum(kept) - 1)[part.user[rows]], part.rank[rows], part.item[rows],
        part.score[rows], part.fallback[rows], (),
    )  # fmt: skip


def _joined(found: Sequence[Sample], parts: Sequence[str]) -> Sample:
    starts = np.cumsum([0, *(len(each.users) for each in found)])
    shifted = [each.user + start for each, start in zip(found, starts[:-1], strict=True)]

    def column(name: str, kind: type) -> Any:
        return np.concatenate([np.zeros(0, kind), *(getattr(each, name) for each in found)])

    return Sample(
        users=column("users", np.int64), user=np.concatenate([np.zeros(0, np.int64), *shifted]),
        rank=column("rank", np.int32), item=column("item", np.int64), score=column("score", np.float32),
        fallback=column("fallback", np.bool_), parts=tuple(parts),
    )  # fmt: skip


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
    users, here, there = np.intersect1d(sample.users, before.users, return_indices=True)
    (place, now), (place_before, old) = _tops(sample, here), _tops(before, there)
    items, key = np.unique(np.concatenate([now, old]), return_inverse=True)
    keys = np.concatenate([place, place_before]) * len(items) + key
    new = ~np.isin(keys[: len(now)], keys[len(now) :])
    sizes = np.bincount(place, minlength=len(users))
    return np.bincount(place[new], minlength=len(users)) / np.maximum(sizes, 1)


def _tops(sample: Sample, chosen: Int64s) -> tuple[Int64s, Int64s]:
    """Per row of the chosen users' tops: the user's place among them, and the title."""
    place = np.full(len(sample.users), -1, dtype=np.int64)
    place[chosen] = np.arange(len(chosen))
    rows = (place[sample.user] >= 0) & (sample.rank <= TOP)
    return place[sample.user[rows]], sample.item[rows]
