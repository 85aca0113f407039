"""A shop's newer events and items beside its bundle, read as those that it was trained on."""

from __future__ import annotations

import json
import logging
import re
import sys
import uuid
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from night_files import DATE, job

import sdk
from batch.job.inputs import open_job
from batch.job.newer import fresh_ratings, new_items
from batch.report import rebuild
from batch.run.night import run
from batch.taste import taste
from sdk.base.config import HistoryConfig, RunConfig
from sdk.base.errors import UnusableFileError
from sdk.bundles.fresh import FreshBundle
from sdk.data.validation import MAX_TIMESTAMP

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "examples"))
from shop import catalogue_of, events

WEIGHTS = {"purchase": 1.0, "cart": 0.4, "view": 0.1}
SAID = {"user_id": "customer_id", "item_id": "sku", "event": "event_type"}


@pytest.fixture(scope="module")
def tables():
    rng = np.random.default_rng(3)
    items, users = catalogue_of(rng, 60), [str(uuid.UUID(bytes=rng.bytes(16), version=4)) for _ in range(40)]
    born = rng.integers(1950, 2008, len(users))
    return items, pd.DataFrame({"customer_id": users, "born": born}), events(rng, users, items, 14)


@pytest.fixture(scope="module")
def shop_path(tables, tmp_path_factory):
    """A shop's bundle: of its items the last five are not there yet, nor what happened with them."""
    items, users, rows = tables
    items = items.sort_values("sku")
    rows = rows[rows["sku"].isin(items["sku"][:-5])]
    folder = tmp_path_factory.mktemp("shop")
    data = sdk.dataset(rows, items[:-5], users, columns=SAID, events=WEIGHTS, seen=["purchase"])
    config = RunConfig(models=("history", "content"), history=HistoryConfig(rank=8, penalty=20.0, feature_dim=8))
    sdk.train(data, config, folder / "bundle")
    return folder / "bundle"


def newer(rows, folder, name="events.csv"):
    """A file of events: (customer, sku, event, when)."""
    folder.mkdir(exist_ok=True)
    pd.DataFrame(rows, columns=["customer_id", "sku", "event_type", "time"]).to_csv(folder / name, index=False)
    return folder / name


def pairs_of(bundle):
    """(user, item) -> (weight, seconds, whether it takes the item out)."""
    stored = bundle.interactions
    rows = stored.rows
    users, items = bundle.encoded_users.ids[rows.user_index], bundle.encoded_items.ids[rows.item_index]
    out = np.ones(len(rows), bool) if stored.takes_out is None else stored.takes_out
    times = np.zeros(len(rows)) if stored.timestamp is None else stored.timestamp
    columns = (users.tolist(), items.tolist(), stored.rating.tolist(), times.tolist(), out.tolist())
    return {(user, item): found for user, item, *found in zip(*columns, strict=True)}


def test_events_add_to_the_weights_and_a_purchase_takes_out_what_a_view_did_not(shop_path, tmp_path):
    bundle = sdk.load(shop_path)
    before = pairs_of(bundle)
    viewed = next(pair for pair, found in before.items() if not found[2])
    stranger, item = "00000000-new", viewed[1]
    rows = [
        (*viewed, "purchase", "2027-01-01T00:00:00Z"), (*viewed, "view", "2027-01-02T00:00:00Z"),
        (stranger, item, "view", "2027-01-01T00:00:00Z"), (stranger, "nothing", "view", "2027-01-01T00:00:00Z"),
    ]  # fmt: skip
    fresh, rejects = fresh_ratings(bundle, newer(rows, tmp_path), MAX_TIMESTAMP)
    after = pairs_of(FreshBundle(bundle, fresh))
    assert (rejects.num_rows, fresh.unknown_items, fresh.new_users.tolist()) == (0, 1, [stranger])
    weight, when, out = after.pop(viewed)
    assert weight == pytest.approx(before[viewed][0] + 1.1)
    assert (when, out) == (pd.Timestamp("2027-01-02", tz="UTC").timestamp(), True)
    assert after.pop((stranger, item))[0] == pytest.approx(0.1)
    before.pop(viewed)
    assert {pair: (found[0], found[2]) for pair, found in after.items()} == {
        pair: (found[0], found[2]) for pair, found in before.items()
    }


def test_events_older_than_the_bundles_own_add_nothing(shop_path, tmp_path):
    bundle = sdk.load(shop_path)
    before = pairs_of(bundle)
    pair = next(iter(before))
    fresh, _ = fresh_ratings(bundle, newer([(*pair, "purchase", "2001-01-01T00:00:00Z")], tmp_path), MAX_TIMESTAMP)
    assert pairs_of(FreshBundle(bundle, fresh))[pair][0] == before[pair][0]


