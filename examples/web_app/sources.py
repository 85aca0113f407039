"""Where lists come from: the live server where one is given, else the night, else the bundle; and their reasons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock, local

from catalogue import Catalogue, Title
from nights import Nights, Row

import sdk
from export.client import Client, ClientOptions, Lists
from sdk.base.config import RANKERS
from sdk.base.types import Id
from sdk.bundles.words import words_of
from sdk.models.content.hybrid import HYBRID, liked_part
from sdk.models.content.together import TOGETHER

SIMILAR_FIELDS, SIMILAR_TOKENS, REASONS = 3, 3, 2


@dataclass(frozen=True, slots=True)
class Listed:
    """One item of a list, with its score and the reason in words ("" where none was asked for or there is none)."""

    title: Title
    score: float
    reason: str


@dataclass(frozen=True, slots=True)
class Listing:
    """A list and where it is from.

    Attributes:
        rows: best first; may be empty.
        origin: such as ``the night of 2026-11-23``.
        source: the model that made it; "" where the server does not say.
        note: a sentence the reader should know; "" where there is none.
    """

    rows: tuple[Listed, ...]
    origin: str
    source: str
    note: str = ""


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
        self._words = words_of(catalogue.bundle.about)
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
        self.bundle.explain_recommendation(self.catalogue.users_near(None, 1)[0], popular)

    def similar(self, item_id: Id, k: int) -> Listing:
        """Items like an item, each with what they share.

        Raises:
            ServerUnavailableError: the live server does not answer.
            NightUnreadableError: the night is damaged.
        """
        raw = self._similar(item_id, k)
        with self._models:
            reasons = [self._joining(item_id, row) for row in raw.rows]
        return self._listing(raw, reasons)

    def for_user(self, user_id: Id, k: int, *, why: bool = False) -> Listing:
        """A user's list.

        Args:
            user_id: any.
            k: most items.
            why: whether to give reasons.

        Raises:
            ServerUnavailableError: the live server does not answer.
            NightUnreadableError: the night is damaged.
        """
        raw = self._for_user(user_id, k)
        reasons = self._why(user_id, [row.item_id for row in raw.rows], raw) if why else [""] * len(raw.rows)
        return self._listing(raw, reasons)

    def for_visitor(self, liked: Sequence[Id], k: int) -> Listing:
        """A list for somebody of whom only liked items are known, each with its reason; always by the bundle."""
        if self.bundle.history is None:
            return Listing(
                (), "the bundle", "", "This bundle was trained without the history model: no lists for visitors."
            )
        with self._models:
            found = self.bundle.recommend_for(liked, k)
            ids = found.row(0)[0].tolist()
            why = self.bundle.explain_recommendation(None, ids, liked=liked, max_titles=REASONS)
        raw = _Raw(_rows(found, str(found.source[0])), "the bundle")
        return self._listing(raw, [one.describe() for one in why])

    def server_is_ready(self) -> bool | None:
        """Whether the live server answers; None where none was given."""
        return None if self.server is None else self._client(self.server).is_ready()

    def _similar(self, item_id: Id, k: int) -> _Raw:
        if self.server is not None:
            return _Raw(_rows(self._client(self.server).similar_items([item_id], k)), self._live)
        night = self.nights.latest()
        rows = self.nights.rows(night, "item_items", item_id, k) if night else []
        if rows:
            return _Raw(rows, f"the night of {night}")
        if not self.bundle.has_content:
            return _Raw(
                (),
                "the bundle",
                f"This bundle was trained without the content model, which finds similar {self._item}s.",
            )
        with self._models:
            found = self.bundle.similar([item_id], k)
        return _Raw(_rows(found, str(found.source[0])), "the bundle", _no_list(night, f"this {self._item}"))

    def _for_user(self, user_id: Id, k: int) -> _Raw:
        if self.server is not None:
            return _Raw(_rows(self._client(self.server).recommend([user_id], k)), self._live)
        night = self.nights.latest()
        rows = self.nights.rows(night, "user_items", user_id, k) if night else []
        if rows:
            return _Raw(rows, f"the night of {night}")
        with self._models:
            found = self.bundle.recommend([user_id], k)
        return _Raw(_rows(found, str(found.source[0])), "the bundle", _no_list(night, "this user"))

    def _joining(self, item_id: Id, row: Row) -> str:
        """What the item shares with a listed one, and that the same people like both where that counts."""
        if row.source == TOGETHER:
            return self._words.by_the_same
        if not self.bundle.has_content or not self.catalogue.known([row.item_id]):
            return ""
        shared = self.bundle.explain(item_id, row.item_id)
        share = float(self.bundle.content.shares([item_id])[0]) if row.source == HYBRID else 0.0
        liked = row.source == HYBRID and liked_part(row.score, shared.score, share) > 0
        reasons = shared.describe(SIMILAR_FIELDS, SIMILAR_TOKENS), self._words.by_the_same if liked else ""
        return "; ".join(filter(None, reasons))

    def _why(self, user_id: Id, item_ids: list[Id], raw: _Raw) -> list[str]:
        sources = {row.source for row in raw.rows} & set(self.bundle.info.models) & set(RANKERS)
        model = sources.pop() if sources else "best"
        known = self.catalogue.known(item_ids)
        with self._models:
            why = self.bundle.explain_recommendation(user_id, known, max_titles=REASONS, model=model)
        words = {one.item_id: one.describe() for one in why}
        return [words.get(item_id, "") for item_id in item_ids]

    def _listing(self, raw: _Raw, reasons: Sequence[str]) -> Listing:
        named = ((self._named(row.item_id), row.score, why) for row, why in zip(raw.rows, reasons, strict=True))
        source = raw.rows[0].source if raw.rows else ""
        return Listing(tuple(Listed(*one) for one in named), raw.origin, source, raw.note)

    def _named(self, item_id: Id) -> Title:
        """An item, also one that a night or a server knows and the bundle does not."""
        name = f"{self._item.capitalize()} {item_id}"
        return self.catalogue.title(item_id) or Title(item_id, name, None, (), None, 0)

    @property
    def _item(self) -> str:
        return self._words.item

    @property
    def _live(self) -> str:
        return f"the live server at {self.server}"

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
        return "No night is published yet, so this list was computed now."
    return f"The night of {night} has no list for {whom}, so this one was computed now."
