"""python -m sdk recommend."""

from __future__ import annotations

import argparse
from typing import Any

from sdk.commands.options import add_bundle, new_command


def add(commands: Any) -> None:
    """The command's options."""
    parser = new_command(
        commands, "recommend", _recommend, "a user's best unseen titles",
        "python -m sdk recommend --user 42 --bundle bundle",
    )  # fmt: skip
    parser.add_argument("--user", type=int, required=True, help="user_id")
    add_bundle(parser)
    parser.add_argument("--k", type=int, default=10, help="how many")
    parser.add_argument("--model", default="best", help="dlrm, ncf or best")
    parser.add_argument("--include-seen", action="store_true", help="list titles that the user has rated, too")


def _recommend(args: argparse.Namespace) -> int:
    from sdk.bundle import load

    bundle = load(args.bundle)
    lists = bundle.recommend([args.user], args.k, model=args.model, include_seen=args.include_seen)
    ids, scores = lists.row(0)
    print(f"for user {args.user}, by {lists.source[0]}:")
    for rank, (name, score) in enumerate(zip(bundle.titles(ids), scores, strict=True), start=1):
        print(f"{rank:3d}  {score:7.3f}  {name}")
    return 0
