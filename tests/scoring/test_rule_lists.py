"""Lists under rules against the definition, applied in the slow way to every item of the catalogue."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pair_forms import all_scores, random_form, random_seen
from scipy.sparse import csr_matrix
from small import encoded_table

from sdk.base.errors import DataError, UsageError
from sdk.features.tables import FIRST_KNOWN
from sdk.scoring import rule_lists
from sdk.scoring.engine import Engine
from sdk.scoring.rules import AtLeast, ItemRules, Rules, rules_of

USERS, ITEMS = 11, 90


def item_rules(rng, num_rows, asked, num_groups=6):
    """Random groups of two columns, random new items, and content whose likenesses are exact in binary."""
    sizes = rng.integers(0, 4, num_rows)
    rows = [rng.choice(num_groups, size, replace=False) for size in sizes]
    caps = rng.integers(1, 5, num_groups).astype(np.int32) if asked.at_most else np.full(num_groups, 10_000, np.int32)
    vectors = csr_matrix((rng.integers(0, 4, (num_rows, 5)) / 4 * (rng.random((num_rows, 5)) < 0.5)).astype(np.float32))
    vectors.sort_indices()
    return ItemRules(
        asked, np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        np.concatenate([*rows, np.zeros(0, int)]).astype(np.int32), caps, tuple("abcdef"),
        rng.random(num_rows) < 0.1, vectors, np.zeros(num_rows, np.float32),
    )  # fmt: skip


def by_definition(score, rules, seen, allowed, k):
    """(row, value) of one user's list, from every item's score."""
    vectors, asked = rules.vectors.toarray().astype(np.float64), rules.asked
    may = np.array(allowed)
    may[:FIRST_KNOWN], may[seen] = False, False
    falling = np.sort(score[may].astype(np.float64))[::-1]
    weight = asked.diversity * (falling[0] - falling[:k][-1]) if len(falling) else 0.0
    groups = [rules.groups[a:b] for a, b in zip(rules.starts, rules.starts[1:], strict=False)]
    used, listed, missing = np.zeros(len(rules.caps), int), [], asked.at_least.count
    while len(listed) < k:
        taken = {row for row, _ in listed}
        is_open = [r for r in np.flatnonzero(may) if r not in taken and all(used[g] < rules.caps[g] for g in groups[r])]
        new = [r for r in is_open if rules.wanted[r]]
        if min(missing, len(new)) >= k - len(listed):
            is_open = new
        if not is_open:
            break
        alike = {r: max([vectors[r] @ vectors[row] for row, _ in listed], default=0.0) for r in is_open}
        value = {r: np.float32(np.float64(score[r]) - weight * alike[r]) for r in is_open}
        best = min(is_open, key=lambda r: (-value[r], r))
        listed.append((best, value[best]))
        used[groups[best]] += 1
        missing -= rules.wanted[best]
    return sorted(listed, key=lambda each: -each[1])


ASKED = st.builds(
    lambda cap, count, diversity: Rules(
        at_most={"group": 1} if cap else {}, at_least=AtLeast(count=count, max_ratings=0), diversity=diversity
    ),
    st.booleans(), st.integers(0, 12), st.sampled_from([0.0, 0.5, 2.0]),
)  # fmt: skip


@given(ASKED, st.integers(1, 14), st.integers(0, 2**20), st.booleans(), st.sampled_from([1, 4]))
@settings(max_examples=150, deadline=None)
def test_a_list_is_what_the_definition_gives_over_the_whole_catalogue(asked, k, seed, mlp, first):
    rng = np.random.default_rng(seed)
    form = random_form(USERS, ITEMS, (4, 3, 1, 1, 2, [2]), mlp=mlp, seed=seed, grid=True)
    rules, seen = item_rules(rng, ITEMS, asked), random_seen(USERS, ITEMS, 0.2, seed)
    allowed = rng.random(ITEMS) < 0.8
    engine, wanted = Engine(form, allowed, threads=1), Engine(form, allowed & rules.wanted, threads=1)
    before, rule_lists._FIRST = rule_lists._FIRST, first
    try:
        got = rule_lists.ruled_lists(engine, wanted, rules, np.arange(USERS), seen, k, 2)
    finally:
        rule_lists._FIRST = before
    scores = all_scores(form)
    for user in range(USERS):
        n = got.lengths[user]
        expected = by_definition(scores[user], rules, seen.row(user), allowed, k)
        found = list(zip(got.row[user, :n].tolist(), got.scores[user, :n].tolist(), strict=True))
        assert found == [(int(row), float(value)) for row, value in expected]


def test_more_candidates_are_taken_where_those_taken_do_not_prove_a_list(monkeypatch):
    """Of 2,000 items the best 1,900 share one group: its cap fills at once, the rest lies far down."""
    form = random_form(3, 2000, (4, 1, 0, 0, 1, []), mlp=False, seed=3)
    form.items.bias[:1900] += 100
    asked, asked_for = Rules(at_most={"group": 1}), []
    starts = np.minimum(np.arange(2001), 1900)
    rules = dataclasses.replace(
        item_rules(np.random.default_rng(0), 2000, asked), starts=starts, groups=np.zeros(1900, np.int32),
        caps=np.array([2], np.int32),
    )  # fmt: skip
    engine, scores = Engine(form, threads=1), all_scores(form)
    real = engine.top_k
    monkeypatch.setattr(engine, "top_k", lambda users, seen, k: asked_for.append(k) or real(users, seen, k))
    nothing = random_seen(3, 2000, 0)
    got = rule_lists.ruled_lists(engine, engine, rules, np.arange(3), nothing, 5)
    assert asked_for == [20 * 2**n for n in range(7)] + [1997]
    for user in range(3):
        expected = by_definition(scores[user], rules, nothing.row(user), np.ones(2000, np.bool_), 5)
        assert got.row[user].tolist() == [row for row, _ in expected]


@pytest.fixture
def catalogue():
    items = encoded_table(np.random.default_rng(1), 4)
    ids = items.known_ids.tolist()
    genres = [["Drama", "Crime"], ["Drama", "Drama"], [], ["Crime"]]
    table = {"item_id": ids, "genres": genres, "year": [1990, 2001, None, 2020], "brand": ["a", None, "", "a"]}
    return pa.table(table), items


def test_groups_are_read_from_columns_of_one_or_several_values(catalogue):
    table, items = catalogue
    found = ItemRules.of(Rules(at_most={"genres": 2, "brand": 1}), table, items, None)
    named = [
        sorted(found.names[g] for g in found.groups[a:b]) for a, b in zip(found.starts, found.starts[1:], strict=False)
    ]
    assert named == [
        [], [], [], ["brand=a", "genres=Crime", "genres=Drama"], ["genres=Drama"], [], ["brand=a", "genres=Crime"]
    ]  # fmt: skip
    caps = dict(zip(found.names, found.caps.tolist(), strict=True))
    assert caps == {"genres=Drama": 2, "genres=Crime": 2, "brand=a": 1}


def test_new_and_pinned_items_are_found(catalogue):
    table, items = catalogue
    pinned = AtLeast(count=1, items=(int(items.known_ids[2]),), column="year", since=2001)
    assert ItemRules.of(Rules(at_least=pinned), table, items, None).wanted[FIRST_KNOWN:].tolist() == [
        False, True, True, True
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"at_mots": {}}, "at_mots"),
        ({"at_most": {"genres": 0}}, "at_most"),
        ({"at_most": {"genres": "2"}}, "at_most"),
        ({"diversity": -1}, "diversity"),
        ({"popularity": "high"}, "popularity"),
        ({"at_least": {"count": 2}}, "items, max_ratings or column"),
        ({"at_least": {"count": 2, "column": "year"}}, "since"),
        ({"at_least": 3}, "object"),
    ],
)
def test_a_rule_that_is_none_is_refused_with_its_name(values, words):
    with pytest.raises(UsageError, match=words):
        rules_of(values)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (Rules(at_most={"author": 1}), "no column 'author'.*brand, genres, item_id, year"),
        (Rules(at_least=AtLeast(count=1, column="brand", since=1)), "'brand' holds string, expected numbers"),
        (Rules(at_least=AtLeast(count=1, items=(-7,))), "-7"),
        (Rules(diversity=1.0), "without the content model"),
    ],
)
def test_rules_that_do_not_fit_a_catalogue_are_refused(asked, words, catalogue):
    with pytest.raises(UsageError, match=words):
        ItemRules.of(asked, *catalogue, None)


@pytest.mark.parametrize("text", ["", "[1]", "{"])
def test_a_file_that_holds_no_rules_is_refused_by_name(text, tmp_path):
    path = tmp_path / "rules.json"
    path.write_text(text)
    with pytest.raises(DataError, match=r"rules\.json.*at_most"):
        rules_of(path)
    with pytest.raises(DataError, match="nowhere"):
        rules_of(tmp_path / "nowhere.json")
    path.write_text(json.dumps({"diversity": 1}))
    assert rules_of(path) == Rules(diversity=1.0)
