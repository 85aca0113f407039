"""The whole comparison: every contender on every task, each result kept as soon as it is there."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sdk.base import __version__
from sdk.base.config import RANKERS, ModelName, RunConfig, to_json
from sdk.base.description import Feedback
from sdk.base.errors import ConfigError, how_to_get
from sdk.base.types import Dataset
from sdk.data.labels import for_data, require_both_labels
from sdk.data.splits import split
from sdk.lab.comparison import workbench
from sdk.lab.comparison.contenders import OURS, Contender, missing, taking_part
from sdk.lab.comparison.protocols import CHOICES, CUTS, VALIDATION_SEEDS, Task, protocols_for, tasks_for
from sdk.lab.comparison.results import Difference, Result, ResultStore, paired_difference

log = logging.getLogger(__name__)
_FORMAT = 1
_QUICK_BUDGET = 2
_QUICK_CUTS = (0.5, 0.75)
_INSTEAD = (
    "Measure what learns from such ratings: python -m sdk train --models history,content, then python -m sdk evaluate."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareConfig:
    """What is compared.

    Attributes:
        protocols: of ``A``, ``B``, ``C``; None takes all that the data can be measured on.
        seeds: of A's and B's splits.
        budget: settings that each peer may try on its validation part, per split; ours try none.
        models: that ours are trained with.
        extras: whether the slower peers of B take part as well: EDLAE, SLIM and Mult-VAE.
        quick: two epochs, two settings and two cuts: to try the command out, not to quote.
    """

    protocols: tuple[str, ...] | None = None
    seeds: tuple[int, ...] = (42, 43, 44)
    budget: int = 12
    models: tuple[ModelName, ...] = RunConfig().models
    extras: bool = False
    quick: bool = False

    def __post_init__(self) -> None:
        owner = type(self).__name__
        if self.protocols is not None and not 0 < len(set(self.protocols) & set(CHOICES)) == len(self.protocols):
            raise ConfigError(owner, "protocols", ",".join(self.protocols), f"one or more of {', '.join(CHOICES)}")
        if not self.seeds or min(self.seeds) < 0 or len(set(self.seeds)) < len(self.seeds):
            raise ConfigError(owner, "seeds", self.seeds, "one or more integers of at least 0, each once")
        if self.budget < 1:
            raise ConfigError(owner, "budget", self.budget, "at least 1")

    @property
    def settings_tried(self) -> int:
        """How many settings a peer tries at most."""
        return min(self.budget, _QUICK_BUDGET) if self.quick else self.budget


@dataclass(frozen=True, slots=True)
class Comparison:
    """Everything that was measured.

    Attributes:
        dataset: its name.
        config: what was asked for.
        tasks: protocol -> its task names, in order.
        feedback: of the data.
        results: (protocol, task, contender) -> result.
        left_out: contender -> the package that it lacks.
    """

    dataset: str
    config: CompareConfig
    tasks: Mapping[str, Sequence[str]]
    feedback: Feedback
    results: Mapping[tuple[str, str, str], Result]
    left_out: Mapping[str, str]

    def of(self, protocol: str, contender: str) -> list[Result]:
        """A contender's results, in the order of the protocol's tasks; empty where it took no part."""
        keys = [(protocol, task, contender) for task in self.tasks.get(protocol, ())]
        return [self.results[key] for key in keys if key in self.results]

    def contenders(self, protocol: str) -> list[Contender]:
        """Those that were measured on a protocol, in the order of the table."""
        return [each for each in taking_part(protocol, self.feedback) if self.of(protocol, each.name)]

    def difference(self, protocol: str, other: str, metric: str = "ndcg10") -> Difference:
        """The nightly lists minus another contender's, over all tasks of a protocol."""
        ours, theirs = ([each.per_user(metric) for each in self.of(protocol, name)] for name in (OURS, other))
        return paired_difference(ours, theirs)


