"""``--memory-mib`` holds for audiences, too, and changes no byte of them."""

from __future__ import annotations

import json
import tracemalloc

import numpy as np
import pytest
from made_up import COLD_USER
from night_files import DATE, job, tree
from small import encoded_table

import batch.lists.audience
from batch.lists.audience import Slices, titles_at_a_time
from batch.run.night import run
from sdk.features.seen import Seen
from sdk.models.pair_form import Head, PairForm, Side
from sdk.scoring.engine import Engine
from sdk.scoring.kernels import LANES
from sdk.scoring.recommender import Recommender
from sdk.scoring.selection import buffers

PORTIONS_MIB = 0.09
"""Enough for one strip of titles of the catalogue made up for these tests, not for two."""


@pytest.fixture
def taken(monkeypatch):
    """Bytes of every audience's buffers: a set for each thread, with a slot for each place of a title."""
    monkeypatch.setattr(batch.lists.audience, "LEAST_TITLES", LANES)
    found, real = [], Engine.top_k_and_audience

    def noted(self, user_index, seen, k):
        places = -(-len(self.candidates) // LANES) * LANES
        found.append(self.threads * sum(part.nbytes for part in buffers(places, k, len(user_index))))
        return real(self, user_index, seen, k)

    monkeypatch.setattr(Engine, "top_k_and_audience", noted)
    return found


def night(bundle_path, out, **options):
    run(job(bundle_path, out, audience=7, k=10, **options))
    return tree(out / f"run_date={DATE}")


@pytest.mark.parametrize("narrowed", [False, True])
def test_audiences_keep_to_the_budget_with_the_same_bytes(bundle_path, tmp_path, taken, narrowed):
    options = {}
    if narrowed:
        rows = ["userId,movieId,rating,timestamp", "5000,3,5.0,2000000000", f"{COLD_USER},2,5.0,2000000000"]
        texts = {
            "ratings": rows,
            "items": ["3", "4", "7", "9", "12", "900", *map(str, range(20, 40))],
            "deny": ["5", "21"],
            "block": ["1,22", "7,30", "5000,31"],
        }
        for name, lines in texts.items():
            options[name] = tmp_path / f"{name}.csv"
            options[name].write_text("\n".join(lines) + "\n")
    whole = night(bundle_path, tmp_path / "whole", **options)
    shards = len(taken)
    assert night(bundle_path, tmp_path / "bounded", memory_mib=PORTIONS_MIB, threads=2, **options) == whole
    assert len(taken) >= 3 * shards
    assert max(taken[shards:]) <= PORTIONS_MIB * 2**20


def test_a_large_budget_takes_one_pass(bundle_path, tmp_path, taken):
    night(bundle_path, tmp_path, memory_mib=64.0)
    assert len(taken) == json.loads((tmp_path / f"runs/run_date={DATE}.json").read_text())["parts"] - 9 - 9


def test_portions_shrink_with_the_budget_and_with_threads_down_to_a_floor():
    sizes = [titles_at_a_time(100, mib, 8192, 1_000_000, 2) for mib in (None, 4096, 64, 8, 0.001)]
    assert sizes[0] == 1_000_000
    assert np.all(np.diff(sizes) < 0)
    assert sizes[-1] == 256
    assert titles_at_a_time(100, 64, 8192, 1_000_000, 4) == pytest.approx(sizes[2] / 2, abs=LANES)
    assert titles_at_a_time(100, 0.001, 8192, 50, 4) == 50


def peak_mib(work) -> float:
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1] / 2**20
    finally:
        tracemalloc.stop()


def test_the_memory_that_an_audience_takes_follows_the_budget():
    rng = np.random.default_rng(3)
    users, items = (encoded_table(rng, size, cold_share=0) for size in (300, 30_000))
    sides = []
    for table in (users, items):
        rows, none = len(table), np.zeros((len(table), 0), np.float32)
        bias, dot = rng.normal(size=rows).astype(np.float32), rng.normal(size=(rows, 4)).astype(np.float32)
        sides.append(Side(bias, dot, none, none[:, :, None]))
    form = PairForm(*sides, Head(np.zeros((0, 0), np.float32), ()))
    rows, seen = users.index_of(users.known_ids), Seen.nothing(300)

    def in_portions(memory_mib: float) -> None:
        recommender = Recommender("made up", form, users, items, threads=2, memory_mib=memory_mib)
        at_a_time = titles_at_a_time(20, memory_mib, 300, 30_000, 2)
        slices = Slices(recommender, rows, seen, 20, at_a_time)
        for start in range(0, 30_000, 2_000):
            [table] = slices.tables([items.known_ids[start : start + 2_000]])
            assert table.num_rows == 2_000 * 20

    def at_once() -> None:
        recommender = Recommender("made up", form, users, items, threads=2)
        recommender.recommend_with_audience(rows, seen, 1, 20)

    assert peak_mib(at_once) > 100
    assert peak_mib(lambda: in_portions(8.0)) < 8 + 8
    assert peak_mib(lambda: in_portions(16.0)) < 16 + 8
