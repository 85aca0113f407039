"""Draws docs/architecture.svg: floors as rows, rooms as boxes, and the imports between them as arrows.

An arrow that others imply is left out (transitive reduction). Rows and columns follow from the arrows alone, after
Sugiyama, Tagawa and Toda 1981: long arrows get a place on every floor that they pass, each floor is put in the order
with the fewest crossings found, and places move under what is above them, and back, as far as those beside them allow.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from html import escape
from itertools import pairwise

Graph = Mapping[str, set[str]]
Place = tuple[str, ...]
"""A room, ``(name,)``; or what an arrow passes on a floor, ``(importer, imported, floor)``."""

_ROW, _BOX, _MARGIN, _GAP, _LANE = 46, 30, 24, 22, 16
_SWEEPS, _STIFF, _PORT = 40, 1e4, 24.0
_KINDS = (("sdk", "what learns and scores"), ("export", "what Triton serves"), ("batch", "the nightly job"))
_HEAD = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" aria-labelledby="title desc" \
font-family="system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif" font-size="13.5">
  <title id="title">The rooms of Marquee and what each imports</title>
  <desc id="desc">Every arrow points down, to a lower floor. Arrows that others imply are left out.</desc>
  <style>
    .sdk {{ fill: #ddf4ff; stroke: #0969da; stroke-width: 1.3 }}
    .export {{ fill: #dafbe1; stroke: #1a7f37; stroke-width: 1.3 }}
    .batch {{ fill: #fff8c5; stroke: #9a6700; stroke-width: 1.3 }}
    .name {{ fill: #1f2328; font-weight: 600 }}
    .small {{ fill: #57606a; font-size: 12px }}
    .right {{ text-anchor: end }}
    .floor {{ fill: #818b98; fill-opacity: 0.09 }}
    .arrow {{ fill: none; stroke: #6e7781; stroke-width: 1.4; marker-end: url(#tip) }}
    .tip {{ fill: #6e7781 }}
    @media (prefers-color-scheme: dark) {{
      .sdk {{ fill: #0c2d4d; stroke: #58a6ff }}
      .export {{ fill: #0f3320; stroke: #3fb950 }}
      .batch {{ fill: #3a2d05; stroke: #d29922 }}
      .name {{ fill: #f0f6fc }}
      .small {{ fill: #9198a1 }}
      .arrow {{ stroke: #8b949e }}
      .tip {{ fill: #8b949e }}
    }}
  </style>
  <defs>
    <marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="6.5" markerHeight="6.5" orient="auto">\
<path class="tip" d="M0 0 10 5 0 10z"/></marker>
  </defs>
"""


@dataclass(frozen=True, slots=True)
class Room:
    """A box.

    Attributes:
        name: of the package.
        modules: how many it has of its own.
        says: what lives there.
    """

    name: str
    modules: int
    says: str

    @property
    def width(self) -> int:
        return round(8.8 * len(self.name) + 8 * len(str(self.modules))) + 34

    @property
    def kind(self) -> str:
        package = self.name.partition(".")[0]
        return "export" if package == "triton_models" else package


def reduced(graph: Graph) -> set[tuple[str, str]]:
    """The arrows of a graph without circles that no longer way implies."""

    @cache
    def reached(room: str) -> frozenset[str]:
        return frozenset(graph[room]).union(*(reached(below) for below in graph[room]))

    return {
        (room, below)
        for room in graph
        for below in graph[room]
        if not any(below in reached(other) for other in graph[room] - {below})
    }


def draw(floors: Sequence[Sequence[Room]], graph: Graph) -> str:
    """The picture.

    Args:
        floors: rooms, lowest floor first.
        graph: room -> the rooms that it imports, all on lower floors.
    """
    rooms = {room.name: room for floor in floors for room in floor}
    level = {room.name: number for number, floor in enumerate(floors) for room in floor}
    ways = sorted(_way(level, *arrow) for arrow in reduced(graph))
    rows = _ordered([[(room.name,) for room in floor] for floor in floors], ways)
    ports = _ports(rows, ways, rooms)
    at = _placed(rows, ways, rooms, ports)
    width = round(max(x + _width(place, rooms) / 2 for place, x in at.items()) + _MARGIN)
    height = _MARGIN + _ROW * len(floors) + 34
    lines = [_HEAD.format(width=width, height=height)]
    for number in range(len(floors)):
        lines.append(
            f'  <rect class="floor" x="0" y="{_top(floors, number) - 4}" width="{width}" height="{_BOX + 8}"/>'
        )
    lines += [f'  <path class="arrow" d="{line}"/>' for line in _lines(floors, ways, at, ports)]
    lines += [_box(rooms[name], round(at[name,]), _top(floors, level[name])) for name in sorted(rooms)]
    return "\n".join([*lines, *_legend(height - 16), "</svg>", ""])