def test_a_log_that_grew_counts_what_the_bundle_knows_once(tables, tmp_path, caplog):
    items, _, rows = tables
    rows = rows.sort_values("event_time", kind="stable").reset_index(drop=True)
    early, whole = rows[:-40], rows
    config = RunConfig(models=("history", "content"), history=HistoryConfig(rank=8, penalty=20.0, feature_dim=8))
    how = {"columns": SAID, "events": WEIGHTS, "seen": ["purchase"]}
    bundle = sdk.train(sdk.dataset(early, items, **how), config, tmp_path / "bundle")
    after = []
    for name, table in (("grown", whole), ("late", rows[-40:])):
        table.to_parquet(tmp_path / f"{name}.parquet")
        with caplog.at_level(logging.INFO):
            fresh, _ = fresh_ratings(bundle, tmp_path / f"{name}.parquet", MAX_TIMESTAMP)
        after.append(pairs_of(FreshBundle(bundle, fresh)))
    assert "events are in the bundle already: passed over" in caplog.text
    grown, late = after
    slow: dict[tuple[str, str], float] = {}
    for user, item, event in zip(whole["customer_id"], whole["sku"], whole["event_type"], strict=True):
        slow[user, item] = slow.get((user, item), 0.0) + WEIGHTS[event]
    assert {pair: found[0] for pair, found in grown.items()} == pytest.approx(slow)
    assert {pair: found[0] for pair, found in late.items()} == pytest.approx(slow)


def test_ratings_beside_events_are_refused(shop_path, tmp_path):
    table = pd.DataFrame({"customer_id": ["a"], "sku": ["b"], "event_type": ["view"], "rating": [5.0]})
    table.to_csv(tmp_path / "rated.csv", index=False)
    says = "it holds ratings, where the bundle was trained on no ratings: each row is an event"
    with pytest.raises(UnusableFileError, match=says):
        fresh_ratings(sdk.load(shop_path), tmp_path / "rated.csv", MAX_TIMESTAMP)


def test_a_night_with_both_lists_new_items_and_new_customers(shop_path, tables, tmp_path, caplog):
    items, _, rows = tables
    items.to_csv(tmp_path / "items.csv", index=False)
    fresh = set(items["sku"].sort_values()[-5:])
    late = rows[rows["sku"].isin(fresh)].assign(event_type="purchase")
    more = pd.concat([late, late[:1].assign(customer_id="ffffffff-new")], ignore_index=True)
    more.to_parquet(tmp_path / "late.parquet")
    asked = job(
        shop_path,
        tmp_path / "out",
        k=60,
        ratings=tmp_path / "late.parquet",
        new_items=tmp_path / "items.csv",
        audience=5,
    )
    with caplog.at_level(logging.WARNING):
        report = run(asked)
    assert (report.asked["new_items"], report.asked["items_known_already"], report.asked["new_users"]) == (5, 55, 1)
    assert report.asked["ratings_of_unknown_titles"] == 0
    night = tmp_path / "out" / f"run_date={DATE}"
    lists = pd.concat(pq.read_table(p, partitioning=None).to_pandas() for p in sorted(night.glob("user_items/*")))
    similar = pd.concat(pq.read_table(p, partitioning=None).to_pandas() for p in sorted(night.glob("item_items/*")))
    assert fresh <= set(lists["item_id"])
    assert fresh <= set(similar["item_id"]) & set(similar["similar_item_id"])
    mine = lists[lists["user_id"] == "ffffffff-new"]
    assert len(mine) == 59
    assert late["sku"].iloc[0] not in set(mine["item_id"])
    bought = set(zip(late["customer_id"], late["sku"], strict=True))
    assert not bought & set(zip(lists["user_id"], lists["item_id"], strict=True))
    assert lists["item_id"].map(len).eq(6).all()
    pins = json.loads((night / "manifest.json").read_text())["inputs"]["asked"]
    assert (pins["new_items"]["rows"], len(pins["new_items"]["fingerprint"])) == (5, 64)
    shown = taste(shop_path, tmp_path / "out", num_users=1, num_items=1, k=2)
    assert "(" in shown
    names = set(items.set_index("sku").loc[sorted(fresh), "product_name"])
    asked = {"num_users": 40, "num_items": 0, "k": 60}
    assert not any(name in taste(shop_path, tmp_path / "out", **asked) for name in names)
    named = taste(shop_path, tmp_path / "out", **asked, new_items=tmp_path / "items.csv")
    assert all(name in named for name in names)
    page = Path(rebuild(shop_path, tmp_path / "out", new_items=tmp_path / "items.csv")).read_text()
    assert page == (tmp_path / "out/reports" / f"run_date={DATE}.html").read_text()
    (said,) = re.findall(r'<th scope="row">data: description: items</th><td>(.*)</td>', page)
    assert "brand: group, " in said
    assert "&#39;" not in page[page.index('id="facts"') :]


def test_new_items_stand_in_ascending_order_among_the_others(shop_path, tables, tmp_path):
    tables[0].to_csv(tmp_path / "items.csv", index=False)
    bundle = open_job(job(shop_path, tmp_path / "out", new_items=tmp_path / "items.csv")).bundle
    assert bundle.encoded_items.known_ids.tolist() == sorted(tables[0]["sku"])
    assert bundle.items["item_id"].to_pylist() == sorted(tables[0]["sku"])
    kept = bundle.items.to_pandas().set_index("item_id")["brand"]
    assert kept.to_dict() == tables[0].set_index("sku")["brand"].to_dict()


def test_columns_that_the_bundle_does_not_have_are_passed_over_and_missing_ones_are_empty(shop_path, tmp_path):
    bundle = sdk.load(shop_path)
    pd.DataFrame({"sku": ["zz-1"], "brand": ["Acme"], "colour of the box": ["red"]}).to_csv(tmp_path / "i.csv")
    found, known, _ = new_items(bundle, tmp_path / "i.csv")
    (row,) = found.table.to_pylist()
    assert (known, row["brand"], row["item_id"], row["description"]) == (0, "Acme", "zz-1", "")
    assert found.table.schema == bundle.items.schema
