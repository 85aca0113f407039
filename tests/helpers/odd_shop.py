"""A shop whose ids are hard on whoever writes them into an address, a command or a file; weights instead of ratings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from small import planted, ratings, run_config

from sdk.base import schema
from sdk.base.config import HistoryConfig
from sdk.base.description import Description, Role
from sdk.base.types import Dataset
from sdk.bundles.bundle import Bundle
from sdk.training.pipeline import train_bundle

NUM_USERS, NUM_ITEMS = 60, 40
ROLES: dict[str, Role] = {
    "title": "title", "brand": "group", "price": "continuous", "year": "categorical", "tags": "list", "photo": "image",
}  # fmt: skip
ODD = ["007", "#7", "a/b%2F c", "Ünï-😀", "SKU-00012", "sku 00012"]
"""Ids that are like numbers, like ``#`` and an id, like a part of an address; the fifth is another item's name, too."""


def odd_shop(roles: dict[str, Role], titles: Callable[[int, str], str]) -> Dataset:
    """Weights of 40 items, of which each has an odd id or one such as ``SKU-00012``."""
    rows, more = planted(3, NUM_USERS, NUM_ITEMS)
    liked = np.concatenate([rows.label, more.label]) == 1
    user = np.concatenate([rows.user_index, more.user_index])[liked].astype(np.int64) - 3
    item = np.concatenate([rows.item_index, more.item_index])[liked].astype(np.int64) - 3
    weight = np.random.default_rng(0).choice([0.2, 1.0, 3.0], len(user))
    ids = sorted([*ODD, *(f"SKU-{n:05d}" for n in range(20, 20 + NUM_ITEMS - len(ODD)))])
    about = Description(feedback="implicit", items=roles, users={})
    values = {
        "title": [titles(place, one) for place, one in enumerate(ids)], "brand": ["Acme", None] * (NUM_ITEMS // 2),
        "price": [9.5] * NUM_ITEMS, "year": ["late"] * NUM_ITEMS, "tags": [["new", "sale"], []] * (NUM_ITEMS // 2),
        "photo": ["https://shop.example/1.jpg"] * NUM_ITEMS,
    }  # fmt: skip
    items = pa.table({"item_id": ids, **{name: values[name] for name in roles}})
    items = items.cast(schema.table_layout("item_id", about, items.schema))
    users = pa.table({"user_id": [f"{n:08x}-uuid" for n in range(NUM_USERS)]})
    users = users.cast(schema.table_layout("user_id", about, users.schema))
    rejects = schema.REJECTS.empty_table()
    return Dataset("shop", ratings(user, item, weight), items, users, rejects, f"shop {sorted(roles)}", about)


def trained(data: Dataset, folder: Path, models: Sequence[str] = ("history",)) -> Bundle:
    """A bundle of it that takes a second."""
    config = run_config(models=tuple(models), history=HistoryConfig(rank=20, penalty=5.0, like_at=0.0))
    return train_bundle(data, config, folder / "bundle")


def called(place: int, item_id: str) -> str:
    """Three of one name, one that is another's id, one without; the others each their own."""
    return {0: "Shirt", 1: "Shirt", 2: "shirt", 3: "SKU-00012", 4: " "}.get(
        place, f"Thing {'abcdefghij'[place % 10]}{place}"
    )
