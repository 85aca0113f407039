"""Random models in pair form, and the slow and obvious scores and lists that an engine must give for them."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from scipy.linalg import block_diag

from sdk.features.seen import Seen
from sdk.features.tables import FIRST_KNOWN
from sdk.models.pair_form import Head, PairForm, Side

WIDTHS = st.tuples(
    st.integers(0, 9), st.integers(1, 11), st.integers(0, 3), st.integers(0, 3), st.integers(1, 6),
    st.lists(st.integers(1, 9), max_size=2),
)  # fmt: skip


def random_form(num_users, num_items, widths, *, mlp=True, seed=0, grid=False):
    """A random pair form; on a grid all numbers are small multiples of 1/2, so that ties are many and sums exact."""
    rng = np.random.default_rng(seed)

    def draw(*shape):
        values = rng.integers(-2, 3, shape) / 2 if grid else rng.normal(0, 0.5, shape)
        return values.astype(np.float32)

    dot, hidden, user_fields, item_fields, field_dim, inner = widths
    hidden, fields = (hidden, (user_fields, item_fields)) if mlp else (0, (0, 0))
    users = Side(draw(num_users), draw(num_users, dot), draw(num_users, hidden), draw(num_users, fields[0], field_dim))
    items = Side(draw(num_items), draw(num_items, dot), draw(num_items, hidden), draw(num_items, fields[1], field_dim))
    outputs = (*inner, 1) if mlp else ()
    inputs = (hidden, *inner)
    tail = tuple((draw(o, i), draw(o)) for i, o in zip(inputs, outputs, strict=False))
    return PairForm(users, items, Head(draw(hidden, fields[0] * fields[1]), tail))


def all_scores(form):
    users, items = len(form.users), len(form.items)
    grid_u, grid_i = np.divmod(np.arange(users * items), items)
    return form.score_pairs(grid_u, grid_i).reshape(users, items)


def random_seen(num_users, num_items, share, seed=0):
    rng = np.random.default_rng(seed)
    users, items = np.nonzero(rng.random((num_users, num_items)) < share)
    return Seen.build(users, items, num_users)


def check(got, scores, seen, k, allowed=None, exact=False):
    for b in range(len(scores)):
        row = scores[b].astype(np.float64)
        row[:FIRST_KNOWN] = -np.inf
        row[seen.row(b)] = -np.inf
        if allowed is not None:
            row[~allowed] = -np.inf
        best = np.lexsort((np.arange(len(row)), -row))[:k]
        best = best[row[best] > -np.inf]
        n = got.lengths[b]
        assert n == len(best)
        ids = got.item_index[b, :n]
        assert len(set(ids.tolist())) == n
        if exact:
            assert ids.tolist() == best.tolist()
        np.testing.assert_allclose(got.scores[b, :n], row[best], rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(row[ids], row[best], rtol=1e-5, atol=1e-5)


WIDE = {"layers": (3, 8000, 2, 2, 4, [4]), "interactions": (3, 16, 40, 40, 4, [4])}


def averaged_form(num_users, num_items, widths, members, seed=0):
    """Several random forms with MLPs as one whose score is the sum of theirs, its layers put together from blocks."""
    forms = [random_form(num_users, num_items, each, seed=seed + n) for n, each in enumerate(widths[:members])]

    def side(name):
        parts = [getattr(form, name) for form in forms]
        bias = np.sum([part.bias for part in parts], axis=0, dtype=np.float32)
        joined = (
            np.concatenate([getattr(part, each) for part in parts], axis=1) for each in ("dot", "hidden", "fields")
        )
        return Side(bias, *joined)

    users, items = side("users"), side("items")
    cross = np.zeros((users.hidden.shape[1], users.fields.shape[1], items.fields.shape[1]), np.float32)
    at = np.zeros(3, np.int64)
    for form in forms:
        own = np.array([form.users.hidden.shape[1], form.users.fields.shape[1], form.items.fields.shape[1]])
        cross[tuple(slice(a, a + b) for a, b in zip(at, own, strict=True))] = form.head.cross.reshape(own)
        at += own
    layers = []
    for depth in range(len(forms[0].head.tail)):
        weights, biases = zip(*(form.head.tail[depth] for form in forms), strict=True)
        is_last = depth == len(forms[0].head.tail) - 1
        weight = np.hstack(weights) if is_last else block_diag(*weights).astype(np.float32)
        layers.append((weight, np.sum(biases, axis=0, dtype=np.float32) if is_last else np.concatenate(biases)))
    return PairForm(users, items, Head(cross.reshape(len(cross), -1), tuple(layers)))
