"""Newer ratings, chosen users and titles, block lists, audiences: each against a slow obvious recomputation."""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import hashlib
import json
import shutil
from pathlib import Path

import fsspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_up import BARE_ITEM, COLD_USER, NUM_ITEMS, tiny_config, write_movielens
from night_files import DATE, Crash, debris, fail_at, job, tree

import batch.lists.shards
import sdk
from batch.job.id_files import read_ids
from batch.job.inputs import end_of_day
from batch.run.backfill import backfill, dates_between
from batch.run.night import run
from batch.score import main
from sdk.base import schema
from sdk.base.errors import BundleError, DataError, MissingColumnError, QualityGateError, UsageError

K = 10
NEW_USER, LATE = 5000, 2_000_000_000


def write_ratings(path: Path, rows: list[tuple[int, int, float, int]]) -> Path:
    path.write_text("\n".join(["userId,movieId,rating,timestamp", *(",".join(map(str, row)) for row in rows), ""]))
    return path


def read(folder: Path) -> pd.DataFrame:
    return pd.concat([pd.read_parquet(path) for path in sorted(folder.glob("part-*.parquet"))], ignore_index=True)


def night(bundle_path: Path, out: Path, **options: object) -> Path:
    run(job(bundle_path, out, **{"k": K, **options}))
    return out / f"run_date={DATE}"


def manifest_of(folder: Path) -> dict:
    return json.loads((folder / "manifest.json").read_text())


def gates_of(folder: Path) -> dict[str, dict]:
    return {line["name"]: line for line in manifest_of(folder)["checks"]["gates"]}


@pytest.fixture(scope="module")
def plain(bundle_path, tmp_path_factory):
    return night(bundle_path, tmp_path_factory.mktemp("plain"))


FRESH = [
    (1, 60, 5.0, LATE), (1, 58, 0.5, LATE), (1, 60, 1.0, LATE - 5),  # the same pair twice: the latest stands
    (COLD_USER, 2, 5.0, LATE), (COLD_USER, 1, 0.5, LATE),  # the second takes the place of the bundle's own
    (NEW_USER, 3, 5.0, LATE), (NEW_USER, 7, 4.5, LATE), (NEW_USER, 123456, 5.0, LATE),  # one title is unknown
    (41, 123456, 4.0, LATE),  # a new user of whom only an unknown title is known
]  # fmt: skip


@pytest.fixture(scope="module")
def fresh_path(tmp_path_factory):
    rows = FRESH + [(2, item, 3.0, 5) for item in (1, 2, 3)]  # older than anything that the bundle has
    rows += [(2, item, 4.0, LATE) for item in range(10, 60)]
    return write_ratings(tmp_path_factory.mktemp("fresh") / "fresh.csv", rows)


@pytest.fixture(scope="module")
def refreshed(bundle_path, fresh_path, tmp_path_factory):
    return night(bundle_path, tmp_path_factory.mktemp("refreshed"), ratings=fresh_path, audience=7)


# the slow obvious version -------------------------------------------------------------------------------------------


class Slow:
    """Every score by NumPy, from the model's own arrays and a dictionary of ratings: user -> item -> stars."""

    def __init__(self, bundle: sdk.Bundle, movielens: Path, fresh: Path | None = None) -> None:
        self.bundle, self.items = bundle, bundle.encoded_items.known_ids
        frames = [pd.read_csv(movielens / "ratings.csv")]
        if fresh is not None:
            frames.append(pd.read_csv(fresh))
        rated = pd.concat(frames).sort_values("timestamp", kind="stable")
        rated = rated[rated["movieId"].isin(self.items)].drop_duplicates(["userId", "movieId"], keep="last")
        self.rated = {user: dict(zip(g["movieId"], g["rating"], strict=True)) for user, g in rated.groupby("userId")}
        self.users = sorted(self.rated)
        self.ranker = bundle.model().lower()

    def scores(self, user: int) -> np.ndarray:
        """(I,) float64 of every title of the catalogue."""
        history, mine = self.bundle.history, self.rated[user]
        rows = self.bundle.encoded_items.index_of(list(mine))
        weights = history.config.weights(np.array(list(mine.values()), np.float32)).astype(np.float64)
        vector = (weights[:, None] * history.item_in[rows]).sum(axis=0)
        own = int(self.bundle.encoded_users.index_of([user])[0])
        every = np.arange(3, 3 + len(self.items))
        logits = self.ranker.score_pairs(np.full(len(every), own), every)
        popularity = 1 + history.config.popularity_boost / (weights.sum() + history.config.boost_titles)
        known = history.item_out @ vector + popularity * history.item_bias
        return known[3:] + history.config.ranker_weight * logits


