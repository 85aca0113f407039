"""Tables and charts of a training run, written beside the model. The same results give the same bytes."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sdk.base.errors import OutputError
from sdk.base.files import json_text, write_file
from sdk.base.printable import number
from sdk.base.rights import reason
from sdk.measure.charts import History, best_epoch, draw_auc, draw_calibration
from sdk.measure.evaluation import Evaluation
from sdk.measure.text_tables import as_markdown, as_section, display, figure, slice_table
from sdk.metrics.pointwise import Calibration, EpochRecord, MetricRow, SliceFigures
from sdk.shell.terminal import Page

log = logging.getLogger(__name__)

_COLUMNS = ("model", "AUC", "log loss", "ECE", "rows", "note")


def write_reports(folder: Path, history: History, evaluation: Evaluation) -> None:
    """Write ``auc_per_epoch.png``, ``calibration.png``, ``metrics.json`` and ``metrics.md``.

    Training speed stays out of all four, so two runs that learn the same write the same.

    Args:
        folder: made if absent; files of these names are replaced.
        history: model name to its epochs, in order. A chart with nothing to show is not written.
        evaluation: what the test rows say, without lists.

    Raises:
        OutputError: the folder or a file cannot be written.
    """
    split, rule = evaluation.split, evaluation.label_rule
    content = {
        "split": split,
        "label_rule": rule,
        "models": plain_values(evaluation.rows),
        "history": {model: plain_values(records) for model, records in history.items()},
        "best_epoch": {model: best_epoch(records).epoch for model, records in history.items() if records},
        "calibration": calibration_values(evaluation.calibrations),
        "slices": plain_values(evaluation.slice_rows),
    }
    text = "\n".join(_page(history, evaluation)).encode()
    files = {"metrics.json": json_text(content, allow_nan=False).encode(), "metrics.md": text}
    if any(history.values()):
        files["auc_per_epoch.png"] = draw_auc(history, f"{split}; positive: {rule}")
    if evaluation.calibrations:
        files["calibration.png"] = draw_calibration(evaluation.calibrations, f"test rows; positive: {rule}")
    write_files(folder, files)


def _page(history: History, evaluation: Evaluation) -> Iterator[str]:
    about = f"Split: {evaluation.split}. Positive label: {evaluation.label_rule}."
    rows = tuple(
        (
            display(row.model),
            *map(figure, (row.auc, row.log_loss, row.calibration_error)),
            number(row.num_rows),
            row.note,
        )
        for row in evaluation.rows
    )
    page = Page("", _COLUMNS, rows, frozenset(_COLUMNS[1:-1]))
    yield from ("# Results on the test rows", "", f"{about} ECE: expected calibration error. –: not measured.", "")
    yield from (*as_markdown(page), "")
    best = [(model, best_epoch(records), len(records)) for model, records in history.items() if records]
    if best:
        words = (f"{display(model)} {epoch.epoch} of {count} ({epoch.auc:.4f})" for model, epoch, count in best)
        yield from (f"Best epochs by validation AUC: {'; '.join(words)}.", "")
    if evaluation.slice_rows:
        yield from as_section(slice_table("AUC per slice", evaluation.slices, evaluation.slice_rows, "auc"))
        yield from ("", "Intervals and the lists over the full catalogue: `python -m sdk evaluate`.", "")


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files of these names into a folder, made if absent.

    Raises:
        OutputError: the folder or a file cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            write_file(folder / name, content, durable=False)
    except OSError as error:
        where = error.filename or folder
        message = f"{where}: cannot write the reports ({reason(error)}). Choose a folder that can be written."
        raise OutputError(message) from error
    log.info("reports: %s", ", ".join(files))  # no folder: a bundle's is a staging one, and soon renamed


def plain_values(rows: Sequence[MetricRow | SliceFigures | EpochRecord]) -> list[dict[str, Any]]:
    """A table's lines as JSON values: null says that a value was not measured; no intervals unless asked for, and
    never a speed.
    """
    return [
        {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in asdict(row).items()
            if name != "rows_per_s" and (name != "intervals" or value)
        }
        for row in rows
    ]


def calibration_values(calibrations: Mapping[str, Calibration]) -> dict[str, dict[str, list[float]]]:
    """Calibrations as JSON values."""
    return {
        model: {name: values.tolist() for name, values in asdict(found).items()}
        for model, found in calibrations.items()
    }
