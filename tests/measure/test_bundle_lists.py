"""A bundle's measured lists against brute force, and that the test part stays unknown to them."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from small import dataset, run_config

from sdk.__main__ import main
from sdk.base.config import FeatureConfig
from sdk.features.interactions import TEST
from sdk.measure.evaluation import evaluate_bundle, learnt_parts
from sdk.measure.list_evaluation import ListTask, MeasuredLists, RatedCatalogue, evaluate_lists_of, recommenders
from sdk.metrics.lists import RelevanceSets
from sdk.training.pipeline import train_bundle

DATA = dataset(3)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    config = run_config(models=("ncf", "history", "content"), features=FeatureConfig(content_dim=3))
    yield train_bundle(DATA, config, tmp_path_factory.mktemp("lists") / "bundle")
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def evaluation(bundle):
    return evaluate_bundle(bundle, samples=40)


def parts_of(bundle):
    """Row numbers of the ratings that were learnt from, and of the likes of the test part."""
    stored = bundle.interactions
    learnt = np.isin(stored.part, learnt_parts(bundle.info.config))
    return np.flatnonzero(learnt), np.flatnonzero((stored.part == TEST) & (stored.rating >= 4))


def brute_force(bundle, name, form):
    """(user ids, lists of 20): every pair scored one by one, learnt titles struck out, cold users by popularity."""
    users, items = bundle.encoded_users, bundle.encoded_items
    learnt, _ = parts_of(bundle)
    known, lists = bundle.interactions.rows.take(learnt), []
    rows = np.arange(3, len(items))
    for user in range(3, len(users)):
        scores = np.log1p(items.statistics.likes[rows])
        if form is not None and users.codes["id"][user] != 2:
            scores = form.score_pairs(np.full(len(rows), user), rows)
        scores = np.where(np.isin(rows, known.item_index[known.user_index == user]), -np.inf, scores)
        best = sorted(range(len(rows)), key=lambda at: (-scores[at], at))[:20]
        lists.append([int(items.ids[rows[at]]) for at in best if scores[at] > -np.inf])
    return users.known_ids, lists


@pytest.mark.parametrize("name", ["ncf + history", "history", "ncf", "popularity"])
def test_every_figure_is_that_of_lists_made_by_brute_force(bundle, evaluation, name):
    learnt, liked = parts_of(bundle)
    form = {
        "ncf + history": lambda: bundle.list_form("ncf", parts=learnt_parts(bundle.info.config)),
        "history": lambda: bundle.list_form(None, parts=learnt_parts(bundle.info.config)),
        "ncf": lambda: bundle.model("ncf").lower(),
        "popularity": lambda: None,
    }[name]()
    user_id, lists = brute_force(bundle, name, form)
    padded, lengths = np.full((len(lists), 20), -1), np.array([len(row) for row in lists])
    for place, row in enumerate(lists):
        padded[place, : len(row)] = row
    stored, items = bundle.interactions.rows, bundle.encoded_items
    held = bundle.encoded_users.ids[stored.user_index[liked]]
    wanted, place = np.unique(held, return_inverse=True)
    at = [user_id.tolist().index(user) for user in wanted]
    known = stored.item_index[learnt]
    counts = np.array([(known == index).sum() for index in range(3, len(items))])
    catalogue = RatedCatalogue(
        items.known_ids, counts, len(set(stored.user_index[learnt].tolist())), bundle.content.transform(bundle.items)
    )
    relevant = RelevanceSets(place, items.ids[stored.item_index[liked]], len(wanted))
    expected = MeasuredLists.build(name, padded[at], lengths[at], relevant, catalogue).whole(0)
    row = next(row for row in evaluation.lists.rows if row.model == name)
    assert (row.num_users, row.num_rows) == (expected.num_users, len(liked))
    for figure in ("ndcg10", "recall20", "map10", "hit_rate10", "novelty", "diversity", "coverage", "gini"):
        assert row.values[figure] == pytest.approx(expected.values[figure], abs=1e-12), figure
    for figure, (low, high) in row.intervals.items():
        assert low - 1e-6 <= row.values[figure] <= high + 1e-6, figure


def test_slices_of_the_users_add_up_to_the_whole(evaluation):
    whole = evaluation.lists.rows[0]
    parts = [row for row in evaluation.lists.slices if row.model == whole.model and "users" in row.part]
    assert len(parts) >= 3
    assert sum(row.num_users for row in parts) == whole.num_users
    assert sum(row.num_rows for row in parts) == whole.num_rows
    mean = sum(row.num_users * row.values["ndcg10"] for row in parts) / whole.num_users
    assert mean == pytest.approx(whole.values["ndcg10"])


def test_the_recall_of_a_slice_of_titles_counts_its_titles_alone(bundle, evaluation):
    _, liked = parts_of(bundle)
    rows = bundle.interactions.rows.take(liked)
    user_id, lists = brute_force(bundle, "popularity", None)
    for part in (part for part in evaluation.slices if part.side == "titles"):
        shares = []
        for user, listed in zip(user_id, lists, strict=True):
            index = rows.item_index[bundle.encoded_users.ids[rows.user_index] == user]
            wanted = set(bundle.encoded_items.ids[index[part.members[index]]].tolist())
            shares.append(len(wanted & set(listed)) / min(20, len(wanted)) if wanted else math.nan)
        row = next(r for r in evaluation.lists.slices if (r.model, r.part) == ("popularity", part.name))
        assert row.values["recall20"] == pytest.approx(np.nanmean(shares))
        assert row.num_users == np.isfinite(shares).sum()


def test_what_the_test_part_holds_changes_no_list(bundle):
    learnt = learnt_parts(bundle.info.config)
    rows = np.arange(3, len(bundle.encoded_users))
    seen = bundle.interactions.only(*learnt).seen(len(bundle.encoded_users)).take(rows)
    before = {name: each.recommend(rows, seen, 20) for name, each in recommenders(bundle, learnt).items()}
    stored = bundle.interactions
    other = np.where(stored.part == TEST, 0.5, stored.rating).astype(np.float32)
    bundle.__dict__["interactions"] = dataclasses.replace(stored, rating=other)
    try:
        for name, each in recommenders(bundle, learnt).items():
            np.testing.assert_array_equal(each.recommend(rows, seen, 20).item_id, before[name].item_id)
        told = bundle.list_form("ncf").users.dot  # the nightly lists know every rating
        assert not np.array_equal(told, bundle.list_form("ncf", parts=learnt).users.dot)
    finally:
        bundle.__dict__["interactions"] = stored


def test_the_first_model_is_what_a_night_writes_by_default(bundle):
    rows, every = np.arange(3, len(bundle.encoded_users)), (0, 1, 2)
    seen = bundle.interactions.seen(len(bundle.encoded_users)).take(rows)
    first = next(iter(recommenders(bundle, every).values())).recommend(rows, seen, 20)
    night = bundle.recommender("best").recommend(rows, seen, 20)
    np.testing.assert_array_equal(first.item_id, night.item_id)
    np.testing.assert_array_equal(first.scores, night.scores)


def test_of_many_users_a_seeded_sample_is_measured(bundle):
    learnt, test = learnt_parts(bundle.info.config), bundle.interactions.only(TEST)
    got = evaluate_lists_of(bundle, learnt, test, (), max_users=5, samples=0)
    assert (got.num_users, got.rows[0].intervals) == (5, {})
    assert got.num_eligible == ListTask.build(test).num_eligible > 5
    assert "5 users, drawn from" in got.describe()
    one, same, other = (ListTask.build(test, max_users=5, seed=seed) for seed in (0, 0, 1))
    assert one.user_index.tolist() == same.user_index.tolist() != other.user_index.tolist()
    every = ListTask.build(test)
    mine = np.isin(every.user_index[every.row], one.user_index)
    assert one.item_index.tolist() == every.item_index[mine].tolist()
    assert one.user_index[one.row].tolist() == every.user_index[every.row[mine]].tolist()


def test_a_test_part_without_a_like_has_no_lists_to_measure(bundle):
    test = bundle.interactions.only(TEST)
    without = dataclasses.replace(test, rating=np.full(len(test.rating), 2, np.float32))
    assert evaluate_lists_of(bundle, learnt_parts(bundle.info.config), without, ()) is None


def test_a_bundle_without_a_ranker_has_lists_alone(tmp_path):
    bundle = train_bundle(DATA, run_config(models=("history",)), tmp_path / "bundle")
    chosen = bundle.history.choice
    assert bundle.info.metrics["history"] == {"penalty": chosen.penalty, "choice": chosen.to_json()}
    assert (bundle.info.config.history.penalty, bundle.history.config.penalty) == (None, chosen.penalty)
    got = evaluate_bundle(bundle, samples=0)
    assert got.rows == ()
    assert [row.model for row in got.lists.rows] == ["history", "popularity"]
    assert "diversity" not in got.lists.rows[0].values


def test_the_command_prints_json_and_writes_what_it_measured(bundle, tmp_path, capsys):
    asked = ["evaluate", "--bundle", str(bundle.path), "--samples", "20", "--max-list-users", "9"]
    assert main([*asked, "--json", "--reports", str(tmp_path / "reports")]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((tmp_path / "reports" / "evaluation.json").read_text("utf-8"))
    assert (printed["samples"], printed["lists"]["num_users"]) == (20, 9)
    assert [row["model"] for row in printed["test"]] == ["ncf", "biased MF", "user and item means", "popularity"]
    assert main([*asked, "--reports", str(tmp_path / "again")]) == 0
    assert "NCF + history" in capsys.readouterr().out
    for path in (tmp_path / "reports").iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes(), path.name


@pytest.mark.parametrize(("option", "value"), [("--max-list-users", "0")])
def test_a_senseless_number_is_a_usage_error(bundle, capsys, option, value):
    assert main(["evaluate", "--bundle", str(bundle.path), option, value]) == 2
    assert f"{option}: got {value}, expected at least" in capsys.readouterr().err
