"""What ``similar`` and ``recommend`` share: a title by its name, and a title's facts as text and as JSON values."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sdk.base.errors import UnknownItemError, UsageError
from sdk.base.types import Id
from sdk.shell.terminal import Cell, Page, show

if TYPE_CHECKING:
    from sdk.bundles.bundle import Bundle

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TitleFacts:
    """What is printed of a title: its id, its name without and with the year, year (None where unknown) and genres."""

    item_id: Id
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


def show_list(head: str, rows: Sequence[tuple[TitleFacts, float, Cell]], empty: str, figure: str) -> None:
    """Print a ranked list, as a table where a person looks at it.

    Args:
        head: whose list it is, and by what.
        rows: facts, score and reason of each title, best first; a reason in several lines stands below its title.
        empty: what is said where there are no rows.
        figure: how a line shows a score.
    """
    show(_as_lines(head, rows, empty, figure), lambda: [_as_page(head, rows, empty)])


def _as_lines(head: str, rows: Sequence[tuple[TitleFacts, float, Cell]], empty: str, figure: str) -> Iterator[str]:
    yield from (head,) if rows else (head, f"  {empty}")
    for rank, (facts, score, reason) in enumerate(rows, start=1):
        start = f"{rank:3d}  {score:{figure}}  {facts.as_text()}"
        yield from (
            (f"{start}  ({reason})",) if isinstance(reason, str) else (start, *(f"     {each}" for each in reason))
        )


def _as_page(head: str, rows: Sequence[tuple[TitleFacts, float, Cell]], empty: str) -> Page:
    wide, tall = [], []
    for rank, (facts, score, reason) in enumerate(rows, start=1):
        start, genres = (str(rank), f"{score:.3f}"), ", ".join(facts.genres)
        reason = reason if isinstance(reason, str) else tuple(map(str.strip, reason))
        wide.append((*start, facts.title, str(facts.year or ""), genres, reason))
        tall.append((*start, tuple(filter(None, (facts.display, genres))), reason))
    figures = frozenset({"#", "score", "year"})
    narrow = Page(head, ("#", "score", "title, genres", "reason"), tuple(tall), figures) if rows else None
    header = ("#", "score", "title", "year", "genres", "reason")
    return Page(head, header, tuple(wide), figures, note="" if rows else empty, narrow=narrow)


def as_lists(shared: Mapping[str, Iterable[str]]) -> dict[str, list[str]]:
    """What two titles share, as JSON values."""
    return {field: list(tokens) for field, tokens in shared.items()}


def item_named(bundle: Bundle, query: str) -> Id:
    """The item_id of the title of that name, or of ``#7`` for item_id 7.

    Of several titles it is the first by item_id, and the log gives the others, each with its id.

    Raises:
        UsageError: there is none; the message gives the likest names.
    """
    if re.fullmatch(r"#[0-9]+", query.strip(), re.ASCII):
        item_id = int(query.strip()[1:])
        if item_id not in bundle.items["item_id"].to_pylist():
            raise UnknownItemError(item_id, bundle.items.num_rows)
        return item_id
    matches = bundle.find_title(query)
    if not matches:
        raise UsageError(f"no title like {query!r} in {bundle.path}")
    ids = [match.item_id for match in matches]
    names = _told_apart(bundle, ids)
    if not matches[0].exact:
        raise UsageError(f"no title {query!r} in {bundle.path}. Did you mean {', '.join(map(repr, names))}?")
    if len(matches) > 1:
        how = f" (each by its id: '#{matches[1].item_id}')" if names != bundle.titles(ids) else ""
        log.info("%r: taken as %s; there is %s, too%s", query, names[0], ", ".join(names[1:]), how)
    return matches[0].item_id


def _told_apart(bundle: Bundle, item_ids: list[Id]) -> list[str]:
    """Display names, with the id where several are the same."""
    names = bundle.titles(item_ids)
    many = Counter(names)
    return [f"{name} #{item}" if many[name] > 1 else name for name, item in zip(names, item_ids, strict=True)]


def facts_of(bundle: Bundle, item_ids: Iterable[Id]) -> list[TitleFacts]:
    """The facts of titles of the catalogue, in that order."""
    wanted = list(item_ids)
    rows = bundle.items.take(bundle.encoded_items.index_of(wanted) - 3)
    columns = (rows[name].to_pylist() for name in ("title", "year", "genres"))
    named = zip(wanted, bundle.titles(wanted), *columns, strict=True)
    return [TitleFacts(item, title, display, year, tuple(genres)) for item, display, title, year, genres in named]
