"""A few users' lists without laying out the catalogue or loading compiled code: what the engine gives, to the bit.

One product finds roughly what every item is worth. What a bound on its rounding leaves among the best is then summed as
the engine sums it: one fused multiply-add per term, in the order of the terms. In NumPy that is float64, in which a
product of float32 is exact, with the sum rounded to odd, after which rounding to float32 is as if once (Boldo and
Melquiond 2008, "Emulation of FMA and correctly rounded sums", IEEE Transactions on Computers 57).
"""

from __future__ import annotations

import numpy as np

from sdk.base.types import BestRows, Bools, Float32s, Float64s, Int64s
from sdk.features.seen import Seen
from sdk.features.tables import FIRST_KNOWN
from sdk.models.pair_form import PairForm, Side

_UNIT, _TINY = 2.0**-23, float(np.finfo(np.float32).tiny)  # twice what one rounding to float32 takes off; underflow
_SAFE = 1e37  # scores that provably stay below this can be neither infinite nor NaN


def quick_lists(form: PairForm, user_index: Int64s, seen: Seen, k: int, allowed: Bools | None) -> BestRows | None:
    """Each user row's k best allowed items that the user has not seen; arguments as ``Engine.top_k``.

    Args:
        form: without an MLP, and finite.
        user_index: (B,) int64 rows of the users' side.
        seen: what each of them must not be given, aligned with ``user_index``.
        k: list length, at least 1.
        allowed: (R_item,) bool; None allows all. The reserved rows never are.

    Returns:
        None where a score might overflow, which the engine looks into.
    """
    open_rows = np.ones(len(form.items), np.bool_) if allowed is None else allowed.copy()
    open_rows[:FIRST_KNOWN] = False
    out = BestRows.empty(len(user_index), min(k, int(open_rows.sum())))
    with np.errstate(over="ignore"):  # one that is too large is the engine's
        sizes = np.sqrt(np.einsum("ij,ij->i", form.items.dot, form.items.dot))  # no squares of the whole table
    for place, user in enumerate(user_index.tolist()):
        one = form.users.take(slice(user, user + 1))
        mine = open_rows.copy()
        mine[seen.row(place)] = False
        rows = _contenders(form.items, one, sizes, np.flatnonzero(mine), out.row.shape[1])
        if rows is None:
            return None
        scores = fused_scores(one, form.items.take(rows))
        best = np.lexsort((rows, -scores))[: out.row.shape[1]]
        out.lengths[place] = len(best)
        out.row[place, : len(best)], out.scores[place, : len(best)] = rows[best], scores[best]
    return out


def _contenders(items: Side, user: Side, sizes: Float32s, rows: Int64s, k: int) -> Int64s | None:
    """Those of (C,) item rows that can be among the user's k best, ascending; None where a score might overflow."""
    bias = user.bias.astype(np.float64) + items.bias
    reach = np.linalg.norm(user.dot.astype(np.float64)) * sizes + np.abs(user.bias) + np.abs(items.bias)
    if not reach[rows].max(initial=0) < _SAFE:
        return None
    off = (_UNIT * reach[rows] + _TINY) * (user.dot.shape[1] + 4)
    about = (items.dot @ user.dot[0] + bias)[rows]
    if len(rows) <= k:
        return rows
    least = np.partition(about - off, len(rows) - k)[len(rows) - k]
    return rows[about + off >= least]


def fused_scores(user: Side, items: Side) -> Float32s:
    """(C,) float32 scores of C items for one user, as the engine's kernels sum them."""
    total = np.asarray(user.bias + items.bias, np.float32)
    for weight, column in zip(user.dot[0].astype(np.float64), items.dot.astype(np.float64).T, strict=True):
        total = _rounded_sum(total.astype(np.float64), weight * column)
    return np.asarray(total + np.float32(0))  # -0.0 becomes 0.0, as in the engine's keys


def _rounded_sum(left: Float64s, right: Float64s) -> Float32s:
    """The float32 nearest to each exact sum."""
    total = left + right
    back = total - left
    rest = (left - (total - back)) + (right - back)  # exactly what rounding took off (Knuth's two-sum)
    odd = np.nextafter(total, np.copysign(np.inf, rest))
    to_odd = (rest != 0) & (total.view(np.int64) & 1 == 0)
    return np.where(to_odd, odd, total).astype(np.float32)
