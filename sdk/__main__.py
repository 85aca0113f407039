"""python -m sdk: one command per module of sdk.commands. Results on stdout, everything else on stderr."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from sdk.base import __version__
from sdk.commands import compare, doctor, download, evaluate, recommend, similar, train, tune
from sdk.shell.cli import EXIT_CODES, CommandParser, HelpFormatter, add_completion_option, run_command

COMMANDS = (download, train, tune, evaluate, similar, recommend, doctor, compare)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is returned."""
    args = build_parser().parse_args(argv)
    return run_command(args.work, args)


def build_parser() -> argparse.ArgumentParser:
    """The command line, with one real example per command."""
    parser = CommandParser(
        prog="python -m sdk",
        description="Learn from ratings and titles, and ask what was learnt.",
        epilog="example:\n  python -m sdk train --sample --out bundle\n\n" + EXIT_CODES,
        formatter_class=HelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"marquee {__version__}")
    add_completion_option(parser)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