def _way(level: Mapping[str, int], importer: str, imported: str) -> tuple[Place, ...]:
    """An arrow from its room down to the other, by all that it passes."""
    passed = range(level[importer] - 1, level[imported], -1)
    return ((importer,), *((importer, imported, str(number)) for number in passed), (imported,))


def _steps(ways: Sequence[tuple[Place, ...]]) -> Iterator[tuple[Place, Place]]:
    for way in ways:
        yield from pairwise(way)


def _ordered(rows: list[list[Place]], ways: Sequence[tuple[Place, ...]]) -> list[list[Place]]:
    """Every floor with what arrows pass there, in the order with the fewest crossings that sweeping finds."""
    for way in ways:
        start = next(number for number, row in enumerate(rows) if way[0] in row)
        for depth, place in enumerate(way[1:-1], 1):
            rows[start - depth].append(place)
    best, fewest = rows, _crossings(rows, ways)
    for sweep in range(_SWEEPS):
        upward = sweep % 2 == 0
        near: dict[Place, list[Place]] = {}
        for upper, lower in _steps(ways):
            place, other = (upper, lower) if upward else (lower, upper)
            near.setdefault(place, []).append(other)
        rows = [list(row) for row in rows]
        for number in range(len(rows)) if upward else reversed(range(len(rows))):
            where = {each: n / max(1, len(row) - 1) for row in rows for n, each in enumerate(row)}
            rows[number].sort(key=lambda each: _mean([where[other] for other in near.get(each, [each])]))
        if (crossings := _crossings(rows, ways)) < fewest:
            best, fewest = rows, crossings
    return best


def _crossings(rows: Sequence[Sequence[Place]], ways: Sequence[tuple[Place, ...]]) -> int:
    place = {each: (number, n) for number, row in enumerate(rows) for n, each in enumerate(row)}
    steps = [(*place[upper], place[lower][1]) for upper, lower in _steps(ways)]
    pairs = [(a, b) for n, a in enumerate(steps) for b in steps[:n] if a[0] == b[0]]
    return sum((a[1] - b[1]) * (a[2] - b[2]) < 0 for a, b in pairs)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _width(place: Place, rooms: Mapping[str, Room]) -> float:
    return rooms[place[0]].width if len(place) == 1 else 0


def _ports(
    rows: Sequence[Sequence[Place]], ways: Sequence[tuple[Place, ...]], rooms: Mapping[str, Room]
) -> dict[tuple[Place, Place], float]:
    """(place, neighbour) -> how far beside its middle their arrow meets it; side by side, in the neighbours' order."""
    rank = {place: (-number, n) for number, row in enumerate(rows) for n, place in enumerate(row)}
    found = {}
    for steps in (list(_steps(ways)), [(lower, upper) for upper, lower in _steps(ways)]):
        near: dict[Place, list[Place]] = {}
        for place, other in steps:
            near.setdefault(place, []).append(other)
        for place, others in near.items():
            step = min(_PORT, (_width(place, rooms) - _PORT) / len(others))
            for n, other in enumerate(sorted(others, key=lambda each: rank[each][1])):
                found[place, other] = step * (n - (len(others) - 1) / 2)
    return found


