"""One night from beginning to end: plan, score, stage, check, publish, tell.

Uses every other room. Begin with `night.run`; `outcome` holds what it comes to.
"""

from batch.run.night import run
from batch.run.outcome import Report

__all__ = ["Report", "run"]
