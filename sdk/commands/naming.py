"""What ``similar`` and ``recommend`` share: an item by its name, and an item's facts as text and as JSON values."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sdk.base.errors import UnknownItemError, UsageError
from sdk.bundles.words import words_of
from sdk.shell.terminal import Cell, Page, show

if TYPE_CHECKING:
    from sdk.base.types import Id
    from sdk.bundles.bundle import Bundle

log = logging.getLogger(__name__)
_DIGITS = re.compile("[0-9]+", re.ASCII)
_SHOWN = 60  # characters of a wrong id


@dataclass(frozen=True, slots=True)
class ItemFacts:
    """What is printed of an item.

    Attributes:
        item_id: its id.
        title: its name; the id as text where nobody gave one.
        display: the name as lists show it, of films with the year.
        columns: what the catalogue says of it: of films ``year`` (None where unknown) and ``genres``, else every
            described column that is a category, a group or a list of such.
        is_film: whether the catalogue is MovieLens's.
    """

    item_id: Id
    title: str
    display: str
    columns: Mapping[str, Any]
    is_film: bool

    def as_json(self) -> dict[str, Any]:
        """Plain values: ``year`` and ``genres`` of a film, ``columns`` of anything else."""
        more = self.columns if self.is_film else {"columns": self.columns}
        return {"item_id": self.item_id, "title": self.title, **more}

    def as_text(self) -> str:
        """``Heat (1995)  [Action, Crime, Thriller]``, or ``Blue shirt #SKU-7  [brand Acme; tags new, sale]``."""
        named = self.display if self.is_film or self.display == str(self.item_id) else f"{self.display} #{self.item_id}"
        return f"{named}  [{self.details}]" if self.details else named

    @property
    def details(self) -> str:
        """The columns in words, without those of which nothing is known."""
        if self.is_film:
            return ", ".join(self.columns["genres"])
        words = ((name, ", ".join(v) if isinstance(v, list) else v) for name, v in self.columns.items())
        return "; ".join(f"{name} {value}" for name, value in words if value)


def show_list(head: str, rows: Sequence[tuple[ItemFacts, float, Cell]], empty: str, figure: str) -> None:
    """Print a ranked list, as a table where a person looks at it.

    Args:
        head: whose list it is, and by what.
        rows: facts, score and reason of each item, best first; a reason in several lines stands below its item.
        empty: what is said where there are no rows.
        figure: how a line shows a score.
    """
    show(_as_lines(head, rows, empty, figure), lambda: [_as_page(head, rows, empty)])


def _as_lines(head: str, rows: Sequence[tuple[ItemFacts, float, Cell]], empty: str, figure: str) -> Iterator[str]:
    yield from (head,) if rows else (head, f"  {empty}")
    for rank, (facts, score, reason) in enumerate(rows, start=1):
        start = f"{rank:3d}  {score:{figure}}  {facts.as_text()}"
        yield from (
            (f"{start}  ({reason})",) if isinstance(reason, str) else (start, *(f"     {each}" for each in reason))
        )


def _as_page(head: str, rows: Sequence[tuple[ItemFacts, float, Cell]], empty: str) -> Page:
    films, wide, tall = all(facts.is_film for facts, _, _ in rows), [], []
    for rank, (facts, score, reason) in enumerate(rows, start=1):
        start = (str(rank), f"{score:.3f}")
        reason = reason if isinstance(reason, str) else tuple(map(str.strip, reason))
        beside = str(facts.columns["year"] or "") if films else str(facts.item_id)
        wide.append((*start, facts.title, beside, facts.details, reason))
        below = facts.display if films else facts.as_text().partition("  [")[0]
        tall.append((*start, tuple(filter(None, (below, facts.details))), reason))
    figures = frozenset({"#", "score", "year"})
    names = ("title", "year", "genres") if films else ("item", "id", "what is known")
    narrow = Page(head, ("#", "score", f"{names[0]}, {names[2]}", "reason"), tuple(tall), figures) if rows else None
    header = ("#", "score", *names, "reason")
    return Page(head, header, tuple(wide), figures, note="" if rows else empty, narrow=narrow)


