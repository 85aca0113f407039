"""What may come again, merged into lists: against scores of the whole catalogue sorted by hand."""

import dataclasses

import numpy as np
import pandas as pd
import pyarrow.dataset as ds
import pytest
from small import run_config

import sdk
from batch.job.job import Job
from batch.run import run
from sdk.base.config import HistoryConfig
from sdk.features.seen import Seen
from sdk.models.pair_form import NO_MLP, PairForm, Side
from sdk.scoring.again import Again
from sdk.scoring.engine import Engine
from sdk.training.pipeline import train_bundle

USERS, ITEMS = 30, 25


def purchases(seed=0, size=1500):
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "user_id": rng.integers(1, USERS + 1, size),
            "item_id": 100 + (ITEMS * rng.random(size) ** 2).astype(int),
            "timestamp": 1_000_000_000 + rng.integers(0, 10**7, size),
        }
    )


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    history = HistoryConfig(repeat_weight=0.05, repeat_half_life_days=40.0, rank=8)
    config = dataclasses.replace(run_config(models=("history",)), history=history)
    return train_bundle(sdk.dataset(purchases()), config, tmp_path_factory.mktemp("again") / "bundle")


def by_hand(bundle, may_come):
    """user id -> every item with its score, best first; what may come again with its bonus, what may not left out."""
    form, stored = bundle.list_form(), bundle.interactions
    users, items, history = bundle.encoded_users.ids, bundle.encoded_items.ids, bundle.history
    newest = {}
    for user, when in zip(stored.rows.user_index.tolist(), stored.timestamp.tolist(), strict=True):
        newest[user] = max(when, newest.get(user, when))
    bonus = {}
    for user, item, weight, when in zip(
        stored.rows.user_index.tolist(), stored.rows.item_index.tolist(), stored.rating.tolist(),
        stored.timestamp.tolist(), strict=True,
    ):  # fmt: skip
        age = (newest[user] - when) / 86_400
        told = np.log2(1 + history.config.star_weight * weight)
        bonus[user, item] = history.config.repeat_weight * told * 0.5 ** (age / history.config.repeat_half_life_days)
    found = {}
    for user in range(3, len(users)):
        scores = {}
        for item in range(3, len(items)):
            if (user, item) in bonus and not may_come(int(items[item])):
                continue
            plain = form.score_pairs(np.array([user]), np.array([item]))[0]
            scores[int(items[item])] = plain + bonus.get((user, item), 0.0)
        found[int(users[user])] = sorted(scores.items(), key=lambda pair: (-pair[1], pair[0]))
    return found


def assert_lists(found, expected, k):
    for user, pairs in expected.items():
        items, scores = found[user]
        assert len(items) == min(k, len(pairs))
        assert scores == pytest.approx([score for _, score in pairs[:k]], abs=1e-5)
        for item, score in zip(items, scores, strict=True):
            assert dict(pairs)[item] == pytest.approx(score, abs=1e-5)


def test_the_sdk_lists_what_was_had_with_its_bonus(bundle):
    expected = by_hand(bundle, lambda item: True)
    users = list(expected)
    lists = bundle.recommend(users, 8, include_seen=True)
    assert_lists({user: [each.tolist() for each in lists.row(n)] for n, user in enumerate(users)}, expected, 8)
    plain = bundle.recommend(users, 8)
    assert_lists(
        {user: [each.tolist() for each in plain.row(n)] for n, user in enumerate(users)},
        by_hand(bundle, lambda item: False), 8,
    )  # fmt: skip


def test_reasons_add_up_to_the_score_that_rose(bundle):
    for user in list(by_hand(bundle, lambda item: True))[:6]:
        ids, scores = bundle.recommend([user], 8, include_seen=True).row(0)
        for why, score in zip(
            bundle.explain_recommendation(user, ids, include_seen=True), scores.tolist(), strict=True
        ):
            assert why.score == pytest.approx(score, abs=1e-5)
            assert why.liked + why.watched + why.itself + why.popularity == pytest.approx(score, abs=1e-5)
        (plain,) = bundle.explain_recommendation(user, ids[:1])
        assert plain.score < scores[0] - 0.01, "what comes first here had risen"


def test_what_is_denied_does_not_come_again(bundle):
    users = sorted(by_hand(bundle, lambda item: True))
    deny, candidates = [100, 101], list(range(100, 112))
    lists = bundle.recommend(users, 25, include_seen=True, deny=deny, candidates=candidates)
    mine = bundle.recommend(users, 25, include_seen=True, deny_by_user={users[0]: [102]})
    for n in range(len(users)):
        assert set(lists.row(n)[0].tolist()) == set(candidates) - set(deny)
        assert (102 in mine.row(n)[0].tolist()) == (n > 0)


@pytest.mark.parametrize("option", ["include_seen", "repeat", "audience"])
def test_a_night_lists_them_so_too(bundle, tmp_path, option):
    again = [100, 103, 107]
    (tmp_path / "repeat.csv").write_text("item_id\n" + "\n".join(map(str, again)) + "\n")
    options = {
        "include_seen": {"include_seen": True}, "repeat": {"repeat": tmp_path / "repeat.csv"},
        "audience": {"include_seen": True, "audience": 5},
    }[option]  # fmt: skip
    job = Job(bundle=bundle.path, out=tmp_path / "nights", run_date="2026-11-23", k=6, users_per_part=7, **options)
    run(job)
    table = ds.dataset(job.night / "user_items").to_table().to_pandas().sort_values(["user_id", "rank"])
    found = {int(user): (rows["item_id"].tolist(), rows["score"].tolist()) for user, rows in table.groupby("user_id")}
    assert_lists(found, by_hand(bundle, lambda item: option != "repeat" or item in again), 6)


def test_merging_is_exact_with_ties_and_short_lists():
    rng = np.random.default_rng(5)
    for trial in range(30):
        users, items, k = 6, int(rng.integers(4, 12)), int(rng.integers(1, 14))
        user = Side.plain(np.zeros(users, np.float32), rng.integers(-1, 2, (users, 2)).astype(np.float32))
        item = Side.plain(np.zeros(items, np.float32), rng.integers(-1, 2, (items, 2)).astype(np.float32))
        form = PairForm(user, item, NO_MLP)
        has, gone = rng.random((users, items)) < 0.4, rng.random((users, items)) < 0.2
        bonus = rng.integers(0, 3, has.sum()).astype(np.float32)
        rows, columns = (each.astype(np.int32) for each in np.nonzero(has))
        order = rng.permutation(len(rows))
        again = Again.build(rows[order], columns[order], bonus[order], users)
        seen = Seen.build(*np.nonzero(gone), users)
        allowed = np.arange(items) >= (3 if trial % 2 else 0)
        index = np.arange(users)
        others = Engine(form, allowed).top_k(index, seen.beside(again.has), k)
        found = again.merged(others, form, index, seen, allowed)
        scores = user.dot @ item.dot.T
        scores[rows, columns] += bonus
        scores[gone] = -np.inf
        usable = allowed & (np.arange(items) >= 3)
        for each in range(users):
            wanted = [one for one in np.argsort(-scores[each], kind="stable") if usable[one] and not gone[each, one]]
            length = int(found.lengths[each])
            assert found.row[each, :length].tolist() == wanted[: found.row.shape[1]]
            assert found.scores[each, :length].tolist() == scores[each, wanted[:length]].tolist()
