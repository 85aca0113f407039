"""Nights over plain data are published: equal scores, or lists much alike, are what they should have."""

from __future__ import annotations

import numpy as np
import pandas as pd

import sdk
from batch.score import main
from sdk.base.config import RunConfig
from sdk.training.pipeline import train_bundle


def test_items_with_nothing_but_a_category_have_a_night(tmp_path):
    rng = np.random.default_rng(3)
    user, item = np.divmod(rng.choice(60 * 90, 1500, replace=False), 90)
    plays = pd.DataFrame({"user_id": user, "item_id": item})
    items = pd.DataFrame({"item_id": np.arange(90), "shelf": np.array(["a", "b", "c"])[np.arange(90) % 3]})
    bundle = tmp_path / "bundle"
    train_bundle(sdk.dataset(plays, items), RunConfig(models=("content",)), bundle)
    nights = tmp_path / "nights"
    assert main(["--bundle", str(bundle), "--out", str(nights), "--run-date", "2026-01-01"]) == 0


def test_a_few_users_without_tastes_have_a_night(tmp_path):
    rng = np.random.default_rng(4)
    size = 1200  # of 138 users and 130 places, some better known: else nothing tells them apart
    plays = pd.DataFrame({"user_id": rng.integers(0, 138, size), "item_id": (130 * rng.random(size) ** 2).astype(int)})
    bundle = tmp_path / "bundle"
    train_bundle(sdk.dataset(plays.drop_duplicates()), RunConfig(models=("history",)), bundle)
    nights = tmp_path / "nights"
    assert main(["--bundle", str(bundle), "--out", str(nights), "--run-date", "2026-01-01"]) == 0
