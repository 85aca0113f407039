"""The documents are true: the API reference is the docstrings', links lead somewhere, commands and options exist."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path

import api_reference
import command_reference
import pytest

import batch.__main__ as batch_commands
import batch.report
import batch.score
import batch.taste
import export.__main__ as export_commands
import sdk.__main__ as sdk_commands
from sdk.base.errors import MarqueeError
from sdk.shell.cli import EXIT_CODES
from sdk.shell.console import GROUP, parser_of
from sdk.shell.parser import what_helps

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "triton_models").rglob("*.md"),
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


def test_the_page_of_commands_is_what_the_parsers_say(golden):
    by_module = {words: parser for words, parser in PARSERS.items() if words[0] not in ("marquee", "batch")}
    golden(ROOT / "docs" / "cli.md", command_reference.reference(by_module))


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


# what each page is for ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", sorted((ROOT / "docs").rglob("*.md")), ids=name_of)
def test_a_page_begins_with_what_its_reader_can_do_after_it(page):
    title, lead = page.read_text("utf-8").split("\n\n")[:2]
    assert title.startswith("# ")
    assert re.match(r"After this page (you|your)\b", lead), lead


def exit_codes() -> set[int]:
    """Every code that a command can end with: those of the errors, done, and the signals'."""
    kinds = [MarqueeError]
    for kind in kinds:
        kinds += kind.__subclasses__()
    return {0, 130, 143} | {kind.exit_code for kind in kinds}


def test_the_page_on_exit_codes_has_every_code_and_an_error_names_the_page(capsys):
    page = ROOT / "docs" / "exit_codes.md"
    heads = re.findall(r"^## ([\d and]+):", page.read_text("utf-8"), re.M)
    assert [int(code) for head in heads for code in head.split(" and ")] == sorted(exit_codes())
    assert sdk_commands.main(["evaluate", "--bundle", "not-there"]) == 4
    assert capsys.readouterr().err.endswith(f"{what_helps(4)}\n")
    assert what_helps(4).endswith(name_of(page))
    assert name_of(page) in EXIT_CODES


def test_the_figures_of_the_readme_are_those_of_the_pages():
    readme = (ROOT / "README.md").read_text("utf-8")
    rows = [row for row in readme[readme.index("## How good") :].splitlines() if row.startswith("|")]
    pages = "".join((ROOT / "docs" / name).read_text("utf-8") for name in ("quality.md", "other_data.md"))
    figures = re.findall(r"0\.\d{3}", "".join(rows))
    assert len(figures) >= 12
    assert [figure for figure in figures if figure not in pages] == []
