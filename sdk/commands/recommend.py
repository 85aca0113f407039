"""python -m sdk recommend."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from sdk.base.errors import UsageError
from sdk.bundles.words import made, words_of
from sdk.commands.naming import ItemFacts, as_lists, facts_of, item_named, show_list, user_named
from sdk.shell.cli import add_bundle, new_parser, whole_number

if TYPE_CHECKING:
    from sdk.bundles.answers import Because, Explanation


def add(commands: Any) -> None:
    """The command's options."""
    parser = new_parser(
        commands.add_parser, "recommend", "a user's or a visitor's best unseen items, with reasons",
        'python -m sdk recommend --user 42 --bundle bundle\n'
        '  python -m sdk recommend --liked "Heat (1995)" --liked Alien --bundle bundle',
        work=_recommend, only_prints=True,
    )  # fmt: skip
    reader = parser.group("required").add_mutually_exclusive_group(required=True)
    reader.add_argument("--user", metavar="ID", help="user_id of a user of the bundle, a number or text as in its data")
    liked_help = "or the title or #id of an item that a visitor liked, who is no user; may be given several times"
    reader.add_argument("--liked", action="append", metavar="TITLE", help=liked_help)
    add_bundle(parser)
    common = parser.group("common")
    common.add_argument("--k", type=whole_number, default=10, metavar="N", help="how many items")
    common.add_argument("--model", default="best", help="dlrm, ncf, bfm or best; for --user")
    common.add_argument("--include-seen", action="store_true", help="list items that the user has rated, too")
    common.add_argument("--why", action="store_true", help="take each score apart: which items add how much")
    common.add_argument("--json", action="store_true", help="print JSON, with what --why says")


def _recommend(args: argparse.Namespace) -> int:
    from sdk.bundles.bundle import load

    bundle, is_visitor = load(args.bundle), args.user is None
    if is_visitor and (args.include_seen or args.model != "best"):
        message = "--liked: a visitor's list is the history model's and leaves out the liked items; drop --model and --include-seen"  # noqa: E501
        raise UsageError(message)
    liked, words = [item_named(bundle, title) for title in args.liked or ()], words_of(bundle.about)
    user = None if is_visitor else user_named(bundle, args.user)
    if user is None:
        lists = bundle.recommend_for(liked, args.k)
    else:
        lists = bundle.recommend([user], args.k, model=args.model, include_seen=args.include_seen)
    ids, source = lists.row(0)[0].tolist(), str(lists.source[0])
    asked = {"model": args.model, "include_seen": args.include_seen, "liked": liked if is_visitor else None}
    why = bundle.explain_recommendation(user, ids, **asked)
    rows, named = list(zip(facts_of(bundle, ids), why, strict=True)), facts_of(bundle, liked)
    if args.json:
        items = [_as_json(rank, *row) for rank, row in enumerate(rows, start=1)]
        values = {"user_id": user, "liked": [facts.as_json() for facts in named], "source": source, "items": items}
        print(json.dumps(values))
    else:
        known = _said_of_all(why)
        reader = f"a visitor who {words.liked} {', '.join(f.display for f in named)}" if is_visitor else f"user {user}"
        head = f"for {reader}, {made(source)} ({source}{f'; {known}' if known else ''}):"
        reasons = [tuple(score_lines(each)) if args.why else _without(known, each.describe()) for each in why]
        already = "named as liked" if is_visitor else words.taken
        empty = f"no {words.item} is left: every {words.item} of the catalogue has been {already} already"
        show_list(head, [(f, w.score, reason) for (f, w), reason in zip(rows, reasons, strict=True)], empty, "7.3f")
    return 0


def _said_of_all(why: Sequence[Explanation]) -> str:
    """What every item's reason starts with, such as that nothing is known of the user; said once, in the head."""
    starts = {each.note.partition(": ")[0] if ": " in each.note else "" for each in why}
    return starts.pop() if len(starts) == 1 else ""


def _without(known: str, reason: str) -> str:
    return reason.removeprefix(f"{known}: ") if known else reason


def score_lines(why: Explanation) -> Iterator[str]:
    """The score's parts, one a line; they add up to it."""
    if why.note:
        yield why.note
    words = why.words
    for title in why.because:
        weight = f", weight {title.rating:g}" if words.weighted and title.rating is not None else ""
        did = words.liked if title.liked else words.other
        yield f"{title.contribution:+8.4f}  {did} {title.describe(4, 3)}{weight}"
    named = {liked: sum(t.contribution for t in why.because if t.liked is liked) for liked in (True, False)}
    parts = {
        f"other {words.liked_items}": why.liked - named[True], f"other {words.other_items}": why.watched - named[False],
        words.done: why.itself, words.by_many: why.popularity, "the ranker's share": why.ranker,
    }  # fmt: skip
    yield from (f"{value:+8.4f}  {name}" for name, value in parts.items() if abs(value) >= 5e-5)


def _as_json(rank: int, facts: ItemFacts, why: Explanation) -> dict[str, Any]:
    parts = ("liked", "watched", "itself", "popularity", "ranker", "note")
    apart = {**{name: getattr(why, name) for name in parts}, "because": [_because(title) for title in why.because]}
    said = {"score": why.score, "source": why.source, "reason": why.describe(), "why": apart}
    return {"rank": rank, **facts.as_json(), **said}


def _because(title: Because) -> dict[str, Any]:
    values = {name: getattr(title, name) for name in ("item_id", "title", "rating", "liked", "contribution")}
    return {**values, "shared": as_lists(title.shared.shared) if title.shared else {}}
