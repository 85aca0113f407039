"""python -m sdk: one command per module of sdk.commands. Results on stdout, everything else on stderr."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from sdk.commands import compare, doctor, download, evaluate, inspect, judge, recommend, similar, train, tune
from sdk.shell.cli import run_command
from sdk.shell.console import parser_of

COMMANDS = (inspect, train, similar, recommend, evaluate, judge, compare, tune, download, doctor)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is returned."""
    args = build_parser().parse_args(argv)
    return run_command(args.work, args)


def build_parser() -> argparse.ArgumentParser:
    """The command line, with one real example per command."""
    summary = "Learn from interactions and items, and ask what was learnt."
    example = "python -m sdk train --sample --out bundle"
    return parser_of("python -m sdk", summary, example, [command.add for command in COMMANDS])


if __name__ == "__main__":
    sys.exit(main())
