"""What a night must pass before it is published: names, thresholds, words and verdicts in one table.

Uses `sdk`. Begin with `table.GATES`; `figures.Figures` is what an audit found, `config.GateConfig` the thresholds.
"""

from batch.gates.thresholds import GateConfig

__all__ = ["GateConfig"]
