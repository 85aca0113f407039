"""The audit must catch each kind of bad night: real parts are damaged in one way at a time."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batch.checks.audit import audit, audit_parts, local_parts
from batch.checks.expectations import expectations
from batch.gates.figures import FOLDERS
from batch.gates.table import GATES
from batch.gates.thresholds import GateConfig
from batch.job.job import Job
from batch.run.night import run
from sdk.base import schema
from sdk.base.errors import OutputError, QualityGateError, UsageError

K = 5
LAYOUTS = {"user_items": schema.USER_ITEMS, "item_items": schema.ITEM_ITEMS}
SIDES = {side: FOLDERS[side] for side in ("users", "titles")}


@pytest.fixture(scope="module")
def night(bundle_path, tmp_path_factory) -> Job:
    job = Job(bundle=bundle_path, out=tmp_path_factory.mktemp("out"), run_date="2026-11-23", k=K, users_per_part=20)
    run(job)
    return job


@pytest.fixture
def staged(night, tmp_path) -> Path:
    return Path(shutil.copytree(night.night, tmp_path / "staged"))


def part(folder: Path, number: int = 0) -> Path:
    return folder / f"part-{number:05d}.parquet"


def read(folder: Path, number: int = 0) -> pd.DataFrame:
    return pq.read_table(part(folder, number), partitioning=None).to_pandas()


def write(folder: Path, rows: pd.DataFrame, number: int = 0) -> None:
    pq.write_table(table_of(rows, LAYOUTS[folder.name]), part(folder, number))


def table_of(rows: pd.DataFrame, layout: pa.Schema) -> pa.Table:
    """The rows as they are: NaN stays NaN, which pandas would make a null."""
    return pa.table([pa.array(rows[name].to_numpy(), layout.field(name).type) for name in layout.names], schema=layout)


def failures(staged: Path, bundle, job: Job, **options) -> dict[str, str]:
    """Gate -> what the error says of it; empty where the night passes."""
    try:
        audit(staged, expectations(bundle, dataclasses.replace(job, **options)))
    except QualityGateError as error:
        lines = str(error).splitlines()
        assert str(staged) in lines[0]
        assert f"{len(lines) - 1} of " in lines[0]
        return dict(line.strip().split(": ", 1) for line in lines[1:])
    return {}


def test_a_good_night_passes_with_a_line_per_gate(staged, bundle, night):
    figures = audit(staged, expectations(bundle, night))
    assert [line.name for line in figures.gates] == [
        *(f"users.{gate.name}" for gate in sorted_gates("users")),
        *(f"titles.{gate.name}" for gate in sorted_gates("titles")),
        "bundle.auc",
        "bundle.auc_drop",
        "bundle.judged",
    ]
    assert all(line.passed for line in figures.gates)
    assert figures.bundle.validation_auc == bundle.info.metrics["validation_auc"][bundle.info.chosen_model]


def sorted_gates(side):
    return [gate for gate in GATES if side in gate.bounds]


def test_figures_are_those_that_a_query_counts(staged, bundle, night):
    checks = audit(staged, expectations(bundle, night)).to_json()
    for side, query, answer in (("user_items", "user_id", "item_id"), ("item_items", "item_id", "similar_item_id")):
        [(rows, ids, shown, popular)] = duckdb.sql(
            f"SELECT count(*), count(DISTINCT {query}), count(DISTINCT {answer}),"
            f" count(DISTINCT {query}) FILTER (source = 'popular') FROM '{staged}/{side}/*.parquet'"
        ).fetchall()
        figures = checks[side]
        assert (figures["rows"], figures["queries"], figures["distinct_items_shown"]) == (rows, ids, shown)
        assert figures["fallback"] == popular / ids
        assert figures["coverage"] == shown / bundle.items.num_rows
        assert figures["mean_length"] == rows / ids


def swap(rows, column, first, second):
    values = rows[column].tolist()
    values[first], values[second] = values[second], values[first]
    return rows.assign(**{column: values})


def put(rows, column, row, value):
    values = rows[column].tolist()
    values[row] = value
    return rows.assign(**{column: np.array(values, dtype=rows[column].dtype)})


DAMAGES = {
    "a rank is skipped": (lambda rows: put(rows, "rank", 1, 3), "users.ranks", "row 1 has rank 3"),
    "a row is lost": (lambda rows: rows.drop(index=2), "users.ranks", "row 2 has rank 4"),
    "a list is cut": (lambda rows: rows.drop(index=4), "users.lengths", "row 0 begins a list of another length"),
    "a score is NaN": (lambda rows: put(rows, "score", 2, np.nan), "users.finite", "row 2 has the score nan"),
    "a score is infinite": (lambda rows: put(rows, "score", 0, np.inf), "users.finite", "row 0 has the score inf"),
    "two scores are swapped": (lambda rows: swap(rows, "score", 0, 4), "users.order", "row 1 scores above"),
    "a title comes twice": (lambda rows: put(rows, "item_id", 1, rows["item_id"][0]), "users.repeats", "row 1 names"),
    "a title is unknown": (lambda rows: put(rows, "item_id", 3, 77777), "users.known", "item 77777"),
    "a user is unknown": (lambda rows: rows.replace({"user_id": {1: 5555}}), "users.known", "names 5555"),
    "a user is gone": (lambda rows: rows[rows["user_id"] != 3], "users.complete", "the first is 3"),
    "a list comes twice": (
        lambda rows: pd.concat([rows, rows[rows["user_id"] == 2]]),
        "users.repeats",
        "begins a second list of 2",
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_part_trips_its_gate(staged, bundle, night, name):
    damaged, gate, says = DAMAGES[name]
    folder = staged / "user_items"
    write(folder, damaged(read(folder)))
    failed = failures(staged, bundle, night)
    assert gate in failed, failed
    assert "user_items/part-00000.parquet" in failed[gate] or gate == "users.complete"
    assert says in failed[gate]
    assert "pass --skip-gate " + gate in failed[gate]


def test_a_list_in_two_parts_is_caught(staged, bundle, night):
    folder = staged / "user_items"
    first = read(folder)
    write(folder, pd.concat([read(folder, 1), first[first["user_id"] == 4]]), 1)
    assert "second list of 4" in failures(staged, bundle, night)["users.repeats"]


def test_a_seen_title_is_caught_unless_it_may_be_shown(staged, bundle, night):
    seen = bundle.interactions.seen(len(bundle.encoded_users)).row(3)
    folder = staged / "user_items"
    item = int(bundle.encoded_items.ids[seen[0]])
    write(folder, put(read(folder), "item_id", 0, item))
    failed = failures(staged, bundle, night)
    assert set(failed) == {"users.seen"}
    assert f"row 0 shows user 1 item {item}" in failed["users.seen"]
    assert not failures(staged, bundle, dataclasses.replace(night, include_seen=True))


def test_a_title_like_itself_is_caught(staged, bundle, night):
    folder = staged / "item_items"
    write(folder, put(read(folder), "similar_item_id", 0, 1))
    failed = failures(staged, bundle, night)
    assert set(failed) == {"titles.itself"}
    assert "lists item 1 as similar to itself" in failed["titles.itself"]


def test_a_lost_part_is_caught_on_either_side(staged, bundle, night):
    for side in SIDES.values():
        part(staged / side).unlink()
    failed = failures(staged, bundle, night)
    assert {"users.complete", "titles.complete"} <= set(failed)
    assert "got 20, expected at most 0" in failed["users.complete"]


def test_every_failed_gate_is_named_at_once(staged, bundle, night):
    folder = staged / "user_items"
    write(folder, put(put(read(folder), "score", 0, np.nan), "rank", 6, 9))
    assert {"users.finite", "users.ranks"} <= set(failures(staged, bundle, night))


def test_nulls_are_caught(staged, bundle, night):
    folder = staged / "user_items"
    table = pq.read_table(part(folder), partitioning=None)
    holed = pa.array([None, *table["score"].to_pylist()[1:]], pa.float32())
    pq.write_table(table.set_column(3, pa.field("score", pa.float32()), holed), part(folder))
    assert "holds a null" in failures(staged, bundle, night)["users.finite"]


def test_other_columns_and_broken_files_are_refused(staged, bundle, night):
    folder = staged / "user_items"
    table = pq.read_table(part(folder), partitioning=None)
    pq.write_table(table.set_column(3, "score", table["score"].cast(pa.float64())), part(folder))
    with pytest.raises(QualityGateError, match=r"score double.*expected.*score float"):
        audit(staged, expectations(bundle, night))
    part(folder).write_bytes(b"PAR1 is not enough")
    with pytest.raises(OutputError, match=r"part-00000\.parquet: not readable"):
        audit(staged, expectations(bundle, night))


def test_an_empty_night_fails_and_does_not_crash(staged, bundle, night):
    for side in SIDES.values():
        for path in (staged / side).glob("*.parquet"):
            pq.write_table(pq.read_table(path, partitioning=None).slice(0, 0), path)
    assert {"users.complete", "titles.complete"} <= set(failures(staged, bundle, night))


def test_a_skipped_gate_is_measured_and_recorded(staged, bundle, night):
    folder = staged / "user_items"
    write(folder, put(read(folder), "score", 2, np.nan))
    assert set(failures(staged, bundle, night)) == {"users.finite"}
    for name in ("finite", "users.finite"):
        figures = audit(staged, expectations(bundle, dataclasses.replace(night, skip_gate=(name,))))
        line = next(line for line in figures.gates if line.name == "users.finite")
        assert (line.passed, line.skipped, line.got, line.verdict) == (False, True, 1, "skipped")
        assert figures.skipped == (name,)
    assert set(failures(staged, bundle, night, skip_gate=("titles.finite", "coverage"))) == {"users.finite"}
    with pytest.raises(UsageError, match="freshness"):
        audit(staged, dataclasses.replace(expectations(bundle, night), skip=["freshness"]))


def test_a_threshold_can_be_moved(staged, bundle, night):
    folder = staged / "user_items"
    write(folder, put(read(folder), "score", 2, np.nan))
    assert not failures(staged, bundle, night, gates=GateConfig(max_not_finite=1))
    failed = failures(staged, bundle, night, gates=GateConfig(max_not_finite=1, min_coverage=1.1))
    assert "expected at least 1.1" in failed["users.coverage"]


def test_a_night_takes_its_parts_from_anywhere(staged, bundle, night):
    """Parts come as tables: the same from disk, cut otherwise, or with plain strings."""
    expected = audit(staged, expectations(bundle, night))
    rules = expectations(bundle, night)
    parts = {
        side: [(f"{side} {n}", table) for n, table in enumerate(halves(staged / folder))]
        for side, folder in SIDES.items()
    }
    assert audit_parts(parts, rules) == expected


def halves(folder: Path) -> list[pa.Table]:
    """The same lists in other parts, in another order, with plain strings."""
    tables = [table for _, table in local_parts(folder)]
    whole = pa.concat_tables([table.cast(LAYOUTS[folder.name]) for table in tables])
    cut = np.flatnonzero(whole["rank"].to_numpy() == 1)[7]
    return [whole.slice(cut), whole.slice(0, cut)]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_change_of_a_list_is_caught_or_harmless(night, bundle, data):
    """Whatever one cell is changed to, either a gate fails or the rows still say what the contract says."""
    tables = [table.to_pandas() for _, table in local_parts(night.night / "user_items")]
    rows = pd.concat(tables, ignore_index=True)
    column = data.draw(st.sampled_from(["user_id", "rank", "item_id", "score"]))
    row = data.draw(st.integers(0, len(rows) - 1))
    ids = st.sampled_from([-5, 0, 1, 2, 3, 30, 60, 900, 999, 1 << 40])
    values = {"score": st.floats(width=32), "rank": st.integers(-2, 9), "user_id": ids, "item_id": ids}
    changed = put(rows, column, row, data.draw(values[column]))
    table = table_of(changed, schema.USER_ITEMS)
    parts = {"users": [("users", table)], "titles": local_parts(night.night / "item_items")}
    rules = expectations(bundle, night)
    try:
        audit_parts(parts, rules)
    except QualityGateError:
        assert not is_right(changed, bundle)
    else:
        assert is_right(changed, bundle)


def is_right(rows: pd.DataFrame, bundle) -> bool:
    """The contract, list by list, the slow obvious way."""
    index = bundle.encoded_users.index_of
    seen = bundle.interactions.seen(len(bundle.encoded_users))
    titles = set(bundle.encoded_items.known_ids.tolist())
    known = bundle.encoded_users.known_ids.tolist()
    lists = [group for _, group in rows.groupby((rows["user_id"] != rows["user_id"].shift()).cumsum())]
    if sorted(group["user_id"].iloc[0] for group in lists) != known:
        return False
    for group in lists:
        items, scores = group["item_id"].tolist(), group["score"].to_numpy()
        rated = set(bundle.encoded_items.ids[seen.row(int(index([group["user_id"].iloc[0]])[0]))].tolist())
        ok = (
            group["rank"].tolist() == list(range(1, min(K, len(titles) - len(rated)) + 1))
            and len(set(items)) == len(items)
            and set(items) <= titles - rated
            and np.isfinite(scores).all()
            and (np.diff(scores) <= 0).all()
        )
        if not ok:
            return False
    return True
