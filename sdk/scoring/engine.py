"""The exact engine: every wanted user against every candidate, the best k kept, ties to the smaller item id.

Item rows ascend by item_id, so the smaller row is the smaller id. A score's bits depend on its user and its item
alone: tile sizes, the number of threads, the order of users and the other candidates never change a list.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from sdk.errors import ScoreError, UsageError
from sdk.features.tables import FIRST_KNOWN
from sdk.scoring.packed import PackedItems, pack
from sdk.scoring.pair_form import Head, PairForm, Side
from sdk.scoring.seen import Seen
from sdk.scoring.selection import LOWEST, buffer_size, finish_all
from sdk.scoring.tiles import dot_tile, mlp_tile, seen_places
from sdk.types import Bools, Float32s, Int32s, Int64s

log = logging.getLogger(__name__)

_USERS_PER_TILE = 64
_SAFE = 1e37  # scores that provably stay below this can be neither infinite nor NaN
_NONE = (np.zeros((0, 0), np.uint64), np.zeros(0, np.int64), np.zeros(0, np.float32))


@dataclass(frozen=True, slots=True, eq=False)
class RowTopK:
    """The best rows of each query row, best first.

    Attributes:
        item_index: (B, k) int64 rows; row b is real up to ``lengths[b]``.
        scores: (B, k) float32 logits.
        lengths: (B,) int32.
    """

    item_index: Int64s
    scores: Float32s
    lengths: Int32s


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def recommend(form: PairForm, user_index: Int64s, seen: Seen, k: int, allowed: Bools | None = None) -> RowTopK:
    """Each user row's k best item rows among those allowed and unseen; see ``Engine.top_k``."""
    return Engine(form, allowed).top_k(user_index, seen, k)


class Engine:
    """A model ready to score: its items laid out once, then asked for any users.

    Args:
        form: a lowered model.
        allowed: (R_item,) bool, the rows that may be recommended; None allows all. The reserved rows never are.
        threads: None uses every core.
        prune: leave out items that provably cannot enter a list (models without an MLP; the lists stay the same).

    Raises:
        ScoreError: the model holds a NaN or an infinity; names the side and the first bad row.
    """

    def __init__(
        self, form: PairForm, allowed: Bools | None = None, *, threads: int | None = None, prune: bool = True
    ) -> None:
        form.check()
        self.form, self.threads = form, threads or usable_cores()
        rows = np.arange(FIRST_KNOWN, len(form.items), dtype=np.int64)
        self.candidates: Int64s = rows if allowed is None else rows[allowed[FIRST_KNOWN:]]
        self._prune = prune and not form.head.has_mlp
        self._is_safe = _largest_score(form) < _SAFE
        norms = np.linalg.norm(form.users.dot.astype(np.float64), axis=1) if len(form.users) else np.zeros(1)
        self._packed = pack(form.items, self.candidates, float(norms.mean()))
        self._head = _FlatHead.build(form)

    def top_k(self, user_index: Int64s, seen: Seen, k: int) -> RowTopK:
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

    def top_k_and_audience(self, user_index: Int64s, seen: Seen, k: int) -> tuple[RowTopK, RowTopK]:
        """The same in one pass with its transpose: each candidate's k best users among those given.

        Returns:
            The users' lists, and the lists of user rows, aligned with ``self.candidates``. A user who has seen an
            item is not in its audience; equal scores go to the smaller user row.
        """
        audience = _Audience(self._packed, k, len(user_index), self.threads)
        lists = self._run(user_index, seen, k, audience)
        return lists, audience.result(self._packed, self.candidates, k)

    def _run(self, user_index: Int64s, seen: Seen, k: int, audience: _Audience | None) -> RowTopK:
        if k < 1:
            message = f"k: got {k}, expected at least 1"
            raise UsageError(message)
        if not self._is_safe:
            _refuse_overflow(self.form, user_index, self.candidates)
        out = _empty(len(user_index), min(k, len(self.candidates)))
        starts = range(0, len(user_index) if len(self.candidates) else 0, _USERS_PER_TILE)
        tiles = [(start, min(start + _USERS_PER_TILE, len(user_index))) for start in starts]
        threads = min(self.threads, len(tiles))
        if threads <= 1:
            self._score(tiles, user_index, seen, k, out, audience, 0)
            return out
        with ThreadPoolExecutor(threads, "marquee-score") as pool:
            shares = [
                pool.submit(self._score, tiles[t::threads], user_index, seen, k, out, audience, t)
                for t in range(threads)
            ]
            for share in shares:
                share.result()
        return out

    def _score(
        self, tiles: Iterable[tuple[int, int]], user_index: Int64s, seen: Seen, k: int, out: RowTopK,
        audience: _Audience | None, thread: int,
    ) -> None:  # fmt: skip
        packed, head = self._packed, self._head
        size = buffer_size(k, len(self.candidates))
        buckets = _NONE if audience is None else audience.of(thread)
        keys = np.empty((_USERS_PER_TILE, size), dtype=np.uint64)
        for first, last in tiles:
            rows = user_index[first:last]
            users = _contiguous(self.form.users.take(rows))
            counts, thresholds = np.zeros(last - first, dtype=np.int64), np.full(last - first, LOWEST)
            lists = (keys, counts, thresholds)
            places, starts, ends = seen_places(seen.indptr, seen.items, packed.place, first, last)
            watched = (places, ends, starts)
            if head is None:
                prune = self._prune and audience is None
                limits = (packed.norm_from, packed.bias_from)
                dot_tile(
                    packed.bias,
                    packed.dot,
                    packed.row,
                    limits,
                    users.bias,
                    users.dot,
                    rows,
                    lists,
                    watched,
                    buckets,
                    k,
                    prune,
                )
            else:
                mlp_tile(
                    packed.bias, packed.dot, packed.hidden, packed.fields, packed.row,
                    users.bias, users.dot, users.hidden, users.fields, rows,
                    head.cross, head.weights, head.biases, head.shapes, lists, watched, buckets, k,
                )  # fmt: skip
            finish_all(keys, counts, k, out.item_index, out.scores, out.lengths, first)


