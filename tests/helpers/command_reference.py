"""Builds docs/cli.md from the parsers: every command with its help, as a terminal of 80 columns shows it."""

from __future__ import annotations

import argparse
import os
import textwrap
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
    """One command as Markdown: its usage wrapped alike by every Python, exit codes left to their own page."""
    usage, _, rest = parser.format_help().partition("\n\n")
    usage = textwrap.fill(" ".join(usage.split()), 80, subsequent_indent=" " * 7, break_on_hyphens=False)
    text = rest.partition("\nexit codes:")[0].rstrip()
    return f"## {parser.prog.removeprefix('python -m ')}\n\n```text\n{usage}\n\n{text}\n```\n"
