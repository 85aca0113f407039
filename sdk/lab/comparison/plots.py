"""Charts of a comparison; the same results give the same bytes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from sdk.lab.comparison.contenders import OURS, Contender
from sdk.lab.comparison.results import mean_of
from sdk.lab.comparison.run import Comparison
from sdk.measure.charts import blank_chart, chart_png, chart_style, look_of, name_chart

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw(comparison: Comparison) -> Mapping[str, bytes]:
    """File name -> PNG bytes: a chart for each protocol that was measured."""
    charts = {
        "A": ("compare_auc.png", _auc),
        "B": ("compare_lists.png", _lists),
        "rolling": ("compare_time.png", _time),
    }
    with chart_style():
        return {
            name: chart_png(chart(comparison))
            for protocol, (name, chart) in charts.items()
            if comparison.tasks.get(protocol)
        }


def _colour(contender: Contender) -> str:
    return str(look_of(1 if contender.is_ours else 0)["color"])


def _auc(comparison: Comparison) -> Figure:
    """Bars: mean AUC, and the lowest and highest of the splits."""
    found = comparison.contenders("A")
    values = [np.array([r.figures["auc"] for r in comparison.of("A", each.name)], np.float64) for each in found]
    mean = np.array([each.mean() for each in values])
    spread = np.abs(np.array([[each.min() for each in values], [each.max() for each in values]]) - mean)
    figure, axes = blank_chart(7.5, 3.4)
    axes.barh([each.name for each in found], mean, xerr=spread, color=list(map(_colour, found)), capsize=3)
    for row, each in enumerate(mean):
        axes.text(each + spread[1][row] + 0.002, row, f"{each:.4f}", va="center", fontsize=9)
    axes.set_xlim(max(0.0, float(mean.min()) - 0.03), min(1.0, float(mean.max()) + 0.03))
    name_chart(axes, "Liked or not: AUC", f"{comparison.dataset}; mean and range of the splits", "AUC", "")
    return figure


def _lists(comparison: Comparison) -> Figure:
    """Accuracy against the number of different titles."""
    figure, axes = blank_chart(7.5, 4.8)
    for each in comparison.contenders("B"):
        results = comparison.of("B", each.name)
        titles, ndcg = mean_of(results, "distinct_in_top10") or 0.0, mean_of(results, "ndcg10") or 0.0
        axes.scatter(titles, ndcg, color=_colour(each), marker="D" if each.is_ours else "o", s=60, zorder=3)
        axes.annotate(each.name, (titles, ndcg), (6, 5), textcoords="offset points", fontsize=9)
    subtitle = f"{comparison.dataset}; mean of {len(comparison.tasks['B'])} splits"
    name_chart(axes, "Lists: accuracy against variety", subtitle, "different titles in all top tens", "NDCG@10")
    axes.margins(x=0.25, y=0.1)
    return figure


def _time(comparison: Comparison) -> Figure:
    """The nightly lists' lead over each other contender, with its interval."""
    names = [each.name for each in comparison.contenders("rolling") if each.name != OURS]
    gaps = [comparison.difference("rolling", name) for name in names]
    mean = np.array([gap.mean for gap in gaps])
    ends = np.abs(np.array([[gap.low for gap in gaps], [gap.high for gap in gaps]]) - mean)
    figure, axes = blank_chart(7.5, 3.2)
    axes.errorbar(mean, np.arange(len(names)), xerr=ends, fmt="o", color=look_of(1)["color"], capsize=4)
    axes.axvline(0, color="#555555", linewidth=1)
    axes.set_yticks(np.arange(len(names)), names)
    subtitle = f"{comparison.dataset}; rolling origin, {gaps[0].num_lists} lists of {gaps[0].num_users} users, 95 %"
    name_chart(axes, "By time: the nightly lists' lead", subtitle, "difference in NDCG@10", "")
    axes.margins(y=0.15)
    return figure
