"""MovieLens titles and genres as people would write them, and names of titles that are to be compared."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

_YEAR = re.compile(r"(?P<title>.+?)\s*\((?P<year>(?:18|19|20)[0-9]{2})(?:\s*[-–—]\s*(?:[0-9]{4})?)?\)", re.DOTALL)
_ARTICLES = r"The|An?|L'|L’|Les?|La|El|L[oa]s|Un[ae]?|Il|Das|Der|Die|Den|Det|De|Eine?|Het|Os"
_FOREIGN_ARTICLES = _ARTICLES + r"|I|Gli|Lo|O|En|Et|Ett"
_MAIN = re.compile(rf"(?P<title>.+?), (?P<article>{_ARTICLES})(?P<rest>(?: \(.*)?)", re.DOTALL)
_IN_BRACKETS = re.compile(rf"\((?!a\.k\.a\.)(?P<title>[^()]+), (?P<article>{_FOREIGN_ARTICLES})\)")
_BRACKETS = re.compile(r"\(([^()]*)\)")
_ALSO_KNOWN_AS = re.compile(r"^a\.?k\.?a\.?\s+", re.IGNORECASE)
_APOSTROPHES = re.compile("['’‘`´]")
_NO_LETTER = re.compile(r"[\W_]+")
_NO_GENRE = frozenset({"", "(no genres listed)", "unknown"})
_SPELLING = {"Children's": "Children"}


def split_title(raw: str) -> tuple[str, int | None]:
    """Part a MovieLens title into display name and year.

    ``Matrix, The (1999)`` is "The Matrix" of 1999; a series' ``(2006–2007)`` counts as its first year; alternative
    names in brackets stay, with their own article in front unless they start with ``a.k.a.``.

    Args:
        raw: as published, trailing blanks allowed.

    Returns:
        The display name, and the year, None where the title ends in none.
    """
    text = raw.strip()
    dated = _YEAR.fullmatch(text)
    name = dated["title"].strip() if dated else text
    return _article_first(name), int(dated["year"]) if dated else None


def _article_first(name: str) -> str:
    name = _IN_BRACKETS.sub(lambda match: f"({_joined(match)})", name)
    match = _MAIN.fullmatch(name)
    return _joined(match) + match["rest"] if match else name


def _joined(match: re.Match[str]) -> str:
    space = "" if match["article"].endswith(("'", "’")) else " "
    return f"{match['article']}{space}{match['title'].strip()}"


def clean_genres(names: Iterable[str]) -> list[str]:
    """Genre names in one spelling, sorted, each once; "no genres listed" and "unknown" are none."""
    stripped = (name.strip() for name in names)
    return sorted({_SPELLING.get(name, name) for name in stripped if name not in _NO_GENRE})


def names_in(title: str) -> list[str]:
    """The names that a display title gives: the whole, without brackets, and each name in brackets, numbers apart."""
    asides = (_ALSO_KNOWN_AS.sub("", name.strip()) for name in _BRACKETS.findall(title))
    return [title, _BRACKETS.sub(" ", title), *(name for name in asides if not name.isdecimal())]


def without_accents(text: str) -> str:
    """``Amélie`` is ``Amelie``; raised digits and ligatures become plain ones."""
    return "".join(char for char in unicodedata.normalize("NFKD", text) if not unicodedata.combining(char))


def bare(text: str) -> str:
    """Letters and digits without accents, one blank for what is between them, and nothing for an apostrophe."""
    return _NO_LETTER.sub(" ", _APOSTROPHES.sub("", without_accents(text))).strip()
