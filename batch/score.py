"""python -m batch.score: one night's lists, from a bundle to Parquet."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from batch.gates.config import GateConfig, read_config
from batch.job.job import Job, check_date
from batch.store.clock import check_not_ahead
from sdk.base.errors import UsageError
from sdk.machine.cluster import ClusterConfig
from sdk.machine.device import DEVICES
from sdk.shell.cli import (
    EXIT_CODES,
    CommandParser,
    HelpFormatter,
    add_cluster_options,
    add_logging_options,
    finite_number,
    location_argument,
    made_of,
    path_argument,
    run_command,
    whole_number,
)
from sdk.shell.terminal import say

if TYPE_CHECKING:
    from batch.run.observe import Watching

_EXAMPLE = """\
example:
  python -m batch.score --bundle bundle --out nightly --run-date 2026-11-23

writes OUT/run_date=YYYY-MM-DD/ with user_items/ and item_items/ in Parquet, manifest.json and _SUCCESS,
and names the night in OUT/LATEST. A run that was killed goes on where it stopped: give the same command again.

  python -m batch.score --bundle bundle --out nightly --run-date 2026-11-23 --ratings ratings.csv --deny withdrawn.txt
  python -m batch.score --bundle bundle --out nightly --backfill 2026-11-20 2026-11-23 --ratings ratings.csv
  python -m batch.score --out nightly --rollback             readers go back to the night before
  python -m batch.score --out nightly --rollback 2026-11-20  ... or to this one
  python -m batch.score --out nightly --rollback --hold      ... and stay there, until --release
  python -m batch.score --out nightly --verify               hash the latest night again
"""


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = CommandParser(
        prog="python -m batch.score",
        description="Write every user's and every title's list, exact over the whole catalogue, to Parquet.",
        epilog=f"{_EXAMPLE}\n{EXIT_CODES}",
        formatter_class=HelpFormatter,
    )
    parser.add_argument("--bundle", type=path_argument, metavar="BUNDLE", help="a trained bundle")
    parser.add_argument(
        "--out",
        type=location_argument,
        required=True,
        metavar="OUT",
        help="where nights are published: a folder, or a URL such as s3://bucket/nights",
    )
    parser.add_argument("--run-date", metavar="YYYY-MM-DD", help="the night; names its folder")
    parser.add_argument("--k", type=whole_number, default=100, help="list length")
    parser.add_argument("--model", default="best", help="dlrm, ncf, or best by validation AUC")
    parser.add_argument("--include-seen", action="store_true", help="list titles that the user has rated, too")
    parser.add_argument("--device", choices=DEVICES, default="auto", help="where to score")
    parser.add_argument(
        "--users-per-part", type=whole_number, default=8192, help="users in one Parquet file and in memory"
    )
    parser.add_argument("--threads", type=whole_number, metavar="N", help="cores to score on; all of them unless given")
    parser.add_argument(
        "--memory-mib", type=finite_number, metavar="MIB", help="most that the engine's buffers may take"
    )
    add_cluster_options(parser)
    parser.add_argument(
        "--keep",
        type=whole_number,
        metavar="N",
        help="nights that stay, with their reports and run records; all unless given",
    )
    parser.add_argument(
        "--gates", type=path_argument, metavar="FILE", help="JSON object of thresholds to change; docs/gates.md"
    )
    parser.add_argument(
        "--skip-gate", action="append", default=[], metavar="NAME",
        help="publish whatever this gate says, and note it in the manifest; may be given again",
    )  # fmt: skip
    parser.add_argument(
        "--force", action="store_true",
        help="write the night again though it is published, or though its date lies days ahead of the machine's",
    )  # fmt: skip
    _add_asked(parser)
    _add_other_work(parser)
    parser.add_argument("--no-report", action="store_true", help="write no HTML report to OUT/reports/")
    parser.add_argument(
        "--metrics-file", type=path_argument, metavar="FILE",
        help="write the run's figures for Prometheus' textfile collector; the name must end in .prom for it",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print one line of JSON on stdout")
    add_logging_options(parser)
    return parser


def _add_asked(parser: argparse.ArgumentParser) -> None:
    """What a night is asked for beside the bundle: see batch/job/inputs.py and docs/operations.md."""
    group = parser.add_argument_group("who and what", "files hold one id a line, or the named columns (CSV, Parquet)")
    files = {
        "ratings": "ratings newer than the bundle, in one of MovieLens' forms: a file, a folder or a zip",
        "users": "user_id: only these users get lists",
        "items": "item_id: only these titles get lists and audiences",
        "allow": "item_id: only these titles may be recommended",
        "deny": "item_id: these titles are recommended to nobody",
        "block": "user_id,item_id: what is not recommended to whom",
    }
    for name, says in files.items():
        group.add_argument(f"--{name}", type=path_argument, metavar="PATH" if name == "ratings" else "FILE", help=says)
    group.add_argument(
        "--audience", type=whole_number, metavar="N", help="list each title's N best users, too, in item_users/"
    )


def _add_other_work(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--backfill", nargs=2, metavar=("FROM", "TO"),
        help="score each night of these dates that is not published, instead of --run-date; of --ratings, those up to "
        "the end of each night's day (UTC) count",
    )  # fmt: skip
    parser.add_argument(
        "--hold", action="store_true",
        help="with --rollback: readers stay on that night whatever is published, until --release",
    )  # fmt: skip
    work = parser.add_mutually_exclusive_group()
    work.add_argument(
        "--dry-run", action="store_true", help="print the plan with estimated bytes and seconds, and stop"
    )
    work.add_argument(
        "--rollback", nargs="?", const="", metavar="YYYY-MM-DD",
        help="send readers back to this published night, or to the one before; needs --out only",
    )  # fmt: skip
    work.add_argument(
        "--release", action="store_true", help="end a --hold: the next later night moves readers on; needs --out only"
    )
    work.add_argument(
        "--verify", action="store_true",
        help="hash the published night --run-date (or the latest) again; needs --out only",
    )  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the exit code is returned."""
    return run_command(_score, build_parser().parse_args(argv))


