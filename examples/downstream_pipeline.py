"""A pipeline behind Marquee: last night's lists, business rules, and an output of its own.

    python examples/downstream_pipeline.py bundle nightly lists.parquet --column brand

The rules here: at most two items of one value of a column (of films: of one first genre) a user, five items in all.
"""

import argparse
from pathlib import Path

import pandas as pd

import sdk
from sdk.shell.cli import path_argument

MOST_ALIKE, LIST_LENGTH = 2, 5


def latest_night(nightly: Path) -> pd.DataFrame:
    """The user lists of the night that ``LATEST`` names."""
    night = nightly / f"run_date={(nightly / 'LATEST').read_text().strip()}" / "user_items"
    return pd.concat([pd.read_parquet(path) for path in sorted(night.glob("*.parquet"))], ignore_index=True)


def catalogue(bundle: sdk.Bundle, column: str) -> pd.DataFrame:
    """What the rules need of the items: (item_id, title, and the column; of a list its first value)."""
    ids, values = bundle.items["item_id"].to_pylist(), bundle.items[column].to_pylist()
    first = [value if isinstance(value, str) else next(iter(value or ()), "") for value in values]
    return pd.DataFrame({"item_id": ids, "title": bundle.titles(ids), column: first})


def apply_rules(lists: pd.DataFrame, items: pd.DataFrame, column: str) -> pd.DataFrame:
    """The rows that pass, ranked anew: (user_id, rank, item_id, title, column, score)."""
    rows = lists.merge(items, on="item_id").sort_values(["user_id", "rank"])
    rows = rows[(rows[column] == "") | (rows.groupby(["user_id", column]).cumcount() < MOST_ALIKE)]
    rows = rows.assign(rank=rows.groupby("user_id").cumcount() + 1)
    return rows[rows["rank"] <= LIST_LENGTH][["user_id", "rank", "item_id", "title", column, "score"]]


def main(bundle: Path, nightly: Path, out: Path, column: str) -> None:
    """Read, apply the rules, write."""
    chosen = apply_rules(latest_night(nightly), catalogue(sdk.load(bundle), column), column)
    chosen.to_parquet(out, index=False)
    print(f"{out}: {len(chosen):,} rows for {chosen['user_id'].nunique():,} users")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=path_argument)
    parser.add_argument("nightly", type=path_argument, help="where batch.score publishes")
    parser.add_argument("out", type=path_argument, metavar="OUT.parquet")
    parser.add_argument("--column", default="genres", help="of the items (default: genres)")
    main(**vars(parser.parse_args()))
