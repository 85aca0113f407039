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
from sdk.base.rights import reason
from sdk.measure.charts import (
    History,
    best_epoch,
    blank_chart,
    chart_png,
    chart_style,
    display,
    draw_auc,
    draw_calibration,
    look_of,
    name_chart,
)
from sdk.measure.slices import Slice
from sdk.measure.text_tables import BORDERS, slice_table
from sdk.metrics.pointwise import Calibration, EpochRecord, MetricRow, SliceFigures

__all__ = [
    "History",
    "auc_chart_text",
    "best_epoch",
    "blank_chart",
    "calibration_values",
    "chart_png",
    "chart_style",
    "draw_auc",
    "draw_calibration",
    "look_of",
    "name_chart",
    "plain_values",
    "write_files",
    "write_reports",
]

log = logging.getLogger(__name__)


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
    content = _as_values(history, table, calibrations, split, label_rule)
    content["slices"] = [plain_values(row) for row in slice_rows]
    files = {"metrics.json": json_text(content, allow_nan=False).encode()}
    lines = [_as_markdown(history, table, split, label_rule), *_slices_as_markdown(slices, slice_rows)]
    files["metrics.md"] = "\n".join(lines).encode()
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


# ---------------------------------------------------------------------------------------------- text


def auc_chart_text(history: History) -> str:
    """Validation AUC per epoch as a plain table for terminals, one column per model, ``*`` at each best epoch."""
    shown = {model: {r.epoch: r for r in records} for model, records in history.items() if records}
    if not shown:
        return "no epochs were recorded"
    best = {model: best_epoch(history[model]).epoch for model in shown}
    width = max(9, *(len(display(model)) + 2 for model in shown))
    lines = ["epoch" + "".join(f"{display(model):>{width}}  " for model in shown).rstrip()]
    for epoch in sorted({epoch for epochs in shown.values() for epoch in epochs}):
        cells = (_text_cell(epochs.get(epoch), epoch == best[model], width) for model, epochs in shown.items())
        lines.append(f"{epoch:>5}{''.join(cells)}".rstrip())
    return "\n".join([*lines, "* best epoch by validation AUC"])


def _text_cell(record: EpochRecord | None, is_best: bool, width: int) -> str:
    if record is None:
        return " " * (width + 2)
    return f"{record.auc:>{width}.4f}{' *' if is_best else '  '}"


def _as_values(
    history: History,
    table: Sequence[MetricRow],
    calibrations: Mapping[str, Calibration],
    split: str,
    label_rule: str,
) -> dict[str, Any]:
    return {
        "split": split,
        "label_rule": label_rule,
        "models": [plain_values(row) for row in table],
        "history": {model: [_epoch_values(r) for r in records] for model, records in history.items()},
        "best_epoch": {model: best_epoch(records).epoch for model, records in history.items() if records},
        "calibration": {model: calibration_values(c) for model, c in calibrations.items()},
    }


def plain_values(row: MetricRow | SliceFigures) -> dict[str, Any]:
    """A table's line as JSON values: null says that a value was not measured; no intervals unless asked for."""
    return {name: value for name, value in _without_nan(asdict(row)).items() if name != "intervals" or value}


def _epoch_values(record: EpochRecord) -> dict[str, Any]:
    return _without_nan({name: value for name, value in asdict(record).items() if name != "rows_per_s"})


def calibration_values(value: Calibration) -> dict[str, list[float]]:
    """A calibration as JSON values."""
    names = ("edges", "mean_predicted", "observed_share", "counts")
    return {name: getattr(value, name).tolist() for name in names}


def _without_nan(values: Mapping[str, Any]) -> dict[str, Any]:
    """JSON knows no NaN: null says that a value was not measured."""
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}


def _as_markdown(history: History, table: Sequence[MetricRow], split: str, label_rule: str) -> str:
    lines = [
        "# Results on the test rows",
        "",
        f"Split: {split}. Positive label: {label_rule}. ECE: expected calibration error. –: not measured.",
        "",
        "| model | AUC | log loss | ECE | rows | note |",
        "|---|---:|---:|---:|---:|---|",
        *(_markdown_row(row) for row in table),
    ]
    best = [_best_in_words(model, records) for model, records in history.items() if records]
    return (
        "\n".join([*lines, *(["", "Best epochs by validation AUC: " + "; ".join(best) + "."] if best else [])]) + "\n"
    )


def _slices_as_markdown(slices: Sequence[Slice], rows: Sequence[SliceFigures]) -> list[str]:
    """AUC per slice, and where the rest is to be had; nothing where no slice was measured."""
    if not rows:
        return []
    table = slice_table(slices, rows, "auc")
    more = "Intervals and the lists over the full catalogue: `python -m sdk evaluate`."
    return ["## AUC per slice", "", BORDERS, "", *table.as_markdown(), "", more, ""]


def _markdown_row(row: MetricRow) -> str:
    values = " | ".join(_number(value) for value in (row.auc, row.log_loss, row.calibration_error))
    return f"| {_escaped(display(row.model))} | {values} | {row.num_rows:,} | {_escaped(row.note)} |"


def _best_in_words(model: str, records: Sequence[EpochRecord]) -> str:
    best = best_epoch(records)
    return f"{display(model)} {best.epoch} of {len(records)} ({best.auc:.4f})"


def _number(value: float) -> str:
    return f"{value:.4f}" if math.isfinite(value) else "–"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
