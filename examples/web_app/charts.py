"""Why items are alike, as bars of inline SVG: no script, no picture file; colours come from the style sheet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import accumulate

from markupsafe import Markup

WIDTH, _MOST_FIELDS, _OTHER = 240, 5, "other"
Parts = Mapping[str, float]
"""What is shared -> what it adds to a likeness; above 0."""


def legend_of(rows: Sequence[Parts]) -> tuple[str, ...]:
    """What adds most over all rows, at most five things, and ``other`` where there is more."""
    total: Counter[str] = Counter()
    for parts in rows:
        total.update(parts)  # type: ignore[arg-type]  # adds numbers of every kind
    names = [name for name, _ in total.most_common()]
    return tuple(names[:_MOST_FIELDS] + [_OTHER] * (len(names) > _MOST_FIELDS))


def likeness_bar(parts: Parts, legend: Sequence[str], longest: float) -> Markup:
    """A bar of one piece for each thing of the legend.

    Args:
        parts: of one row.
        legend: the things, in their order; what is not among them is in ``other``.
        longest: the likeness that fills the width; above 0.
    """
    known = {name: parts.get(name, 0.0) for name in legend if name != _OTHER}
    sizes = [known.get(name, sum(parts.values()) - sum(known.values())) / longest * WIDTH for name in legend]
    said = ", ".join(
        f"{name} {size / WIDTH * longest:.2f}" for name, size in zip(legend, sizes, strict=True) if size > 0
    )
    starts = [0.0, *accumulate(sizes)]
    pieces = Markup("").join(
        Markup('<rect class="f{}" x="{:.1f}" y="0" width="{:.1f}" height="10"/>').format(at, start, size)
        for at, (start, size) in enumerate(zip(starts, sizes, strict=False)) if size > 0
    )  # fmt: skip
    return Markup('<svg class="likeness" viewBox="0 0 {} 10" role="img" aria-label="Alike by {}">{}</svg>').format(
        WIDTH, said or "nothing", pieces
    )
