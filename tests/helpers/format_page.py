"""docs/format.md as rows, and an artefact on disk in the same words, so that each can be held to the other.

A table of the page counts by its headings: ``file | what``, or ``key``, ``column`` or ``array`` with the file in a cell
in front, or else in the title above; an empty cell means the file of the row above. A row names one thing or several,
``*`` standing for a name that data give. What says *optional* need not be there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors import safe_open

PAGE = Path(__file__).resolve().parents[2] / "docs" / "format.md"
KINDS = ("bundle", "night", "repository")
RUN_SETTINGS = ("data", "split", "features", "content", "dlrm", "ncf", "history", "training")
_DATA = re.compile(r"\*|\[\]|NUMBER|MODEL|RANKER|COLUMN|(?<![A-Z])[LM](?![A-Za-z])")
"""Words of the page for names and numbers that data give."""

_NAMES = {
    "bundle": [
        (r"^(dlrm|ncf|bfm)\.safetensors", "RANKER.safetensors"),
        (r"^workflow/\w+/", "workflow/NAME/"),
        (r"unique\.\w+\.parquet", "unique.COLUMN.parquet"),
    ],
    "night": [(r"run_date=[\d-]{10}", "run_date=DATE"), (r"part-\d{5}", "part-NUMBER")],
    "repository": [
        (r"/\d+/", "/VERSION/"),
        (r"^\w+/(config.pbtxt|VERSION/(manifest.json|marquee_serving.py|model.py))$", r"MODEL/\1"),
        (r"arrays/\w+\.npy", "arrays/NAME.npy"),
        (r"unique\.\w+\.parquet", "unique.COLUMN.parquet"),
    ],
}
"""Kind -> what of a file's path is data, and the word for it."""
_MAPS = {
    "files", "bytes", "rows", "packages", "inputs.packages", "versions", "vocabulary", "seconds", "asked",
    "inputs.asked", "gate_verdicts", "worker_peak_memory_mib", "tables.users.cardinalities",
    "tables.items.cardinalities", "metrics.validation_auc", "config.content.weights", "config.weights",
    "inputs.parameters.content.weights", "checks.gates[].settings", "checks.scope.users", "checks.scope.titles",
    "history", "best_epoch", "words", "numbers", "calibration", "slices[].values",
}  # fmt: skip
"""JSON objects whose keys are data."""

Content = dict[str, dict[str, set[str]]]
"""File -> what is in it -> types. Under ``files``: every file, without types."""


@dataclass(frozen=True, slots=True)
class Array:
    """One array that was found: its file's and its own name in the page's words, and its shape."""

    file: str
    name: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Row:
    """One name of a row of the page."""

    kind: str
    table: str
    file: str
    name: str
    cells: tuple[str, ...]

    @property
    def optional(self) -> bool:
        return "*optional*" in self.cells[-1]

    @property
    def is_about_data(self) -> bool:
        """Whether it stands for as many things as there happen to be."""
        return _DATA.search(self.name + self.file) is not None

    def means(self, name: str) -> bool:
        return re.fullmatch(re.escape(self.name).replace(r"\*", r"[^\[]+?"), name) is not None


# the page ----------------------------------------------------------------------------------------------------------


def tables(text: str) -> Iterator[tuple[str, str, list[str], list[list[str]]]]:
    """Every table: its section, the title of its subsection, its headings, its rows."""
    section = title = ""
    lines: list[list[str]] = []
    for line in [*text.splitlines(), ""]:
        if line.startswith("|"):
            lines.append(re.split(r"\s*\|\s*", line.strip()[1:-1].strip()) if "---" not in line else [])
        elif lines:
            yield section, title, lines[0], lines[2:]
            lines = []
        if line.startswith("## "):
            section, title = line[3:].split(",")[0].lower(), ""
        elif line.startswith("### "):
            title = line


def rows_of(text: str) -> list[Row]:
    """Everything that the page describes of the three artefacts, settings written out."""
    settings = dict(settings_of(text))
    found = [row for section, *table in tables(text) if section in KINDS for row in _rows(section, *table)]
    return [row for each in found for row in _written_out(each, settings)]


def _rows(section: str, title: str, head: list[str], rows: list[list[str]]) -> Iterator[Row]:
    files = _quoted(title)
    for cells in rows:
        if head[:2] == ["file", "what"]:
            yield from (Row(section, "file", "files", name, tuple(cells[1:])) for name in _quoted(cells[0]))
            continue
        if head[0] == "file":
            files = _quoted(cells[0]) or files
            cells = cells[1:]
        kind = head[head[0] == "file"]
        if kind in ("key", "column", "array"):
            yield from (
                Row(section, kind, file, name, tuple(cells[1:])) for file in files for name in _quoted(cells[0])
            )


