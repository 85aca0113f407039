"""What the gates said, in a word each and in one log line."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence

from batch.gates import GateResult
from sdk.logs import facts

log = logging.getLogger(__name__)

VERDICTS = ("passed", "failed", "skipped", "not compared")


def verdict(got: float | None, *, passed: bool, skipped: bool) -> str:
    """One of ``VERDICTS``; ``skipped`` is a failure that stopped nothing."""
    if got is None:
        return "not compared"
    return "passed" if passed else "skipped" if skipped else "failed"


def log_gates(results: Sequence[GateResult]) -> None:
    """One line with the number of each verdict, and every gate's figure and threshold as facts."""
    verdicts = {result.name: verdict(result.got, passed=result.passed, skipped=result.skipped) for result in results}
    counts = Counter(verdicts.values())
    gates = {
        result.name: {"verdict": verdicts[result.name], "got": result.got, "threshold": result.threshold}
        for result in results
    }
    by_name = {f"gates_{name.replace(' ', '_')}": counts[name] for name in VERDICTS}
    log.info(
        "gates: %d passed, %d failed, %d skipped, %d not compared",
        *(counts[name] for name in VERDICTS),
        extra=facts(stage="checking", **by_name, gates=gates),
    )
