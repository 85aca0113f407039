"""python -m sdk compare."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from sdk.base.config import RunConfig
from sdk.commands.datasets import add_dataset, read_dataset
from sdk.shell.cli import between, joined, made_of, new_parser, path_argument, seed_number
from sdk.shell.terminal import show_markdown


def add(commands: Any) -> None:
    """The command's options."""
    parser = new_parser(
        commands.add_parser, "compare", "measure the field's baselines beside our models",
        "python -m sdk compare --movielens ml-latest-small.zip --tmdb tmdb-5000",
        "All are trained and measured on the same splits.", work=_compare,
    )  # fmt: skip
    add_dataset(parser)
    common, advanced = parser.group("common"), parser.group("advanced")
    protocols, seeds = joined(_protocol, "one or more of A, B, C"), joined(seed_number, "seeds from 0 to 4294967295")
    advanced.add_argument(
        "--protocols", type=protocols, metavar="LETTERS",
        help="A: AUC of single ratings; B: lists; C: lists by time; joined by commas (default: all that the data have)",
    )  # fmt: skip
    advanced.add_argument(
        "--seeds", type=seeds, default="42,43,44", metavar="SEEDS", help="of the splits of A and B, joined by commas"
    )
    budget_help = "settings that each peer may try, per split"
    advanced.add_argument("--budget", type=between(1, 10**6), default=12, metavar="N", help=budget_help)
    advanced.add_argument(
        "--models", type=joined(str, "models"), default=",".join(RunConfig().models), metavar="NAMES",
        help="what ours are trained with, joined by commas",
    )  # fmt: skip
    extras_help = "peers of B that take long as well: EDLAE, SLIM and Mult-VAE"
    advanced.add_argument("--extras", action="store_true", help=extras_help)
    common.add_argument("--quick", action="store_true", help="a trial with tiny budgets, not to be quoted")
    common.add_argument(
        "--out", type=path_argument, default=Path("comparison"), metavar="DIR",
        help="folder for the tables, the charts and every finished result; a killed run goes on from there",
    )  # fmt: skip
    into_help = "also write the tables between the marker lines of a Markdown page"
    advanced.add_argument("--into", type=path_argument, metavar="PAGE", help=into_help)
    common.add_argument("--json", action="store_true", help="print JSON instead of the tables")


def _compare(args: argparse.Namespace) -> int:
    from sdk.lab.comparison.page import Rendered, write
    from sdk.lab.comparison.run import CompareConfig, compare
    from sdk.measure.marked_page import check_page, write_into

    if args.into is not None:
        check_page(args.into, "compare")
    config = made_of(CompareConfig, args)
    rendered = Rendered.of(compare(read_dataset(args, RunConfig()), config, args.out))
    write(rendered, args.out)
    if args.into is not None:
        write_into(args.into, "compare", rendered.page.rstrip(), rendered.charts)
    if args.json:
        print(rendered.json, end="")
    else:
        show_markdown(rendered.markdown)
    return 0


def _protocol(text: str) -> str:
    if text.upper() not in ("A", "B", "C"):
        raise argparse.ArgumentTypeError
    return text.upper()
