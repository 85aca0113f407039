"""python -m batch.report: a night's HTML report, written again from what is published."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from batch.job.job import Job, check_date
from sdk.base.errors import OutputError
from sdk.shell.cli import add_bundle, add_fields, new_parser, run_command
from sdk.shell.parser import CommandParser
from sdk.shell.terminal import say


def add(commands: Any) -> None:
    """The command as one of ``marquee``'s and of ``python -m batch``'s."""
    build_parser(commands.add_parser, "report")


def build_parser(make: Callable[..., Any] = CommandParser, name: str = "python -m batch.report") -> CommandParser:
    """The command line."""
    summary, where = "write the HTML report of a published night again", "It is OUT/reports/run_date=YYYY-MM-DD.html."
    example = "python -m batch.report --bundle bundle --out nightly"
    parser = new_parser(make, name, summary, example, where, work=_report)
    add_bundle(parser, required=True, default=None, help="the bundle the night came from")
    add_fields(parser.group("required"), Job, "out")
    parser.group("common").add_argument("--run-date", metavar="YYYY-MM-DD", help="the night; the latest unless given")
    add_fields(
        parser.group("common"), Job, "new_items", help="the table that the night was given, for its items' names"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the exit code is returned."""
    args = build_parser().parse_args(argv)
    return run_command(args.work, args)


def _report(args: argparse.Namespace) -> int:
    say(rebuild(args.bundle, args.out, args.run_date, args.new_items))
    return 0


def rebuild(bundle_path: Path, out: str | Path, run_date: str | None = None, new_items: Path | None = None) -> str:
    """Write a published night's report again.

    Args:
        bundle_path: the bundle that the night came from; its items are shown by name.
        out: where nights are published.
        run_date: the night; None takes the latest.
        new_items: the items that the night was given beside the bundle's, which are shown by name, too.

    Returns:
        Where the report lies.

    Raises:
        UsageError: ``run_date`` is no date.
        BundleError: the bundle cannot be read.
        OutputError: there is no such night, or the report cannot be written.
    """
    from batch.job.newer import with_new_items
    from batch.page.report_page import published_night, write_report
    from batch.store.places import open_target
    from batch.store.target import write_failed
    from sdk.bundles.bundle import load

    if run_date is not None:
        check_date(run_date, "--run-date")
    target, bundle = open_target(out), with_new_items(load(bundle_path), new_items)
    try:
        return write_report(published_night(target, run_date or target.latest(), bundle))
    except OSError as error:
        raise write_failed(out, error) from error
    except (TypeError, KeyError, ValueError, AttributeError, IndexError) as error:
        problem = f"the manifest or the run record of this night is not of this release ({error!r})"
        raise OutputError(f"{target.location}: {problem}. Write the night again with --force.") from error


if __name__ == "__main__":
    sys.exit(main())
