"""The comparison as Markdown and as JSON."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from sdk.base.files import json_text
from sdk.lab.comparison.contenders import OURS
from sdk.lab.comparison.paired import Difference, paired_difference
from sdk.lab.comparison.run import Comparison
from sdk.lab.comparison.workbench import Result, per_user

_LIST_FIGURES = (("recall20", "Recall@20"), ("map10", "MAP@10"), ("hit_rate10", "hits"), ("gini", "Gini"))
_HEADINGS = {
    "A": "Protocol A: liked or not",
    "B": "Protocol B: lists",
    "C": "Protocol C: lists by time, one moment",
    "rolling": "Protocol C: lists by time, rolling origin",
}


def mean_of(results: Sequence[Result], figure: str) -> float | None:
    """The mean of a figure over tasks; None where it was not measured."""
    values = [result.figures.get(figure) for result in results]
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if len(known) == len(values) and known else None


def difference(comparison: Comparison, protocol: str, other: str, metric: str = "ndcg10") -> Difference:
    """The nightly lists minus another contender's, over all tasks of a protocol."""
    ours, theirs = comparison.of(protocol, OURS), comparison.of(protocol, other)
    return paired_difference([per_user(each, metric) for each in ours], [per_user(each, metric) for each in theirs])


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


def _rating_table(comparison: Comparison) -> list[str]:
    tasks = comparison.tasks["A"]
    rows = []
    for contender in comparison.contenders("A"):
        results = comparison.of("A", contender.name)
        aucs = [_number(result.figures["auc"], 4) for result in results]
        means = [_number(mean_of(results, name), 4) for name in ("auc", "log_loss")]
        rows.append([_named(contender.name), *aucs, f"**{means[0]}**", means[1], _seconds(results)])
    head = ["model", *(f"AUC, {task}" for task in tasks), "mean AUC", "log loss", "seconds"]
    test = " / ".join(f"{int(r.figures['num_rows'] or 0):,}" for r in comparison.of("A", "popularity"))
    return [f"Label: rating > 3. Test ratings: {test}.", "", *_table(head, rows)]


def _list_table(comparison: Comparison) -> list[str]:
    tasks = comparison.tasks["B"]
    rows = []
    for contender in comparison.contenders("B"):
        results = comparison.of("B", contender.name)
        ndcgs = [_number(result.figures["ndcg10"]) for result in results]
        others = [_number(mean_of(results, name)) for name, _ in _LIST_FIGURES]
        spread = [f"{mean_of(results, 'distinct_in_top10') or 0:.0f}", _number(mean_of(results, "novelty"), 2)]
        rows.append(
            [_named(contender.name), *ndcgs, f"**{_number(mean_of(results, 'ndcg10'))}**", *others, *spread,
             _gap(comparison, "B", contender.name), _seconds(results)]
        )  # fmt: skip
    names = [f"NDCG@10, {task}" for task in tasks]
    head = ["model", *names, "mean", *(name for _, name in _LIST_FIGURES), "titles", "novelty", _GAP, "seconds"]
    return [_about_lists(comparison, "B"), "", *_table(head, rows)]


_GAP = "nightly lists minus it, NDCG@10"


def _time_table(comparison: Comparison) -> list[str]:
    rows = []
    for contender in comparison.contenders("C"):
        (result,) = comparison.of("C", contender.name)
        low, high = result.intervals["ndcg10"]
        ndcg = f"**{_number(result.figures['ndcg10'])}** ({_number(low)} to {_number(high)})"
        others = [_number(result.figures[name]) for name, _ in _LIST_FIGURES]
        rows.append([_named(contender.name), ndcg, *others, _gap(comparison, "C", contender.name)])
    head = ["model", "NDCG@10 (95 %)", *(name for _, name in _LIST_FIGURES), _GAP]
    return [_about_lists(comparison, "C"), "", *_table(head, rows)]


def _rolling_table(comparison: Comparison) -> list[str]:
    rows = []
    for contender in comparison.contenders("rolling"):
        results = comparison.of("rolling", contender.name)
        pooled = [_number(_pooled(results, metric)) for metric in ("ndcg10", "recall20")]
        gaps = [_gap(comparison, "rolling", contender.name, metric) for metric in ("ndcg10", "recall20")]
        rows.append([_named(contender.name), f"**{pooled[0]}**", pooled[1], *gaps])
    head = ["model", "NDCG@10", "Recall@20", _GAP, "Recall@20"]
    names = comparison.tasks["rolling"]
    cuts = f"{len(names)} moments, {names[0]} of the ratings to {names[-1]}; means over all lists."
    return [f"{cuts} {_about_lists(comparison, 'rolling')}", "", *_table(head, rows)]


def _pooled(results: Sequence[Result], metric: str) -> float:
    return float(np.concatenate([per_user(result, metric)[1] for result in results]).mean())


def _about_lists(comparison: Comparison, protocol: str) -> str:
    results = comparison.of(protocol, "popularity")
    users, lists = len({user for result in results for user in result.users}), sum(len(r.users) for r in results)
    return f"{users:,} users, {lists:,} lists. In brackets: 95 % bootstrap interval over users."


def _gap(comparison: Comparison, protocol: str, other: str, metric: str = "ndcg10") -> str:
    if other == OURS or not comparison.of(protocol, OURS):
        return "–"
    gap = difference(comparison, protocol, other, metric)
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


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [head, ["---", *("---:" for _ in head[1:])], *rows]
    return ["| " + " | ".join(line) + " |" for line in lines]


def _named(name: str) -> str:
    return f"**{name}**" if name.startswith("Marquee") else name


def _number(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _seconds(results: Sequence[Result]) -> str:
    return f"{np.mean([result.seconds for result in results]):.0f}"


def as_json(comparison: Comparison) -> str:
    """Every figure, interval and setting; not the single users' values."""
    results = []
    for (protocol, task, contender), result in comparison.results.items():
        values = {name: value for name, value in asdict(result).items() if name not in ("users", "ndcg10", "recall20")}
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
        for metric in ("ndcg10", "recall20")
        for gap in [difference(comparison, protocol, each.name, metric)]
    ]
