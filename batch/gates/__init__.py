"""What a night must pass before it is published: names, thresholds, words and verdicts in one table.

Uses `sdk`. Begin with `config.GateConfig`.
"""

from batch.gates.config import GateConfig

__all__ = ["GateConfig"]
