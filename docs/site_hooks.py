"""What mkdocs asks of us: pages that lie beside docs/ are pages of the site too, and links to files are words."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "triton_models/README.md": "triton_models.md",
    "examples/web_app/README.md": "web_app.md",
}
"""A page outside docs/ -> its place on the site."""
LINK = re.compile(r"(!?)\[([^\]]*)\]\((?![a-z]+:|#)([^)#\s]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: Any) -> Files:
    """The pages outside docs/, added to those inside."""
    for page, place in PAGES.items():
        files.append(File.generated(config, place, content=(ROOT / page).read_text("utf-8")))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """The page with its links as they go on the site; what is no page of it, such as a folder, is named in words."""
    place = page.file.src_uri
    source = next((ROOT / key for key, value in PAGES.items() if value == place), ROOT / "docs" / place)

    def on_site(link: re.Match[str]) -> str:
        picture, words, path, anchor = link.groups()
        target = Path(os.path.relpath((source.parent / path).resolve(), ROOT)).as_posix()
        goal = PAGES.get(target, target.removeprefix("docs/"))
        if goal == target:
            return words
        return f"{picture}[{words}]({os.path.relpath(goal, Path(place).parent)}{anchor or ''})"

    return LINK.sub(on_site, markdown)
