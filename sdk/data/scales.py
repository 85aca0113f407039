"""Rating scales other than MovieLens's: which one a file has, and the configuration that reads it."""

from __future__ import annotations

import json
import math

_ENDS = (1, 5, 10, 20, 100)


def scale_remedy(low: float, high: float, least: float, most: float, *, adjustable: bool) -> str:
    """What to do about ratings off the configured scale.

    Args:
        low: the lowest rating in the file.
        high: the highest.
        least: the lowest on the scale.
        most: the highest on the scale.
        adjustable: whether a configuration can be given.
    """
    scale = _scale_of(low, high) if adjustable else None
    rescale = f"rescale them to {least:g} to {most:g} in halves"
    if scale is None:
        return f"Its ratings run from {low:g} to {high:g}: {rescale}."
    settings = json.dumps(scale_settings(*scale))
    return (
        f"Its ratings run from {low:g} to {high:g}: give their scale in a file, --config scale.json, that holds "
        f"{settings} (ratings above like_above are likes), or {rescale}."
    )


def scale_settings(low: float, high: float) -> dict[str, dict[str, float]]:
    """The configuration of a scale: what 3, 4 and a star are on the usual one, in the same place on this one."""
    stars = (high - low) / 4.5
    like_above = round(low + 2.5 * stars) if stars >= 1 else low + (high - low) / 2
    return {
        "data": {"rating_min": low, "rating_max": high},
        "features": {"like_above": like_above},
        "history": {"like_at": round(low + 3.5 * stars, 2), "star_weight": round(0.4 / stars, 4)},
    }


def _scale_of(low: float, high: float) -> tuple[int, int] | None:
    """The least usual scale that holds the ratings; None where there is none."""
    end = next((end for end in _ENDS if high <= end and low >= -end), None)
    if end is None or not math.isfinite(low):
        return None
    start = -end if low < 0 else int(low >= 1 and end > 1)
    return start, end
