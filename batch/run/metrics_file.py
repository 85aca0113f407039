"""A run's figures in Prometheus' text format, for the textfile collector of node_exporter."""

from __future__ import annotations

import datetime
import logging
import math
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from batch.gates.figures import Figures
from batch.run.outcome import Attempt, Outcome, Report
from sdk.base.errors import OutputError, UsageError
from sdk.base.files import write_file
from sdk.base.rights import reason
from sdk.base.stages import peak_memory_mib

log = logging.getLogger(__name__)

_OF_SIDES = {
    "fallback": ("fallback_ratio", "Share of lists that popularity made."),
    "coverage": ("coverage_ratio", "Share of the catalogue that stands in at least one list."),
    "gini": ("gini_ratio", "Gini index of how often each title is listed: 0 all equally often, 1 one title only."),
    "overlap": ("overlap_ratio", "Mean Jaccard index of the lists' tops and those of the night before."),
    "drift": ("score_drift", "Population stability index of the scores against the night before."),
}
"""Figure of one side -> end of the metric's name, and its help."""


def check_writable(path: Path) -> None:
    """Refuse a place that cannot be written, before a night's work is done.

    Raises:
        UsageError: the folder of the file is not there.
        OutputError: this account may not write there.
    """
    try:
        if path.is_dir() or not path.parent.is_dir():
            such = "a file in a folder that exists, such as /var/lib/node_exporter/a.prom"
            raise UsageError(f"--metrics-file: {path}: expected {such}")
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        error.filename = str(path)
        raise OutputError(f"--metrics-file: {path}: cannot be written ({reason(error)})") from error


def write_metrics(path: Path, attempt: Attempt, exit_code: int, outcome: Outcome | None = None) -> None:
    """Replace the file in one step.

    What this run has no figure for stays as the run before left it: after a failure the figures of the last published
    night, and when it was published, are still there beside the exit code of the failure.

    Args:
        path: the file; node_exporter reads names that end in ``.prom``.
        attempt: the run, which ends now.
        exit_code: of the command.
        outcome: how the night was decided; None where the run failed before.

    Raises:
        OSError: it cannot be written.
    """
    fresh = {family.name: family for family in _of_run(attempt, exit_code, outcome)}
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Families(_before(path) | fresh))
    write_file(path, generate_latest(registry), durable=False)


class _Families(Collector):
    """What a registry asks for families that are made already."""

    def __init__(self, found: Mapping[str, Metric]) -> None:
        self.found = found

    def collect(self) -> Iterator[Metric]:
        yield from (self.found[name] for name in sorted(self.found))


def _before(path: Path) -> dict[str, Metric]:
    """The families of an earlier file."""
    try:
        before = list(text_string_to_metric_families(path.read_text("utf-8")))
    except FileNotFoundError:
        return {}
    except (ValueError, IndexError, KeyError) as error:
        log.warning("%s: not readable as metrics (%s); written anew", path, error)
        return {}
    return {family.name: family for family in before if family.name.startswith("marquee_")}


def _of_run(attempt: Attempt, exit_code: int, outcome: Outcome | None) -> Iterator[Metric]:
    """Every metric that a run has a figure for."""
    now, stages = time.time(), attempt.stages.seconds
    yield _gauge("run_last_exit_code", "Exit code of the last run; 0 is a published night.", exit_code)
    yield _gauge("run_last_timestamp_seconds", "When the last run ended, in Unix time.", now)
    yield _gauge("run_peak_memory_bytes", "Most memory that the last run held.", peak_memory_mib() * 2**20)
    yield _gauge("run_stage_duration_seconds", "How long each stage of the last run took.", stages, "stage")
    if outcome is None:
        return
    figures = outcome.shown.figures
    passed = {gate.name: float(gate.passed) for gate in figures.gates if gate.got is not None}
    yield _gauge("gates", "Gates of the last audited night by what they said.", figures.verdicts, "verdict")
    yield _gauge("gate_passed", "Whether a gate passed; absent where nothing was compared.", passed, "gate")
    if isinstance(outcome.ended, Report):
        yield _gauge("run_last_success_timestamp_seconds", "When a run last succeeded, in Unix time.", now)
        yield from _of_night(outcome.ended, figures)


def _of_night(report: Report, figures: Figures) -> Iterator[Metric]:
    yield _date("night", "The published night's date, midnight UTC.", report.run_date)
    if report.latest is not None:
        yield _date("latest", "The date of the night that readers use, midnight UTC.", report.latest)
    rows = {"users": report.user_rows, "titles": report.item_rows}
    yield _gauge("night_rows", "Rows of the published night.", rows, "side")
    yield _gauge("run_resumed_parts", "Parts that an interrupted run had finished before.", report.resumed_parts)
    for what in ("users", "titles", "pairs"):
        if rate := getattr(report, f"{what}_per_s"):
            yield _gauge(f"run_{what}_per_second", f"{what.capitalize()} scored and written a second.", rate)
    for figure, (name, text) in _OF_SIDES.items():
        found = {"users": getattr(figures.users, figure), "titles": getattr(figures.titles, figure)}
        yield _gauge(f"night_{name}", text, {side: value for side, value in found.items() if value is not None}, "side")


def _date(what: str, text: str, date: str) -> Metric:
    midnight = datetime.datetime.fromisoformat(date).replace(tzinfo=datetime.UTC)
    return _gauge(f"{what}_date_timestamp_seconds", text, midnight.timestamp())


def _gauge(name: str, text: str, value: float | Mapping[str, float], label: str = "") -> Metric:
    """One figure, or one for each value of a label."""
    family = GaugeMetricFamily(f"marquee_{name}", text, labels=[label] if label else [])
    for key, each in value.items() if isinstance(value, Mapping) else [("", value)]:
        family.add_metric([key] if label else [], float(each) if math.isfinite(each) else math.nan)
    return family
