"""Checks on a staged night, read back from its parts, before anybody sees it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from batch.gate_log import log_gates
from batch.gates import (
    BUNDLE,
    TITLES,
    USERS,
    GateConfig,
    GateResult,
    check_skips,
    enforce,
    to_manifest,
)
from batch.job import Job
from batch.side_audit import Lookup, SideAudit, SideRules
from batch.verdicts import Judge, compare, side_figures
from sdk import schema
from sdk.bundle import Bundle
from sdk.config import to_json
from sdk.errors import OutputError
from sdk.features.tables import FIRST_KNOWN
from sdk.scoring.seen import Seen
from sdk.types import Bools

Parts = Iterable[tuple[str, pa.Table]]
"""Parts as (name for messages, rows); strings may be dictionaries."""
SIDES = {USERS: "user_items", TITLES: "item_items"}
"""A side's name in gates -> its folder and its key in the manifest."""


@dataclass(frozen=True, slots=True, eq=False)
class PreviousNight:
    """The published night that tonight is compared with.

    Attributes:
        manifest: its manifest.
        parts: side -> its parts.
    """

    manifest: Mapping[str, Any]
    parts: Mapping[str, Parts]


def audit(
    staging: Path,
    bundle: Bundle,
    job: Job,
    *,
    config: GateConfig | None = None,
    skip: Sequence[str] = (),
    previous: PreviousNight | None = None,
) -> dict[str, Any]:
    """Hold a staged night on this machine to every gate; see ``audit_parts``.

    Args:
        staging: the folder that holds ``user_items`` and ``item_items``.
        bundle: what the night was made from.
        job: the night; its ``k``, ``model`` and ``include_seen`` are looked at.
        config: thresholds; None takes the defaults.
        skip: gates that stop nothing, as ``--skip-gate`` names them.
        previous: the night to compare with; None where there is none.

    Returns:
        The figures of both sides and a line per gate, for the manifest.

    Raises:
        QualityGateError: a gate failed; the message names each.
        OutputError: a staged part cannot be read.
        UsageError: no gate has a name in ``skip``.
    """
    thresholds = config or GateConfig()
    expected = expectations(bundle, job.k, job.model, thresholds, include_seen=job.include_seen)
    parts = {side: local_parts(staging / folder) for side, folder in SIDES.items()}
    return audit_parts(parts, expected, thresholds, skip=skip, previous=previous, where=str(staging))


def local_parts(folder: Path) -> Iterator[tuple[str, pa.Table]]:
    """The parts of one side in a folder on this machine, by name; empty where there are none.

    Raises:
        OutputError: a part cannot be read.
    """
    for path in sorted(folder.glob("part-*.parquet")):
        yield f"{folder.name}/{path.name}", read_part(path)


def read_part(path: Path) -> pa.Table:
    """One part, with ``source`` as a dictionary, which takes a tenth of the time of strings.

    Raises:
        OutputError: it cannot be read.
    """
    try:
        return pq.read_table(path, partitioning=None, read_dictionary=["source"])
    except (pa.ArrowException, OSError) as error:
        message = (
            f"{path}: not readable as Parquet ({error}). Nothing was published; run the same command with --force."
        )
        raise OutputError(message) from error


@dataclass(frozen=True, slots=True, eq=False)
class Expectations:
    """What a night is held against.

    Attributes:
        rules: side -> what its lists must keep to.
        served: side -> whether the bundle has a model for it; else everybody is served by popularity.
        bundle: name of the data, ranker, k, label rule, split and validation AUC, for the manifest.
    """

    rules: Mapping[str, SideRules]
    served: Mapping[str, bool]
    bundle: Mapping[str, Any]


