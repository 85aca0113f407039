"""python -m batch.score: one night's lists, from a bundle to Parquet."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

from batch.gates.thresholds import GateConfig, read_config
from batch.job.job import Job, check_date
from batch.store.clock import check_not_ahead
from sdk.base.errors import UsageError
from sdk.base.logs import facts
from sdk.base.printable import number
from sdk.machine.cluster import ClusterConfig
from sdk.machine.device import DEVICES
from sdk.shell import cli
from sdk.shell.parser import CommandParser
from sdk.shell.terminal import say

log = logging.getLogger("batch.score")
_EXAMPLE = """\
python -m batch.score --bundle bundle --out nightly --run-date 2026-11-23

It writes OUT/run_date=YYYY-MM-DD/ with user_items/ and item_items/ in Parquet, manifest.json and _SUCCESS, and names \
the night in OUT/LATEST. A run that was killed goes on where it stopped: give the same command again.

  python -m batch.score --bundle bundle --out nightly --run-date 2026-11-23 \\
      --ratings ratings.csv --deny withdrawn.txt
  python -m batch.score --bundle bundle --out nightly \\
      --backfill 2026-11-20 2026-11-23

Send readers back to the night before, or to this one, or hold them there; hash the latest night again:

  python -m batch.score --out nightly --rollback
  python -m batch.score --out nightly --rollback 2026-11-20
  python -m batch.score --out nightly --rollback --hold
  python -m batch.score --out nightly --verify"""


def add(commands: Any) -> None:
    """The command as one of ``marquee``'s and of ``python -m batch``'s."""
    build_parser(commands.add_parser, "score")


def build_parser(make: Callable[..., Any] = CommandParser, name: str = "python -m batch.score") -> CommandParser:
    """The command line: a job's own fields, and what else can be asked for."""
    summary, exact = "write every user's and every item's list to Parquet", "Exact over the whole catalogue."
    parser = cli.new_parser(make, name, summary, _EXAMPLE, exact, work=_score)
    needed = parser.group("required", "--rollback, --release and --verify need --out alone")
    cli.add_fields(needed, Job, "bundle", metavar="BUNDLE", required=False)
    cli.add_fields(needed, Job, "out")
    cli.add_fields(needed, Job, "run_date", metavar="YYYY-MM-DD", required=False)
    common = parser.group("common")
    cli.add_fields(common, Job, "k", "model", "kind", "include_seen", "audience")
    cli.add_fields(common, Job, "force")
    common.add_argument("--json", action="store_true", help="print one line of JSON on stdout")
    files = "files hold one id a line, or the named columns (CSV, Parquet)"
    filters = parser.group("newer ratings and filters", files)
    cli.add_fields(filters, Job, "ratings", "new_items", "users", "items", "allow", "deny", "block", "repeat", "rules")
    _add_operations(parser.group("operations", "what else can be done with nights"))
    _add_advanced(parser)
    return parser


def _add_advanced(parser: CommandParser) -> None:
    group = parser.group("advanced")
    cli.add_fields(group, Job, "gates", type=cli.path_argument, metavar="FILE", required=False)
    skipped = "publish whatever this gate of docs/gates.md says, and note it in the manifest; may be given again"
    cli.add_fields(group, Job, "skip_gate", action="append", default=[], metavar="NAME", help=skipped)
    cli.add_fields(group, Job, "explore", metavar="TAU")
    cli.add_fields(group, Job, "explore_share", metavar="S")
    cli.add_fields(group, Job, "judged", metavar="LOG")
    cli.add_fields(group, Job, "device", choices=DEVICES)
    cli.add_fields(group, Job, "full", "users_per_part", "threads", "memory_mib", "items_per_tile")
    cli.add_cluster_options(parser)
    group.add_argument("--no-report", action="store_true", help="write no HTML report to OUT/reports/")
    cli.add_mlflow_option(parser)
    group.add_argument(
        "--metrics-file", type=cli.path_argument, metavar="FILE",
        help="write the run's figures for Prometheus' textfile collector; the name must end in .prom for it",
    )  # fmt: skip


