"""python -m sdk evaluate."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from sdk.commands.options import add_bundle, new_command
from sdk.errors import UsageError
from sdk.terminal import show


def add(commands: Any) -> None:
    """The command's options."""
    parser = new_command(
        commands, "evaluate", _evaluate, "measure a bundle's models and lists on the test part that training never saw",
        "python -m sdk evaluate --bundle bundle --reports evaluation",
    )  # fmt: skip
    parser.set_defaults(only_prints=True)
    add_bundle(parser)
    parser.add_argument("--json", action="store_true", help="print JSON, which holds every figure, instead of tables")
    parser.add_argument(
        "--reports", type=Path, metavar="DIR", help="write evaluation.json, evaluation.md and charts there"
    )
    parser.add_argument(
        "--samples", type=int, default=1000, help="resamplings of the users behind each interval; 0 for no intervals"
    )
    parser.add_argument(
        "--max-list-users", type=int, default=20_000, help="of more users with a held-out like, measure a seeded sample"
    )


def _evaluate(args: argparse.Namespace) -> int:
    from sdk.bundle import load
    from sdk.evaluation import evaluate_bundle
    from sdk.evaluation_report import as_pages, as_text, as_values, write_evaluation

    for option, least in (("samples", 0), ("max_list_users", 1)):
        if getattr(args, option) < least:
            raise UsageError(f"--{option.replace('_', '-')}: got {getattr(args, option)}, expected at least {least}")
    evaluation = evaluate_bundle(load(args.bundle), samples=args.samples, max_list_users=args.max_list_users)
    if args.json:
        print(json.dumps(as_values(evaluation), allow_nan=False))
    else:
        show(as_text(evaluation), lambda: as_pages(evaluation))
    if args.reports is not None:
        write_evaluation(args.reports, evaluation)
    return 0
