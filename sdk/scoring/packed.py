"""The item side laid out for the kernels: strips of ``LANES`` items, one feature per row, likeliest items first."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sdk.base.types import Float32s, Float64s, Int32s, Int64s
from sdk.models.pair_form import Side
from sdk.scoring.kernels import LANES


@dataclass(frozen=True, slots=True, eq=False)
class PackedItems:
    """Candidates in strips. Padding has a bias of -inf, so that it never reaches a list.

    Attributes:
        row: (S * LANES,) int32, the item row in each place; -1 is padding.
        place: (R,) int32, the place of each item row; -1 where it is no candidate.
        bias: (S, LANES) float32.
        dot: (S, d, LANES) float32.
        hidden: (S, H, LANES) float32.
        fields: (S, F, D, LANES) float32.
        norm_from: (S + 1,) float32, the largest norm of a dot vector in a strip or any later one.
        bias_from: (S + 1,) float32, the largest bias there.
    """

    row: Int32s
    place: Int32s
    bias: Float32s
    dot: Float32s
    hidden: Float32s
    fields: Float32s
    norm_from: Float32s
    bias_from: Float32s


def mean_norm(side: Side) -> float:
    """Of the dot vectors of a side; 0 where it has no row."""
    return float(np.linalg.norm(side.dot.astype(np.float64), axis=1).mean()) if len(side) else 0.0


def promising_first(items: Side, candidates: Int64s, user_norm: float) -> Int64s:
    """Places of the candidates, likeliest first: lists fill with good items early, and few later ones beat them.

    Args:
        items: the whole item side.
        candidates: (C,) int64 item rows, ascending.
        user_norm: a typical norm of a user's dot vector.
    """
    norms = np.linalg.norm(items.dot[candidates].astype(np.float64), axis=1)
    order: Int64s = np.argsort(-(items.bias[candidates] + user_norm * norms), kind="stable")
    return order


def pack(items: Side, candidates: Int64s, user_norm: float) -> PackedItems:
    """Lay out the candidates, most promising first; arguments as for ``promising_first``."""
    order = candidates[promising_first(items, candidates, user_norm)]
    num_strips = -(-len(order) // LANES)
    row = np.full(num_strips * LANES, -1, dtype=np.int32)
    row[: len(order)] = order
    place = np.full(len(items), -1, dtype=np.int32)
    place[order] = np.arange(len(order), dtype=np.int32)
    bias = np.full(num_strips * LANES, -np.inf, dtype=np.float32)
    bias[: len(order)] = items.bias[order]
    fields = items.fields.reshape(len(items), -1)
    return PackedItems(
        row, place, bias.reshape(num_strips, LANES),
        _strips(items.dot, order, num_strips), _strips(items.hidden, order, num_strips),
        _strips(fields, order, num_strips).reshape(num_strips, *items.fields.shape[1:], LANES),
        _largest_from(np.linalg.norm(items.dot[order].astype(np.float64), axis=1), num_strips),
        _largest_from(items.bias[order].astype(np.float64), num_strips),
    )  # fmt: skip


def _strips(matrix: Float32s, order: Int64s, num_strips: int) -> Float32s:
    """(S, F, LANES) of the (R, F) rows in the given order, zeros behind the last."""
    padded = np.zeros((num_strips * LANES, matrix.shape[1]), dtype=np.float32)
    padded[: len(order)] = matrix[order]
    return np.ascontiguousarray(padded.reshape(num_strips, LANES, matrix.shape[1]).transpose(0, 2, 1))


def _largest_from(values: Float32s | Float64s, num_strips: int) -> Float32s:
    """(S + 1,) the largest value in each strip or a later one, rounded up; -inf behind the last."""
    padded = np.full(num_strips * LANES, -np.inf)
    padded[: len(values)] = values
    suffix = np.maximum.accumulate(padded.reshape(num_strips, LANES).max(axis=1)[::-1])[::-1]
    with np.errstate(over="ignore"):  # a norm above float32's range becomes infinite: nothing is left out then
        rounded_up = np.nextafter(suffix.astype(np.float32), np.float32(np.inf))
    return np.append(rounded_up, np.float32(-np.inf)).astype(np.float32)
