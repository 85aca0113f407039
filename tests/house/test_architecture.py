"""docs/architecture.svg is the house as its imports draw it."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import architecture
import pytest
from architecture import Room
from test_layers import FLOORS, MODULES, OLD_PLACES, ROOT, arrows, room_of


def rooms_below() -> dict[str, set[str]]:
    """Room -> the other rooms that it imports."""
    found: dict[str, set[str]] = {room: set() for floor in FLOORS for room in floor if room not in OLD_PLACES}
    for importer, imported in arrows():
        if importer not in OLD_PLACES and room_of(importer) != room_of(imported):
            found[room_of(importer)].add(room_of(imported))
    return found


def says(room: str) -> str:
    """The first sentence of what the room says of itself."""
    text = ast.get_docstring(ast.parse(MODULES[room].read_text("utf-8"))) or ""
    return " ".join(text.split("\n\n")[0].split())


def test_the_picture_is_what_the_imports_say(golden: Callable[[Path, str], None]) -> None:
    modules = Counter(room_of(module) for module in MODULES if module not in OLD_PLACES)
    graph = rooms_below()
    met = {room for room, below in graph.items() if below}.union(*graph.values())  # not what only holds other rooms
    floors = [
        [Room(room, modules[room], says(room)) for room in floor if room in met]
        for floor in FLOORS
        if floor != OLD_PLACES
    ]
    golden(ROOT / "docs" / "architecture.svg", architecture.draw(floors, {room: graph[room] for room in met}))


def test_implied_arrows_are_left_out() -> None:
    graph = {"a": {"b", "c", "d"}, "b": {"c"}, "c": {"d"}, "d": set()}
    assert architecture.reduced(graph) == {("a", "b"), ("b", "c"), ("c", "d")}


@pytest.mark.parametrize("order", [1, -1])
def test_the_order_of_the_input_changes_nothing(order: int) -> None:
    floors = [[Room("d", 1, "")], [Room("b", 2, ""), Room("c", 3, "")], [Room("a", 4, "")]]
    graph = {name: {"a": {"b", "c"}, "b": {"d"}, "c": {"d"}, "d": set()}[name] for name in sorted("abcd")[::order]}
    assert architecture.draw(floors, graph) == architecture.draw(floors, dict(sorted(graph.items())))
