"""Lists for users and titles: the engine, and a labelled fallback for whoever the models know nothing of."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, replace
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sdk.base.errors import UsageError
from sdk.base.ids import nobody
from sdk.base.types import BestRows, Bools, Float32s, Float64s, Int32s, Int64s, TopK, put_together
from sdk.features.seen import Seen
from sdk.features.tables import FIRST_KNOWN, UNKNOWN, EncodedTable
from sdk.machine.device import resolve_device
from sdk.models.pair_form import NO_MLP, PairForm, Side
from sdk.scoring.again import Again
from sdk.scoring.quick import quick_lists

if TYPE_CHECKING:
    from sdk.models.content.model import ContentModel
    from sdk.scoring.engine import Engine
    from sdk.scoring.exploration import Exploration
    from sdk.scoring.rules import ItemRules
    from sdk.scoring.tiled import TiledEngine
    from sdk.scoring.torch_engine import TorchEngine

AnyEngine: TypeAlias = "Engine | TiledEngine | TorchEngine"
POPULAR, HISTORY = "popular", "history"
UNDER_RULES = "+rules"
"""What follows a model's name in the ``source`` of a list that it made under rules."""
_SOURCE = "<U16"


def popular_form(items: EncodedTable, num_users: int) -> PairForm:
    """Popularity in pair form: every user gets an item's log(training likes + 1) as its score."""
    scores = np.log1p(items.statistics.likes).astype(np.float32)
    return PairForm(Side.plain(np.zeros(num_users, dtype=np.float32)), Side.plain(scores), NO_MLP)


@dataclass(frozen=True, slots=True, eq=False)
class Audience:
    """The best users of each title, best first; equal scores go to the smaller user row.

    Attributes:
        item_index: (C,) int64 item rows, ascending.
        user_index: (C, n) int64 user rows; title c's are real up to ``lengths[c]``.
        scores: (C, n) float32.
        lengths: (C,) int32.
    """

    item_index: Int64s
    user_index: Int64s
    scores: Float32s
    lengths: Int32s


