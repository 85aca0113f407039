"""What the three commands share: logging to stderr, one line per known error, exit codes, a clean interrupt."""

from __future__ import annotations

import argparse
import contextlib
import errno
import inspect
import logging
import math
import os
import platform
import re
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from types import FrameType
from typing import Any, Literal, TypeVar, get_args, get_origin

from sdk.base.config import hints_of
from sdk.base.errors import BundleError, DataError, MarqueeError, OutputError, UsageError
from sdk.base.logs import LOG_FORMATS, configure, facts, new_run_id
from sdk.base.paths import as_location, as_path, as_source
from sdk.base.rights import DENIED, reason
from sdk.base.streams import guarded
from sdk.base.traces import collected, note, span
from sdk.machine.cluster import ClusterConfig
from sdk.machine.device import versions_of
from sdk.shell.completion import SHELLS, completes_files, completion_script
from sdk.shell.parser import CommandParser, did_you_mean, is_lost, what_helps

T = TypeVar("T")
N = TypeVar("N", int, float)
log = logging.getLogger(__name__)
_SHOWN = 60  # characters of a wrong value
_LARGEST = 1e9

EXIT_CODES = """\
exit codes:
  0 done            2 usage            3 input data
  4 bundle, scores  5 output           6 quality gate
  7 locked by another run              130/143 interrupted
what helps with each: docs/exit_codes.md"""


class Terminated(BaseException):
    """SIGTERM came: unwind, clean up, and leave with 143."""


class _PrintCompletion(argparse.Action):
    """Prints the completion script and stops, before anything that is missing is noticed."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option: str | None = None
    ) -> None:
        parser._print_message(completion_script(parser, values), sys.stdout)
        parser.exit()


def _whole(text: str) -> int:
    from sdk.base.ids import whole

    return whole(text)


def _number(text: str) -> float:
    return float(text) if text.isascii() and "_" not in text else math.nan


def between(least: N, most: N, expected: str = "", read: Callable[[str], N] = _whole) -> Callable[[str], N]:
    """The ``type`` of an option that takes numbers of a range, which ``expected`` may put in words; whole ones."""

    def parse(text: str) -> N:
        with contextlib.suppress(ValueError):
            if least <= (number := read(text)) <= most:
                return number
        asked = expected or f"a whole number from {least} to {most}"
        raise argparse.ArgumentTypeError(f"got {text[:_SHOWN]!r}, expected {asked}")

    return parse


whole_number = between(-(2**63), 2**63 - 1, "a whole number of 64 bits")
"""The ``type`` of an option that takes an id, or a number of things, of which its owner says how many there may be."""
port_number = between(0, 65535, "a port from 0 to 65535")
"""The ``type`` of an option that takes a port; 0 stands for a free one."""
seed_number = between(0, 2**32 - 1)
"""The ``type`` of an option that takes a seed."""
finite_number = between(-_LARGEST, _LARGEST, f"a number from {-_LARGEST:g} to {_LARGEST:g}", _number)
"""The ``type`` of an option that takes a number, neither NaN nor beyond what seconds or MiB may be."""
positive_number = between(1e-9, _LARGEST, "a number above 0", _number)
"""The ``type`` of an option that takes a number above 0."""
seconds = between(0, _LARGEST, "seconds, 0 or more", _number)
"""The ``type`` of an option that takes a length of time in seconds."""


def joined(parse: Callable[[str], T], expected: str = "values") -> Callable[[str], tuple[T, ...]]:
    """The ``type`` of an option that takes several values joined by commas; one that is given twice counts once."""

    def parse_all(text: str) -> tuple[T, ...]:
        with contextlib.suppress(argparse.ArgumentTypeError):
            if found := tuple(dict.fromkeys(parse(part.strip()) for part in text.split(",") if part.strip())):
                return found
        raise argparse.ArgumentTypeError(f"got {text[:_SHOWN]!r}, expected {expected}, joined by commas")

    return parse_all


def some_of(words: Sequence[str]) -> Callable[[str], tuple[str, ...]]:
    """The ``type`` of an option that takes some of these words, joined by commas."""

    def parse_all(text: str) -> tuple[str, ...]:
        found = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
        if not found or set(found) - set(words):
            wrong = next((word for word in found if word not in words), text)
            expected = f"expected some of {', '.join(words)}, joined by commas{did_you_mean(wrong, words)}"
            raise argparse.ArgumentTypeError(f"got {wrong[:_SHOWN]!r}, {expected}")
        return found

    return parse_all


def _meant(read: Callable[[str], T]) -> Callable[[str], T]:
    @completes_files
    def parse(text: str) -> T:
        try:
            return read(text)
        except UsageError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return parse


path_argument = _meant(as_path)
"""The ``type`` of an option that takes a path on this machine: ``sdk.base.paths.as_path``."""
location_argument = _meant(as_location)
"""The ``type`` of an option that takes a path or a store's URL: ``sdk.base.paths.as_location``."""
table_argument = _meant(as_source)
"""The ``type`` of an option that takes a table to read: ``sdk.base.paths.as_source``."""


