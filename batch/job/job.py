"""What one night is: a frozen description, checked once, from which the plan follows."""

from __future__ import annotations

import datetime
import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

from batch.gates.thresholds import GateConfig
from sdk.base.config import SimilarKind
from sdk.base.errors import UsageError
from sdk.base.paths import as_location, as_path
from sdk.machine.cluster import ClusterConfig
from sdk.machine.device import DEVICES

MOST_THREADS = 1024
_PATHS = (
    "out", "bundle", "ratings", "new_items", "users", "items", "allow", "deny", "block", "repeat", "rules", "judged",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One night's work.

    Attributes:
        bundle: a trained bundle's folder.
        out: where nights are published, one folder each: a path, or a URL such as ``s3://bucket/nights``.
        run_date: the night, ``YYYY-MM-DD``; it names the folder; a run refuses one far ahead of the machine's date.
        k: list length, at least 1.
        model: ``dlrm``, ``ncf``, ``bfm``, or ``best`` by validation AUC.
        kind: of items' lists: ``hybrid``, by content and by who likes both, or by ``content`` alone.
        include_seen: whether to list items that the user has rated, too.
        device: where to score: ``auto``, ``cpu`` or ``cuda``.
        force: whether to write a night again that is published, or one whose date lies far ahead.
        full: whether to score everybody, whoever's list stands since the night before; it changes no byte.
        users_per_part: users in one Parquet file, and in memory at a time.
        threads: cores to score on, every one unless given; it changes no byte.
        memory_mib: most MiB that the engine's buffers may take, chosen unless given; it changes no byte.
        items_per_tile: items that are laid out in memory at a time, all unless given; it changes no byte.
        keep: published nights that stay, with their reports and run records, newest first; all unless given.
        gates: what a night must keep to before it is published; a file is a JSON object of the thresholds to change.
        skip_gate: gates that stop nothing, as ``--skip-gate`` names them; the manifest notes them.
        cluster: where shards are scored; it changes no byte.
        ratings: ratings or events newer than the bundle, in one of MovieLens' forms: a file, a folder or a zip; of
            data that are no films, in any form that training takes.
        ratings_until: the last day, ``YYYY-MM-DD`` in UTC, whose ratings count; None counts them all.
        new_items: items newer than the bundle, a table as training takes it: they are listed by their content.
        users: file of the user_ids that get a list; all get one unless given.
        items: file of the item_ids that get a list and an audience; all get one unless given.
        allow: file of the only item_ids that may be recommended; all may unless given.
        deny: file of item_ids that are recommended to nobody.
        block: file of (user_id, item_id) pairs: what is not recommended to whom.
        repeat: file of item_ids that may be listed again for users who have them already; none may unless given.
        audience: best users listed for each item, in ``item_users/``; none unless given.
        explore: what Gumbel noise on users' scores is multiplied by: lists are draws, and rows have their propensity;
            no noise unless given.
        explore_share: share of the users, always the same ones, whose lists are draws where some are.
        rules: file of what users' lists must keep to, such as at most two items of a group; none unless given.
        judged: rows of randomised nights with a column ``clicked``, as Parquet, by which the gate ``judged`` asks what
            tonight's draws would have earned; none unless given. It changes no byte of a list.
    """

    bundle: Path
    out: str | Path
    run_date: str
    k: int = 100
    model: str = "best"
    kind: SimilarKind = "hybrid"
    include_seen: bool = False
    device: str = "auto"
    force: bool = False
    full: bool = False
    users_per_part: int = 8192
    threads: int | None = None
    memory_mib: float | None = None
    items_per_tile: int | None = None
    keep: int | None = None
    gates: GateConfig = field(default_factory=GateConfig)
    skip_gate: tuple[str, ...] = ()
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    ratings: Path | None = None
    ratings_until: str | None = None
    new_items: Path | None = None
    users: Path | None = None
    items: Path | None = None
    allow: Path | None = None
    deny: Path | None = None
    block: Path | None = None
    repeat: Path | None = None
    audience: int | None = None
    rules: Path | None = None
    explore: float | None = None
    explore_share: float = 1.0
    judged: Path | None = None

    def __post_init__(self) -> None:
        from batch.gates.table import check_skips  # with NumPy, which the help of a command does without
        from sdk.base.ids import count_of

        for name in ("k", "users_per_part", "threads", "items_per_tile", "keep", "audience"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, count_of(getattr(self, name), f"--{name.replace('_', '-')}"))
        if self.threads is not None and self.threads > MOST_THREADS:
            raise UsageError(f"--threads: got {self.threads}, expected at most {MOST_THREADS}")
        if self.memory_mib is not None and not 0 < self.memory_mib < math.inf:
            raise UsageError(f"--memory-mib: got {self.memory_mib}, expected a number above 0")
        if self.device not in DEVICES:
            raise UsageError(f"--device: got {self.device!r}, expected one of {', '.join(DEVICES)}")
        if self.kind not in get_args(SimilarKind):
            raise UsageError(f"--kind: got {self.kind!r}, expected one of {', '.join(get_args(SimilarKind))}")
        if self.repeat is not None and self.include_seen:
            message = "--repeat: not together with --include-seen, with which every item may be listed again"
            raise UsageError(message)
        _check_lists(self)
        _check_tiles(self)
        check_skips(self.skip_gate)
        self._settle_paths()
        _check_apart(self.bundle, str(self.out))
        check_date(self.run_date, "--run-date")
        if self.ratings_until is not None:
            check_date(self.ratings_until, "ratings_until")

    @property
    def night(self) -> Path:
        """The folder in which the night is published, where ``out`` is a path."""
        from batch.store.layout import night_of

        return Path(self.out) / night_of(self.run_date)

    def _settle_paths(self) -> None:
        """Every path and URL as it is meant, once for everybody who reads them."""
        for name in _PATHS:
            given = getattr(self, name)
            try:
                meant = given if given is None else as_location(given) if name == "out" else as_path(given)
            except UsageError as error:
                raise UsageError(f"--{name.replace('_', '-')}: {error}") from error
            object.__setattr__(self, name, meant)


def _check_lists(job: Job) -> None:
    """Refuse rules and draws that do not go together with what else is asked for.

    Raises:
        UsageError: they do not, or are out of their range.
    """
    for option, given in (("--rules", job.rules), ("--explore", job.explore)):
        if given is not None and job.audience is not None:
            why = "which follows from scores alone; write it in another OUT"
            raise UsageError(f"{option}: not together with --audience, {why}")
    if job.explore is None:
        if job.explore_share != 1 or job.judged is not None:
            name, given = ("judged", job.judged) if job.judged else ("explore-share", job.explore_share)
            raise UsageError(f"--{name}: got {given} without --explore; give its TAU, such as 0.1")
        return
    if not 0 < job.explore < math.inf:
        raise UsageError(f"--explore: got {job.explore}, expected a number above 0, in units of a score")
    if not 0 < job.explore_share <= 1:
        raise UsageError(f"--explore-share: got {job.explore_share}, expected a share above 0, up to 1")
    if job.rules is not None:
        message = "--explore: not together with --rules, under which the probability of a place has no closed form"
        raise UsageError(message)
    if job.device == "cuda":
        message = "--explore: got --device cuda, expected cpu: randomised lists are made on the CPU only"
        raise UsageError(message)
    object.__setattr__(job, "device", "cpu")


def _check_tiles(job: Job) -> None:
    """Refuse tiles together with what needs every item at once.

    Raises:
        UsageError: they are asked for together.
    """
    if job.items_per_tile is None:
        return
    for option, given in (("--audience", job.audience), ("--explore", job.explore)):
        if given is not None:
            message = f"--items-per-tile: not together with {option}, for which every item is laid out at once"
            raise UsageError(message)
    if job.device == "cuda":
        message = "--items-per-tile: got --device cuda, expected cpu: tiles are laid out on the CPU only"
        raise UsageError(message)
    object.__setattr__(job, "device", "cpu")


def _check_apart(bundle: Path, location: str) -> None:
    """Refuse to write into a bundle: it may hold nothing but its own files.

    Raises:
        UsageError: ``location`` is the bundle, or lies inside it.
    """
    real_out, real_bundle = Path(os.path.realpath(location)), os.path.realpath(bundle)  # resolve trips over circles
    if "://" not in location and real_out.is_relative_to(real_bundle):
        problem = f"{location} lies inside --bundle {bundle}, which is never written to"
        raise UsageError(f"--out: {problem}; give another folder")


def check_date(text: str, option: str) -> None:
    """Refuse a date that is not written like 2026-11-23.

    Raises:
        UsageError: it is no date, or written in another way; the message names ``option``.
    """
    try:
        parsed = datetime.date.fromisoformat(text)
    except ValueError as error:
        raise UsageError(f"{option}: got {text!r}, expected a date such as 2026-11-23") from error
    if parsed.isoformat() != text:
        raise UsageError(f"{option}: got {text!r}, expected it written as {parsed.isoformat()}")
