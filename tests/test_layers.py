"""Imports point one way, between the packages and inside sdk. Every import counts: in functions and for types too."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES_BELOW = {
    "sdk": {"sdk"},
    "export": {"export", "sdk"},
    "batch": {"batch", "sdk"},
    "triton_models": {"triton_models", "sdk"},
}

BASE = {
    "errors", "files", "ids", "logs", "paths", "printable", "rights", "types", "schema", "config", "stages", "metrics",
    "list_metrics", "compiled", "machine_code", "device", "streams", "decompositions",
}  # fmt: skip
LAYERS_BELOW = {
    "base": {"base"},
    "data": {"base", "data"},
    "features": {"base", "data", "features"},
    "models": {"base", "data", "features", "models"},
    "scoring": {"base", "data", "features", "models", "scoring"},
}
"""Training and the modules above it (bundle, evaluation, the command line) may import any layer."""

EXCEPTIONS = {
    # The pair form is the value that every model lowers to; it lives with the engine that reads it.
    ("sdk.models.pair_model", "sdk.scoring.pair_form"),
    ("sdk.models.history", "sdk.scoring.pair_form"),
    # Who has seen what is stored with the encoded interactions and read by the engine.
    ("sdk.features.stored_interactions", "sdk.scoring.seen"),
}


def sources(package: str) -> dict[str, Path]:
    """Module name to file, of every module of a package."""
    paths = sorted((ROOT / package).rglob("*.py"))
    names = [path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".") for path in paths]
    return {name.removesuffix(".__init__"): path for name, path in zip(names, paths, strict=True)}


def imported(tree: ast.AST) -> Iterator[str]:
    """Every module named by an import statement; ``from sdk import x`` counts as sdk.x too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: a relative import; name the package"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imports_of(path: Path) -> set[str]:
    return set(imported(ast.parse(path.read_text(encoding="utf-8"), str(path))))


def layer_of(module: str) -> str:
    part = [*module.split("."), ""][1]
    return "base" if part in BASE else part if part in LAYERS_BELOW else "above"


def upward_imports() -> set[tuple[str, str]]:
    """(importer, imported) modules of sdk where the imported one lies in a layer above."""
    modules = sources("sdk")
    return {
        (importer, target)
        for importer, path in modules.items()
        if (layer := layer_of(importer)) in LAYERS_BELOW
        for target in imports_of(path) & modules.keys() - {"sdk"}
        if layer_of(target) not in LAYERS_BELOW[layer]
    }


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


@pytest.mark.parametrize("package", PACKAGES_BELOW)
def test_a_package_imports_only_the_ones_below_it(package: str) -> None:
    paths = sources(package).values()
    assert paths, f"no module in {package}"
    for path in paths:
        ours = {name.split(".")[0] for name in imports_of(path)} & PACKAGES_BELOW.keys()
        assert ours <= PACKAGES_BELOW[package], f"{path} reaches up: {sorted(ours - PACKAGES_BELOW[package])}"


def test_inside_sdk_the_layers_point_one_way_but_for_the_named_exceptions() -> None:
    found = upward_imports()
    assert found - EXCEPTIONS == set(), "these imports point back"
    assert EXCEPTIONS - found == set(), "no longer there: strike them off EXCEPTIONS"


def test_no_module_of_sdk_imports_itself_by_way_of_others() -> None:
    modules = sources("sdk")
    graph = {name: (imports_of(path) & modules.keys()) - {"sdk", name} for name, path in modules.items()}
    assert first_cycle(graph) == []


def test_the_cycle_finder_finds_a_cycle() -> None:
    assert first_cycle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]


def test_nothing_of_ours_imports_the_tests_or_examples() -> None:
    for package in PACKAGES_BELOW:
        for path in sources(package).values():
            assert not {name.split(".")[0] for name in imports_of(path)} & {"tests", "examples", "pytest"}, path
