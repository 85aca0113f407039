"""Tables and charts of a training run, written beside the model. The same results give the same bytes."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sdk.base.errors import OutputError
from sdk.base.files import json_text, write_file
from sdk.base.printable import number
from sdk.base.rights import reason
from sdk.measure.charts import History, best_epoch, draw_auc, draw_calibration
from sdk.measure.slices import Slice
from sdk.measure.text_tables import as_markdown, as_section, display, figure, slice_table
from sdk.metrics.pointwise import Calibration, EpochRecord, MetricRow, SliceFigures
from sdk.shell.terminal import Page

log = logging.getLogger(__name__)

_COLUMNS = ("model", "AUC", "log loss", "ECE", "rows", "note")


def write_reports(
    folder: Path,
    history: History,
    table: Sequence[MetricRow],
    calibrations: Mapping[str, Calibration],
    *,
    split: str,
    label_rule: str,
    slices: Sequence[Slice] = (),
    slice_rows: Sequence[SliceFigures] = (),
) -> None:
    """Write ``auc_per_epoch.png``, ``calibration.png``, ``metrics.json`` and ``metrics.md``.

    Training speed stays out of all four, so two runs that learn the same write the same.

    Args:
        folder: made if absent; files of these names are replaced.
        history: model name to its epochs, in order. A chart with nothing to show is not written.
        table: one row per model, in the order to show.
        calibrations: model name to its calibration on the test rows.
        split: the split in words, with its seed (``SplitConfig.describe()``).
        label_rule: which rating is a positive label, in words, e.g. ``rating > 3``.
        slices: parts of users and titles measured on their own.
        slice_rows: one line per model and slice.

    Raises:
        OutputError: the folder or a file cannot be written.
    """
    content = {
        "split": split,
        "label_rule": label_rule,
        "models": plain_values(table),
        "history": {model: plain_values(records) for model, records in history.items()},
        "best_epoch": {model: best_epoch(records).epoch for model, records in history.items() if records},
        "calibration": calibration_values(calibrations),
        "slices": plain_values(slice_rows),
    }
    lines = ["# Results on the test rows", "", _about(split, label_rule), "", *as_markdown(_rows_page(table)), ""]
    if best := [_best_in_words(model, records) for model, records in history.items() if records]:
        lines += [f"Best epochs by validation AUC: {'; '.join(best)}.", ""]
    if slice_rows:
        more = "Intervals and the lists over the full catalogue: `python -m sdk evaluate`."
        lines += [*as_section(slice_table("AUC per slice", slices, slice_rows, "auc")), "", more, ""]
    files = {"metrics.json": json_text(content, allow_nan=False).encode(), "metrics.md": "\n".join(lines).encode()}
    if any(history.values()):
        files["auc_per_epoch.png"] = draw_auc(history, f"{split}; positive: {label_rule}")
    if calibrations:
        files["calibration.png"] = draw_calibration(calibrations, f"test rows; positive: {label_rule}")
    write_files(folder, files)


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


def _about(split: str, label_rule: str) -> str:
    return f"Split: {split}. Positive label: {label_rule}. ECE: expected calibration error. –: not measured."


def _rows_page(table: Sequence[MetricRow]) -> Page:
    rows = (
        (
            display(row.model),
            *map(figure, (row.auc, row.log_loss, row.calibration_error)),
            number(row.num_rows),
            row.note,
        )
        for row in table
    )
    return Page("", _COLUMNS, tuple(rows), frozenset(_COLUMNS[1:-1]))


def _best_in_words(model: str, records: Sequence[EpochRecord]) -> str:
    best = best_epoch(records)
    return f"{display(model)} {best.epoch} of {len(records)} ({best.auc:.4f})"
