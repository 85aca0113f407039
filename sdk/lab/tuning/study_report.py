"""What a study found, as tables, charts and a configuration that ``train --config`` reads."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdk.base.config import to_json
from sdk.base.printable import number
from sdk.lab.tuning.space import Parameter, Range, field_of, text_of
from sdk.measure import text_tables
from sdk.measure.charts import blank_chart, can_draw, chart_png, chart_style, look_of, name_chart
from sdk.measure.evaluation_report import write_files
from sdk.measure.text_tables import display

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from sdk.lab.tuning.search import Trial, TuningResult

_PANELS_PER_ROW = 4


def write_tuning(result: TuningResult, folder: Path) -> None:
    """Write ``best.json``, ``tuning.json``, ``trials.md``, ``history.png`` and ``slices.png``; without matplotlib no
    charts.

    Args:
        result: a study with at least one complete trial.
        folder: made if absent; files of these names are replaced.

    Raises:
        OutputError: the folder or a file cannot be written.
    """
    found = {
        "best.json": (json.dumps(to_json(result.best), indent=2) + "\n").encode(),
        "tuning.json": (json.dumps(as_json(result), indent=2) + "\n").encode(),
        "trials.md": as_markdown(result).encode(),
    }
    if can_draw():
        found |= {"history.png": draw_history(result), "slices.png": draw_slices(result)}
    write_files(folder, found)


# ---------------------------------------------------------------------------------------------- text


def as_json(result: TuningResult) -> dict[str, Any]:
    """The study as plain JSON values: counts, default, best and all trials, best first, pruned ones last."""
    pruned = [trial for trial in result.trials if trial.pruned]
    return {
        "model": result.model,
        "metric": result.metric,
        "dataset": result.dataset,
        "finished": len(result.trials),
        "pruned": len(pruned),
        "default": None if result.default is None else _trial_json(result.default),
        "default_rank": rank_of_default(result),
        "best": _trial_json(result.ranked[0]) if result.ranked else None,
        "repeated": None if result.repeated is None else dataclasses.asdict(result.repeated),
        "importances": dict(result.importances),
        "trials": [_trial_json(trial) for trial in (*result.ranked, *pruned)],
    }


def _trial_json(trial: Trial) -> dict[str, Any]:
    value = trial.value if math.isfinite(trial.value) else None
    return {"number": trial.number, "value": value, "pruned": trial.pruned, "fields": dict(trial.fields)}


def rank_of_default(result: TuningResult) -> int | None:
    """1 where no complete trial beats the run as it was given; None before that is measured."""
    default = result.default
    return None if default is None else result.ranked.index(default) + 1


def as_markdown(result: TuningResult, num_rows: int = 10) -> str:
    """The best trials and the default as a Markdown table, below a line that sums the study up."""
    fields = [parameter.field for parameter in result.space]
    shown = list(result.ranked[:num_rows])
    if result.default is not None and result.default not in shown:
        shown.append(result.default)
    rows = (
        [
            f"{trial.number} (default)" if trial is result.default else str(trial.number),
            number(trial.value, 4),
            *(text_of(trial.fields[field]) for field in fields),
        ]
        for trial in shown
    )
    page = text_tables.table("", ["trial", result.metric, *(name.split(".")[-1] for name in fields)], rows)
    return "\n".join([summary(result), "", *text_tables.as_markdown(page)]) + "\n"


def summary(result: TuningResult) -> str:
    """One or two sentences: how many trials, where the default stands, and both with further seeds."""
    pruned = sum(trial.pruned for trial in result.trials)
    text = f"{result.dataset}, {result.model}: {len(result.trials)} trials, {pruned} of them pruned."
    default, rank = result.default, rank_of_default(result)
    if default is not None and rank is not None:
        best = result.ranked[0].value
        text += (
            f" The default's {result.metric} is {default.value:.4f}, rank {rank} of {len(result.ranked)} complete "
            f"trials, {best - default.value:.4f} below the best ({best:.4f})."
        )
    if result.repeated is not None:
        given, found = (_spread(values) for values in (result.repeated.default, result.repeated.best))
        text += f" With {len(result.repeated.best)} further seeds: default {given}, best {found}."
    return text


def _spread(values: Sequence[float]) -> str:
    deviation = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.4f}{deviation}"


# ---------------------------------------------------------------------------------------------- charts


def draw_history(result: TuningResult) -> bytes:
    """Each trial's value in order, the best so far, and the default; PNG bytes."""
    with chart_style():
        figure, axes = blank_chart(7.5, 4.6)
        complete = [trial for trial in result.trials if not trial.pruned]
        pruned = [trial for trial in result.trials if trial.pruned and math.isfinite(trial.value)]
        _scatter(axes, pruned, marker="x", color="#999999", label="pruned, its last report")
        _scatter(axes, complete, marker="o", color=look_of(0)["color"], label="complete")
        best = list(itertools.accumulate((trial.value for trial in complete), max))
        axes.step([t.number for t in complete], best, where="post", color=look_of(2)["color"], label="best so far")
        if result.default is not None:
            axes.axhline(result.default.value, color=look_of(1)["color"], linestyle="--", label="default")
        title = f"{display(result.model)}: trials of the search"
        name_chart(axes, title, f"{result.dataset}; pruned trials ended early", "trial", result.metric)
        _show_the_better(axes, complete)
        axes.legend(loc="lower right")
        return chart_png(figure)


