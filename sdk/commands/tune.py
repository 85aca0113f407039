"""python -m sdk tune."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdk.base.errors import DataError
from sdk.commands.datasets import add_config, add_dataset, read_config, read_dataset
from sdk.lab.tuning.space import SPACES, with_fields
from sdk.shell.cli import between, new_parser, path_argument, seconds, seed_number
from sdk.shell.terminal import say, show_markdown

if TYPE_CHECKING:
    from sdk.lab.tuning.search import TuningResult


def add(commands: Any) -> None:
    """The command's options."""
    parser = new_parser(
        commands.add_parser, "tune",
        "search for a model's best settings on validation parts",
        "python -m sdk tune --sample --model dlrm --study tune.db --out tuned",
        "The test part is not read. A study that was stopped goes on with the same command.", work=_tune,
    )  # fmt: skip
    add_dataset(parser)
    required, common, advanced = parser.group("required"), parser.group("common"), parser.group("advanced")
    required.add_argument("--model", choices=tuple(SPACES), required=True, help="which model to tune")
    kept = "SQLite file of the finished trials"
    required.add_argument("--study", type=path_argument, required=True, metavar="FILE.db", help=kept)
    wanted = "finished trials that the study shall have in all"
    common.add_argument("--trials", type=between(1, 10**6), default=40, metavar="N", help=wanted)
    last = "start no trial after this many seconds; no limit unless given"
    common.add_argument("--timeout-s", type=seconds, metavar="SECONDS", help=last)
    written = "folder for best.json, the table and the charts; none are written unless given"
    common.add_argument("--out", type=path_argument, metavar="DIR", help=written)
    common.add_argument("--json", action="store_true", help="print JSON instead of a table")
    add_config(parser)
    averaged = "training seeds, or draws, averaged in a trial"
    advanced.add_argument("--repeats", type=between(1, 1000), default=2, metavar="N", help=averaged)
    further = "further seeds for the default and the best at the end"
    advanced.add_argument("--confirm", type=between(0, 1000), default=0, metavar="N", help=further)
    of_all = "of the search and of training"
    advanced.add_argument("--seed", type=seed_number, default=0, metavar="N", help=of_all)


def _tune(args: argparse.Namespace) -> int:
    from sdk.lab.tuning.search import require_optuna, tune
    from sdk.lab.tuning.study_report import as_json, as_markdown, fields_to_set, write_tuning
    from sdk.measure.evaluation_report import write_files

    require_optuna()
    if args.out is not None:
        write_files(args.out, {})  # what cannot be written is said before any work
    config = with_fields(read_config(args.config), {"training.seed": args.seed})
    result = tune(
        read_dataset(args, config), config, args.model, args.study,
        num_trials=args.trials, repeats=args.repeats, confirm=args.confirm, timeout_s=args.timeout_s,
    )  # fmt: skip
    _require_a_trial(result, args.study)
    if args.out is not None:
        write_tuning(result, args.out)
    if args.json:
        print(json.dumps(as_json(result)))
    else:
        show_markdown(as_markdown(result))
        say("", *fields_to_set(result).split("\n"))
    return 0


def _require_a_trial(result: TuningResult, study: Path) -> None:
    if not result.ranked:
        raise DataError(f"{study}: no trial is complete yet; raise --trials or --timeout-s, the same command goes on")
