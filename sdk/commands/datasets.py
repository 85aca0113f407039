"""What the commands that read a data set share: its options, and the run's configuration from a file."""

from __future__ import annotations

import argparse
import json
import logging
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from sdk.base.config import RunConfig, from_json
from sdk.base.errors import MarqueeError, UsageError
from sdk.base.rights import reason
from sdk.shell.cli import joined, path_argument, table_argument
from sdk.shell.parser import CommandParser

if TYPE_CHECKING:
    from sdk.base.types import Dataset

log = logging.getLogger(__name__)
T = TypeVar("T")
_BESIDE = ("items", "users", "columns", "events", "seen")
"""Options that go with --interactions alone."""


def add_dataset(parser: CommandParser) -> None:
    """``--movielens``, ``--interactions``, ``--dataset`` or ``--sample``, and what goes with each."""
    source = parser.group("required").add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--movielens",
        type=path_argument,
        metavar="DIR|ZIP",
        help="ratings and titles: MovieLens in any published form, or The Movies Dataset",
    )
    source.add_argument(
        "--interactions", **TABLE,
        help="or anybody's plays, purchases, clicks or ratings: Parquet, CSV, JSON lines, Arrow, a folder of parts, a "
        "URL, or a query duckdb:SELECT …",
    )  # fmt: skip
    source.add_argument(
        "--dataset", type=path_argument, metavar="FILE.toml", help="or a description that the command inspect wrote"
    )
    source.add_argument(
        "--sample", action="store_true", help="or the sample that comes with Marquee: simulated ratings"
    )
    add_tables(parser)
    parser.group("common").add_argument(
        "--tmdb",
        type=path_argument,
        metavar="DIR|ZIP",
        help="TMDB 5000's files or The Movies Dataset's, joined by links.csv or else by title and year "
        "(default: such files beside the ratings)",
    )


def add_tables(parser: CommandParser) -> None:
    """What goes with ``--interactions``: further tables, and what is in them."""
    common = parser.group("common")
    common.add_argument("--items", **TABLE, help="with --interactions: the catalogue, with any columns")
    common.add_argument("--users", **TABLE, help="with --interactions: what is known of users, with any columns")
    add_reading(common)
    common.add_argument(
        "--seen", type=joined(str, "events"), metavar="EVENTS",
        help="events that take an item out of the user's lists, joined by commas: purchase (default: all do)",
    )  # fmt: skip


def add_reading(group: Any, when: str = "") -> None:
    """``--columns`` and ``--events``: how a table of interactions is read."""
    group.add_argument(
        "--columns", type=named(str), metavar="NAME=COLUMN,…",
        help=f"{when}which column is what, where its name does not say so: user_id=customer,item_id=sku; the names are "
        "user_id, item_id, rating, weight, event and timestamp",
    )  # fmt: skip
    group.add_argument(
        "--events", type=named(float), metavar="EVENT=WEIGHT,…",
        help=f"{when}which events count, and how much: purchase=1,view=0.2 (default: all, 1 each)",
    )  # fmt: skip


TABLE: dict[str, Any] = {"type": table_argument, "nargs": "+", "metavar": "TABLE"}
"""What an option is like that takes tables."""


def named(read: Callable[[str], T]) -> Callable[[str], dict[str, T]]:
    """The ``type`` of an option that takes pairs such as ``purchase=1,view=0.2``."""

    def parse(text: str) -> dict[str, T]:
        found: dict[str, T] = {}
        for part in filter(None, (part.strip() for part in text.split(","))):
            name, is_pair, value = part.partition("=")
            try:
                if not is_pair or not name.strip():
                    raise ValueError(part)
                found[name.strip()] = read(value.strip())
            except ValueError as error:
                expected = "a number" if read is float else "a value"
                message = f"got {part[:60]!r}, expected NAME= and {expected}, pairs joined by commas"
                raise argparse.ArgumentTypeError(message) from error
        if not found:
            message = f"got {text[:60]!r}, expected pairs such as NAME=VALUE, joined by commas"
            raise argparse.ArgumentTypeError(message)
        return found

    return parse


def read_dataset(args: argparse.Namespace, config: RunConfig) -> Dataset:
    """The data set that the options name.

    Raises:
        UsageError: an option is given with another that it does not go with, or makes nothing a like.
        DataError: the data cannot be used.
    """
    _require_fitting(args)
    if args.dataset is not None or args.interactions is not None:
        return _any_dataset(args, config)
    from sdk.data.labels import require_likes
    from sdk.data.movielens import load

    require_likes(config, config.data.rating_min, config.data.rating_max, "MovieLens")
    if not args.sample:
        return load(args.movielens, tmdb=args.tmdb, config=config.data)
    from sdk.data.sample.writer import write_sample

    with tempfile.TemporaryDirectory(prefix="marquee-sample-") as folder:
        movielens, tmdb = write_sample(Path(folder))
        return load(movielens, tmdb=tmdb, config=config.data)


def _any_dataset(args: argparse.Namespace, config: RunConfig) -> Dataset:
    from sdk.data.catalogue import dataset
    from sdk.data.inspection import understood

    tables = (args.interactions, args.items, args.users)
    given = {"columns": args.columns, "events": args.events, "seen": args.seen}
    found = dataset(args.dataset or tables[0], *tables[1:], **given, config=config.data)
    for line in understood(found):
        log.info("%s", line)
    return found


def _require_fitting(args: argparse.Namespace) -> None:
    if args.sample and args.tmdb is not None:
        message = "--tmdb: the sample brings its own titles; leave the option out, or give --movielens"
        raise UsageError(message)
    if args.tmdb is not None and args.movielens is None:
        message = "--tmdb: goes with --movielens; give what is known of your items as a table: --items"
        raise UsageError(message)
    if args.interactions is None and (given := [name for name in _BESIDE if getattr(args, name) is not None]):
        where = "dataset.toml says it" if args.dataset is not None else "give --interactions"
        raise UsageError(f"--{given[0]}: goes with --interactions; leave the option out ({where})")


def add_config(parser: CommandParser) -> None:
    """``--config``, the same in every command."""
    parser.group("advanced").add_argument(
        "--config", type=path_argument, metavar="FILE.json", help="settings to start from, such as tune's best.json"
    )


def read_config(path: Path | None) -> RunConfig:
    """The RunConfig in a JSON file; fields that it leaves out take their defaults, and so does no file at all.

    Raises:
        PermissionError: this account may not read the file.
        UsageError: the file cannot be read, is not JSON, or has an unknown field or a value out of its range.
    """
    if path is None:
        return RunConfig()
    try:
        values = json.loads(path.read_text("utf-8"))
        if not isinstance(values, dict):
            raise TypeError(f"a JSON {type(values).__name__} where an object was expected")
        return from_json(RunConfig, values)
    except PermissionError:
        raise  # an input that this account may not read: the command says so
    except (OSError, ValueError, TypeError, AttributeError, RecursionError, MarqueeError) as error:
        message = (
            f"{path}: not a run's configuration ({reason(error)}). Give a file such as the best.json that tune writes."
        )
        raise UsageError(message) from error
