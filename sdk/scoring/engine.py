"""The exact engine: every wanted user against every candidate, the best k kept, ties to the smaller item id.

Item rows ascend by item_id, so the smaller row is the smaller id. A score's bits depend on its user and its item
alone: tile sizes, the number of threads, the order of users and the other candidates never change a list.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from copy import copy

import numpy as np

from sdk.base.errors import ScoreError, UsageError
from sdk.base.types import BestRows, Bools, Float32s, Int32s, Int64s
from sdk.features.seen import Seen
from sdk.features.tables import FIRST_KNOWN
from sdk.machine.device import usable_cores
from sdk.models.pair_form import PairForm, Side
from sdk.scoring.exploration import Drawn, Noise, finish_drawn, no_noise
from sdk.scoring.head_parts import HeadParts
from sdk.scoring.kernels import MAX_ROWS
from sdk.scoring.packed import PackedItems, mean_norm, pack
from sdk.scoring.selection import LOWEST, Buffers, buffer_size, buffers, finish_all
from sdk.scoring.tiles import dot_tile, mark_seen, mlp_tile

log = logging.getLogger(__name__)

_USERS_PER_TILE = 64
_ITEMS_PER_MERGE = 4096
_SAFE = 1e37  # scores that provably stay below this can be neither infinite nor NaN


def candidate_rows(form: PairForm, allowed: Bools | None) -> Int64s:
    """(C,) int64 item rows that may be recommended, ascending; the reserved rows never are.

    Raises:
        ScoreError: the model holds a NaN or an infinity; names the side and the first bad row.
    """
    form.check()
    rows = np.arange(FIRST_KNOWN, len(form.items), dtype=np.int64)
    return rows if allowed is None else rows[allowed[FIRST_KNOWN:]]


def check_length(k: int) -> None:
    """Refuse lists of no titles.

    Raises:
        UsageError: k < 1.
    """
    if k < 1:
        raise UsageError(f"k: got {k}, expected at least 1")


class Engine:
    """A model ready to score: its items laid out once, then asked for any users.

    Args:
        form: a lowered model.
        allowed: (R_item,) bool, the rows that may be recommended; None allows all. The reserved rows never are.
        threads: None uses every core.
        prune: leave out items that provably cannot enter a list (models without an MLP; the lists stay the same).
        memory_mib: most that the threads' buffers may take together, at the cost of smaller tiles; None takes tiles of
            64 users, which need a few MiB. The model and the lists come on top. No list depends on it.

    Raises:
        ScoreError: the model holds a NaN or an infinity; names the side and the first bad row.
    """

    def __init__(
        self,
        form: PairForm,
        allowed: Bools | None = None,
        *,
        threads: int | None = None,
        prune: bool = True,
        memory_mib: float | None = None,
    ) -> None:
        self.form, self.threads = form, threads or usable_cores()
        self.candidates = candidate_rows(form, allowed)
        self._prune = prune and not form.head.has_mlp
        self._is_safe, self._item_tops = not may_overflow(form), _tops(form.items)
        self._packed = pack(form.items, self.candidates, mean_norm(form.users))
        self._head = HeadParts.of(form.head, form.items.fields.shape[1]) if form.head.has_mlp else None
        self._memory_mib = memory_mib

    def for_users(self, form: PairForm) -> Engine:
        """The same items, as they are laid out, for the users of another form with the same items and head.

        Raises:
            ScoreError: a user's row holds a NaN or an infinity.
        """
        form.users.check("user")
        other = copy(self)
        other.form, other._is_safe = form, not may_overflow(form, self._item_tops)
        return other

    def _users_per_tile(self, k: int) -> int:
        """As many users as the memory budget allows, from one kernel's rows to the default."""
        if self._memory_mib is None:
            return _USERS_PER_TILE
        row_bytes = sum(part[:1].nbytes for part in self.form.users.parts)
        each = 8 * buffer_size(k, len(self.candidates)) + 8 * len(self._packed.bias) + row_bytes
        return int(min(max(self._memory_mib * 2**20 / self.threads // each, MAX_ROWS), _USERS_PER_TILE))

    def top_k(self, user_index: Int64s, seen: Seen, k: int) -> BestRows:
        """Each user row's k best candidates that the user has not seen.

        Args:
            user_index: (B,) int64 rows of the users' table.
            seen: row b holds what ``user_index[b]`` must not be given; aligned with ``user_index``.
            k: list length, at least 1.

        Raises:
            ScoreError: a score is infinite or NaN; names the user row.
            UsageError: k < 1.
        """
        return self._run(user_index, seen, k, None)

    def top_k_and_audience(self, user_index: Int64s, seen: Seen, k: int) -> tuple[BestRows, BestRows]:
        """The same in one pass with its transpose: each candidate's k best users among those given.

        Returns:
            The users' lists, and the lists of user rows, aligned with ``self.candidates``. A user who has seen an
            item is not in its audience; equal scores go to the smaller user row.
        """
        audience = _Audience(self._packed, k, len(user_index), self.threads)
        lists = self._run(user_index, seen, k, audience)
        return lists, audience.result(self._packed, self.candidates, k)

    def draw(self, user_index: Int64s, seen: Seen, k: int, noise: Noise) -> Drawn:
        """The same with noise added to every score: each list is a draw, of which the engine knows the probability.

        Raises:
            ScoreError: a score is infinite or NaN; names the user row.
            UsageError: k < 1.
        """
        drawn = Drawn.empty(len(user_index), min(k, len(self.candidates)))
        self._run(user_index, seen, k, None, (noise, drawn))
        return drawn

    def _run(
        self,
        user_index: Int64s,
        seen: Seen,
        k: int,
        audience: _Audience | None,
        draw: tuple[Noise, Drawn] | None = None,
    ) -> BestRows:
        check_length(k)
        if not self._is_safe:
            _refuse_overflow(self.form, user_index, self.candidates)
        out = BestRows.empty(len(user_index), min(k, len(self.candidates)))
        size = self._users_per_tile(k)
        starts = range(0, len(user_index) if len(self.candidates) else 0, size)
        tiles = [(start, min(start + size, len(user_index))) for start in starts]
        threads = max(min(self.threads, len(tiles)), 1)

        def work(thread: int) -> None:
            buckets = buffers(0, k, 0) if audience is None else audience.of(thread)
            self._score(tiles[thread::threads], user_index, seen, k, out, buckets, draw)

        if threads == 1:
            work(0)
            return out
        with ThreadPoolExecutor(threads, "marquee-score") as pool:
            list(pool.map(work, range(threads)))
        return out

    def _score(
        self, tiles: Iterable[tuple[int, int]], user_index: Int64s, seen: Seen, k: int, out: BestRows,
        buckets: Buffers, draw: tuple[Noise, Drawn] | None,
    ) -> None:  # fmt: skip
        packed, head, drawing = self._packed, self._head, no_noise()
        slots = self._users_per_tile(k)
        kept_scores, kept_rows, all_counts, all_thresholds, keys = buffers(slots, k, len(self.candidates))
        watched = np.zeros((slots, len(packed.bias)), dtype=np.uint64)
        for first, last in tiles:
            rows = user_index[first:last]
            users = _tile(self.form.users, rows)
            counts, thresholds = all_counts[: last - first], all_thresholds[: last - first]
            counts[:], thresholds[:] = 0, LOWEST
            lists = (kept_scores, kept_rows, counts, thresholds, keys)
            if draw is not None:
                drawing = draw[0].tile(rows, packed.row)
            mark_seen(seen.indptr, seen.items, packed.place, first, last, watched, True)
            if head is None:
                prune = self._prune and not len(buckets[2]) and draw is None  # who leaves a tile would miss the rest
                reach = (packed.norm_from, packed.bias_from)
                dot_tile(
                    packed.bias, packed.dot, packed.row, reach,
                    users.bias, users.dot, rows, lists, watched, buckets, k, prune, drawing,
                )  # fmt: skip
            else:
                mlp_tile(
                    packed.bias, packed.dot, packed.hidden, packed.fields, packed.row,
                    users.bias, users.dot, users.hidden, head.user_fields(users.fields), rows,
                    head.cross, head.weights, head.biases, head.bounds, head.starts, head.shapes,
                    lists, watched, buckets, k, drawing,
                )  # fmt: skip
            mark_seen(seen.indptr, seen.items, packed.place, first, last, watched, False)
            if draw is None:
                finish_all(k, kept_scores, kept_rows, counts, keys, out.row, out.scores, out.lengths, first)
            else:
                finish_drawn(k, lists, drawing, draw[1].arrays, first)


class _Audience:
    """Per-item buffers of users, one set a thread, merged at the end."""

    def __init__(self, packed: PackedItems, k: int, num_users: int, threads: int) -> None:
        self._sets = [buffers(packed.row.size, k, num_users) for _ in range(threads)]

    def of(self, thread: int) -> Buffers:
        return self._sets[thread]

    def result(self, packed: PackedItems, candidates: Int64s, k: int) -> BestRows:
        """Each candidate's best users, aligned with ``candidates``."""
        out = BestRows.empty(len(candidates), k)
        for first in range(0, len(candidates), _ITEMS_PER_MERGE):
            places = packed.place[candidates[first : first + _ITEMS_PER_MERGE]]
            scores = np.concatenate([kept[0][places] for kept in self._sets], axis=1)
            users = np.concatenate([kept[1][places] for kept in self._sets], axis=1)
            counts = merge_counts(scores, users, [kept[2][places] for kept in self._sets])
            keys = np.empty(scores.shape[1], dtype=np.uint64)
            finish_all(k, scores, users, counts, keys, out.row, out.scores, out.lengths, first)
        return out


def merge_counts(scores: Float32s, users: Int32s, counts: list[Int64s]) -> Int64s:
    """Close the gaps between the threads' parts of each row, in place; the number of entries of each row."""
    width = scores.shape[1] // len(counts)
    column = np.arange(scores.shape[1])
    real = np.concatenate([column[None, :width] < part[:, None] for part in counts], axis=1)
    order = np.argsort(~real, axis=1, kind="stable")
    scores[:] = np.take_along_axis(scores, order, axis=1)
    users[:] = np.take_along_axis(users, order, axis=1)
    return np.asarray(real.sum(axis=1), dtype=np.int64)


def _tile(side: Side, rows: Int64s) -> Side:
    """The given user rows as arrays of their own, with rows of nobody up to a multiple of the kernels' rows."""
    padded = np.concatenate([rows, np.full(-len(rows) % MAX_ROWS, rows[0])])
    return Side(*(np.ascontiguousarray(part[padded], dtype=np.float32) for part in side.parts))


def _tops(side: Side) -> tuple[float, float, float, float]:
    """Each part's largest absolute value."""
    bias, dot, hidden, fields = (float(np.abs(part).max(initial=0)) for part in side.parts)
    return bias, dot, hidden, fields


def may_overflow(form: PairForm, item_tops: tuple[float, float, float, float] | None = None) -> bool:
    """Whether a score, or anything computed on the way to it, might: by a bound on their absolute values.

    Args:
        form: a lowered model.
        item_tops: largest absolute values of the items' parts, where they are known.
    """
    users, head = form.users, form.head
    mine, theirs = _tops(users), item_tops or _tops(form.items)
    bound = mine[0] + theirs[0] + mine[1] * theirs[1] * max(users.dot.shape[1], 1)
    if not head.has_mlp:
        return bound >= _SAFE
    z = mine[3] * theirs[3] * max(users.fields.shape[2], 1)
    hidden = mine[2] + theirs[2]
    hidden += z * float(np.abs(head.cross).astype(np.float64).sum(axis=1).max(initial=0))
    for weight, bias in head.tail:
        hidden = hidden * float(np.abs(weight).astype(np.float64).sum(axis=1).max()) + float(np.abs(bias).max())
        bound = max(bound, hidden)
    return bound + hidden >= _SAFE


def _refuse_overflow(form: PairForm, user_index: Int64s, candidates: Int64s) -> None:
    """Score in the plain way, to see whether weights that are large enough to overflow do.

    Raises:
        ScoreError: they do; names the user row.
    """
    log.warning("the model's weights are so large that scores might overflow; checking each user, which is slow")
    for user in np.unique(user_index):
        with np.errstate(over="ignore", invalid="ignore"):
            scores = form.score_pairs(np.full(len(candidates), user), candidates)
        if not np.isfinite(scores).all():
            raise ScoreError(f"user row {user}: a score is NaN or infinite; the model is not usable, train it again")
