"""A small shop: items and users with a column of every kind, and who likes what by a taste that the columns tell of."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from sdk.base import schema
from sdk.base.description import Description
from sdk.base.types import Dataset, Interactions
from sdk.data.fingerprint import fingerprint
from sdk.data.validation import sorted_order

SHOP = Description(
    feedback="explicit",
    item="product",
    items={
        "title": "title", "category": "categorical", "brand": "group", "materials": "list", "labels": "terms",
        "price": "continuous", "listed": "time", "details": "text", "type": "categorical", "picture": "image",
    },
    users={"segment": "categorical", "items": "categorical", "age": "continuous", "joined": "time", "hobbies": "list"},
)  # fmt: skip
NUM_ITEMS, NUM_USERS = 60, 50
_CATEGORIES, _BRANDS, _MATERIALS = (
    ("Shoes", "Coats", "Lamps"),
    ("Acme", "Bolt", "Cara", "Dune"),
    ("wool", "steel", "oak"),
)
_WORDS = {"Shoes": "running trail sole laces", "Coats": "winter rain hood pockets", "Lamps": "light desk bulb shade"}


def shop_items() -> pa.Table:
    """60 items, ``SKU-000`` and so on; every seventh has no price, every ninth no brand."""
    rng = np.random.default_rng(1)
    kinds = [_CATEGORIES[n % 3] for n in range(NUM_ITEMS)]
    columns = {
        "item_id": [f"SKU-{n:03d}" for n in range(NUM_ITEMS)],
        "title": [f"{_BRANDS[n % 4]} {kind[:-1]} {n}" for n, kind in enumerate(kinds)],
        "category": kinds,
        "brand": [None if n % 9 == 0 else _BRANDS[n % 4] for n in range(NUM_ITEMS)],
        "materials": [sorted({_MATERIALS[n % 3], _MATERIALS[n % 2]}) if n % 5 else [] for n in range(NUM_ITEMS)],
        "labels": [[f"label {n % 6}", "new"] for n in range(NUM_ITEMS)],
        "price": [None if n % 7 == 0 else float(np.exp(n / 5)) for n in range(NUM_ITEMS)],
        "listed": [1_600_000_000 + 86_400 * n for n in range(NUM_ITEMS)],
        "details": [" ".join(rng.permutation(_WORDS[kind].split())[:3]) for kind in kinds],
        "type": ["true" if n % 2 else "false" for n in range(NUM_ITEMS)],
        "picture": [f"https://shop.example/{n}.jpg" for n in range(NUM_ITEMS)],
    }  # fmt: skip
    layout = schema.table_layout("item_id", SHOP, pa.schema([("item_id", pa.string())]))
    return pa.table(columns, schema=layout)


def shop_users() -> pa.Table:
    """50 users with columns that are named as ours are, or as Python's."""
    columns = {
        "user_id": [f"u{n:02d}" for n in range(NUM_USERS)],
        "segment": [None if n % 8 == 0 else "ab"[n % 2] for n in range(NUM_USERS)],
        "items": [str(n % 5) for n in range(NUM_USERS)],
        "age": [None if n % 6 == 0 else 20.0 + n for n in range(NUM_USERS)],
        "joined": [1_500_000_000 + n for n in range(NUM_USERS)],
        "hobbies": [["chess", "rowing"][: n % 3] for n in range(NUM_USERS)],
    }  # fmt: skip
    layout = schema.table_layout("user_id", SHOP, pa.schema([("user_id", pa.string())]))
    return pa.table(columns, schema=layout)


def shop_ratings(seed: int = 2) -> Interactions:
    """Each user rates 20 items and likes those of one category."""
    rng = np.random.default_rng(seed)
    pairs = [(user, item) for user in range(NUM_USERS) for item in sorted(rng.choice(NUM_ITEMS, 20, replace=False))]
    user, item = (np.array(column, dtype=np.int64) for column in zip(*pairs, strict=True))
    liked = (item % 3 == user % 3) != (rng.random(len(user)) < 0.1)
    return Interactions(user, item, np.where(liked, 5, 2).astype(np.float32), np.arange(len(user), dtype=np.int64))


def shop() -> Dataset:
    """All of it as a data set."""
    rated, items, users = shop_ratings(), shop_items(), shop_users()
    digest = fingerprint(rated, items, users, sorted_order(rated.user_id, rated.item_id))
    return Dataset("shop", rated, items, users, schema.REJECTS.empty_table(), digest, SHOP)
