"""The documents are true: the API reference is the docstrings', links lead somewhere, commands and options exist."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path

import api_reference
import pytest

import batch.__main__ as batch_commands
import batch.report
import batch.score
import batch.taste
import export.__main__ as export_commands
import sdk.__main__ as sdk_commands
from sdk.shell.cli import EXIT_CODES
from sdk.shell.console import GROUP, parser_of

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "triton_models").rglob("*.md"),
                *(ROOT / "examples").rglob("*.md")])  # fmt: skip
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.M | re.S)


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def test_the_api_reference_is_what_the_docstrings_say(golden):
    golden(ROOT / "docs" / "api.md", api_reference.reference())


# links -------------------------------------------------------------------------------------------------------------


def anchors(page: Path) -> set[str]:
    """Every heading as GitHub links to it."""
    heads = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text("utf-8")), re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def links(page: Path) -> Iterator[str]:
    text = FENCE.sub("", page.read_text("utf-8"))
    yield from re.findall(r"\]\(([^)\s]+)\)", text)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page):
    for link in links(page):
        if re.match(r"[a-z]+:", link):
            assert link.startswith("https://"), f"{name_of(page)}: {link}"
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{name_of(page)} links to {link}, which is not there"
        assert not anchor or anchor in anchors(target), f"{name_of(page)} links to {link}: no such heading"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_files_that_are_named_exist(page):
    for path in re.findall(
        r"`((?:sdk|batch|export|tests|docs|examples|triton_models)/[\w./-]+)`", page.read_text("utf-8")
    ):
        assert (ROOT / path).exists(), f"{name_of(page)} names {path}, which is not there"


# commands ----------------------------------------------------------------------------------------------------------


def parsers() -> dict[tuple[str, ...], argparse.ArgumentParser]:
    """Every command, by the words that start it."""
    found = {
        (name,): module.build_parser()
        for name, module in (("batch.report", batch.report), ("batch.score", batch.score), ("batch.taste", batch.taste))
    }
    found |= {("sdk", name): parser for name, parser in subparsers(sdk_commands.build_parser()).items()}
    found |= {
        ("export", "serve"): export_commands._serve_parser(),
        ("export", "verify"): export_commands._verify_parser(),
    }
    found[("export",)] = export_commands.build_parser()
    found |= {("batch", name): parser for name, parser in subparsers(batch_commands.build_parser()).items()}
    entries = [entry.load() for entry in entry_points(group=GROUP)]
    found |= {("marquee", name): parser for name, parser in subparsers(parser_of("marquee", "", "", entries)).items()}
    return found


def subparsers(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    (subcommands,) = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    return subcommands.choices


PARSERS = parsers()


def command_lines(page: Path) -> Iterator[str]:
    """Every ``python -m`` line of ours in the page's shell blocks, with continued lines joined and comments gone."""
    for _, block in FENCE.findall(page.read_text("utf-8")):
        for line in block.replace("\\\n", " ").splitlines():
            for part in re.split(r"&&|\|\||[;|]|(?<= )&$", line.split("  #")[0]):
                if re.match(r"\s*(\$ )?(\S*/)?(python3? -m (sdk|batch|export)|marquee)\b", part):
                    yield part.strip().removeprefix("$ ")


def check(line: str) -> None:
    """The command's own parser reads the line."""
    words = shlex.split(line.replace("$(date +%F)", "2026-11-23"), comments=True)
    words = words[words.index("-m") + 1 :] if "-m" in words else ["marquee", *words[1:]]
    key = next((key for key in (tuple(words[:2]), tuple(words[:1])) if key in PARSERS), None)
    assert key, f"no such command: {line}"
    if "..." in words or "…" in line:
        return
    try:
        PARSERS[key].parse_args([word for word in words[len(key) :] if word != "&"])
    except SystemExit:
        pytest.fail(f"not understood: {line}")


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_in_documents_are_understood(page):
    for line in command_lines(page):
        check(line)


def test_the_checker_refuses_an_option_that_is_not_there():
    with pytest.raises(pytest.fail.Exception, match="not understood"):
        check("python -m batch.score --bundle b --out o --run-date 2026-11-23 --no-such-option")


@pytest.mark.parametrize("words", PARSERS, ids=" ".join)
def test_every_commands_help_has_an_example_that_works_and_the_exit_codes(words):
    text = PARSERS[words].format_help()
    assert EXIT_CODES in text
    examples = re.findall(r"^  ((?:python -m|marquee) .*)$", re.sub(r"\\\n *", "", text), re.M)
    assert examples, "no example"
    for line in examples:
        check(re.split(r" {2,}", line)[0])


def test_the_readme_lists_every_exit_code():
    readme = (ROOT / "README.md").read_text("utf-8")
    sentence = re.sub(r"\s+", " ", readme[readme.index("Exit codes:") :][:400])
    for code, word in ((0, "done"), (2, "usage"), (3, "input"), (4, "bundle"), (5, "output"), (6, "quality gate")):
        assert f"{code} {word}" in sentence