@pytest.fixture(scope="module")
def movielens(tmp_path_factory):
    return write_movielens(tmp_path_factory.mktemp("again") / "ml")


def check_lists(lists: pd.DataFrame, slow: Slow, users, forbidden, allowed=None) -> None:
    """Every list is the k best by the slow scores among what is allowed, unseen and not blocked."""
    assert sorted(set(lists["user_id"])) == sorted(users)
    titles = set(slow.items.tolist()) if allowed is None else set(allowed)
    for user, got in lists.groupby("user_id"):
        scores = dict(zip(slow.items.tolist(), slow.scores(user), strict=True))
        open_titles = titles - set(slow.rated[user]) - forbidden(user)
        best = sorted((scores[item] for item in open_titles), reverse=True)[:K]
        assert got["rank"].tolist() == list(range(1, len(best) + 1))
        assert set(got["item_id"]) <= open_titles
        np.testing.assert_allclose([scores[item] for item in got["item_id"]], best, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(got["score"], best, rtol=1e-4, atol=1e-5)


# newer ratings ------------------------------------------------------------------------------------------------------


def test_lists_with_newer_ratings_are_those_of_all_ratings_together(refreshed, bundle, movielens, fresh_path):
    slow = Slow(bundle, movielens, fresh_path)
    lists = read(refreshed / "user_items")
    check_lists(lists, slow, slow.users, lambda user: set())
    assert NEW_USER in slow.users
    assert set(lists[lists["user_id"] == NEW_USER]["source"]) == {"history"}
    assert 41 not in set(lists["user_id"])


def test_whoever_rated_nothing_new_keeps_their_list_bit_for_bit(refreshed, plain, fresh_path):
    touched = set(pd.read_csv(fresh_path)["userId"])
    before, after = read(plain / "user_items"), read(refreshed / "user_items")
    same = before[~before["user_id"].isin(touched)].reset_index(drop=True)
    pd.testing.assert_frame_equal(after[~after["user_id"].isin(touched)].reset_index(drop=True), same)
    assert len(same) > 300
    for user in (1, COLD_USER):
        assert not after[after["user_id"] == user].equals(before[before["user_id"] == user])
    pd.testing.assert_frame_equal(read(refreshed / "item_items"), read(plain / "item_items"))


def test_older_ratings_extend_what_is_seen(bundle_path, plain, tmp_path):
    path = write_ratings(tmp_path / "old.csv", [(user, item, 0.5, 1) for user in (1, 2) for item in range(1, 61)])
    known = pd.read_parquet(bundle_path / "seen.parquet")
    assert known["timestamp"].min() > 1
    lists = read(night(bundle_path, tmp_path / "out", ratings=path) / "user_items")
    history = read(plain / "user_items")
    # whatever was not known of them is seen now, so one title is left to list
    assert lists[lists["user_id"].isin([1, 2])]["item_id"].tolist() == [BARE_ITEM, BARE_ITEM]
    lists, history = (frame[~frame["user_id"].isin([1, 2])].reset_index(drop=True) for frame in (lists, history))
    pd.testing.assert_frame_equal(lists, history)


def test_older_stars_do_not_replace_newer_ones(bundle, tmp_path):
    from sdk.base.types import Interactions
    from sdk.bundles.fresh import FreshBundle, FreshRatings

    known = bundle.interactions
    user, item = int(known.rows.user_index[0]), int(known.rows.item_index[0])
    pair = (bundle.encoded_users.ids[[user]], bundle.encoded_items.ids[[item]])
    stars = {}
    for time in (1, LATE):
        rating = Interactions(*pair, np.array([3.5], np.float32), np.array([time]))
        both = FreshBundle(bundle, FreshRatings.of(bundle, rating)).interactions
        assert len(both.rows) == len(known.rows)
        [at] = np.flatnonzero((both.rows.user_index == user) & (both.rows.item_index == item))
        stars[time] = float(both.rating[at])
    assert stars == {1: float(known.rating[0]), LATE: 3.5}
    assert float(known.rating[0]) != 3.5


def test_a_bundle_that_does_not_say_when_its_ratings_were_made_is_refused(bundle_path, tmp_path):
    from sdk.base.types import Interactions
    from sdk.bundles.fresh import FreshBundle, FreshRatings

    copy = Path(shutil.copytree(bundle_path, tmp_path / "bundle"))
    opened, path = sdk.load(copy), copy / "seen.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["timestamp"]), path)
    none = Interactions(*(np.zeros(0, dtype) for dtype in (np.int64, np.int64, np.float32, np.int64)))
    with pytest.raises(BundleError, match="when its ratings were made"):
        _ = FreshBundle(opened, FreshRatings.of(opened, none)).interactions


def test_ratings_are_pinned_by_content(bundle_path, refreshed, fresh_path, tmp_path, capsys):
    arguments = ["--bundle", str(bundle_path), "--out", str(tmp_path), "--run-date", DATE, "--k", "5", "--json"]
    assert main([*arguments, "--ratings", str(fresh_path)]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["asked"] == {
        "fresh_ratings": 9 - 3 + 53, "fresh_users": 4, "new_users": 1, "ratings_of_unknown_titles": 2,
        "rejected_ratings": 1,
    }  # fmt: skip
    lines = fresh_path.read_text().splitlines()
    shuffled = tmp_path / "shuffled.csv"
    shuffled.write_text("\n".join([lines[0], *reversed(lines[1:]), ""]))
    assert main([*arguments, "--ratings", str(shuffled)]) == 0
    assert json.loads(capsys.readouterr().out)["status"] == "already published"
    other = write_ratings(tmp_path / "other.csv", FRESH[:1])
    assert main([*arguments, "--ratings", str(other)]) == 5
    assert "already published from other inputs" in capsys.readouterr().err
    assert main(arguments) == 5


@pytest.mark.parametrize("form", ["folder", "dat", "tab", "gz"])
def test_ratings_come_in_any_of_movielens_forms(bundle_path, tmp_path, form):
    rows = [(1, 60, 5.0, LATE), (NEW_USER, 3, 4.5, LATE)]
    plain_text = write_ratings(tmp_path / "ratings.csv", rows)
    expected = tree(night(bundle_path, tmp_path / "csv", ratings=plain_text, users_per_part=50))
    if form == "folder":
        path = tmp_path / "folder"
        path.mkdir()
        write_ratings(path / "ratings.csv", rows)
    elif form == "gz":
        path = tmp_path / "ratings.csv.gz"
        path.write_bytes(gzip.compress(plain_text.read_bytes()))
    else:
        path, separator = (tmp_path / "r.dat", "::") if form == "dat" else (tmp_path / "u.data", "\t")
        path.write_text("".join(separator.join(map(str, row)) + "\n" for row in rows))
    assert tree(night(bundle_path, tmp_path / "out", ratings=path, users_per_part=50)) == expected


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "empty"),
        ("userId,movieId,rating,timestamp\n", "holds no rating"),
        ("userId,movieId,stars,timestamp\n1,2,3,4\n", "rating"),
        ("userId,movieId,rating,timestamp\n1,2,9.5,4\n1,3,4.0,5\n", "are bad"),
    ],
)
def test_bad_ratings_are_exit_code_3(bundle_path, tmp_path, capsys, text, says):
    path = tmp_path / "ratings.csv"
    path.write_text(text)
    arguments = ["--bundle", str(bundle_path), "--out", str(tmp_path / "out"), "--run-date", DATE]
    assert main([*arguments, "--ratings", str(path)]) == 3
    err = capsys.readouterr().err
    assert says in err.splitlines()[-1]
    assert not list((tmp_path / "out").glob("run_date*"))
    assert main([*arguments, "--ratings", str(tmp_path / "nowhere.csv")]) == 3