def expectations(
    bundle: Bundle, k: int, model: str, config: GateConfig, *, include_seen: bool, seen: Seen | None = None
) -> Expectations:
    """What a night made from a bundle must look like.

    Args:
        bundle: the bundle.
        k: list length asked for.
        model: ``dlrm``, ``ncf`` or ``best``.
        config: ``depth`` and ``established_ratings`` are looked at.
        include_seen: whether rated titles may appear.
        seen: who must not be shown what, rows of the encoded tables; None takes the bundle's ratings.

    Raises:
        UsageError: the bundle has no such model.
    """
    users, titles = Lookup(bundle.encoded_users.known_ids), Lookup(bundle.encoded_items.known_ids)
    rated = None if include_seen else seen or bundle.interactions.seen(len(bundle.encoded_users))
    given = np.bincount(bundle.interactions.rows.user_index, minlength=len(bundle.encoded_users))[FIRST_KNOWN:]
    resolved = bundle.resolve_model(model)
    shown = 0 if rated is None else np.diff(rated.indptr)[FIRST_KNOWN:]
    common: dict[str, Any] = {"answers": titles, "k": k, "depth": config.depth}
    user_rules = SideRules(
        layout=schema.USER_ITEMS, queries=users, expected=_all(users), left=np.full(len(users), len(titles)) - shown,
        seen=rated, established=given >= config.established_ratings, may_be_short=False, not_itself=False, **common,
    )  # fmt: skip
    title_rules = SideRules(
        layout=schema.ITEM_ITEMS, queries=titles, expected=_all(titles), left=np.full(len(titles), len(titles) - 1),
        seen=None, established=_all(titles), may_be_short=True, not_itself=True, **common,
    )  # fmt: skip
    served = {USERS: resolved is not None, TITLES: "content" in bundle.info.models}
    return Expectations({USERS: user_rules, TITLES: title_rules}, served, _bundle_facts(bundle, resolved, k))


def _all(ids: Lookup) -> Bools:
    return np.ones(len(ids), dtype=np.bool_)


def _bundle_facts(bundle: Bundle, ranker: str | None, k: int) -> dict[str, Any]:
    metrics = bundle.info.metrics
    return {
        "data": bundle.info.data.get("name"),
        "model": ranker,
        "k": k,
        "label_rule": metrics.get("label_rule"),
        "split": metrics.get("split"),
        "validation_auc": None if ranker is None else dict(metrics.get("validation_auc") or {}).get(ranker),
    }


def audit_parts(
    parts: Mapping[str, Parts],
    expected: Expectations,
    config: GateConfig,
    *,
    skip: Sequence[str] = (),
    previous: PreviousNight | None = None,
    where: str = "the staged night",
) -> dict[str, Any]:
    """Hold a night to every gate, reading each part once, one at a time.

    Args:
        parts: side -> its parts, each read once.
        expected: what they are held against.
        config: the thresholds.
        skip: gates that stop nothing.
        previous: the night to compare with; its parts are read once, too.
        where: what messages call the night.

    Returns:
        ``user_items`` and ``item_items`` with their figures, ``bundle``, ``gates`` with a line each, ``previous`` (its
        date) and ``skipped``.

    Raises:
        QualityGateError: a gate failed; the message names each.
        UsageError: no gate has a name in ``skip``.
    """
    checks: dict[str, Any] = {
        BUNDLE: dict(expected.bundle),
        "skipped": list(check_skips(skip)),
        "thresholds": to_json(config),
        "previous": None if previous is None else previous.manifest.get("run_date"),
    }
    before = None if previous is None else previous.manifest.get("checks")
    judge = Judge(config, checks["skipped"], checks, before if isinstance(before, Mapping) else {})
    results: list[GateResult] = []
    for side, folder in SIDES.items():
        found = SideAudit(expected.rules[side])
        for name, table in parts[side]:
            found.add(name, table)
        checks[folder] = {**side_figures(found), **compare(found, None if previous is None else previous.parts[side])}
        results += judge.side(side, folder, found, served=expected.served[side])
    results += judge.bundle()
    checks["gates"] = to_manifest(results)
    log_gates(results)
    enforce(results, where, checks)
    return checks
