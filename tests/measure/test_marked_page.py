"""What a benchmark prints, put into a page by its command."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from sdk.machine.blas import machine

ROOT = Path(__file__).resolve().parents[2]
PAGE = "# Speed\n\n<!-- quick: begin -->\nold figures\n<!-- quick: end -->\n\nmore\n"


def into(page: Path, benchmark: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, ROOT / "tests" / "benchmarks" / "into.py", page, "--", benchmark, *options]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)


@pytest.fixture
def page(tmp_path: Path) -> Path:
    path = tmp_path / "page.md"
    path.write_text(PAGE, "utf-8")
    return path


def test_a_page_gets_the_command_the_machine_and_the_output(page: Path, tmp_path: Path) -> None:
    quick = tmp_path / "quick.py"
    quick.write_text("import sys\nprint('users', sys.argv[1], '3.5 s')\n", "utf-8")
    assert (into(page, quick, "7").returncode, into(page, quick, "8").returncode) == (0, 0)
    text = page.read_text("utf-8")
    assert text.startswith("# Speed\n\n<!-- quick: begin -->\n\n```console\n$ python ")
    assert text.endswith(f"quick.py 8\n{machine()}\nusers 8 3.5 s\n```\n\n<!-- quick: end -->\n\nmore\n")


def test_tables_that_are_printed_are_tables_of_the_page(page: Path, tmp_path: Path) -> None:
    quick = tmp_path / "quick.py"
    quick.write_text("print('load 5\\n| a | b |\\n|---|---|\\n| 1 | 2 |\\nready after 3 s')\n", "utf-8")
    assert into(page, quick).returncode == 0
    written = page.read_text("utf-8").partition("quick.py`\n\n")[2].partition("\n\n<!--")[0]
    assert written == f"{machine()}\n\nload 5\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\nready after 3 s"


def test_a_benchmark_that_fails_leaves_the_page_and_one_without_markers_does_not_begin(
    page: Path, tmp_path: Path
) -> None:
    quick, other = tmp_path / "quick.py", tmp_path / "other.py"
    quick.write_text("print('half')\nraise SystemExit(3)\n", "utf-8")
    other.write_text("print('began')\n", "utf-8")
    assert into(page, quick).returncode == 3
    refused = into(page, other)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "<!-- other: begin -->" in refused.stderr
    assert page.read_text("utf-8") == PAGE
