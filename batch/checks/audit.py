"""Checks on a staged night, read back from its parts, before anybody sees it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from batch.checks.side_audit import Lookup, SideAudit, SideRules
from batch.checks.verdicts import compare, side_figures, unchecked, verdicts
from batch.gates.config import GateConfig, GateResult, agreed, check_skips, enforce, to_manifest
from batch.gates.log import log_gates
from batch.gates.table import AUDIENCES, BUNDLE, TITLES, USERS, Facts
from batch.job.inputs import Asked, everything
from batch.job.job import Job
from batch.lists.progress import Progress
from batch.store.layout import ITEM_USERS
from sdk.base import schema
from sdk.base.config import to_json
from sdk.base.errors import OutputError
from sdk.base.types import Bools, Int64s
from sdk.bundles.bundle import Bundle
from sdk.features.seen import Seen
from sdk.features.tables import FIRST_KNOWN, UNKNOWN
from sdk.scoring.recommender import HISTORY

Parts = Iterable[tuple[str, pa.Table]]
"""Parts as (name for messages, rows); strings may be dictionaries."""
SIDES = {USERS: "user_items", TITLES: "item_items"}
"""A side's name in gates -> its folder and its key in the manifest; these are compared with the night before."""
FOLDERS = {**SIDES, AUDIENCES: ITEM_USERS}
"""The same with the audiences, which only some nights have."""


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
    asked: Asked | None = None,
    where: str | None = None,
) -> dict[str, Any]:
    """Hold a staged night on this machine to every gate; see ``audit_parts``.

    Args:
        staging: the folder that holds ``user_items`` and ``item_items``.
        bundle: what the night was made from.
        job: the night; its ``k``, ``model``, ``include_seen`` and ``audience`` are looked at.
        config: thresholds; None takes the defaults.
        skip: gates that stop nothing, as ``--skip-gate`` names them.
        previous: the night to compare with; None where there is none.
        asked: who gets a list, and of what; None asks for everything.
        where: what messages call the night; None takes ``staging``.

    Returns:
        The figures of all sides and a line per gate, for the manifest.

    Raises:
        QualityGateError: a gate failed; the message names each.
        OutputError: a staged part cannot be read.
        UsageError: no gate has a name in ``skip``.
    """
    thresholds = config or GateConfig()
    expected = expectations(
        bundle, job.k, job.model, thresholds, include_seen=job.include_seen, asked=asked, audience=job.audience
    )
    parts = {side: local_parts(staging / folder) for side, folder in FOLDERS.items()}
    return audit_parts(parts, expected, thresholds, skip=skip, previous=previous, where=where or str(staging))


def local_parts(folder: Path) -> Iterator[tuple[str, pa.Table]]:
    """The parts of one side in a folder on this machine, by name; empty where there are none.

    Raises:
        OutputError: a part cannot be read.
    """
    paths = sorted(folder.glob("part-*.parquet"))
    with Progress(f"checking {folder.name}", "parts", parts=len(paths), total=len(paths)) as progress:
        for path in paths:
            table = read_part(path)
            yield f"{folder.name}/{path.name}", table
            progress.step(1, side=folder.name, shard=f"{folder.name}/{path.name}", rows=table.num_rows)


def read_part(path: Path) -> pa.Table:
    """One part, with ``source`` as a dictionary, which takes a tenth of the time of strings.

    Raises:
        OutputError: it cannot be read.
    """
    try:
        return pq.read_table(path, partitioning=None, read_dictionary=["source"])
    except (pa.ArrowException, OSError) as error:
        message = (
            f"{path}: not readable as Parquet ({error}). Nothing was published. Delete this staged part and run "
            "the same command, which makes it again."
        )
        raise OutputError(message) from error


