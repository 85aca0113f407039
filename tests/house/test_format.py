"""docs/format.md is what is written: every file, key, column and array of a bundle, a night and a repository."""

from __future__ import annotations

import dataclasses
import json
import shutil
import types
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import format_artefacts
import format_page as page
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from format_artefacts import DAMAGE, DATE
from format_page import Array, Content, Row

import sdk
from batch.gates.thresholds import GateConfig
from batch.store.nights import verify
from export.manifest import FORMAT_VERSION as REPOSITORY_VERSION
from export.manifest import check_repository
from export.options import ExportOptions
from sdk.base.config import RunConfig
from sdk.base.errors import MarqueeError
from sdk.bundles.info import FORMAT_VERSION as BUNDLE_VERSION
from sdk.features.builtin import FORMAT_VERSION as ENCODING_VERSION
from sdk.models.content.model import FORMAT_VERSION as CONTENT_VERSION
from sdk.models.history.model import FORMAT_VERSION as HISTORY_VERSION

TEXT = page.PAGE.read_text("utf-8")
ROWS = page.rows_of(TEXT)
GOLDEN = Path(__file__).parent / "golden"
NOT_MADE_HERE = {
    "ranker/VERSION/model.onnx",  # needs the package onnx
    "reports/run_date=DATE.html",  # a page for people, beside the night
    "reports/refused-DATE.html",
    "inputs.parameters.training.trainer",  # needs Merlin
    "worker_peak_memory_mib.*",  # needs workers
    "metrics.ranker_share.*.share",  # need a hundred users
    "metrics.ranker_share.*.num_users",
    "metrics.ranker_share.*.ndcg10[]",
    "metrics.history.choice",  # null, where the configuration leaves nothing open
    "metrics.history",  # null, where "history" is not among the models
}
"""What the page says may be there, and these artefacts do not have."""
KINDS = pytest.mark.parametrize("kind", page.KINDS)


# artefacts ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def artefacts(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, list[Path]]:
    return format_artefacts.make(tmp_path_factory.mktemp("format"))


@pytest.fixture(scope="session")
def read(artefacts: Mapping[str, list[Path]]) -> Mapping[str, list[tuple[Content, list[Array]]]]:
    return {kind: [page.read_artefact(kind, folder) for folder in folders] for kind, folders in artefacts.items()}


# the page and the artefacts ----------------------------------------------------------------------------------------


@cache
def described(kind: str, file: str, name: str) -> Row | None:
    """The row of the page that says the most of it."""
    rows = [row for row in ROWS if (row.kind, row.file) == (kind, file) and row.means(name)]
    return max(rows, key=lambda row: (row.name == name, len(row.name.replace("*", ""))), default=None)


@KINDS
def test_the_golden_file_lists_what_is_written(read: Any, golden: Callable[[Path, str], None], kind: str) -> None:
    whole = page.merged([content for content, _ in read[kind]])
    inside = {file: {name: kinds_of(types_) for name, types_ in sorted(found.items())} for file, found in whole.items()}
    files = sorted(inside.pop("files"))
    text = json.dumps({"files": files, "inside": dict(sorted(inside.items()))}, indent=1, ensure_ascii=False)
    golden(GOLDEN / f"format_{kind}.json", text + "\n")


def kinds_of(types_: set[str]) -> str:
    return " or ".join(sorted(types_))


@KINDS
def test_everything_that_is_written_is_described(read: Any, kind: str) -> None:
    whole = page.merged([content for content, _ in read[kind]])
    wrong = []
    for file, found in whole.items():
        for name, types_ in found.items():
            row = described(kind, file, name)
            expected = None if row is None else as_described(row)
            if expected is None or not types_ <= expected:
                wrong.append((file, name, sorted(types_), expected and sorted(expected)))
    assert wrong == []


def as_described(row: Row) -> set[str]:
    """The types that a row allows, as ``format_page`` finds them."""
    if row.table == "file":
        return set()
    if row.table == "array":
        return {f"{row.cells[0]}, {len(widths(row.cells[1]))}-D"}
    if row.table == "column":
        nulls = ("yes", "never") if row.cells[1] == "yes" else (row.cells[1],)
        return {f"{row.cells[0]}; null: {each}" for each in nulls}
    mixed = "array of array of number or string"  # one type: of several values
    allowed = {mixed if each == "mixed" else each for each in row.cells[0].replace(mixed, "mixed").split(" or ")}
    return allowed | {each.replace("number", "integer") for each in allowed}


def widths(shape: str) -> list[str]:
    return [width for width in shape.strip("()").split(", ") if width]


@KINDS
def test_everything_that_is_described_is_written_or_optional(read: Any, kind: str) -> None:
    for content, _ in read[kind]:
        missing = [row for row in ROWS if row.kind == kind and not row.optional and not is_there(row, content)]
        assert [(row.file, row.name) for row in missing if not row.is_about_data] == []
    whole = page.merged([content for content, _ in read[kind]])
    missing = {row.name for row in ROWS if row.kind == kind and not is_there(row, whole)}
    assert missing - NOT_MADE_HERE == set()


def is_there(row: Row, content: Content) -> bool:
    """Whether an artefact holds what a row describes; what is in a file that may be absent is, where the file is."""
    found = content.get(row.file)
    if found is None:
        return row.file != "files" and described(row.kind, "files", row.file) is not None
    return any(described(row.kind, row.file, name) == row for name in found)


