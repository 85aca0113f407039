"""python -m batch.taste: a readable taste of the latest night, by name."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batch.job.job import Job
from sdk.base.errors import MarqueeError, OutputError, UsageError
from sdk.base.printable import one_line
from sdk.shell.cli import add_bundle, add_fields, new_parser, run_command, whole_number
from sdk.shell.parser import CommandParser
from sdk.shell.terminal import say

if TYPE_CHECKING:
    import pyarrow as pa

    from batch.store.target import Target
    from sdk.base.types import Id
    from sdk.bundles.bundle import Bundle


def add(commands: Any) -> None:
    """The command as one of ``marquee``'s and of ``python -m batch``'s."""
    build_parser(commands.add_parser, "taste")


def build_parser(make: Callable[..., Any] = CommandParser, name: str = "python -m batch.taste") -> CommandParser:
    """The command line."""
    summary = "show a few users' and items' lists of the latest night"
    example = "python -m batch.taste --bundle bundle --out nightly"
    parser = new_parser(make, name, summary, example, work=_show, only_prints=True)
    add_bundle(parser, required=True, default=None, help="the bundle the night came from")
    add_fields(parser.group("required"), Job, "out")
    common = parser.group("common")
    common.add_argument("--users", type=whole_number, default=3, metavar="N", help="how many users")
    common.add_argument("--items", type=whole_number, default=3, metavar="N", help="how many items: the most rated")
    common.add_argument("--k", type=whole_number, default=5, metavar="N", help="how many entries of each list")
    add_fields(common, Job, "new_items", help="the table that the night was given, for its items' names")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the exit code is returned."""
    args = build_parser().parse_args(argv)
    return run_command(args.work, args)


def _show(args: argparse.Namespace) -> int:
    sizes = {"num_users": args.users, "num_items": args.items, "k": args.k}
    say(*taste(args.bundle, args.out, **sizes, new_items=args.new_items).split("\n"), *_ways_on(args.bundle, args.out))
    return 0


def _ways_on(bundle_path: Path, out: str | Path) -> Iterator[str]:
    """Where the night's files are, a query that reads them, and how to go on with data of one's own."""
    from batch.store.layout import report_of
    from batch.store.places import open_target
    from sdk.bundles.bundle import load

    bundle, target = load(bundle_path), open_target(out)
    place, report = target.describe(_latest_night(target)), report_of(str(target.latest()))
    users, has_names = bundle.encoded_users.known_ids[:1].tolist(), "title" in bundle.items.column_names
    joined = f"JOIN '{bundle_path}/items.parquet' USING (item_id) " if has_names else ""
    yield f"files: {place}/user_items/*.parquet and item_items/*.parquet, one row a rank"
    yield from [f"report: {target.describe(report)}"] if target.read(report) is not None else []
    yield "one user's list, in DuckDB:"
    yield f"  SELECT rank, {'title' if has_names else 'item_id'}, score FROM '{place}/user_items/*.parquet'"
    yield f"  {joined}WHERE user_id = {_as_sql(users[0] if users else 0)} ORDER BY rank LIMIT 5;"
    if bundle.info.data["name"] == "ml-sample":
        yield "next, with data of your own (docs/your_data.md):"
        yield "  python -m sdk inspect plays.parquet catalogue.parquet --out dataset.toml"
        yield "  python -m sdk train --dataset dataset.toml --out own-bundle"
    else:
        yield "next, how good they are, and the same lists for live requests (docs/serving.md):"
        yield f"  python -m sdk evaluate --bundle {bundle_path}"
        yield f"  python -m export --bundle {bundle_path} --out repository"


def _as_sql(asked: Id) -> str:
    return str(asked) if isinstance(asked, int) else "'{}'".format(asked.replace("'", "''"))