class _PrintVersion(argparse.Action):
    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option: str | None = None
    ) -> None:
        marquee, numpy, torch = versions_of(("marquee", "numpy", "torch")).values()
        beside = f"Python {platform.python_version()}, NumPy {numpy}, torch {torch}"
        parser._print_message(f"marquee {marquee} ({beside})\n", sys.stdout)
        parser.exit()


_OF_PYTHON = re.compile(r"python -m (?:sdk |batch\.|export (?=serve|verify)|(?=export))")
"""What ``marquee`` stands for, before a command's name."""


def new_parser(
    make: Callable[..., Any], name: str, summary: str, example: str, more: str = "", **defaults: Any
) -> CommandParser:
    """A command's parser, with a real example and the exit codes below its options, and the options of every command.

    Args:
        make: ``CommandParser``, or ``add_parser`` of what holds a program's subcommands.
        name: of the program or the subcommand.
        summary: what it does, in a few words: one line in the list of commands.
        example: one command line or several, and what else is worth knowing.
        more: what its own page says after the summary.
        defaults: set in what the parser reads: ``work`` does a subcommand's work; and see ``run_command``.
    """
    outermost = make is CommandParser
    listed = {} if outermost else {"help": summary}
    description = f"{summary[0].upper()}{summary[1:]}. {more}".rstrip()
    parser: CommandParser = make(name, description=description, epilog=closing(example), **listed)
    if parser.prog.startswith("marquee "):
        parser.epilog = _OF_PYTHON.sub("marquee ", parser.epilog or "")
    general, logged = parser.group("general"), "log lines for people or for machines"
    general.add_argument("-q", "--quiet", action="store_true", help="log warnings and errors only")
    general.add_argument("-v", "--verbose", action="store_true", help="log details, and a traceback with an error")
    general.add_argument("--log-format", choices=LOG_FORMATS, default="text", help=logged)
    general.add_argument("--run-id", metavar="TEXT", help="name of the run in JSON log lines; made up unless given")
    if outermost:
        add_program_options(parser)
    parser.set_defaults(program=parser.prog, **defaults)
    return parser


def closing(example: str) -> str:
    """What stands below a program's or a command's options."""
    return f"example:\n  {example}\n\n{EXIT_CODES}"


def add_program_options(parser: CommandParser) -> None:
    """``--version`` and ``--print-completion``, for a command's outermost parser."""
    general = parser.group("general")
    general.add_argument(
        "--version", action=_PrintVersion, nargs=0, default=argparse.SUPPRESS,
        help="print the version, and those of Python, NumPy and torch, and stop",
    )  # fmt: skip
    general.add_argument(
        "--print-completion", choices=SHELLS, action=_PrintCompletion, default=argparse.SUPPRESS,
        help="print what teaches this shell to complete the command, and stop",
    )  # fmt: skip


_WAYS: dict[tuple[Any, ...], dict[str, Any]] = {
    (int,): {"type": whole_number, "metavar": "N"},
    (float,): {"type": finite_number, "metavar": "X"},
    (bool,): {"action": "store_true"},
    (Path,): {"type": path_argument, "metavar": "PATH"},
    (str, Path): {"type": location_argument, "metavar": "OUT"},
}
"""What an option is like whose field has this type."""


def add_fields(parser: Any, owner: type, *names: str, flag: str = "", **more: Any) -> list[argparse.Action]:
    """Options for fields of a frozen dataclass: their names, types, defaults and help are the fields' own.

    ``made_of`` makes the dataclass of what was given. A field of type Literal takes one of its words; the help is what
    the class's docstring says below ``Attributes``.

    Args:
        parser: of the command, or a group of its options.
        owner: the dataclass.
        names: of its fields.
        flag: the option's name, where it is not the field's.
        more: of ``add_argument``, where a field's type does not say it: ``metavar``, a narrower ``type``, ``choices``.
    """
    hints, defaults = hints_of(owner), {field.name: field.default for field in fields(owner)}
    added = []
    for name in names:
        kinds = [kind for kind in get_args(hints[name]) if kind is not type(None)] or [hints[name]]
        way = {"choices": kinds} if get_origin(hints[name]) is Literal else _WAYS.get(tuple(kinds), {})
        required = {"required": True} if defaults[name] is MISSING else {"default": defaults[name]}
        found = {"help": _said_of(owner).get(name), "dest": name, **way, **required, **more}
        added.append(parser.add_argument(flag or f"--{name.replace('_', '-')}", **found))
    return added


