"""The fused scoring kernel, in the Triton language: scores of a tile stay on chip, and only what may be listed leaves.

A program owns a few users. It scores them against one tile of items after the other, in the pair form, and appends to
each user's buffer the unseen items that beat what the user has already: a comparison of (score, smaller row first) with
the worst entry of the list so far. ``sdk.scoring.gpu_engine`` merges the buffers. No program shares a buffer with
another, so nothing is atomic, and no list depends on which program ends first.

With ``TRITON_INTERPRET=1`` the same code runs on CPU tensors.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"
from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _dot_path(user_dot, item_dot, user, item, is_user, is_item, WIDTH: tl.constexpr, STEP: tl.constexpr):
    """(U, I) products of the dot vectors, accumulated in float32."""
    total = tl.zeros([user.shape[0], item.shape[0]], tl.float32)
    for start in range(0, WIDTH, STEP):
        column = start + tl.arange(0, STEP)
        inside = column < WIDTH
        p = tl.load(user_dot + user[:, None] * WIDTH + column[None, :], is_user[:, None] & inside[None, :], 0.0)
        q = tl.load(item_dot + item[None, :] * WIDTH + column[:, None], is_item[None, :] & inside[:, None], 0.0)
        total = tl.dot(p, q, total, input_precision="ieee")
    return total


@triton.jit
def _first_layer(
    user_hidden, item_hidden, user_fields, item_fields, cross, user, item, is_user, is_item,
    HIDDEN: tl.constexpr, HIDDEN_PAD: tl.constexpr, USER_FIELDS: tl.constexpr, ITEM_FIELDS: tl.constexpr,
    FIELD: tl.constexpr, FIELD_PAD: tl.constexpr,
):  # fmt: skip
    """(U, I, H) float32 A[u] + B[i] + W z; padding columns are 0."""
    column = tl.arange(0, HIDDEN_PAD)
    inside = column < HIDDEN
    a = tl.load(user_hidden + user[:, None] * HIDDEN + column[None, :], is_user[:, None] & inside[None, :], 0.0)
    b = tl.load(item_hidden + item[:, None] * HIDDEN + column[None, :], is_item[:, None] & inside[None, :], 0.0)
    hidden = a[:, None, :] + b[None, :, :]
    part = tl.arange(0, FIELD_PAD)
    used = part < FIELD
    for f in tl.static_range(USER_FIELDS):
        at_user = user_fields + (user[:, None] * USER_FIELDS + f) * FIELD + part[None, :]
        p = tl.load(at_user, is_user[:, None] & used[None, :], 0.0)
        for g in tl.static_range(ITEM_FIELDS):
            at_item = item_fields + (item[None, :] * ITEM_FIELDS + g) * FIELD + part[:, None]
            q = tl.load(at_item, is_item[None, :] & used[:, None], 0.0)
            z = tl.dot(p, q, input_precision="ieee")
            w = tl.load(cross + column * (USER_FIELDS * ITEM_FIELDS) + f * ITEM_FIELDS + g, inside, 0.0)
            hidden += z[:, :, None] * w[None, None, :]
    return hidden


@triton.jit
def _tail(
    hidden, weight_1, bias_1, weight_2, bias_2, last_weight, last_bias,
    LAYERS: tl.constexpr, WIDTH_0: tl.constexpr, WIDTH_1: tl.constexpr, WIDTH_2: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """(P,) outputs of the layers after the first, for (P, WIDTH_0) sums of the first. Weights are padded with zeros."""
    x = tl.maximum(hidden, 0.0)
    if LAYERS > 1:
        rows, columns = tl.arange(0, WIDTH_0), tl.arange(0, WIDTH_1)
        w = tl.load(weight_1 + rows[:, None] * WIDTH_1 + columns[None, :])
        x = tl.maximum(tl.dot(x, w, input_precision=PRECISION) + tl.load(bias_1 + columns)[None, :], 0.0)
    if LAYERS > 2:
        rows, columns = tl.arange(0, WIDTH_1), tl.arange(0, WIDTH_2)
        w = tl.load(weight_2 + rows[:, None] * WIDTH_2 + columns[None, :])
        x = tl.maximum(tl.dot(x, w, input_precision=PRECISION) + tl.load(bias_2 + columns)[None, :], 0.0)
    last = tl.load(last_weight + tl.arange(0, x.shape[1]))
    return tl.sum(x * last[None, :], axis=1) + tl.load(last_bias)


@triton.jit(do_not_specialize=["num_users", "first_item", "last_item", "words"])
def score_and_filter(
    user_bias, user_dot, user_hidden, user_fields, item_bias, item_dot, item_hidden, item_fields,
    cross, weight_1, bias_1, weight_2, bias_2, last_weight, last_bias,
    item_row, watched, least_score, least_row, kept_scores, kept_rows, counts,
    num_users, first_item, last_item, words, capacity,
    DOT: tl.constexpr, DOT_STEP: tl.constexpr, LAYERS: tl.constexpr, HIDDEN: tl.constexpr, WIDTH_0: tl.constexpr,
    WIDTH_1: tl.constexpr, WIDTH_2: tl.constexpr, USER_FIELDS: tl.constexpr, ITEM_FIELDS: tl.constexpr,
    FIELD: tl.constexpr, FIELD_PAD: tl.constexpr, PRECISION: tl.constexpr, USERS: tl.constexpr, ITEMS: tl.constexpr,
):  # fmt: skip
    """Score ``num_users`` users against the items from ``first_item`` up to ``last_item``, and keep what may be listed.

    Program n owns users n * USERS onwards.

    Args:
        user_bias: (U,) float32; ``user_dot`` (U, DOT), ``user_hidden`` (U, HIDDEN), ``user_fields`` (U, F, FIELD).
        item_bias: (I,) float32, and the items' other parts likewise.
        cross: (HIDDEN, F * G) float32, W of the pair form.
        weight_1: (WIDTH_0, WIDTH_1) float32, the first tail layer's weights transposed; ``bias_1`` (WIDTH_1,); the
            second's likewise; all padded with zeros.
        last_weight: (last width,) float32 of the layer with one output; ``last_bias`` (1,).
        item_row: (I,) int32, which decides ties.
        watched: (U, words) int32, bit i % 32 of word i // 32 set where item i is not to be listed.
        least_score: (U,) float32, and ``least_row`` (U,) int32: what an item must beat.
        kept_scores: (U, capacity) float32, written; ``kept_rows`` int32 likewise.
        counts: (U,) int32, written: how many beat it. More than ``capacity`` of them do not fit.
    """
    user = tl.program_id(0) * USERS + tl.arange(0, USERS)
    is_user = user < num_users
    bar = tl.load(least_score + user, is_user, float("inf"))
    bar_row = tl.load(least_row + user, is_user, 0)
    bias = tl.load(user_bias + user, is_user, 0.0)
    count = tl.zeros([USERS], tl.int32)
    for start in range(first_item, last_item, ITEMS):
        item = start + tl.arange(0, ITEMS)
        is_item = item < last_item
        score = bias[:, None] + tl.load(item_bias + item, is_item, 0.0)[None, :]
        if DOT > 0:
            score += _dot_path(user_dot, item_dot, user, item, is_user, is_item, DOT, DOT_STEP)
        if LAYERS > 0:
            hidden = _first_layer(
                user_hidden, item_hidden, user_fields, item_fields, cross, user, item, is_user, is_item,
                HIDDEN, WIDTH_0, USER_FIELDS, ITEM_FIELDS, FIELD, FIELD_PAD,
            )  # fmt: skip
            output = _tail(
                tl.reshape(hidden, [USERS * ITEMS, WIDTH_0]),
                weight_1, bias_1, weight_2, bias_2, last_weight, last_bias,
                LAYERS, WIDTH_0, WIDTH_1, WIDTH_2, PRECISION,
            )  # fmt: skip
            score += tl.reshape(output, [USERS, ITEMS])
        row = tl.load(item_row + item, is_item, 0)[None, :]
        seen = tl.load(watched + user[:, None] * words + (item // 32)[None, :], is_user[:, None] & is_item[None, :], -1)
        beats = (score > bar[:, None]) | ((score == bar[:, None]) & (row < bar_row[:, None]))
        beats = beats & (((seen >> (item % 32)[None, :]) & 1) == 0)
        number = beats.to(tl.int32)
        slot = count[:, None] + tl.cumsum(number, axis=1) - number
        at = user[:, None] * capacity + slot
        fits = beats & (slot < capacity)
        tl.store(kept_scores + at, score, fits)
        tl.store(kept_rows + at, tl.broadcast_to(row, [USERS, ITEMS]), fits)
        count += tl.sum(number, axis=1)
    tl.store(counts + user, count, is_user)
