"""A night that takes lists over from the one before has the bytes of one that scores everybody."""

from __future__ import annotations

import dataclasses
import datetime
import random
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from made_up import BARE_ITEM, COLD_USER, NUM_ITEMS, NUM_USERS, tiny_config, write_movielens
from night_files import job, tree

import sdk
from batch.run.night import run

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
        self.blocked ^= {(self.draw.choice(USERS), self.draw.choice(ITEMS)) for _ in range(2)}

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

    def own(self, user):
        """All that is a user's alone."""
        rated = {item: found for (who, item), found in self.rated.items() if who == user}
        return rated, {item for who, item in self.blocked if who == user}


@pytest.mark.parametrize("seed", range(3))
def test_nights_that_take_over_have_the_bytes_of_full_ones(seed, bundles, tmp_path):
    world, taken = World(random.Random(seed)), 0
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
        taken += sum(found.taken_over.values())
    assert taken > 50
