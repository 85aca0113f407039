"""How far tonight's lists lie from the previous night's: histograms of scores, and tops of lists, in bounded memory."""

from __future__ import annotations

import numpy as np

from sdk.base.types import Float32s, Float64s, Int32s, Int64s
from sdk.features.seen import Seen

SCORE_BINS = 1 << 16
NOT_LISTED = -1
_LEAST_SHARE = 1e-4


def score_histogram(scores: Float32s) -> Int64s:
    """(65536,) int64: how many scores fall in each bin, bins ascending.

    A bin holds the float32 numbers that share sign, exponent and seven bits of the mantissa, so it is at most 1/128
    as wide as its numbers are large, whatever the scale, and histograms of parts add up.

    Args:
        scores: (N,) float32, none of them NaN.
    """
    bits = (np.ascontiguousarray(scores, dtype=np.float32) + np.float32(0)).view(np.uint32)  # -0 becomes 0
    ascending = np.where(bits >> 31 == 1, ~bits, bits | np.uint32(1 << 31))  # IEEE 754: so integers sort as floats do
    return np.bincount(ascending >> 16, minlength=SCORE_BINS)


def population_stability(previous: Int64s, tonight: Int64s, bins: int = 10) -> float | None:
    """Population stability index over the previous night's quantiles: sum of (p - q) ln(p / q).

    Below 0.1 is commonly read as stable and above 0.25 as a shift (Siddiqi 2006, 'Credit Risk Scorecards', chapter 6).
    A share of nothing counts as 0.0001, so the index stays finite: 10 bins reach some 18.

    Args:
        previous: (B,) int64 histogram.
        tonight: (B,) int64 histogram over the same bins.
        bins: quantiles of ``previous``; equal scores are never parted, so there may be fewer.

    Returns:
        None where one of the two is empty.
    """
    if not previous.sum() or not tonight.sum():
        return None
    reached = np.cumsum(previous) / previous.sum()
    ends = np.unique(np.searchsorted(reached, np.arange(1, bins) / bins) + 1)
    starts = np.concatenate([[0], ends[ends < len(previous)]])
    p, q = (np.maximum(np.add.reduceat(each, starts) / each.sum(), _LEAST_SHARE) for each in (tonight, previous))
    return float(((p - q) * np.log(p / q)).sum())


def tops(list_row: Int64s, rank: Int32s, answers: Int64s, num_lists: int, depth: int) -> Int32s:
    """(num_lists, depth) int32: the answers at ranks 1 to ``depth`` of each list; ``NOT_LISTED`` where it is shorter.

    Args:
        list_row: (N,) which list each row belongs to.
        rank: (N,) from 1; a rank that comes twice keeps the last.
        answers: (N,) rows of the catalogue.
        num_lists: number of lists.
        depth: ranks to keep.
    """
    top = np.full((num_lists, depth), NOT_LISTED, dtype=np.int32)
    inside = (rank >= 1) & (rank <= depth)
    top[list_row[inside], rank[inside] - 1] = answers[inside]
    return top


def overlaps(left: Int32s, right: Int32s) -> tuple[Int64s, Int64s]:
    """(B,) items that both tops hold, and (B,) that either does, row by row.

    Args:
        left: (B, depth) int32, no item twice in a row, ``NOT_LISTED`` for none.
        right: the same.
    """
    both = np.zeros(len(left), dtype=np.int64)
    for column in range(left.shape[1]):
        item = left[:, column, None]
        both += ((right == item) & (item != NOT_LISTED)).any(axis=1)
    return both, (left != NOT_LISTED).sum(axis=1) + (right != NOT_LISTED).sum(axis=1) - both


def jaccard(left: Int32s, right: Int32s) -> Float64s:
    """(B,) Jaccard index of the items in two tops, row by row; two empty ones are alike. Arguments as ``overlaps``."""
    return jaccard_index(*overlaps(left, right))


def jaccard_index(both: Int64s, either: Int64s) -> Float64s:
    """The share of what either holds that both do; 1 of nothing. Arguments of one shape."""
    return np.where(either > 0, both / np.maximum(either, 1), 1.0)


def sameness(listed_in: Int64s, eligible: Int64s) -> float | None:
    """How far all tops are one: of the other lists that could name an item, the share that does, per place of a top.

    1 where every list names the same items, but for what its user has rated; about depth / I where lists are random.
    An item in c tops of e lists that could name it is shared by c (c - 1) of c (e - 1) ordered pairs.

    Args:
        listed_in: (I,) int64, c: the number of tops that hold each item.
        eligible: (I,) int64, e: the number of lists that could hold it, at least c.

    Returns:
        None where no item could stand in two lists.
    """
    several = (listed_in > 0) & (eligible > 1)
    counts, others = listed_in[several].astype(np.float64), eligible[several] - 1
    return float((counts * (counts - 1) / others).sum() / counts.sum()) if several.any() else None


def one_order(listed_in: Int64s, barred: Seen, depth: int) -> float | None:
    """``sameness`` of lists that all follow one order, each without what is barred there.

    Args:
        listed_in: (I,) int64; the order is descending by it.
        barred: items, from 0, of each list.
        depth: places of a top.
    """
    rank = np.empty(len(listed_in), np.int64)
    rank[np.argsort(-listed_in, kind="stable")] = np.arange(len(listed_in))
    lists, at = barred.users, rank[barred.items]
    in_order = np.lexsort((at, lists))
    lists, at = lists[in_order], at[in_order]
    free_before = at - (np.arange(len(at)) - barred.indptr[lists])
    num_lists = len(barred.indptr) - 1
    ends = depth + np.bincount(lists[free_before < depth], minlength=num_lists)  # each top lies before its end
    reaching = num_lists - np.cumsum(np.bincount(np.minimum(ends, len(rank)), minlength=len(rank) + 1))[:-1]
    without = np.bincount(at[at < ends[lists]], minlength=len(rank))
    return sameness(reaching - without, num_lists - np.bincount(at, minlength=len(rank)))


def gini(counts: Int64s) -> float | None:
    """Gini index of (I,) int64 counts: 0 all equal, 1 one item has them all; None for fewer than two or no count.

    The same as ``sdk.metrics.lists.gini``, from counts that were added up part by part.
    """
    if len(counts) < 2 or not counts.sum():
        return None
    weights = 2 * np.arange(1, len(counts) + 1, dtype=np.float64) - len(counts) - 1
    return float((weights * np.sort(counts)).sum() / ((len(counts) - 1) * float(counts.sum())))
