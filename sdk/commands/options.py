"""What the commands share: a parser with an example and the exit codes, and the option that names a bundle."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from sdk.shell.cli import EXIT_CODES, HelpFormatter, add_logging_options, path_argument


def new_command(commands: Any, name: str, work: Any, summary: str, example: str) -> argparse.ArgumentParser:
    """A command's parser; ``work`` does it and returns the exit code, ``example`` is a real command line."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog=f"example:\n  {example}\n\n{EXIT_CODES}",
        formatter_class=HelpFormatter,
    )
    parser.set_defaults(work=work)
    add_logging_options(parser, outermost=False)
    return parser


def add_bundle(parser: argparse.ArgumentParser) -> None:
    """``--bundle``, the same in every command."""
    parser.add_argument(
        "--bundle", type=path_argument, default=Path("bundle"), metavar="BUNDLE", help="a trained bundle"
    )