@dataclass(frozen=True, slots=True, eq=False)
class Expectations:
    """What a night is held against.

    Attributes:
        rules: side -> what its lists must keep to.
        served: side -> whether the bundle has a model for it; else everybody is served by popularity.
        bundle: name of the data, ranker, k, whether rated titles may be listed, label rule, split and validation AUC,
            for the manifest.
        scope: side -> what narrows it: nights are compared where that is the same.
    """

    rules: Mapping[str, SideRules]
    served: Mapping[str, bool]
    bundle: Mapping[str, Any]
    scope: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def expectations(
    bundle: Bundle,
    k: int,
    model: str,
    config: GateConfig,
    *,
    include_seen: bool,
    seen: Seen | None = None,
    asked: Asked | None = None,
    audience: int | None = None,
) -> Expectations:
    """What a night made from a bundle must look like.

    Args:
        bundle: the bundle.
        k: list length asked for.
        model: ``dlrm``, ``ncf`` or ``best``.
        config: ``depth`` and ``established_ratings`` are looked at.
        include_seen: whether rated titles may appear.
        seen: who must not be shown what, rows of the encoded tables; None takes the bundle's ratings.
        asked: who gets a list, and of what; None asks for everything.
        audience: users listed for each title; None lists none.

    Raises:
        UsageError: the bundle has no such model.
    """
    users, titles = Lookup(bundle.encoded_users.known_ids), Lookup(bundle.encoded_items.known_ids)
    asked = asked or everything(bundle)
    rated = None if include_seen else seen or bundle.interactions.seen(len(bundle.encoded_users))
    allowed = _all(titles) if asked.allowed is None else asked.allowed[FIRST_KNOWN:]
    given = np.bincount(bundle.interactions.rows.user_index, minlength=len(bundle.encoded_users))[FIRST_KNOWN:]
    resolved = bundle.resolve_model(model)
    barred = asked.barred(rated or Seen.nothing(len(bundle.encoded_users)))
    shown = _counted(barred, np.append(np.zeros(FIRST_KNOWN, np.bool_), allowed))[FIRST_KNOWN:]
    common: dict[str, Any] = {
        "answers": titles, "k": k, "depth": config.depth, "allowed": None if asked.allowed is None else allowed
    }  # fmt: skip
    user_rules = SideRules(
        layout=schema.USER_ITEMS, queries=users, expected=_among(users, asked.users), left=allowed.sum() - shown,
        seen=rated, established=given >= config.established_ratings, may_be_short=False, not_itself=False,
        blocked=asked.blocked, **common,
    )  # fmt: skip
    title_rules = SideRules(
        layout=schema.ITEM_ITEMS, queries=titles, expected=_among(titles, asked.items), left=allowed.sum() - allowed,
        seen=None, established=_all(titles), may_be_short=True, not_itself=True, **common,
    )  # fmt: skip
    rules = {USERS: user_rules, TITLES: title_rules}
    if audience is not None:
        rules[AUDIENCES] = _audience_rules(bundle, asked, rated, barred, user_rules, audience)
    models = bundle.info.models
    served = {USERS: resolved is not None or HISTORY in models, TITLES: "content" in models}
    return Expectations(rules, served, _bundle_facts(bundle, resolved, k, include_seen), _scope(asked))


def _audience_rules(
    bundle: Bundle, asked: Asked, rated: Seen | None, barred: Seen, user_rules: SideRules, size: int
) -> SideRules:
    """The users' rules turned round: titles are asked about, and the users that a model knows are listed."""
    titles, users = Lookup(bundle.encoded_items.known_ids), user_rules.queries
    eligible = np.append(np.zeros(FIRST_KNOWN, np.bool_), user_rules.expected) & _known_to_a_model(bundle)
    num_items = len(bundle.encoded_items)
    turned, turned_rated, turned_blocked = (
        None if one is None else _turned(one, num_items) for one in (barred, rated, asked.blocked)
    )
    shown = 0 if turned is None else _counted(turned, eligible)[FIRST_KNOWN:]
    return SideRules(
        layout=schema.ITEM_USERS, queries=titles, answers=users, expected=_among(titles, asked.audience),
        left=eligible.sum() - shown, k=size, may_be_short=False, seen=turned_rated, not_itself=False,
        established=_all(titles), depth=user_rules.depth, allowed=eligible[FIRST_KNOWN:], blocked=turned_blocked,
    )  # fmt: skip


def _turned(seen: Seen, num_items: int) -> Seen:
    """The same pairs by item row."""
    users = np.repeat(np.arange(len(seen.indptr) - 1), np.diff(seen.indptr))
    return Seen.build(seen.items.astype(np.int64), users, num_items)


def _counted(seen: Seen, which: Bools) -> Int64s:
    """(R,) int64: how many of each row's entries are marked in ``which``."""
    rows = np.repeat(np.arange(len(seen.indptr) - 1), np.diff(seen.indptr))
    return np.bincount(rows[which[seen.items]], minlength=len(seen.indptr) - 1)


def _known_to_a_model(bundle: Bundle) -> Bools:
    """(R_user,) bool: who has an embedding of their own, or a rating that says something to the history model."""
    known: Bools = bundle.encoded_users.codes["id"] != UNKNOWN
    if bundle.history is not None:
        rows, weights = bundle.interactions.rows, bundle.history.config.weights(bundle.interactions.rating)
        tells = (weights != 0) & bundle.history.item_in.any(axis=1)[rows.item_index]
        known = known | (np.bincount(rows.user_index[tells], minlength=len(known)) > 0)
    return known


def _among(known: Lookup, ids: Int64s) -> Bools:
    return np.isin(known.known, ids, assume_unique=True)


