"""Randomised nights: draws that repeat, their propensities, and nights without them, which are as they were."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from night_files import job, tree
from scipy.special import logsumexp

import sdk
from batch.checks.audit import audit
from batch.checks.expectations import expectations
from batch.gates.thresholds import GateConfig
from batch.run.night import run
from sdk.base.errors import DataError, QualityGateError, UsageError
from sdk.measure.judging import judge_bundle, read_log

TAU = 0.4


def users_of(night):
    return pq.read_table(night / "user_items").to_pandas()


def test_each_row_has_the_log_probability_of_its_place(bundle, bundle_path, tmp_path):
    asked = job(bundle_path, tmp_path / "out", explore=TAU)
    run(asked)
    found, form, seen = users_of(asked.night), bundle.list_form(), bundle.interactions.seen(len(bundle.encoded_users))
    items, sources = bundle.encoded_items, bundle.recommender().sources
    for user, rows in found.groupby("user_id"):
        index = bundle.encoded_users.index_of([user])
        may = np.setdiff1d(np.arange(3, len(items)), seen.row(int(index[0]))).tolist()
        popular = sources(index)[0] == "popular"
        scores = np.log1p(items.statistics.likes) if popular else form.score_pairs(
            np.repeat(index, len(items)), np.arange(len(items))
        ).astype(float)  # fmt: skip
        for row, said in zip(items.index_of(rows.item_id.to_numpy()), rows.propensity, strict=True):
            assert said == pytest.approx(scores[row] / TAU - logsumexp(scores[may] / TAU), abs=1e-4)
            may.remove(row)
        assert rows.score.is_monotonic_decreasing


def test_a_draw_repeats_in_parts_of_any_size_and_another_night_is_another_draw(bundle_path, tmp_path):
    first = job(bundle_path, tmp_path / "one", explore=TAU)
    again = job(bundle_path, tmp_path / "two", explore=TAU, users_per_part=11, threads=2)
    other = job(bundle_path, tmp_path / "one", explore=TAU, run_date="2026-11-24")
    said = [run(each) for each in (first, again, other)]
    one, two, three = (users_of(each.night) for each in (first, again, other))
    assert one.equals(two)
    assert (one.item_id != three.item_id).mean() > 0.3
    assert said[2].taken_over["user_items"] == 0
    assert said[2].taken_over["item_items"] == 61


def test_a_share_of_the_users_is_drawn_for_always_the_same_and_the_others_stay(bundle_path, tmp_path):
    plain = job(bundle_path, tmp_path / "plain")
    nights = [job(bundle_path, tmp_path / "out", explore=TAU, explore_share=0.5, run_date=d, full=True)
              for d in ("2026-01-05", "2026-01-06")]  # fmt: skip
    for each in (plain, *nights):
        run(each)
    lists, drawn = users_of(plain.night), [users_of(each.night) for each in nights]
    chosen = [set(each.user_id[each.propensity < 0]) for each in drawn]
    assert chosen[0] == chosen[1]
    assert 10 < len(chosen[0]) < 31
    kept = lists[~lists.user_id.isin(chosen[0])].reset_index(drop=True)
    for each in drawn:
        rest = each[~each.user_id.isin(chosen[0])].reset_index(drop=True)
        assert (rest.propensity == 0).all()
        assert rest.drop(columns="propensity").equals(kept)


def test_parts_without_any_draw_have_the_column_too(bundle_path, tmp_path):
    asked = job(bundle_path, tmp_path / "out", explore=TAU, explore_share=0.05, users_per_part=4)
    run(asked)
    drawn = users_of(asked.night).groupby("user_id").propensity.min() < 0
    assert 0 < drawn.sum() < 11
    assert all("propensity" in pq.read_schema(part).names for part in (asked.night / "user_items").iterdir())


def test_without_it_nothing_says_so(bundle_path, tmp_path):
    plain = job(bundle_path, tmp_path / "out")
    run(plain)
    assert pq.read_schema(next((plain.night / "user_items").iterdir())).names == [
        "user_id", "rank", "item_id", "score", "source"
    ]  # fmt: skip
    assert "explore" not in json.loads((plain.night / "manifest.json").read_text())["inputs"]
    run(job(bundle_path, tmp_path / "drawn", explore=TAU))
    manifest = json.loads((tmp_path / "drawn" / "run_date=2026-11-23" / "manifest.json").read_text())
    assert manifest["inputs"]["explore"] == {"run_date": "2026-11-23", "share": 1.0, "tau": TAU}
    again = tmp_path / "again"
    run(job(bundle_path, again))
    assert tree(again / "run_date=2026-11-23") == tree(plain.night)


def test_propensities_that_are_none_are_refused(bundle, bundle_path, tmp_path):
    asked = job(bundle_path, tmp_path / "out", explore=TAU)
    run(asked)
    part = next((asked.night / "user_items").iterdir())
    table = pq.read_table(part, partitioning=None)
    wrong = pa.array(np.where(np.arange(len(table)) == 2, 0.1, table["propensity"].to_numpy()))
    pq.write_table(table.set_column(5, table.schema.field("propensity"), wrong), part)
    with pytest.raises(QualityGateError, match=r"users\.finite.*propensity"):
        audit(asked.night, expectations(bundle, asked))


def shown(night, clicked):
    """A night's rows with their clicks, as a log."""
    table = pq.read_table(night / "user_items", partitioning=None)
    return table.append_column("clicked", pa.array(clicked(table.to_pandas())))


