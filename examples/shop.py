"""A shop as many have it: UUID customers, text SKUs, views, carts and purchases, and a catalogue of many columns.

Run: python examples/shop.py FOLDER [NUM_CUSTOMERS]
"""

from __future__ import annotations

import argparse
import uuid
from pathlib import Path

import numpy as np
import pandas as pd

_CATEGORIES = ("shoes", "shirts", "bags", "hats", "socks", "coats")
_BRANDS = ("Böhm", "Acme", "Nordlicht", "Zeta", "Kiku", "Ora", "Vale", "Rex", "Lune", "Pico", "Tarn", "Ode")
_WORDS = (
    "light", "warm", "soft", "strong", "leather", "cotton", "wool", "summer", "winter", "city", "trail", "rain",
    "classic", "modern", "slim", "wide", "handmade", "recycled", "vegan", "waterproof",
)  # fmt: skip
_EVENTS = ("view", "cart", "purchase")
_START = pd.Timestamp("2026-06-01", tz="UTC")


def catalogue_of(rng: np.random.Generator, num_items: int) -> pd.DataFrame:
    """Items with a category, a brand, numbers, words and addresses; SKUs have leading zeros."""
    category, brand = rng.choice(_CATEGORIES, num_items), rng.choice(_BRANDS, num_items)
    words = [" ".join(rng.choice(_WORDS, 8)) for _ in range(num_items)]
    return pd.DataFrame(
        {
            "sku": [f"{number:06d}" for number in rng.permutation(num_items) * 7],
            "product_name": [f"{b} {c[:-1]} {n}" for n, (b, c) in enumerate(zip(brand, category, strict=True))],
            "brand": brand,
            "category": category,
            "price": np.round(rng.lognormal(3, 0.6, num_items), 2),
            "stock": rng.integers(0, 80, num_items),
            "description": words,
            "colours": ["|".join(sorted(set(rng.choice(["red", "blue", "green", "black"], 2)))) for _ in words],
            "image": [f"https://cdn.example/{n}.jpg" for n in range(num_items)],
            "added": (_START - pd.to_timedelta(rng.integers(1, 900, num_items), "D")).strftime("%Y-%m-%d"),
        }
    )


def customers(rng: np.random.Generator, num_users: int) -> pd.DataFrame:
    """Customers with a country and a year of birth."""
    ids = [str(uuid.UUID(bytes=rng.bytes(16), version=4)) for _ in range(num_users)]
    born = rng.integers(1950, 2008, num_users)
    return pd.DataFrame({"customer_id": ids, "country": rng.choice(["DE", "FR", "IT"], num_users), "born": born})


def events(rng: np.random.Generator, users: pd.DataFrame, items: pd.DataFrame, per_user: int) -> pd.DataFrame:
    """Views, carts and purchases: everybody prefers two categories and the popular items in them."""
    weight = 1 / np.arange(1, len(items) + 1) ** 0.8
    category = items["category"].to_numpy()
    rows = []
    for user in users["customer_id"]:
        liked = np.isin(category, rng.choice(_CATEGORIES, 2, replace=False))
        taste = weight * np.where(liked, 12, 1)
        chosen = rng.choice(len(items), int(rng.poisson(per_user)) + 3, p=taste / taste.sum())
        kind = rng.choice(3, len(chosen), p=[0.75, 0.15, 0.1])
        rows += [(user, items["sku"].iloc[at], _EVENTS[k]) for at, k in zip(chosen, kind, strict=True)]
    table = pd.DataFrame(rows, columns=["customer_id", "sku", "event_type"])
    when = _START + pd.to_timedelta(rng.integers(0, 150 * 86_400, len(table)), "s")
    return table.assign(event_time=when).sort_values("event_time", ignore_index=True)


def write_shop(folder: Path, *, seed: int = 0, num_users: int = 300, num_items: int = 120, per_user: int = 18) -> None:
    """``events.parquet``, ``products.csv`` and ``customers.csv``."""
    rng = np.random.default_rng(seed)
    items, users = catalogue_of(rng, num_items), customers(rng, num_users)
    folder.mkdir(parents=True, exist_ok=True)
    events(rng, users, items, per_user).to_parquet(folder / "events.parquet", index=False)
    items.to_csv(folder / "products.csv", index=False)
    users.to_csv(folder / "customers.csv", index=False)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("num_customers", nargs="?", type=int, default=300)
    asked = parser.parse_args()
    write_shop(asked.folder, num_users=asked.num_customers)