class _Audience:
    """Per-item buffers of user keys, one set a thread, merged at the end."""

    def __init__(self, packed: PackedItems, k: int, num_users: int, threads: int) -> None:
        places, size = packed.row.size, buffer_size(k, num_users)
        self._sets = [
            (np.empty((places, size), np.uint64), np.zeros(places, np.int64), np.full(places, LOWEST))
            for _ in range(threads)
        ]

    def of(self, thread: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # type: ignore[type-arg]
        return self._sets[thread]

    def result(self, packed: PackedItems, candidates: Int64s, k: int) -> RowTopK:
        """Each candidate's best users, aligned with ``candidates``."""
        places = packed.place[candidates]
        size = sum(keys.shape[1] for keys, _, _ in self._sets)
        out = _empty(len(candidates), k)
        for first in range(0, len(places), _USERS_PER_TILE * 64):
            block = places[first : first + _USERS_PER_TILE * 64]
            merged, counts = np.zeros((len(block), size), np.uint64), np.zeros(len(block), np.int64)
            for keys, filled, _ in self._sets:
                _append(merged, counts, keys, filled, block)
            finish_all(merged, counts, k, out.item_index, out.scores, out.lengths, first)
        return out


def _append(merged: np.ndarray, counts: Int64s, keys: np.ndarray, filled: Int64s, places: Int32s) -> None:  # type: ignore[type-arg]
    for row, place in enumerate(places):
        n = filled[place]
        merged[row, counts[row] : counts[row] + n] = keys[place, :n]
        counts[row] += n


def _empty(num_rows: int, width: int) -> RowTopK:
    return RowTopK(
        np.zeros((num_rows, width), np.int64), np.zeros((num_rows, width), np.float32), np.zeros(num_rows, np.int32)
    )


def _contiguous(side: Side) -> Side:
    return Side(
        *(np.array(part, dtype=np.float32, order="C") for part in (side.bias, side.dot, side.hidden, side.fields))
    )


@dataclass(frozen=True, slots=True, eq=False)
class _FlatHead:
    """The head as flat arrays: W, then every tail layer's weights and biases one after the other."""

    cross: Float32s
    weights: Float32s
    biases: Float32s
    shapes: Int64s

    @classmethod
    def build(cls, form: PairForm) -> _FlatHead | None:
        head: Head = form.head
        if not head.has_mlp:
            return None
        weights = np.concatenate([weight.ravel() for weight, _ in head.tail])
        biases = np.concatenate([bias for _, bias in head.tail])
        shapes = np.array([weight.shape for weight, _ in head.tail], dtype=np.int64)
        return cls(np.ascontiguousarray(head.cross), weights, biases, shapes)


def _largest_score(form: PairForm) -> float:
    """A bound on the absolute value of every score and of everything computed on the way to it."""
    users, items, head = form.users, form.items, form.head

    def top(side: Side, part: str) -> float:
        values = getattr(side, part)
        return float(np.abs(values).max()) if values.size else 0.0

    bound = top(users, "bias") + top(items, "bias") + top(users, "dot") * top(items, "dot") * max(users.dot.shape[1], 1)
    if not head.has_mlp:
        return bound
    z = top(users, "fields") * top(items, "fields") * max(users.fields.shape[2], 1)
    hidden = top(users, "hidden") + top(items, "hidden")
    hidden += z * (float(np.abs(head.cross).astype(np.float64).sum(axis=1).max()) if head.cross.size else 0.0)
    for weight, bias in head.tail:
        hidden = hidden * float(np.abs(weight).astype(np.float64).sum(axis=1).max()) + float(np.abs(bias).max())
        bound = max(bound, hidden)
    return bound + hidden


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
            message = f"user row {user}: a score is NaN or infinite; the model is not usable, train it again"
            raise ScoreError(message)
