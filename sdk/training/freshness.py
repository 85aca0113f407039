"""Whether a bundle is still what training would make: same data, same configuration, same release."""

from __future__ import annotations

import logging
from pathlib import Path

from sdk.base import __version__
from sdk.base.config import RunConfig, to_json
from sdk.base.errors import BundleError
from sdk.base.files import standing
from sdk.base.types import Dataset
from sdk.bundles.bundle import INFO, load
from sdk.data.labels import ready
from sdk.features.engine import with_engine

log = logging.getLogger(__name__)


def is_up_to_date(path: Path, dataset: Dataset, config: RunConfig) -> bool:
    """Whether a sound bundle of this data set and configuration, written by this release, is at ``path``.

    Models that the data's labels leave out of training make no other configuration. A bundle that is damaged or of
    another release is not up to date; the log says why.
    """
    if not (standing(path.absolute()) / INFO).exists():
        log.info("%s: no bundle yet", path)
        return False
    try:
        info = load(path).info
    except BundleError as error:
        log.warning("%s", error)
        return False
    config = ready(dataset, with_engine(config), level=logging.DEBUG).config
    reasons = {
        "the data are new": info.data["fingerprint"] != dataset.fingerprint,
        "the configuration is another": to_json(info.config) != to_json(config),
        "the release is another": info.packages.get("marquee") != __version__,
    }
    changed = [reason for reason, holds in reasons.items() if holds]
    log.info("%s: %s", path, ", ".join(changed) or "up to date")
    return not changed