def test_without_the_history_model_newer_ratings_filter_and_new_users_get_popular_titles(tmp_path, movielens):
    config = dataclasses.replace(tiny_config(), models=("ncf",))
    bundle = sdk.train(sdk.load_movielens(movielens), config, tmp_path / "bundle")
    path = write_ratings(tmp_path / "fresh.csv", FRESH)
    lists = read(night(tmp_path / "bundle", tmp_path / "out", ratings=path, k=5) / "user_items")
    assert set(lists[lists["user_id"] == NEW_USER]["source"]) == {"popular"}
    assert not {3, 7} & set(lists[lists["user_id"] == NEW_USER]["item_id"])
    assert not {58, 60} & set(lists[lists["user_id"] == 1]["item_id"])
    assert bundle.info.chosen_model == "ncf"
    two = write_lines(tmp_path / "users", [1, NEW_USER])  # in a shard of their own each
    options = {"ratings": path, "audience": 3, "users": two, "users_per_part": 1, "k": 5}
    folder = night(tmp_path / "bundle", tmp_path / "audience", **options)
    assert set(read(folder / "item_users")["user_id"]) == {1}
    pd.testing.assert_frame_equal(
        read(folder / "user_items"), lists[lists["user_id"].isin([1, NEW_USER])].reset_index(drop=True)
    )


