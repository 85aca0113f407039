"""Figures held to thresholds: a line for each gate, the words of a failure, and the error that stops a night."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Collection, Sequence

from batch.gates.figures import Figures, GateResult
from batch.gates.table import BY_NAME, GATES, Bound, Facts, Reading
from batch.gates.thresholds import WHOLE, GateConfig
from sdk.base.errors import QualityGateError
from sdk.base.logs import facts
from sdk.base.printable import number

log = logging.getLogger(__name__)
_LEAST = 1e-12
_SLACK = 1e-6
"""So that a setting passes in spite of the last bits of a product or a difference."""


class GatesFailedError(QualityGateError):
    """A night failed a gate that was not skipped.

    Args:
        message: each failure in words.
        figures: the night's, with a line per gate.
    """

    def __init__(self, message: str, figures: Figures) -> None:
        super().__init__(message, figures)
        self.message, self.figures = message, figures

    def __str__(self) -> str:
        return self.message


def lines_of(side: Facts, skip: Collection[str]) -> list[GateResult]:
    """A line for every gate of a side, or of the bundle, in the table's order.

    Args:
        side: what they look at.
        skip: gates that stop nothing.
    """
    mine = [gate for gate in GATES if side.side in gate.bounds]
    return [judge(f"{side.side}.{gate.name}", gate.figure(side), side.config, skip) for gate in mine]


def judge(name: str, reading: Reading, config: GateConfig, skip: Collection[str] = ()) -> GateResult:
    """Hold a figure to every threshold of its gate.

    Args:
        name: side and gate, ``users.coverage``.
        reading: the figure, None where there is nothing to compare with; NaN fails.
        config: the settings.
        skip: gates that stop nothing.
    """
    side, _, gate_name = name.partition(".")
    gate, (got, note, past, alone) = BY_NAME[gate_name], reading
    found = {bound: bound.threshold(getattr(config, bound.setting), past) for bound in gate.bounds[side]}
    limits = {bound: limit for bound, limit in found.items() if limit is not None}
    ends = all(limit >= 1 if gate.at_most else limit <= 0 for limit in limits.values())
    if got is not None and len(limits) < len(found) and ends:  # nothing could fail without the previous night
        got, note = None, alone
    strictest = (min if gate.at_most else max)(limits.values())
    failing = [] if got is None else [b for b in limits if not _keeps(got, limits[b], at_most=gate.at_most)]
    movable = failing if got is not None and math.isfinite(got) else []  # no setting lets a NaN pass
    settings = {bound.setting: _enough(bound, got or 0.0, past, at_most=gate.at_most) for bound in movable}
    skipped = name in skip or gate.name in skip
    return GateResult(name, not failing, got, strictest, gate.at_most, gate.means, note, skipped, settings)


def _keeps(got: float, limit: float, *, at_most: bool) -> bool:
    return got <= limit if at_most else got >= limit


def _enough(bound: Bound, got: float, past: float | None, *, at_most: bool) -> float:
    """A setting with which the figure passes: the least change in four digits, or else a little more."""
    value = bound.enough(got, 0.0 if past is None else past)
    if bound.setting in WHOLE:
        return int(value)
    near = max(0.0, float(f"{value:.4g}"))
    if _keeps(got, bound.threshold(near, past) or 0.0, at_most=at_most):
        return near
    up = bound.setting.startswith("max_")
    value = max(value, _LEAST) if up or value >= _LEAST else 0.0
    value *= 1 + (_SLACK if up else -_SLACK)
    unit = 10.0 ** (math.floor(math.log10(value)) - 3) if value > 0 else 1.0
    return max(0.0, float(f"{(math.ceil if up else math.floor)(value / unit) * unit:.4g}"))


def agreed(results: Sequence[GateResult]) -> tuple[GateResult, ...]:
    """The same, with one value for a setting that several failures name: the one with which all of them pass."""
    values: dict[str, float] = {}
    for name, value in ((n, v) for result in results if not result.skipped for n, v in result.settings.items()):
        values[name] = (max if name.startswith("max_") else min)(value, values.get(name, value))
    moved = [{name: values.get(name, value) for name, value in result.settings.items()} for result in results]
    return tuple(dataclasses.replace(result, settings=each) for result, each in zip(results, moved, strict=True))


def enforce(figures: Figures, where: str) -> None:
    """Say what the gates said, and stop a night that failed.

    Args:
        figures: the night's.
        where: the staging folder, for the message.

    Raises:
        GatesFailedError: a gate failed that is not skipped; the message names each.
    """
    counts = figures.verdicts
    log.info(
        "gates: %d passed, %d failed, %d skipped, %d not compared", *counts.values(),
        extra=facts(
            stage="checking", **{f"gates_{name.replace(' ', '_')}": count for name, count in counts.items()},
            gates={each.name: {"verdict": each.verdict, "got": each.got, "threshold": each.threshold}
                   for each in figures.gates},
        ),
    )  # fmt: skip
    failed = [result for result in figures.gates if not result.passed and not result.skipped]
    if failed:
        lines = "".join(f"\n  {describe(result)}" for result in failed)
        message = (
            f"{where}: {len(failed)} of {len(figures.gates)} gates failed. Nothing was published; the staging folder "
            f"is kept for a look until the night is published.{lines}"
        )
        raise GatesFailedError(message, figures)


def describe(result: GateResult) -> str:
    """A failure in words, with the ways past it."""
    measures = BY_NAME[result.name.partition(".")[2]].measures
    where = f" ({result.note})" if result.note else ""
    limit = "at most" if result.at_most else "at least"
    got, threshold = number(result.got, nothing="no number"), number(result.threshold)
    got = repr(result.got) if got == threshold else got
    changes = " and ".join(f"{name} to {value!r}" for name, value in result.settings.items())
    return (
        f"{result.name}: {measures}: got {got}, expected {limit} {threshold}{where}. "
        f"It may mean: {result.meaning}. If the lists are right, pass --skip-gate {result.name}"
        f"{f', or set {changes} in --gates FILE.json' if changes else ''}."
    )