def _score(args: argparse.Namespace) -> int:
    args.only_prints = args.dry_run
    for values in _work(args):
        if args.json:
            print(json.dumps(values), flush=True)
        elif args.backfill is not None:
            say(_line(values))
        else:
            said = {name: value for name, value in values.items() if not _says_nothing(value)}
            say(*(f"{name.replace('_', ' ')}: {_shown(value)}" for name, value in said.items()))
    return 0


def _line(values: Mapping[str, Any]) -> str:
    """One night of several, in one line."""
    said = [f"{values['run_date']}: {values['status']}"]
    said += [f"{values[name]:,} {name.replace('_', ' ')}" for name in _IN_A_LINE if values.get(name)]
    said += [f"but {values['not_latest']}"] if values.get("not_latest") else []
    return ", ".join(said)


_IN_A_LINE = ("user_rows", "item_rows", "audience_rows", "max_user_rows", "max_item_rows", "estimated_bytes")


def _work(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Do what is asked for, night by night, as the values to print."""
    if args.hold and args.rollback is None:
        message = "--hold: goes with --rollback, such as --rollback 2026-11-23 --hold for the night to stay on"
        raise UsageError(message)
    if args.rollback is not None or args.verify or args.release:
        yield _look_after_nights(args)
        return
    job = _job(args)
    from batch.run.night import dry_run
    from batch.run.observe import Watching, watched
    from batch.run.summary import summary

    watching = Watching(run_id=args.run_id, metrics_file=args.metrics_file, report=not args.no_report)
    if args.backfill is not None:
        yield from _backfill(args, job, watching)
    elif args.dry_run:
        planned, estimated = dry_run(job)
        yield summary(planned) | summary(estimated)
    else:
        yield summary(watched(job, watching))


def _job(args: argparse.Namespace) -> Job:
    if args.backfill is not None:
        if args.run_date is not None:
            message = "--run-date: not together with --backfill, which names the nights"
            raise UsageError(message)
        for date in args.backfill:
            check_date(date, "--backfill")
            check_not_ahead(date, "--backfill", force=args.force)
        args.run_date = args.backfill[0]
    for name in ("bundle", "run_date"):
        if getattr(args, name) is None:
            message = f"--{name.replace('_', '-')}: missing; see --help"
            raise UsageError(message)
    gates = GateConfig() if args.gates is None else read_config(args.gates)
    special: dict[str, Any] = {
        "gates": gates, "skip_gate": tuple(args.skip_gate), "ratings_until": None,
        "cluster": made_of(ClusterConfig, args),
    }  # fmt: skip
    names = {field.name for field in dataclasses.fields(Job)} - special.keys()
    return Job(**{name: getattr(args, name) for name in names}, **special)


def _backfill(args: argparse.Namespace, job: Job, watching: Watching) -> Iterator[dict[str, Any]]:
    from batch.run.backfill import backfill, dates_between, finish_interrupted, planned_backfill

    dates = dates_between(*args.backfill)
    if args.dry_run:
        return planned_backfill(job, dates)
    finish_interrupted(job)
    return backfill(job, dates, watching)


def _look_after_nights(args: argparse.Namespace) -> dict[str, Any]:
    from batch.run.summary import summary
    from batch.store.nights import release, rollback, verify

    if args.backfill is not None:
        message = "--backfill: not together with --rollback, --release or --verify"
        raise UsageError(message)
    for option in ("rollback", "run_date"):
        if getattr(args, option):
            check_date(getattr(args, option), f"--{option.replace('_', '-')}")
    if args.verify:
        return summary(verify(args.out, args.run_date))
    if args.release:
        return summary(release(args.out))
    return summary(rollback(args.out, args.rollback or None, hold=args.hold, force=args.force))


def _says_nothing(value: object) -> bool:
    """An empty mapping, or the rate of what did not run; a count of 0 says something."""
    return value is None or value == {} or (isinstance(value, float) and value == 0)


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name.replace('_', ' ')} {_number(part)}" for name, part in value.items())
    if isinstance(value, bool):
        return "yes" if value else "no"
    return _number(value) if isinstance(value, int | float) else str(value)


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.1f}"


if __name__ == "__main__":
    sys.exit(main())
