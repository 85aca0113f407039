"""Lists under rules, exactly: each is what the definition gives over the whole catalogue.

A list is made place by place (greedy MMR, Carbonell and Goldstein 1998, section 2). An item is open while it is
allowed, not yet listed, and none of its groups is full. Its value is its score less ``diversity`` times its likeness to
the item above that it is most like. Each place takes the open item of the largest value, the smaller row of equal ones;
where as many places are left as new or pinned items are missing, one of those. Once made, a list is sorted by these
values, which are its scores.

Only the K best by score are looked at. That was enough where each value taken is at least the K-th score: a value is
never above its score, so no item outside could have been taken. It is checked place by place; where it does not hold,
K doubles for these users, until the whole catalogue is looked at.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, Protocol

import numpy as np

from sdk.base.types import BestRows, Bools, Float32s, Int64s
from sdk.features.seen import Seen
from sdk.machine.compiled import compiled
from sdk.machine.device import usable_cores
from sdk.scoring.rules import ItemRules
from sdk.scoring.selection import key_of, row_of, score_of

_FIRST = 4
"""Times k: how many are looked at first."""
_MOST_ENTRIES = 1 << 23
"""Of the candidates of all users looked at together."""


class Ranking(Protocol):
    """What gives the best by score: an engine."""

    @property
    def candidates(self) -> Int64s:
        """Item rows that may be listed."""

    def top_k(self, user_index: Int64s, seen: Seen, k: int) -> BestRows:
        """Each user row's k best candidates."""


class _Candidates(NamedTuple):
    """The best by score of some users, and whether they are all that there are."""

    rows: Int64s
    scores: Float32s
    lengths: Any
    whole: Bools

    @classmethod
    def of(cls, engine: Ranking, user_index: Int64s, seen: Seen, size: int) -> _Candidates:
        found = engine.top_k(user_index, seen, size)
        whole = (found.lengths < size) | (size >= len(engine.candidates))
        return cls(found.row, found.scores, found.lengths, whole)


