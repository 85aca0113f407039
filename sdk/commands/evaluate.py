"""python -m sdk evaluate."""

from __future__ import annotations

import argparse
import json
import logging
from typing import Any

from sdk.base.progress import Progress
from sdk.commands.datasets import add_reading
from sdk.shell.cli import add_bundle, between, new_parser, path_argument, table_argument, whole_number
from sdk.shell.terminal import show

log = logging.getLogger(__name__)


def add(commands: Any) -> None:
    """The command's options."""
    parser = new_parser(
        commands.add_parser, "evaluate", "measure a bundle on the test part that training never saw",
        "python -m sdk evaluate --bundle bundle --reports evaluation", work=_evaluate, only_prints=True,
    )  # fmt: skip
    add_bundle(parser)
    common, advanced = parser.group("common"), parser.group("advanced")
    written = "folder for evaluation.json, evaluation.md and charts; none are written unless given"
    common.add_argument("--reports", type=path_argument, metavar="DIR", help=written)
    common.add_argument("--json", action="store_true", help="print JSON, which holds every figure, instead of tables")
    later = "a table of interactions from after training, as train takes it: lists are measured on those alone"
    common.add_argument("--later", type=table_argument, metavar="TABLE", help=later)
    add_reading(common, "with --later, where it is not as in training: ")
    seen = "with --later: what users have may be listed, and what they come back for counts"
    common.add_argument("--include-seen", action="store_true", help=seen)
    samples_help = "resamplings of the users behind each interval; 0 for no intervals"
    advanced.add_argument("--samples", type=between(0, 10**6), default=1000, metavar="N", help=samples_help)
    most_help = "most users whose lists are measured: of more with a held-out like, a seeded sample"
    advanced.add_argument("--max-list-users", type=whole_number, default=20_000, metavar="N", help=most_help)


def _evaluate(args: argparse.Namespace) -> int:
    from sdk.base.ids import count_of
    from sdk.bundles.bundle import load
    from sdk.bundles.fresh import read_newer
    from sdk.measure.evaluation import evaluate_bundle, evaluate_later
    from sdk.measure.evaluation_report import as_pages, as_text, as_values, write_evaluation, write_files

    _require_later(args)
    most_users, bundle = count_of(args.max_list_users, "--max-list-users"), load(args.bundle)
    if args.reports is not None:
        write_files(args.reports, {})  # what cannot be written is said before any work
    measured: dict[str, Any] = {"samples": args.samples, "max_list_users": most_users}
    with Progress("evaluation"):
        if args.later is None:
            evaluation = evaluate_bundle(bundle, **measured)
        else:
            loaded = read_newer(bundle, args.later, name="--later", columns=args.columns, events=args.events)
            evaluation = evaluate_later(bundle, loaded, include_seen=args.include_seen, **measured)
    if evaluation.lists is None:
        text = "no lists are measured: no test rating is at least %g (history.like_at in train's --config)"
        log.warning(text, bundle.info.config.history.like_at)
    if args.json:
        print(json.dumps(as_values(evaluation), allow_nan=False))
    else:
        show(as_text(evaluation).split("\n"), lambda: as_pages(evaluation))
    if args.reports is not None:
        write_evaluation(args.reports, evaluation)
    return 0


def _require_later(args: argparse.Namespace) -> None:
    """Refuse options that say something of later events where there are none."""
    from sdk.base.errors import UsageError

    why = {
        "include_seen": "a bundle's test part holds no repeats", "columns": "it says how a table is read",
        "events": "it says how a table is read",
    }  # fmt: skip
    if args.later is None and (given := [name for name in why if getattr(args, name)]):
        message = f"--{given[0].replace('_', '-')}: {why[given[0]]}; give later events, --later TABLE"
        raise UsageError(message)
