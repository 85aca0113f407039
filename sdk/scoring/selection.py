"""Keeping the k best of a stream: candidates as sortable 64-bit keys, thrown out by quickselect when there are many.

A key holds the score in its upper half, in an order-preserving form, and the complement of the item's row in its lower
half. So the larger key is the better candidate, equal scores go to the smaller row, and no two keys are equal.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sdk.base.types import Float32s, Int32s, Int64s
from sdk.machine.compiled import compiled
from sdk.scoring.kernels import LANES, bits_of, float_of

LOWEST = np.float32(np.finfo(np.float32).min)  # -inf is below it, so "at least LOWEST" leaves padding out
_SIGN = np.uint32(0x80000000)
_ALL = np.uint32(0xFFFFFFFF)


@compiled
def key_of(score: Any, row: Any) -> Any:
    """uint64 key of a finite float32 score and a row below 2**32 - 1."""
    bits = bits_of(np.float32(score + np.float32(0)))  # -0.0 becomes 0.0: they are equal scores
    ordered = ~bits & _ALL if bits & _SIGN else bits | _SIGN
    return (np.uint64(ordered) << np.uint64(32)) | np.uint64(_ALL - np.uint32(row))


@compiled
def score_of(key: Any) -> Any:
    """The float32 score in a key."""
    ordered = np.uint32(key >> np.uint64(32))
    return float_of(np.uint32(ordered & ~_SIGN & _ALL)) if ordered & _SIGN else float_of(np.uint32(~ordered & _ALL))


@compiled
def row_of(key: Any) -> Any:
    """The row in a key, int64."""
    return np.int64(_ALL - np.uint32(key & np.uint64(0xFFFFFFFF)))


@compiled
def keep_largest(keys: Any, count: int, k: int) -> None:
    """Move the k largest of the first ``count`` keys to the front, in no order (Hoare 1961, "Find")."""
    low, high = 0, count - 1
    while low < high:
        middle = (low + high) // 2
        a, b, c = keys[low], keys[middle], keys[high]
        pivot = max(min(a, b), min(max(a, b), c))
        i, j = low, high
        while i <= j:
            while keys[i] > pivot:
                i += 1
            while keys[j] < pivot:
                j -= 1
            if i <= j:
                keys[i], keys[j] = keys[j], keys[i]
                i += 1
                j -= 1
        if k - 1 <= j:
            high = j
        elif k - 1 >= i:
            low = i
        else:
            return


@compiled
def clean(slot: int, k: int, scores: Any, rows: Any, counts: Any, thresholds: Any, keys: Any) -> None:
    """Keep a slot's k best candidates and raise its threshold to the worst of them.

    Args:
        slot: which one.
        k: list length.
        scores: (T, size) float32; ``rows`` (T, size) int32: the candidates.
        counts: (T,) int64; ``thresholds`` (T,) float32, below which no candidate is taken any more.
        keys: (size,) uint64 scratch.
    """
    count = counts[slot]
    if count <= k:
        return
    for i in range(count):
        keys[i] = key_of(scores[slot, i], rows[slot, i])
    keep_largest(keys, count, k)
    worst = keys[0]
    for i in range(k):
        worst = min(worst, keys[i])
        scores[slot, i] = score_of(keys[i])
        rows[slot, i] = row_of(keys[i])
    counts[slot] = k
    thresholds[slot] = score_of(worst)


@compiled
def sort_falling(keys: Any, count: int) -> None:
    """Sort the first ``count`` keys, largest first (heapsort: NumPy's sort takes a second more to compile)."""
    unbuilt, size = count >> 1, count
    while size > 1:
        if unbuilt > 0:
            unbuilt -= 1
        else:
            size -= 1
            keys[0], keys[size] = keys[size], keys[0]
        parent, key = unbuilt, keys[unbuilt]
        child = 2 * parent + 1
        while child < size:
            if child + 1 < size and keys[child + 1] < keys[child]:
                child += 1
            if key <= keys[child]:
                break
            keys[parent] = keys[child]
            parent, child = child, 2 * child + 1
        keys[parent] = key


@compiled
def finish_all(
    k: int, scores: Any, rows: Any, counts: Any, keys: Any, best_rows: Any, best_scores: Any, lengths: Any, first: int
) -> None:
    """Write each slot's k best, best first, into rows ``first`` onwards of the output."""
    for slot in range(len(counts)):
        count, at = counts[slot], first + slot
        for i in range(count):
            keys[i] = key_of(scores[slot, i], rows[slot, i])
        keep = min(count, k)
        if keep < count:
            keep_largest(keys, count, keep)
        sort_falling(keys, keep)
        for rank in range(keep):
            best_rows[at, rank] = row_of(keys[rank])
            best_scores[at, rank] = score_of(keys[rank])
        lengths[at] = keep


def buffer_size(k: int, num_candidates: int) -> int:
    """Candidates that a buffer holds before it is cleaned: room between cleanings, no more than there are."""
    return max(min(max(256, k + 128), num_candidates), k) + LANES


Buffers: TypeAlias = tuple[Float32s, Int32s, Int64s, Float32s, NDArray[np.uint64]]


def buffers(slots: int, k: int, num_candidates: int) -> Buffers:
    """Empty buffers: scores and rows (slots, size), counts and thresholds (slots,), scratch for keys (size,)."""
    size = buffer_size(k, num_candidates)
    return (
        np.empty((slots, size), np.float32),
        np.empty((slots, size), np.int32),
        np.zeros(slots, np.int64),
        np.full(slots, LOWEST),
        np.empty(size, np.uint64),
    )
