"""python -m sdk evaluate."""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
from typing import TYPE_CHECKING, Any

from sdk.commands.options import add_bundle, new_command

if TYPE_CHECKING:
    from sdk.evaluation import Evaluation


def add(commands: Any) -> None:
    """The command's options."""
    parser = new_command(
        commands, "evaluate", _evaluate, "measure a bundle's models on the test part that training never saw",
        "python -m sdk evaluate --bundle bundle",
    )  # fmt: skip
    add_bundle(parser)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def _evaluate(args: argparse.Namespace) -> int:
    from sdk.bundle import load
    from sdk.evaluation import evaluate_bundle

    evaluation = evaluate_bundle(load(args.bundle))
    print(_as_json(evaluation) if args.json else _as_table(evaluation))
    return 0


def _as_json(evaluation: Evaluation) -> str:
    rows = [dataclasses.asdict(row) for row in evaluation.rows]
    plain = [{k: None if isinstance(v, float) and math.isnan(v) else v for k, v in row.items()} for row in rows]
    return json.dumps({"split": evaluation.split, "label_rule": evaluation.label_rule, "test": plain})


def _as_table(evaluation: Evaluation) -> str:
    lines = [f"{'model':22s} {'AUC':>7s} {'log loss':>9s} {'ECE':>7s}"]
    for row in evaluation.rows:
        figures = [
            f"{row.auc:7.4f}",
            *("      –" if math.isnan(v) else f"{v:7.4f}" for v in (row.log_loss, row.calibration_error)),
        ]
        lines.append(f"{row.model:22s} {figures[0]} {figures[1]:>9s} {figures[2]}")
    head = f"{evaluation.rows[0].num_rows:,} test ratings; split: {evaluation.split}; positive: {evaluation.label_rule}"
    return "\n".join([head, "", *lines])
