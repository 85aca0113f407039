"""Addresses of any id: text as it came, with slashes, per cent signs and letters of every script."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote

from markupsafe import Markup, escape
from werkzeug.routing import BaseConverter

_DOTS = re.compile(r"~*\.{1,2}")


class AnyText(BaseConverter):
    """A part of an address that is any text; the last of its address."""

    regex = "(?s:.+?)"  # a line break is text, too
    part_isolating = False

    def to_url(self, value: object) -> str:
        """The text with every character quoted that means something in an address, a slash among them.

        Browsers take ``.`` and ``..`` out of an address, also quoted, so a tilde is put before them.
        """
        text = str(value)
        return quote(f"~{text}" if _DOTS.fullmatch(text) else text, safe="")

    def to_python(self, value: str) -> str:
        """The text that ``to_url`` was given."""
        return value[1:] if value.startswith("~") and _DOTS.fullmatch(value) else value


@dataclass(frozen=True, slots=True)
class _Kept:
    text: str

    def __html__(self) -> Markup:
        return escape(self.text)


def kept(value: object) -> _Kept:
    """A value that a form sends back: as it is, also where it has characters that are not shown to people."""
    return _Kept(str(value))