def _scope(asked: Asked) -> dict[str, dict[str, Any]]:
    """What narrows each side: who is asked about, and a list of the only titles allowed."""
    options = {USERS: ("users", "allow"), TITLES: ("items", "allow")}
    return {side: {n: asked.pins[n]["sha256"] for n in names if n in asked.pins} for side, names in options.items()}


def _all(ids: Lookup) -> Bools:
    return np.ones(len(ids), dtype=np.bool_)


def _bundle_facts(bundle: Bundle, ranker: str | None, k: int, include_seen: bool) -> dict[str, Any]:
    metrics = bundle.info.metrics
    return {
        "data": bundle.info.data.get("name"),
        "model": ranker,
        "k": k,
        "include_seen": include_seen,
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
        "scope": {side: dict(narrowed) for side, narrowed in expected.scope.items()},
        "previous": None if previous is None else previous.manifest.get("run_date"),
    }
    results: list[GateResult] = []
    for side in expected.rules:
        found = SideAudit(expected.rules[side])
        for name, table in parts[side]:
            found.add(name, table)
        checks[FOLDERS[side]] = _measured(side, found, expected, previous)
        facts = _facts(side, checks, found, expected, previous)
        lines = verdicts(facts, config, checks["skipped"])
        results += lines
        checks[FOLDERS[side]] |= _only_compared(lines)
    results += verdicts(_bundle_side(checks, previous), config, checks["skipped"])
    results = agreed(results)
    checks["gates"] = to_manifest(results)
    log_gates(results)
    enforce(results, where, checks)
    return checks


def _same_scope(side: str, expected: Expectations, previous: PreviousNight) -> bool:
    """Whether the night before was asked for the same of a side."""
    checks = previous.manifest.get("checks")
    past = checks.get("scope") if isinstance(checks, Mapping) else None
    return dict(expected.scope.get(side, {})) == (past.get(side, {}) if isinstance(past, Mapping) else {})


def _measured(side: str, found: SideAudit, expected: Expectations, previous: PreviousNight | None) -> dict[str, Any]:
    """The figures of one side; audiences are counted, not compared."""
    figures = side_figures(found)
    if side == AUDIENCES:
        return {"queries": figures["queries"], "rows": figures["rows"]}
    why = _why_alone(side, expected, previous)
    return figures | (compare(found, None, why) if previous is None or why else compare(found, previous.parts[side]))


def _why_alone(side: str, expected: Expectations, previous: PreviousNight | None) -> str:
    """Why a side has no night to be compared with; empty where it has one."""
    if previous is None:
        return "no previous night"
    if side in SIDES and not _same_scope(side, expected, previous):
        return "the previous night was asked for other ids, or allowed other titles"
    return ""


def _only_compared(lines: Sequence[GateResult]) -> dict[str, None]:
    """The figures that are taken back, since the two nights they lie between are not comparable."""
    names = {line.name.partition(".")[2] for line in lines if line.got is None}
    return dict.fromkeys(names & {"kept", "overlap", "drift"})


def _facts(
    side: str, checks: Mapping[str, Any], found: SideAudit, expected: Expectations, previous: PreviousNight | None
) -> Facts:
    tonight = checks[FOLDERS[side]]
    why = _why_alone(side, expected, previous) or tonight.get("note", "")
    return Facts(
        side=side, tonight=tonight, before={} if why else _past(previous, FOLDERS[side]), bundle=checks[BUNDLE],
        bundle_before=_past_bundle(previous), settings=checks["thresholds"], counts=found.problems.counts,
        first=found.problems.first, unchecked=unchecked(side, expected.rules[side]),
        served=expected.served.get(side, True), why=why,
    )  # fmt: skip


def _bundle_side(checks: Mapping[str, Any], previous: PreviousNight | None) -> Facts:
    return Facts(
        side=BUNDLE, tonight={}, before={}, bundle=checks[BUNDLE], bundle_before=_past_bundle(previous),
        settings=checks["thresholds"],
    )  # fmt: skip


def _past(previous: PreviousNight | None, key: str) -> Mapping[str, Any]:
    """What the night before measured; empty where its manifest says nothing of it."""
    checks = None if previous is None else previous.manifest.get("checks")
    found = checks.get(key) if isinstance(checks, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _past_bundle(previous: PreviousNight | None) -> Mapping[str, Any]:
    """The night before's facts; of one that an earlier release checked, what its inputs say instead."""
    found = _past(previous, BUNDLE)
    inputs = None if previous is None else previous.manifest.get("inputs")
    options = {"include_seen": inputs.get("include_seen")} if isinstance(inputs, Mapping) else {}
    return {**options, **found} if found else {}
