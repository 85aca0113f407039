"""python -m batch.report: a night's HTML report, written again from what is published."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from sdk.base.errors import OutputError
from sdk.shell.cli import (
    EXIT_CODES,
    CommandParser,
    HelpFormatter,
    add_logging_options,
    location_argument,
    path_argument,
    run_command,
)
from sdk.shell.terminal import say


def build_parser() -> CommandParser:
    """The command line."""
    parser = CommandParser(
        prog="python -m batch.report",
        description="Write the HTML report of a published night again, to OUT/reports/run_date=YYYY-MM-DD.html.",
        epilog=f"example:\n  python -m batch.report --bundle bundle --out nightly\n\n{EXIT_CODES}",
        formatter_class=HelpFormatter,
    )
    parser.add_argument(
        "--bundle", type=path_argument, required=True, metavar="BUNDLE", help="the bundle the night came from"
    )
    out = "where nights are published: a folder or a URL"
    parser.add_argument("--out", type=location_argument, required=True, metavar="OUT", help=out)
    parser.add_argument("--run-date", metavar="YYYY-MM-DD", help="the night; the latest unless given")
    add_logging_options(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the exit code is returned."""
    return run_command(_report, build_parser().parse_args(argv))


def _report(args: argparse.Namespace) -> int:
    say(rebuild(args.bundle, args.out, args.run_date))
    return 0


def rebuild(bundle_path: Path, out: str | Path, run_date: str | None = None) -> str:
    """Write a published night's report again.

    Args:
        bundle_path: the bundle that the night came from; its titles are shown.
        out: where nights are published.
        run_date: the night; None takes the latest.

    Returns:
        Where the report lies.

    Raises:
        UsageError: ``run_date`` is no date.
        BundleError: the bundle cannot be read.
        OutputError: there is no such night, or the report cannot be written.
    """
    from batch.job.job import check_date
    from batch.page.report_page import published_night, write_report
    from batch.store.places import open_target
    from batch.store.target import write_failed
    from sdk.bundles.bundle import load

    if run_date is not None:
        check_date(run_date, "--run-date")
    target = open_target(out)
    try:
        return write_report(published_night(target, run_date or target.latest(), load(bundle_path)))
    except OSError as error:
        raise write_failed(out, error) from error
    except (TypeError, KeyError, ValueError, AttributeError, IndexError) as error:
        message = f"{target.location}: the manifest or the run record of this night is not of this release ({error!r}). Write the night again with --force."  # noqa: E501
        raise OutputError(message) from error


if __name__ == "__main__":
    sys.exit(main())
