"""python -m batch.score: one night's lists, from a bundle to Parquet."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from batch.gates import GateConfig, read_config
from batch.job import Job, check_date
from sdk.cli import EXIT_CODES, HelpFormatter, add_logging_options, run_command
from sdk.cluster import add_cluster_options, cluster_from
from sdk.device import DEVICES
from sdk.errors import UsageError

_EXAMPLE = """\
example:
  python -m batch.score --bundle bundle --out nightly --run-date 2026-11-23

writes OUT/run_date=YYYY-MM-DD/ with user_items/ and item_items/ in Parquet, manifest.json and _SUCCESS,
and names the night in OUT/LATEST. A run that was killed goes on where it stopped: give the same command again.

  python -m batch.score --out nightly --rollback             readers go back to the night before
  python -m batch.score --out nightly --rollback 2026-11-20  ... or to this one
  python -m batch.score --out nightly --verify               hash the latest night again
"""


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m batch.score",
        description="Write every user's and every title's list, exact over the whole catalogue, to Parquet.",
        epilog=f"{_EXAMPLE}\n{EXIT_CODES}",
        formatter_class=HelpFormatter,
    )
    parser.add_argument("--bundle", type=Path, metavar="BUNDLE", help="a trained bundle")
    parser.add_argument(
        "--out",
        required=True,
        metavar="OUT",
        help="where nights are published: a folder, or a URL such as s3://bucket/nights",
    )
    parser.add_argument("--run-date", metavar="YYYY-MM-DD", help="the night; names its folder")
    parser.add_argument("--k", type=int, default=100, help="list length")
    parser.add_argument("--model", default="best", help="dlrm, ncf, or best by validation AUC")
    parser.add_argument("--include-seen", action="store_true", help="list titles that the user has rated, too")
    parser.add_argument("--device", choices=DEVICES, default="auto", help="where to score")
    parser.add_argument("--users-per-part", type=int, default=8192, help="users in one Parquet file and in memory")
    parser.add_argument("--threads", type=int, metavar="N", help="cores to score on; all of them unless given")
    parser.add_argument("--memory-mib", type=float, metavar="MIB", help="most that the engine's buffers may take")
    add_cluster_options(parser)
    parser.add_argument("--keep", type=int, metavar="N", help="published nights that stay; all of them unless given")
    parser.add_argument("--gates", type=Path, metavar="FILE", help="JSON object of thresholds to change; docs/gates.md")
    parser.add_argument(
        "--skip-gate", action="append", default=[], metavar="NAME",
        help="publish whatever this gate says, and note it in the manifest; may be given again",
    )  # fmt: skip
    parser.add_argument("--force", action="store_true", help="write the night again though it is published")
    _add_other_work(parser)
    parser.add_argument("--json", action="store_true", help="print one line of JSON on stdout")
    add_logging_options(parser)
    return parser


def _add_other_work(parser: argparse.ArgumentParser) -> None:
    work = parser.add_mutually_exclusive_group()
    work.add_argument(
        "--dry-run", action="store_true", help="print the plan with estimated bytes and seconds, and stop"
    )
    work.add_argument(
        "--rollback", nargs="?", const="", metavar="YYYY-MM-DD",
        help="send readers back to this published night, or to the one before; needs --out only",
    )  # fmt: skip
    work.add_argument(
        "--verify", action="store_true",
        help="hash the published night --run-date (or the latest) again; needs --out only",
    )  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the exit code is returned."""
    return run_command(_score, build_parser().parse_args(argv))


def _score(args: argparse.Namespace) -> int:
    values = _work(args)
    if args.json:
        print(json.dumps(values))
    else:
        print("\n".join(f"{name.replace('_', ' ')}: {_shown(value)}" for name, value in values.items()))
    return 0


def _work(args: argparse.Namespace) -> dict[str, Any]:
    """Do what is asked for, as the values to print."""
    if args.rollback is not None or args.verify:
        return _look_after_nights(args)
    for name in ("bundle", "run_date"):
        if getattr(args, name) is None:
            message = f"--{name.replace('_', '-')}: missing; see --help"
            raise UsageError(message)
    options = {field.name: getattr(args, field.name) for field in dataclasses.fields(Job) if field.name in args}
    gates = GateConfig() if args.gates is None else read_config(args.gates)
    job = Job(**{**options, "gates": gates, "skip_gate": tuple(args.skip_gate), "cluster": cluster_from(args)})
    from batch.run import dry_run, run
    from batch.summary import summary

    if not args.dry_run:
        return summary(run(job))
    planned, estimated = dry_run(job)
    return summary(planned) | summary(estimated)


def _look_after_nights(args: argparse.Namespace) -> dict[str, Any]:
    from batch.nights import rollback, verify
    from batch.summary import summary

    for option in ("rollback", "run_date"):
        if getattr(args, option):
            check_date(getattr(args, option), f"--{option.replace('_', '-')}")
    if args.verify:
        return summary(verify(args.out, args.run_date))
    return summary(rollback(args.out, args.rollback or None))


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {seconds:.1f}" for name, seconds in value.items())
    return f"{value:,}" if isinstance(value, int) else str(value)


if __name__ == "__main__":
    sys.exit(main())
