"""A night of a data set whose ids are text is the night of the same data by number, renamed."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_up import BARE_ITEM, tiny_config, write_movielens
from night_files import DATE, Crash, debris, job, tree
from outside import failing
from text_ids import named, with_text_ids

import sdk
from batch.page.report_page import published_night, write_report
from batch.run.night import run
from batch.store.layout import ITEM_ITEMS, ITEM_USERS, USER_ITEMS
from batch.store.places import open_target
from batch.taste import taste
from sdk.base.errors import UsageError
from sdk.machine.cluster import ClusterConfig

BEFORE = "2026-11-22"
USER, ITEM = ("user_id",), ("item_id",)
SIDE_OF = {"user_id": "user_id", "item_id": "item_id", "similar_item_id": "item_id"}


@pytest.fixture(scope="module", params=[USER + ITEM, USER, ITEM], ids=["both", "users", "items"])
def sides(request):
    """The sides whose ids are text."""
    return request.param


@pytest.fixture(scope="module")
def text_path(sides, tmp_path_factory):
    """The made-up bundle, trained on the same data with text as ids of these sides."""
    folder = tmp_path_factory.mktemp("text")
    data = sdk.load_movielens(write_movielens(folder / "ml-made-up"))
    sdk.train(with_text_ids(data, *sides), tiny_config(), folder / "bundle")
    return folder / "bundle"


def lists(out: Path, date: str = DATE) -> dict[str, pa.Table]:
    """A night's sides, each as one table."""
    folders = [folder for folder in sorted((out / f"run_date={date}").iterdir()) if folder.is_dir()]
    return {
        folder.name: pa.concat_tables(pq.read_table(p, partitioning=None) for p in sorted(folder.glob("*.parquet")))
        for folder in folders
    }


def renamed(table: pa.Table, sides: tuple[str, ...]) -> pa.Table:
    for at, name in enumerate(table.column_names):
        if SIDE_OF.get(name) in sides:
            column = pa.array(named(table[name].to_numpy(), SIDE_OF[name]), pa.string())
            table = table.set_column(
                at, pa.field(name, pa.string(), nullable=table.schema.field(name).nullable), column
            )
    return table


