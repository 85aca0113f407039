"""python -m batch: the commands of this package by their names; each has a module of its own, too."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from batch import report, score, taste
from sdk.shell.console import parser_of, run_one_of
from sdk.shell.parser import CommandParser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is returned."""
    return run_one_of(build_parser(), list(sys.argv[1:] if argv is None else argv))


def build_parser() -> CommandParser:
    """The command line."""
    summary = "Make nights of a bundle: lists for every user and every title, in Parquet."
    example = "python -m batch.score --bundle bundle --out nightly --run-date 2026-11-23"
    return parser_of("python -m batch", summary, example, [score.add, taste.add, report.add])


if __name__ == "__main__":
    sys.exit(main())
