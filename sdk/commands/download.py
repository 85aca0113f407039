"""python -m sdk download."""

from __future__ import annotations

import argparse
from typing import Any

from sdk.shell.cli import new_parser, path_argument
from sdk.shell.terminal import say


def add(commands: Any) -> None:
    """The command's options."""
    parser = new_parser(
        commands.add_parser, "download", "fetch a public data set and check its published checksum",
        "python -m sdk download ml-25m --to data --extract", "One that was stopped is resumed.", work=_download,
    )  # fmt: skip
    required, known = (
        parser.group("required"),
        "ml-100k, ml-1m, ml-10m, ml-20m, ml-25m, ml-32m, ml-latest or ml-latest-small",
    )
    required.add_argument("name", metavar="NAME", help=known)
    required.add_argument("--to", type=path_argument, required=True, metavar="DIR", help="folder to put the zip in")
    parser.group("common").add_argument("--extract", action="store_true", help="unpack it beside the zip as well")


def _download(args: argparse.Namespace) -> int:
    from sdk.data.download import download

    say(str(download(args.name, args.to, extract=args.extract)))
    return 0
