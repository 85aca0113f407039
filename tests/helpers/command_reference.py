"""Builds docs/cli.md from the parsers: every command with its help, as a terminal of 80 columns shows it."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from unittest import mock

HEAD = """\
# Commands

After this page you know every command and every option. It is made from the parsers by
`pytest tests/house/test_docs.py --update-golden`. `marquee NAME` is the same command as the one shown.
"""


def reference(parsers: Mapping[tuple[str, ...], argparse.ArgumentParser]) -> str:
    """The whole page, of the commands by the words that start them."""
    with mock.patch.dict(os.environ, {"COLUMNS": "80", "NO_COLOR": "1"}):
        return "\n".join([HEAD, *(entry(parser) for parser in parsers.values())])


def entry(parser: argparse.ArgumentParser) -> str:
    """One command as Markdown, without the exit codes, which have a page of their own."""
    text = parser.format_help().partition("\nexit codes:")[0].rstrip()
    return f"## {parser.prog.removeprefix('python -m ')}\n\n```text\n{text}\n```\n"
