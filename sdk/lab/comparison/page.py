"""A comparison as Markdown, JSON and charts, written into a folder and, if asked, into a page of the documentation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sdk.base.files import json_text
from sdk.base.printable import number
from sdk.lab.comparison.contenders import OURS, Contender
from sdk.lab.comparison.results import Result, mean_of
from sdk.lab.comparison.run import Comparison
from sdk.measure import text_tables
from sdk.measure.charts import blank_chart, can_draw, chart_png, chart_style, look_of, name_chart
from sdk.measure.evaluation_report import write_files

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_GAP = "nightly lists minus it, NDCG@10"
_COUNTED = ("users", "ndcg10", "recall20")
_POOLED = ("ndcg10", "recall20")
_MEANS = (("recall20", "Recall@20"), ("map10", "MAP@10"), ("hit_rate10", "hits"), ("gini", "Gini"))
_HEADINGS = {
    "A": "Protocol A: liked or not",
    "B": "Protocol B: lists",
    "C": "Protocol C: lists by time, one moment",
    "rolling": "Protocol C: lists by time, rolling origin",
}


@dataclass(frozen=True, slots=True)
class Rendered:
    """A comparison as text and charts.

    Attributes:
        markdown: the tables.
        json: every figure.
        charts: file name -> PNG bytes.
    """

    markdown: str
    json: str
    charts: Mapping[str, bytes]

    @classmethod
    def of(cls, comparison: Comparison) -> Rendered:
        """Render a comparison."""
        return cls(as_markdown(comparison), as_json(comparison), draw(comparison))

    @property
    def page(self) -> str:
        """The tables with the charts below them."""
        links = (f"![{name.removesuffix('.png').replace('_', ' ')}]({name})\n" for name in self.charts)
        return f"{self.markdown}\n{''.join(links)}"


def write(rendered: Rendered, folder: Path) -> None:
    """Write ``compare.md``, ``compare.json`` and the charts; files of these names are replaced.

    Raises:
        OutputError: the folder or a file cannot be written.
    """
    files = {"compare.md": rendered.page.encode(), "compare.json": rendered.json.encode()}
    write_files(folder, {**files, **rendered.charts})


def as_markdown(comparison: Comparison) -> str:
    """One section per protocol, and the settings that the peers were tuned to."""
    parts = [f"Data: {comparison.dataset}. {_budget_in_words(comparison)}"]
    writers: dict[str, Callable[[Comparison], list[str]]] = {
        "A": _rating_table, "B": _list_table, "C": _time_table, "rolling": _rolling_table,
    }  # fmt: skip
    for protocol in comparison.tasks:
        parts.append("\n".join([f"### {_HEADINGS[protocol]}", "", *writers[protocol](comparison)]))
    parts += [
        f"{name} is left out: the package {package} was missing." for name, package in comparison.left_out.items()
    ]
    parts.append(_settings(comparison))
    return "\n\n".join(parts) + "\n"


def _budget_in_words(comparison: Comparison) -> str:
    config = comparison.config
    quick = " **Quick run: a trial of the command, not to be quoted.**" if config.quick else ""
    return (
        f"Peers chose from up to {config.budget} settings each, per split, on a validation part cut from the training "
        f"part; ours are the shipped defaults, with nothing chosen here.{quick}"
    )


def _lines(
    comparison: Comparison,
    protocol: str,
    about: str,
    head: Sequence[str],
    cells: Callable[[str, list[Result]], Sequence[str]],
) -> list[str]:
    """A paragraph and a table with one row per contender; ours are printed bold."""
    rows = []
    for each in comparison.contenders(protocol):
        name = f"**{each.name}**" if each.is_ours else each.name
        rows.append([name, *cells(each.name, comparison.of(protocol, each.name))])
    return [about, "", *text_tables.as_markdown(text_tables.table("", ["model", *head], rows), spaced_rule=True)]


def _rating_table(comparison: Comparison) -> list[str]:
    def cells(name: str, results: list[Result]) -> list[str]:
        aucs = [number(result.figures["auc"], 4) for result in results]
        mean, loss = (number(mean_of(results, figure), 4) for figure in ("auc", "log_loss"))
        return [*aucs, f"**{mean}**", loss, _seconds(results)]

    test = " / ".join(number(int(r.figures["num_rows"] or 0)) for r in comparison.of("A", "popularity"))
    head = [*(f"AUC, {task}" for task in comparison.tasks["A"]), "mean AUC", "log loss", "seconds"]
    return _lines(comparison, "A", f"Label: rating > 3. Test ratings: {test}.", head, cells)


def _list_table(comparison: Comparison) -> list[str]:
    def cells(name: str, results: list[Result]) -> list[str]:
        ndcgs = [number(result.figures["ndcg10"], 3) for result in results]
        means = [number(mean_of(results, figure), 3) for figure in ("ndcg10", *dict(_MEANS))]
        titles, bits = number(mean_of(results, "distinct_in_top10") or 0.0, 0), number(mean_of(results, "novelty"), 2)
        gap = _gap(comparison, "B", name)
        return [*ndcgs, f"**{means[0]}**", *means[1:], titles, bits, gap, _seconds(results)]

    names = [f"NDCG@10, {task}" for task in comparison.tasks["B"]]
    head = [*names, "mean", *dict(_MEANS).values(), "items", "novelty", _GAP, "seconds"]
    return _lines(comparison, "B", _about_lists(comparison, "B"), head, cells)


def _time_table(comparison: Comparison) -> list[str]:
    def cells(name: str, results: list[Result]) -> list[str]:
        (result,) = results
        low, high = result.intervals["ndcg10"]
        ndcg = f"**{number(result.figures['ndcg10'], 3)}** ({number(low, 3)} to {number(high, 3)})"
        return [ndcg, *(number(result.figures[figure], 3) for figure, _ in _MEANS), _gap(comparison, "C", name)]

    head = ["NDCG@10 (95 %)", *dict(_MEANS).values(), _GAP]
    return _lines(comparison, "C", _about_lists(comparison, "C"), head, cells)


def _rolling_table(comparison: Comparison) -> list[str]:
    def cells(name: str, results: list[Result]) -> list[str]:
        values = (np.concatenate([result.per_user(metric)[1] for result in results]) for metric in _POOLED)
        ndcg, recall = (number(float(each.mean()), 3) for each in values)
        return [f"**{ndcg}**", recall, *(_gap(comparison, "rolling", name, metric) for metric in _POOLED)]

    names = comparison.tasks["rolling"]
    cuts = f"{len(names)} moments, {names[0]} of the ratings to {names[-1]}; means over all lists."
    about = f"{cuts} {_about_lists(comparison, 'rolling')}"
    return _lines(comparison, "rolling", about, ["NDCG@10", "Recall@20", _GAP, "Recall@20"], cells)


def _about_lists(comparison: Comparison, protocol: str) -> str:
    results = comparison.of(protocol, "popularity")
    users, lists = len({user for result in results for user in result.users}), sum(len(r.users) for r in results)
    return f"{users:,} users, {lists:,} lists. In brackets: 95 % bootstrap interval over users."


def _gap(comparison: Comparison, protocol: str, other: str, metric: str = "ndcg10") -> str:
    if other == OURS or not comparison.of(protocol, OURS):
        return "–"
    gap = comparison.difference(protocol, other, metric)
    return f"{gap.mean:+.3f} ({gap.low:+.3f} to {gap.high:+.3f})"


def _settings(comparison: Comparison) -> str:
    lines = ["### What the peers were tuned to", ""]
    for protocol, tasks in comparison.tasks.items():
        for contender in comparison.contenders(protocol):
            results = comparison.of(protocol, contender.name)
            if any(result.settings for result in results) and protocol != "rolling":
                chosen = "; ".join(f"{t}: {_in_words(r)}" for t, r in zip(tasks, results, strict=True))
                lines.append(f"- {protocol}, {contender.name} ({results[0].tried} settings tried): {chosen}.")
    return "\n".join(lines)


def _in_words(result: Result) -> str:
    values = ((name, f"{value:g}" if isinstance(value, float) else value) for name, value in result.settings.items())
    return ", ".join(f"{name} {value}" for name, value in values)


def _seconds(results: Sequence[Result]) -> str:
    return number(float(np.mean([result.seconds for result in results])), 0)


def as_json(comparison: Comparison) -> str:
    """Every figure, interval and setting; not the single users' values."""
    results = []
    for (protocol, task, contender), result in comparison.results.items():
        values = {name: value for name, value in asdict(result).items() if name not in _COUNTED}
        results.append({"protocol": protocol, "task": task, "model": contender, **values})
    content = {
        "dataset": comparison.dataset,
        "config": asdict(comparison.config),
        "left_out": dict(comparison.left_out),
        "results": results,
        "nightly_lists_minus": _gaps(comparison),
    }
    return json_text(content, allow_nan=False)