def ruled_lists(
    engine: Ranking, wanted: Ranking, rules: ItemRules, user_index: Int64s, seen: Seen, k: int,
    threads: int | None = None,
) -> BestRows:  # fmt: skip
    """Each user row's list under rules; scores are the values that items were taken for.

    Args:
        engine: gives the best by score of all that may be listed.
        wanted: gives the best of the new or pinned items among them.
        rules: the rules.
        user_index: (B,) int64 rows of the users' table.
        seen: what each of them must not be given, aligned with ``user_index``.
        k: list length, at least 1.
        threads: None uses every core.
    """
    out = BestRows.empty(len(user_index), min(k, len(engine.candidates)))
    todo, size = np.arange(len(user_index)), _FIRST * k
    while len(todo):
        size = max(min(size, len(engine.candidates)), 1)
        block = max(_MOST_ENTRIES // size, 1)
        blocks = [todo[start : start + block] for start in range(0, len(todo), block)]
        todo = np.concatenate(
            [_block(engine, wanted, rules, user_index, seen, k, size, rows, out, threads) for rows in blocks]
        )
        size *= 2
    return out


def _block(
    engine: Ranking, wanted: Ranking, rules: ItemRules, user_index: Int64s, seen: Seen, k: int, size: int,
    rows: Int64s, out: BestRows, threads: int | None,
) -> Int64s:  # fmt: skip
    """Make some users' lists from candidates of one size; (M,) the users for whom these were not enough."""
    users, theirs = user_index[rows], seen.take(rows)
    found = _Candidates.of(engine, users, theirs, size)
    more = _Candidates.of(wanted, users, theirs, size) if rules.asked.at_least.count else _nothing(len(rows))
    made = BestRows.empty(len(rows), out.row.shape[1])
    proven = np.zeros(len(rows), np.bool_)
    vectors = rules.vectors
    said = (
        (rules.starts, rules.groups, rules.caps),
        (vectors.indptr.astype(np.int64), vectors.indices.astype(np.int32), vectors.data),
        rules.wanted, rules.asked.at_least.count, rules.asked.diversity,
    )  # fmt: skip
    parts = np.array_split(np.arange(len(rows)), min(threads or usable_cores(), len(rows)))
    with ThreadPoolExecutor(len(parts), "marquee-rules") as pool:
        list(
            pool.map(
                lambda part: _make(found, more, *said, k, part, made.row, made.scores, made.lengths, proven), parts
            )
        )
    sure = rows[proven]
    out.row[sure], out.scores[sure], out.lengths[sure] = made.row[proven], made.scores[proven], made.lengths[proven]
    return rows[~proven]


def _nothing(num_users: int) -> _Candidates:
    none = BestRows.empty(num_users, 1)
    return _Candidates(none.row, none.scores, none.lengths, np.ones(num_users, np.bool_))


@compiled
def _make(
    found: Any, more: Any, grouped: Any, vectors: Any, wanted: Any, at_least: int, diversity: float, k: int,
    users: Any, out_rows: Any, out_scores: Any, out_lengths: Any, proven: Any,
) -> None:  # fmt: skip
    """Make the lists of some users; ``proven`` says for whom the candidates were enough."""
    size = found[0].shape[1] + more[0].shape[1]
    keys, merged, values = np.zeros(size, np.uint64), np.zeros(size, np.uint64), np.zeros(size, np.float32)
    likeness, upto, is_open = np.zeros(size), np.zeros(size, np.int64), np.zeros(size, np.bool_)
    used, taken = np.zeros(len(grouped[2]), np.int32), np.zeros(k, np.uint64)
    for user in users:
        num_found = _keys_of(found[0][user], found[1][user], found[2][user], keys)
        num_more = _keys_of(more[0][user], more[1][user], more[2][user], keys[num_found:])
        count = _merge(keys, num_found, num_more, merged)
        bound = np.uint64(0) if found[3][user] or num_found == 0 else keys[num_found - 1]
        least = np.uint64(0) if more[3][user] or num_more == 0 else keys[num_found + num_more - 1]
        spread = 0.0
        if num_found > 0:
            spread = np.float64(score_of(keys[0])) - np.float64(score_of(keys[min(k, num_found) - 1]))
        used[:], upto[:], likeness[:] = 0, 0, 0
        for i in range(count):
            is_open[i], values[i] = True, score_of(merged[i])
        length = _pick(
            merged[:count], values, likeness, upto, is_open, used, taken, (bound, min(bound, least)), grouped,
            vectors, wanted, at_least, diversity * spread, k,
        )  # fmt: skip
        proven[user] = length >= 0
        for rank in range(length):
            out_rows[user, rank], out_scores[user, rank] = row_of(taken[rank]), score_of(taken[rank])
        out_lengths[user] = max(length, 0)


@compiled
def _keys_of(rows: Any, scores: Any, length: int, keys: Any) -> int:
    for i in range(length):
        keys[i] = key_of(scores[i], rows[i])
    return length


@compiled
def _merge(keys: Any, num_found: int, num_more: int, merged: Any) -> int:
    """Put two falling lists of keys together, each key once; how many there are."""
    i, j, count = 0, num_found, 0
    end = num_found + num_more
    while i < num_found or j < end:
        if j == end or (i < num_found and keys[i] >= keys[j]):
            if j < end and keys[i] == keys[j]:
                j += 1
            merged[count] = keys[i]
            i += 1
        else:
            merged[count] = keys[j]
            j += 1
        count += 1
    return count


@compiled
def _pick(
    keys: Any, values: Any, likeness: Any, upto: Any, is_open: Any, used: Any, taken: Any, bounds: Any, grouped: Any,
    vectors: Any, wanted: Any, at_least: int, weight: float, k: int,
) -> int:  # fmt: skip
    """One list into ``taken``, as falling keys of its values; its length, or -1 where the candidates were not enough.

    Args:
        keys: (n,) uint64, the candidates' scores and rows, falling.
        values: (n,) float32, what they are worth; ``likeness`` (n,) their greatest one to the first ``upto`` places.
        is_open: (n,) bool; used (G,) int32, how many places each group has; taken (k,) uint64.
        bounds: what every key outside is below, and what that of every new or pinned item outside is; 0: none is.
        grouped: starts, groups and caps; vectors: indptr, indices and data; wanted (R,): see ``ItemRules``.
        at_least: places for new or pinned items.
        weight: what full likeness costs.
        k: list length.
    """
    length, missing = 0, at_least
    picked = np.zeros(k, np.int64)
    while length < k:
        left, there = k - length, 0
        if missing >= left:
            there = _num_open(keys, is_open, wanted, used, grouped, left)
            if there < left and bounds[1] != 0:
                return -1
        only = there >= left
        best, best_key = _best(
            keys, values, likeness, upto, is_open, used, picked[:length], grouped, vectors, wanted, weight, only
        )
        if best_key < bounds[np.int64(only)]:
            return -1
        if best < 0:
            break
        is_open[best], picked[length] = False, row_of(best_key)
        missing -= _fill(picked[length], used, grouped, wanted)
        _insert(best_key, taken, length)
        length += 1
    return length


@compiled
def _best(
    keys: Any, values: Any, likeness: Any, upto: Any, is_open: Any, used: Any, picked: Any, grouped: Any, vectors: Any,
    wanted: Any, weight: float, only: bool,
) -> Any:  # fmt: skip
    """The open candidate of the largest value below what is picked already, and the key of that value; -1 of none."""
    best, best_key = -1, np.uint64(0)
    for i in range(len(keys)):
        if keys[i] <= best_key:
            break  # no value is above its score
        row = row_of(keys[i])
        if not is_open[i] or (only and not wanted[row]) or key_of(values[i], row) <= best_key:
            continue  # nor does a value rise when more is above
        is_open[i] = _has_room(row, used, grouped)
        if not is_open[i]:
            continue
        if weight > 0:
            for place in range(upto[i], len(picked)):
                likeness[i] = max(likeness[i], _cosine(row, picked[place], vectors))
            upto[i] = len(picked)
            values[i] = np.float32(np.float64(score_of(keys[i])) - weight * likeness[i])
        key = key_of(values[i], row)
        if key > best_key:
            best, best_key = i, key
    return best, best_key


@compiled
def _fill(row: int, used: Any, grouped: Any, wanted: Any) -> int:
    """Count an item in its groups; 1 for a new or pinned one."""
    for at in range(grouped[0][row], grouped[0][row + 1]):
        used[grouped[1][at]] += 1
    return 1 if wanted[row] else 0


@compiled
def _insert(key: Any, taken: Any, length: int) -> None:
    """Put a key behind those whose values are not below its own."""
    place = length
    while place > 0 and score_of(taken[place - 1]) < score_of(key):
        taken[place] = taken[place - 1]
        place -= 1
    taken[place] = key


@compiled
def _has_room(row: int, used: Any, grouped: Any) -> bool:
    """Whether none of an item's groups is full."""
    starts, groups, caps = grouped
    full = 0
    for at in range(starts[row], starts[row + 1]):
        full += used[groups[at]] >= caps[groups[at]]
    return full == 0


@compiled
def _num_open(keys: Any, is_open: Any, wanted: Any, used: Any, grouped: Any, most: int) -> int:
    """How many new or pinned candidates are open, up to a number."""
    count = 0
    for i in range(len(keys)):
        row = row_of(keys[i])
        if count < most and is_open[i] and wanted[row] and _has_room(row, used, grouped):
            count += 1
    return count


@compiled
def _cosine(one: int, other: int, vectors: Any) -> float:
    """The dot product of two rows whose indices ascend."""
    starts, indices, data = vectors
    i, j, total = starts[one], starts[other], 0.0
    while i < starts[one + 1] and j < starts[other + 1]:
        if indices[i] == indices[j]:
            total += np.float64(data[i]) * np.float64(data[j])
        smaller = indices[i] <= indices[j]
        if indices[j] <= indices[i]:
            j += 1
        if smaller:
            i += 1
    return total
