"""A night that takes lists over from the one before has the bytes of one that scores everybody."""

from __future__ import annotations

import dataclasses
import datetime
import random
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

import pyarrow.parquet as pq
import pytest
from made_up import BARE_ITEM, COLD_USER, NUM_ITEMS, NUM_USERS, tiny_config, write_movielens
from night_files import Crash, job, tree
from outside import failing

import sdk
from batch.run.night import run
from batch.store.nights import rollback
from sdk.scoring.recommender import Recommender

FIRST = datetime.date(2026, 1, 5)
USERS = [*range(1, NUM_USERS + 1), COLD_USER]
ITEMS = [*range(1, NUM_ITEMS + 1), BARE_ITEM]


@pytest.fixture(scope="module")
def bundles(bundle_path, tmp_path_factory):
    """The tests' own bundle, and one that holds the history model alone."""
    folder = tmp_path_factory.mktemp("another")
    data = sdk.load_movielens(write_movielens(folder / "ml"))
    sdk.train(data, dataclasses.replace(tiny_config(), models=("history", "content")), folder / "bundle")
    return bundle_path, folder / "bundle"


@dataclass
class World:
    """What a night is made from, as it changes from night to night."""

    draw: random.Random
    options: dict = field(default_factory=lambda: {"k": 5, "users_per_part": 7})
    bundle: int = 0
    rated: dict = field(default_factory=dict)
    blocked: set = field(default_factory=set)
    files: dict = field(default_factory=dict)

    def rate(self):
        for _ in range(self.draw.randint(1, 3)):
            pair = self.draw.choice([*USERS, 500, 1001, 1002]), self.draw.choice(ITEMS)
            self.rated[pair] = self.draw.choice([1.0, 3.0, 4.5]), self.draw.choice([900_000_000, 2_000_000_000])

    def take_back(self):
        for pair in self.draw.sample(sorted(self.rated), min(len(self.rated), 2)):
            del self.rated[pair]

    def block(self):
        self.blocked = self.blocked ^ {(self.draw.choice(USERS), self.draw.choice(ITEMS)) for _ in range(2)}

    def change_option(self):
        name, values = self.draw.choice([
            ("k", [4, 5]), ("users_per_part", [7, 10]), ("include_seen", [False, True]), ("audience", [None, 3]),
        ])  # fmt: skip
        self.options[name] = self.draw.choice(values)

    def change_file(self):
        name, known = self.draw.choice([("deny", ITEMS), ("allow", ITEMS), ("users", USERS), ("items", ITEMS)])
        some = self.draw.sample(known, len(known) - 3)
        self.files = {**self.files, name: sorted(some)[:3] if name == "deny" else some}
        if self.draw.random() < 0.5:
            self.files.pop(name)

    def change_bundle(self):
        self.bundle = 1 - self.bundle

    def step(self):
        ways = [self.rate] * 6 + [self.take_back, self.block, self.block, self.change_option, self.change_file,
                                  self.change_bundle, lambda: None]  # fmt: skip
        for _ in range(self.draw.randint(0, 2)):
            self.draw.choice(ways)()

    def written(self, folder: Path) -> dict:
        """The files of a night, as options."""
        folder.mkdir()
        lines = {name: [str(each) for each in ids] for name, ids in self.files.items()}
        if self.blocked:
            lines["block"] = ["user_id,item_id", *(f"{user},{item}" for user, item in sorted(self.blocked))]
        if self.rated:
            rows = [f"{user},{item},{stars},{at}" for (user, item), (stars, at) in self.rated.items()]
            self.draw.shuffle(rows)
            lines["ratings"] = ["userId,movieId,rating,timestamp", *rows]
        for name, rows in lines.items():
            (folder / f"{name}.csv").write_text("\n".join([*rows, ""]))
        return {name: folder / f"{name}.csv" for name in lines}

    def settled(self):
        """What must be as it was for any user's list to stand."""
        options = {name: value for name, value in self.options.items() if name != "users_per_part"}
        return options, self.bundle, {name: set(ids) for name, ids in self.files.items()}

    @property
    def asked(self):
        return set(self.files.get("users", [*USERS, *(user for user, _ in self.rated)]))

    def own(self, user):
        """All that is a user's alone."""
        rated = {item: found for (who, item), found in self.rated.items() if who == user}
        return rated, {item for who, item in self.blocked if who == user}


