"""python -m batch.taste: a readable taste of the latest night, by title."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from sdk.cli import EXIT_CODES, HelpFormatter, add_logging_options, run_command
from sdk.errors import OutputError


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m batch.taste",
        description="Show a few users' and titles' lists of the latest published night, by title.",
        epilog=f"example:\n  python -m batch.taste --bundle bundle --out nightly\n\n{EXIT_CODES}",
        formatter_class=HelpFormatter,
    )
    parser.add_argument("--bundle", type=Path, required=True, metavar="BUNDLE", help="the bundle the night came from")
    parser.add_argument("--out", type=Path, required=True, metavar="OUT", help="where nights are published")
    parser.add_argument("--users", type=int, default=3, help="how many users")
    parser.add_argument("--items", type=int, default=3, help="how many titles: the most rated ones")
    parser.add_argument("--k", type=int, default=5, help="how many entries of each list")
    add_logging_options(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the exit code is returned."""
    return run_command(_show, build_parser().parse_args(argv))


def _show(args: argparse.Namespace) -> int:
    print(taste(args.bundle, args.out, num_users=args.users, num_items=args.items, k=args.k))
    return 0


def taste(bundle_path: Path, out: Path, *, num_users: int = 3, num_items: int = 3, k: int = 5) -> str:
    """The latest night's first lists as text: users spread over the ids, and the most rated titles.

    Raises:
        BundleError: the bundle cannot be read.
        OutputError: no night is published in ``out``.
    """
    import numpy as np

    from batch.layout import LATEST
    from sdk.bundle import load

    bundle = load(bundle_path)
    pointer = out / LATEST
    if not pointer.exists():
        message = f"{out}: no night is published there ({LATEST} is missing). Run python -m batch.score first."
        raise OutputError(message)
    night = out / f"run_date={pointer.read_text('utf-8').strip()}"
    users = bundle.encoded_users.known_ids
    picked = users[np.linspace(0, len(users) - 1, min(num_users, len(users))).astype(np.int64)]
    rated = bundle.encoded_items.statistics.count[3:]
    titles = bundle.encoded_items.known_ids[np.argsort(-rated, kind="stable")[:num_items]]
    lines = [f"published: {night}", ""]
    for user in picked.tolist():
        lines += [f"user {user}:", *_entries(night / "user_items", "user_id", "item_id", user, k, bundle)]
    for item in titles.tolist():
        lines += [
            f"like {bundle.titles([item])[0]}:",
            *_entries(night / "item_items", "item_id", "similar_item_id", item, k, bundle),
        ]
    return "\n".join(lines)


def _entries(folder: Path, query: str, answer: str, wanted: int, k: int, bundle: object) -> list[str]:
    import pyarrow.dataset as ds

    from sdk.bundle import Bundle

    assert isinstance(bundle, Bundle)
    condition = (ds.field(query) == wanted) & (ds.field("rank") <= k)
    rows = ds.dataset(folder, format="parquet").to_table(filter=condition).sort_by("rank").to_pydict()
    names = bundle.titles(rows[answer])
    return [f"  {rank}. {name}" for rank, name in zip(rows["rank"], names, strict=True)] + [""]


if __name__ == "__main__":
    sys.exit(main())
