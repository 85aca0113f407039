"""python -m sdk similar."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any, get_args

from sdk.base.config import SimilarKind
from sdk.bundles.words import made, words_of
from sdk.commands.naming import ItemFacts, as_lists, facts_of, item_named, show_list
from sdk.shell.cli import add_bundle, new_parser, whole_number

if TYPE_CHECKING:
    from sdk.models.content.reasons import Reasons


def add(commands: Any) -> None:
    """The command's options."""
    parser = new_parser(
        commands.add_parser, "similar", "items like an item, each with the reason",
        'python -m sdk similar "The Dark Knight" --bundle bundle', work=_similar, only_prints=True,
    )  # fmt: skip
    title_help = 'title of an item, of a film with a year if need be: "Heat (1995)"; or #7 for item_id 7'
    parser.group("required").add_argument("title", metavar="TITLE", help=title_help)
    add_bundle(parser)
    common = parser.group("common")
    common.add_argument("--k", type=whole_number, default=10, metavar="N", help="how many items")
    kind_help = "by what the items are and by who likes them, or by content alone"
    common.add_argument("--kind", choices=get_args(SimilarKind), default="hybrid", help=kind_help)
    common.add_argument("--json", action="store_true", help="print JSON, with every shared thing and its weight")


def _similar(args: argparse.Namespace) -> int:
    from sdk.bundles.bundle import load
    from sdk.models.content.hybrid import HYBRID

    bundle = load(args.bundle)
    item_id = item_named(bundle, args.title)
    lists = bundle.similar([item_id], args.k, kind=args.kind)
    (ids, scores), source = lists.row(0), str(lists.source[0])
    wanted, *found = facts_of(bundle, [item_id, *ids.tolist()])
    share = float(bundle.content.shares([item_id])[0]) if source == HYBRID else 0.0
    shared = words_of(bundle.about).by_the_same
    items = [
        _item(rank, facts, score, source, bundle.explain(item_id, facts.item_id), share, shared)
        for rank, (facts, score) in enumerate(zip(found, scores.tolist(), strict=True), start=1)
    ]
    if args.json:
        print(json.dumps({**wanted.as_json(), "items": items}))
    else:
        head = f"like {wanted.display}, {made(source)} ({source}):" if items else f"like {wanted.display}:"
        rows = [(facts, item["score"], item["reason"]) for facts, item in zip(found, items, strict=True)]
        show_list(head, rows, f"nothing is known of it that another {words_of(bundle.about).item} shares", ".3f")
    return 0


def _item(
    rank: int, facts: ItemFacts, score: float, source: str, why: Reasons, share: float, by_the_same: str
) -> dict[str, Any]:
    from sdk.models.content.hybrid import HYBRID, liked_part
    from sdk.models.content.together import TOGETHER

    liked = score if source == TOGETHER else liked_part(score, why.score, share) if source == HYBRID else 0.0
    people = by_the_same if source == TOGETHER else f"{by_the_same}, {liked / score:.0%} of it" if liked else ""
    return {
        "rank": rank, **facts.as_json(), "score": score, "source": source,
        "reason": "; ".join(filter(None, (why.describe(), people))), "cosine": why.score,
        "learned": liked, "contributions": dict(why.contributions), "shared": as_lists(why.shared),
    }  # fmt: skip
