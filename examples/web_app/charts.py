"""A bar chart of average ratings as inline SVG: no script, no picture file; colours come from the style sheet."""

from __future__ import annotations

from collections.abc import Sequence

from catalogue import Title
from markupsafe import Markup

MOST_STARS = 5.0
_WIDTH, _ROW, _BAR = 360, 40, 12
_LONGEST_LABEL = 38  # letters that fit the width


def rating_chart(first: Title, others: Sequence[Title]) -> Markup:
    """Bars from 0 to 5 stars: a title and those like it; none for a title without ratings.

    Args:
        first: drawn in another colour.
        others: in their order.
    """
    bars = [_bar(row, title, row == 0) for row, title in enumerate([first, *others])]
    height = _ROW * len(bars) + 20
    name = f"Average ratings of {first.name} and {len(others)} similar titles, from 0 to 5 stars"
    return Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">{}{}</svg>').format(
        _WIDTH, height, name, _grid(height), Markup("").join(bars)
    )


def _grid(height: int) -> Markup:
    line = (
        '<line class="grid" x1="{0:.0f}" x2="{0:.0f}" y1="0" y2="{1}"/>'
        '<text class="tick" x="{0:.0f}" y="{2}">{3}</text>'
    )
    return Markup("").join(
        Markup(line).format(_x(stars), height - 18, height - 4, stars) for stars in range(int(MOST_STARS) + 1)
    )


def _bar(row: int, title: Title, is_first: bool) -> Markup:
    top = row * _ROW
    label = title.name if len(title.name) <= _LONGEST_LABEL else f"{title.name[: _LONGEST_LABEL - 1]}…"
    text = Markup('<text class="label" x="4" y="{}">{}</text>').format(top + 14, label)
    if title.average is None:
        return text + Markup('<text class="value" x="4" y="{}">no ratings</text>').format(top + 30)
    kind = "bar first" if is_first else "bar"
    end = _x(title.average)
    return text + Markup(
        '<rect class="{}" x="{:.0f}" y="{}" width="{:.1f}" height="{}" rx="3"/>'
        '<text class="value" x="{:.1f}" y="{}">{:.2f}</text>'
    ).format(kind, _x(0), top + 20, end - _x(0), _BAR, end + 5, top + 30, title.average)


def _x(stars: float) -> float:
    return 4 + stars / MOST_STARS * (_WIDTH - 44)