def _add_operations(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--backfill", nargs=2, metavar=("FROM", "TO"),
        help="score each night of these dates that is not published, instead of --run-date; of --ratings, those up to "
        "the end of each night's day (UTC) count",
    )  # fmt: skip
    stay = "with --rollback: readers stay on that night whatever is published, until --release"
    group.add_argument("--hold", action="store_true", help=stay)
    work = group.add_mutually_exclusive_group()
    planned = "print the plan with estimated bytes and seconds, and stop"
    work.add_argument("--dry-run", action="store_true", help=planned)
    back = "send readers back to this published night, or to the one before; needs --out only"
    work.add_argument("--rollback", nargs="?", const="", metavar="YYYY-MM-DD", help=back)
    on = "end a --hold: the next later night moves readers on; needs --out only"
    work.add_argument("--release", action="store_true", help=on)
    again = "hash the published night --run-date (or the latest) again; needs --out only"
    work.add_argument("--verify", action="store_true", help=again)
    cli.add_fields(group, Job, "keep")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the exit code is returned."""
    args = build_parser().parse_args(argv)
    return cli.run_command(args.work, args)


def _score(args: argparse.Namespace) -> int:
    args.only_prints = args.dry_run
    for values in _work(args):
        if args.json:
            print(json.dumps(values), flush=True)
        elif args.backfill is not None:
            say(_line(values))
        elif "status" in values and not args.verbose:
            say(*_summary(args, values))
            taste = "next: python -m batch.taste --bundle %s --out %s"
            log.info(taste, args.bundle, args.out, extra=facts(event="next"))
        else:
            said = {name: value for name, value in values.items() if not _says_nothing(value)}
            say(*(f"{name.replace('_', ' ')}: {_shown(value)}" for name, value in said.items()))
    return 0


def _summary(args: argparse.Namespace, values: Mapping[str, Any]) -> Iterator[str]:
    """What a person wants to know of a night; ``--verbose`` and ``--json`` say everything."""
    from batch.store.layout import report_of
    from batch.store.places import open_target

    gates, seconds = values["gate_verdicts"], values["seconds"]
    yield f"{values['status']}: {values['night']}"
    if values["not_latest"]:
        yield f"not latest: {values['not_latest']}; readers use {values['latest'] or 'none'}"
    by_popularity = values["fallback_users"] + values["fallback_items"]
    rows = [f"{values[name]:,} {name.replace('_', ' ')}" for name in _IN_A_LINE if values.get(name)]
    yield f"lists: {', '.join(rows)}, by {values['model']}; {by_popularity:,} lists are of popular items alone"
    asked = ", ".join(f"{name.replace('_', ' ')} {count:,}" for name, count in values["asked"].items())
    yield from [f"asked: {asked}"] if asked else []
    yield f"gates: {', '.join(f'{count} {verdict}' for verdict, count in gates.items() if count)}"
    longest = sorted(seconds.items(), key=lambda each: -each[1])[:2]
    took = ", ".join(f"{name} {each:.1f} s" for name, each in longest)
    parts = f"; {values['resumed_parts']} of {values['parts']} parts were there" if values["resumed_parts"] else ""
    yield f"took: {sum(seconds.values()):.1f} s ({took}){parts}"
    if not args.no_report:
        yield f"report: {open_target(args.out).describe(report_of(values['run_date']))}"


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
        raise UsageError(f"--hold: goes with --rollback, such as --rollback {_A_DATE} --hold for the night to stay on")
    if args.rollback is not None or args.verify or args.release:
        yield _look_after_nights(args)
        return
    job = _job(args)
    from batch.run.night import dry_run
    from batch.run.observe import watched
    from sdk.bundles.tracking import MLflow

    score = partial(
        watched, run_id=args.run_id, metrics_file=args.metrics_file, with_report=not args.no_report,
        mlflow=None if args.dry_run else MLflow.of(args.mlflow),
    )  # fmt: skip
    if args.backfill is not None:
        yield from _backfill(args, job, lambda night: asdict(score(night)))
    elif args.dry_run:
        planned, estimated = dry_run(job)
        yield asdict(planned) | asdict(estimated)
    else:
        yield asdict(score(job))


_A_DATE = "2026-11-23"
_NEEDED = {"bundle": "bundle", "run_date": _A_DATE}
"""What a night needs, with a value that does."""


def _job(args: argparse.Namespace) -> Job:
    if args.backfill is not None:
        if args.run_date is not None:
            raise UsageError(f"--run-date: got {args.run_date}, not together with --backfill, which names the nights")
        from batch.run.backfill import dates_between

        args.backfill = dates_between(*args.backfill)
        check_not_ahead(args.backfill[-1], "--backfill", force=args.force)
        args.run_date = args.backfill[0]
    if missing := {option: value for option, value in _NEEDED.items() if getattr(args, option) is None}:
        options = [f"--{option.replace('_', '-')}" for option in missing]
        example = " ".join(map(" ".join, zip(options, missing.values(), strict=True)))
        raise UsageError(f"{', '.join(options)}: missing, expected what the night is made of, such as {example}")
    gates = GateConfig() if args.gates is None else read_config(args.gates)
    return cli.made_of(
        Job, args, gates=gates, skip_gate=tuple(args.skip_gate), cluster=cli.made_of(ClusterConfig, args)
    )


def _backfill(args: argparse.Namespace, job: Job, work: Callable[[Job], dict[str, Any]]) -> Iterator[dict[str, Any]]:
    from batch.run.backfill import backfill, finish_interrupted, planned

    if args.dry_run:
        return backfill(job, args.backfill, planned)
    finish_interrupted(job)
    return backfill(job, args.backfill, work)


def _look_after_nights(args: argparse.Namespace) -> dict[str, Any]:
    from batch.store.nights import release, rollback, verify

    if args.backfill is not None:
        raise UsageError(f"--backfill {' '.join(args.backfill)}: not together with --rollback, --release or --verify")
    for option in ("rollback", "run_date"):
        if getattr(args, option):
            check_date(getattr(args, option), f"--{option.replace('_', '-')}")
    if args.verify:
        return asdict(verify(args.out, args.run_date))
    if args.release:
        return asdict(release(args.out))
    return asdict(rollback(args.out, args.rollback or None, hold=args.hold, force=args.force))


def _says_nothing(value: object) -> bool:
    """An empty mapping, or the rate of what did not run; a count of 0 says something."""
    return value is None or value == {} or (isinstance(value, float) and value == 0)


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name.replace('_', ' ')} {number(part, 1)}" for name, part in value.items())
    if isinstance(value, bool):
        return "yes" if value else "no"
    return number(value, 1) if isinstance(value, int | float) else str(value)


if __name__ == "__main__":
    sys.exit(main())
