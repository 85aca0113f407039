"""Runs corrupted cases: each ends in a documented error or in an answer that its check accepts, or the test fails."""

from __future__ import annotations

import os
import traceback
from collections import Counter
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from sdk.base.errors import MarqueeError

CI_CASES = 1800
"""Corrupted inputs of all artefacts together where MARQUEE_FUZZ_CASES does not ask for more."""
_SHARES = 1.42  # of all artefacts together: what they ask for is scaled to the number of cases
TALLY: Counter[tuple[str, str]] = Counter()
"""(artefact, outcome) -> cases."""


def total_cases() -> int:
    return int(os.environ.get("MARQUEE_FUZZ_CASES") or CI_CASES)


def first_seed() -> int:
    return int(os.environ.get("MARQUEE_FUZZ_SEED") or 0)


def seeds(share: float) -> range:
    """The seeds of an artefact that gets this share of all cases."""
    return range(first_seed(), first_seed() + max(1, round(share / _SHARES * total_cases())))


class Fuzz:
    """One artefact's cases, each reproducible: MARQUEE_FUZZ_SEED=<seed> MARQUEE_FUZZ_CASES=1."""

    def __init__(self, artefact: str) -> None:
        self.artefact = artefact
        self.failures: list[str] = []

    def cases(self, share: float) -> Iterator[tuple[int, np.random.Generator]]:
        for seed in seeds(share):
            yield seed, np.random.default_rng([seed, *self.artefact.encode()])
        self.report()

    def run(self, seed: int, words: str, work: Callable[[], object], *codes: int) -> str:
        """Do the work; a documented error is one line (a line per gate with code 6) and has one of the exit codes."""
        try:
            work()
            outcome = "correct output"
        except MarqueeError as error:
            outcome = f"error {error.exit_code}"
            lines = str(error).strip().splitlines()
            if (codes and error.exit_code not in codes) or not lines or (len(lines) > 1 and error.exit_code != 6):
                self.fail(seed, words, f"exit code {error.exit_code}, expected one of {codes}, one line: {error}")
        except Exception:  # the point of the exercise: whatever else comes is a defect
            outcome = "defect"
            self.fail(seed, words, traceback.format_exc(limit=-4))
        TALLY[self.artefact, outcome] += 1
        return outcome

    def fail(self, seed: int, words: str, what: str) -> None:
        self.failures.append(f"{self.artefact}, seed {seed} ({words}):\n{what}")

    def report(self) -> None:
        if self.failures:
            kinds = {failure.strip().splitlines()[-1][:100]: failure for failure in reversed(self.failures)}
            shown = "\n\n".join(list(kinds.values())[:12])
            pytest.fail(f"{len(self.failures)} cases, {len(kinds)} kinds:\n\n{shown}", pytrace=False)
