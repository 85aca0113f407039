"""Pairs of several events: what was known of them at a moment, and splits by time that part them by their first."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from small import dataset as small_dataset
from small import run_config

import sdk
from sdk.base.config import SplitConfig
from sdk.bundles.bundle import load
from sdk.data.events import read_interactions
from sdk.data.fingerprint import fingerprint
from sdk.data.splits import split
from sdk.lab.comparison.protocols import tasks_for
from sdk.training.pipeline import train_bundle

START = 1_000_000_000


def events(seed=0, size=3000, users=60, items=40):
    """Rows of a till: who bought what, how much of it, and when; many pairs come again."""
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "user_id": rng.integers(1, users + 1, size),
            "item_id": (items * rng.random(size) ** 2).astype(int) + 1,
            "weight": rng.integers(1, 4, size),
            "timestamp": START + rng.integers(0, 10**7, size),
        }
    )


def pairs_of(table):
    return read_interactions(table).interactions


def by_hand(table, moment):
    """(user, item) -> weight and latest time of its events before a moment, one row at a time."""
    found = {}
    for user, item, weight, when in table.itertuples(index=False):
        if when < moment:
            before = found.get((user, item), (0, 0))
            found[user, item] = before[0] + weight, max(before[1], when)
    return found


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_as_of_a_moment_pairs_are_what_their_events_before_it_say(share):
    table = events()
    moment = START + int(share * 10**7)
    pairs, known, all_of_it = pairs_of(table), by_hand(table, moment), by_hand(table, START + 10**8)
    first = table.groupby(["user_id", "item_id"])["timestamp"].min().to_dict()
    then = pairs.as_of(moment)
    assert then.user_id is pairs.user_id
    assert any(known[pair] != all_of_it[pair] for pair in known)
    keys = list(zip(pairs.user_id.tolist(), pairs.item_id.tolist(), strict=True))
    assert pairs.since.tolist() == [first[pair] for pair in keys]
    values = list(zip(then.rating.tolist(), then.timestamp.tolist(), strict=True))
    assert values == [known.get(pair, all_of_it[pair]) for pair in keys]
    came = pairs.repeats.came(moment, moment + 10**6, pairs.timestamp)
    late = table[(table.timestamp >= moment) & (table.timestamp < moment + 10**6)]
    assert {pair for pair, one in zip(keys, came, strict=True) if one} == set(
        zip(late.user_id, late.item_id, strict=True)
    )


def test_some_of_the_pairs_keep_their_own_events():
    table = events(1)
    pairs = pairs_of(table)
    rows = np.random.default_rng(2).permutation(len(pairs))[: len(pairs) // 2]
    some = pairs.take(rows)
    moment = START + 5 * 10**6
    assert some.since.tolist() == pairs.since[rows].tolist()
    assert some.as_of(moment).rating.tolist() == pairs.as_of(moment).rating[rows].tolist()
    mask = np.zeros(len(pairs), np.bool_)
    mask[rows] = True
    assert pairs.take(mask).since.tolist() == pairs.since[np.sort(rows)].tolist()


def test_pairs_that_came_once_or_at_no_known_time_have_no_repeats():
    table = events()
    once = table.drop_duplicates(["user_id", "item_id"])
    assert pairs_of(once).repeats is None
    assert pairs_of(table.drop(columns="timestamp")).repeats is None
    assert pairs_of(table.assign(rating=3.0)).repeats is None  # of ratings the latest stands


@pytest.mark.parametrize("kind", ["time", "leave-last-out"])
def test_what_is_asked_for_was_never_had_before(kind):
    table = events()
    pairs = pairs_of(table)
    parts = split(pairs, SplitConfig(kind=kind))
    first = table.groupby(["user_id", "item_id"])["timestamp"].min()
    when = np.array([first[pair] for pair in zip(pairs.user_id, pairs.item_id, strict=True)])
    if kind == "time":
        assert when[parts.train].max() <= when[parts.test].min()
    else:
        newest = pd.Series(when).groupby(pairs.user_id).max()
        assert (when[parts.test] == newest[pairs.user_id[parts.test]].to_numpy()).all()
    last = table.groupby(["user_id", "item_id"])["timestamp"].max()
    assert any(last[pair] != first[pair] for pair in first.index)


def test_protocol_c_learns_from_nothing_that_came_later():
    table = events()
    (task,) = [each for each in tasks_for(sdk.dataset(table), ["C"], [42]) if each.protocol == "C"]
    asked = task.dataset.interactions.take(task.test)
    moment = asked.since.min()
    learnt, known = task.learnt.interactions, by_hand(table, moment)
    values = zip(learnt.user_id.tolist(), learnt.item_id.tolist(), learnt.rating.tolist(), strict=True)
    for user, item, weight in values:
        assert known[user, item][0] == weight
    assert not {*zip(asked.user_id.tolist(), asked.item_id.tolist(), strict=True)} & known.keys()


def test_the_measured_bundle_knows_no_event_of_the_test_part(tmp_path):
    table = events(3)
    data = sdk.dataset(table)
    config = run_config(models=("history",), split=SplitConfig(kind="time"), final_fit=True)
    train_bundle(data, config, tmp_path / "bundle")
    whole = load(tmp_path / "bundle")
    pairs = data.interactions
    moment = int(pairs.since[split(pairs, config.split).test].min())
    known = by_hand(table, moment)
    stored = whole.measured.interactions.only(0, 1)
    users, items = whole.measured.encoded_users.ids, whole.measured.encoded_items.ids
    rows = stored.rows
    for user, item, weight in zip(users[rows.user_index], items[rows.item_index], stored.rating, strict=True):
        assert known[user, item][0] == weight
    final, stored = by_hand(table, START + 10**8), whole.interactions
    users, items = whole.encoded_users.ids, whole.encoded_items.ids
    rows = stored.rows
    for user, item, weight in zip(users[rows.user_index], items[rows.item_index], stored.rating, strict=True):
        assert final[user, item][0] == weight


def test_a_fingerprint_tells_events_apart_that_add_up_alike():
    data = small_dataset(2)
    rows = {"user_id": [1, 1, 2], "item_id": [1, 1, 1], "weight": [1, 2, 3]}
    one, other = (pairs_of(pd.DataFrame({**rows, "timestamp": when})) for when in ([5, 9, 9], [7, 9, 9]))
    none = dataclasses.replace(one, repeats=None)
    found = [fingerprint(each, data.items, data.users, None) for each in (one, other, none)]
    assert len(set(found)) == 3
