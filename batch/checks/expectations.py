"""What a night made from a bundle must look like: the rules of each side, and what its figures depend on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from batch.checks.side_audit import SideRules
from batch.gates.figures import AUDIENCES, TITLES, USERS, BundleFacts
from batch.gates.thresholds import GateConfig
from batch.job.inputs import Asked, everything
from batch.job.job import Job
from sdk.base.ids import rows_of
from sdk.base.types import Bools, IdArray, Int64s
from sdk.bundles.bundle import Bundle
from sdk.features.seen import Seen
from sdk.features.tables import FIRST_KNOWN, UNKNOWN
from sdk.scoring.recommender import HISTORY

_SOME = 10_000
"""Lists, about, that what one order for all would give is measured on."""


@dataclass(frozen=True, slots=True, eq=False)
class Expectations:
    """What a night is held against.

    Attributes:
        rules: side -> what its lists must keep to.
        bundle: what the figures depend on.
        config: the thresholds.
        skip: gates that stop nothing, as ``--skip-gate`` names them.
    """

    rules: Mapping[str, SideRules]
    bundle: BundleFacts
    config: GateConfig
    skip: Sequence[str] = ()


def judged_by_log(bundle: Bundle, job: Job) -> float | None:
    """The gate ``judged``'s figure: the upper end of the doubly robust estimate's interval over what was earned.

    Returns:
        None without ``--judged``, or where nothing was earned there.

    Raises:
        DataError: see ``sdk.measure.judging.read_log``.
    """
    if job.judged is None or job.explore is None:
        return None
    from sdk.measure.judging import judge_bundle, read_log

    found = judge_bundle(bundle, read_log(job.judged), job.explore, model=job.model).judged
    return found.dr.high / found.logged.value if found.logged.value > 0 else None


def expectations(bundle: Bundle, job: Job, asked: Asked | None = None, *, judged: float | None = None) -> Expectations:
    """What a night must look like.

    Args:
        bundle: what it is made from.
        job: the night.
        asked: who gets a list, and of what; None asks for everything.
        judged: see ``judged_by_log``.

    Raises:
        UsageError: the bundle has no such model.
    """
    users, titles = bundle.encoded_users.known_ids, bundle.encoded_items.known_ids
    num_users, asked = len(bundle.encoded_users), asked or everything(bundle)
    rated = None if job.include_seen else asked.seen(bundle)
    allowed = np.ones(len(titles), np.bool_) if asked.allowed is None else asked.allowed[FIRST_KNOWN:]
    given = np.bincount(bundle.interactions.rows.user_index, minlength=num_users)[FIRST_KNOWN:]
    resolved, models = bundle.resolve_model(job.model), bundle.info.models
    barred = asked.barred(rated or Seen.nothing(num_users))
    depth, listable = job.gates.depth, None if asked.allowed is None else allowed
    common: dict[str, Any] = {"answers": titles, "k": job.k, "depth": depth, "allowed": listable}
    of_users, of_titles = _among(users, asked.users), _among(titles, asked.items)
    user_rules = SideRules(
        side=USERS, queries=users, expected=of_users, sampled=some_of(of_users),
        left=allowed.sum() - _counted(barred, allowed), seen=rated, blocked=asked.blocked,
        established=given >= job.gates.established_ratings, served=resolved is not None or HISTORY in models,
        scope=_scope(asked, "users", "allow", "rules") | ({} if job.explore is None else {"drawn": job.run_date}),
        rules=asked.rules, drawn=job.explore is not None, **common,
    )  # fmt: skip
    title_rules = SideRules(
        side=TITLES, queries=titles, expected=of_titles, sampled=some_of(of_titles), left=allowed.sum() - allowed,
        served="content" in models, scope=_scope(asked, "items", "allow"), **common,
    )  # fmt: skip
    rules = {USERS: user_rules, TITLES: title_rules}
    if job.audience is not None:
        rules[AUDIENCES] = _audience_rules(bundle, asked, barred, user_rules, job.audience)
    metrics, liked = bundle.info.metrics, _liked_share(bundle, job)
    facts = BundleFacts(
        data=bundle.info.data.get("name"), model=resolved, k=job.k, include_seen=job.include_seen,
        repeat=job.repeat is not None, kind="hybrid" if liked else "content", liked=liked,
        label_rule=metrics.get("label_rule"), split=metrics.get("split"),
        validation_auc=None if resolved is None else dict(metrics.get("validation_auc") or {}).get(resolved),
        judged=judged,
    )  # fmt: skip
    return Expectations(rules, facts, job.gates, job.skip_gate)


def some_of(expected: Bools, first: int = 0, total: int | None = None) -> Bools:
    """(Q,) bool: some of the expected ones, evenly taken.

    Args:
        expected: (Q,) bool, of a part of all.
        first: how many lie before the part.
        total: how many there are of all; None: these are all.
    """
    step = max((int(expected.sum()) if total is None else total) // _SOME, 1)
    found: Bools = expected & ((first + np.cumsum(expected) - 1) % step == 0)
    return found


def _liked_share(bundle: Bundle, job: Job) -> str | None:
    """What liking together counts in items' lists, in words; None where it has no part."""
    liked = (bundle.info.metrics.get("content") or {}).get("liked") or {}
    if job.kind == "content" or not liked.get("share"):
        return None
    return f"share {liked['share']:.3f}, shrink {liked['shrink']:g}"