@pytest.mark.parametrize("seed", range(3))
def test_nights_that_take_over_have_the_bytes_of_full_ones(seed, bundles, tmp_path):
    world, taken, before = World(random.Random(seed)), 0, None
    for day in range(7):
        world.step()
        date = (FIRST + datetime.timedelta(days=day + (day > 3))).isoformat()
        asked = {**world.options, **world.written(tmp_path / f"files-{day}"), "run_date": date}
        found = run(job(bundles[world.bundle], tmp_path / "out", **asked))
        full = run(job(bundles[world.bundle], tmp_path / "full", full=True, **asked))
        nights = [tree(tmp_path / out / f"run_date={date}") for out in ("out", "full")]
        assert nights[0].keys() == nights[1].keys()
        assert [name for name, data in nights[0].items() if nights[1][name] != data] == [], found
        assert sum(full.taken_over.values()) == 0
        if before is not None and before.settled() == world.settled() and world.options.get("audience") is None:
            still = [user for user in before.asked & world.asked if before.own(user) == world.own(user)]
            assert found.taken_over["user_items"] >= len(still)
            assert found.taken_over["item_items"] == len(world.files.get("items", ITEMS))
            taken += len(still)
        before = dataclasses.replace(world, options=dict(world.options), rated=dict(world.rated))
    assert taken > 20


NIGHTS = ("2026-01-05", "2026-01-06", "2026-01-07")


def night(bundle_path, out, date, **options):
    """A night's summary, and its files."""
    found = run(job(bundle_path, out, run_date=date, **options))
    return found, tree(out / f"run_date={date}")


def listed(folder: Path, name: str, *rows: str) -> Path:
    (folder / name).write_text("\n".join([*rows, ""]))
    return folder / name


def test_a_part_whose_users_all_stand_still_is_the_same_file_and_the_rest_is_scored(bundle_path, tmp_path):
    ratings = listed(tmp_path, "ratings.csv", "userId,movieId,rating,timestamp", "3,9,5.0,2000000000")
    _, first = night(bundle_path, tmp_path / "out", NIGHTS[0])
    with failing_scores({3}):
        found, second = night(bundle_path, tmp_path / "out", NIGHTS[1], ratings=ratings)
    assert found.taken_over == {"user_items": len(USERS) - 1, "item_items": len(ITEMS), "item_users": 0}
    assert found.not_taken_over == (
        f"user_items: 1 of {len(USERS)} have another history or other blocked items, or are new"
    )
    assert [name for name in first if name.endswith(".parquet") and first[name] != second[name]] == [
        "user_items/part-00000.parquet"
    ]


def failing_scores(expected: set[int]):
    """Scoring that fails for everybody but some users, so that none of the others is scored."""
    real = Recommender.recommend_rows

    def checked(self, user_index, *args):
        assert set(self.users.ids[user_index].tolist()) == expected
        return real(self, user_index, *args)

    return mock.patch.object(Recommender, "recommend_rows", checked)


@pytest.mark.parametrize("damaged", ["user_items/part-00001.parquet", "item_items/part-00002.parquet"])
def test_nothing_is_taken_from_a_part_that_was_altered(damaged, bundle_path, tmp_path):
    night(bundle_path, tmp_path / "out", NIGHTS[0])
    path = tmp_path / "out" / f"run_date={NIGHTS[0]}" / damaged
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    found, second = night(bundle_path, tmp_path / "out", NIGHTS[1])
    _, whole = night(bundle_path, tmp_path / "full", NIGHTS[1])
    side = damaged.partition("/")[0]
    assert found.not_taken_over == f"{side}: the parts of 7 lists are not as they were published"
    assert found.taken_over[side] == (len(USERS) if side == "user_items" else len(ITEMS)) - 7
    assert {name: second[name] for name in second if name != "manifest.json"} == {
        name: whole[name] for name in whole if name != "manifest.json"
    }


def test_altered_states_take_nothing_over(bundle_path, tmp_path):
    block = listed(tmp_path, "block.csv", "user_id,item_id", "3,9")
    night(bundle_path, tmp_path / "out", NIGHTS[0], block=block)
    path = tmp_path / "out" / f"run_date={NIGHTS[0]}" / "states.parquet"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    found, _ = night(bundle_path, tmp_path / "out", NIGHTS[1], block=block)
    assert sum(found.taken_over.values()) == 0
    assert "states.parquet: altered since it was published" in found.not_taken_over