def compare(dataset: Dataset, config: CompareConfig, out: Path) -> Comparison:
    """Measure every contender on every task; what an earlier run left in ``out`` is not measured again.

    Args:
        dataset: validated ratings and titles.
        config: what to compare.
        out: folder for the results of single contenders and, meanwhile, for our bundles.

    Raises:
        ConfigError: a protocol or a seed is not usable.
        DataError: the data set is too small for a protocol, or has no such.
        OutputError: a result cannot be written.
    """
    cuts = _QUICK_CUTS if config.quick else CUTS
    dataset, settled = for_data(dataset, RunConfig())
    feedback, protocols = dataset.about.feedback, protocols_for(dataset, config.protocols)
    if set(config.models) & set(RANKERS):
        _require_labels(dataset, RunConfig())
    tasks = tasks_for(dataset, protocols, config.seeds, cuts, settled.history.like_at)
    for task in tasks:
        if any(each.form in RANKERS for each in _present(task, config)):
            _require_labels(task.learnt, workbench.run_config(task, config.models, quick=False))
    names: dict[str, list[str]] = {}
    for task in tasks:
        names.setdefault(task.protocol, []).append(task.name)
    left_out = missing(list(names))
    for name, package in left_out.items():
        log.warning("%s: left out, the package %s is missing; %s", name, package, how_to_get("compare"))
    progress = _Progress(sum(len(_present(task, config)) for task in tasks))
    results: dict[tuple[str, str, str], Result] = {}
    for task in tasks:
        for name, result in _measure_task(task, config, out, progress):
            results[task.protocol, task.name, name] = result
    return Comparison(dataset.name, config, names, feedback, results, left_out)


def _require_labels(learnt: Dataset, run: RunConfig) -> None:
    """Refuse, before any work, ratings from which no ranker can learn."""
    require_both_labels(learnt.interactions, split(learnt.interactions, run.split), run, _INSTEAD)


def _present(task: Task, config: CompareConfig) -> list[Contender]:
    contenders = taking_part(task.protocol, task.dataset.about.feedback, extras=config.extras)
    return [each for each in contenders if each.is_installed and each.form not in set(RANKERS) - set(config.models)]


def _measure_task(task: Task, config: CompareConfig, out: Path, progress: _Progress) -> Iterator[tuple[str, Result]]:
    store, label = ResultStore(out / "results"), f"{task.protocol} {task.name}"
    run, budget = workbench.run_config(task, config.models, quick=config.quick), config.settings_tried
    bench = workbench.Workbench(task, run, out / "work" / label.replace(" ", "-").replace("%", ""), budget)
    for contender in _present(task, config):
        facts, name = _facts(task, contender, to_json(run), budget), f"{label} {contender.name}"
        kept = store.get(name, facts)
        result = kept or bench.measure(contender)
        if kept is None:
            store.put(name, facts, result)
        progress.step(f"{label}, {contender.name}", result, measured=kept is None)
        yield contender.name, result
    bench.clear()


def _facts(task: Task, contender: Contender, run: Mapping[str, Any], budget: int) -> dict[str, Any]:
    """Everything that a result depends on, but for the code."""
    chosen = {"grid": contender.grid, "budget": budget, "tuned on": VALIDATION_SEEDS if task.is_list_task else None}
    own: dict[str, Any] = {"run": run, "form": contender.form} if contender.is_ours else chosen
    return {
        "format": _FORMAT,
        "version": __version__,
        "data": task.learnt.fingerprint,
        "task": [task.protocol, task.name, task.seed, len(task.test)],
        "contender": contender.name,
        "features": None if task.is_list_task else run["features"],
        **own,
    }


class _Progress:
    """One log line per result, with the time left, judged by what each contender took before."""

    def __init__(self, total: int) -> None:
        self.total, self.done, self.measured, self.start = total, 0, 0, time.perf_counter()

    def step(self, name: str, result: Result, *, measured: bool) -> None:
        """Count one result."""
        self.done += 1
        self.measured += measured
        how, left = f"{result.seconds:.1f} s" if measured else "measured before", self.total - self.done
        if self.measured and left:
            minutes = (time.perf_counter() - self.start) / self.measured * left / 60
            how += f"; about {np.ceil(minutes):.0f} min left"
        figure = result.figures.get("auc", result.figures.get("ndcg10"))
        log.info("%d/%d %s: %.4f (%s)", self.done, self.total, name, figure, how)
