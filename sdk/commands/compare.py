"""python -m sdk compare."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from sdk.base.config import RunConfig
from sdk.base.errors import UsageError
from sdk.commands.datasets import add_dataset, read_dataset
from sdk.commands.options import new_command
from sdk.shell.cli import between, path_argument, seed_number
from sdk.shell.terminal import show_markdown


def add(commands: Any) -> None:
    """The command's options."""
    parser = new_command(
        commands, "compare", _compare, "measure the field's baselines beside our models, on the same splits",
        "python -m sdk compare --movielens ml-latest-small.zip --tmdb tmdb-5000 --out comparison",
    )  # fmt: skip
    add_dataset(parser)
    parser.add_argument(
        "--protocols", default="A,B,C", help="A: AUC of single ratings; B: lists; C: lists by time; joined by commas"
    )
    parser.add_argument("--seeds", default="42,43,44", help="of the splits of A and B, joined by commas")
    parser.add_argument(
        "--budget", type=between(1, 10**6), default=12, help="settings that each peer may try, per split"
    )
    parser.add_argument(
        "--out", type=path_argument, default=Path("comparison"), metavar="DIR",
        help="folder for the tables, the charts and every finished result; a killed run goes on from there",
    )  # fmt: skip
    parser.add_argument(
        "--into",
        type=path_argument,
        metavar="PAGE",
        help="also write the tables between the marker lines of a Markdown page",
    )
    parser.add_argument("--quick", action="store_true", help="a trial with tiny budgets, not to be quoted")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the tables")


def _compare(args: argparse.Namespace) -> int:
    from sdk.lab.comparison.page import Rendered, check_page, write, write_into
    from sdk.lab.comparison.run import CompareConfig, compare

    config = CompareConfig(
        protocols=_protocols(args.protocols),
        seeds=tuple(_seed(seed) for seed in _listed(args.seeds)),
        budget=args.budget,
        quick=args.quick,
    )
    if args.into is not None:
        check_page(args.into)
    rendered = Rendered.of(compare(read_dataset(args, RunConfig()), config, args.out))
    write(rendered, args.out)
    if args.into is not None:
        write_into(rendered, args.into)
    if args.json:
        print(rendered.json, end="")
    else:
        show_markdown(rendered.markdown)
    return 0


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _protocols(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.upper() for name in _listed(text)))
    if not names or not set(names) <= {"A", "B", "C"}:
        message = f"--protocols: got {text!r}, expected one or more of A, B, C, joined by commas"
        raise UsageError(message)
    return names


def _seed(text: str) -> int:
    try:
        return seed_number(text)
    except argparse.ArgumentTypeError as error:
        message = f"--seeds: {error}, joined by commas"
        raise UsageError(message) from error