def _placed(
    rows: Sequence[Sequence[Place]],
    ways: Sequence[tuple[Place, ...]],
    rooms: Mapping[str, Room],
    ports: Mapping[tuple[Place, Place], float],
) -> dict[Place, float]:
    """The middle of every place: near its neighbours', long arrows straight, and nothing over another."""
    above: dict[Place, list[Place]] = {}
    below: dict[Place, list[Place]] = {}
    for upper, lower in _steps(ways):
        above.setdefault(lower, []).append(upper)
        below.setdefault(upper, []).append(lower)
    at = {place: 60.0 * n for row in rows for n, place in enumerate(row)}
    for sweep in range(_SWEEPS):
        downward = sweep % 2 == 1
        near = above if downward else below
        for row in reversed(rows) if downward else rows:
            wanted = []
            for place in row:
                pulls = [at[other] + ports[other, place] - ports[place, other] for other in near.get(place, ())]
                wanted.append(_mean(pulls or [at[place]]))
            weights = [1.0 if len(place) == 1 else _STIFF for place in row]
            at.update(zip(row, _apart(wanted, weights, _distances(row, rooms)), strict=True))
    left = min(x - _width(place, rooms) / 2 for place, x in at.items())
    return {place: x - left + _MARGIN for place, x in at.items()}


def _distances(row: Sequence[Place], rooms: Mapping[str, Room]) -> list[float]:
    """How far apart neighbours on a floor must be at least."""
    pairs = pairwise(row)
    return [
        (_width(a, rooms) + _width(b, rooms)) / 2 + (_GAP if len(a) == 1 or len(b) == 1 else _LANE) for a, b in pairs
    ]


def _apart(wanted: Sequence[float], weights: Sequence[float], distances: Sequence[float]) -> list[float]:
    """The places nearest to those wanted, by weighted squares, that keep their distances (pool adjacent violators)."""
    shift = [0.0]
    for distance in distances:
        shift.append(shift[-1] + distance)
    pools: list[list[float]] = []  # sum of weighted values, of weights, and how many
    for value, weight, moved in zip(wanted, weights, shift, strict=True):
        pools.append([(value - moved) * weight, weight, 1])
        while len(pools) > 1 and pools[-2][0] / pools[-2][1] > pools[-1][0] / pools[-1][1]:
            last = pools.pop()
            pools[-1] = [a + b for a, b in zip(pools[-1], last, strict=True)]
    values = [pool[0] / pool[1] for pool in pools for _ in range(int(pool[2]))]
    return [value + moved for value, moved in zip(values, shift, strict=True)]


# ------------------------------------------------------------------------------------------------------------ SVG


def _top(floors: Sequence[object], number: int) -> int:
    return _MARGIN + _ROW * (len(floors) - 1 - number)


def _lines(
    floors: Sequence[Sequence[Room]],
    ways: Sequence[tuple[Place, ...]],
    at: Mapping[Place, float],
    ports: Mapping[tuple[Place, Place], float],
) -> Iterator[str]:
    """The curve of each arrow: upright through the floors that it passes."""
    level = {room.name: number for number, floor in enumerate(floors) for room in floor}
    for way in ways:
        top = _top(floors, level[way[0][0]])
        ends = (at[way[0]] + ports[way[0], way[1]], at[way[-1]] + ports[way[-1], way[-2]])
        xs = [round(x) for x in (ends[0], *(at[place] for place in way[1:-1]), ends[1])]
        line = f"M{xs[0]} {top + _BOX}"
        for depth, (x, to) in enumerate(pairwise(xs)):
            start, end = top + _ROW * depth + _BOX, top + _ROW * (depth + 1)
            line += f"V{start}" if depth else ""
            line += f"V{end}" if x == to else f"C{x} {(start + end) // 2} {to} {(start + end) // 2} {to} {end}"
        yield line


def _box(room: Room, middle: int, top: int) -> str:
    left = middle - room.width // 2
    return (
        f"  <g><title>{escape(room.says)}</title>"
        f'<rect class="{room.kind}" x="{left}" y="{top}" width="{room.width}" height="{_BOX}" rx="7"/>'
        f'<text class="name" x="{left + 11}" y="{top + 20}">{room.name}</text>'
        f'<text class="small right" x="{left + room.width - 10}" y="{top + 20}">{room.modules}</text></g>'
    )


def _legend(y: int) -> Iterator[str]:
    x = _MARGIN
    for kind, says in _KINDS:
        yield f'  <rect class="{kind}" x="{x}" y="{y - 11}" width="14" height="14" rx="3"/>'
        yield f'  <text class="small" x="{x + 20}" y="{y}">{says}</text>'
        x += 20 + 7 * len(says) + 18
    yield f'  <text class="small" x="{x}" y="{y}">→ imports; the number: modules</text>'
