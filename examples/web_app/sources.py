"""Where lists come from: the live server where one is given, else the night, else the bundle; and their reasons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from threading import Lock, local
from typing import Any

from catalogue import Catalogue, Title
from charts import Parts
from dials import AS_IT_IS, Dials
from nights import Nights, Row
from reasons import Reasons, Why

import sdk
from export.client import Client, ClientOptions, Lists
from sdk.base.config import RANKERS
from sdk.base.errors import UsageError
from sdk.base.types import Id
from sdk.bundles.words import words_of
from sdk.scoring.recommender import UNDER_RULES

DEEP = 1000  # places of a list that are looked through for where an item was


@dataclass(frozen=True, slots=True)
class Listed:
    """One item of a list.

    Attributes:
        title: the item.
        reason: in a few words; "" where there is none.
        because: the item of the history that speaks most for it; None where none does.
        parts: of an item's list, what the likeness is made of.
        change: against another list: ``new``, ``was 31st``, ``up 3``; "" where nothing is compared or changed.
    """

    title: Title
    reason: str = ""
    because: Title | None = None
    parts: Parts | None = None
    change: str = ""

    @property
    def is_new(self) -> bool:
        """Whether it came in against the other list."""
        return self.change.startswith(("new", "was"))


@dataclass(frozen=True, slots=True)
class Listing:
    """A list and where it is from.

    Attributes:
        rows: best first; may be empty.
        origin: such as ``From the night of 2026-11-23``.
        source: what made it, as nights have it; "" where the server does not say.
        note: a sentence the reader should know; "" where there is none.
        went: what the list that it is compared with has in as many places, and this one has not.
        drawn: whether it is a draw (docs/randomised.md).
    """

    rows: tuple[Listed, ...]
    origin: str
    source: str
    note: str = ""
    went: tuple[Listed, ...] = ()
    drawn: bool = False


@dataclass(frozen=True, slots=True)
class _Raw:
    rows: Sequence[Row]
    origin: str
    note: str = ""


class Sources:
    """Lists with reasons.

    Args:
        catalogue: of the bundle.
        nights: where nights are published.
        server: ``host:port`` of a live Triton server; None for none.
        timeout_s: how long the server may take to answer.
    """

    def __init__(self, catalogue: Catalogue, nights: Nights, server: str | None = None, timeout_s: float = 2.0) -> None:
        self.catalogue, self.bundle, self.nights, self.server = catalogue, catalogue.bundle, nights, server
        self._words, self._reasons = words_of(catalogue.bundle.about), Reasons(catalogue.bundle)
        self._options = ClientOptions(timeout_s=timeout_s, retries=1, backoff_s=0.05)
        self._of_thread = local()
        self._models = Lock()  # one computation at a time: the engine spreads each over every core

    def warm(self) -> None:
        """Load what the first request would else wait for."""
        popular = [title.item_id for title in self.catalogue.popular(2)]
        if self.bundle.has_content:
            self.bundle.explain(popular[0], popular[-1])
        if self.bundle.history is not None:
            self.for_visitor(popular, 1)
        self._reasons.for_user(self.catalogue.users_near(None, 1)[0], popular)

    def similar(self, item_id: Id, k: int) -> Listing:
        """Items like an item, each with what they share.

        Raises:
            ServerUnavailableError: the live server does not answer.
            NightUnreadableError: the night is damaged.
        """
        raw = self._similar(item_id, k)
        with self._models:
            return self._listing(raw, [self._joined(item_id, row) for row in raw.rows])

    def for_user(self, user_id: Id, k: int, dials: Dials = AS_IT_IS) -> Listing:
        """A user's list, with reasons; by turned dials what it would be, and what that changes.

        Raises:
            ServerUnavailableError: the live server does not answer.
            NightUnreadableError: the night is damaged.
        """
        if dials.are_turned:
            return self._dialled(user_id, k, dials)
        raw = self._for_user(user_id, k)
        return self._listing(raw, self._for_history(user_id, raw.rows))

    def changes(self, user_id: Id, k: int, before: str, after: str) -> Listing:
        """A user's list of one night beside that of another.

        Args:
            user_id: any.
            k: places that are compared.
            before: a night.
            after: the night that is shown.

        Raises:
            NightUnreadableError: a night is damaged.
        """
        old, new = (self.nights.rows(date, "user_items", user_id, DEEP) for date in (before, after))
        raw = _Raw(new[:k], f"From the night of {after}")
        found = self._compared(self._listing(raw, self._for_history(user_id, raw.rows)), old, k)
        had = {one.title.item_id for one in self.catalogue.had(user_id)}
        places = {row.item_id: place for place, row in enumerate(new, 1)}
        went = [replace(one, reason=self._why_gone(one.title.item_id, had, places)) for one in found.went]
        return replace(found, went=tuple(went))

    def for_visitor(self, liked: Sequence[Id], k: int) -> Listing:
        """A list for somebody of whom only liked items are known, each with its reason; always by the bundle."""
        if self.bundle.history is None:
            note = "This bundle was trained without the history model: no lists for visitors."
            return Listing((), "Computed now", "", note)
        with self._models:
            found = self.bundle.recommend_for(liked, k)
            rows = _rows(found, str(found.source[0]))
            ids = [row.item_id for row in rows]
            why = dict(zip(ids, self._reasons.for_visitor(liked, ids), strict=True))
        return self._listing(_Raw(rows, "Computed now"), self._with(rows, why))

    def audience(self, item_id: Id, k: int) -> list[Id]:
        """The users whom the night has for an item, the keenest first; none where it has no audiences.

        Raises:
            NightUnreadableError: the night is damaged.
        """
        night = self.nights.latest()
        return [row.item_id for row in self.nights.rows(night, "item_users", item_id, k)] if night else []

    def rules(self) -> Mapping[str, Any]:
        """The rules of the latest night; empty for none.

        Raises:
            NightUnreadableError: its manifest is damaged.
        """
        night = self.nights.latest()
        inputs = ((self.nights.manifest(night) if night else None) or {}).get("inputs")
        found = inputs.get("rules") if isinstance(inputs, dict) else None
        return found if isinstance(found, dict) else {}

    def server_is_ready(self) -> bool | None:
        """Whether the live server answers; None where none was given."""
        return None if self.server is None else self._client(self.server).is_ready()

    def _similar(self, item_id: Id, k: int) -> _Raw:
        if self.server is not None:
            return _Raw(_rows(self._client(self.server).similar_items([item_id], k)), self._live)
        night = self.nights.latest()
        rows = self.nights.rows(night, "item_items", item_id, k) if night else []
        if rows:
            return _Raw(rows, f"From the night of {night}")
        if not self.bundle.has_content:
            lacks = f"This bundle was trained without the content model, which finds similar {self._words.items}."
            return _Raw((), "Computed now", lacks)
        with self._models:
            found = self.bundle.similar([item_id], k)
        return _Raw(_rows(found, str(found.source[0])), "Computed now", _no_list(night, f"this {self._words.item}"))

    def _for_user(self, user_id: Id, k: int) -> _Raw:
        if self.server is not None:
            return _Raw(_rows(self._client(self.server).recommend([user_id], k)), self._live)
        night = self.nights.latest()
        rows = self.nights.rows(night, "user_items", user_id, k) if night else []
        if rows:
            return _Raw(rows, f"From the night of {night}")
        with self._models:
            found = self.bundle.recommend([user_id], k)
        return _Raw(_rows(found, str(found.source[0])), "Computed now", _no_list(night, "this user"))

    def _dialled(self, user_id: Id, k: int, dials: Dials) -> Listing:
        before = self._for_user(user_id, DEEP if self.server is None else k)
        try:
            with self._models:
                rows = self._under(user_id, k, dials)
        except UsageError as error:
            return Listing((), "Computed now", "", f"The night's rules do not fit this bundle: {error}")
        raw = _Raw(rows, "Computed now")
        listing = self._listing(raw, self._for_history(user_id, raw.rows))
        return self._compared(listing, before.rows, k)

    def _under(self, user_id: Id, k: int, dials: Dials) -> list[Row]:
        items, ids, scores = self.bundle.encoded_items, *self.bundle.recommend([user_id], k).row(0)
        rules = dials.rules(self.rules(), scores, items.statistics.likes[items.index_of(ids)])
        found = self.bundle.recommend([user_id], k, rules=rules)
        return _rows(found, str(found.source[0]).removesuffix(UNDER_RULES))

    def _compared(self, listing: Listing, before: Sequence[Row], k: int) -> Listing:
        """The same with what changed against another list, of which the first k places count as listed."""
        was = {row.item_id: place for place, row in enumerate(before, 1)}
        rows = [
            replace(row, change=_change(at, was.get(row.title.item_id), k)) for at, row in enumerate(listing.rows, 1)
        ]
        listed = {row.title.item_id for row in rows}
        went = [Listed(self._named(row.item_id)) for row in before[:k] if row.item_id not in listed]
        return replace(listing, rows=tuple(rows), went=tuple(went))

    def _why_gone(self, item_id: Id, had: set[Id], places: Mapping[Id, int]) -> str:
        if item_id in had:
            return f"{self._words.taken} since"
        if self.catalogue.title(item_id) is None:
            return "no longer in the catalogue"
        return f"now {_th(places[item_id])}" if item_id in places else "others are ahead of it now"

    def _joined(self, item_id: Id, row: Row) -> Listed:
        title = self._named(row.item_id)
        if self.catalogue.title(row.item_id) is None:
            return Listed(title)
        reason, parts = self._reasons.joining(item_id, row.item_id, row.score, row.source)
        return Listed(title, reason, parts=parts)

    def _for_history(self, user_id: Id, rows: Sequence[Row]) -> list[Listed]:
        made_by = {row.source.removesuffix(UNDER_RULES) for row in rows}
        models = made_by & set(self.bundle.info.models) & set(RANKERS)
        known = self.catalogue.known([row.item_id for row in rows])
        with self._models:
            why = self._reasons.for_user(user_id, known, models.pop() if models else "best") if known else []
        return self._with(rows, dict(zip(known, why, strict=True)))

    def _with(self, rows: Sequence[Row], why: Mapping[Id, Why]) -> list[Listed]:
        """Rows with their reasons; an item that the bundle does not have has none."""
        found = ((row, *why.get(row.item_id, (None, ""))) for row in rows)
        return [
            Listed(self._named(row.item_id), reason, None if because is None else self.catalogue.title(because))
            for row, because, reason in found
        ]

    def _listing(self, raw: _Raw, rows: Sequence[Listed]) -> Listing:
        drawn = any(row.drawn for row in raw.rows)
        return Listing(tuple(rows), raw.origin, raw.rows[0].source if raw.rows else "", raw.note, drawn=drawn)

    def _named(self, item_id: Id) -> Title:
        """An item, also one that a night or a server knows and the bundle does not."""
        name = f"{self._words.item.capitalize()} {item_id}"
        return self.catalogue.title(item_id) or Title(item_id, name, None, (), None, 0)

    @property
    def _live(self) -> str:
        return f"From the live server at {self.server}"

    def _client(self, server: str) -> Client:
        """The calling thread's own client: one may not be shared."""
        if not hasattr(self._of_thread, "client"):
            self._of_thread.client = Client(server, self._options)
        client: Client = self._of_thread.client
        return client


def _rows(found: sdk.TopK | Lists, source: str = "") -> list[Row]:
    ids, scores = found.row(0)
    return [Row(item_id, score, source) for item_id, score in zip(ids.tolist(), scores.tolist(), strict=True)]


def _no_list(night: str | None, whom: str) -> str:
    if night is None:
        return "No night is published yet."
    return f"The night of {night} has no list for {whom}."


def _change(place: int, was: int | None, k: int) -> str:
    """What happened to an item that stands at a place now."""
    if was is None:
        return "new"
    if was > k:
        return f"was {_th(was)}"
    return "" if was == place else f"up {was - place}" if was > place else f"down {place - was}"


def _th(place: int) -> str:
    ending = "th" if place % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(place % 10, "th")
    return f"{place:,}{ending}"