def _scatter(axes: Axes, trials: Sequence[Trial], **look: Any) -> None:
    axes.plot([t.number for t in trials], [t.value for t in trials], linestyle="none", markersize=6, **look)


def _show_the_better(axes: Axes, complete: Sequence[Trial]) -> None:
    """Cut the axis where the very bad trials are, so that the good ones can be told apart."""
    values = sorted(trial.value for trial in complete)
    if len(values) < 4 or values[0] == values[-1]:
        return
    span = values[-1] - values[len(values) // 4]
    low = max(values[0], values[-1] - 3 * span)
    room = 0.06 * (values[-1] - low) or 1e-6
    axes.set_ylim(low - room, values[-1] + room)


def draw_slices(result: TuningResult) -> bytes:
    """The complete trials' values against each searched field, the most important first; PNG bytes."""
    shares = result.importances
    space = sorted(result.space, key=lambda parameter: -shares.get(parameter.field, 0.0))
    rows = -(-len(space) // _PANELS_PER_ROW)
    with chart_style():
        figure, found = blank_chart(3.1 * _PANELS_PER_ROW, 2.9 * rows + 0.5, rows, _PANELS_PER_ROW)
        title = f"{display(result.model)}, {result.dataset}: {result.metric} of the complete trials"
        figure.suptitle(f"{title}; ★ default; in brackets the share of the variance", ha="left", x=0.01, fontsize=11)
        panels = found.ravel()
        for axes, parameter in zip(panels, space, strict=False):
            _slice(axes, result, parameter, shares.get(parameter.field))
        for axes in panels[len(space) :]:
            axes.set_axis_off()
        return chart_png(figure)


def _slice(axes: Axes, result: TuningResult, parameter: Parameter, share: float | None) -> None:
    places = [parameter.place_of(trial.fields[parameter.field]) for trial in result.ranked]
    axes.plot(places, [t.value for t in result.ranked], "o", markersize=4, color=look_of(0)["color"])
    default = result.default
    if default is not None:
        star = {"marker": "*", "markersize": 14, "color": look_of(1)["color"], "markeredgecolor": "white"}
        axes.plot(parameter.place_of(default.fields[parameter.field]), default.value, **star)
    if isinstance(parameter, Range):
        _span(axes, parameter)
    else:
        axes.set_xticks(range(len(parameter.values)), parameter.labels)
    bracket = "" if share is None else f" ({share:.0%})"
    axes.set_title(parameter.field.split(".")[-1] + bracket, loc="left", fontsize=10)
    _show_the_better(axes, result.ranked)


def _span(axes: Axes, parameter: Range) -> None:
    """The whole range, by logarithms where they are searched; only powers of ten are written."""
    from matplotlib.ticker import NullFormatter

    if parameter.log:
        axes.set_xscale("log")
        axes.set_xlim(parameter.low / 1.2, parameter.high * 1.2)
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        room = 0.05 * (parameter.high - parameter.low)
        axes.set_xlim(parameter.low - room, parameter.high + room)


def fields_to_set(result: TuningResult) -> str:
    """The best trial's fields, one ``field = value`` a line, with the default's value where it differs."""
    lines = []
    for parameter in result.space:
        best, given = (field_of(config, parameter.field) for config in (result.best, result.config))
        note = "" if best == given else f"   (default {text_of(given)})"
        lines.append(f"{parameter.field} = {text_of(best)}{note}")
    return "\n".join(lines)
