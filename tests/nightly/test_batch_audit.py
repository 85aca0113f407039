"""The audit must catch each kind of bad night: a good one is damaged in one way at a time."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batch.audit import audit
from batch.job import Job
from batch.run import run
from sdk.errors import QualityGateError


@pytest.fixture
def staged(bundle_path, tmp_path) -> tuple[Path, Job]:
    job = Job(bundle=bundle_path, out=tmp_path, run_date="2026-11-23", k=5)
    run(job)
    shutil.copytree(job.night, tmp_path / "staged")
    return tmp_path / "staged", job


def damage(folder: Path, column: str, row: int, value: object) -> None:
    path = folder / "part-00000.parquet"
    table = pq.read_table(path, partitioning=None)
    values = table.column(column).to_pylist()
    values[row] = value
    field = table.schema.field(column)
    changed = table.set_column(table.column_names.index(column), field, pa.array(values, field.type))
    pq.write_table(changed, path)


def test_a_good_night_passes(staged, bundle):
    figures = audit(staged[0], bundle, staged[1])
    assert figures["user_items"]["queries"] == bundle.users.num_rows


@pytest.mark.parametrize(
    ("column", "row", "value", "says"),
    [
        ("rank", 1, 3, "rank"),
        ("score", 2, float("nan"), "score"),
        ("score", 1, 1e9, "above"),
        ("user_id", 0, 123456, "no list|twice|split|rank"),
    ],
)
def test_a_damaged_row_is_caught(staged, bundle, column, row, value, says):
    damage(staged[0] / "user_items", column, row, value)
    with pytest.raises(QualityGateError, match=says):
        audit(staged[0], bundle, staged[1])


def test_a_repeated_title_is_caught(staged, bundle):
    first = pq.read_table(staged[0] / "user_items" / "part-00000.parquet", partitioning=None)["item_id"][0].as_py()
    damage(staged[0] / "user_items", "item_id", 1, first)
    with pytest.raises(QualityGateError, match="twice"):
        audit(staged[0], bundle, staged[1])


def test_a_seen_title_is_caught(staged, bundle):
    seen = bundle.interactions.seen(len(bundle.encoded_users)).row(3)
    damage(staged[0] / "user_items", "item_id", 0, int(bundle.encoded_items.ids[seen[0]]))
    with pytest.raises(QualityGateError, match="rated"):
        audit(staged[0], bundle, staged[1])


def test_a_title_similar_to_itself_is_caught(staged, bundle):
    damage(staged[0] / "item_items", "similar_item_id", 0, int(bundle.encoded_items.known_ids[0]))
    with pytest.raises(QualityGateError, match="itself"):
        audit(staged[0], bundle, staged[1])


def test_a_missing_user_is_caught(staged, bundle):
    path = staged[0] / "user_items" / "part-00000.parquet"
    pq.write_table(pq.read_table(path, partitioning=None).slice(5), path)
    with pytest.raises(QualityGateError, match="no list"):
        audit(staged[0], bundle, staged[1])
