"""A bundle judged by another one's randomised lists: against itself, against what its own would earn, and bad logs."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_up import tiny_config, write_movielens

import sdk
from sdk.__main__ import main
from sdk.base.errors import DataError
from sdk.measure.judging import judge_bundle, read_log
from sdk.scoring.exploration import Exploration

TAU, K, NIGHTS = 0.4, 3, 150


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("judged")
    config = dataclasses.replace(tiny_config(), models=("dlrm", "ncf", "history", "content"))
    return sdk.train(sdk.load_movielens(write_movielens(folder / "ml")), config, folder / "bundle")


def drawn_nights(bundle, model, nights, tau=TAU):
    """Randomised lists of every user on many nights, as a table, with clicks by hidden tastes."""
    recommender, users = bundle.recommender(model), bundle.encoded_users
    rows, tables = np.arange(3, len(users)), []
    for night in range(nights):
        recommender.exploration = Exploration.of(tau, 1.0, 0, f"{model} {night}", users.ids, bundle.encoded_items.ids)
        lists = recommender.recommend(rows, bundle.interactions.seen(len(users)).take(rows), K)
        table = lists.answering("user_id", users.known_ids).to_arrow()
        tables.append(table.append_column("run_date", pa.array([f"night {night}"] * len(table))))
    table = pa.concat_tables(tables)
    chance = taste(table["user_id"].to_numpy(), table["item_id"].to_numpy()) / table["rank"].to_numpy()
    clicked = np.random.default_rng(1).random(len(table)) < chance
    return table.append_column("clicked", pa.array(clicked)), float(chance.sum()) / (nights * len(rows))


def taste(user, item):
    return np.where(item % 2 == user % 2, 0.7, 0.1) + 0.2 * (item % 3 == 0)


@pytest.fixture(scope="module")
def logged(bundle, tmp_path_factory):
    path = tmp_path_factory.mktemp("log") / "log.parquet"
    table, earned = drawn_nights(bundle, "dlrm", NIGHTS)
    pq.write_table(table.take(np.random.default_rng(0).permutation(len(table))), path)
    return path, earned


def test_a_bundle_judged_by_its_own_draws_has_what_they_earned(bundle, logged):
    found = judge_bundle(bundle, read_log(logged[0]), TAU, model="dlrm").judged
    assert found.ips.value == pytest.approx(found.logged.value, rel=1e-4)
    assert found.snips.value == pytest.approx(found.logged.value, rel=1e-4)
    np.testing.assert_allclose(found.effective, NIGHTS * 41, rtol=1e-4)
    assert found.clipped == 0


def test_another_model_is_judged_by_what_its_own_draws_would_earn(bundle, logged):
    truth = drawn_nights(bundle, "ncf", NIGHTS, TAU / 2)[1]
    found = judge_bundle(bundle, read_log(logged[0]), TAU / 2, model="ncf")
    assert abs(truth / logged[1] - 1) > 0.03
    for estimate in (found.judged.ips, found.judged.snips, found.judged.dr):
        assert abs(estimate.value - truth) < estimate.high - estimate.low  # four standard errors
        assert estimate.value == pytest.approx(truth, rel=0.1)
    ips, robust = found.judged.ips, found.judged.dr
    assert robust.high - robust.low < ips.high - ips.low


def test_the_mean_of_the_reward_model_is_over_what_the_policy_would_put_there(bundle, logged):
    """Over many draws the model's value of what was drawn has the mean that was expected, place by place."""
    from sdk.measure import judging

    log, users = read_log(logged[0]), bundle.encoded_users
    items = judging._rows(bundle.encoded_items, log.item_id)
    rewards = judging._RewardModel.of(items, log.real, log.reward, len(bundle.encoded_items))
    index = users.index_of(log.user_id)
    ((form, rows),) = list(judging._by_form(bundle.recommender("dlrm"), index[:400]))
    seen = bundle.interactions.seen(len(users)).take(index[rows])
    policy = judging._Policy(form, index[rows], items[rows], log.real[rows], seen, TAU)
    np.testing.assert_allclose(policy.log_probability, log.propensity[rows], atol=1e-4)
    expected, model = policy.expected(rewards), rewards.of_places(items[rows])
    spread = (model - expected).std(axis=0) / np.sqrt(len(rows))
    assert (np.abs((model - expected).mean(axis=0)) < 4 * spread + 1e-9).all()


def test_the_command_says_estimates_weights_and_what_was_passed_over(bundle, logged, tmp_path, capsys):
    args = ["judge", "--logged", str(logged[0]), "--bundle", str(bundle.path), "--explore", str(TAU), "--model", "ncf"]
    assert main([*args, "--json", "--k", "2"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["lists"], said["users"], said["places"], said["fixed"]) == (NIGHTS * 41, 41, 2, 0)
    assert len(said["effective_lists"]) == 2
    assert said["dr"]["low"] < said["dr"]["value"] < said["dr"]["high"]
    assert said["clip"] == pytest.approx(np.sqrt(NIGHTS * 41))
    assert main(args) == 0
    text = capsys.readouterr().out
    assert "doubly robust" in text
    assert "weights up to 78.4" in text


def changed(table, tmp_path, name, values):
    path = tmp_path / "log.parquet"
    at = table.column_names.index(name)
    pq.write_table(table.set_column(at, name, pa.array(values)), path)
    return path


def test_logs_that_are_none_are_refused_in_words(bundle, logged, tmp_path):
    table = pq.read_table(logged[0]).slice(0, 30).sort_by([("run_date", "ascending"), ("user_id", "ascending")])
    with pytest.raises(DataError, match=r"nowhere.parquet.*propensity, clicked"):
        read_log(tmp_path / "nowhere.parquet")
    with pytest.raises(DataError, match=r"no column 'bought'"):
        read_log(logged[0], "bought")
    with pytest.raises(DataError, match=r"has rank .* where .* is expected.*run_date"):
        read_log(changed(table, tmp_path, "rank", np.full(30, 7)))
    whole = pq.read_table(logged[0])
    for value in (0.5, float("nan")):
        with pytest.raises(DataError, match=f"a propensity is {value}"):
            read_log(changed(whole, tmp_path, "propensity", np.full(len(whole), value)))
    with pytest.raises(DataError, match=r"none of its .* lists is a draw"):
        read_log(changed(whole, tmp_path, "propensity", np.zeros(len(whole))))
    with pytest.raises(DataError, match="'clicked' holds nulls"):
        read_log(changed(whole, tmp_path, "clicked", [None, *[True] * (len(whole) - 1)]))
    (tmp_path / "log.parquet").write_text("no table")
    with pytest.raises(DataError, match="not readable as Parquet"):
        read_log(tmp_path / "log.parquet")


def test_lists_that_are_no_draws_and_users_that_are_unknown_are_counted(bundle, logged, tmp_path):
    table = pq.read_table(logged[0])
    user = table["user_id"].to_numpy()
    fixed = np.where(user == 3, 0.0, table["propensity"].to_numpy())
    path = changed(table, tmp_path, "propensity", fixed)
    path = changed(pq.read_table(path), tmp_path, "user_id", np.where(user == 4, 77_777, user))
    found = judge_bundle(bundle, read_log(path), TAU, model="dlrm")
    assert (found.fixed, found.unknown_users, found.lists) == (NIGHTS, NIGHTS, NIGHTS * 40)
