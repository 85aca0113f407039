"""The whole day in one command: retrain where data are new, check a Triton server against the SDK, score, publish.

A step that fails ends it with its exit code; what was published stays. Started again, it goes on where it stopped.
"""

import argparse
import logging
import sys

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


def main(args: argparse.Namespace) -> int:
    """One day."""
    bundle, repository, config = args.home / "bundle", args.home / "repository", sdk.RunConfig()
    args.home.mkdir(parents=True, exist_ok=True)
    data = sdk.dataset(args.dataset) if args.dataset else sdk.load_movielens(args.movielens, tmdb=args.tmdb)
    if is_new := not is_up_to_date(bundle, data, config):
        sdk.train(data, config, bundle, force=True)
    if args.triton and (is_new or not repository.exists()):
        export_repository(bundle, repository, ExportOptions())
        with TritonServer(repository, ServerOptions()) as server:  # a real one on loopback, for as long as this takes
            report = verify(repository, bundle, server.http_url.removeprefix("http://"))
        logging.getLogger("batch.daily").info("Triton agrees with the SDK: %s", report)
    night = run(Job(bundle=bundle, out=args.home / "nightly", run_date=args.run_date, k=args.k))
    print(f"{night.night}: {night.status}, {night.user_rows:,} rows for users, {night.item_rows:,} for items")
    return 0


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    name, what = "python examples/daily_loop.py", (__doc__ or "").splitlines()[0].removesuffix(".")
    example = f"{name} --dataset shop.toml --home marquee --run-date $(date +%F)"
    parser = new_parser(CommandParser, name, what, example)
    required, common = parser.group("required"), parser.group("common")
    data = required.add_mutually_exclusive_group(required=True)
    data.add_argument("--dataset", type=path_argument, metavar="FILE.toml", help="your tables, described by inspect")
    data.add_argument("--movielens", type=path_argument, metavar="DIR|ZIP", help="or MovieLens, as it is today")
    required.add_argument("--home", type=path_argument, required=True, help="what is kept from day to day")
    required.add_argument("--run-date", required=True, metavar="YYYY-MM-DD", help="the night")
    common.add_argument("--tmdb", type=path_argument, metavar="DIR", help="TMDB 5000's two files")
    common.add_argument("--k", type=whole_number, default=100, metavar="N", help="list length")
    common.add_argument("--no-triton", dest="triton", action="store_false", help="leave export and check out")
    return parser


if __name__ == "__main__":
    sys.exit(run_command(main, build_parser().parse_args()))
