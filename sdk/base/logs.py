"""Logging of the commands, on stderr: lines for people, or one JSON object a line for machines."""

from __future__ import annotations

import json
import logging
import sys
import uuid
from collections.abc import Mapping
from contextlib import nullcontext
from datetime import UTC, datetime
from typing import Any, Literal, get_args

from sdk.base.printable import is_hidden, one_line, printable
from sdk.base.streams import painted

LogFormat = Literal["text", "json"]
LOG_FORMATS: tuple[str, ...] = get_args(LogFormat)
PACKAGES = ("sdk", "export", "batch")
_FACTS, _IS_DETAIL = "facts", "is_detail"


def facts(**values: Any) -> dict[str, Any]:
    """What a log line says in numbers, for ``extra=``: ``log.info("…", extra=facts(stage="checking", seconds=1.5))``.

    People read the message; ``--log-format json`` adds these as keys of their own.
    """
    return {_FACTS: values}


def details(**values: Any) -> dict[str, Any]:
    """``facts`` of a line that people see with ``--verbose`` only: there are many such, or others say it, too."""
    return {**facts(**values), _IS_DETAIL: True}


def new_run_id() -> str:
    """Twelve hex digits that tell one run's lines from another's."""
    return uuid.uuid4().hex[:12]


def configure(level: int, log_format: str, run_id: str | None = None) -> None:
    """Send the packages' lines of at least ``level``, and everyone's warnings, to stderr.

    Args:
        level: of ``logging``, for our packages.
        log_format: ``text`` or ``json``.
        run_id: written into every JSON line; None makes one.
    """
    handler = _AroundBars(sys.stderr)
    if log_format == "json":
        handler.setFormatter(JsonLines(run_id or new_run_id()))
    else:
        handler.setFormatter(TextLines("%(message)s"))
        if level > logging.DEBUG:
            handler.addFilter(lambda record: not getattr(record, _IS_DETAIL, False))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    for package in PACKAGES:
        logging.getLogger(package).setLevel(level)


class _AroundBars(logging.StreamHandler[Any]):
    """Writes lines above the live line of a terminal, which is drawn again below them."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        bars = sys.modules.get("tqdm")  # loaded by who draws any
        with nullcontext() if bars is None else bars.tqdm.external_write_mode(file=sys.stderr):
            super().emit(record)


class TextLines(logging.Formatter):
    """Lines for people: a text that is filled in, such as a title, stays within its line and steers no terminal.

    On stderr, where that has colours, an error is red and a warning yellow.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The message, and a traceback where there is one."""
        filled = logging.makeLogRecord(record.__dict__)
        if isinstance(record.args, tuple):
            filled.args = tuple(one_line(arg) if isinstance(arg, str) else arg for arg in record.args)
        text = printable(super().format(filled))
        if record.levelno < logging.WARNING:
            return text
        return painted(text, "error" if record.levelno >= logging.ERROR else "warning", sys.stderr)


class JsonLines(logging.Formatter):
    """One JSON object a line: time (RFC 3339, UTC), level, logger, run_id, message, and the line's facts.

    Args:
        run_id: the run that the lines belong to.
    """

    def __init__(self, run_id: str) -> None:
        super().__init__()
        self.run_id = run_id

    def format(self, record: logging.LogRecord) -> str:
        """A record as one line of JSON; a number that JSON does not know becomes its text."""
        moment = datetime.fromtimestamp(record.created, UTC)
        values: dict[str, Any] = {
            "time": moment.isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "run_id": self.run_id,
            "message": record.getMessage(),
        }
        found: Mapping[str, Any] = getattr(record, _FACTS, {})
        values |= {name: value for name, value in found.items() if name not in values}
        if record.exc_info:
            values["traceback"] = self.formatException(record.exc_info)
        text = json.dumps(_plain(values), ensure_ascii=False, allow_nan=False)
        return "".join(json.dumps(char)[1:-1] if char > "~" and is_hidden(char) else char for char in text)


def _plain(value: Any) -> Any:
    """JSON's own types; NumPy's numbers become Python's, NaN and infinities their names, anything else its text."""
    if isinstance(value, Mapping):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if hasattr(value, "item") and getattr(value, "shape", None) == ():
        value = value.item()
    if isinstance(value, float) and value - value != 0:
        return str(value)
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)
