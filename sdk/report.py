"""Charts and tables of a training run, written beside the model. The same results give the same bytes."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdk.errors import OutputError
from sdk.metrics import Calibration, EpochRecord, MetricRow

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

log = logging.getLogger(__name__)

History = Mapping[str, Sequence[EpochRecord]]

# Okabe and Ito's palette, told apart by the colour-blind; markers and dashes tell the lines apart in grey too.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_MARKERS = ("o", "s", "^", "D", "v", "P")
_DASHES = ("-", "--", "-.", ":")
_DISPLAY = {"dlrm": "DLRM", "ncf": "NCF"}
_STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # shipped with matplotlib, so every machine draws the same letters
    "font.size": 11.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.8,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "legend.handlelength": 3.0,
    "figure.facecolor": "white",
    "figure.dpi": 144,
    "figure.constrained_layout.w_pad": 0.15,
    "figure.constrained_layout.h_pad": 0.12,
}


def write_reports(
    folder: Path,
    history: History,
    table: Sequence[MetricRow],
    calibrations: Mapping[str, Calibration],
    *,
    split: str,
    label_rule: str,
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

    Raises:
        OutputError: the folder or a file cannot be written.
    """
    files = {"metrics.json": _as_json(history, table, calibrations, split, label_rule).encode()}
    files["metrics.md"] = _as_markdown(history, table, split, label_rule).encode()
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
            (folder / name).write_bytes(content)
    except OSError as error:
        message = f"{folder}: cannot write the reports ({error.strerror}). Choose a folder that can be written."
        raise OutputError(message) from error
    log.info("%s: wrote %s", folder, ", ".join(files))


# ---------------------------------------------------------------------------------------------- text


def best_epoch(records: Sequence[EpochRecord]) -> EpochRecord:
    """The epoch with the highest validation AUC; the earliest of equals.

    Raises:
        ValueError: there are no epochs.
    """
    if not records:
        raise ValueError(f"best_epoch: got {records!r}, expected at least one recorded epoch")
    return max(records, key=lambda record: (record.auc, -record.epoch))


def auc_chart_text(history: History) -> str:
    """Validation AUC per epoch as a plain table for terminals, one column per model, ``*`` at each best epoch."""
    shown = {model: {r.epoch: r for r in records} for model, records in history.items() if records}
    if not shown:
        return "no epochs were recorded"
    best = {model: best_epoch(history[model]).epoch for model in shown}
    width = max(9, *(len(_display(model)) + 2 for model in shown))
    lines = ["epoch" + "".join(f"{_display(model):>{width}}  " for model in shown).rstrip()]
    for epoch in sorted({epoch for epochs in shown.values() for epoch in epochs}):
        cells = (_text_cell(epochs.get(epoch), epoch == best[model], width) for model, epochs in shown.items())
        lines.append(f"{epoch:>5}{''.join(cells)}".rstrip())
    return "\n".join([*lines, "* best epoch by validation AUC"])


def _text_cell(record: EpochRecord | None, is_best: bool, width: int) -> str:
    if record is None:
        return " " * (width + 2)
    return f"{record.auc:>{width}.4f}{' *' if is_best else '  '}"


def _as_json(
    history: History,
    table: Sequence[MetricRow],
    calibrations: Mapping[str, Calibration],
    split: str,
    label_rule: str,
) -> str:
    content = {
        "split": split,
        "label_rule": label_rule,
        "models": [_without_nan(asdict(row)) for row in table],
        "history": {model: [_epoch_values(r) for r in records] for model, records in history.items()},
        "best_epoch": {model: best_epoch(records).epoch for model, records in history.items() if records},
        "calibration": {model: _calibration_values(c) for model, c in calibrations.items()},
    }
    return json.dumps(content, indent=2, sort_keys=True, allow_nan=False) + "\n"


def _epoch_values(record: EpochRecord) -> dict[str, Any]:
    return _without_nan({name: value for name, value in asdict(record).items() if name != "rows_per_s"})


def _calibration_values(value: Calibration) -> dict[str, list[float]]:
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


