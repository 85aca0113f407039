"""One mechanism for one thing: raw calls that have a better one in their home are refused everywhere else."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = [path for name in ("sdk", "batch", "export", "examples") for path in sorted((ROOT / name).rglob("*.py"))]


@dataclass(frozen=True)
class Home:
    """Where one thing lives.

    Attributes:
        places: the files, or folders with a slash at the end, that may use the raw calls.
        calls: a pattern of what a call is written as, or of an imported module's name.
        allowed: file -> why it may, too.
    """

    places: tuple[str, ...]
    calls: str
    allowed: dict[str, str]


HOMES = {
    "writing aside, renaming, locks and hashes of files": Home(
        ("sdk/base/files.py",),
        r"os\.(replace|rename|renames|link|chmod|umask)|shutil\.(move|copy|copy2)|fcntl\.(flock|lockf)|(Soft)?FileLock"
        r"|save_file|write_to_textfile|tempfile\.(NamedTemporaryFile|mkstemp|mkdtemp)|Path\.(rename|replace)"
        r"|hashlib\.sha256 in blocks",
        {
            "batch/job/id_files.py": "hashes parts that are in memory",
            "sdk/data/fingerprint.py": "hashes arrays, not a file",
            "sdk/machine/code_cache.py": "PyTorch's scratch folder, of this process alone",
        },
    ),
    "canonical JSON": Home(
        ("sdk/base/files.py",), r"json\.dumps?\(sort_keys\)",
        {"sdk/base/stored_arrays.py": "a bundle's own files: their bytes are part of its format"},
    ),
    "ids to rows by search": Home(
        ("sdk/base/ids.py",), r"(\w|\.)+\.searchsorted",
        {
            "batch/checks/drift.py": "bins of a distribution",
            "batch/lists/audience.py": "ranges of users",
            "examples/web_app/catalogue.py": "neighbours of an id that need not be there",
            "sdk/data/ratings.py": "lines of a file: which block holds them, and how many were rejected before",
            "sdk/data/sample/simulated.py": "draws by cumulated weights",
            "sdk/data/splits.py": "how many ratings have one timestamp",
            "sdk/features/loaders.py": "draws by cumulated weights",
            "sdk/measure/slices.py": "thirds of cumulated counts",
            "sdk/metrics/intervals.py": "ranks among sorted scores",
            "sdk/metrics/pointwise.py": "ranks, and bins of equal size",
        },
    ),
    "bootstrap": Home(("sdk/metrics/intervals.py",), r"scipy\.stats\.bootstrap|np\.(nan)?(quantile|percentile)", {}),
    "splitting by chance": Home(("sdk/data/splits.py",), r"np\.random\.default_rng\(\w*\)\.random", {}),
    "charts": Home(
        ("sdk/measure/charts.py",), r"import matplotlib(\.pyplot|\.style|\.backends\.\w+)?|Figure",
        {"batch/page/night_charts.py": "SVG in the colours of the page it stands on"},
    ),
    "tables on a terminal": Home(("sdk/shell/terminal.py",), r"import rich.*", {}),
    "names of titles without accents": Home(("sdk/data/titles.py",), r"unicodedata\.(normalize|combining)", {}),
    "Dask's workers": Home(
        ("sdk/machine/cluster.py",), r"import (distributed|dask).*|client\.run",
        {"batch/lists/workers.py": "hands shards out and waits for them"},
    ),
    "TF-IDF": Home(("sdk/models/content/matrix.py",), r"(TfidfTransformer|normalize)", {}),
    "lines of text files": Home(
        ("sdk/data/records.py", "sdk/data/rating_lines.py", "sdk/data/text_tables.py"), r"csv\.(reader|DictReader)",
        {"batch/job/id_files.py": "files that hold ids alone"},
    ),
    "versions of packages": Home(
        ("sdk/machine/device.py",), r"importlib\.metadata\.version",
        {"sdk/commands/doctor.py": "says what is missing, too"},
    ),
}  # fmt: skip


def called(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and name of every call and every imported module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, f"import {alias.name}") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, f"import {node.module}"
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            yield node.lineno, name
            if isinstance(node.func, ast.Attribute) and node.func.attr in ("rename", "replace") and is_of_a_path(node):
                yield node.lineno, f"Path.{node.func.attr}"
            if name in ("json.dumps", "json.dump") and any(each.arg == "sort_keys" for each in node.keywords):
                yield node.lineno, f"{name}(sort_keys)"
            if name == "hashlib.sha256" and not node.args:
                yield node.lineno, "hashlib.sha256 in blocks"


def is_of_a_path(call: ast.Call) -> bool:
    """``replace`` of text takes two arguments, of a dataclass keywords; of a path one."""
    return len(call.args) == 1 and not call.keywords


def strangers(home: Home) -> list[tuple[str, int, str]]:
    """Who uses a raw call outside its home."""
    found = []
    for path in SOURCES:
        where = path.relative_to(ROOT).as_posix()
        if not where.startswith(home.places) and where not in home.allowed:
            tree = ast.parse(path.read_text("utf-8"), where)
            found += [(where, line, name) for line, name in called(tree) if re.fullmatch(home.calls, name)]
    return found


@pytest.mark.parametrize("thing", HOMES)
def test_nobody_does_it_on_their_own(thing: str) -> None:
    assert len(SOURCES) > 150
    assert strangers(HOMES[thing]) == []


@pytest.mark.parametrize("thing", HOMES)
def test_homes_and_exceptions_are_there_and_needed(thing: str) -> None:
    home = HOMES[thing]
    for place in (*home.places, *home.allowed):
        names = {name for _, name in called(ast.parse((ROOT / place).read_text("utf-8")))}
        assert any(re.fullmatch(home.calls, name) for name in names), f"{place} has no such call"


def test_colours_of_text_are_written_in_one_place() -> None:
    escapes = [path for path in SOURCES if re.search(r"\\(x1b|033|e)\[|\\N\{ESC", path.read_text("utf-8"))]
    assert [path.relative_to(ROOT).as_posix() for path in escapes] == ["sdk/base/streams.py"]


@pytest.mark.parametrize(
    "line",
    ["os.replace(a, b)", "a.rename(b)", "aside.replace(path)", "FileLock(path)", "hashlib.sha256()",
     "shutil.move(a, b)"],
)  # fmt: skip
def test_it_sees_what_it_should(line: str) -> None:
    pattern = HOMES["writing aside, renaming, locks and hashes of files"].calls
    assert any(re.fullmatch(pattern, name) for _, name in called(ast.parse(line)))


@pytest.mark.parametrize("line", ["text.replace('a', 'b')", "replace(config, k=1)", "date.replace(tzinfo=utc)"])
def test_it_leaves_alone_what_is_no_file(line: str) -> None:
    pattern = HOMES["writing aside, renaming, locks and hashes of files"].calls
    assert not any(re.fullmatch(pattern, name) for _, name in called(ast.parse(line)))
