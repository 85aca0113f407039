"""marquee: the commands of all packages in one, found by what the installed project registers for them.

    [project.entry-points."marquee.commands"]
    score = "batch.score:add"

Each entry is a function that adds its command to what holds a parser's subcommands; so nothing here names a package
that lies higher. Only the one that is asked for is loaded.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from sdk.shell.cli import add_program_options, closing, run_command
from sdk.shell.parser import CommandParser, HelpFormatter

GROUP = "marquee.commands"
_ORDER = [
    *("inspect", "train", "score", "similar", "recommend", "evaluate", "judge", "report", "taste"),
    *("export", "serve", "verify", "compare", "tune", "download", "doctor"),
]
"""A person's way, on which help lists the commands; others come after these."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is returned. ``marquee help score`` is ``marquee score --help``."""
    given = list(sys.argv[1:] if argv is None else argv)
    if given[:1] in (["help"], ["version"]):
        given = [*given[1:], f"--{given[0]}"]
    try:
        return run_one_of(_parser_for(given), given)
    except KeyboardInterrupt:  # while the command was loaded, before it could say more
        sys.stderr.write("interrupted\n")
        return 130


def _parser_for(given: Sequence[str]) -> CommandParser:
    """Of the command that is asked for, else of all."""
    found = {entry.name: entry for entry in sorted(entry_points(group=GROUP), key=_place)}
    asked = [found[given[0]]] if given and given[0] in found else list(found.values())
    summary = "Learn from interactions and items, make nights of lists, and serve the same models."
    example = "marquee train --sample --out bundle"
    return parser_of("marquee", summary, example, map(_adder, asked))


def _place(entry: EntryPoint) -> tuple[int, str]:
    return _ORDER.index(entry.name) if entry.name in _ORDER else len(_ORDER), entry.name


def _adder(entry: EntryPoint) -> Callable[[Any], None]:
    """What adds a command; one that lacks a package is listed, and says so when it is called."""
    try:
        return entry.load()
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] == entry.module.split(".")[0]:
            raise  # a defect of ours
        return partial(_add_unusable, entry.name, error.name)


def _add_unusable(name: str, package: str, commands: Any) -> None:
    lacking = f"needs the package {package}, which is not installed"
    parser = commands.add_parser(name, help=lacking, add_help=False)
    parser.parse_known_args = lambda *_: parser.error(
        f"{lacking}; make setup, or pip install . in the project's folder"
    )


def parser_of(program: str, summary: str, example: str, commands: Iterable[Callable[[Any], None]]) -> CommandParser:
    """A program that has several commands.

    Args:
        program: its name.
        summary: what it is for, a sentence.
        example: one command line.
        commands: each adds one, with what does its work as ``work``.
    """
    narrow = partial(HelpFormatter, max_help_position=18)  # so that each command has a line of its own
    parser = CommandParser(prog=program, description=summary, epilog=closing(example), formatter_class=narrow)
    add_program_options(parser)
    holder = parser.add_subparsers(prog=program, title="commands", dest="command", required=True, metavar="COMMAND")
    for add in commands:
        add(holder)
    return parser


def run_one_of(parser: CommandParser, given: Sequence[str]) -> int:
    """Run the command that is asked for; where none is, say which there are, with exit code 2."""
    if not given:
        parser.print_help(sys.stderr)
        return 2
    args = parser.parse_args(given)
    return run_command(args.work, args)
