"""What ``similar`` and ``recommend`` share: a title by its name, and a title's facts as text and as JSON values."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sdk.errors import UsageError
from sdk.terminal import Page

if TYPE_CHECKING:
    from sdk.bundle import Bundle

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Facts:
    """What is printed of a title: its id, its name without and with the year, year (None where unknown) and genres."""

    item_id: int
    title: str
    display: str
    year: int | None
    genres: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"item_id": self.item_id, "title": self.title, "year": self.year, "genres": list(self.genres)}

    def as_text(self) -> str:
        """``Heat (1995)  [Action, Crime, Thriller]``."""
        return f"{self.display}  [{', '.join(self.genres)}]" if self.genres else self.display


def listing(title: str, rows: Iterable[tuple[Facts, float, str]]) -> Page:
    """A ranked list for a terminal.

    Args:
        title: whose list it is, and by what.
        rows: facts, score and reason of each title, best first.
    """
    ranked = [(str(rank), f"{score:.3f}", facts, reason) for rank, (facts, score, reason) in enumerate(rows, start=1)]
    wide = tuple(
        (rank, score, facts.title, str(facts.year or ""), ", ".join(facts.genres), reason)
        for rank, score, facts, reason in ranked
    )
    tall = tuple(
        (rank, score, f"{facts.display}\n{', '.join(facts.genres)}".rstrip(), reason)
        for rank, score, facts, reason in ranked
    )
    figures = frozenset({"#", "score", "year"})
    narrow = Page(title, ("#", "score", "title, genres", "reason"), tall, figures)
    return Page(title, ("#", "score", "title", "year", "genres", "reason"), wide, figures, narrow=narrow)


def item_named(bundle: Bundle, query: str) -> int:
    """The item_id of the title of that name; of several, the first by item_id, and the others are logged.

    Raises:
        UsageError: there is none; the message gives the likest names.
    """
    matches = bundle.find_title(query)
    if not matches:
        message = f"no title like {query!r} in {bundle.path}"
        raise UsageError(message)
    names = bundle.titles([match.item_id for match in matches])
    if not matches[0].exact:
        message = f"no title {query!r} in {bundle.path}. Did you mean {', '.join(map(repr, names))}?"
        raise UsageError(message)
    if len(matches) > 1:
        log.info("%r: taken as %s; there is %s, too", query, names[0], ", ".join(names[1:]))
    return matches[0].item_id


def facts_of(bundle: Bundle, item_ids: Iterable[int]) -> list[Facts]:
    """The facts of titles of the catalogue, in that order."""
    wanted = [int(item) for item in item_ids]
    rows = bundle.items.take(bundle.encoded_items.index_of(wanted) - 3)
    columns = (rows[name].to_pylist() for name in ("title", "year", "genres"))
    named = zip(wanted, bundle.titles(wanted), *columns, strict=True)
    return [Facts(item, title, display, year, tuple(genres)) for item, display, title, year, genres in named]
