"""A pipeline behind Marquee: last night's lists, business rules, and an output of its own.

    python examples/downstream_pipeline.py bundle nightly lists.parquet

The rules here: nothing older than 1980, at most two titles of one first genre a user, five titles in all.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

import sdk
from sdk.shell.cli import path_argument

OLDEST_YEAR, PER_GENRE, LIST_LENGTH = 1980, 2, 5


def latest_night(nightly: Path) -> pd.DataFrame:
    """The user lists of the night that ``LATEST`` names."""
    night = nightly / f"run_date={(nightly / 'LATEST').read_text().strip()}" / "user_items"
    return pd.concat([pd.read_parquet(path) for path in sorted(night.glob("*.parquet"))], ignore_index=True)


def apply_rules(lists: pd.DataFrame, items: pd.DataFrame) -> pd.DataFrame:
    """The rows that pass, ranked anew: (user_id, rank, item_id, title, genre, score)."""
    rows = lists.merge(items, on="item_id").sort_values(["user_id", "rank"])
    rows = rows[rows["year"].fillna(0) >= OLDEST_YEAR]
    rows = rows[rows.groupby(["user_id", "genre"]).cumcount() < PER_GENRE]
    rows = rows.assign(rank=rows.groupby("user_id").cumcount() + 1)
    return rows[rows["rank"] <= LIST_LENGTH][["user_id", "rank", "item_id", "title", "genre", "score"]]


def main(bundle_path: Path, nightly: Path, out: Path) -> None:
    """Read, apply the rules, write."""
    bundle = sdk.load(bundle_path)
    items = bundle.items.select(["item_id", "title", "year", "genres"]).to_pandas()
    items["genre"] = [genres[0] if len(genres) else "none" for genres in items.pop("genres")]
    chosen = apply_rules(latest_night(nightly), items)
    chosen.to_parquet(out, index=False)
    print(f"{out}: {len(chosen):,} rows for {chosen['user_id'].nunique():,} users")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle_path", type=path_argument, metavar="BUNDLE")
    parser.add_argument("nightly", type=path_argument, metavar="NIGHTLY", help="where batch.score publishes")
    parser.add_argument("out", type=path_argument, metavar="OUT.parquet")
    main(**vars(parser.parse_args()))
