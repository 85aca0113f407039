"""A shard is scored from a bundle with its users alone, to the bytes that the whole bundle gives."""

from __future__ import annotations

import dataclasses
import random
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from generated_bundle import Sizes, write_generated
from night_files import job, tree

import sdk
import sdk.features.interactions
import sdk.features.table_files
import sdk.scoring.engine
from batch.job.inputs import open_job
from batch.lists.parts import part_bytes
from batch.lists.shards import Scorer
from batch.lists.taken import NOTHING
from batch.plan.night_plan import job_shards
from batch.run.night import run
from sdk.base.errors import UsageError
from sdk.bundles.some_users import StoredUsers, WholeUsers, users_of
from sdk.features.interactions import StoredInteractions
from sdk.features.row_groups import HeldParquet
from sdk.features.tables import FIRST_KNOWN
from sdk.machine.cluster import ClusterConfig

SIZES = {
    "as written now": Sizes(600, items=60, seed=1),
    "ratings that age": Sizes(600, items=60, ages=True, seed=2),
    "of an early release": Sizes(600, items=60, ages=True, in_order=False, stored=False, seed=3),
}
ROWS = 50
"""Of a row group."""


@pytest.fixture(scope="module", params=SIZES)
def drawn(request, tmp_path_factory):
    """A bundle in many row groups."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sdk.features.table_files, "ROWS_A_GROUP", ROWS)
        patch.setattr(sdk.features.interactions, "ROWS_A_GROUP", ROWS)
        return write_generated(tmp_path_factory.mktemp("drawn") / "bundle", SIZES[request.param])


def whole(opened):
    """The same job, whose users are held all at once."""
    return dataclasses.replace(opened, asked=dataclasses.replace(opened.asked, source=WholeUsers(opened.bundle)))


def bytes_of(scorer, work, asked):
    """Every user shard's part, and what it leaves for audiences."""
    scored = [(shard, scorer.score(shard)) for shard in job_shards(work, asked) if shard.side == "user_items"]
    return [(shard.name, part_bytes(found.table()), dict(found.partials)) for shard, found in scored]


def lines(path: Path, rows) -> Path:
    path.write_text("\n".join([*map(str, rows), ""]))
    return path


def drawn_options(draw: random.Random, ids: list[int], folder: Path) -> dict:
    pairs = [f"{draw.choice(ids)},{draw.randint(1, 60)}" for _ in range(300)]
    ways = {
        "include_seen": lambda: True,
        "users": lambda: lines(folder / "users", sorted(draw.sample(ids, 180))),
        "block": lambda: lines(folder / "block", ["user_id,item_id", *sorted(set(pairs))]),
        "repeat": lambda: lines(folder / "repeat", range(1, 40)),
        "deny": lambda: lines(folder / "deny", range(5, 20)),
        "audience": lambda: 4,
        "explore": lambda: 0.5,
    }
    chosen = draw.sample(sorted(ways), draw.randint(0, 4))
    if "explore" in chosen:
        chosen = [name for name in chosen if name not in ("audience", "repeat", "include_seen")]
    return {name: ways[name]() for name in chosen} | {"users_per_part": draw.choice([7, 64, 250])}


@pytest.mark.parametrize("seed", range(6))
def test_parts_have_the_bytes_of_a_bundle_that_holds_all_users(drawn, tmp_path, seed):
    draw = random.Random(seed)
    ids = sdk.load(drawn).encoded_users.known_ids.tolist()
    work = job(drawn, tmp_path / "out", **drawn_options(draw, ids, tmp_path))
    opened = open_job(work)
    expected = bytes_of(Scorer(work, whole(opened)), work, opened.asked)
    assert bytes_of(Scorer(work, opened), work, opened.asked) == expected
    assert any(len(found) > 0 for _, found, _ in expected)


@pytest.mark.parametrize("model", ["dlrm", "ncf"])
def test_a_ranker_whose_part_of_lists_is_not_stored_gives_the_same_bytes(bundle_path, tmp_path, model):
    work = job(bundle_path, tmp_path, model=model, include_seen=True)
    opened = open_job(work)
    expected = bytes_of(Scorer(work, whole(opened)), work, opened.asked)
    assert bytes_of(Scorer(work, opened), work, opened.asked) == expected


def test_a_night_of_workers_has_the_bytes_of_one_process(drawn, tmp_path):
    options = {"users_per_part": 64, "skip_gate": ("fallback",)}
    for name, more in (("here", {}), ("there", {"cluster": ClusterConfig(workers=1)})):
        run(job(drawn, tmp_path / name, **options, **more))
    here, there = (tree(tmp_path / name / "run_date=2026-11-23") for name in ("here", "there"))
    assert here == there


def test_items_are_laid_out_once_for_all_shards_and_threads(drawn, tmp_path, monkeypatch):
    calls = []
    real = sdk.scoring.engine.pack
    monkeypatch.setattr(sdk.scoring.engine, "pack", lambda *args: calls.append(1) or real(*args))
    work = job(drawn, tmp_path / "out", users_per_part=64)
    opened = open_job(work)
    scorer = Scorer(work, opened)
    with ThreadPoolExecutor(4) as pool:
        users = [shard for shard in job_shards(work, opened.asked) if shard.side == "user_items"]
        tables = list(pool.map(lambda shard: scorer.score(shard).table(), users))
    assert len(calls) == 2  # by the model, and by popularity for whoever it knows nothing of
    assert {source for table in tables for source in table["source"].unique().to_pylist()} == {"history", "popular"}


