"""Addresses of any id: text as it came, with slashes, per cent signs and letters of every script."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

from markupsafe import Markup, escape
from werkzeug.routing import BaseConverter


class AnyText(BaseConverter):
    """A part of an address that is any text; the last of its address."""

    regex = ".+?"
    part_isolating = False

    def to_url(self, value: object) -> str:
        """The text with every character quoted that means something in an address, a slash among them."""
        return quote(str(value), safe="")


@dataclass(frozen=True, slots=True)
class _Kept:
    text: str

    def __html__(self) -> Markup:
        return escape(self.text)


def kept(value: object) -> _Kept:
    """A value that a form sends back: as it is, also where it has characters that are not shown to people."""
    return _Kept(str(value))