# who and what -------------------------------------------------------------------------------------------------------


def write_lines(path: Path, lines: list[object]) -> Path:
    path.write_text("\n".join(map(str, lines)) + "\n")
    return path


def test_every_filter_together_equals_the_slow_version(bundle_path, bundle, movielens, fresh_path, tmp_path):
    users, items = [1, 7, COLD_USER, NEW_USER], [3, 4, 900]
    allow, deny = [*range(1, 50), 900, 77777], [5, 6, 88888]
    block = [(1, 2), (1, 9), (7, 11), (7, 123456), (4242, 3)]
    pq.write_table(pa.table({"user_id": users, "other": [1, 2, 3, 4]}), tmp_path / "users.parquet")
    options = {
        "users": tmp_path / "users.parquet",
        "items": write_lines(tmp_path / "items.txt", items),
        "allow": write_lines(tmp_path / "allow.csv", ["item_id,why", *(f"{i},licensed" for i in allow)]),
        "deny": write_lines(tmp_path / "deny.txt", deny),
        "block": write_lines(tmp_path / "block.csv", ["user_id,item_id", *(f"{u},{i}" for u, i in block)]),
    }
    folder = night(bundle_path, tmp_path / "out", ratings=fresh_path, audience=3, users_per_part=2, **options)
    slow, titles = Slow(bundle, movielens, fresh_path), (set(allow) - set(deny)) & set(bundle.encoded_items.known_ids)
    blocked = {user: {item for u, item in block if u == user} for user in users}
    check_lists(read(folder / "user_items"), slow, users, blocked.__getitem__, titles)
    similar = read(folder / "item_items")
    assert set(similar["item_id"]) == set(items)
    assert set(similar["similar_item_id"]) <= titles
    for item in (3, 4):
        ids, scores = bundle.similar([item], len(bundle.encoded_items)).row(0)
        keep = np.isin(ids, list(titles))
        got = similar[similar["item_id"] == item]
        assert got["similar_item_id"].tolist() == ids[keep][:K].tolist()
        np.testing.assert_array_equal(got["score"], scores[keep][:K])
    check_audience(read(folder / "item_users"), slow, users, set(items) & titles, blocked.__getitem__, 3)
    manifest, gates = manifest_of(folder), gates_of(folder)
    assert set(manifest["inputs"]["asked"]) == {"ratings", *options}
    for name, path in options.items():
        assert manifest["inputs"]["asked"][name]["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert all(gates[f"{side}.denied"]["got"] == 0 for side in ("users", "titles", "audiences"))
    assert set(manifest["checks"]["scope"]["users"]) == {"users", "allow"}


@pytest.mark.parametrize("side", ["user_items", "item_items", "item_users"])
@pytest.mark.parametrize("how", ["denied", "unasked", "missing"])
def test_the_audit_notices_what_was_not_asked_for(bundle_path, bundle, tmp_path, side, how):
    from batch.checks.audit import audit
    from batch.checks.expectations import expectations
    from batch.job.inputs import open_job

    names = {"user_items": ("users", "user_id", "item_id"), "item_items": ("titles", "item_id", "similar_item_id"),
             "item_users": ("audiences", "item_id", "user_id")}  # fmt: skip
    gate, query, answer = names[side]
    work = job(
        bundle_path, tmp_path / "out", audience=3, users_per_part=100,
        users=write_lines(tmp_path / "users", [1, 2, 3, 4]), items=write_lines(tmp_path / "items", [1, 2, 3]),
        deny=write_lines(tmp_path / "deny", [60]), block=write_lines(tmp_path / "block", ["4,59"]),
    )  # fmt: skip
    run(work)
    folder = work.night
    opened = open_job(work)
    audit(folder, expectations(opened.bundle, work, opened.asked))
    path = folder / side / "part-00000.parquet"
    rows = pd.read_parquet(path)
    if how == "missing":
        rows = rows[rows[query] != rows[query].iloc[-1]]
    elif how == "unasked":
        rows[query] = rows[query].where(rows[query] != rows[query].iloc[-1], 7)
    elif side == "item_users":
        rows.loc[0, answer] = 9  # a user who was not asked for
    else:
        rows.loc[len(rows) - 1, answer] = 60
    layouts = {"user_items": schema.USER_ITEMS, "item_items": schema.ITEM_ITEMS, "item_users": schema.ITEM_USERS}
    pq.write_table(pa.Table.from_pandas(rows, layouts[side], preserve_index=False), path)
    with pytest.raises(QualityGateError) as caught:
        audit(folder, expectations(opened.bundle, work, opened.asked))
    expected = {"denied": "denied", "unasked": "asked", "missing": "complete"}[how]
    assert f"{gate}.{expected}:" in str(caught.value)


def test_a_blocked_pair_that_is_shown_is_caught(bundle_path, plain, tmp_path):
    from batch.checks.audit import audit
    from batch.checks.expectations import expectations
    from batch.job.inputs import open_job

    shown = read(plain / "user_items").iloc[0]
    pairs = write_lines(tmp_path / "block", [f"{shown['user_id']},{shown['item_id']}"])
    work = job(bundle_path, plain.parent, k=K, block=pairs)
    opened = open_job(work)
    with pytest.raises(QualityGateError, match=r"users\.denied.*kept from them"):
        audit(plain, expectations(opened.bundle, work, opened.asked))


@pytest.mark.parametrize(
    ("option", "lines", "code", "says"),
    [
        ("--users", [1, 4242, 4343], 2, "4242, 4343"),
        ("--items", [1, 777], 2, "777"),
        ("--users", ["1x"], 3, "line 1"),
        ("--users", ["id", "1"], 3, "no column 'user_id' (it has id)"),
        ("--users", [], 3, "names nothing"),
        ("--block", ["user_id,title", "1,2"], 3, "item_id"),
        ("--block", [7], 3, "line 1"),
        ("--deny", ["item_id", "-4x"], 3, "item_id in line 2 is not a whole number: '-4x'"),
        ("--deny", [-4], 3, "item_id in line 1 is negative"),
        ("--deny", [2**63], 3, "item_id in line 1 is too large"),
        ("--users", ["alice", "bob"], 3, "line 1 is 'alice', expected user_id as whole numbers"),
        ("--block", ["alice,1", "bob,2"], 3, "line 1 is 'alice,1', expected user_id, item_id as whole"),
        ("--allow", [777], 2, "leave no title"),
    ],
)
def test_unusable_lists_of_ids_are_one_line_and_an_exit_code(bundle_path, tmp_path, capsys, option, lines, code, says):
    path = write_lines(tmp_path / "ids.txt", lines) if lines else tmp_path / "ids.txt"
    path.touch()
    arguments = ["--bundle", str(bundle_path), "--out", str(tmp_path / "out"), "--run-date", DATE]
    assert main([*arguments, option, str(path)]) == code
    assert says in capsys.readouterr().err.splitlines()[-1]


def test_parquet_without_the_column_or_with_other_values_is_refused(tmp_path):
    for column, values, error in (("movie", [1], MissingColumnError), ("item_id", ["a"], DataError),
                                  ("item_id", [1, None], DataError)):  # fmt: skip
        pq.write_table(pa.table({column: values}), tmp_path / "ids.parquet")
        with pytest.raises(error, match=r"ids\.parquet"):
            read_ids(tmp_path / "ids.parquet", "item_id")
    path = write_lines(tmp_path / "ids.txt", [3, "", 1, 3])
    assert read_ids(path, "item_id").ids.tolist() == [1, 3]


@given(st.binary(max_size=80), st.integers(0, 500), st.sampled_from(["txt", "csv", "parquet"]))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_file_of_ids_is_a_documented_error_or_ids(tmp_path, junk, at, form):
    path = tmp_path / f"ids.{form}"
    if form == "parquet":
        pq.write_table(pa.table({"user_id": [5, 4], "item_id": [1, 2]}), path)
    else:
        write_lines(path, ["user_id,item_id"] * (form == "csv") + ["5,1", "4,2"])
    data = path.read_bytes()
    path.write_bytes(data[: at % (len(data) + 1)] + junk + data[at % (len(data) + 1) + len(junk) :])
    with contextlib.suppress(DataError):  # whose message names the file
        found = read_ids(path, "user_id", "item_id", may_be_empty=True)
        assert all(column.dtype == np.int64 for column in found.columns)
        assert len(found.columns[0]) == len(found.columns[1])


def test_a_night_asked_for_other_ids_is_not_compared(bundle_path, tmp_path):
    run(job(bundle_path, tmp_path, run_date="2026-11-22"))
    some = write_lines(tmp_path / "users", [1, 2])
    gates = gates_of(night(bundle_path, tmp_path, users=some, k=5))
    assert gates["users.kept"]["got"] is None
    assert "other ids" in gates["users.kept"]["note"]
    assert gates["titles.overlap"]["got"] == 1.0
    run(job(bundle_path, tmp_path, run_date="2026-11-24", users=some))
    again = json.loads((tmp_path / "run_date=2026-11-24" / "manifest.json").read_text())["checks"]
    assert {line["name"]: line["got"] for line in again["gates"]}["users.overlap"] == 1.0


# audiences ----------------------------------------------------------------------------------------------------------


def check_audience(got: pd.DataFrame, slow: Slow, users, titles, blocked, size: int) -> None:
    column = {user: dict(zip(slow.items.tolist(), slow.scores(user), strict=True)) for user in users}
    expected_titles = set()
    for item in titles:
        eligible = [u for u in users if item not in slow.rated[u] and item not in blocked(u)]
        best = sorted((column[user][item] for user in eligible), reverse=True)[:size]
        mine = got[got["item_id"] == item]
        assert mine["rank"].tolist() == list(range(1, len(best) + 1))
        assert set(mine["user_id"]) <= set(eligible)
        np.testing.assert_allclose([column[user][item] for user in mine["user_id"]], best, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(mine["score"], best, rtol=1e-4, atol=1e-5)
        expected_titles |= {item} if best else set()
    assert set(got["item_id"]) == expected_titles


def test_audiences_are_each_titles_best_users_by_brute_force(refreshed, bundle, movielens, fresh_path):
    slow = Slow(bundle, movielens, fresh_path)
    got = read(refreshed / "item_users")
    check_audience(got, slow, slow.users, set(slow.items.tolist()), lambda user: set(), 7)
    assert pq.read_schema(refreshed / "item_users" / "part-00000.parquet") == schema.ITEM_USERS
    assert manifest_of(refreshed)["counts"]["audience_rows"] == len(got)
    by_user = read(refreshed / "user_items").drop_duplicates("user_id").set_index("user_id")["source"]
    assert (got["source"] == by_user.reindex(got["user_id"]).to_numpy())[got["user_id"].isin(by_user.index)].all()


@pytest.mark.parametrize("options", [{"users_per_part": 3}, {"users_per_part": 100, "threads": 2}, {"k": 40}])
def test_neither_shards_nor_threads_nor_k_change_an_audience(refreshed, bundle_path, fresh_path, tmp_path, options):
    folder = night(bundle_path, tmp_path, ratings=fresh_path, audience=7, **options)
    pd.testing.assert_frame_equal(read(folder / "item_users"), read(refreshed / "item_users"))
    if "k" not in options:
        pd.testing.assert_frame_equal(read(folder / "user_items"), read(refreshed / "user_items"))


def test_equal_scores_go_to_the_smaller_user_id(tmp_path):
    from batch.lists.audience import merge

    def part(rows):
        columns = zip(*rows, strict=True)
        return pa.table([pa.array(column) for column in columns], schema=schema.ITEM_USERS)

    first = part([(1, 1, 30, 0.5, "dlrm"), (1, 2, 40, 0.5, "dlrm"), (2, 1, 30, 1.0, "dlrm")])
    second = part([(1, 1, 20, 0.5, "history"), (1, 2, 50, 0.25, "dlrm"), (3, 1, 20, 0.0, "history")])
    merged = merge([first, second], 2).to_pydict()
    assert list(zip(merged["item_id"], merged["rank"], merged["user_id"], merged["source"], strict=True)) == [
        (1, 1, 20, "history"), (1, 2, 30, "dlrm"), (2, 1, 30, "dlrm"), (3, 1, 20, "history"),
    ]  # fmt: skip
    assert merge([second, first], 2).to_pydict() == merged


@pytest.mark.parametrize("when", [1, 4, 7, 9, 15, 18, 21, 24])
def test_a_killed_night_with_audiences_ends_in_the_same_bytes(refreshed, bundle_path, fresh_path, tmp_path, when):
    options = {"ratings": fresh_path, "audience": 7}
    with pytest.MonkeyPatch.context() as patch:
        fail_at(patch, batch.lists.shards.Journal, "add", when, Crash())
        with pytest.raises(Crash):
            night(bundle_path, tmp_path, **options)
    report = run(job(bundle_path, tmp_path, k=K, **options))
    assert report.resumed_parts == when - 1
    assert tree(tmp_path / f"run_date={DATE}") == tree(refreshed)
    assert not debris(tmp_path)


@pytest.mark.parametrize("damage", ["cut", "gone", "stray"])
def test_a_damaged_partial_list_costs_its_shard_only(refreshed, bundle_path, fresh_path, tmp_path, damage):
    options = {"ratings": fresh_path, "audience": 7}
    with pytest.MonkeyPatch.context() as patch:
        fail_at(patch, batch.lists.shards.Journal, "add", 12, Crash())
        with pytest.raises(Crash):
            night(bundle_path, tmp_path, **options)
    [journal] = tmp_path.glob(".journal-*")
    partial = journal / "audience" / "00002" / "00003.parquet"
    if damage == "gone":
        partial.unlink()
    elif damage == "cut":
        partial.write_bytes(partial.read_bytes()[:-9])
    else:
        (partial.parent / "00099.parquet").write_bytes(b"of another run")
    report = run(job(bundle_path, tmp_path, k=K, **options))
    assert report.resumed_parts == (11 if damage == "stray" else 10)
    assert tree(tmp_path / f"run_date={DATE}") == tree(refreshed)
    assert not debris(tmp_path)


def test_a_store_without_rename_holds_the_same_night(bundle_path, refreshed, fresh_path):
    store = fsspec.filesystem("memory")
    try:
        run(job(bundle_path, "memory://asked/nights", k=K, ratings=fresh_path, audience=7))
        folder = f"/asked/nights/run_date={DATE}/"
        found = {path.removeprefix(folder): store.cat(path) for path in store.find(folder)}
        assert found == tree(refreshed)
        assert not [path for path in store.find("/asked/nights") if "/.journal" in path or "/.staging" in path]
    finally:
        store.rm("/asked", recursive=True)


def test_audiences_need_a_model(tmp_path, movielens):
    sdk.train(sdk.load_movielens(movielens), sdk.RunConfig(models=("content",)), tmp_path / "bundle")
    with pytest.raises(UsageError, match="--audience"):
        night(tmp_path / "bundle", tmp_path / "out", audience=3)
    assert night(tmp_path / "bundle", tmp_path / "plain", k=3).exists()


# a range of nights --------------------------------------------------------------------------------------------------

DAYS = ["2026-11-20", "2026-11-21", "2026-11-22", "2026-11-23"]


@pytest.fixture(scope="module")
def growing(tmp_path_factory):
    """A rating a day, the same pair again on the third, and the last second and the next of a day."""
    ends = [end_of_day(day) for day in DAYS]
    rows = [(1, 60, 5.0, ends[0]), (1, 58, 4.0, ends[0] + 1), (1, 60, 0.5, ends[2]), (NEW_USER, 4, 5.0, ends[3])]
    return write_ratings(tmp_path_factory.mktemp("growing") / "ratings.csv", rows), rows


def test_the_last_second_of_a_day():
    assert end_of_day("1970-01-01") == 86_399
    assert end_of_day("2026-11-23") == pd.Timestamp("2026-11-24", tz="UTC").timestamp() - 1


def test_a_backfilled_night_is_what_would_have_been_written(bundle_path, growing, tmp_path, capsys):
    path, rows = growing
    arguments = ["--bundle", str(bundle_path), "--out", str(tmp_path / "back"), "--k", str(K)]
    run(job(bundle_path, tmp_path / "back", run_date=DAYS[1], k=K))  # published before, from other inputs
    kept = tree(tmp_path / "back" / f"run_date={DAYS[1]}")
    assert main([*arguments, "--ratings", str(path), "--backfill", DAYS[0], DAYS[3], "--users-per-part", "7"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert [line.split(",")[0] for line in said] == [
        f"{day}: {'passed over' if day == DAYS[1] else 'published'}" for day in DAYS
    ]
    assert tree(tmp_path / "back" / f"run_date={DAYS[1]}") == kept
    for day in (DAYS[0], DAYS[2], DAYS[3]):
        then = write_ratings(tmp_path / f"{day}.csv", [row for row in rows if row[3] <= end_of_day(day)])
        for before in DAYS[: DAYS.index(day)]:  # the nights that it is compared with
            if not (tmp_path / "then" / f"run_date={before}").exists():
                run(job(bundle_path, tmp_path / "then", run_date=before, k=K))
        run(job(bundle_path, tmp_path / "then", run_date=day, k=K, ratings=then))
        assert tree(tmp_path / "back" / f"run_date={day}") == tree(tmp_path / "then" / f"run_date={day}")
    assert (tmp_path / "back" / "LATEST").read_text().strip() == DAYS[3]


def test_a_range_stops_at_the_first_failure_and_goes_on_from_there(bundle_path, tmp_path, monkeypatch, capsys):
    arguments = ["--bundle", str(bundle_path), "--out", str(tmp_path), "--k", "5", "--json", "--backfill"]
    with monkeypatch.context() as patch:
        fail_at(patch, batch.lists.shards.Scorer, "score", 3, OSError(28, "No space left on device"))
        assert main([*arguments, DAYS[0], DAYS[2]]) == 5
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["run_date"] for line in lines] == DAYS[:1]
    assert main([*arguments, DAYS[0], DAYS[2]]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["status"] for line in lines] == ["passed over", "published", "published"]


def test_a_range_can_be_planned(bundle_path, tmp_path, capsys):
    run(job(bundle_path, tmp_path, run_date=DAYS[0]))
    before = tree(tmp_path)
    arguments = ["--bundle", str(bundle_path), "--out", str(tmp_path), "--json", "--dry-run"]
    assert main([*arguments, "--backfill", *DAYS[:2]]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["status"] for line in lines] == ["passed over", "to be scored"]
    assert lines[1]["num_pairs"] == 41 * (NUM_ITEMS + 1)
    assert tree(tmp_path) == before


@pytest.mark.parametrize(
    "arguments",
    [
        ["--backfill", "2026-11-23", "2026-11-20"],
        ["--backfill", "2026-11-23", "tomorrow"],
        ["--backfill", "2026-11-20", "2026-11-23", "--run-date", DATE],
        ["--backfill", "2026-11-20", "2026-11-23", "--verify"],
        ["--run-date", DATE, "--audience", "0"],
    ],
)
def test_options_that_do_not_go_together_are_exit_code_2(bundle_path, tmp_path, capsys, arguments):
    assert main(["--bundle", str(bundle_path), "--out", str(tmp_path), *arguments]) == 2
    assert "--backfill" in capsys.readouterr().err or "--audience" in arguments


def test_dates_between_cross_a_month():
    assert dates_between("2028-02-28", "2028-03-01") == ["2028-02-28", "2028-02-29", "2028-03-01"]
    assert list(backfill(job(Path("b"), "memory://nothing"), [], run)) == []


def test_a_dry_run_counts_what_was_asked_for(bundle_path, fresh_path, tmp_path, capsys):
    arguments = ["--bundle", str(bundle_path), "--out", str(tmp_path / "out"), "--run-date", DATE, "--k", "5"]
    users = write_lines(tmp_path / "users", [1, NEW_USER])
    deny = write_lines(tmp_path / "deny", [1, 2, 999_999])
    more = ["--users", str(users), "--deny", str(deny), "--audience", "4", "--ratings", str(fresh_path)]
    assert main([*arguments, *more, "--dry-run", "--json"]) == 0
    planned = json.loads(capsys.readouterr().out)
    candidates = NUM_ITEMS + 1 - 2
    assert (planned["num_users"], planned["num_candidates"], planned["num_audiences"]) == (2, candidates, candidates)
    assert planned["num_pairs"] == 2 * candidates
    assert planned["max_audience_rows"] == 2 * candidates
    assert planned["asked"]["unknown_in_deny"] == 1
    assert planned["asked"]["new_users"] == 1
