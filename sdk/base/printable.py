"""Text as people may see it. Titles, names of files and what somebody typed are data: they must neither steer a
terminal nor pass for lines of ours. Files and JSON keep what was given. How numbers are shown is decided here, too.
"""

from __future__ import annotations

import math
import re
import unicodedata

_JOINERS = "\u200c\u200d"  # between letters of some scripts and the parts of some emoji
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})  # controls, formats such as bidi overrides, surrogates, breaks
_BREAKS = re.compile(r"[ \t]*[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]+[ \t]*")
_INSTEAD = "\N{REPLACEMENT CHARACTER}"


def printable(text: str) -> str:
    """The text with its line feeds, but without any other character that a terminal obeys or shows nothing for."""
    if text.isascii() and text.replace("\n", "").isprintable():
        return text
    return "".join(char if char == "\n" or not is_hidden(char) else _INSTEAD for char in text.replace("\t", " "))


def one_line(text: str) -> str:
    """``printable``, with a blank for each run of line breaks."""
    return printable(_BREAKS.sub(" ", text))


def filled_in(value: object) -> object:
    """``printable`` for what a page's template fills in: a bidi override would turn the rest of its line around."""
    return type(value)(printable(value)) if isinstance(value, str) else value


def is_hidden(char: str) -> bool:
    """Whether a character steers what shows it, or shows nothing."""
    return unicodedata.category(char) in _HIDDEN and char not in _JOINERS


def number(value: float | None, decimals: int | None = None, nothing: str = "–") -> str:
    """A number for people: ``1,234`` where it is whole by its type, else ``0.8223``; a dash where there is none.

    Args:
        value: the number; None, NaN and infinities count as none.
        decimals: shown of a float; None shows four significant digits.
        nothing: what is shown where there is none.
    """
    if value is None or not math.isfinite(value):
        return nothing
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}" if decimals is None else f"{value:.{decimals}f}"