def test_another_list_of_what_may_be_listed_takes_nothing_over(bundle_path, tmp_path):
    night(bundle_path, tmp_path / "out", NIGHTS[0])
    found, _ = night(bundle_path, tmp_path / "out", NIGHTS[1], deny=listed(tmp_path, "deny.txt", "9"))
    assert sum(found.taken_over.values()) == 0
    assert found.not_taken_over == "user_items: another deny; item_items: another deny"


def test_audiences_stand_where_every_user_does(bundle_path, tmp_path):
    ratings = listed(tmp_path, "ratings.csv", "userId,movieId,rating,timestamp", "3,9,5.0,2000000000")
    night(bundle_path, tmp_path / "out", NIGHTS[0], audience=4)
    same, _ = night(bundle_path, tmp_path / "out", NIGHTS[1], audience=4)
    assert same.taken_over == {"user_items": len(USERS), "item_items": len(ITEMS), "item_users": len(ITEMS)}
    assert same.not_taken_over == ""
    other, _ = night(bundle_path, tmp_path / "out", NIGHTS[2], audience=4, ratings=ratings)
    assert other.taken_over == {"user_items": 0, "item_items": len(ITEMS), "item_users": 0}


def test_a_night_that_was_sent_back_is_no_source(bundle_path, tmp_path):
    """Lists are taken from the night that readers use: here the first, whose ratings are tonight's."""
    ratings = listed(tmp_path, "ratings.csv", "userId,movieId,rating,timestamp", "3,9,5.0,2000000000")
    night(bundle_path, tmp_path / "out", NIGHTS[0], ratings=ratings)
    night(bundle_path, tmp_path / "out", NIGHTS[1])
    rollback(str(tmp_path / "out"))
    found, _ = night(bundle_path, tmp_path / "out", NIGHTS[2], ratings=ratings)
    assert (found.taken_over["user_items"], found.not_taken_over) == (len(USERS), "")


def test_full_takes_nothing_over_and_says_so(bundle_path, tmp_path):
    night(bundle_path, tmp_path / "out", NIGHTS[0])
    found, _ = night(bundle_path, tmp_path / "out", NIGHTS[1], full=True)
    assert (sum(found.taken_over.values()), found.not_taken_over) == (0, "--full")


def test_a_killed_night_makes_audiences_again_that_stand_no_more(bundle_path, tmp_path):
    """Users' parts that were taken over left nothing to merge; then the night before is damaged."""
    night(bundle_path, tmp_path / "out", NIGHTS[0], audience=4)
    with failing("os.rename", Crash(), at="/item_items/"), pytest.raises(Crash):
        run(job(bundle_path, tmp_path / "out", run_date=NIGHTS[1], audience=4))
    part = tmp_path / "out" / f"run_date={NIGHTS[0]}" / "item_users" / "part-00000.parquet"
    part.write_bytes(part.read_bytes()[::-1])
    _, second = night(bundle_path, tmp_path / "out", NIGHTS[1], audience=4)
    _, whole = night(bundle_path, tmp_path / "full", NIGHTS[1], audience=4)
    assert {name: data for name, data in second.items() if name != "manifest.json"} == {
        name: data for name, data in whole.items() if name != "manifest.json"
    }


def test_blocked_and_withdrawn_ratings_are_noticed(bundle_path, tmp_path):
    """Between two nights user 3 gets a block of what they were listed, and user 4 loses a newer rating."""
    head, rated = "userId,movieId,rating,timestamp", ["4,9,5.0,2000000000", "5,9,5.0,2000000000"]
    before = listed(tmp_path, "before.csv", head, *rated)
    night(bundle_path, tmp_path / "out", NIGHTS[0], ratings=before)
    lists = pq.read_table(tmp_path / "out" / f"run_date={NIGHTS[0]}" / "user_items", filters=[("user_id", "=", 3)])
    block = listed(tmp_path, "block.csv", "user_id,item_id", f"3,{lists['item_id'][0]}")
    asked = {"ratings": listed(tmp_path, "after.csv", head, rated[1]), "block": block}
    found, second = night(bundle_path, tmp_path / "out", NIGHTS[1], **asked)
    _, whole = night(bundle_path, tmp_path / "full", NIGHTS[1], **asked)
    assert found.taken_over["user_items"] == len(USERS) - 2
    assert {name: data for name, data in second.items() if name != "manifest.json"} == {
        name: data for name, data in whole.items() if name != "manifest.json"
    }
