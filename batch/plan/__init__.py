"""What a night would write, in which parts, and what time and room it would take; nothing is written for it.

Uses `lists` and below. Begin with `night_plan.plan`, which `batch.plan.plan` names for everybody.
"""

from batch.plan.night_plan import plan

__all__ = ["plan"]
