"""Charts of a training run and of an evaluation. The same results give the same bytes."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cache
from typing import TYPE_CHECKING, Any

from sdk.base.errors import how_to_get
from sdk.measure.text_tables import display
from sdk.metrics.pointwise import Calibration, EpochRecord, SliceFigures

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

log = logging.getLogger(__name__)

History = Mapping[str, Sequence[EpochRecord]]

# Okabe and Ito's palette, told apart by the colour-blind; markers and dashes tell the lines apart in grey too.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_MARKERS = ("o", "s", "^", "D", "v", "P")
_DASHES = ("-", "--", "-.", ":")
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


@cache
def can_draw() -> bool:
    """Whether matplotlib is installed. Where it is not, reports do without charts, and one warning says so."""
    found = importlib.util.find_spec("matplotlib") is not None
    if not found:
        log.warning("charts are left out, for matplotlib is not installed: %s", how_to_get("plots"))
    return found


def best_epoch(records: Sequence[EpochRecord]) -> EpochRecord:
    """The epoch with the highest validation AUC, of at least one; the earliest of equals."""
    return max(records, key=lambda record: (record.auc, -record.epoch))


def draw_auc(history: History, subtitle: str, name: str = "AUC") -> bytes:
    """Validation AUC per epoch, one line per model, each best epoch marked by a star; PNG bytes.

    Args:
        history: model name to its epochs.
        subtitle: which rows they are of.
        name: what the AUC is called.
    """
    from matplotlib.ticker import MaxNLocator

    with chart_style():
        figure, axes = blank_chart(7.5, 4.6)
        for place, (model, records) in enumerate((m, r) for m, r in history.items() if r):
            best, look = best_epoch(records), look_of(place)
            label = f"{display(model)} (best {best.auc:.4f}, epoch {best.epoch})"
            axes.plot(
                [r.epoch for r in records], [r.auc for r in records], label=label, linewidth=2, markersize=5, **look
            )
            axes.plot(best.epoch, best.auc, "*", color=look["color"], markersize=17, markeredgecolor="white", zorder=4)
        name_chart(axes, f"Validation {name} per epoch", subtitle, "epoch", "AUC")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.margins(x=0.06, y=0.14)
        axes.legend(loc="best")
        return chart_png(figure)


def draw_calibration(calibrations: Mapping[str, Calibration], subtitle: str) -> bytes:
    """Observed share of positives against mean predicted probability, one line per model; PNG bytes."""
    with chart_style():
        figure, axes = blank_chart(5.6, 5.6)
        axes.plot((0, 1), (0, 1), color="#777777", linewidth=1, linestyle=(0, (2, 2)), label="perfect")
        for place, (model, value) in enumerate(calibrations.items()):
            label = f"{display(model)} (ECE {value.expected_error:.4f})"
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


def blank_chart(width: float, height: float, rows: int = 1, columns: int = 1) -> tuple[Figure, Any]:
    """A figure of this size, inches, with one pair of axes, or an array of several panels'."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns)


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


def draw_lists(users: Sequence[SliceFigures], items: Sequence[SliceFigures], subtitle: str) -> bytes:
    """NDCG@10 per slice of the users and Recall@20 per slice of the items, one mark per model; PNG bytes.

    Args:
        users: one line per model and slice, with ``ndcg10``.
        items: one line per model and slice, with ``recall20``.
        subtitle: whose lists these are.
    """
    with chart_style():
        figure, panels = blank_chart(11.5, 4.8, 1, 2)
        for axes, rows, name, title in (
            (panels[0], users, "ndcg10", "NDCG@10 by user"),
            (panels[1], items, "recall20", "Recall@20 by item"),
        ):
            _slice_marks(axes, rows, name)
            name_chart(axes, title, subtitle if axes is panels[0] else "", "", title.split(" ", maxsplit=1)[0])
        panels[0].legend(loc="best")
        return chart_png(figure)


def _slice_marks(axes: Axes, rows: Sequence[SliceFigures], name: str) -> None:
    """Every model's figure in every slice, with its interval where there is one; models stand beside each other."""
    parts = list(dict.fromkeys(row.part for row in rows))
    models = list(dict.fromkeys(row.model for row in rows))
    for place, model in enumerate(models):
        mine = [row for row in rows if row.model == model and name in row.values]
        at = [parts.index(row.part) + 0.8 * ((place + 0.5) / len(models) - 0.5) for row in mine]
        look = {**look_of(place), "linestyle": "none", "clip_on": False}  # a mark at 0 is drawn whole
        axes.plot(at, [row.values[name] for row in mine], label=display(model), markersize=7, **look)
        for x, row in zip(at, mine, strict=True):
            axes.vlines(x, *row.intervals.get(name, (row.values[name],) * 2), color=look["color"], linewidth=2)
    axes.set_xticks(range(len(parts)), [part.replace(" ", "\n") for part in parts])
    axes.set_ylim(bottom=0)
    axes.grid(visible=False, axis="x")
