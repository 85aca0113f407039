"""What ``similar`` and ``recommend`` share: a title by its name, and a title's facts as text and as JSON values."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sdk.base.errors import UnknownItemError, UsageError
from sdk.shell.terminal import Cell, Page

if TYPE_CHECKING:
    from sdk.bundles.bundle import Bundle

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


def listing(title: str, rows: Iterable[tuple[Facts, float, Cell]]) -> Page:
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
        (rank, score, (facts.display, *([", ".join(facts.genres)] if facts.genres else [])), reason)
        for rank, score, facts, reason in ranked
    )
    figures = frozenset({"#", "score", "year"})
    narrow = Page(title, ("#", "score", "title, genres", "reason"), tall, figures)
    return Page(title, ("#", "score", "title", "year", "genres", "reason"), wide, figures, narrow=narrow)


def item_named(bundle: Bundle, query: str) -> int:
    """The item_id of the title of that name, or of ``#7`` for item_id 7.

    Of several titles it is the first by item_id, and the log gives the others, each with its id.

    Raises:
        UsageError: there is none; the message gives the likest names.
    """
    if re.fullmatch(r"#[0-9]+", query.strip(), re.ASCII):
        return _item_of_id(bundle, int(query.strip()[1:]))
    matches = bundle.find_title(query)
    if not matches:
        message = f"no title like {query!r} in {bundle.path}"
        raise UsageError(message)
    ids = [match.item_id for match in matches]
    names = _told_apart(bundle, ids)
    if not matches[0].exact:
        message = f"no title {query!r} in {bundle.path}. Did you mean {', '.join(map(repr, names))}?"
        raise UsageError(message)
    if len(matches) > 1:
        how = f" (each by its id: '#{matches[1].item_id}')" if names != bundle.titles(ids) else ""
        log.info("%r: taken as %s; there is %s, too%s", query, names[0], ", ".join(names[1:]), how)
    return matches[0].item_id


def _item_of_id(bundle: Bundle, item_id: int) -> int:
    if item_id not in bundle.items["item_id"].to_pylist():
        raise UnknownItemError(item_id, bundle.items.num_rows)
    return item_id


def _told_apart(bundle: Bundle, item_ids: list[int]) -> list[str]:
    """Display names, with the id where several are the same."""
    names = bundle.titles(item_ids)
    many = Counter(names)
    return [f"{name} #{item}" if many[name] > 1 else name for name, item in zip(names, item_ids, strict=True)]


def facts_of(bundle: Bundle, item_ids: Iterable[int]) -> list[Facts]:
    """The facts of titles of the catalogue, in that order."""
    wanted = list(item_ids)
    rows = bundle.items.take(bundle.encoded_items.index_of(wanted) - 3)
    columns = (rows[name].to_pylist() for name in ("title", "year", "genres"))
    named = zip(wanted, bundle.titles(wanted), *columns, strict=True)
    return [Facts(item, title, display, year, tuple(genres)) for item, display, title, year, genres in named]