@KINDS
def test_shapes_are_those_described(read: Any, artefacts: Mapping[str, list[Path]], kind: str) -> None:
    about = json.loads((artefacts["bundle"][0] / "bundle.json").read_text("utf-8"))["data"]
    for folder, (_, arrays) in zip(artefacts[kind], read[kind], strict=True):
        if kind == "bundle":
            about = json.loads((folder / "bundle.json").read_text("utf-8"))["data"]
        sizes = {"U": about["num_users"], "I": about["num_items"], "N": about["num_ratings"]}
        files: dict[str, dict[str, int]] = {}
        for array in arrays:
            row = described(kind, array.file, array.name)
            assert row is not None
            known = {**sizes} if row.is_about_data else files.setdefault(array.file, {**sizes})
            for width, size in zip(widths(row.cells[1]), array.shape, strict=True):
                letter, _, more = width.partition(" + ")
                expected = int(letter) if letter.isdigit() else known.setdefault(letter, size - int(more or 0))
                assert size == expected + int(more or 0), (array, row.cells[1])


def test_what_the_page_does_not_name_is_not_described() -> None:
    for kind, file, name in (("bundle", "bundle.json", "data.extra"), ("night", "files", "run_date=DATE/extra")):
        assert described(kind, file, name) is None
    assert described("bundle", "bundle.json", "data.name") is not None


def test_every_row_of_the_page_can_be_the_best_description() -> None:
    """No two rows say the same thing."""
    places = [(row.kind, row.file, row.name) for row in ROWS]
    assert [place for place in places if places.count(place) > 1] == []


# settings and versions ---------------------------------------------------------------------------------------------


def settings_classes() -> dict[str, type]:
    groups = {name: hint for name, hint in get_type_hints(RunConfig).items() if dataclasses.is_dataclass(hint)}
    return {**groups, "gates": GateConfig, "export": ExportOptions}


def json_type(hint: Any) -> str:
    """A field's type as the page spells it."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(json_type(each) for each in inner)
    if origin is tuple:
        return f"array of {json_type(inner[0])}"
    if origin is Literal:
        return "string"
    if inner:
        return f"object of {json_type(inner[1])}"
    return {bool: "boolean", int: "integer", float: "number", str: "string", type(None): "null"}[hint]


def test_the_settings_are_the_fields_of_the_configurations() -> None:
    classes = settings_classes()
    assert tuple(classes)[:-2] == page.RUN_SETTINGS
    written = {
        group: {field.name: json_type(get_type_hints(cls)[field.name]) for field in dataclasses.fields(cls)}
        for group, cls in classes.items()
    }
    assert dict(page.settings_of(TEXT)) == written


def test_the_versions_are_those_of_the_code(artefacts: Mapping[str, list[Path]]) -> None:
    night = json.loads((artefacts["night"][0] / f"run_date={DATE}" / "manifest.json").read_text("utf-8"))
    assert page.versions_of(TEXT) == {
        "bundle": BUNDLE_VERSION,
        "history model in a bundle": HISTORY_VERSION,
        "content model in a bundle": CONTENT_VERSION,
        "encoding of the features in a bundle": ENCODING_VERSION,
        "night": night["inputs"]["format_version"],
        "repository": REPOSITORY_VERSION,
    }


# order -------------------------------------------------------------------------------------------------------------


def test_tables_and_lists_are_ordered_as_described(artefacts: Mapping[str, list[Path]]) -> None:
    for bundle in artefacts["bundle"]:
        for side in ("user", "item"):
            ids = pq.read_table(bundle / f"{side}s.parquet")[f"{side}_id"].to_numpy()
            assert (np.diff(ids) > 0).all()
    night = artefacts["night"][0] / f"run_date={DATE}"
    for side in ("user_items", "item_items", "item_users"):
        parts = [pq.read_table(path, partitioning=None) for path in sorted((night / side).iterdir())]
        whole = pa.concat_tables(parts)
        query, rank, answer, score = (whole[name].to_numpy() for name in whole.column_names[:4])
        assert (np.lexsort((rank, query)) == np.arange(len(query))).all(), side
        same = query[1:] == query[:-1]
        assert (rank[1:][same] == rank[:-1][same] + 1).all()
        assert (rank[np.append(True, ~same)] == 1).all()
        assert (np.lexsort((answer, -score, query)) == np.arange(len(query))).all(), side


# refusals ----------------------------------------------------------------------------------------------------------


def open_all(bundle: Path) -> None:
    """Open a bundle and every part of it."""
    opened = sdk.load(bundle)
    opened.recommend([1], 3)
    opened.similar([1], 3)


@pytest.mark.parametrize(("kind", "what", "exit_code"), page.refusals_of(TEXT))
def test_a_reader_refuses_what_the_page_says(
    artefacts: Mapping[str, list[Path]], tmp_path: Path, kind: str, what: str, exit_code: int
) -> None:
    readers: Mapping[str, Callable[[Path], object]] = {
        "bundle": open_all,
        "night": lambda out: verify(str(out), DATE),
        "repository": check_repository,
    }
    copy = Path(shutil.copytree(artefacts[kind][0], tmp_path / "copy"))
    readers[kind](copy)
    DAMAGE[kind][what](copy / f"run_date={DATE}" if kind == "night" else copy)
    with pytest.raises(MarqueeError) as caught:
        readers[kind](copy)
    assert caught.value.exit_code == exit_code


def test_every_refusal_that_is_tried_is_on_the_page() -> None:
    on_the_page = {(kind, what) for kind, what, _ in page.refusals_of(TEXT)}
    assert {(kind, what) for kind, damage in DAMAGE.items() for what in damage} == on_the_page
