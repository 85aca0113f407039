"""Imports point one way: a room uses itself and rooms on lower floors. Imports in functions and for types count."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from sdk import serving

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("sdk", "export", "batch", "triton_models")

OLD_PLACES = (
    "sdk.types", "sdk.models.content_similar", "sdk.scoring.pair_form", "sdk.scoring.seen", "sdk.training.distributed",
)  # fmt: skip
"""Thin faces, for repositories exported before, commands and public names: none of ours imports them."""
FLOORS: tuple[tuple[str, ...], ...] = (
    ("sdk.base",),
    ("sdk.machine", "sdk.metrics"),
    ("sdk.shell", "sdk.data"),
    ("sdk.data.sample", "sdk.features"),
    ("sdk.models",),
    ("sdk.models.history",),
    ("sdk.models.content",),
    ("sdk.scoring",),
    ("sdk.bundles",),
    ("sdk.measure",),
    ("sdk.training.compiled_pass",),
    ("sdk.training",),
    ("sdk.lab.comparison", "sdk.lab.tuning", "sdk.lab"),
    ("sdk.commands", "sdk.serving"),
    ("sdk",),  # the face, and python -m sdk
    ("triton_models", "export", "batch.gates"),
    ("batch.store",),
    ("batch.job",),
    ("batch.lists",),
    ("batch.checks",),
    ("batch.page", "batch.plan"),
    ("batch.run",),
    ("batch",),  # the commands
    OLD_PLACES,
)
"""Lowest first. A module belongs to the longest name here that it starts with; rooms on one floor do not meet."""

MAY_NOT = {"triton_models": {"sdk"}, "export": {"batch"}, "batch": {"export", "triton_models"}}
"""Besides: served models import ``sdk.serving`` and nothing else of sdk, and export and batch never meet."""

MOST_IN_A_ROOT = {"sdk": 6, "batch": 5}


def sources(package: str) -> dict[str, Path]:
    """Module name to file, of every module of a package."""
    paths = sorted((ROOT / package).rglob("*.py"))
    names = [path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".") for path in paths]
    return {name.removesuffix(".__init__"): path for name, path in zip(names, paths, strict=True)}


MODULES = {name: path for package in PACKAGES for name, path in sources(package).items()}


def imported(tree: ast.AST) -> Iterator[str]:
    """Every module named by an import statement; ``from sdk import x`` counts as sdk.x too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: a relative import; name the package"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            modules = [name for name in names if name in MODULES]
            yield from names
            if len(modules) < len(names):  # something of the module itself, not only of what lies below it
                yield node.module or ""


def imports_of(path: Path) -> set[str]:
    return set(imported(ast.parse(path.read_text(encoding="utf-8"), str(path))))


def room_of(module: str) -> str:
    """The room of ``FLOORS`` that a module lies in: the longest name."""
    rooms = [room for floor in FLOORS for room in floor if module == room or module.startswith(f"{room}.")]
    return max(rooms, key=len)


def floor_of(module: str) -> int:
    return next(number for number, floor in enumerate(FLOORS) if room_of(module) in floor)


@cache
def arrows() -> set[tuple[str, str]]:
    """(importer, imported) of ours."""
    return {(importer, target) for importer, path in MODULES.items() for target in imports_of(path) & MODULES.keys()}


def points_up(importer: str, target: str) -> bool:
    return room_of(importer) != room_of(target) and floor_of(importer) <= floor_of(target)


def first_cycle(graph: dict[str, set[str]]) -> list[str]:
    """The modules of one import cycle, or an empty list (depth-first search)."""
    done: set[str] = set()

    def visit(module: str, above: tuple[str, ...]) -> list[str]:
        if module in above:
            return [*above[above.index(module) :], module]
        if module in done:
            return []
        for target in sorted(graph[module]):
            if cycle := visit(target, (*above, module)):
                return cycle
        done.add(module)
        return []

    return next((cycle for module in sorted(graph) if (cycle := visit(module, ()))), [])


def test_no_arrow_points_up() -> None:
    assert sorted(arrow for arrow in arrows() if points_up(*arrow)) == []


def test_every_package_has_its_floor_and_every_room_is_there() -> None:
    rooms = [room for floor in FLOORS for room in floor]
    folders = {name for name, path in MODULES.items() if path.name == "__init__.py"}
    assert folders - set(rooms) == set(), "name these packages in FLOORS"
    assert set(rooms) - MODULES.keys() == set(), "no longer there"
    assert len(rooms) == len(set(rooms))


@pytest.mark.parametrize("package", MAY_NOT)
def test_packages_that_never_meet(package: str) -> None:
    for name in sources(package):
        ours = {target for importer, target in arrows() if importer == name and target != "sdk.serving"}
        assert {target.split(".")[0] for target in ours} & MAY_NOT[package] == set(), name


def test_no_module_imports_itself_by_way_of_others() -> None:
    graph: dict[str, set[str]] = {name: set() for name in MODULES}
    for importer, target in arrows():
        graph[importer].add(target)
    assert first_cycle(graph) == []


def test_the_cycle_finder_finds_a_cycle() -> None:
    assert first_cycle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]


SERVED_BEFORE = """
from sdk.features.tables import UNKNOWN, EncodedTable, Statistics
from sdk.models.content_similar import NeighbourIndex
from sdk.scoring.pair_form import Head, PairForm, Side
from sdk.scoring.recommender import Recommender
from sdk.scoring.seen import Seen
from sdk.types import Bools, Float32s, Float64s, Int64s, TopK
"""
"""What models of repositories exported up to November 2026 import."""
SERVED_SINCE = {"IdArray", "form_of", "nobody", "ItemRules"}
"""What has been added since: ids that may be text, the form as it is read of arrays, and rules."""


def test_repositories_exported_before_still_find_what_they_import() -> None:
    before: dict[str, object] = {}
    exec(SERVED_BEFORE, before)
    del before["__builtins__"]
    assert before == {name: getattr(serving, name) for name in before}
    assert set(serving.__all__) == before.keys() | SERVED_SINCE


def test_nobody_imports_an_old_place() -> None:
    assert set(OLD_PLACES) <= MODULES.keys()
    assert [arrow for arrow in sorted(arrows()) if arrow[1] in OLD_PLACES] == []


@pytest.mark.parametrize("package", MOST_IN_A_ROOT)
def test_few_modules_lie_loose(package: str) -> None:
    loose = [path.name for path in (ROOT / package).glob("*.py")]
    assert len(loose) <= MOST_IN_A_ROOT[package], sorted(loose)


def test_every_room_says_what_lives_in_it() -> None:
    for name, path in MODULES.items():
        if path.name == "__init__.py":
            assert len((ast.get_docstring(ast.parse(path.read_text("utf-8"))) or "").split()) >= 7, name


def test_nothing_of_ours_imports_the_tests_or_examples() -> None:
    for name, path in MODULES.items():
        assert not {target.split(".")[0] for target in imports_of(path)} & {"tests", "examples", "pytest"}, name


def test_no_two_classes_have_one_name() -> None:
    names = [
        (node.name, name)
        for name, path in MODULES.items()
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef) and node.name != "TritonPythonModel"  # the name that Triton looks for
    ]
    counted = Counter(name for name, _ in names)
    assert [each for each in names if counted[each[0]] > 1] == []