def _said_of(owner: type) -> dict[str, str]:
    """What a class's docstring says of its attributes, as help texts: plain, on one line, without the last stop.

    Of a flag, which is given where it is so: without ``whether to``.
    """
    _, _, text = (inspect.getdoc(owner) or "").partition("Attributes:")
    found = re.findall(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", text, re.M)
    return {name: _plain(text.replace("%", "%%")) for name, text in found}


def _plain(text: str) -> str:
    said = " ".join(text.replace("``", "").split()).removesuffix(".")
    return said.removeprefix("whether ").removeprefix("to ")


def made_of(owner: Callable[..., T], args: argparse.Namespace, **more: Any) -> T:
    """The dataclass that ``add_fields`` made options for, of what was given; what has no option takes its default.

    Raises:
        UsageError: as the dataclass raises it.
    """
    names = [field.name for field in fields(owner)]  # type: ignore[arg-type]
    given = {name: getattr(args, name) for name in names if hasattr(args, name)}
    return owner(**{**given, **more})


def add_bundle(parser: CommandParser, **more: Any) -> None:
    """``--bundle``; it is ``bundle`` unless ``more`` says something else, such as that it is required."""
    way = {"default": Path("bundle"), "metavar": "BUNDLE", "help": "folder of a trained bundle"}
    group = parser.group("required" if more.get("required") else "common")
    group.add_argument("--bundle", type=path_argument, **{**way, **more})


def add_cluster_options(parser: CommandParser) -> None:
    """``--workers``, ``--dask`` and ``--worker-memory``, the same in every command, for a ``ClusterConfig``."""
    group = parser.group("advanced")
    add_fields(group, ClusterConfig, "workers")
    add_fields(group, ClusterConfig, "address", flag="--dask", metavar="ADDRESS")
    add_fields(group, ClusterConfig, "worker_memory", metavar="SIZE")


def add_mlflow_option(parser: CommandParser) -> None:
    """``--mlflow``, the same in every command, for ``MLflow.of``."""
    told = "tell MLflow how it went: an experiment's name or a tracking URI; what is not given, MLFLOW_* say"
    parser.group("advanced").add_argument("--mlflow", nargs="?", const="", metavar="EXPERIMENT|URI", help=told)


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
        if not is_lost(out):
            return code
        if not getattr(args, "only_prints", False):
            log.warning("stdout: %s; the work is done, its results are not printed", out.failure)
            return code
        return code or _failed(f"stdout: {out.failure}; the results are not printed", OutputError.exit_code)


def _run(work: Callable[[argparse.Namespace], int], args: argparse.Namespace) -> int:
    level = logging.WARNING if args.quiet else logging.DEBUG if args.verbose else logging.INFO
    after = getattr(args, "after_a_stop", "the same command goes on where it can")
    args.run_id = args.run_id or new_run_id()
    configure(level, args.log_format, args.run_id)
    previous = signal.signal(signal.SIGTERM, _on_sigterm)
    try:
        return _traced(work, args)
    except MarqueeError as error:
        return _failed(str(error), error.exit_code, args.verbose)
    except OSError as error:
        code = _exit_code_of(error, args)
        if code is None:
            raise
        return _failed(f"{error.filename}: {reason(error)}", code, args.verbose)
    except KeyboardInterrupt:
        return _failed(f"interrupted; {after}", 130)
    except Terminated:
        return _failed(f"terminated; {after}", 143)
    finally:
        signal.signal(signal.SIGTERM, previous)


def _failed(message: str, code: int, traceback: bool = False) -> int:
    stop = "" if message.endswith((".", "!", "?")) else "."
    log.error("%s%s %s", message, stop, what_helps(code), exc_info=traceback, extra=facts(exit_code=code))
    return code


def _traced(work: Callable[[argparse.Namespace], int], args: argparse.Namespace) -> int:
    """The work in a span of the command's name, which goes where ``OTEL_*`` says."""
    with collected(os.environ), span(getattr(args, "program", "marquee"), run_id=args.run_id):
        code = work(args)
        note(exit_code=code)
        return code


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
