"""One attempt at a night, as its operators tell it from others."""

from __future__ import annotations

from dataclasses import dataclass, field

from sdk.base.logs import new_run_id
from sdk.base.stages import Stages


@dataclass(frozen=True, slots=True, eq=False)
class Attempt:
    """What is known of a run even where it fails.

    Attributes:
        run_id: the same in log lines and in the run record.
        stages: what took how long so far.
    """

    run_id: str = field(default_factory=new_run_id)
    stages: Stages = field(default_factory=Stages)
