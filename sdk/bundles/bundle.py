"""A trained system on disk: written aside and renamed, every file hashed, nothing of ours pickled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import pyarrow as pa

from sdk.base.config import RANKERS, SimilarKind
from sdk.base.errors import BundleError, UsageError
from sdk.base.files import sha256_of, standing
from sdk.base.ids import count_of, id_of, ids_of
from sdk.base.paths import as_path
from sdk.base.rights import reason
from sdk.base.types import Bools, Id, Ids, Int64s, TopK
from sdk.bundles.info import FORMAT_VERSION, IN_MEASURED, INFO, LISTS, MEASURED, BundleInfo, read_info, verify

if TYPE_CHECKING:
    from sdk.base.description import Description
    from sdk.bundles.answers import Explanation
    from sdk.features.interactions import StoredInteractions
    from sdk.features.tables import EncodedTable
    from sdk.models.content.model import ContentModel
    from sdk.models.content.reasons import Reasons
    from sdk.models.content.title_search import Match, TitleIndex
    from sdk.models.history.model import HistoryModel
    from sdk.models.pair_form import PairForm
    from sdk.models.pair_model import PairModel
    from sdk.scoring.again import Again
    from sdk.scoring.recommender import Recommender
    from sdk.scoring.rules import ItemRules, Rules, RulesLike

_LOOKS = 5
_QUICK = 16  # users of a process who need not wait for compiled code: what they save is what loading it takes
__all__ = ["FORMAT_VERSION", "INFO", "Bundle", "BundleInfo", "load", "sha256_of"]


def load(path: str | Path) -> Bundle:
    """Open a bundle, checking every file against its recorded sha256 first.

    One that is being replaced meanwhile is opened as it was or as it will be.

    Raises:
        UsageError: the path is none that could be meant.
        BundleError: the folder is no bundle or of another format version; or a file is absent, altered, not listed or
            not readable for this account.
    """
    target = as_path(path)
    for _ in range(_LOOKS):
        folder, before = _place(target)
        try:
            info = read_info(folder)
            verify(folder, info.files)
        except (BundleError, OSError) as error:
            if _place(target) != (folder, before):
                continue
            if isinstance(error, BundleError):
                raise
            raise BundleError(f"{error.filename or folder}: cannot be read: {reason(error, folder)}") from error
        return Bundle(folder, info)
    message = f"{target}: replaced again and again while it was read. Run the same command when training has ended."
    raise BundleError(message)


def _place(target: Path) -> tuple[Path, int | None]:
    """Where a bundle stands, and what tells it from another one that stands there later."""
    try:
        folder = standing(target)
        return folder, folder.stat().st_ino
    except OSError:
        return target, None


class Bundle:
    """A trained system: tables, models and who has seen what, loaded as they are needed.

    Args:
        path: the folder.
        info: what its ``bundle.json`` says.
    """

    def __init__(self, path: Path, info: BundleInfo) -> None:
        self.path, self.info = path, info
        self._recommenders: dict[str, Recommender] = {}
        self._ruled: dict[tuple[str, str], Recommender] = {}

    def __repr__(self) -> str:
        return f"Bundle({str(self.path)!r}, models={self.info.models}, data={self.info.data.get('name')!r})"

    @cached_property
    def _user_tables(self) -> tuple[pa.Table, EncodedTable]:
        from sdk.features.table_files import read_table

        return read_table(self.path / "users.parquet", "user_id", self.info.tables["users"], self.about)

    @cached_property
    def _item_tables(self) -> tuple[pa.Table, EncodedTable]:
        from sdk.features.table_files import read_table

        return read_table(self.path / "items.parquet", "item_id", self.info.tables["items"], self.about)

    @property
    def about(self) -> Description:
        """What the columns of its data mean."""
        return self.info.about

    @property
    def users(self) -> pa.Table:
        """Every user, with what is known of them."""
        return self._user_tables[0]

    @property
    def items(self) -> pa.Table:
        """Every item, with what is known of it."""
        return self._item_tables[0]

    @property
    def encoded_users(self) -> EncodedTable:
        """The users' encoded table."""
        return self._user_tables[1]

    @property
    def encoded_items(self) -> EncodedTable:
        """The items' encoded table."""
        return self._item_tables[1]

    @cached_property
    def interactions(self) -> StoredInteractions:
        """Every rating, encoded, with the part of the split that it fell in."""
        from sdk.features.interactions import StoredInteractions

        ages = self.history is not None and self.history.needs_times
        sizes = len(self.encoded_users), len(self.encoded_items)
        return StoredInteractions.read(self.path / "seen.parquet", sizes, with_times=ages)

    @cached_property
    def measured(self) -> Bundle:
        """The bundle that the figures are of: where this one learnt from every rating, the one that had a test part.

        Raises:
            BundleError: it is within this one, and was altered.
        """
        return load(self.path / MEASURED) if IN_MEASURED in self.info.files else self

    @property
    def has_content(self) -> bool:
        """Whether the bundle was trained with the content model."""
        return "content" in self.info.models

    @cached_property
    def content(self) -> ContentModel:
        """The content model.

        Raises:
            UsageError: the bundle was trained without it.
        """
        from sdk.models.content.model import ContentModel

        if not self.has_content:
            message = f"{self.path}: trained without the content model; train it with --models {','.join(self.info.models)},content"  # noqa: E501
            raise UsageError(message)
        return ContentModel.load(self.path, self.items)

    def resolve_model(self, name: str) -> str | None:
        """The ranker that a name means: ``best`` is the one with the better validation AUC.

        Returns:
            None where ``best`` is asked of a bundle without a ranker.

        Raises:
            UsageError: the bundle has no such ranker.
        """
        if name == "best":
            return self.info.chosen_model
        if name not in RANKERS or name not in self.info.models:
            have = [m for m in self.info.models if m in RANKERS]
            message = f"model: got {name!r}, expected one of {', '.join([*have, 'best'])} (what {self.path} holds)"
            raise UsageError(message)
        return name

    def model(self, name: str = "best") -> PairModel:
        """A ranker, ready to score.

        Raises:
            UsageError: the bundle has no such ranker.
            BundleError: its weights do not fit.
        """
        from sdk.models.ranker import load_ranker

        resolved = self.resolve_model(name)
        if resolved is None:
            raise UsageError(f"{self.path}: holds no ranker; train it again without --models")
        path = self.path / f"{resolved}.safetensors"
        return load_ranker(resolved, self.info.config, self.encoded_users, self.encoded_items, path)

    @cached_property
    def history(self) -> HistoryModel | None:
        """The history model; None where the bundle was trained without it.

        Raises:
            BundleError: its files do not fit.
        """
        from sdk.models.history.model import HistoryModel

        if "history" not in self.info.models:
            return None
        return HistoryModel.load(self.path, num_items=len(self.encoded_items))

    def _need_history(self) -> HistoryModel:
        if self.history is None:
            message = f"{self.path}: trained without the history model; train it again without --models"
            raise UsageError(message)
        return self.history

    def ranker_share(self, name: str) -> float:
        """Of a ranker's logit in a list beside the history model: configured, or chosen on the validation part."""
        given = self.info.config.history.ranker_weight
        return float(self.info.metrics["ranker_share"].get(name, {"share": 0.0})["share"]) if given is None else given

    def ranker_of_lists(self, name: str = "best") -> str | None:
        """The ranker that has a part in lists; None where the history model makes them alone, or there is neither.

        Raises:
            UsageError: the bundle has no such ranker.
        """
        resolved = self.resolve_model(name)
        if resolved is not None and "history" in self.info.models and not self.ranker_share(resolved):
            return None
        return resolved

    @cached_property
    def _stored_lists(self) -> PairForm | None:
        """``list_form`` of the best ranker and every rating, as it was written; None where it was not."""
        if LISTS not in self.info.files:
            return None
        from sdk.models.form_files import read_form

        return read_form(self.path / LISTS, len(self.encoded_users), len(self.encoded_items))

    def list_form(
        self, name: str | None = "best", *, parts: Sequence[int] = (), users: Int64s | None = None
    ) -> PairForm | None:
        """What lists are ranked by, in pair form.

        That is the history model's score plus the ranker's share, of its logit: a ranker learns who likes what among
        the items that people met, the history model also what they meet at all. Without one it is the other alone.

        Args:
            name: a ranker, or ``best``; None for none.
            parts: of the split, whose ratings stand in the users' histories; none named: all of them.
            users: (N,) int64, the only user rows that need to have a history; None: all of them.

        Returns:
            None where the bundle holds neither. Where the bundle holds it in this very form it is mapped from there.
        """
        from sdk.models.history.model import blend

        resolved = None if name is None else self.ranker_of_lists(name)
        if not parts and (stored := self._stored_lists) is not None and resolved == self.ranker_of_lists():
            return stored
        ranker = None if resolved is None else self._lowered(resolved)
        if self.history is None:
            return ranker
        rated = self.interactions.only(*parts)
        rated, num_users = rated if users is None else rated.of_users(users), len(self.encoded_users)
        columns = rated.rows.user_index, rated.rows.item_index, rated.rating
        try:
            known = self.history.to_pair_form(*columns, num_users, rated.timestamp)
        except ValueError as error:
            message = f"{self.path / 'seen.parquet'}: not the ratings of this bundle ({error}). Train the bundle again."
            raise BundleError(message) from error
        return known if resolved is None or ranker is None else blend(known, ranker, self.ranker_share(resolved))

    def _lowered(self, name: str) -> PairForm:
        """A ranker in pair form."""
        return self.model(name).lower()

    def recommender(
        self,
        name: str = "best",
        *,
        threads: int | None = None,
        memory_mib: float | None = None,
        device: str = "cpu",
        users: Int64s | None = None,
        items_per_tile: int | None = None,
    ) -> Recommender:
        """What gives every user (or those of (N,) int64 rows) a list: ``list_form``, and the fallback; on every core.

        With ``items_per_tile`` at most so many items are laid out in memory at a time; the lists are the same.

        Raises:
            UsageError: the bundle has no such ranker, or the device is not there.
        """
        from sdk.scoring.recommender import Recommender

        resolved = self.ranker_of_lists(name)
        form = self.list_form(resolved, users=users)
        source = resolved or ("popular" if form is None else "history")
        tables = (self.encoded_users, self.encoded_items)
        options: dict[str, Any] = {"threads": threads, "memory_mib": memory_mib, "device": device, "quick": _QUICK}
        return Recommender(source, form, *tables, items_per_tile=items_per_tile, **options)

    def kept_recommender(self, model: str, rules: RulesLike | None = None) -> Recommender:
        """``recommender(model)``, made once; and under rules, of which the last ones are kept."""
        if model not in self._recommenders:
            self._recommenders[model] = self.recommender(model)
        if rules is None:
            return self._recommenders[model]
        from sdk.scoring.rules import rules_of

        asked = rules_of(rules)
        if (key := (model, asked.digest)) not in self._ruled:
            self._ruled = {key: self._recommenders[model].under(self.item_rules(asked))}
        return self._ruled[key]

    def item_rules(self, rules: Rules) -> ItemRules:
        """Rules by the rows of this bundle's items.

        Raises:
            UsageError: the items lack a column or an id, or diversity is asked for without the content model.
        """
        from sdk.scoring.rules import ItemRules

        content = self.content if rules.diversity and self.has_content else None
        return ItemRules.of(rules, self.items, self.encoded_items, content)

    def recommend(
        self,
        user_ids: Ids,
        k: int = 10,
        *,
        model: str = "best",
        include_seen: bool = False,
        candidates: Ids | None = None,
        deny: Ids = (),
        deny_by_user: Mapping[Any, Ids] | None = None,
        min_ratings: int = 0,
        rules: RulesLike | None = None,
    ) -> TopK:
        """Each user's k best items, exactly, over the whole catalogue.

        Args:
            user_ids: (B,) ids of the bundle's kind, numbers or text; an unknown user gets the most popular items.
            k: list length, at least 1.
            model: ``dlrm``, ``ncf``, ``bfm`` or ``best``.
            include_seen: whether items that the user has rated may appear; where events repeat, these rise by how
                often and how lately they came.
            candidates: item_ids, the only ones that may appear; None allows all.
            deny: item_ids that must not appear.
            deny_by_user: user_id -> item_ids that must not appear in that user's list.
            min_ratings: items with fewer training ratings do not appear.
            rules: what lists must keep to, as a JSON object or a file of one (docs/rules.md); None for no rules.

        Raises:
            UsageError: k < 1, the bundle has no such model, an item_id is not in the catalogue, the rules do not fit
                it, or something given as an id is none: ids are text where the data's are, or else whole numbers up to
                2**63 - 1, floats that are whole below 2**53.
            DataError: the file of rules cannot be read.
        """
        from sdk.features.seen import Seen
        from sdk.scoring.filters import allowed_rows, with_denied

        k, users = count_of(k, "k"), ids_of(user_ids, "user_ids", self.encoded_users.ids)
        index = self.encoded_users.index_of(users)
        recommender = self.kept_recommender(model, rules)
        seen, again = self._seen.take(index), None
        if include_seen:
            seen, found = Seen.nothing(len(index)), self.coming_again()
            again = None if found is None else found.take(index)
        if deny_by_user:
            known = self.encoded_users.ids
            by_user = {id_of(user, "deny_by_user", known): item_ids for user, item_ids in deny_by_user.items()}
            denied = {row: by_user.get(user, ()) for row, user in enumerate(users.tolist())}
            seen = with_denied(seen, denied, self.encoded_items)
        allowed = allowed_rows(self.encoded_items, candidates=candidates, deny=deny, min_ratings=min_ratings)
        return recommender.recommend(index, seen, k, allowed, again).answering("user_id", users)

    def recommend_for(self, item_ids: Ids, k: int = 10) -> TopK:
        """The k best items for a visitor of whom only some liked items are known, without training anything.

        Args:
            item_ids: (N,) ids of the liked items; they are not listed themselves. None at all lists popular items.
            k: list length, at least 1.

        Returns:
            A TopK of one row, whose source is ``history``, or ``popular`` where the items say nothing.

        Raises:
            UsageError: k < 1, an item is unknown, or the bundle has no history model.
        """
        from sdk.bundles.answers import visitor_list
        from sdk.scoring.filters import item_rows

        history, k = self._need_history(), count_of(k, "k")
        return visitor_list(history, self.encoded_items, item_rows(self.encoded_items, item_ids), k)

    def coming_again(
        self, *, parts: Sequence[int] = (), users: Int64s | None = None, items: Bools | None = None
    ) -> Again | None:
        """What each user row has, with what that adds to its score where it may be given again.

        Args:
            parts: of the split; none named: all of them.
            users: (N,) int64, the only user rows that are to have any; None: all of them.
            items: (R_item,) bool, what may be given again; None: everything.

        Returns:
            None where nothing rises: there is no history model, or no event repeated in training.
        """
        from sdk.scoring.again import Again

        history = self.history
        if history is None or not history.config.repeat_weight:
            return None
        rated = self.interactions.only(*parts)
        rated = rated if users is None else rated.of_users(users)
        rows = rated.rows
        bonus = history.repeat_bonus(rated.rating, rows.user_index, rated.timestamp)
        return Again.build(rows.user_index, rows.item_index, bonus, len(self.encoded_users), items)

    @cached_property
    def _seen(self) -> Any:
        return self.interactions.seen(len(self.encoded_users))

    def similar(self, item_ids: Ids, k: int = 10, *, kind: SimilarKind = "hybrid") -> TopK:
        """The items most like each given one: by content and by who likes them, or by ``content`` alone.

        ``source`` says which: an item that nobody likes has its content list, as all have in a bundle in which liking
        together has no share. Items of which nothing is known are listed by what is liked together with them.

        Raises:
            UsageError: k < 1, an item or a kind is unknown, or the bundle lacks the content model.
        """
        items = self.encoded_items
        wanted, k = ids_of(item_ids, "item_ids", items.ids), min(count_of(k, "k"), len(items))  # no list is longer
        return self.look_alikes(kind).similar(wanted, k)

    def look_alikes(self, kind: SimilarKind) -> ContentModel:
        """The content model that lists of a kind are made by.

        Raises:
            UsageError: the kind is unknown, or the bundle lacks the content model.
        """
        if kind not in get_args(SimilarKind):
            raise UsageError(f"kind: got {kind!r}, expected one of {', '.join(get_args(SimilarKind))}")
        return self.content if kind == "hybrid" else self._by_content

    @cached_property
    def _by_content(self) -> ContentModel:
        return self.content.by_content()

    def explain(self, item_a: Id, item_b: Id) -> Reasons:
        """What two items share, and how much each field adds to their likeness."""
        return self.content.explain(item_a, item_b)

    def explain_recommendation(
        self,
        user_id: Id | None,
        item_ids: Ids,
        *,
        liked: Ids | None = None,
        max_titles: int = 3,
        model: str = "best",
        include_seen: bool = False,
    ) -> list[Explanation]:
        """Why each of some items is listed, for a user or (user_id None) for a visitor with ``liked`` items.

        ``model`` and ``include_seen`` as the list was asked for: the scores are those of ``recommend``.

        Raises:
            UsageError: max_titles < 1, an item or model is unknown, both or neither of user and likes are given, or
                likes are given and the bundle has no history model.
        """
        from sdk.bundles.answers import Explainer
        from sdk.bundles.words import words_of
        from sdk.scoring.filters import item_rows

        if (user_id is None) == (liked is None):
            message = "explain_recommendation: expected a user_id or liked items, one of the two"
            raise UsageError(message)
        users, items = self.encoded_users, self.encoded_items
        shared, most = self.explain if self.has_content else None, count_of(max_titles, "max_titles")
        explainer = Explainer(
            users, items, self.history, lambda: self.interactions, self.titles, shared, most, words_of(self.about),
            self.about.feedback == "implicit",
        )  # fmt: skip
        rows = item_rows(items, item_ids)
        if liked is not None:
            return explainer.for_visitor(self._need_history(), item_rows(items, liked, "liked"), rows)
        asked = id_of(user_id, "user_id", users.ids)
        again = self.coming_again(users=users.index_of([asked])) if include_seen else None
        return explainer.for_user(asked, rows, self.kept_recommender(model), again)

    def find_title(self, query: str, limit: int = 5) -> list[Match]:
        """Items by name, best first; close ones where none is the same. An id that is text is found, too."""
        return self._title_index.find(query, limit)

    @cached_property
    def _title_index(self) -> TitleIndex:
        from sdk.models.content.title_search import TitleIndex

        return TitleIndex(self.items if self.about.is_preset("items") else self.items.select(["item_id", "title"]))

    def titles(self, item_ids: Ids) -> list[str]:
        """Display names, of films with the year, "The Matrix (1999)"; an item without a name is called by its id.

        Of an id that the catalogue does not have: "item 7".
        """
        return self._title_index.display(item_ids)