def taste(
    bundle_path: Path,
    out: str | Path,
    *,
    num_users: int = 3,
    num_items: int = 3,
    k: int = 5,
    new_items: Path | None = None,
) -> str:
    """The latest night's first lists as text: users spread over the ids, and the most rated items.

    Args:
        bundle_path: the bundle that the night came from.
        out: where nights are published: a folder or a URL.
        num_users: how many users.
        num_items: how many items.
        k: how many entries of each list.
        new_items: the items that the night was given beside the bundle's, which are shown by name, too.

    Raises:
        UsageError: a number is negative.
        BundleError: the bundle cannot be read.
        OutputError: no night is published in ``out``, or it cannot be read.
    """
    import numpy as np

    from batch.job.newer import with_new_items
    from batch.page.item_names import item_names
    from batch.store.layout import ITEM_ITEMS, LAYOUTS, USER_ITEMS
    from batch.store.places import open_target
    from sdk.base.schema import with_ids
    from sdk.bundles.bundle import load
    from sdk.features.tables import FIRST_KNOWN

    for option, value in (("users", num_users), ("items", num_items), ("k", k)):
        if value < 0:
            raise UsageError(f"--{option}: got {value}, expected at least 0")
    bundle, target = with_new_items(load(bundle_path), new_items), open_target(out)
    night, users = _latest_night(target), bundle.encoded_users.known_ids
    picked = users[np.linspace(0, len(users) - 1, min(num_users, len(users))).astype(np.int64)].tolist()
    rated = bundle.encoded_items.statistics.count[FIRST_KNOWN:]
    items = bundle.encoded_items.known_ids[np.argsort(-rated, kind="stable")[:num_items]].tolist()
    heads = {USER_ITEMS: {user: f"user {user}:" for user in picked}}
    heads[ITEM_ITEMS] = {item: f"like {title}:" for item, title in zip(items, item_names(bundle, items), strict=True)}
    lines = [f"published: {target.describe(night)}", ""]
    for side, asked in heads.items():
        answers = bundle.encoded_items.ids
        layout = with_ids(LAYOUTS[side], users if side == USER_ITEMS else answers, answers)
        lists = _lists(target, f"{night}/{side}", layout, list(asked), k)
        for one, head in asked.items():
            reason = partial(_reason, bundle, side == USER_ITEMS, one)
            lines += [head, *_entries(lists[one], bundle, k, reason)]
    return "\n".join(map(one_line, lines))


def _latest_night(target: Target) -> str:
    """The folder of the night that readers use.

    Raises:
        OutputError: there is none.
    """
    from batch.store.layout import LATEST, night_of

    try:
        date = target.latest()
        if target.is_complete(date):
            return night_of(str(date))
    except OSError as error:
        raise _unreadable(target.location, error) from error
    problem = f"{LATEST} is missing or damaged" if date is None else f"{LATEST} names {date}, which is not complete"
    raise OutputError(f"{target.location}: no night is published there ({problem}). Run python -m batch.score.")


def _lists(target: Target, folder: str, layout: pa.Schema, wanted: Sequence[Id], k: int) -> dict[Id, list[Id]]:
    """Id -> its first k answers, best first; of each part no more is read than its statistics call for.

    Raises:
        OutputError: a part cannot be read.
    """
    import pyarrow as pa
    import pyarrow.dataset as ds
    from fsspec.core import url_to_fs

    query, answer, place = layout.names[0], layout.names[2], target.describe(folder)
    try:
        store, path = url_to_fs(place)
        condition = ds.field(query).isin(pa.array(wanted, layout.field(query).type)) & (ds.field("rank") <= k)
        parts = ds.dataset(path, schema=layout, filesystem=store, format="parquet")
        rows = parts.to_table(columns=[query, "rank", answer], filter=condition)
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(place, error) from error
    found: dict[Id, list[Id]] = {one: [] for one in wanted}
    for row in rows.sort_by("rank").to_pylist():
        found[row[query]].append(row[answer])
    return found


def _unreadable(where: str, error: Exception) -> OutputError:
    return OutputError(f"{where}: cannot be read ({error}). Check it with python -m batch.score --out OUT --verify.")


def _entries(item_ids: Sequence[Id], bundle: Bundle, k: int, reason: Callable[[Id], str]) -> list[str]:
    if k and not item_ids:
        return ["  no list: none was asked for, or no item is left to list", ""]
    from batch.page.item_names import item_names

    why = [f"  1 because: {said}" for said in map(reason, item_ids[:1]) if said]
    return [f"  {rank}. {name}" for rank, name in enumerate(item_names(bundle, item_ids), 1)] + [*why, ""]


def _reason(bundle: Bundle, is_user: bool, asked: Id, first: Id) -> str:
    """Why the first item stands in a list, by what the bundle knows; nothing of what is newer than it."""
    try:
        if is_user:
            (why,) = bundle.explain_recommendation(asked, [first])
            return why.describe(max_titles=1)
        return bundle.explain(asked, first).describe(max_fields=2, max_tokens=2)
    except MarqueeError:
        return ""


if __name__ == "__main__":
    sys.exit(main())
