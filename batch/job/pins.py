"""What a night's content depends on, written down: two nights with equal pins have equal bytes."""

from __future__ import annotations

import platform
from typing import Any

from batch.job.inputs import OpenedJob
from batch.job.job import Job
from sdk.base.config import RunConfig, to_json
from sdk.bundles.bundle import Bundle
from sdk.machine.device import resolve_device, versions_of
from sdk.scoring.recommender import HISTORY, POPULAR

_PACKAGES = ("marquee", "numba", "numpy", "pyarrow", "scikit-learn", "scipy", "torch")


def pinned_inputs(job: Job, opened: OpenedJob) -> dict[str, Any]:
    """Bundle hash, data fingerprint, options, files named, seed and the versions of the packages that score and write.

    Options that change no byte (threads, memory) are not among them.

    Raises:
        UsageError: the bundle has no such model, or the device is not there.
    """
    bundle = opened.bundle
    return {
        "format_version": 3,
        "bundle_sha256": opened.sha256,
        "data": dict(bundle.info.data),
        "model": ranked_by(job, bundle),
        "seed": bundle.info.config.training.seed,
        "parameters": _parameters(bundle.info.config),
        "k": job.k,
        **({} if job.kind == "content" else {"kind": job.kind}),  # as nights were pinned before there was another
        "include_seen": job.include_seen,
        **_drawing(job),
        **({} if opened.asked.rules is None else {"rules": to_json(opened.asked.rules.asked)}),
        "users_per_part": job.users_per_part,
        "audience": job.audience,
        "asked": dict(opened.asked.pins),
        "device": resolve_device(job.device),
        "packages": package_versions(),
    }


def _drawing(job: Job) -> dict[str, Any]:
    """Of a randomised night alone: what its draws follow from beside the seed."""
    if job.explore is None:
        return {}
    return {"explore": {"tau": job.explore, "share": job.explore_share, "run_date": job.run_date}}


def _parameters(config: RunConfig) -> dict[str, Any]:
    """The settings, as nights were pinned before there were others: NVTabular's engine and our trainer go unsaid."""
    values: dict[str, Any] = to_json(config)
    for group, name, first in (("features", "engine", "nvtabular"), ("training", "trainer", "builtin")):
        if values[group][name] == first:
            del values[group][name]
    return values


def ranked_by(job: Job, bundle: Bundle) -> str:
    """What makes the users' lists: the ranker that has a part in them; without one ``history``, or else ``popular``.

    Raises:
        UsageError: the bundle has no such ranker.
    """
    return bundle.ranker_of_lists(job.model) or (HISTORY if HISTORY in bundle.info.models else POPULAR)


def package_versions() -> dict[str, str]:
    """The packages that score and write, and Python: name -> version."""
    return {**versions_of(_PACKAGES), "python": platform.python_version()}
