"""The page about one's own data: its commands run, as they stand there, from a shop's tables to a night."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path
from subprocess import run

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import sdk

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "your_data.md"
QUICK = ("--models", "history,content")  # the rankers take a minute, and are trained on such data elsewhere


def commands() -> list[list[str]]:
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", PAGE.read_text("utf-8"), re.M | re.S)
    lines = [shlex.split(line) for language, block in blocks if not language for line in block.splitlines()]
    return [[*line, *(QUICK if "train" in line else ())] for line in lines if line[0] == "python"]


@pytest.mark.slow
@pytest.mark.needs("checkout")
def test_the_commands_of_the_page_lead_from_tables_to_a_night(tmp_path):
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    said = {}
    for line in commands():
        done = run(
            [sys.executable, *line[1:]], cwd=tmp_path, capture_output=True, text=True, check=False,
            env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
        )  # fmt: skip
        assert done.returncode == 0, f"{line}: {done.stderr}"
        said[line[2] if line[1] == "-m" else line[1]] = done.stdout
        said[" ".join(line)] = done.stdout
    bundle = sdk.load(tmp_path / "shop" / "bundle")
    assert bundle.info.data["rows"]["rows"] == pq.read_table(tmp_path / "shop" / "events.parquet").num_rows
    other = sdk.load(tmp_path / "shop" / "other").info.data
    assert (other["fingerprint"], other["rows"]) == (bundle.info.data["fingerprint"], bundle.info.data["rows"])
    night = pq.read_table(tmp_path / "shop" / "nightly" / "run_date=2026-11-26" / "user_items")
    assert night.schema.field("user_id").type == night.schema.field("item_id").type == pa.string()
    assert len(night["user_id"].unique()) == 300
    assert set(night["item_id"].to_pylist()) <= set(bundle.items["item_id"].to_pylist())


def test_a_mere_view_stays_in_the_lists_and_a_purchase_does_not(tmp_path):
    """Of the page's words on ``--seen``: checked on the data set, which says what takes an item out."""
    views = pa.table(
        {"user": ["a", "a", "b", "b"], "sku": ["x", "y", "x", "x"], "event": ["view", "buy", "view", "buy"]}
    )
    data = sdk.dataset(views, events={"view": 0.5, "buy": 1}, seen=["buy"])
    rows = data.interactions
    assert list(zip(rows.user_id.tolist(), rows.item_id.tolist(), rows.seen.tolist(), strict=True)) == [
        (0, 0, False), (0, 1, True), (1, 0, True),
    ]  # fmt: skip
    assert rows.rating.tolist() == [0.5, 1.0, 1.5]
