"""A head in parts against the same head in one: the same bits, and the parts are those that were put together."""

from __future__ import annotations

import numpy as np
import pytest
from pair_forms import all_scores, averaged_form, check, random_form, random_seen

import sdk.scoring.head_parts as parts_module
from sdk.scoring.engine import Engine
from sdk.scoring.head_parts import HeadParts


def in_one(monkeypatch):
    monkeypatch.setattr(
        parts_module,
        "_cuts",
        lambda head: [[0, size] for size in (len(head.cross), *(len(b) for _, b in head.tail[:-1]))],
    )


@pytest.mark.parametrize(
    "widths",
    [
        [(3, 16, 2, 3, 4, [8]), (0, 24, 1, 2, 4, [12]), (2, 16, 2, 1, 4, [8])],
        [(0, 16, 2, 2, 5, [])] * 3,
        [(1, 32, 0, 0, 1, [16, 9])] * 4,
        [(1, 16, 2, 2, 3, [9, 8])] * 2,
    ],
)
def test_a_mean_of_networks_is_scored_part_by_part_to_the_same_bits(widths, monkeypatch):
    form, seen = averaged_form(37, 301, widths, len(widths), seed=5), random_seen(37, 301, 0.2)
    parts = HeadParts.of(form.head, form.items.fields.shape[1])
    ends = np.cumsum([each[1] for each in widths])
    if widths[0][5] or widths[0][2]:  # else nothing ties a network's units together
        assert parts.bounds[:, 1].tolist() == ends.tolist()
    got = Engine(form, threads=2).top_k(np.arange(37), seen, 20)
    check(got, all_scores(form), seen, 20)
    in_one(monkeypatch)
    assert len(HeadParts.of(form.head, form.items.fields.shape[1]).bounds) == 1
    whole = Engine(form, threads=2).top_k(np.arange(37), seen, 20)
    for name in ("item_index", "scores", "lengths"):
        np.testing.assert_array_equal(getattr(got, name), getattr(whole, name))


def test_only_what_a_part_needs_is_multiplied():
    widths = [(0, 16, 2, 3, 4, [8])] * 4
    form = averaged_form(5, 9, widths, 4)
    parts = HeadParts.of(form.head, 12)
    assert parts.cross.size == form.head.cross.size / 16
    assert parts.weights.size == 4 * (16 * 8 + 8)
    assert parts.bounds[1].tolist() == [16, 32, 2, 4, 3, 6]


def test_a_network_that_is_one_stays_one_and_small_parts_are_not_split_off():
    dense = random_form(5, 9, (2, 32, 2, 3, 4, [16]))
    assert len(HeadParts.of(dense.head, 3).bounds) == 1
    small = averaged_form(5, 9, [(0, 3, 1, 1, 2, [2])] * 3, 3)
    assert len(HeadParts.of(small.head, 3).bounds) == 1


def test_units_of_two_networks_in_turn_are_no_parts():
    form = averaged_form(11, 90, [(1, 16, 1, 1, 3, [8])] * 2, 2)
    order = np.arange(32).reshape(2, 16).T.ravel()
    weight, bias = form.head.tail[0]
    head = type(form.head)(form.head.cross[order], ((weight[:, order], bias), *form.head.tail[1:]))
    assert len(HeadParts.of(head, 2).bounds) == 1
