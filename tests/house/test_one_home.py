"""What is written aside, renamed, locked or hashed goes through sdk/base/files.py: one mechanism for one thing."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HOME = ROOT / "sdk" / "base" / "files.py"
SOURCES = [path for name in ("sdk", "batch", "export", "examples") for path in sorted((ROOT / name).rglob("*.py"))]
MODULE_CALLS = {
    "os.replace",
    "os.rename",
    "os.renames",
    "os.link",
    "os.chmod",
    "os.umask",
    "shutil.move",
    "shutil.copy",
    "shutil.copy2",
    "fcntl.flock",
    "fcntl.lockf",
    "FileLock",
    "SoftFileLock",
    "save_file",
    "write_to_textfile",
    "tempfile.NamedTemporaryFile",
    "tempfile.mkstemp",
    "tempfile.mkdtemp",
}
"""Calls that have a better one in sdk/base/files.py: safe, durable, with the umask's mode, and with a way back."""
ALLOWED = {
    ("batch/job/id_files.py", "hashlib.sha256 in blocks"),  # of parts that are in memory
    ("sdk/machine/code_cache.py", "tempfile.mkdtemp"),  # PyTorch's scratch folder, of this process alone
    ("sdk/base/stored_arrays.py", "sort_keys"),  # a bundle's own files: their bytes are part of its format
}


def calls(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and name of every call that should be one of sdk/base/files.py."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        if name in MODULE_CALLS:
            yield node.lineno, name
        if isinstance(node.func, ast.Attribute) and node.func.attr in ("rename", "replace") and is_of_a_path(node):
            yield node.lineno, f"Path.{node.func.attr}"
        if name in ("json.dumps", "json.dump") and any(each.arg == "sort_keys" for each in node.keywords):
            yield node.lineno, "sort_keys"
        if name == "hashlib.sha256" and not node.args:
            yield node.lineno, "hashlib.sha256 in blocks"


def is_of_a_path(call: ast.Call) -> bool:
    """``replace`` of text takes two arguments, of a dataclass keywords; of a path one."""
    return len(call.args) == 1 and not call.keywords


def found(path: Path) -> list[tuple[str, int, str]]:
    where = path.relative_to(ROOT).as_posix()
    tree = ast.parse(path.read_text("utf-8"), str(path))
    return [(where, line, name) for line, name in calls(tree) if (where, name) not in ALLOWED]


def test_nobody_writes_aside_renames_locks_or_hashes_on_their_own() -> None:
    assert len(SOURCES) > 150
    assert [each for path in SOURCES if path != HOME for each in found(path) if not is_fingerprint(each)] == []


def is_fingerprint(each: tuple[str, int, str]) -> bool:
    return each[0] == "sdk/data/fingerprint.py" and each[2] == "hashlib.sha256 in blocks"  # of arrays, not of a file


@pytest.mark.parametrize(
    "line",
    ["os.replace(a, b)", "a.rename(b)", "aside.replace(path)", "FileLock(path)", "json.dumps(x, sort_keys=True)",
     "hashlib.sha256()", "shutil.move(a, b)"],
)  # fmt: skip
def test_it_sees_what_it_should(line: str) -> None:
    assert len(list(calls(ast.parse(line)))) == 1


@pytest.mark.parametrize("line", ["text.replace('a', 'b')", "replace(config, k=1)", "date.replace(tzinfo=utc)"])
def test_it_leaves_alone_what_is_no_file(line: str) -> None:
    assert list(calls(ast.parse(line))) == []
