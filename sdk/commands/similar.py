"""python -m sdk similar."""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from sdk.commands.naming import Facts, facts_of, item_named, listing
from sdk.shell.cli import add_bundle, new_parser, whole_number
from sdk.shell.terminal import Page, show

if TYPE_CHECKING:
    from sdk.bundles.bundle import Bundle
    from sdk.models.content.reasons import Reasons

_NOTHING = "nothing is known of it that another title shares"


@dataclass(frozen=True, slots=True)
class _Row:
    """One similar title."""

    facts: Facts
    score: float
    source: str
    reasons: Reasons

    @property
    def reason(self) -> str:
        parts = (self.reasons.describe(), "liked by the same people" if self.learned > 0 else "")
        return "; ".join(filter(None, parts))

    @property
    def learned(self) -> float:
        from sdk.models.content.hybrid import HYBRID, learned_part

        return learned_part(self.score, self.reasons.score) if self.source == HYBRID else 0.0


def add(commands: Any) -> None:
    """The command's options."""
    parser = new_parser(
        commands.add_parser, "similar", "titles like a title, each with the reason",
        'python -m sdk similar "The Dark Knight" --bundle bundle', work=_similar, only_prints=True,
    )  # fmt: skip
    parser.add_argument("title", help='a title, with a year if need be: "Heat (1995)"; or #7 for item_id 7')
    add_bundle(parser)
    parser.add_argument("--k", type=whole_number, default=10, help="how many")
    kind_help = "by what the titles are, or by that and by who liked them"
    parser.add_argument("--kind", choices=("content", "hybrid"), default="content", help=kind_help)
    parser.add_argument("--json", action="store_true", help="print JSON, with every shared thing and its weight")


def _similar(args: argparse.Namespace) -> int:
    from sdk.bundles.bundle import load

    bundle = load(args.bundle)
    item_id = item_named(bundle, args.title)
    wanted, rows = facts_of(bundle, [item_id])[0], _rows(bundle, item_id, args.k, args.kind)
    if args.json:
        print(_as_json(wanted, rows))
    else:
        show(_as_lines(wanted, rows), lambda: [_as_page(wanted, rows)])
    return 0


def _rows(bundle: Bundle, item_id: int, k: int, kind: Any) -> list[_Row]:
    lists = bundle.similar([item_id], k, kind=kind)
    ids, scores = lists.row(0)
    source = str(lists.source[0])
    reasons = [bundle.explain(item_id, other) for other in ids.tolist()]
    rows = zip(facts_of(bundle, ids.tolist()), scores.tolist(), reasons, strict=True)
    return [_Row(facts, score, source, why) for facts, score, why in rows]


def _head(wanted: Facts, rows: list[_Row]) -> str:
    return f"like {wanted.display}, by {rows[0].source}:" if rows else f"like {wanted.display}:"


def _as_page(wanted: Facts, rows: list[_Row]) -> Page:
    page = listing(_head(wanted, rows), ((row.facts, row.score, row.reason) for row in rows))
    return page if rows else replace(page, note=_NOTHING, narrow=None)


def _as_lines(wanted: Facts, rows: list[_Row]) -> list[str]:
    lines = [
        f"{rank:3d}  {row.score:.3f}  {row.facts.as_text()}  ({row.reason})" for rank, row in enumerate(rows, start=1)
    ]
    return [_head(wanted, rows), *(lines or [f"  {_NOTHING}"])]


def _as_json(wanted: Facts, rows: list[_Row]) -> str:
    items = [
        {
            "rank": rank, **row.facts.as_json(), "score": row.score, "source": row.source, "reason": row.reason,
            "cosine": row.reasons.score, "learned": row.learned, "contributions": dict(row.reasons.contributions),
            "shared": {field: list(tokens) for field, tokens in row.reasons.shared.items()},
        }
        for rank, row in enumerate(rows, start=1)
    ]  # fmt: skip
    return json.dumps({**wanted.as_json(), "items": items})
