"""Splits and one function that measure lists over the full catalogue, the same for every model.

Protocol B: positives are ratings of at least 4 stars; a random fifth of them, in file order, is held out; everything
else is the training part. Protocol C: everything after a moment is held out, and its positives are asked for. Lists
exclude every title that the user rated in the training part, liked or not. Validation is cut from the training part
by the rule of protocol B.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sdk.base.errors import DataError
from sdk.base.types import Float32s, Float64s, Int32s, Int64s, Interactions
from sdk.data.splits import before_and_asked, drawn, time_at
from sdk.metrics.lists import (
    Interval,
    RelevanceSets,
    average_precision,
    bootstrap_interval,
    coverage,
    gini,
    hit_rate,
    intra_list_diversity,
    ndcg,
    novelty,
    recall,
    user_mean,
)

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

log = logging.getLogger(__name__)

LIKE_AT = 4.0
_PER_USER: tuple[tuple[str, Callable[..., Float64s], int], ...] = (
    ("ndcg10", ndcg, 10),
    ("recall20", recall, 20),
    ("map10", average_precision, 10),
    ("hit_rate10", hit_rate, 10),
)


@dataclass(frozen=True, slots=True, eq=False)
class ListSplit:
    """Row numbers into one Interactions, each ascending.

    Attributes:
        train: (T,) int64, what models learn from and what lists exclude.
        held_out: (H,) int64, positives that lists should name; none is in ``train``.
    """

    train: Int64s
    held_out: Int64s


def split_positives(
    interactions: Interactions,
    *,
    seed: int = 42,
    share: float = 0.2,
    like_at: float = LIKE_AT,
    within: Int64s | None = None,
) -> ListSplit:
    """Protocol B: hold out ``numpy.random.default_rng(seed).random(n) < share`` of the n positives in file order.

    Args:
        interactions: ratings in file order.
        seed: of the draw.
        share: of the positives, between 0 and 1.
        like_at: a rating of at least this many stars is positive.
        within: (T,) int64 ascending rows to split, a training part whose validation part is wanted; None takes all.

    Raises:
        DataError: a part would be empty.
    """
    rows = np.arange(len(interactions), dtype=np.int64) if within is None else within
    positive = rows[interactions.rating[rows] >= like_at]
    held_out = positive[drawn(len(positive), share, seed)]
    return _parts(rows, held_out, held_out, f"{share:g} of {len(positive):,} positives, seed {seed}")


def split_by_time(interactions: Interactions, *, share: float = 0.2, like_at: float = LIKE_AT) -> ListSplit:
    """Protocol C: train on what came before a moment T, ask for the positives from T on.

    T is the time of the rating that parts the latest ``share`` of all ratings off; ratings at T itself are held out.
    Users without a training rating are left out of ``held_out``: nothing personal can be said of them.

    Raises:
        DataError: a part would be empty.
    """
    if not len(interactions):
        message = "a time split of 0 ratings leaves none to train on"
        raise DataError(message)
    rows = np.arange(len(interactions), dtype=np.int64)
    place = min(len(rows) - 1, len(rows) - round(share * len(rows)))
    moment = time_at(interactions.timestamp, place)
    liked = interactions.rating >= like_at
    before, asked = before_and_asked(interactions.user_id, interactions.timestamp, liked, moment)
    return _parts(rows, rows[~before], rows[asked], f"latest {share:g} of {len(rows):,} ratings")


def _parts(rows: Int64s, removed: Int64s, held_out: Int64s, rule: str) -> ListSplit:
    train = rows[~np.isin(rows, removed)]
    if not len(train) or not len(held_out):
        raise DataError(
            f"a list split ({rule}) leaves {len(train):,} ratings to train on and {len(held_out):,} to find; "
            "expected some of each. Choose another share, or give more ratings"
        )
    return ListSplit(train, held_out)


@dataclass(frozen=True, slots=True, eq=False)
class RatedCatalogue:
    """All titles that could be recommended, and what the training part says of them.

    Attributes:
        ids: (I,) int64, unique.
        counts: (I,) int64 training ratings.
        num_users: users with a training rating.
        vectors: (I, D) float, dense or sparse, whose cosines say how alike two titles are; None leaves diversity out.
    """

    ids: Int64s
    counts: Int64s
    num_users: int
    vectors: Float32s | csr_matrix | None = None


def values_per_user(
    items: Int64s, lengths: Int64s, relevant: RelevanceSets, catalogue: RatedCatalogue
) -> dict[str, Float64s]:
    """Every figure that a single user's list has.

    Args:
        items: (U, w) int64 item ids, best first; w should be at least 20.
        lengths: (U,) int64 real entries of each row.
        relevant: what was held out for each of the same users.
        catalogue: holds every listed title.

    Returns:
        ``ndcg10``, ``recall20``, ``map10``, ``hit_rate10``, ``novelty`` and, with vectors, ``diversity``: (U,) float64
        each, NaN where a user has nothing to measure.

    Raises:
        ValueError: a list names a title twice, or one outside the catalogue.
    """
    values = {name: metric(items, relevant, k, lengths=lengths) for name, metric, k in _PER_USER}
    top, size = items[:, :10], np.minimum(lengths, 10)
    values["novelty"] = novelty(top, catalogue.counts, catalogue.num_users, catalogue_ids=catalogue.ids, lengths=size)
    if catalogue.vectors is not None:
        values["diversity"] = intra_list_diversity(top, catalogue.vectors, catalogue_ids=catalogue.ids, lengths=size)
    return values


@dataclass(frozen=True, slots=True)
class ListMetrics:
    """How good lists are: means over the users with something held out, each with its 95 % bootstrap interval.

    Attributes:
        ndcg10: NDCG@10, the ideal over min(10, n).
        recall20: Recall@20 over min(20, n).
        map10: MAP@10 over min(10, n).
        hit_rate10: share of users with a hit among ten.
        novelty: mean self-information of the first ten, bits.
        intervals: metric name -> (low, high), of the means over users.
        distinct_in_top10: number of titles in all those users' first ten together.
        coverage: that number as a share of the catalogue.
        gini: of how often each title of the catalogue stands in a first ten.
        num_users: users measured.
        diversity: mean cosine distance of the pairs among the first ten; NaN where no vectors were given.
    """

    ndcg10: float
    recall20: float
    map10: float
    hit_rate10: float
    novelty: float
    intervals: dict[str, Interval]
    distinct_in_top10: int
    coverage: float
    gini: float
    num_users: int
    diversity: float = math.nan


def evaluate_lists(
    item_id: Int64s,
    lengths: Int32s | Int64s,
    user_id: Int64s,
    interactions: Interactions,
    parts: ListSplit,
    catalogue_ids: Int64s,
    *,
    bootstrap_samples: int = 1000,
    item_vectors: Float32s | csr_matrix | None = None,
) -> ListMetrics:
    """Measure lists against what was held out.

    Args:
        item_id: (B, w) int64, best first; w should be at least 20.
        lengths: (B,) real entries of each row.
        user_id: (B,) int64, unique: whose list each row is. Users with nothing held out are left out.
        interactions: what ``parts`` points into.
        parts: the split.
        catalogue_ids: (I,) int64 unique ids of all titles that could be recommended.
        bootstrap_samples: resamplings of the users, at least 1.
        item_vectors: (I, D) float, dense or sparse, aligned with ``catalogue_ids``: what diversity is measured by.

    Raises:
        DataError: a user with something held out has no list, or a list names a title rated in the training part.
        ValueError: a list names a title twice, or one outside the catalogue.
    """
    held = interactions.take(parts.held_out)
    wanted, row = np.unique(held.user_id, return_inverse=True)
    at = _places(user_id, wanted)
    items, sizes = item_id[at], lengths.astype(np.int64)[at]
    train = interactions.take(parts.train)
    _refuse_seen(items, sizes, wanted, train)
    relevant = RelevanceSets.from_pairs(row.astype(np.int64), held.item_id, len(wanted))
    counts, num_users = _counts(train.item_id, catalogue_ids), len(np.unique(train.user_id))
    values = values_per_user(items, sizes, relevant, RatedCatalogue(catalogue_ids, counts, num_users, item_vectors))
    top, size = items[:, :10], np.minimum(sizes, 10)
    covered = coverage(top, len(catalogue_ids), lengths=size)
    return ListMetrics(
        **{name: user_mean(each) for name, each in values.items()},
        intervals={name: bootstrap_interval(each, samples=bootstrap_samples) for name, each in values.items()},
        distinct_in_top10=round(covered * len(catalogue_ids)),
        coverage=covered,
        gini=gini(top, catalogue_ids, lengths=size),
        num_users=len(wanted),
    )


def _places(user_id: Int64s, wanted: Int64s) -> Int64s:
    order = np.argsort(user_id, kind="stable")
    place = np.searchsorted(user_id[order], wanted)
    found = place < len(user_id)
    found[found] = user_id[order[place[found]]] == wanted[found]
    if not found.all():
        missing = wanted[int(found.argmin())]
        raise DataError(
            f"user {missing} has titles held out but no list ({int((~found).sum())} such users); "
            "give a list for every user of the data"
        )
    return np.asarray(order[place], np.int64)


def _refuse_seen(items: Int64s, sizes: Int64s, users: Int64s, train: Interactions) -> None:
    """A list that names training titles was made by other rules, so its figures would compare with nothing."""
    ids, code = np.unique(np.concatenate([train.item_id, items.ravel()]), return_inverse=True)
    place = np.searchsorted(users, train.user_id)
    ours = place < len(users)
    ours[ours] = users[place[ours]] == train.user_id[ours]
    seen = np.unique(place[ours] * len(ids) + code[: len(train)][ours])
    listed = np.arange(len(items))[:, None] * len(ids) + code[len(train) :].reshape(items.shape)
    bad = np.isin(listed, seen) & (np.arange(items.shape[1]) < sizes[:, None])
    if bad.any():
        row, rank = np.argwhere(bad)[0]
        raise DataError(
            f"the list of user {users[row]} names title {items[row, rank]} at rank {rank + 1}, which the user rated in "
            "the training part; expected lists that exclude those. Pass them to the engine as seen"
        )


def _counts(item_id: Int64s, catalogue_ids: Int64s) -> Int64s:
    """(I,) ratings of each title of the catalogue."""
    order = np.argsort(catalogue_ids, kind="stable")
    ids = catalogue_ids[order]
    place = np.searchsorted(ids, item_id)
    known = place < len(ids)
    known[known] = ids[place[known]] == item_id[known]
    out = np.zeros(len(ids), np.int64)
    out[order] = np.bincount(place[known], minlength=len(ids))
    return out
