"""What came after training: the pairs that count, repeats among them, and each user's own items as a baseline."""

import dataclasses
import json

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from small import dataset, run_config

from sdk.__main__ import main
from sdk.base.description import Description
from sdk.base.errors import DataError
from sdk.data.events import read_interactions
from sdk.measure.evaluation import evaluate_later
from sdk.measure.evaluation_report import as_text, as_values
from sdk.measure.later import later_pairs
from sdk.training.pipeline import train_bundle

STARS = dataset(5)
WEIGHT = np.random.default_rng(1).integers(1, 9, len(STARS.interactions)).astype(np.float32)
DATA = dataclasses.replace(
    STARS, interactions=dataclasses.replace(STARS.interactions, rating=WEIGHT), about=Description(feedback="implicit")
)
NEWEST = int(DATA.interactions.timestamp.max())
USERS, ITEMS = (DATA.users["user_id"].to_pylist(), DATA.items["item_id"].to_pylist())


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return train_bundle(DATA, run_config(models=("history",)), tmp_path_factory.mktemp("later") / "bundle")


def later_table(seed=0, size=300):
    """Events of known and unknown users and items, before and after what the bundle knows."""
    rng = np.random.default_rng(seed)
    return pa.table(
        {
            "user_id": rng.choice([*USERS, 999_999], size),
            "item_id": rng.choice([*ITEMS, 888_888], size),
            "timestamp": NEWEST + rng.choice([-50, 0, 1, 5000], size),
        }
    )


def slow_pairs(table, include_seen):
    """The wanted pairs, one row at a time."""
    known = set(zip(DATA.interactions.user_id.tolist(), DATA.interactions.item_id.tolist(), strict=True))
    rows = zip(*(table[name].to_pylist() for name in ("user_id", "item_id", "timestamp")), strict=True)
    late = {(user, item) for user, item, when in rows if when > NEWEST and user in USERS and item in ITEMS}
    return late if include_seen else late - known


@pytest.mark.parametrize("include_seen", [True, False])
def test_what_came_later_counts_and_repeats_only_where_lists_may_name_them(bundle, include_seen):
    table = later_table()
    found = later_pairs(bundle, read_interactions(table), include_seen=include_seen).rows
    users, items = bundle.encoded_users.ids[found.user_index], bundle.encoded_items.ids[found.item_index]
    assert set(zip(users.tolist(), items.tolist(), strict=True)) == slow_pairs(table, include_seen)
    lists = evaluate_later(bundle, read_interactions(table), include_seen=include_seen, samples=0).lists
    assert lists.num_held_out == len(slow_pairs(table, include_seen))
    assert ("their own again" in [row.model for row in lists.rows]) == include_seen
    assert ("with those that the user has so far among them" in lists.describe()) == include_seen


def test_their_own_again_lists_what_weighs_most(bundle):
    table = later_table(1)
    evaluation = evaluate_later(bundle, read_interactions(table), include_seen=True, samples=0)
    (own,) = [row for row in evaluation.lists.rows if row.model == "their own again"]
    wanted = slow_pairs(table, True)
    asked = sorted({user for user, _ in wanted})
    rows = DATA.interactions
    hits = []
    for user in asked:
        mine = np.flatnonzero(rows.user_id == user)
        best = sorted(mine.tolist(), key=lambda row: (-rows.rating[row], rows.item_id[row]))[:10]
        hits.append(any((user, int(rows.item_id[row])) in wanted for row in best))
    assert own.values["hit_rate10"] == pytest.approx(np.mean(hits))
    assert "Pairs" not in as_text(evaluation)
    assert (as_values(evaluation)["lists"]["later"], as_values(evaluation)["lists"]["include_seen"]) == (True, True)


def test_nothing_later_and_ratings_that_are_missing_are_said(bundle, tmp_path):
    early = read_interactions(later_table().filter(pc.less_equal(later_table()["timestamp"], NEWEST)))
    with pytest.raises(DataError, match=r"none after .* UTC is of a user and an item of .*Give later events"):
        later_pairs(bundle, early, include_seen=True)
    rated = train_bundle(STARS, run_config(models=("history",)), tmp_path / "rated")
    with pytest.raises(DataError, match="have no ratings"):
        later_pairs(rated, read_interactions(later_table()), include_seen=False)


def test_the_command_measures_what_came_later(bundle, tmp_path, capsys):
    pq.write_table(later_table(), tmp_path / "later.parquet")
    arguments = ["evaluate", "--bundle", str(bundle.path), "--json", "--samples", "0"]
    assert main([*arguments, "--later", str(tmp_path / "later.parquet"), "--include-seen"]) == 0
    assert json.loads(capsys.readouterr().out)["lists"]["num_held_out"] == len(slow_pairs(later_table(), True))
    for option in (["--include-seen"], ["--columns", "user_id=who"], ["--events", "bought=2"]):
        assert main([*arguments, *option]) == 2
        assert f"{option[0]}: " in (said := capsys.readouterr().err)
        assert "--later TABLE" in said


def test_later_columns_and_events_are_named_as_in_training_or_anew(tmp_path, capsys):
    table = later_table().append_column("kind", pa.array(["bought", "seen"] * 150))
    bought = table.filter(pc.equal(table["kind"], "bought"))
    about = Description(feedback="implicit", columns={"user_id": "who", "event": "kind"}, events={"bought": 2.0})
    bundle = train_bundle(
        dataclasses.replace(DATA, about=about), run_config(models=("history",)), tmp_path / "named"
    ).path
    arguments = ["evaluate", "--bundle", str(bundle), "--json", "--samples", "0", "--later"]
    for names, options in (
        (["who", "item_id", "timestamp", "kind"], []),
        (["x", "y", "timestamp", "z"], ["--columns", "user_id=x,item_id=y,event=z", "--events", "bought=1"]),
    ):
        pq.write_table(table.rename_columns(names), tmp_path / "later.parquet")
        assert main([*arguments, str(tmp_path / "later.parquet"), *options]) == 0
        held_out = json.loads(capsys.readouterr().out)["lists"]["num_held_out"]
        assert held_out == len(slow_pairs(bought, False)) < len(slow_pairs(table, False))
    assert main([*arguments, str(tmp_path / "later.parquet"), "--columns", "user_id=x,item_id=y,event="]) == 0
    assert json.loads(capsys.readouterr().out)["lists"]["num_held_out"] == len(slow_pairs(table, False))
