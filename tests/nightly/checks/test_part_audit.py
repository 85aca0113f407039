"""What the checks of parts add up to is what one pass over all parts finds, on good nights and on damaged ones."""

from __future__ import annotations

import dataclasses
import json
import random
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from generated_bundle import Sizes, user_id, write_generated
from night_files import job, tree

import batch.run.night
from batch.checks.audit import audit, judged
from batch.checks.expectations import expectations, some_of
from batch.checks.part_audit import AddedUp, PartAudit
from batch.checks.previous import previous_night
from batch.checks.sums import SideSums
from batch.gates.judge import GatesFailedError
from batch.gates.thresholds import GateConfig
from batch.job.inputs import open_job
from batch.lists.parts import TEXTS
from batch.plan.night_plan import job_shards
from batch.run.night import run
from batch.store.journal import Journal
from batch.store.layout import LAYOUTS
from batch.store.places import open_target
from sdk.machine.cluster import ClusterConfig

GATES = GateConfig(depth=3, established_ratings=2)
SKIP = ("fallback", "established_fallback", "overlap", "kept", "drift", "sameness", "gini", "coverage", "length_ratio")
FIRST, SECOND = "2026-11-22", "2026-11-23"


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    """Two of the same catalogue, of which the second has other tastes and more users; and two whose ids are text."""
    folder = tmp_path_factory.mktemp("bundles")
    return [
        write_generated(folder / f"{users} {text}", Sizes(users, items=60, seed=users, ages=True, text=text))
        for text in (False, True)
        for users in (500, 570)
    ]


def night(bundle: Path, out: Path, date: str, **options):
    return job(bundle, out, run_date=date, gates=GATES, skip_gate=("fallback", "overlap", "drift"), **options)


def in_one_pass(folder: Path, work, opened, previous):
    try:
        return audit(folder, expectations(opened.bundle, work, opened.asked), previous, "the night")
    except GatesFailedError as error:
        return error.figures


def added_up(folder: Path, work, opened, draw: random.Random):
    """The figures by the sums of parts, added in any order, each through its bytes; None where a part has none."""
    auditor = PartAudit.of(work, opened)
    found = {side: SideSums.nothing(auditor.num_answers) for side in ("users", "titles")}
    shards = list(job_shards(work, opened.asked))
    draw.shuffle(shards)
    for shard in shards:
        table = pq.read_table(folder / shard.name, partitioning=None, read_dictionary=TEXTS)
        sums = auditor.sums(shard, table)
        if sums is None:
            return None
        found["users" if shard.side == "user_items" else "titles"].add(SideSums.of_bytes(sums.to_bytes()))
    try:
        return judged(found, auditor.expected(), auditor.previous, "the night")
    except GatesFailedError as error:
        return error.figures


def written(folder: Path, name: str, values) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text("\n".join([*map(str, values), ""]))
    return folder / name


def options_of(draw: random.Random, folder: Path, *, text: bool) -> dict:
    ids = [user_id(number, text=text) for number in range(500)]
    pairs = {(draw.choice(ids), draw.randint(1, 60)) for _ in range(200)}
    ways = {
        "include_seen": lambda: True,
        "users": lambda: written(folder, "users", sorted(draw.sample(ids, 300))),
        "items": lambda: written(folder, "items", range(4, 50)),
        "block": lambda: written(folder, "block", ["user_id,item_id", *(f"{u},{i}" for u, i in sorted(pairs))]),
        "deny": lambda: written(folder, "deny", range(5, 30)),
        "explore": lambda: 0.5,
    }
    return {name: ways[name]() for name in draw.sample(sorted(ways), draw.randint(0, 3))}


