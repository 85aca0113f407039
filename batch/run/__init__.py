"""One night from beginning to end: plan, score, stage, check, publish, tell.

Uses every other room. Begin with `night.run`.
"""

from batch.run.night import run
from batch.run.summary import Report

__all__ = ["Report", "run"]
