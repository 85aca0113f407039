"""What became of a night: figures for the command's output and the run record, and all that watchers look at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from batch.gates.judge import GatesFailedError
from batch.page.report_page import NightShown
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


@dataclass(frozen=True, slots=True)
class Report:
    """What a night did.

    Attributes:
        night: the published folder.
        run_date: the night.
        latest: the night that readers use now.
        not_latest: why that is another one, and what helps; None where it is this night.
        run_id: tells this run from others.
        model: what made the user lists, as in ``Plan``.
        status: ``published`` or ``already published``.
        gate_verdicts: verdict -> how many gates of the night had it.
        user_rows: rows of user lists.
        item_rows: rows of title lists.
        audience_rows: rows of audiences.
        fallback_users: users served by popularity.
        fallback_items: titles served by popularity.
        asked: what was counted in the files that the job names.
        parts: Parquet files of the night.
        resumed_parts: those of them that an earlier, interrupted run had finished.
        taken_over: side -> lists that were taken over from the night before, as they stand still.
        not_taken_over: why not all were; empty where they were, or nothing was written.
        bytes_per_row: of the parts, 0 where nothing was written.
        users_per_s: users scored and written per second, 0 where nothing was scored.
        titles_per_s: the same of titles.
        pairs_per_s: user-title pairs scored per second.
        peak_memory_mib: the most memory that the process held.
        worker_peak_memory_mib: the same of each worker by its name; empty where there was none.
        seconds: stage -> seconds.
        figures: what the lists look like, where it is known: ``users``, ``titles`` and ``rows``, share of popular lists
            (``fallback``), ``coverage``, ``gini``, ``overlap`` with the night before, and ``validation_auc``.
    """

    night: str
    run_date: str
    latest: str | None
    not_latest: str | None
    run_id: str
    model: str
    status: str
    gate_verdicts: Mapping[str, int]
    user_rows: int
    item_rows: int
    audience_rows: int
    fallback_users: int
    fallback_items: int
    asked: Mapping[str, int]
    parts: int
    resumed_parts: int
    taken_over: Mapping[str, int]
    not_taken_over: str
    bytes_per_row: float
    users_per_s: float
    titles_per_s: float
    pairs_per_s: float
    peak_memory_mib: float
    worker_peak_memory_mib: Mapping[str, float]
    seconds: Mapping[str, float]
    figures: Mapping[str, float]


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """A night that is decided: what it did or why it was refused, and the night itself as its watchers see it.

    Attributes:
        shown: the night with its figures.
        ended: what the run did, or the gates that failed.
    """

    shown: NightShown
    ended: Report | GatesFailedError

    @property
    def was_published(self) -> bool:
        """Whether an earlier run had published the night."""
        return isinstance(self.ended, Report) and self.ended.status == "already published"

    def published(self) -> Report:
        """What the run did.

        Raises:
            GatesFailedError: the night was refused.
        """
        if isinstance(self.ended, Report):
            return self.ended
        raise self.ended
