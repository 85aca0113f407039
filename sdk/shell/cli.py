"""What the three commands share: logging to stderr, one line per known error, exit codes, a clean interrupt."""

from __future__ import annotations

import argparse
import contextlib
import difflib
import errno
import logging
import math
import os
import signal
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, TypeVar

from sdk.base.errors import BundleError, DataError, MarqueeError, OutputError, UsageError
from sdk.base.logs import LOG_FORMATS, configure, facts, new_run_id
from sdk.base.paths import as_location, as_path
from sdk.base.printable import one_line
from sdk.base.rights import DENIED, reason
from sdk.base.streams import Guarded, guarded
from sdk.shell.completion import SHELLS, completes_files, completion_script

T = TypeVar("T")
log = logging.getLogger(__name__)
_SHOWN = 60  # characters of a wrong value
_LARGEST = 1e9

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
        nothing = action.default in (None, "", [], ()) or action.nargs == 0  # a flag's default is not to be given
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
        self.exit(2, f"{self.prog}: {one_line(message.removeprefix('argument '))}\nhelp: {self.prog} --help\n")

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


class _PrintCompletion(argparse.Action):
    """Prints the completion script and stops, before anything that is missing is noticed."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option: str | None = None
    ) -> None:
        parser._print_message(completion_script(parser, values), sys.stdout)
        parser.exit()


def between(least: int, most: int, expected: str = "") -> Callable[[str], int]:
    """The ``type`` of an option that takes whole numbers of a range, which ``expected`` may put in words."""

    def parse(text: str) -> int:
        from sdk.base.ids import NoIdError, whole

        with contextlib.suppress(NoIdError):
            number = whole(text)
            if least <= number <= most:
                return number
        message = f"got {text[:_SHOWN]!r}, expected {expected or f'a whole number from {least} to {most}'}"
        raise argparse.ArgumentTypeError(message)

    return parse


whole_number = between(-(2**63), 2**63 - 1, "a whole number of 64 bits")
"""The ``type`` of an option that takes an id, or a number of things, of which its owner says how many there may be."""
port_number = between(0, 65535, "a port from 0 to 65535")
"""The ``type`` of an option that takes a port; 0 stands for a free one."""
seed_number = between(0, 2**32 - 1)
"""The ``type`` of an option that takes a seed."""


def finite_number(text: str) -> float:
    """An option's value as a number, neither NaN nor beyond what seconds or MiB may be.

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    try:
        number = float(text) if text.isascii() and "_" not in text else math.nan
    except ValueError:
        number = math.nan
    if not abs(number) <= _LARGEST:
        message = f"got {text[:_SHOWN]!r}, expected a number from {-_LARGEST:g} to {_LARGEST:g}"
        raise argparse.ArgumentTypeError(message)
    return number


def seconds(text: str) -> float:
    """An option's value as a length of time in seconds, 0 or more.

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    number = finite_number(text)
    if number < 0:
        message = f"got {text!r}, expected seconds, 0 or more"
        raise argparse.ArgumentTypeError(message)
    return number


@completes_files
def path_argument(text: str) -> Path:
    """An option's value as a path on this machine: ``sdk.base.paths.as_path``.

    Raises:
        argparse.ArgumentTypeError: it is none; the message says what to give.
    """
    return _meant(as_path, text)


@completes_files
def location_argument(text: str) -> str:
    """An option's value as a path or a store's URL: ``sdk.base.paths.as_location``.

    Raises:
        argparse.ArgumentTypeError: it is neither; the message says what to give.
    """
    return _meant(as_location, text)


def _meant(read: Callable[[str], T], text: str) -> T:
    try:
        return read(text)
    except UsageError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


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
    except OSError as error:
        code = _exit_code_of(error, args)
        if code is None:
            raise
        log.error("%s: %s", error.filename, reason(error), exc_info=args.verbose, extra=facts(exit_code=code))
        return code
    except KeyboardInterrupt:
        log.error("interrupted; %s", after, extra=facts(exit_code=130))
        return 130
    except Terminated:
        log.error("terminated; %s", after, extra=facts(exit_code=143))
        return 143
    finally:
        signal.signal(signal.SIGTERM, previous)


_KINDS = {"bundle": BundleError, "repository": BundleError} | dict.fromkeys(
    ("out", "to", "reports", "into", "study", "metrics_file", "home"), OutputError
)
"""What an option names, where it is not data to read."""


_SITUATIONS = (*DENIED, errno.ENAMETOOLONG, errno.ELOOP, errno.ENOSPC, errno.EDQUOT)
"""What keeps files from being used, wherever they are, and is no defect of ours."""


def _exit_code_of(error: OSError, args: argparse.Namespace) -> int | None:
    """The exit code of the option whose file could not be used; of a right that lacks elsewhere, as for an output.

    None where the error is of another file, and no situation of the machine's: a defect of ours.
    """
    if not isinstance(error.filename, str | os.PathLike):
        return None
    failed = Path(error.filename).absolute()
    for name, value in vars(args).items():
        given = Path(value).absolute() if value and isinstance(value, str | Path) and name != "command" else None
        if given is not None and (failed == given or given in failed.parents or failed in given.parents):
            return _KINDS.get(name, DataError).exit_code
    return OutputError.exit_code if error.errno in _SITUATIONS else None


def _on_sigterm(number: int, frame: FrameType | None) -> None:
    raise Terminated