def _quoted(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def settings_of(text: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Group of settings -> key -> type."""
    for _, _, head, rows in tables(text):
        if head[0] == "settings":
            yield from ((cells[0].strip("`"), dict(re.findall(r"`(\w+)` ([^,`]+)", cells[1]))) for cells in rows)


def _written_out(row: Row, settings: dict[str, dict[str, str]]) -> Iterator[Row]:
    kind = row.cells[0]
    if kind == "run settings":
        yield Row(row.kind, row.table, row.file, f"{row.name}.models", ("array of string",))
        for group in RUN_SETTINGS:
            yield from _settings(row, f"{row.name}.{group}", settings[group])
    elif kind.startswith("settings "):
        yield from _settings(row, row.name, settings[kind.split("`")[1]])
    else:
        yield row


def _settings(row: Row, start: str, keys: dict[str, str]) -> Iterator[Row]:
    """A row for each setting; ``x.y`` *is optional* in the note speaks of that one alone."""
    optional = re.findall(r"`([\w.]+)` is \*optional\*", row.cells[-1])
    for key, kind in keys.items():
        name = f"{start}.{key}" + (".*" if kind.startswith("object of ") else "")
        is_all = not optional or any(name.endswith(f".{each}") for each in optional)
        note = row.cells[-1] if is_all else row.cells[-1].replace("*optional*", "")
        yield Row(row.kind, row.table, row.file, name, (kind.removeprefix("object of "), *row.cells[1:-1], note))


def refusals_of(text: str) -> Iterator[tuple[str, str, int]]:
    """(kind, what a reader refuses, exit code), row by row."""
    for section, _, head, rows in tables(text):
        if head[0] == "refused":
            yield from ((section, cells[0], int(cells[1])) for cells in rows)


def versions_of(text: str) -> dict[str, int]:
    """Artefact -> format version."""
    return {cells[0]: int(cells[2]) for _, _, head, rows in tables(text) if head[0] == "artefact" for cells in rows}


# an artefact -------------------------------------------------------------------------------------------------------


def read_artefact(kind: str, folder: Path) -> tuple[Content, list[Array]]:
    """What a bundle, an output folder or a repository holds."""
    content: Content = {"files": {}}
    arrays: list[Array] = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        file = path.relative_to(folder).as_posix()
        for pattern, word in _NAMES[kind]:
            file = re.sub(pattern, word, file)
        content["files"][file] = set()
        for name, type_, shape in _inside(path):
            content.setdefault(file, {}).setdefault(name, set()).add(type_)
            if shape is not None:
                arrays.append(Array(file, name, shape))
    return content, arrays


def merged(contents: list[Content]) -> Content:
    """What several artefacts hold together."""
    whole: Content = {}
    for content in contents:
        for file, inside in content.items():
            for name, types in inside.items():
                whole.setdefault(file, {}).setdefault(name, set()).update(types)
    return whole


def _inside(path: Path) -> Iterator[tuple[str, str, tuple[int, ...] | None]]:
    if path.suffix == ".json":
        yield from ((name, type_, None) for name, type_ in _keys(json.loads(path.read_text("utf-8"))))
    elif path.suffix == ".parquet":
        table = pq.read_table(path, partitioning=None)
        for field, column in zip(table.schema, table.columns, strict=True):
            nulls = "yes" if column.null_count else "never" if field.nullable else "no"
            yield field.name, f"{_arrow(field.type)}; null: {nulls}", None
    elif path.suffix == ".npy":
        yield _array(path.stem, np.load(path, mmap_mode="r", allow_pickle=False))
    elif path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as arrays:
            yield from (_array(name, arrays[name]) for name in arrays.files)
    elif path.suffix == ".safetensors":
        with safe_open(path, "np") as tensors:
            yield from (
                _array(re.sub(r"^\w+\.", "M.", name), tensors.get_tensor(name)) for name in sorted(tensors.keys())
            )


def _array(name: str, values: np.ndarray[Any, Any]) -> tuple[str, str, tuple[int, ...]]:
    name = re.sub(r"(?<=[._])\d+(?=[._])", "L", name)
    return name, f"{np.dtype(values.dtype).name}, {values.ndim}-D", values.shape


def _arrow(type_: pa.DataType) -> str:
    if pa.types.is_fixed_size_list(type_):
        return f"fixed list of {_arrow(type_.value_type)}"
    if pa.types.is_list(type_):
        return f"list of {_arrow(type_.value_type)}"
    return {"float": "float32", "double": "float64"}.get(str(type_), str(type_))


def _keys(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Every leaf of a JSON value with its type; an array of plain values is one leaf."""
    if isinstance(value, dict):
        if not value and path not in _MAPS:
            yield path, "object"
        for key, inner in value.items():
            key = "*" if path in _MAPS else key
            yield from _keys(inner, f"{path}.{key}" if path else key)
    elif isinstance(value, list) and any(isinstance(inner, dict) for inner in value):
        for inner in value:
            yield from _keys(inner, f"{path}[]")
    else:
        yield path, _type(value)


def _type(value: Any) -> str:
    if isinstance(value, list):
        inner = sorted({_type(each) for each in value})
        return f"array of {'number' if inner == ['integer', 'number'] else ' or '.join(inner)}" if inner else "array"
    names = {dict: "object", str: "string", bool: "boolean", int: "integer", float: "number", type(None): "null"}
    return names[type(value)]
