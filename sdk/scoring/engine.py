"""The exact engine: every wanted user against every title, the best k kept, ties to the smaller item index.

Item rows ascend by item_id, so the smaller index is the smaller id. Memory is bounded by one tile of users x items.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from sdk.errors import ScoreError
from sdk.features.tables import FIRST_KNOWN
from sdk.scoring.pair_form import Head, PairForm, Side
from sdk.scoring.seen import Seen
from sdk.types import Bools, Float32s, Int32s, Int64s

_USER_TILE = 64
_ITEM_TILE = 1024


@dataclass(frozen=True, slots=True, eq=False)
class RowTopK:
    """The best item rows of each user row, best first.

    Attributes:
        item_index: (B, k) int64 item rows; row b is real up to ``lengths[b]``.
        scores: (B, k) float32 logits.
        lengths: (B,) int32.
    """

    item_index: Int64s
    scores: Float32s
    lengths: Int32s


def recommend(form: PairForm, user_index: Int64s, seen: Seen, k: int, allowed: Bools | None = None) -> RowTopK:
    """Each user row's k best item rows among those allowed and unseen.

    Args:
        form: a lowered model.
        user_index: (B,) int64 rows of the users' table.
        seen: row b holds what ``user_index[b]`` must not be given; aligned with ``user_index``.
        k: list length, at least 1.
        allowed: (R_item,) bool, the rows that may be recommended; the reserved rows never are.

    Raises:
        ScoreError: a score is NaN or infinite; names the user row.
        ValueError: k < 1.
    """
    if k < 1:
        raise ValueError(f"k: got {k}, expected at least 1")
    candidates = _candidates(len(form.items), allowed)
    items = _tensors(form.items.take(candidates))
    lists: list[tuple[Int64s, Float32s]] = []
    for start in range(0, len(user_index), _USER_TILE):
        rows = user_index[start : start + _USER_TILE]
        scores = _score_tile(_tensors(form.users.take(rows)), items, form.head)
        _refuse_not_finite(scores, rows)
        _mask_seen(scores, seen, start, candidates)
        lists.extend(select_row(row, k) for row in scores)
    return _assemble(lists, candidates, k)


def _candidates(num_rows: int, allowed: Bools | None) -> Int64s:
    rows = np.arange(FIRST_KNOWN, num_rows, dtype=np.int64)
    return rows if allowed is None else rows[allowed[FIRST_KNOWN:]]


@dataclass(frozen=True, slots=True, eq=False)
class _Tensors:
    bias: torch.Tensor
    dot: torch.Tensor
    hidden: torch.Tensor
    fields: torch.Tensor


def _tensors(side: Side) -> _Tensors:
    return _Tensors(
        *(torch.from_numpy(np.ascontiguousarray(p)) for p in (side.bias, side.dot, side.hidden, side.fields))
    )


def _score_tile(users: _Tensors, items: _Tensors, head: Head) -> Float32s:
    """(B, I) float32 logits, item tile by item tile."""
    scores = users.bias[:, None] + items.bias[None, :] + users.dot @ items.dot.T
    if head.has_mlp:
        for start in range(0, scores.shape[1], _ITEM_TILE):
            cut = slice(start, start + _ITEM_TILE)
            scores[:, cut] += _mlp_tile(users, items.hidden[cut], items.fields[cut], head)
    return scores.numpy()


def _mlp_tile(users: _Tensors, item_hidden: torch.Tensor, item_fields: torch.Tensor, head: Head) -> torch.Tensor:
    hidden = users.hidden[:, None, :] + item_hidden[None, :, :]  # (B, T, H)
    if head.cross.shape[1]:
        z = torch.einsum("ufd,igd->uifg", users.fields, item_fields).flatten(2)
        hidden += z @ torch.from_numpy(head.cross).T
    for weight, bias in head.tail:
        hidden = torch.addmm(
            torch.from_numpy(bias), hidden.relu_().flatten(0, 1), torch.from_numpy(weight).T
        ).unflatten(0, hidden.shape[:2])
    return hidden[..., 0]


def _refuse_not_finite(scores: Float32s, rows: Int64s) -> None:
    bad = np.flatnonzero(~np.isfinite(scores).all(axis=1))
    if len(bad):
        message = f"user row {rows[bad[0]]}: a score is NaN or infinite; the model is not usable, train it again"
        raise ScoreError(message)


def _mask_seen(scores: Float32s, seen: Seen, start: int, candidates: Int64s) -> None:
    for b in range(len(scores)):
        items = seen.row(start + b)
        at = np.searchsorted(candidates, items)
        inside = at < len(candidates)
        at, items = at[inside], items[inside]
        scores[b, at[candidates[at] == items]] = -np.inf


def select_row(row: Float32s, k: int) -> tuple[Int64s, Float32s]:
    """One row's best k positions, best first, ties to the smaller position; -inf never appears."""
    if k < len(row):
        threshold = np.partition(row, len(row) - k)[len(row) - k]
        columns: NDArray[np.int64] = np.flatnonzero(row >= threshold)
    else:
        columns = np.arange(len(row))
    columns = columns[row[columns] > -np.inf]
    best = columns[np.argsort(-row[columns], kind="stable")[:k]]
    return best, row[best]


def _assemble(lists: list[tuple[Int64s, Float32s]], candidates: Int64s, k: int) -> RowTopK:
    width = min(k, len(candidates))
    item_index = np.zeros((len(lists), width), dtype=np.int64)
    scores = np.zeros((len(lists), width), dtype=np.float32)
    lengths = np.zeros(len(lists), dtype=np.int32)
    for b, (columns, values) in enumerate(lists):
        lengths[b] = len(columns)
        item_index[b, : len(columns)] = candidates[columns]
        scores[b, : len(columns)] = values
    return RowTopK(item_index, scores, lengths)
