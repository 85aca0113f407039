"""python -m sdk similar."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from sdk.commands.options import add_bundle, new_command
from sdk.errors import UsageError

if TYPE_CHECKING:
    from sdk.bundle import Bundle


def add(commands: Any) -> None:
    """The command's options."""
    parser = new_command(
        commands, "similar", _similar, "titles like a title, each with the reason",
        'python -m sdk similar "The Dark Knight" --bundle bundle',
    )  # fmt: skip
    parser.add_argument("title", help='a title, with a year if need be: "Heat (1995)"')
    add_bundle(parser)
    parser.add_argument("--k", type=int, default=10, help="how many")


def _similar(args: argparse.Namespace) -> int:
    from sdk.bundle import load

    bundle = load(args.bundle)
    matches = bundle.find_title(args.title)
    if not matches:
        message = f"no title like {args.title!r} in {args.bundle}"
        raise UsageError(message)
    if not matches[0].exact:
        near = ", ".join(repr(name) for name in bundle.titles([m.item_id for m in matches]))
        message = f"no title {args.title!r} in {args.bundle}. Did you mean {near}?"
        raise UsageError(message)
    _print_similar(bundle, matches[0].item_id, args.k)
    return 0


def _print_similar(bundle: Bundle, item_id: int, k: int) -> None:
    ids, scores = bundle.similar([item_id], k).row(0)
    print(f"like {bundle.titles([item_id])[0]}:")
    for rank, (other, name, score) in enumerate(zip(ids.tolist(), bundle.titles(ids), scores, strict=True), start=1):
        print(f"{rank:3d}  {score:.3f}  {name}  ({bundle.explain(item_id, other).describe()})")
    if not len(ids):
        print("  nothing is known of it that another title shares")