def _audience_rules(bundle: Bundle, asked: Asked, barred: Seen, user_rules: SideRules, size: int) -> SideRules:
    """The users' rules turned round: items are asked about, and the users that a model knows are listed."""
    titles = bundle.encoded_items.known_ids
    eligible = user_rules.expected & _known_to_a_model(bundle)[FIRST_KNOWN:]
    turned, seen, blocked = (_turned(one, bundle) for one in (barred, user_rules.seen, asked.blocked))
    shown = 0 if turned is None else _counted(turned, eligible)
    return SideRules(
        side=AUDIENCES, queries=titles, answers=user_rules.queries, expected=_among(titles, asked.audience),
        left=np.asarray(eligible.sum() - shown), k=size, seen=seen, depth=user_rules.depth, allowed=eligible,
        blocked=blocked,
    )  # fmt: skip


def _among(known: IdArray, some: IdArray) -> Bools:
    """(R,) bool: which of the known ids stand among some of them."""
    found = np.zeros(len(known) + 1, dtype=np.bool_)
    found[rows_of(known, some)] = True  # unknown ones mark the last place
    return found[:-1]


def _turned(seen: Seen | None, bundle: Bundle) -> Seen | None:
    """The same pairs by item row."""
    if seen is None:
        return None
    return Seen.build(seen.items.astype(np.int64), seen.users, len(bundle.encoded_items))


def _counted(seen: Seen, known: Bools) -> Int64s:
    """(R - 3,) int64: how many of each row's entries are marked in ``known``, both without the reserved rows."""
    which = np.append(np.zeros(FIRST_KNOWN, np.bool_), known)
    return np.bincount(seen.users[which[seen.items]], minlength=len(seen.indptr) - 1)[FIRST_KNOWN:]


def _known_to_a_model(bundle: Bundle) -> Bools:
    """(R_user,) bool: who has an embedding of their own, or a rating that says something to the history model."""
    known: Bools = bundle.encoded_users.codes["id"] != UNKNOWN
    if bundle.history is not None:
        rows, weights = bundle.interactions.rows, bundle.history.config.weights(bundle.interactions.rating)
        tells = (weights != 0) & bundle.history.item_in.any(axis=1)[rows.item_index]
        known = known | (np.bincount(rows.user_index[tells], minlength=len(known)) > 0)
    return known


def _scope(asked: Asked, *options: str) -> dict[str, str]:
    """What narrows a side: who is asked about, and a list of the only items allowed."""
    return {name: asked.pins[name]["sha256"] for name in options if name in asked.pins}
