"""Charts of a night's report, as SVG to stand inside HTML: text and colours follow the page, light or dark."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from io import StringIO
from typing import TYPE_CHECKING, Any

import numpy as np

from sdk.base.types import Float32s, Float64s
from sdk.measure.charts import blank_chart, chart_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_INK, _GRID, _FIRST, _SECOND = "#010203", "#010204", "#010205", "#010206"
_FROM_PAGE = {_INK: "currentColor", _GRID: "var(--line)", _FIRST: "var(--first)", _SECOND: "var(--second)"}
"""Colours that no chart shows -> what the page's style sheet says."""
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "marquee",
    "grid.color": _GRID,
    **dict.fromkeys(("axes.edgecolor", "axes.labelcolor", "text.color", "xtick.color", "ytick.color"), _INK),
}
_POINTS = 300


def scores_chart(score: Float32s, best: Float32s) -> str:
    """How many scores fall in each of 40 bins, of all ranks and of rank 1; infinities and NaN are left out."""
    score, best = score[np.isfinite(score)], best[np.isfinite(best)]
    edges = np.histogram_bin_edges(score, bins=40)

    def draw(axes: Axes) -> None:
        for values, colour, label in ((score, _FIRST, "all ranks"), (best, _SECOND, "rank 1")):
            counts = np.histogram(values, bins=edges)[0] / max(len(values), 1)
            axes.stairs(counts, edges, color=colour, label=label, fill=colour == _FIRST, alpha=0.85, linewidth=2)
        axes.legend(loc="best")

    middle = np.median(score) if len(score) else 0.0
    label = f"Histogram of {len(score):,} scores; the median is {middle:.3g}."
    return _svg("scores", label, draw, "score", "share of rows")


def coverage_chart(name: str, shares: Float64s, whole: float | None, x: str) -> str:
    """Share of the catalogue shown, against ranks or users; a dashed line gives the whole night's share.

    Args:
        name: tells its parts from other charts' of the page.
        shares: (X,) cumulative shares, for 1, 2, … of ``x``.
        whole: the share over all lists; None leaves the line out.
        x: what is counted.
    """
    at = np.unique(np.linspace(0, len(shares), min(len(shares), _POINTS), endpoint=False).astype(np.int64))

    def draw(axes: Axes) -> None:
        axes.plot(at + 1, 100 * shares[at], color=_FIRST, linewidth=2.5, label="sampled users")
        if whole is not None:
            axes.axhline(100 * whole, color=_SECOND, linestyle="--", linewidth=2, label="the whole night")
        axes.set_ylim(bottom=0)
        axes.legend(loc="lower right")

    reached = f"{100 * shares[-1]:.1f} %" if len(shares) else "nothing"
    label = f"Share of the catalogue shown by {x}: rises to {reached} at {len(shares):,}."
    return _svg(name, label, draw, x, "% of the catalogue")


def churn_chart(shares: Float64s) -> str:
    """How many users find which share of their top 10 new, in steps of a tenth."""
    counts = np.bincount(np.rint(10 * shares).astype(np.int64), minlength=11)

    def draw(axes: Axes) -> None:
        axes.bar(np.arange(11) * 10, 100 * counts / max(len(shares), 1), width=8, color=_FIRST)
        axes.set_xticks(np.arange(0, 101, 20))
        axes.grid(visible=False, axis="x")

    label = f"Share of new titles in the top 10 of {len(shares):,} users; {100 * shares.mean():.0f} % in the mean."
    return _svg("churn", label, draw, "% of the top 10 that is new", "% of users")


def _svg(name: str, label: str, draw: Callable[[Axes], None], x: str, y: str) -> str:
    """One ``svg`` element with a label, ids of its own, and the page's colours."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    with chart_style(), matplotlib.rc_context(_STYLE):
        figure, axes = blank_chart(6.4, 3.4)
        draw(axes)
        axes.set(xlabel=x, ylabel=y)
        figure.patch.set_alpha(0)
        axes.patch.set_alpha(0)
        text = StringIO()
        FigureCanvasSVG(figure).print_svg(text, metadata={"Date": None, "Creator": None})
    _, begins, rest = text.getvalue().partition("<svg")
    svg = re.sub(r"<metadata>.*?</metadata>", "", begins + rest, flags=re.DOTALL)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'(url\(#|href="#)', rf"\g<1>{name}-", svg)
    for stands_for, colour in _FROM_PAGE.items():
        svg = svg.replace(stands_for, colour)
    svg = re.sub(r' (width|height)="[\d.]+pt"', "", svg, count=2)
    return svg.replace("<svg ", f'<svg role="img" aria-label="{html.escape(label)}" ', 1)
