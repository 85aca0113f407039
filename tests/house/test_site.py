"""The site is built strictly, and none of its pages loads anything from elsewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.needs("checkout", "mkdocs")
ROOT = Path(__file__).resolve().parents[2]
LOADED = re.compile(
    r"""<(?:script|img|iframe|source|audio|video|embed)\b[^>]*\bsrc=["']?((?:https?:)?//[^"'\s>]+)"""
    r"""|<link\b[^>]*\bhref=["']?((?:https?:)?//[^"'\s>]+)"""
    r"""|(?:url\(|@import)\s*["']?((?:https?:)?//[^"')\s]+)"""
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``mkdocs build`` writes; it fails where a link or a heading is not there, or a page is in no menu."""
    folder = tmp_path_factory.mktemp("site") / "html"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr  # with --quiet, mkdocs would not see its own warnings
    return folder


def test_a_page_in_no_menu_is_refused(tmp_path):
    (tmp_path / "docs").mkdir()
    for name in ("index.md", "lost.md"):
        (tmp_path / "docs" / name).write_text("# A page\n")
    settings = re.sub(r"hooks:\n  - .*\n", "", (ROOT / "mkdocs.yml").read_text("utf-8")).partition("\nnav:\n")[0]
    (tmp_path / "mkdocs.yml").write_text(f"{settings}\nnav:\n  - Home: index.md\n")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode != 0
    assert "lost.md" in done.stderr


def test_every_page_is_built_and_loads_nothing_from_elsewhere(site):
    pages = {path.relative_to(ROOT / "docs").with_suffix(".html") for path in (ROOT / "docs").rglob("*.md")}
    assert [page for page in pages if not (site / page).exists()] == []
    texts = {path: path.read_text("utf-8", "replace") for kind in ("html", "css") for path in site.rglob(f"*.{kind}")}
    assert len(texts) > 40
    found = {str(path.relative_to(site)): LOADED.findall(text) for path, text in texts.items()}
    assert {path: links for path, links in found.items() if links} == {}


@pytest.mark.parametrize(
    "text",
    [
        '<script src="https://x.example/a.js">',
        "<link rel=x href=//x.example/a.css>",
        "a { b: url('http://x.example/c') }",
    ],
)
def test_what_is_loaded_from_elsewhere_is_recognised(text):
    assert LOADED.search(text)


def test_a_link_that_a_reader_follows_is_let_be():
    assert not LOADED.search('<a href="https://x.example/">there</a>')
