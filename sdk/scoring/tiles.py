"""A tile of users against all strips: scores stay in the cache, and losing to a user's k-th best costs one comparison.

Both scorers walk the strips in the outer loop and the tile's users in the inner one, so a strip is read from memory
once per tile, and hand each strip row of scores to the same selection.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sdk.machine.compiled import compiled
from sdk.scoring.exploration import draw_strip
from sdk.scoring.kernels import (
    LANES,
    MAX_ROWS,
    address_of,
    lanes_at_least,
    lanes_at_least_each,
    lowest_bit,
    score_rows,
    store_lanes,
)
from sdk.scoring.products import product, product_base, product_base_relu, product_relu
from sdk.scoring.selection import clean

_F32 = 4  # bytes
_GROUP = 8  # users whose scores of one strip are kept at a time
_CHECK_EVERY = 8  # strips between looks at who is done
_ROUNDING = np.float32(1e-5)  # share of the terms' size by which a float32 sum of some hundred terms may be off


@compiled
def _take(
    mask: Any, at_scores: int, at_rows: int, slot: int, k: int,
    kept_scores: Any, kept_rows: Any, counts: Any, thresholds: Any, keys: Any,
) -> None:  # fmt: skip
    """Put the chosen lanes of a strip row into a slot's buffer; clean it when it may not hold another strip."""
    size, count = kept_scores.shape[1], counts[slot]
    behind = (slot * size + count) * _F32
    count += store_lanes(mask, at_scores, at_rows, address_of(kept_scores) + behind, address_of(kept_rows) + behind)
    counts[slot] = count
    if count > size - LANES:
        clean(slot, k, kept_scores, kept_rows, counts, thresholds, keys)


@compiled
def _offer_to_items(
    scores: Any, rows: int, strip: int, group: int, user_rows: Any, k: int, audience: Any, seen: Any
) -> None:
    """Put some users into the buffers of the items of a strip that they score highly enough and have not seen."""
    kept_scores, kept_rows, counts, thresholds, keys = audience
    first = strip * LANES
    for g in range(rows):
        slot = group + g
        mask = lanes_at_least_each(address_of(scores[g]), address_of(thresholds) + first * _F32)
        mask &= ~seen[slot, strip]
        while mask != 0:
            lane = lowest_bit(mask)
            mask &= mask - np.uint64(1)
            place = first + lane
            kept_scores[place, counts[place]] = scores[g, lane]
            kept_rows[place, counts[place]] = user_rows[slot]
            counts[place] += 1
            if counts[place] > kept_scores.shape[1] - LANES:
                clean(place, k, kept_scores, kept_rows, counts, thresholds, keys)


