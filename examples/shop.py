"""A shop as many have it: UUID customers, text SKUs, views, carts and purchases, and a catalogue of many columns."""

import argparse
import uuid
from pathlib import Path

import numpy as np
import pandas as pd

_CATEGORIES, _EVENTS = ("shoes", "shirts", "bags", "hats", "socks", "coats"), ("view", "cart", "purchase")
_BRANDS = ("Böhm", "Acme", "Nordlicht", "Zeta", "Kiku", "Ora", "Vale", "Rex", "Lune", "Pico", "Tarn", "Ode")
_WORDS = """light warm soft strong leather cotton wool summer winter city trail rain classic modern slim wide handmade
    recycled vegan waterproof""".split()  # noqa: SIM905
_START = pd.Timestamp("2026-06-01", tz="UTC")


def catalogue_of(rng: np.random.Generator, num_items: int) -> pd.DataFrame:
    """Items with a category, a brand, numbers, words and addresses; SKUs have leading zeros."""
    category, brand = rng.choice(_CATEGORIES, num_items), rng.choice(_BRANDS, num_items)
    words = [" ".join(rng.choice(_WORDS, 8)) for _ in range(num_items)]
    skus = [f"{number:06d}" for number in rng.permutation(num_items) * 7]
    names = [f"{b} {c[:-1]} {n}" for n, (b, c) in enumerate(zip(brand, category, strict=True))]
    price, stock = np.round(rng.lognormal(3, 0.6, num_items), 2), rng.integers(0, 80, num_items)
    colours = ["|".join(sorted(set(rng.choice(["red", "blue", "green", "black"], 2)))) for _ in words]
    added = (_START - pd.to_timedelta(rng.integers(1, 900, num_items), "D")).strftime("%Y-%m-%d")
    image = [f"https://cdn.example/{n}.jpg" for n in range(num_items)]
    known = {"sku": skus, "product_name": names, "brand": brand, "category": category, "price": price, "stock": stock}
    return pd.DataFrame({**known, "description": words, "colours": colours, "image": image, "added": added})


def events(rng: np.random.Generator, users: list[str], items: pd.DataFrame, per_user: int) -> pd.DataFrame:
    """Views, carts and purchases: everybody prefers two categories and the popular items in them."""
    weight, category, rows = 1 / np.arange(1, len(items) + 1) ** 0.8, items["category"].to_numpy(), []
    for user in users:
        taste = weight * np.where(np.isin(category, rng.choice(_CATEGORIES, 2, replace=False)), 12, 1)
        chosen = rng.choice(len(items), int(rng.poisson(per_user)) + 3, p=taste / taste.sum())
        kinds = rng.choice(_EVENTS, len(chosen), p=[0.75, 0.15, 0.1])
        rows += [(user, items["sku"].iloc[at], kind) for at, kind in zip(chosen, kinds, strict=True)]
    table = pd.DataFrame(rows, columns=["customer_id", "sku", "event_type"])
    when = _START + pd.to_timedelta(rng.integers(0, 150 * 86_400, len(table)), "s")
    return table.assign(event_time=when).sort_values("event_time", ignore_index=True)


def main(folder: Path, num_customers: int) -> None:
    """``events.parquet``, ``products.csv``, and ``customers.csv`` with a country and a year of birth."""
    rng = np.random.default_rng(0)
    items, ids = catalogue_of(rng, 120), [str(uuid.UUID(bytes=rng.bytes(16), version=4)) for _ in range(num_customers)]
    born, country = rng.integers(1950, 2008, num_customers), rng.choice(["DE", "FR", "IT"], num_customers)
    folder.mkdir(parents=True, exist_ok=True)
    events(rng, ids, items, 18).to_parquet(folder / "events.parquet", index=False)
    items.to_csv(folder / "products.csv", index=False)
    pd.DataFrame({"customer_id": ids, "country": country, "born": born}).to_csv(folder / "customers.csv", index=False)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("num_customers", nargs="?", type=int, default=300)
    main(**vars(parser.parse_args()))
