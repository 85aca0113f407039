"""What the gates said, in a word each and in one log line."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from batch.gates.config import VERDICTS, GateResult, count_verdicts, to_manifest
from sdk.base.logs import facts

log = logging.getLogger(__name__)


def log_gates(results: Sequence[GateResult]) -> None:
    """One line with the number of each verdict, and every gate's figure and threshold as facts."""
    counts = count_verdicts(to_manifest(results))
    gates = {
        result.name: {"verdict": result.verdict, "got": result.got, "threshold": result.threshold} for result in results
    }
    by_name = {f"gates_{name.replace(' ', '_')}": counts[name] for name in VERDICTS}
    log.info(
        "gates: %d passed, %d failed, %d skipped, %d not compared",
        *(counts[name] for name in VERDICTS),
        extra=facts(stage="checking", **by_name, gates=gates),
    )
