"""What comes again: chosen where staples recur and left alone where nobody buys twice; the formula by hand."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

import sdk
from sdk.base.config import HistoryConfig
from sdk.features.tables import FIRST_KNOWN
from sdk.models.history.model import HistoryModel
from sdk.models.history.repeats import repeat_bonus

DAY = 86_400


def till(again, seed=0, users=120, items=60, days=300):
    """Purchases over days: each user has a few staples, bought ``again`` times as often as anything else."""
    rng = np.random.default_rng(seed)
    rows = []
    for user in range(users):
        staples = rng.choice(items, 4, replace=False)
        bought = set()
        for day in range(0, days, 6):
            if rng.random() < again:
                rows.append((user, rng.choice(staples), day))
            left = [item for item in range(items) if item not in bought]
            item = int(rng.choice(left))
            bought.add(item)
            rows.append((user, item, day))
    table = pd.DataFrame(rows, columns=["user_id", "item_id", "day"])
    return table.assign(timestamp=1_000_000_000 + table.day * DAY).drop(columns="day")


def fitted(table, **given):
    pairs = sdk.dataset(table).interactions
    sizes = int(pairs.user_id.max()) + FIRST_KNOWN + 1, int(pairs.item_id.max()) + FIRST_KNOWN + 1
    config = HistoryConfig(weighting="log", star_weight=1.0, like_at=0.0, session_gap_s=0.0, **given)
    return HistoryModel.fit(
        pairs.user_id + FIRST_KNOWN, pairs.item_id + FIRST_KNOWN, pairs.rating, *sizes, None, config, pairs.timestamp,
        pairs.repeats, by_time=False,
    )  # fmt: skip


def test_staples_rise():
    model = fitted(till(again=0.9))
    choice = model.repeat_choice
    assert choice.weight == model.config.repeat_weight > 0
    figures = {(weight, days): ndcg for weight, days, ndcg in choice.tried}
    assert figures[choice.weight, choice.half_life_days] == max(figures.values()) > 1.2 * figures[0, 0]


def test_what_nobody_buys_again_is_left_alone():
    assert fitted(till(again=0.0)).repeat_choice is None  # nothing repeats at all
    rare = fitted(till(again=0.004, seed=1))
    assert rare.repeat_choice is not None
    assert rare.config.repeat_weight == 0


def test_given_weights_are_kept():
    table = till(again=0.9)
    fixed = fitted(table, repeat_weight=0.25, repeat_half_life_days=40.0)
    assert fixed.repeat_choice is None
    assert (fixed.config.repeat_weight, fixed.config.repeat_half_life_days) == (0.25, 40.0)
    half = fitted(table, repeat_half_life_days=50.0)
    assert half.config.repeat_half_life_days in (0.0, 50.0)
    assert {days for weight, days, _ in half.repeat_choice.tried if weight} == {50.0}


def test_the_choice_is_stored_and_read_again(tmp_path):
    model = fitted(till(again=0.9))
    model.save(tmp_path)
    again = HistoryModel.load(tmp_path)
    assert again.repeat_choice == model.repeat_choice
    assert again.config == model.config


@pytest.mark.parametrize("half_life", [0.0, 30.0])
def test_the_bonus_is_its_formula(half_life):
    rng = np.random.default_rng(0)
    user, weight = rng.integers(0, 5, 50), rng.integers(1, 9, 50).astype(np.float32)
    time = rng.integers(0, 10**7, 50)
    config = HistoryConfig(star_weight=0.5, repeat_weight=0.3, repeat_half_life_days=half_life)
    newest = {who: time[user == who].max() for who in set(user.tolist())}
    expected = [
        0.3 * np.log2(1 + 0.5 * w) * (0.5 ** ((newest[who] - t) / DAY / half_life) if half_life else 1)
        for who, w, t in zip(user.tolist(), weight.tolist(), time.tolist(), strict=True)
    ]
    assert repeat_bonus(config, weight, user, time) == pytest.approx(np.array(expected), rel=1e-5)
    assert not repeat_bonus(dataclasses.replace(config, repeat_weight=0.0), weight, user, time).any()
