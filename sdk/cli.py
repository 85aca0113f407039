"""What the three commands share: logging to stderr, one line per known error, exit codes, a clean interrupt."""

from __future__ import annotations

import argparse
import difflib
import logging
import re
import signal
import sys
from collections.abc import Callable, Iterable
from types import FrameType
from typing import Any, NoReturn

from sdk.completion import SHELLS, completion_script
from sdk.errors import MarqueeError, OutputError
from sdk.logs import LOG_FORMATS, configure, facts, new_run_id
from sdk.streams import Guarded, guarded

log = logging.getLogger(__name__)
_LAST_PORT = 65535

EXIT_CODES = """\
exit codes:
  0 done            2 usage            3 input data
  4 bundle, scores  5 output           6 quality gate
  7 locked by another run              130/143 interrupted"""


class Terminated(BaseException):
    """SIGTERM came: unwind, clean up, and leave with 143."""


class HelpFormatter(argparse.RawDescriptionHelpFormatter, argparse.ArgumentDefaultsHelpFormatter):
    """Keeps the examples' line breaks and shows each option's default, where it has one to speak of."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        nothing = action.default is None or action.default is False or action.default == []
        return action.help if nothing else super()._get_help_string(action)


class CommandParser(argparse.ArgumentParser):
    """A parser that answers a usage error in two lines: what is wrong, with the likeliest name, and where help is.

    Its subcommands' parsers are of this class, too, so that an error names the subcommand.
    """

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Nothing may be left over: an argument that is not known is an error of the parser that met it."""
        parsed, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(self._unknown(unknown[0]))
        return parsed, unknown

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
            if is_result and _is_lost(out):
                self._unprinted = OutputError.exit_code
                sys.stderr.write(f"stdout: {out.failure}; nothing is printed\n")

    def error(self, message: str) -> NoReturn:
        """Leave with exit code 2."""
        message = _NO_NUMBER.sub(_expected_number, message.removeprefix("argument "))
        self.exit(2, f"{self.prog}: {message}\nhelp: {self.prog} --help\n")

    def _unknown(self, argument: str) -> str:
        if not argument.startswith("-"):
            return f"unexpected argument {argument!r}"
        name = argument.split("=")[0]
        return f"unknown option {name}{did_you_mean(name, self._option_string_actions)}"

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            choices = [str(choice) for choice in action.choices]
            message = f"got {str(value)!r}, expected one of {', '.join(choices)}{did_you_mean(str(value), choices)}"
            raise argparse.ArgumentError(action, message)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """``; did you mean --bundle?``, or nothing where no known name is like the word."""
    nearest = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {nearest[0]}?" if nearest else ""


_NO_NUMBER = re.compile(r": invalid (int|float) value: (.*)", re.DOTALL)


def _expected_number(found: re.Match[str]) -> str:
    return f": got {found[2]}, expected {'a whole number' if found[1] == 'int' else 'a number'}"


class _PrintCompletion(argparse.Action):
    """Prints the completion script and stops, before anything that is missing is noticed."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option: str | None = None
    ) -> None:
        parser._print_message(completion_script(parser, values), sys.stdout)
        parser.exit()


def port_number(text: str) -> int:
    """An option's value as a port; 0 stands for a free one.

    Raises:
        argparse.ArgumentTypeError: it is no whole number from 0 to 65535.
    """
    if not (text.isascii() and text.isdigit() and int(text) <= _LAST_PORT):
        message = f"got {text!r}, expected a port from 0 to {_LAST_PORT}"
        raise argparse.ArgumentTypeError(message)
    return int(text)


def add_completion_option(parser: argparse.ArgumentParser) -> None:
    """``--print-completion``, for a command's outermost parser."""
    parser.add_argument(
        "--print-completion", choices=SHELLS, action=_PrintCompletion, default=argparse.SUPPRESS,
        help="print what teaches this shell to complete the command, and stop",
    )  # fmt: skip


def add_logging_options(parser: argparse.ArgumentParser, *, outermost: bool = True) -> None:
    """How much is logged and in which form, the same in every command; an outermost parser completes itself, too."""
    parser.add_argument("-q", "--quiet", action="store_true", help="log warnings and errors only")
    parser.add_argument("-v", "--verbose", action="store_true", help="log details, and a traceback with an error")
    parser.add_argument(
        "--log-format", choices=LOG_FORMATS, default="text", help="log lines for people or for machines"
    )
    parser.add_argument("--run-id", metavar="TEXT", help="name of the run in JSON log lines; made up unless given")
    if outermost:
        add_completion_option(parser)


def run_command(work: Callable[[argparse.Namespace], int], args: argparse.Namespace) -> int:
    """Do a command's work and turn what happens into an exit code.

    A known cause is one line on stderr; a traceback means a defect of ours. No state of the standard streams ends the
    work. Where stdout took not everything, that is said on stderr; it is exit code 5 from a command that has nothing
    else to show. A reader who left (``| head``) wants no more, and is no error.

    Args:
        work: the command.
        args: its options. ``after_a_stop``, where a parser sets it, is said when a signal ends the work;
            ``only_prints`` is true of a command whose whole product is what it prints.
    """
    with guarded() as out:
        code = _run(work, args)
        out.flush()
        if not _is_lost(out):
            return code
        if not getattr(args, "only_prints", False):
            log.warning("stdout: %s; the work is done, its results are not printed", out.failure)
            return code
        log.error("stdout: %s; the results are not printed", out.failure, extra=facts(exit_code=OutputError.exit_code))
        return code or OutputError.exit_code


def _is_lost(out: Guarded) -> bool:
    return out.failure is not None and not isinstance(out.failure, BrokenPipeError)


def _run(work: Callable[[argparse.Namespace], int], args: argparse.Namespace) -> int:
    level = logging.WARNING if args.quiet else logging.DEBUG if args.verbose else logging.INFO
    after = getattr(args, "after_a_stop", "the same command goes on where it can")
    args.run_id = args.run_id or new_run_id()
    configure(level, args.log_format, args.run_id)
    previous = signal.signal(signal.SIGTERM, _on_sigterm)
    try:
        return work(args)
    except MarqueeError as error:
        log.error("%s", error, exc_info=args.verbose, extra=facts(exit_code=error.exit_code))
        return error.exit_code
    except KeyboardInterrupt:
        log.error("interrupted; %s", after, extra=facts(exit_code=130))
        return 130
    except Terminated:
        log.error("terminated; %s", after, extra=facts(exit_code=143))
        return 143
    finally:
        signal.signal(signal.SIGTERM, previous)


def _on_sigterm(number: int, frame: FrameType | None) -> None:
    raise Terminated
