"""What a command's parser is like: its options in named groups, its help a page to read, its errors two lines."""

from __future__ import annotations

import argparse
import difflib
import itertools
import re
import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, NoReturn, get_args

from sdk.base.errors import OutputError
from sdk.base.printable import one_line
from sdk.base.streams import Guarded, guarded, painted

GroupName = Literal["required", "common", "newer ratings and filters", "operations", "advanced", "general"]
GROUPS: tuple[GroupName, ...] = get_args(GroupName)
"""The groups that a command's options lie in, in the order in which its help shows them."""
_WIDEST = 100  # columns; longer lines are hard to read


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """As wide as the terminal, but no wider than is read well; what must be given stands in the usage line.

    Lines that are indented, such as examples, are kept as they are. Each option shows its default, where it has one to
    speak of.
    """

    def __init__(self, prog: str, **more: Any) -> None:
        width = min(shutil.get_terminal_size().columns, _WIDEST) - 2
        super().__init__(prog, **{"max_help_position": 26, "width": width, **more})

    def add_usage(self, usage: Any, actions: Iterable[Any], groups: Iterable[Any], prefix: Any = None) -> None:
        """The line with what is asked for; the rest is in the groups below it."""
        alternatives = [group for group in groups if group.required]
        asked = [action for group in alternatives for action in group._group_actions]
        shown = [each for each in actions if each.required or each in asked or each.container.title == GROUPS[0]]
        others = argparse.Action([], "options", nargs="?", metavar="options")
        super().add_usage(usage, [others, *shown], alternatives, prefix)

    def _format_action(self, action: argparse.Action) -> str:
        text = super()._format_action(action)
        return text.split("\n", 1)[1] if isinstance(action, argparse._SubParsersAction) else text  # no line "COMMAND"

    def _format_args(self, action: argparse.Action, default_metavar: str) -> str:
        one_or_more = action.nargs == argparse.ONE_OR_MORE and isinstance(action.metavar, str)
        return f"{action.metavar}…" if one_or_more else super()._format_args(action, default_metavar)

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(" ".join(text.split()), width, break_on_hyphens=False)  # an option's name stays whole

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        lines = (
            line if line.startswith(" ") else "\n".join(self._split_lines(line, width)) for line in text.split("\n")
        )
        return "\n".join(indent + line for line in lines)

    def _get_help_string(self, action: argparse.Action) -> str | None:
        nothing = action.default in (None, "", [], ()) or action.nargs == 0  # a flag's default is not to be given
        return action.help if nothing else super()._get_help_string(action)


class CommandParser(argparse.ArgumentParser):
    """A parser that answers a usage error in two lines: what is wrong, with the likeliest name, and where help is.

    Its subcommands' parsers are of this class, too, so that an error names the subcommand.
    """

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **{"formatter_class": HelpFormatter, **more})
        self.color = False  # Python 3.14 has colours of its own: ours are the same with every Python
        self._optionals.title = GROUPS[-1]

    def group(self, name: GroupName, description: str | None = None) -> argparse._ArgumentGroup:
        """The options of this group, which is made where it is not there."""
        for group in self._action_groups:
            if group.title == name:
                return group
        return self.add_argument_group(name, description)

    def add_argument_group(self, *args: Any, **more: Any) -> argparse._ArgumentGroup:
        """A group in its place among the others."""
        made = super().add_argument_group(*args, **more)
        self._action_groups.sort(key=lambda group: GROUPS.index(group.title) if group.title in GROUPS else -1)
        return made

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Nothing may be left over: an argument that is not known is an error of the parser that met it."""
        self._given = list(sys.argv[1:] if args is None else args)
        parsed, unknown = super().parse_known_args(self._given, namespace)
        if unknown:
            self.error(self._unknown(unknown[0]))
        return parsed, unknown

    def print_help(self, file: Any = None) -> None:
        """Print the page, with headings and names of options told apart where the stream has colours."""
        stream = file or sys.stdout
        self._print_message(_told_apart(self.format_help(), stream), stream)

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        """Leave, with exit code 5 where help or a version was asked for and could not be printed."""
        with guarded():
            super().exit(status or self._unprinted, message)

    _unprinted = 0

    def _print_message(self, message: str, file: Any = None) -> None:
        is_result = file is sys.stdout
        with guarded() as out:
            (out if is_result else sys.stderr).write(message)
            out.flush()
            if is_result and is_lost(out):
                self._unprinted = OutputError.exit_code
                sys.stderr.write(f"stdout: {out.failure}; nothing is printed\n")

    def error(self, message: str) -> NoReturn:
        """Leave with exit code 2; where a name is misspelt, that is said rather than that another one is missing."""
        if "required" in message:
            message = next(map(self._unknown, self._misspelt()), message)
        if message.endswith("expected one argument") and (name := re.search(r"--[\w-]+", message)):
            message += f"; a value that begins with a dash is joined to it: {name[0]}=-VALUE"
        problem = painted(f"{self.prog}: {one_line(message.removeprefix('argument '))}", "error", sys.stderr)
        self.exit(2, f"{problem}\nhelp: {self.prog} --help\n")

    _given: Sequence[str] = ()

    def _misspelt(self) -> Iterator[str]:
        words = itertools.takewhile("--".__ne__, self._given)
        names = (word.split("=")[0] for word in words if re.match(r"--|-[a-zA-Z]$", word))
        return (name for name in names if not any(known.startswith(name) for known in self._option_string_actions))

    def _unknown(self, argument: str) -> str:
        if not argument.startswith("-"):
            has_titles = any(action.metavar == "TITLE" for action in self._actions)
            hint = "; put a title of several words in quotes" if has_titles else ""
            return f"unexpected argument {argument!r}{hint}"
        name = argument.split("=")[0]
        return f"unknown option {name}{did_you_mean(name, self._option_string_actions)}"

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            choices = [str(choice) for choice in action.choices]
            message = f"got {str(value)!r}, expected one of {', '.join(choices)}{did_you_mean(str(value), choices)}"
            raise argparse.ArgumentError(action, message)


_NAMES = re.compile(r"^(usage:|\S[^\n]*:(?=\n))|^(?: {2}(-[^\n]*?)| {4}([a-z]+))(?= {2}|\n)", re.M)
"""What a help page's eye is to find: headings, and the names of options and of commands."""


def _told_apart(page: str, stream: Any) -> str:
    def paint(found: re.Match[str]) -> str:
        start = found.start(found.lastindex or 0) - found.start()
        name = painted(found[0][start:], "heading" if found[1] else "name", stream)
        return found[0][:start] + name

    return _NAMES.sub(paint, page)


def is_lost(out: Guarded) -> bool:
    """Whether something was not written that somebody waits for; a reader who left (``| head``) does not."""
    return out.failure is not None and not isinstance(out.failure, BrokenPipeError)


def what_helps(exit_code: int) -> str:
    """The last words of every error: where its causes stand in order, with what shows more and what mends them."""
    return f"What helps with exit code {exit_code}: docs/exit_codes.md"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """``; did you mean --bundle?``, or nothing where no known name is like the word."""
    nearest = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {nearest[0]}?" if nearest else ""
