"""`batch.plan.plan`: the public place of `batch.run.plan`, what a night would write."""

from batch.run.plan import plan

__all__ = ["plan"]
