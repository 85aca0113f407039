"""What the commands that read a data set share: its options, and the run's configuration from a file."""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from sdk.base.config import RunConfig, from_json
from sdk.base.errors import MarqueeError, UsageError
from sdk.base.rights import reason
from sdk.shell.cli import path_argument
from sdk.shell.parser import CommandParser

if TYPE_CHECKING:
    from sdk.base.types import Dataset


def add_dataset(parser: CommandParser) -> None:
    """``--movielens`` or ``--sample``, and ``--tmdb``."""
    source = parser.group("required").add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--movielens",
        type=path_argument,
        metavar="DIR|ZIP",
        help="ratings and titles: MovieLens in any published form, or The Movies Dataset",
    )
    source.add_argument(
        "--sample", action="store_true", help="or the sample that comes with Marquee: simulated ratings"
    )
    parser.group("common").add_argument(
        "--tmdb",
        type=path_argument,
        metavar="DIR|ZIP",
        help="TMDB 5000's files or The Movies Dataset's, joined by links.csv or else by title and year "
        "(default: such files beside the ratings)",
    )


def read_dataset(args: argparse.Namespace, config: RunConfig) -> Dataset:
    """The data set that the options name.

    Raises:
        UsageError: ``--tmdb`` is given with ``--sample``.
        DataError: the data cannot be used.
    """
    from sdk.data.movielens import load

    if not args.sample:
        return load(args.movielens, tmdb=args.tmdb, config=config.data)
    if args.tmdb is not None:
        message = "--tmdb: the sample brings its own titles; leave the option out, or give --movielens"
        raise UsageError(message)
    from sdk.data.sample.writer import write_sample

    with tempfile.TemporaryDirectory(prefix="marquee-sample-") as folder:
        movielens, tmdb = write_sample(Path(folder))
        return load(movielens, tmdb=tmdb, config=config.data)


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