def written(path: Path, sides: tuple[str, ...], **columns: list[object]) -> Path:
    """A CSV whose ids are text on these sides."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shown = [named(values, name) if name in sides else values for name, values in columns.items()]
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([columns, *zip(*shown, strict=True)])
    return path


def asked(folder: Path, sides: tuple[str, ...]) -> dict[str, object]:
    """Options with a file of every kind, and audiences."""
    return {
        "audience": 4,
        "users": written(folder / "users.csv", sides, user_id=[*range(1, 30), 5000]),
        "items": written(folder / "items.csv", sides, item_id=[*range(1, 41), BARE_ITEM]),
        "deny": written(folder / "deny.csv", sides, item_id=[3, 17, 12345]),
        "block": written(folder / "block.csv", sides, user_id=[1, 2, 77, 5000], item_id=[5, 6, 7, 8]),
        "repeat": written(folder / "repeat.csv", sides, item_id=[20, 21, 22]),
        "ratings": written(
            folder / "ratings.csv", sides, user_id=[1, 1, 5000, 5000, 3], item_id=[9, 10, 2, 4, 777],
            rating=[5.0, 1.0, 4.5, 4.0, 3.0], timestamp=[2_000_000_000 + n for n in range(5)],
        ),
    }  # fmt: skip


def test_whole_nights_are_those_by_number_renamed(bundle_path, text_path, sides, tmp_path):
    run(job(bundle_path, tmp_path / "numbers", audience=4))
    run(job(text_path, tmp_path / "texts", audience=4))
    numbers, texts = lists(tmp_path / "numbers"), lists(tmp_path / "texts")
    assert list(numbers) == list(texts) == [ITEM_ITEMS, ITEM_USERS, USER_ITEMS]
    for side, table in numbers.items():
        assert texts[side].equals(renamed(table, sides)), side


def test_so_are_those_with_newer_ratings_and_every_file_of_ids(bundle_path, text_path, sides, tmp_path):
    by_number = run(job(bundle_path, tmp_path / "numbers", **asked(tmp_path / "asked", ())))
    by_text = run(job(text_path, tmp_path / "texts", **asked(tmp_path / "asked-by-text", sides)))
    assert by_text.asked == by_number.asked
    assert by_text.asked["new_users"] == by_text.asked["ratings_of_unknown_titles"] == 1
    numbers, texts = lists(tmp_path / "numbers"), lists(tmp_path / "texts")
    for side, table in numbers.items():
        assert texts[side].equals(renamed(table, sides)), side
    checks = [json.loads((tmp_path / of / f"run_date={DATE}/manifest.json").read_text())["checks"] for of in
              ("numbers", "texts")]  # fmt: skip
    for found in checks:
        found.pop("bundle"), found.pop("scope")
    assert checks[0] == checks[1]


def test_items_that_may_come_again_do_and_others_do_not(bundle, bundle_path, tmp_path):
    again = [20, 21, 22]
    run(job(bundle_path, tmp_path, k=100, repeat=written(tmp_path / "r" / "repeat.csv", (), item_id=again)))
    found = lists(tmp_path)[USER_ITEMS]
    listed = set(zip(found["user_id"].to_pylist(), found["item_id"].to_pylist(), strict=True))
    rows = bundle.interactions.rows
    users, items = bundle.encoded_users.ids[rows.user_index], bundle.encoded_items.ids[rows.item_index]
    rated = set(zip(users.tolist(), items.tolist(), strict=True))
    assert listed & rated == {pair for pair in rated if pair[1] in again}
    pins = json.loads((tmp_path / f"run_date={DATE}/manifest.json").read_text())["inputs"]["asked"]
    assert pins["repeat"]["rows"] == 3
    with pytest.raises(UsageError, match="--repeat: not together with --include-seen"):
        job(bundle_path, tmp_path, repeat=tmp_path / "repeat.csv", include_seen=True)


def test_a_killed_night_is_taken_up_to_the_same_bytes(text_path, tmp_path):
    run(job(text_path, tmp_path / "whole", audience=4))
    with failing("os.rename", Crash(), at=f".staging-{DATE}/item_items/"), pytest.raises(Crash):
        run(job(text_path, tmp_path / "killed", audience=4))
    report = run(job(text_path, tmp_path / "killed", audience=4))
    assert report.resumed_parts == 6
    assert not debris(tmp_path / "killed")
    night = f"run_date={DATE}"
    assert tree(tmp_path / "killed" / night) == tree(tmp_path / "whole" / night)


def test_a_night_before_with_ids_of_another_type_is_named_in_one_line(bundle_path, text_path, tmp_path, caplog):
    run(job(bundle_path, tmp_path, run_date=BEFORE))
    with caplog.at_level("WARNING"):
        run(job(text_path, tmp_path))
    (said,) = [line for line in caplog.messages if "night before" in line]
    assert "is int64, tonight's string" in said
    checks = json.loads((tmp_path / f"run_date={DATE}/manifest.json").read_text())["checks"]
    assert (checks["previous"], checks["user_items"]["kept"], checks["item_items"]["kept"]) == (None, None, None)
    write_report(published_night(open_target(tmp_path), DATE, sdk.load(text_path)))


def test_pages_and_tastes_name_text_ids(text_path, sides, tmp_path):
    run(job(text_path, tmp_path, run_date=BEFORE))
    run(job(text_path, tmp_path))
    first = named([1], "user_id")[0] if "user_id" in sides else 1
    shown = taste(text_path, tmp_path, num_users=1, num_items=1, k=3)
    assert f"user {first}:\n  1. Film " in shown
    write_report(published_night(open_target(tmp_path), DATE, sdk.load(text_path)))
    page = (tmp_path / "reports" / f"run_date={DATE}.html").read_text()
    assert "Users with" not in page
    assert ("User u-" in page) == ("user_id" in sides)
    assert "Like Film " in page


@pytest.mark.parametrize("sides", [USER, USER + ITEM], indirect=True)
def test_unknown_ids_are_shown_as_they_came(text_path, sides, tmp_path):
    (tmp_path / "users.txt").write_text("u-0000000000000000001\n00417\nÄrger\n")
    with pytest.raises(UsageError, match=r"--users .*: 2 ids are not in the bundle; the first are 00417, Ärger\."):
        run(job(text_path, tmp_path / "out", users=tmp_path / "users.txt"))


@pytest.mark.parametrize("sides", [USER + ITEM], indirect=True)
def test_workers_write_the_same_bytes(text_path, sides, tmp_path):
    run(job(text_path, tmp_path / "here", audience=4))
    run(job(text_path, tmp_path / "there", audience=4, cluster=ClusterConfig(workers=2)))
    night = f"run_date={DATE}"
    assert tree(tmp_path / "there" / night) == tree(tmp_path / "here" / night)


def test_parts_hold_each_text_once(text_path, sides, tmp_path):
    run(job(text_path, tmp_path))
    part = pq.ParquetFile(tmp_path / f"run_date={DATE}" / USER_ITEMS / "part-00000.parquet")
    for name in sides:
        column = part.metadata.row_group(0).column(part.schema_arrow.names.index(name))
        assert column.has_dictionary_page
    assert np.array_equal([str(part.schema_arrow.field(name).type) == "string" for name in ("user_id", "item_id")],
                          [name in sides for name in ("user_id", "item_id")])  # fmt: skip


@pytest.mark.parametrize("sides", [USER + ITEM], indirect=True)
def test_a_store_holds_the_bytes_of_a_folder(text_path, sides, tmp_path):
    memory = fsspec.filesystem("memory")
    run(job(text_path, tmp_path, audience=4))
    run(job(text_path, "memory://texts/nights", audience=4))
    night = f"run_date={DATE}"
    stored = {
        name.partition(f"{night}/")[2]: memory.cat_file(name) for name in memory.find(f"/texts/nights/{night}")
    }  # fmt: skip
    memory.rm("/texts", recursive=True)
    assert stored == tree(tmp_path / night)