def _markdown_row(row: MetricRow) -> str:
    values = " | ".join(_number(value) for value in (row.auc, row.log_loss, row.calibration_error))
    return f"| {_escaped(_display(row.model))} | {values} | {row.num_rows:,} | {_escaped(row.note)} |"


def _best_in_words(model: str, records: Sequence[EpochRecord]) -> str:
    best = best_epoch(records)
    return f"{_display(model)} {best.epoch} of {len(records)} ({best.auc:.4f})"


def _number(value: float) -> str:
    return f"{value:.4f}" if math.isfinite(value) else "–"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _display(model: str) -> str:
    return _DISPLAY.get(model, model)


# ---------------------------------------------------------------------------------------------- charts


def draw_auc(history: History, subtitle: str) -> bytes:
    """Validation AUC per epoch, one line per model, each best epoch marked by a star; PNG bytes."""
    from matplotlib.ticker import MaxNLocator

    with chart_style():
        figure, axes = blank_chart(7.5, 4.6)
        for place, (model, records) in enumerate((m, r) for m, r in history.items() if r):
            _auc_line(axes, place, model, records)
        name_chart(axes, "Validation AUC per epoch", subtitle, "epoch", "AUC")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.margins(x=0.06, y=0.14)
        axes.legend(loc="best")
        return chart_png(figure)


def _auc_line(axes: Axes, place: int, model: str, records: Sequence[EpochRecord]) -> None:
    best = best_epoch(records)
    epochs, values = [r.epoch for r in records], [r.auc for r in records]
    look = look_of(place)
    label = f"{_display(model)} (best {best.auc:.4f}, epoch {best.epoch})"
    axes.plot(epochs, values, label=label, linewidth=2, markersize=5, **look)
    axes.plot(best.epoch, best.auc, "*", color=look["color"], markersize=17, markeredgecolor="white", zorder=4)


def draw_calibration(calibrations: Mapping[str, Calibration], subtitle: str) -> bytes:
    """Observed share of positives against mean predicted probability, one line per model; PNG bytes."""
    with chart_style():
        figure, axes = blank_chart(5.6, 5.6)
        axes.plot((0, 1), (0, 1), color="#777777", linewidth=1, linestyle=(0, (2, 2)), label="perfect")
        for place, (model, value) in enumerate(calibrations.items()):
            label = f"{_display(model)} (ECE {value.expected_error:.4f})"
            axes.plot(
                value.mean_predicted, value.observed_share, label=label, linewidth=2, markersize=6, **look_of(place)
            )
        name_chart(axes, "Calibration", subtitle, "mean predicted probability", "observed share of positives")
        axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
        axes.legend(loc="upper left")
        return chart_png(figure)


def look_of(place: int) -> dict[str, Any]:
    """Colour, marker and dashes of the line at this place, for matplotlib."""
    return {
        "color": _COLOURS[place % len(_COLOURS)],
        "marker": _MARKERS[place % len(_MARKERS)],
        "linestyle": _DASHES[place % len(_DASHES)],
    }


def chart_style() -> AbstractContextManager[None]:
    """Our look, whatever the user's own settings; they are back afterwards."""
    import matplotlib

    settings: dict[Any, Any] = {
        name: value for name, value in matplotlib.rcParamsDefault.items() if "backend" not in name
    }
    return matplotlib.rc_context(settings | _STYLE)


def blank_chart(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure of this size, inches, with one pair of axes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def name_chart(axes: Axes, title: str, subtitle: str, x: str, y: str) -> None:
    """Title, a smaller line below it, and the names of both axes."""
    axes.set_title(title, loc="left", fontweight="bold", pad=24)
    axes.text(0, 1.02, subtitle, transform=axes.transAxes, fontsize=9, color="#555555")
    axes.set(xlabel=x, ylabel=y)


def chart_png(figure: Figure) -> bytes:
    """A figure as PNG; the same figure gives the same bytes."""
    from io import BytesIO

    from matplotlib.backends.backend_agg import FigureCanvasAgg

    buffer = BytesIO()
    FigureCanvasAgg(figure).print_png(buffer, metadata={"Software": None})  # no version, no date: stable bytes
    return buffer.getvalue()
