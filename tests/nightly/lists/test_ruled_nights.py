"""Nights under rules: the lists, what the manifest says of them, and what the gates make of lists that break them."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_up import GENRES, NUM_ITEMS
from night_files import DATE, job, tree

from batch.checks.audit import audit
from batch.checks.expectations import expectations
from batch.job.inputs import open_job
from batch.run.night import run
from sdk.base.errors import QualityGateError, UsageError
from sdk.scoring.rules import rules_of

ASKED = {"at_most": {"genres": 2}, "at_least": {"count": 2, "column": "year", "since": 2010}, "diversity": 0.3}
YEAR = {item: 1960 + item for item in range(1, NUM_ITEMS + 1)}


@pytest.fixture
def rules(tmp_path):
    path = tmp_path / "rules.json"
    path.write_text(json.dumps(ASKED))
    return path


def lists_of(night):
    table = pq.read_table(night / "user_items")
    found = {}
    for row in table.select(["user_id", "item_id", "source"]).to_pylist():
        found.setdefault(row["user_id"], []).append((row["item_id"], row["source"]))
    return found


def test_a_night_under_rules_has_the_lists_of_the_bundle_under_them(bundle, bundle_path, rules, tmp_path):
    asked = job(bundle_path, tmp_path / "out", rules=rules)
    run(asked)
    lists = lists_of(asked.night)
    alone = bundle.recommend(list(lists), 5, rules=ASKED)
    for b, found in enumerate(lists.values()):
        assert [item for item, _ in found] == alone.row(b)[0].tolist()
        assert max(Counter(GENRES[item % 4] for item, _ in found if item in YEAR).values()) <= 2
        assert sum(YEAR.get(item, 0) >= 2010 for item, _ in found) >= 2
    assert {source for found in lists.values() for _, source in found} <= {"dlrm+rules", "history+rules", "popular"}
    manifest = json.loads((asked.night / "manifest.json").read_text())
    assert rules_of(manifest["inputs"]["rules"]) == rules_of(ASKED)
    assert manifest["inputs"]["asked"]["rules"]["sha256"] == rules_of(rules).digest
    verdicts = {line["name"]: line["verdict"] for line in manifest["checks"]["gates"]}
    assert verdicts["users.rules"] == "passed"


def test_lists_that_break_the_rules_are_refused(bundle, bundle_path, rules, tmp_path):
    plain, asked = job(bundle_path, tmp_path / "plain"), job(bundle_path, tmp_path / "out", rules=rules)
    run(plain)
    expected = expectations(bundle, asked, open_job(asked).asked)
    with pytest.raises(QualityGateError, match=r"users\.rules.*breaks the rules"):
        audit(plain.night, expected)


def test_a_list_cut_short_of_its_rules_is_noticed(bundle, bundle_path, rules, tmp_path):
    asked = job(bundle_path, tmp_path / "out", rules=rules)
    run(asked)
    expected = expectations(bundle, asked, open_job(asked).asked)
    part = next((asked.night / "user_items").glob("part-*0.parquet"))
    table = pq.read_table(part)
    pq.write_table(table.filter(pa.array([True] * (len(table) - 1) + [False])), part)
    with pytest.raises(QualityGateError, match=r"users\.lengths"):
        audit(asked.night, expected)


def test_caps_that_leave_too_few_items_make_shorter_lists_that_pass(bundle_path, tmp_path):
    path = tmp_path / "tight.json"
    path.write_text('{"at_most": {"genres": 1}}')
    asked = job(bundle_path, tmp_path / "out", rules=path, k=9)
    run(asked)
    lengths = {len(found) for found in lists_of(asked.night).values()}
    assert lengths == {5}  # one of each of four genres, and the film of none


def test_other_rules_score_every_user_again_and_leave_the_lists_of_items(bundle_path, rules, tmp_path):
    first = run(job(bundle_path, tmp_path / "out", rules=rules, run_date="2026-01-05"))
    same = run(job(bundle_path, tmp_path / "out", rules=rules, run_date="2026-01-06"))
    rules.write_text('{"diversity": 1}')
    other = run(job(bundle_path, tmp_path / "out", rules=rules, run_date="2026-01-07"))
    assert first.taken_over["user_items"] == other.taken_over["user_items"] == 0
    assert same.taken_over["user_items"] == 41
    assert "user_items: another rules" in other.not_taken_over
    assert other.taken_over["item_items"] == 61
    full = run(job(bundle_path, tmp_path / "full", rules=rules, run_date="2026-01-07", full=True))
    night = "run_date=2026-01-07/user_items"
    assert tree(tmp_path / "out" / night) == tree(tmp_path / "full" / night)
    assert full.user_rows == other.user_rows


def test_a_popularity_dial_moves_scores_by_likes_alone(bundle):
    users = bundle.encoded_users.known_ids[:6]
    plain, moved = bundle.recommend(users, 61), bundle.recommend(users, 61, rules={"popularity": -0.5})
    likes = dict(zip(bundle.encoded_items.ids.tolist(), bundle.encoded_items.statistics.likes.tolist(), strict=True))
    for b in range(len(users)):
        before = dict(zip(*map(np.ndarray.tolist, plain.row(b)), strict=True))
        for item, score in zip(*moved.row(b), strict=True):
            assert score == pytest.approx(before[item] - 0.5 * np.log1p(likes[item]), abs=1e-5)
        assert moved.source[b] == f"{plain.source[b]}+rules"


def test_rules_and_audiences_are_refused_together(bundle_path, rules, tmp_path):
    with pytest.raises(UsageError, match="--rules: not together with --audience"):
        job(bundle_path, tmp_path / "out", rules=rules, audience=3)


def test_a_rule_of_a_column_that_is_not_there_is_refused_before_anything_is_written(bundle_path, tmp_path):
    path = tmp_path / "odd.json"
    path.write_text('{"at_most": {"publisher": 1}}')
    with pytest.raises(UsageError, match=r"at_most\.publisher: the items have no column 'publisher', expected one of"):
        run(job(bundle_path, tmp_path / "out", rules=path, run_date=DATE))
    assert not (tmp_path / "out").exists()
