"""A figure over some nights as a line of a word's height: inline SVG in the text's colour."""

from __future__ import annotations

import html
from collections.abc import Sequence
from itertools import groupby

MOST_NIGHTS = 30
_WIDTH, _HEIGHT, _EDGE = 120, 28, 3


def sparkline(values: Sequence[float | None], label: str) -> str:
    """One ``svg`` element, from the lowest to the highest value; "" where there are fewer than two.

    Args:
        values: (N,) the oldest first.
        label: what it shows, in words.
    """
    known = [value for value in values if value is not None]
    if len(known) < 2:
        return ""
    low, high = min(known), max(known)
    points = [None if value is None else _point(at, len(values), value, low, high) for at, value in enumerate(values)]
    runs = [list(run) for there, run in groupby(points, key=lambda point: point is not None) if there]
    lines = "".join(f'<polyline points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in run)}"/>' for run in runs)  # type: ignore[misc]
    x, y = next(point for point in reversed(points) if point is not None)
    said = html.escape(f"{label}: from {low:.4g} to {high:.4g} over {len(known)} nights, {known[-1]:.4g} in the last")
    return (
        f'<svg class="spark" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{said}">'
        f'{lines}<circle cx="{x:.1f}" cy="{y:.1f}" r="3"/></svg>'
    )


def _point(at: int, count: int, value: float, low: float, high: float) -> tuple[float, float]:
    share = 0.5 if high == low else (value - low) / (high - low)
    return _EDGE + at * (_WIDTH - 2 * _EDGE) / (count - 1), _HEIGHT - _EDGE - share * (_HEIGHT - 2 * _EDGE)