def test_a_night_is_held_to_what_its_draws_would_have_earned_on_logged_ones(bundle_path, tmp_path):
    nights = [job(bundle_path, tmp_path / "shown", explore=TAU, run_date=f"2026-11-{day}") for day in range(10, 20)]
    for each in nights:
        run(each)
    for name, clicked in {
        "likely": lambda row: row.propensity > -3,
        "unlikely": lambda row: row.propensity < -4,
    }.items():
        (tmp_path / name).mkdir()
        for each in nights:
            table = shown(each.night, clicked)
            when = pa.array([each.run_date] * len(table))
            pq.write_table(table.append_column("run_date", when), tmp_path / name / f"{each.run_date}.parquet")
    same, keener = (job(bundle_path, tmp_path / f"{tau}", explore=tau) for tau in (TAU, TAU / 4))
    plain = tmp_path / "plain"
    run(dataclasses.replace(keener, out=plain))
    for asked, log in ((same, "likely"), (same, "unlikely"), (keener, "likely")):
        held = dataclasses.replace(asked, judged=tmp_path / log, force=True)
        run(held)
        line = gate_of(held.night)
        assert (line["verdict"], line["threshold"]) == ("passed", 0.95)
        verdict = judge_bundle(sdk.load(bundle_path), read_log(tmp_path / log), asked.explore).judged
        assert line["got"] == verdict.dr.high / verdict.logged.value
    judged, bare = tree(keener.night), tree(plain / "run_date=2026-11-23")
    assert {name for name in judged if judged[name] != bare[name]} == {"manifest.json"}
    with pytest.raises(QualityGateError, match=r"bundle\.judged"):
        run(dataclasses.replace(keener, judged=tmp_path / "unlikely", force=True))
    assert tree(keener.night) == judged
    loose = GateConfig(min_judged=0.0)
    run(dataclasses.replace(keener, judged=tmp_path / "unlikely", force=True, gates=loose))
    assert 0 < gate_of(keener.night)["got"] < 0.95


def gate_of(night):
    lines = json.loads((night / "manifest.json").read_text())["checks"]["gates"]
    return next(line for line in lines if line["name"] == "bundle.judged")


def test_a_log_that_cannot_be_read_ends_a_night_before_it_scores(bundle_path, tmp_path):
    asked = job(bundle_path, tmp_path / "out", explore=TAU, judged=tmp_path / "gone.parquet")
    with pytest.raises(DataError, match=r"gone\.parquet"):
        run(asked)
    assert not list((tmp_path / "out").rglob("*.parquet"))


def test_nothing_earned_compares_nothing(bundle_path, tmp_path):
    first = job(bundle_path, tmp_path / "out", explore=TAU)
    run(first)
    pq.write_table(shown(first.night, lambda row: row.propensity > 0), tmp_path / "log.parquet")
    asked = dataclasses.replace(first, judged=tmp_path / "log.parquet", run_date="2026-11-24")
    run(asked)
    assert gate_of(asked.night)["verdict"] == "not compared"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"explore": 0}, "--explore: got 0, expected a number above 0"),
        ({"explore": float("nan")}, "--explore: got nan"),
        ({"explore": 1, "explore_share": 0}, "--explore-share: got 0, expected"),
        ({"explore_share": 0.5}, "--explore-share: got 0.5 without --explore"),
        ({"judged": "clicks.parquet"}, "--judged: got clicks.parquet without --explore"),
        ({"explore": 1, "audience": 3}, "--explore: not together with --audience"),
        ({"explore": 1, "rules": "rules.json"}, "--explore: not together with --rules"),
        ({"explore": 1, "device": "cuda"}, "--explore: got --device cuda"),
    ],
)
def test_what_does_not_go_together_is_refused(options, words, bundle_path, tmp_path):
    with pytest.raises(UsageError, match=words):
        job(bundle_path, tmp_path / "out", **options)
