"""python -m sdk recommend."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from sdk.base.errors import UsageError
from sdk.commands.naming import Facts, facts_of, item_named, listing
from sdk.shell.cli import add_bundle, new_parser, whole_number
from sdk.shell.terminal import Page, show

if TYPE_CHECKING:
    from sdk.bundles.bundle import Bundle
    from sdk.bundles.explanations import Because, Explanation


@dataclass(frozen=True, slots=True)
class _List:
    """Somebody's list: for whom, by what, and each title with its reason."""

    user_id: int | None
    liked: tuple[Facts, ...]
    source: str
    rows: tuple[tuple[Facts, Explanation], ...]

    @property
    def reader(self) -> str:
        if self.user_id is not None:
            return f"user {self.user_id}"
        return f"a visitor who liked {', '.join(facts.display for facts in self.liked)}"

    @property
    def head(self) -> str:
        aside = f" ({self.known})" if self.known else ""
        return f"for {self.reader}, by {self.source}{aside}:"

    @property
    def known(self) -> str:
        """What every title's reason starts with, such as that nothing is known of the user; said once, in the head."""
        starts = {why.note.partition(": ")[0] if ": " in why.note else "" for _, why in self.rows}
        return starts.pop() if len(starts) == 1 else ""

    @property
    def empty(self) -> str:
        """Why no title is listed; nothing where one is."""
        known = "rated" if self.user_id is not None else "named as liked"
        return "" if self.rows else f"no title is left: every title of the catalogue has been {known} already"

    def reason(self, why: Explanation) -> str:
        """The reason in words, without what the head says."""
        return why.describe().removeprefix(f"{self.known}: ") if self.known else why.describe()


def add(commands: Any) -> None:
    """The command's options."""
    parser = new_parser(
        commands.add_parser, "recommend", "a user's or a visitor's best unseen titles, each with the reason",
        'python -m sdk recommend --user 42 --bundle bundle\n'
        '  python -m sdk recommend --liked "Heat (1995)" --liked Alien --bundle bundle',
        work=_recommend, only_prints=True,
    )  # fmt: skip
    reader = parser.add_mutually_exclusive_group(required=True)
    reader.add_argument("--user", type=whole_number, help="user_id")
    liked_help = "a title that a visitor liked (#7: item_id 7), no user of the bundle; may be given several times"
    reader.add_argument("--liked", action="append", metavar="TITLE", help=liked_help)
    add_bundle(parser)
    parser.add_argument("--k", type=whole_number, default=10, help="how many")
    parser.add_argument("--model", default="best", help="dlrm, ncf or best; for --user")
    parser.add_argument("--include-seen", action="store_true", help="list titles that the user has rated, too")
    details = parser.add_mutually_exclusive_group()
    details.add_argument("--why", action="store_true", help="take each score apart: which titles add how much")
    details.add_argument("--json", action="store_true", help="print JSON, with what --why says")


def _recommend(args: argparse.Namespace) -> int:
    from sdk.bundles.bundle import load

    bundle = load(args.bundle)
    made = _for_user(bundle, args) if args.user is not None else _for_visitor(bundle, args)
    if args.json:
        print(_as_json(made))
    else:
        show(_as_lines(made, args.why), lambda: [_as_page(made, args.why)])
    return 0


def _for_user(bundle: Bundle, args: argparse.Namespace) -> _List:
    lists = bundle.recommend([args.user], args.k, model=args.model, include_seen=args.include_seen)
    ids = lists.row(0)[0].tolist()
    why = bundle.explain_recommendation(args.user, ids, model=args.model)
    return _List(args.user, (), str(lists.source[0]), tuple(zip(facts_of(bundle, ids), why, strict=True)))


def _for_visitor(bundle: Bundle, args: argparse.Namespace) -> _List:
    if args.include_seen or args.model != "best":
        message = "--liked: a visitor's list is the history model's and leaves out the liked titles; drop --model and --include-seen"  # noqa: E501
        raise UsageError(message)
    liked = [item_named(bundle, title) for title in args.liked]
    lists = bundle.recommend_for(liked, args.k)
    ids = lists.row(0)[0].tolist()
    why = bundle.explain_recommendation(None, ids, liked=liked)
    rows = tuple(zip(facts_of(bundle, ids), why, strict=True))
    return _List(None, tuple(facts_of(bundle, liked)), str(lists.source[0]), rows)


def _as_lines(made: _List, details: bool) -> Iterator[str]:
    yield made.head
    if made.empty:
        yield f"  {made.empty}"
    for rank, (facts, why) in enumerate(made.rows, start=1):
        start = f"{rank:3d}  {why.score:7.3f}  {facts.as_text()}"
        yield start if details else f"{start}  ({made.reason(why)})"
        if details:
            yield from (f"     {line}" for line in score_lines(why))


def _as_page(made: _List, details: bool) -> Page:
    rows = ((facts, why.score, tuple(map(str.strip, score_lines(why))) if details else made.reason(why))
            for facts, why in made.rows)  # fmt: skip
    page = listing(made.head, rows)
    return replace(page, note=made.empty, narrow=None) if made.empty else page


def score_lines(why: Explanation) -> Iterator[str]:
    """The score's parts, one a line; they add up to it."""
    if why.note:
        yield why.note
    for title in why.because:
        yield f"{title.contribution:+8.4f}  {'liked' if title.liked else 'watched'} {title.describe(4, 3)}"
    named = {liked: sum(t.contribution for t in why.because if t.liked is liked) for liked in (True, False)}
    parts = {
        "other liked titles": why.liked - named[True], "other watched titles": why.watched - named[False],
        "having rated it": why.itself, "liked by many": why.popularity, "the ranker's share": why.ranker,
    }  # fmt: skip
    yield from (f"{value:+8.4f}  {name}" for name, value in parts.items() if abs(value) >= 5e-5)


def _as_json(made: _List) -> str:
    items = [
        {"rank": rank, **facts.as_json(), "score": why.score, "source": why.source, "reason": why.describe(),
         "why": _why_json(why)}
        for rank, (facts, why) in enumerate(made.rows, start=1)
    ]  # fmt: skip
    liked = [facts.as_json() for facts in made.liked]
    return json.dumps({"user_id": made.user_id, "liked": liked, "source": made.source, "items": items})


def _why_json(why: Explanation) -> dict[str, Any]:
    parts = ("liked", "watched", "itself", "popularity", "ranker", "note")
    return {**{name: getattr(why, name) for name in parts}, "because": [_because_json(one) for one in why.because]}


def _because_json(because: Because) -> dict[str, Any]:
    shared = because.shared.shared if because.shared else {}
    return {
        "item_id": because.item_id, "title": because.title, "rating": because.rating, "liked": because.liked,
        "contribution": because.contribution, "shared": {field: list(tokens) for field, tokens in shared.items()},
    }  # fmt: skip