def as_lists(shared: Mapping[str, Iterable[str]]) -> dict[str, list[str]]:
    """What two items share, as JSON values."""
    return {field: list(tokens) for field, tokens in shared.items()}


def user_named(bundle: Bundle, text: str) -> Id:
    """The user_id that ``--user`` means: the text itself where the bundle's are text.

    Raises:
        UsageError: they are numbers, and the text is none.
    """
    from sdk.base.ids import NoIdError, is_text, whole

    if is_text(bundle.encoded_users.ids):
        return text
    try:
        return whole(text)
    except NoIdError as error:
        expected = "expected a whole number of 64 bits: the user ids of this bundle are numbers"
        raise UsageError(f"--user: got {text[:_SHOWN]!r}, {expected}") from error


def item_named(bundle: Bundle, query: str) -> Id:
    """The item_id of the item of that name, or of ``#7`` or ``#SKU-00417`` for item_id 7 or SKU-00417.

    Of several items it is the first by item_id, and the log gives the others, each with its id; but outside MovieLens
    one whose name is spelt so goes first. Where ids are text, ``#`` may be left out: an id goes before names.

    Raises:
        UsageError: there is none; the message gives the likest names.
    """
    from sdk.base.ids import is_text

    asked = query.strip()
    if asked.startswith("#") and (found := _by_id(bundle, asked[1:])) is not None:
        return found
    if asked.startswith("#") and _DIGITS.fullmatch(asked[1:]) and not is_text(bundle.encoded_items.ids):
        raise UnknownItemError(int(asked[1:]), bundle.items.num_rows)
    matches = bundle.find_title(query)
    if not matches:
        raise UsageError(f"no {words_of(bundle.about).item} like {query!r} in {bundle.path}")
    if not bundle.about.is_preset("items"):
        matches = sorted(matches, key=lambda match: match.exact and match.title != asked)
    ids = [match.item_id for match in matches]
    names = _told_apart(bundle, ids)
    if not matches[0].exact:
        raise UsageError(f"no {words_of(bundle.about).item} {query!r} in {bundle.path}. Did you mean {_quoted(names)}?")
    if len(matches) > 1:
        how = f" (each by its id: '#{matches[1].item_id}')" if names != bundle.titles(ids) else ""
        log.info("%r: taken as %s; there is %s, too%s", query, names[0], ", ".join(names[1:]), how)
    return matches[0].item_id


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names))


def _by_id(bundle: Bundle, text: str) -> Id | None:
    """The item whose id is that text, if any."""
    from sdk.base.ids import MAX_ID, is_text
    from sdk.features.tables import UNKNOWN

    items = bundle.encoded_items
    if not is_text(items.ids) and not _DIGITS.fullmatch(text):
        return None
    wanted: Id = text if is_text(items.ids) else min(int(text), MAX_ID)
    return None if items.index_of([wanted])[0] == UNKNOWN else wanted


def _told_apart(bundle: Bundle, item_ids: list[Id]) -> list[str]:
    """Display names, with the id where several are the same."""
    names = bundle.titles(item_ids)
    many = Counter(names)
    return [f"{name} #{item}" if many[name] > 1 else name for name, item in zip(names, item_ids, strict=True)]


def facts_of(bundle: Bundle, item_ids: Iterable[Id]) -> list[ItemFacts]:
    """The facts of items of the catalogue, in that order."""
    import pyarrow as pa

    from sdk.features.tables import FIRST_KNOWN

    wanted, films = list(item_ids), bundle.about.is_preset("items")
    names = ("year", "genres") if films else bundle.about.item_columns("group", "categorical", "list")
    places = (bundle.encoded_items.index_of(wanted) - FIRST_KNOWN).tolist()
    rows = pa.concat_tables(bundle.items.slice(*one) for one in [(0, 0), *((place, 1) for place in places)])
    columns = rows.select(list(names)).to_pylist()
    named = zip(wanted, rows["title"].to_pylist(), bundle.titles(wanted), columns, strict=True)
    return [ItemFacts(item, title, display, facts, films) for item, title, display, facts in named]