class Recommender:
    """Gives every user a list: the model's, or the most popular titles where the model does not know the user.

    A user is known by an embedding of their own, or by a history that the form holds. Who has only a history is
    ranked by the same form, the ranker's part of it being that of an unknown user, and their ``source`` is
    ``history``.

    Args:
        name: the model's name, written as ``source`` of users with an embedding of their own.
        form: the model in pair form; None serves popular titles to all.
        users: the users' encoded table.
        items: the items' encoded table.
        threads: None uses every core.
        memory_mib: see ``Engine``.
        device: ``cpu``, ``cuda``, or ``auto``: a GPU where torch finds one.
        quick: so many users, the first, have their lists without a layout of the catalogue; the lists are the same.
        items_per_tile: most items that are laid out at a time, on the CPU; None lays all out, once.

    Raises:
        ScoreError: the model holds a NaN or an infinity.
    """

    def __init__(
        self,
        name: str,
        form: PairForm | None,
        users: EncodedTable,
        items: EncodedTable,
        *,
        threads: int | None = None,
        memory_mib: float | None = None,
        device: str = "cpu",
        quick: int = 0,
        items_per_tile: int | None = None,
    ) -> None:
        self._few = self._quick = quick if items_per_tile is None else 0
        self.name, self.users, self.items, self._items_per_tile = name, users, items, items_per_tile
        self.threads, self.memory_mib, self.device = threads, memory_mib, resolve_device(device)
        self.form = form
        if form is not None and items_per_tile is None:
            form.check()  # now rather than when the first list is asked for
        self.popular = popular_form(items, len(users))
        self.rules: ItemRules | None = None
        self.exploration: Exploration | None = None
        self._engines: dict[tuple[str, bool, bool], AnyEngine] = {}
        self._here: dict[tuple[str, bool, bool], AnyEngine] = {}  # the same, for these users
        self._laying = Lock()
        self.keep(None)

    def under(self, rules: ItemRules) -> Recommender:
        """The same, whose users' lists keep to rules; popularity is no part of popular lists' scores."""
        ruled = copy(self)
        ruled.rules = rules
        ruled.form = None if self.form is None else rules.dialled(self.form)
        same = {POPULAR, self.name}
        if ruled.form is not self.form:
            same, ruled._quick = {POPULAR}, ruled._few  # nothing is laid out yet
        ruled._here = {}
        ruled._engines = {key: each for key, each in self._engines.items() if key[0] in same and key[2]}
        return ruled

    def for_users(self, users: EncodedTable, form: PairForm | None) -> Recommender:
        """The same for other users: items are laid out once, and each user has the list that they would have here.

        Args:
            users: their encoded table.
            form: their rows of the form that this one was made with.

        Raises:
            ScoreError: a user's row holds a NaN or an infinity.
        """
        other = copy(self)
        other.users, other.popular, other.exploration = users, popular_form(self.items, len(users)), None
        other._here, other._quick = {}, 0
        if form is not None and self.form is not None:
            form.users.check("user")
            other.form = replace(self.form, users=form.users, has_history=form.has_history)
        return other

    def _form(self, name: str) -> PairForm:
        return self.popular if name == POPULAR or self.form is None else self.form

    def _engine(self, name: str, allowed: Bools | None, wanted: Bools | None = None) -> AnyEngine:
        """The engine of the model or of the fallback; kept where every title is allowed, or those of ``keep``."""
        key = (name, allowed is None, wanted is None)  # else they are those of ``keep``, and of the rules
        form, narrowed = self._form(name), allowed
        if wanted is not None:
            narrowed = wanted if allowed is None else wanted & allowed
        if allowed is not None and allowed is not self._kept:
            return self._laid_out(form, narrowed)
        with self._laying:  # once, however many threads ask
            if key not in self._engines:
                self._engines[key] = self._laid_out(form, narrowed)
        kept = self._here.get(key) or self._engines[key]
        self._here[key] = kept if kept.form is form else kept.for_users(form)
        return self._here[key]

    def _laid_out(self, form: PairForm, allowed: Bools | None) -> AnyEngine:
        if self.device == "cpu":
            return self._on_cpu(form, allowed)
        from sdk.scoring.torch_engine import TorchEngine

        return TorchEngine(form, allowed, device=self.device)

    def _on_cpu(self, form: PairForm, allowed: Bools | None) -> Engine | TiledEngine:
        from sdk.scoring.engine import Engine

        options: dict[str, Any] = {"threads": self.threads, "memory_mib": self.memory_mib}
        if self._items_per_tile is None:
            return Engine(form, allowed, **options)
        from sdk.scoring.tiled import TiledEngine

        return TiledEngine(form, allowed, items_per_tile=self._items_per_tile, **options)

    def _lists(
        self, name: str, user_index: Int64s, seen: Seen, k: int, allowed: Bools | None, again: Again | None
    ) -> tuple[BestRows, Float64s | None]:
        """The best k by the model or by the fallback, under the rules if any choose; propensities of 0 among draws."""
        rules = self.rules
        if rules is None or not rules.asked.choose:
            if again is None or self.form is None or name == POPULAR:
                found = self._top_k(name, user_index, seen, k, allowed)
            else:
                others = self._top_k(name, user_index, seen.beside(again.has), k, allowed)
                found = again.merged(others, self.form, user_index, seen, allowed)
            return found, None if self.exploration is None else np.zeros(found.row.shape)
        from sdk.scoring.rule_lists import ruled_lists

        best = _Best(self, name, allowed)
        wanted = self._engine(name, allowed, rules.wanted) if rules.asked.at_least.count else best
        return ruled_lists(best, wanted, rules, user_index, seen, k, self.threads), None

    def _top_k(self, name: str, user_index: Int64s, seen: Seen, k: int, allowed: Bools | None) -> BestRows:
        """By the engine; the first few users by what begins sooner."""
        form = self._form(name)
        self._quick -= len(user_index)
        if self._quick >= 0 and self.device == "cpu" and not form.head.has_mlp:
            found = quick_lists(form, user_index, seen, k, allowed)
            if found is not None:
                return found
        return self._engine(name, allowed).top_k(user_index, seen, k)

    def _draws(
        self, name: str, user_index: Int64s, seen: Seen, k: int, allowed: Bools | None, _again: Again | None
    ) -> tuple[BestRows, Float64s | None]:
        """Draws by the model or by the fallback, and the propensity of each place.

        Raises:
            UsageError: the recommender is not on the CPU.
        """
        from sdk.scoring.engine import Engine

        engine = self._engine(name, allowed)
        if self.exploration is None or not isinstance(engine, Engine):
            message = f"explore: got {self._where}, expected device 'cpu', items not in tiles: so are draws made only"
            raise UsageError(message)
        drawn = engine.draw(user_index, seen, k, self.exploration.noise)
        return drawn.lists, drawn.log_propensity(self.exploration.noise.tau)

    @property
    def _where(self) -> str:
        return f"device {self.device!r}" + ("" if self._items_per_tile is None else ", items in tiles")

    def keep(self, allowed: Bools | None) -> None:
        """Keep the engines of this very mask, for a job that asks with it again and again."""
        self._kept, self._here = allowed, {}
        self._engines = {key: engine for key, engine in self._engines.items() if key[1]}

    def sources(self, user_index: Int64s) -> NDArray[np.str_]:
        """(B,) str: what makes each user's list."""
        if self.form is None:
            return np.full(len(user_index), POPULAR, dtype=_SOURCE)
        own = self.users.codes["id"][user_index] != UNKNOWN
        known = own if self.form.has_history is None else self.form.has_history[user_index]
        return np.where(own, self.name, np.where(known, HISTORY, POPULAR)).astype(_SOURCE)

    def recommend(
        self, user_index: Int64s, seen: Seen, k: int, allowed: Bools | None = None, again: Again | None = None
    ) -> TopK:
        """The best k unseen items of each user row; see ``recommend_rows``."""
        return self.named(self.recommend_rows(user_index, seen, k, allowed, again))

    def named(self, lists: TopK) -> TopK:
        """Lists of item rows as lists of ids."""
        rows, ids = lists.item_id, self.items.ids
        return replace(lists, item_id=np.where(rows >= 0, ids[rows], nobody(ids)))

    def recommend_rows(
        self, user_index: Int64s, seen: Seen, k: int, allowed: Bools | None = None, again: Again | None = None
    ) -> TopK:
        """The best k unseen items of each user row, as rows of the items' table.

        Args:
            user_index: (B,) int64 rows of the users' table.
            seen: what each of them must not be given, aligned with ``user_index``.
            k: list length, at least 1.
            allowed: (R_item,) bool, the item rows that may be recommended; None allows all.
            again: what each of them has and may be given again, aligned with ``user_index``; None: nothing rises, nor
                does it in draws and under rules that choose.
        """
        source, k = self.sources(user_index), min(k, max(len(self.items) - FIRST_KNOWN, 1))
        cold, drawn = source == POPULAR, np.zeros(len(user_index), np.bool_)
        if self.exploration is not None:
            drawn = self.exploration.chosen[user_index]
        parts = []
        for name, which in ((self.name, ~cold), (POPULAR, cold)):
            for make, rows in (
                (self._lists, np.flatnonzero(which & ~drawn)),
                (self._draws, np.flatnonzero(which & drawn)),
            ):
                if len(rows):
                    mine = None if again is None else again.take(rows)
                    found, propensity = make(name, user_index[rows], seen.take(rows), k, allowed, mine)
                    made_by = (
                        source[rows]
                        if self.rules is None or name == POPULAR
                        else np.char.add(source[rows], UNDER_RULES)
                    )
                    parts.append((rows, TopK(found.row, found.scores, found.lengths, made_by, propensity=propensity)))
        return put_together(parts, len(user_index), min(k, len(self.items) - FIRST_KNOWN))

    def recommend_with_audience(
        self, user_index: Int64s, seen: Seen, k: int, size: int, allowed: Bools | None = None
    ) -> tuple[TopK, Audience]:
        """``recommend_rows``, and in the same pass each allowed title's best users among those given.

        Only users whom the model knows stand in an audience: popularity gives everybody one score.

        Args:
            user_index: (B,) int64 rows of the users' table.
            seen: as in ``recommend_rows``; who must not be given a title is not in its audience.
            k: list length, at least 1.
            size: users of an audience, at least 1.
            allowed: (R_item,) bool, the item rows that may be recommended; None allows all.

        Raises:
            UsageError: the recommender is not on the CPU.
        """
        from sdk.scoring.engine import Engine

        source = self.sources(user_index)
        known, cold = np.flatnonzero(source != POPULAR), np.flatnonzero(source == POPULAR)
        engine = self._engine(self.name, allowed)
        if not isinstance(engine, Engine):
            message = f"audience: got {self._where}, expected device 'cpu', items not in tiles: so are they made only"
            raise UsageError(message)
        found, best = engine.top_k_and_audience(user_index[known], seen.take(known), max(k, size))
        parts = [(known, TopK(found.row, found.scores, found.lengths, source[known]))]
        if len(cold):
            parts.append((cold, self.recommend_rows(user_index[cold], seen.take(cold), k, allowed)))
        lists = put_together(parts, len(user_index), min(k, len(self.items) - FIRST_KNOWN))
        return lists, Audience(engine.candidates, best.row, best.scores, np.minimum(best.lengths, size))

    def similar(self, content: ContentModel | None, item_ids: Int64s, k: int, allowed: Bools | None = None) -> TopK:
        """The k titles most like each given one; popular titles where nothing is known of a title's content.

        Args:
            content: the content model; None serves popular titles to all. It must hold the allowed titles alone
                where not all are (``ContentModel.listing``).
            item_ids: (B,) int64 known titles.
            k: list length, at least 1.
            allowed: (R_item,) bool, the item rows that the popular titles are taken from; None allows all.
        """
        parts = []
        bare = np.arange(len(item_ids))
        if content is not None:
            alike = content.similar(item_ids, k)
            parts.append((bare, alike))
            bare = np.flatnonzero(alike.lengths == 0)
        if len(bare):
            itself = Seen.build(np.arange(len(bare)), self.items.index_of(item_ids[bare]), len(bare))
            found = self._top_k(POPULAR, np.full(len(bare), UNKNOWN, dtype=np.int64), itself, k, allowed)
            parts.append((bare, found.named(self.items.ids, np.full(len(bare), POPULAR))))
        lists = put_together(parts, len(item_ids), min(k, len(self.items) - FIRST_KNOWN))
        return lists.answering("item_id", item_ids)


@dataclass(frozen=True, slots=True, eq=False)
class _Best:
    """What rules choose from: the best by score, by a recommender's engine or what begins sooner."""

    made_by: Recommender
    name: str
    allowed: Bools | None

    @property
    def candidates(self) -> Int64s:
        """Item rows that may be listed."""
        open_rows = np.ones(len(self.made_by.items), np.bool_) if self.allowed is None else self.allowed
        return FIRST_KNOWN + np.flatnonzero(open_rows[FIRST_KNOWN:])

    def top_k(self, user_index: Int64s, seen: Seen, k: int) -> BestRows:
        """Each user row's k best candidates."""
        return self.made_by._top_k(self.name, user_index, seen, k, self.allowed)