@compiled
def mark_seen(indptr: Any, items: Any, place: Any, first: int, last: int, seen: Any, mark: bool) -> None:
    """Set, or take back, the bits of the items that users ``first`` to ``last`` have seen.

    Args:
        indptr: (U + 1,) int64; ``items`` (N,) int32: see ``Seen``.
        place: (R,) int32 place of each item row, -1 for no candidate.
        first: the tile's first user; ``last`` one behind its last.
        seen: (T, S) uint64, bit l of [t, s] is for lane l of strip s.
        mark: set the bits; else clear the words they are in.
    """
    for u in range(first, last):
        for at in range(indptr[u], indptr[u + 1]):
            where = place[items[at]]
            if where >= 0:
                bit = np.uint64(1) << np.uint64(where % LANES)
                seen[u - first, where // LANES] = (seen[u - first, where // LANES] | bit) if mark else np.uint64(0)


@compiled
def _drop_finished(
    strip: int, active: int, user_bias: Any, user_dot: Any, slots: Any, norms: Any, limits: Any, reach: Any
) -> int:
    """Move the users whom no later item can reach out of the tile; the number of those left.

    By Cauchy and Schwarz no later score exceeds a + max b + |p| max |q|. The float32 score may be off by its rounding,
    which the margin covers.
    """
    norm_from, bias_from = reach
    left = 0
    for u in range(active):
        product = norms[u] * norm_from[strip]
        bound = user_bias[u] + bias_from[strip] + product
        margin = _ROUNDING * (abs(user_bias[u]) + abs(bias_from[strip]) + product)
        if bound + margin >= limits[u]:
            if left != u:
                user_bias[left], slots[left], norms[left], limits[left] = user_bias[u], slots[u], norms[u], limits[u]
                user_dot[left] = user_dot[u]
            left += 1
    limits[left:active] = np.inf
    return left


@compiled
def _norms(user_dot: Any) -> Any:
    """(T,) float32 norms, rounded up."""
    norms = np.empty(len(user_dot), dtype=np.float32)
    for u in range(len(user_dot)):
        norms[u] = np.sqrt((user_dot[u].astype(np.float64) ** 2).sum()) * (1 + 1e-6)
    return norms


@compiled
def dot_tile(
    item_bias: Any, item_dot: Any, item_row: Any, reach: Any, user_bias: Any, user_dot: Any, user_rows: Any,
    lists: Any, seen: Any, audience: Any, k: int, prune: bool, drawing: Any,
) -> int:  # fmt: skip
    """Score a tile by bias and dot product alone; the number of user-strip scores computed is returned.

    ``user_bias`` and ``user_dot`` are the tile's own copies, padded to a multiple of ``MAX_ROWS`` rows; with pruning,
    rows of users who are done are overwritten. The rest as in ``mlp_tile``.
    """
    kept_scores, kept_rows, counts, thresholds, keys = lists
    dim, active = user_dot.shape[1], len(counts)
    norms, slots = _norms(user_dot), np.arange(active)
    limits = np.full(len(user_bias), np.float32(np.inf))  # thresholds of the users still in the tile, in its order
    limits[:active] = thresholds
    scores = np.empty((MAX_ROWS, LANES), dtype=np.float32)
    scratch = np.empty(LANES, dtype=np.float32), np.empty(len(keys), dtype=np.uint64)
    at_dot, at_bias, at_rows = address_of(item_dot), address_of(item_bias), address_of(item_row)
    at_scores, at_limits = address_of(scores), address_of(limits)
    at_user, at_user_bias = address_of(user_dot), address_of(user_bias)
    computed = 0
    for strip in range(len(item_bias)):
        if prune and strip % _CHECK_EVERY == 0:
            active = _drop_finished(strip, active, user_bias, user_dot, slots, norms, limits, reach)
            if active == 0:
                break
        computed += active
        first = strip * LANES
        for group in range(0, active, MAX_ROWS):
            news = score_rows(
                at_dot + first * dim * _F32, dim, at_user + group * dim * _F32, at_user_bias + group * _F32,
                at_bias + first * _F32, at_limits + group * _F32, at_scores,
            )  # fmt: skip
            if len(drawing[0]):
                for g in range(min(MAX_ROWS, active - group)):
                    draw_strip(scores[g], strip, group + g, k, item_row, lists, seen, drawing, scratch)
                continue
            while news != 0:
                g = lowest_bit(news)
                news &= news - np.uint64(1)
                slot = slots[group + g]
                at_score = at_scores + g * LANES * _F32
                mask = lanes_at_least(at_score, limits[group + g])
                mask &= ~seen[slot, strip]
                _take(mask, at_score, at_rows + first * _F32, slot, k, kept_scores, kept_rows, counts, thresholds, keys)
                limits[group + g] = thresholds[slot]
            if len(audience[2]):
                rows = min(MAX_ROWS, active - group)
                _offer_to_items(scores, rows, strip, group, user_rows, k, audience, seen)
    return computed


@compiled
def mlp_tile(
    item_bias: Any, item_dot: Any, item_hidden: Any, item_fields: Any, item_row: Any,
    user_bias: Any, user_dot: Any, user_hidden: Any, user_fields: Any, user_rows: Any,
    cross: Any, weights: Any, biases: Any, bounds: Any, starts: Any, shapes: Any,
    lists: Any, seen: Any, audience: Any, k: int, drawing: Any,
) -> int:  # fmt: skip
    """Score a tile by the whole pair form; the number of user-strip scores computed is returned.

    Args:
        item_bias: (S, LANES); item_dot (S, d, LANES); item_hidden (S, H, LANES); item_fields (S, G, D, LANES).
        item_row: (S * LANES,) item rows by place.
        user_bias: (T,); user_dot (T, d); user_hidden (T, H); user_rows (T,).
        user_fields: flat, part after part, and so are ``cross``, ``weights`` and ``biases``; ``bounds``, ``starts``
            and ``shapes`` say what is whose: see ``HeadParts``.
        lists: buffers of scores and rows, counts and thresholds per user, and scratch for keys; ``audience`` the same
            per place, empty where not wanted.
        seen: see ``mark_seen``.
        k: list length.
        drawing: see ``draw_strip``; empty where nothing is drawn.
    """
    kept_scores, kept_rows, counts, thresholds, keys = lists
    tile, padded, dim, num_hidden = len(counts), len(user_bias), user_dot.shape[1], user_hidden.shape[1]
    item_num_fields, field_dim = item_fields.shape[1], item_fields.shape[2]
    sizes = bounds[:, 1::2] - bounds[:, ::2]  # of each part: hidden units, user fields, item fields
    widest, num_fields = max(sizes[:, 0].max(), shapes[:, :, 0].max()), max(sizes[:, 1].max(), 1)
    num_cross = max((sizes[:, 1] * sizes[:, 2]).max(), 1)
    scores = np.empty((_GROUP, LANES), dtype=np.float32)
    z = np.empty((_GROUP * num_cross, LANES), dtype=np.float32)
    layers = np.empty((2, widest, LANES), dtype=np.float32)
    scratch = np.empty(LANES, dtype=np.float32), np.empty(len(keys), dtype=np.uint64)
    zeros = np.zeros(_GROUP * num_fields, dtype=np.float32)
    at_dot, at_bias, at_rows = address_of(item_dot), address_of(item_bias), address_of(item_row)
    at_hidden, at_fields, at_zeros = address_of(item_hidden), address_of(item_fields), address_of(zeros)
    at_user, at_user_bias = address_of(user_dot), address_of(user_bias)
    at_user_hidden, at_user_fields, at_cross = address_of(user_hidden), address_of(user_fields), address_of(cross)
    at_layers, at_weights, at_biases = address_of(layers), address_of(weights), address_of(biases)
    at_scores, at_z = address_of(scores), address_of(z)
    lanes, none = np.int64(LANES), np.int64(0)  # of one type with the other arguments: a literal is compiled for apart
    for strip in range(len(item_bias)):
        first = strip * LANES
        for group in range(0, tile, _GROUP):
            rows = min(_GROUP, tile - group)
            product_base(
                at_dot + first * dim * _F32, dim, at_user + group * dim * _F32, dim, at_user_bias + group * _F32,
                at_scores, lanes, rows, at_bias + first * _F32, none,
            )  # fmt: skip
            for part in range(len(bounds)):
                hidden, fields, others = sizes[part]
                crosses, from_hidden, from_field = fields * others, bounds[part, 0], bounds[part, 4]
                at_part = at_user_fields + (starts[part, 0] * padded + group * fields) * field_dim * _F32
                for g in range(others):
                    product(
                        at_fields + (first * item_num_fields + (from_field + g) * LANES) * field_dim * _F32, field_dim,
                        at_part, field_dim, at_zeros, at_z + g * LANES * _F32, others * LANES, rows * fields,
                    )  # fmt: skip
                for g in range(rows):
                    product_base_relu(
                        at_z + g * crosses * LANES * _F32, crosses, at_cross + starts[part, 1] * _F32, crosses,
                        at_user_hidden + ((group + g) * num_hidden + from_hidden) * _F32, at_layers, lanes, hidden,
                        at_hidden + (first * num_hidden + from_hidden * LANES) * _F32, lanes,
                    )  # fmt: skip
                    _tail(
                        at_layers, widest * LANES * _F32, at_weights + starts[part, 2] * _F32,
                        at_biases + starts[part, 3] * _F32, shapes[part], at_scores + g * LANES * _F32,
                    )  # fmt: skip
            for g in range(rows if len(drawing[0]) else 0):
                draw_strip(scores[g], strip, group + g, k, item_row, lists, seen, drawing, scratch)
            for g in range(0 if len(drawing[0]) else rows):
                slot, at_score = group + g, at_scores + g * LANES * _F32
                mask = lanes_at_least(at_score, thresholds[slot])
                if mask != 0:
                    mask &= ~seen[slot, strip]
                    at_row = at_rows + first * _F32
                    _take(mask, at_score, at_row, slot, k, kept_scores, kept_rows, counts, thresholds, keys)
            if len(audience[2]):
                _offer_to_items(scores, rows, strip, group, user_rows, k, audience, seen)
    _keep(z, zeros, layers)
    return tile * len(item_bias)


@compiled
def _keep(z: Any, zeros: Any, layers: Any) -> None:
    """Do nothing: Numba frees an array after its last use by name, and these are used by address until here."""


@compiled
def _tail(layers: int, layer_bytes: int, weights: int, biases: int, shapes: Any, score: int) -> None:
    """The layers after the first, for one user and strip; the last adds its one output to the score in place."""
    now, other = layers, layers + layer_bytes
    lanes, none, one = np.int64(LANES), np.int64(0), np.int64(1)
    for layer in range(len(shapes) - 1):
        outputs, inputs = shapes[layer, 0], shapes[layer, 1]
        product_relu(now, inputs, weights, inputs, biases, other, lanes, outputs)
        weights += outputs * inputs * _F32
        biases += outputs * _F32
        now, other = other, now
    product_base(now, shapes[len(shapes) - 1, 1], weights, none, biases, score, none, one, score, none)
