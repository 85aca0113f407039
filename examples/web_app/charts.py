"""A bar chart of average ratings as inline SVG: no script, no picture file; colours come from the style sheet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from catalogue import Title
from markupsafe import Markup

_STEPS = 5
_WIDTH, _ROW, _BAR = 360, 40, 12
_LONGEST_LABEL = 38  # letters that fit the width


@dataclass(frozen=True, slots=True)
class Scale:
    """What ratings lie on.

    Attributes:
        least: where bars begin.
        most: the highest rating.
        unit: what a rating is counted in, with a blank before it; "" for none.
        items: what is rated, in the plural.
    """

    least: float = 0.0
    most: float = 5.0
    unit: str = " stars"
    items: str = "titles"

    @property
    def words(self) -> str:
        """``0 to 5 stars``."""
        return f"{self.least:g} to {self.most:g}{self.unit}"

    def share(self, rating: float) -> float:
        """Where a rating lies, from 0 to 1."""
        return min(max((rating - self.least) / (self.most - self.least), 0.0), 1.0)

    def at(self, share: float) -> float:
        """The rating that lies there."""
        return self.least + share * (self.most - self.least)


STARS = Scale()


def rating_chart(first: Title, others: Sequence[Title], scale: Scale = STARS) -> Markup:
    """Bars from the lowest to the highest rating: an item and those like it; none for an item without ratings.

    Args:
        first: drawn in another colour.
        others: in their order.
        scale: of the ratings.
    """
    bars = [_bar(row, title, row == 0, scale) for row, title in enumerate([first, *others])]
    height = _ROW * len(bars) + 20
    name = f"Average ratings of {first.name} and {len(others)} similar {scale.items}, from {scale.words}"
    return Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">{}{}</svg>').format(
        _WIDTH, height, name, _grid(height, scale), Markup("").join(bars)
    )


def _grid(height: int, scale: Scale) -> Markup:
    line = (
        '<line class="grid" x1="{0:.0f}" x2="{0:.0f}" y1="0" y2="{1}"/>'
        '<text class="tick" x="{0:.0f}" y="{2}">{3}</text>'
    )
    return Markup("").join(
        Markup(line).format(_x(step / _STEPS), height - 18, height - 4, f"{scale.at(step / _STEPS):g}")
        for step in range(_STEPS + 1)
    )


def _bar(row: int, title: Title, is_first: bool, scale: Scale) -> Markup:
    top = row * _ROW
    label = title.name if len(title.name) <= _LONGEST_LABEL else f"{title.name[: _LONGEST_LABEL - 1]}…"
    text = Markup('<text class="label" x="4" y="{}">{}</text>').format(top + 14, label)
    if title.average is None:
        return text + Markup('<text class="value" x="4" y="{}">no ratings</text>').format(top + 30)
    kind = "bar first" if is_first else "bar"
    end = _x(scale.share(title.average))
    return text + Markup(
        '<rect class="{}" x="{:.0f}" y="{}" width="{:.1f}" height="{}" rx="3"/>'
        '<text class="value" x="{:.1f}" y="{}">{:.2f}</text>'
    ).format(kind, _x(0), top + 20, end - _x(0), _BAR, end + 5, top + 30, title.average)


def _x(share: float) -> float:
    return 4 + share * (_WIDTH - 44)