def _gaps(comparison: Comparison) -> list[dict[str, Any]]:
    return [
        {"protocol": protocol, "model": each.name, "metric": metric, **asdict(gap)}
        for protocol in comparison.tasks
        if comparison.of(protocol, OURS)
        for each in comparison.contenders(protocol)
        if each.name != OURS
        for metric in _POOLED
        for gap in [comparison.difference(protocol, each.name, metric)]
    ]


# charts --------------------------------------------------------------------------------------------------------------


def draw(comparison: Comparison) -> Mapping[str, bytes]:
    """File name -> PNG bytes: a chart for each protocol that was measured; none without matplotlib."""
    if not can_draw():
        return {}
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
    """Dots: mean AUC, with a line from the lowest to the highest of the splits."""
    found = comparison.contenders("A")
    values = [np.array([r.figures["auc"] for r in comparison.of("A", each.name)], np.float64) for each in found]
    figure, axes = blank_chart(7.5, 3.4)
    for row, (each, auc) in enumerate(zip(found, values, strict=True)):
        axes.hlines(row, auc.min(), auc.max(), color=_colour(each), linewidth=2)
        axes.plot(auc.mean(), row, _marker(each), color=_colour(each), markersize=8)
        axes.annotate(f"{auc.mean():.4f}", (auc.max(), row), (8, 0), textcoords="offset points", va="center")
    axes.set_yticks(range(len(found)), [each.name for each in found])
    axes.margins(x=0.15, y=0.12)
    name_chart(axes, "Liked or not: AUC", f"{comparison.dataset}; mean and range of the splits", "AUC", "")
    return figure