@pytest.mark.parametrize("text", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_sums_of_parts_give_the_figures_of_one_pass(bundles, tmp_path, seed, text):
    """Nights with and without one before them, of the same users or fewer, in parts of another size."""
    draw = random.Random(seed)
    options = options_of(draw, tmp_path / "files", text=text)
    options.pop("explore", None) if "include_seen" in options else None
    bundles = bundles[2:] if text else bundles[:2]
    before, bundle = bundles[draw.randint(0, 1)], bundles[draw.randint(0, 1)]
    if draw.random() < 0.8:
        run(night(before, tmp_path / "out", FIRST, **options, users_per_part=draw.choice([40, 64, 300])))
    work = night(bundle, tmp_path / "out", SECOND, **options, users_per_part=draw.choice([30, 64]))
    run(work)
    opened, previous = open_job(work), previous_night(open_target(work.out), SECOND)
    expected = in_one_pass(work.night, work, opened, previous)
    assert added_up(work.night, work, opened, draw) == expected
    assert expected.to_json() == json.loads((work.night / "manifest.json").read_text())["checks"]
    assert (expected.users.kept is not None) == (previous is not None and "explore" not in options)


def test_a_night_before_with_ids_of_another_kind_is_not_compared(bundles, tmp_path):
    run(night(bundles[0], tmp_path / "out", FIRST, users_per_part=64))
    work = night(bundles[2], tmp_path / "out", SECOND, users_per_part=64)
    run(work)
    opened, previous = open_job(work), previous_night(open_target(work.out), SECOND)
    expected = in_one_pass(work.night, work, opened, previous)
    assert added_up(work.night, work, opened, random.Random(0)) == expected
    assert expected.users.note == "the previous night has ids of another type"


WAYS = ("rank", "score", "item", "twice", "lost", "list", "null", "stranger")


def damaged(way: str, draw: random.Random, table: pa.Table, ids: list[int]) -> pa.Table:
    """One part with something wrong in it."""
    rows = table.to_pylist()
    at = draw.randrange(len(rows))
    if way == "rank":
        rows[at]["rank"] += 1
    elif way == "score":
        rows[at]["score"] = draw.choice([np.nan, np.inf, 1e9])
    elif way == "item":
        rows[at]["item_id"] = 999
    elif way == "twice":
        mine = [row["item_id"] for row in rows if row["user_id"] == rows[at]["user_id"]]
        rows[at]["item_id"] = draw.choice([item for item in mine if item != rows[at]["item_id"]])
    elif way == "lost":
        del rows[at]
    elif way == "list":
        rows = [row for row in rows if row["user_id"] != rows[at]["user_id"]]
    elif way == "stranger":
        rows[at]["user_id"] = draw.choice([1, *set(ids) - set(table["user_id"].to_pylist())])
    made = pa.Table.from_pylist(rows, table.schema.remove_metadata())
    if way == "null":
        scores = made["score"].to_pylist()
        made = made.set_column(
            3, "score", pa.array([None if n == at else s for n, s in enumerate(scores)], pa.float32())
        )
    return made


@pytest.mark.parametrize("way", WAYS)
def test_sums_of_damaged_parts_say_what_one_pass_says_or_leave_it_to_that(bundles, tmp_path, way):
    draw = random.Random(way)
    work = night(bundles[0], tmp_path / "out", SECOND, users_per_part=64)
    run(work)
    folder = Path(shutil.copytree(work.night, tmp_path / "staged"))
    opened = open_job(work)
    ids = opened.asked.users.tolist()
    for number in draw.sample(range(8), 3):
        path = folder / f"user_items/part-{number:05d}.parquet"
        table = damaged(way, draw, pq.read_table(path, partitioning=None), ids)
        pq.write_table(table, path)
    found, expected = added_up(folder, work, opened, draw), in_one_pass(folder, work, opened, None)
    assert found is None if way == "stranger" else found == expected
    assert any(not line.passed for line in expected.gates)


def test_some_lists_of_parts_are_those_of_all():
    expected = np.random.default_rng(0).random(250_000) < 0.9
    whole, total = some_of(expected), int(expected.sum())
    assert 10_000 <= whole.sum() <= 2 * 10_000
    for start, stop in ((0, 70_000), (70_000, 70_001), (70_001, 250_000)):
        first = int(expected[:start].sum())
        np.testing.assert_array_equal(some_of(expected[start:stop], first, total), whole[start:stop])


def refuse(*_args, **_options):
    raise AssertionError("the parts were read in one pass")


@pytest.mark.needs("distributed")
def test_a_night_of_workers_is_added_up_and_has_the_bytes_of_one_process(bundles, tmp_path, monkeypatch):
    """Two nights, the second killed in its middle and taken up: nothing is read in one pass."""
    options = {"users_per_part": 64}
    for date, bundle in ((FIRST, bundles[0]), (SECOND, bundles[1])):
        run(night(bundle, tmp_path / "here", date, **options))
    monkeypatch.setattr(batch.run.night, "audit", refuse)
    there = {"cluster": ClusterConfig(workers=1), **options}
    run(night(bundles[0], tmp_path / "there", FIRST, **there))
    second = night(bundles[1], tmp_path / "there", SECOND, **there)
    with monkeypatch.context() as patch:
        patch.setattr(AddedUp, "is_whole", refuse)
        with pytest.raises(AssertionError):
            run(second)
    parts = list((tmp_path / "there" / f".staging-{SECOND}").rglob("part-*.parquet"))
    parts[3].unlink()
    assert run(second).resumed_parts == len(parts) - 1
    for date in (FIRST, SECOND):
        here, by_workers = (tree(tmp_path / name / f"run_date={date}") for name in ("here", "there"))
        assert here == by_workers


@pytest.mark.needs("distributed")
@pytest.mark.parametrize("how", ["no sums", "damaged sums", "another depth"])
def test_without_the_sums_of_a_part_all_are_read_in_one_pass(bundles, tmp_path, monkeypatch, how):
    work = night(bundles[0], tmp_path / "out", SECOND, users_per_part=64, cluster=ClusterConfig(workers=1))
    with monkeypatch.context() as patch:
        patch.setattr(AddedUp, "is_whole", refuse)
        with pytest.raises(AssertionError):
            run(work)
    sums = sorted((tmp_path / "out" / f".journal-{SECOND}" / "sums").rglob("*.npz"))
    assert len(sums) == len(job_shards(work, open_job(work).asked))
    if how == "no sums":
        sums[0].unlink()
    elif how == "damaged sums":
        sums[0].write_bytes(sums[0].read_bytes()[:-30])
    else:
        work = dataclasses.replace(work, gates=dataclasses.replace(GATES, depth=4))
    calls = []
    real = audit
    monkeypatch.setattr(batch.run.night, "audit", lambda *args: calls.append(1) or real(*args))
    run(work)
    assert calls == [1]
    plain = night(bundles[0], tmp_path / "plain", SECOND, users_per_part=64)
    plain = dataclasses.replace(plain, gates=work.gates)
    run(plain)
    assert tree(work.night) == tree(plain.night)


def test_sums_of_a_part_are_kept_with_it_and_deleted_without(tmp_path):
    journal = Journal(open_target(tmp_path), SECOND, "digest")
    for name in LAYOUTS:
        journal.target.write(f"{journal.folder}/sums/{name}/part-00000.parquet/0.npz", b"x", durable=False)
    assert journal.resume([f"{name}/part-00000.parquet" for name in LAYOUTS]) == {}
    assert not list(tmp_path.rglob("*.npz"))


def test_damaged_sums_are_no_sums():
    rng = np.random.default_rng(1)
    sums = SideSums(*rng.integers(0, 3, (3, 40)))
    sums.note("ranks", 2, "the first", 4)
    whole = sums.to_bytes()
    again = SideSums.of_bytes(whole)
    assert (again.wrong, again.first) == (sums.wrong, sums.first)
    np.testing.assert_array_equal(again.exposure, sums.exposure)
    for at in range(0, len(whole), 7):
        damaged = bytearray(whole)
        damaged[at] ^= 1 << int(rng.integers(8))
        try:
            found = SideSums.of_bytes(bytes(damaged))
        except ValueError:
            continue
        np.testing.assert_array_equal(found.exposure, sums.exposure)  # of what no value depends on
    with pytest.raises(ValueError, match="no sums"):
        SideSums.of_bytes(whole[:-40])
