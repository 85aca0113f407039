"""Keeping the k best of a stream: candidates as sortable 64-bit keys, thrown out by quickselect when there are many.

A key holds the score in its upper half, in an order-preserving form, and the complement of the item's row in its lower
half. So the larger key is the better candidate, equal scores go to the smaller row, and no two keys are equal.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sdk.compiled import compiled
from sdk.scoring.kernels import bits_of, float_of

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
def add(keys: Any, counts: Any, thresholds: Any, slot: int, key: Any, k: int) -> None:
    """Put a key into a slot's buffer; when that is full, keep its k best and raise the slot's threshold."""
    count = counts[slot]
    keys[slot, count] = key
    count += 1
    if count == keys.shape[1]:
        keep_largest(keys[slot], count, k)
        worst = keys[slot, 0]
        for i in range(1, k):
            worst = min(worst, keys[slot, i])
        thresholds[slot] = score_of(worst)
        count = k
    counts[slot] = count


@compiled
def finish(keys: Any, count: int, k: int, rows: Any, scores: Any) -> int:
    """Write a buffer's k best, best first; their number is returned."""
    keep = min(count, k)
    if keep < count:
        keep_largest(keys, count, keep)
    best = np.sort(keys[:keep])
    for rank in range(keep):
        key = best[keep - 1 - rank]
        rows[rank] = row_of(key)
        scores[rank] = score_of(key)
    return keep


@compiled
def finish_all(keys: Any, counts: Any, k: int, rows: Any, scores: Any, lengths: Any, first: int) -> None:
    """Write the lists of a tile's slots into rows ``first`` onwards of the output."""
    for slot in range(len(counts)):
        lengths[first + slot] = finish(keys[slot], counts[slot], k, rows[first + slot], scores[first + slot])


def buffer_size(k: int, num_candidates: int) -> int:
    """Keys per buffer: room between clean-outs, never more than there are candidates."""
    return max(min(max(2 * k, k + 156), num_candidates + 1), k + 1)