@pytest.mark.parametrize("tile", [7, 25, 1000])
def test_items_in_tiles_give_the_same_bytes(drawn, bundle_path, tmp_path, tile):
    rules = tmp_path / "rules.json"
    rules.write_text('{"at_most": {"genres": 2}}')
    for path, options in (
        (drawn, {}),
        (drawn, {"include_seen": True}),
        (bundle_path, {}),
        (bundle_path, {"rules": rules}),
    ):
        found = []
        for tiles in ({}, {"items_per_tile": tile}):
            work = job(path, tmp_path / "out", **options, **tiles)
            opened = open_job(work)
            found.append(bytes_of(Scorer(work, opened), work, opened.asked))
        assert found[0] == found[1]


@pytest.mark.parametrize(("options", "says"), [({"audience": 3}, "--audience"), ({"explore": 0.1}, "--explore"),
                                               ({"device": "cuda"}, "--device cuda")])  # fmt: skip
def test_tiles_do_not_go_with_what_needs_all_items_at_once(tmp_path, options, says):
    with pytest.raises(UsageError, match=f"--items-per-tile: .*{says}"):
        job(tmp_path, tmp_path / "out", items_per_tile=5, **options)


def test_a_worker_reads_no_more_users_than_its_shards(tmp_path, monkeypatch):
    """By what is read from the files: a shard's users, and the row groups that they lie in."""
    monkeypatch.setattr(sdk.features.table_files, "ROWS_A_GROUP", ROWS)
    monkeypatch.setattr(sdk.features.interactions, "ROWS_A_GROUP", ROWS)
    path = write_generated(tmp_path / "bundle", SIZES["as written now"])
    work = job(path, tmp_path / "out", users_per_part=20)
    groups: list[tuple[str, int]] = []
    real = pq.ParquetFile.read_row_group

    def noted(self, number, *args, **options):
        groups.append(("seen" if "rating" in self.schema_arrow.names else "users", number))
        return real(self, number, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(pq.ParquetFile, "read_row_group", noted)
        for name in ("_user_tables", "interactions"):
            patch.setattr(sdk.Bundle, name, property(partial(refused, name)))
        opened = open_job(work, counted=False)
        assert groups == []
        scorer = Scorer(work, opened, NOTHING)
        del groups[:]
        shard = job_shards(work, opened.asked)[10]
        assert (shard.start, shard.stop) == (200, 220)
        found = scorer.score(shard).table()
    assert found["user_id"].unique().to_pylist() == [3 * n for n in range(201, 221)]
    assert [number for name, number in groups if name == "users"] == [4]
    stored = StoredInteractions.read(path / "seen.parquet", (603, 63))
    place = np.flatnonzero(np.isin(stored.rows.user_index - FIRST_KNOWN, np.arange(200, 220)))
    expected = list(range(place[0] // ROWS, place[-1] // ROWS + 1))
    assert [number for name, number in groups if name == "seen"] == expected
    assert len(expected) <= 3 < HeldParquet(path / "seen.parquet").num_rows // ROWS


def refused(name, self):
    raise AssertionError(f"{name} of all users was read")


def test_some_users_have_the_rows_that_the_whole_bundle_has(drawn):
    bundle, numbers = sdk.load(drawn), np.array([0, 3, 49, 50, 51, 120, 599])
    source = users_of(bundle)
    assert isinstance(source, StoredUsers)
    some, rows = source.some(numbers)
    every = bundle.encoded_users
    assert some.encoded_users.ids[rows].tolist() == every.known_ids[numbers].tolist() == source.ids[numbers].tolist()
    np.testing.assert_array_equal(some.encoded_users.dense[rows], every.dense[FIRST_KNOWN + numbers])
    theirs, all_of_it = some.interactions, bundle.interactions
    for row, user in zip(rows.tolist(), (FIRST_KNOWN + numbers).tolist(), strict=True):
        mine, own = theirs.rows.user_index == row, all_of_it.rows.user_index == user
        assert theirs.rows.item_index[mine].tolist() == all_of_it.rows.item_index[own].tolist()
        assert theirs.rating[mine].tolist() == all_of_it.rating[own].tolist()
    form, expected = some.list_form(), bundle.list_form()
    np.testing.assert_array_equal(form.users.dot[rows], expected.users.dot[FIRST_KNOWN + numbers])
    nobody, none = source.some(np.zeros(0, np.int64))
    assert (len(nobody.encoded_users), len(none), len(nobody.interactions.part)) == (FIRST_KNOWN, 0, 0)


def test_a_bundle_that_is_replaced_meanwhile_is_read_as_it_was(drawn, tmp_path):
    """The files are held open: what is read later is of the same bundle."""
    path = tmp_path / "bundle"
    path.mkdir()
    for file in drawn.iterdir():
        (path / file.name).write_bytes(file.read_bytes())
    work = job(path, tmp_path / "out", users_per_part=64)
    opened = open_job(work)
    scorer, shards = Scorer(work, opened), job_shards(work, opened.asked)
    path.rename(tmp_path / "older")
    write_generated(path, Sizes(600, items=60, seed=9))
    old = dataclasses.replace(work, bundle=drawn)
    expected = Scorer(old, open_job(old)).score(shards[3]).table()
    assert scorer.score(shards[3]).table().equals(expected)
