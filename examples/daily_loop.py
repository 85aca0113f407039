"""The whole day in one command: retrain where data are new, check a Triton server against the SDK, score, publish.

    python examples/daily_loop.py --movielens ml-25m.zip --tmdb tmdb-5000 --home marquee --run-date 2026-11-23

HOME/bundle, HOME/repository and HOME/nightly are kept from day to day. Each step that fails ends the loop with its exit
code, and what was published before stays as it was. Started again, it goes on where it stopped.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

import sdk
from batch.job import Job
from batch.run import run
from export.options import ExportOptions
from export.repository import export_repository
from export.server import ServerOptions, TritonServer
from export.verify import verify
from sdk.shell.cli import new_parser, path_argument, run_command, whole_number
from sdk.shell.parser import CommandParser
from sdk.training.freshness import is_up_to_date

log = logging.getLogger("batch.daily")


def train_if_new(movielens: Path, tmdb: Path | None, bundle: Path, config: sdk.RunConfig) -> bool:
    """Replace the bundle where data, configuration or release are new; whether it was."""
    dataset = sdk.load_movielens(movielens, tmdb=tmdb)
    if is_up_to_date(bundle, dataset, config):
        return False
    sdk.train(dataset, config, bundle, force=True)
    return True


def export_and_verify(bundle: Path, repository: Path) -> None:
    """Write the next version, load it into a real server on loopback, and compare its answers with the SDK's."""
    export_repository(bundle, repository, ExportOptions())
    with TritonServer(repository, ServerOptions()) as server:
        report = verify(repository, bundle, server.http_url.removeprefix("http://"))
    log.info("Triton agrees with the SDK: %s", report)


def main(args: argparse.Namespace) -> int:
    """One day."""
    bundle, repository = args.home / "bundle", args.home / "repository"
    args.home.mkdir(parents=True, exist_ok=True)
    is_new = train_if_new(args.movielens, args.tmdb, bundle, sdk.RunConfig())
    if args.triton and (is_new or not repository.exists()):
        export_and_verify(bundle, repository)
    night = run(Job(bundle=bundle, out=args.home / "nightly", run_date=args.run_date, k=args.k))
    print(f"{night.night}: {night.status}, {night.user_rows:,} rows for users, {night.item_rows:,} for titles")
    return 0


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = new_parser(
        CommandParser,
        "python examples/daily_loop.py",
        (__doc__ or "").splitlines()[0].removesuffix("."),
        "python examples/daily_loop.py --movielens ratings.zip --home /srv/marquee --run-date $(date +%F)",
    )
    required, common = parser.group("required"), parser.group("common")
    required.add_argument(
        "--movielens", type=path_argument, required=True, metavar="DIR|ZIP", help="the ratings as they are today"
    )
    required.add_argument(
        "--home", type=path_argument, required=True, metavar="HOME", help="what is kept from day to day"
    )
    required.add_argument("--run-date", required=True, metavar="YYYY-MM-DD", help="the night")
    common.add_argument("--tmdb", type=path_argument, metavar="DIR", help="TMDB 5000's two files")
    common.add_argument("--k", type=whole_number, default=100, metavar="N", help="list length")
    common.add_argument("--no-triton", dest="triton", action="store_false", help="leave export and check out")
    return parser


if __name__ == "__main__":
    sys.exit(run_command(main, build_parser().parse_args()))