def _marker(contender: Contender) -> str:
    return "D" if contender.is_ours else "o"


def _lists(comparison: Comparison) -> Figure:
    """Accuracy against the number of different titles; names stand beside the frame, each with a line to its dot."""
    figure, axes = blank_chart(8.5, 4.8)
    dots = []
    for each in comparison.contenders("B"):
        results = comparison.of("B", each.name)
        titles, ndcg = mean_of(results, "distinct_in_top10") or 0.0, mean_of(results, "ndcg10") or 0.0
        axes.plot(titles, ndcg, _marker(each), color=_colour(each), markersize=8, zorder=3)
        dots.append((ndcg, titles, each.name))
    subtitle = f"{comparison.dataset}; mean of {len(comparison.tasks['B'])} splits"
    name_chart(axes, "Lists: accuracy against variety", subtitle, "different items in all top tens", "NDCG@10")
    axes.margins(x=0.08, y=0.1)
    low, high = axes.get_ylim()
    dots.sort()
    for (ndcg, titles, name), height in zip(dots, _apart([(dot[0] - low) / (high - low) for dot in dots]), strict=True):
        axes.annotate(
            name, (titles, ndcg), (1.03, height), textcoords="axes fraction", va="center",
            arrowprops={"arrowstyle": "-", "color": "#999999", "linewidth": 0.8, "relpos": (0, 0.5)},
        )  # fmt: skip
    return figure


def _apart(heights: Sequence[float], gap: float = 0.075) -> list[float]:
    """Ascending heights of labels, moved so that ``gap`` lies between them and the last is at 1 at most."""
    placed: list[float] = []
    for height in heights:
        placed.append(max(height, placed[-1] + gap) if placed else height)
    ceiling = 1.0 + gap
    for place in reversed(range(len(placed))):
        ceiling = placed[place] = min(placed[place], ceiling - gap)
    return placed


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
