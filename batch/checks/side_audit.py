"""One pass over one side's parts: what is wrong row by row, and the figures that gates look at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from batch.checks.drift import NOT_LISTED, score_histogram, tops
from batch.checks.part_layout import layout_problem
from batch.checks.rule_audit import ListedItems, RuleAudit
from batch.checks.sums import SideSums
from batch.gates.figures import FOLDERS, TITLES, USERS
from batch.store.layout import LAYOUTS
from sdk.base.errors import QualityGateError
from sdk.base.ids import plain_id, rows_in, rows_of
from sdk.base.schema import PROPENSITY, with_ids
from sdk.base.types import Bools, Float32s, Id, IdArray, Int32s, Int64s
from sdk.features.seen import Seen
from sdk.features.tables import FIRST_KNOWN
from sdk.scoring.recommender import POPULAR
from sdk.scoring.rules import ItemRules


@dataclass(frozen=True, slots=True, eq=False)
class SideRules:
    """What one side's lists are held against.

    Attributes:
        side: ``users``, ``titles`` or ``audiences``.
        queries: (Q,) ids, ascending: those that may have a list.
        answers: (I,) ids, ascending: the catalogue.
        expected: (Q,) bool, which of them must have a list.
        left: (Q,) int64, items that could be listed for each: the longest list that it can have.
        k: list length asked for.
        depth: ranks that count as a list's top.
        seen: rows of the encoded tables: what must not be shown to whom; None where anything may be.
        allowed: (I,) bool, the items that may be listed; None allows all.
        blocked: rows of the encoded tables: what was to be kept from whom; None where nothing was.
        established: (Q,) bool, the queries that the model should know; None: all of them.
        served: whether the bundle has a model for this side; else everybody is served by popularity.
        scope: option -> sha256 of its file: what narrows the side; nights are compared where that is the same.
        rules: what lists must keep to beside; None for no rules.
        drawn: whether lists are draws, whose rows have their propensity.
        sampled: (Q,) bool, the lists that what one order for all would give is measured on; None: all of them.
        all_asked: whether every query of the bundle was asked for; None: where all of these are expected.
    """

    side: str
    queries: IdArray
    answers: IdArray
    expected: Bools
    left: Int64s
    k: int
    depth: int
    seen: Seen | None = None
    allowed: Bools | None = None
    blocked: Seen | None = None
    established: Bools | None = None
    served: bool = True
    scope: Mapping[str, str] = field(default_factory=dict)
    rules: ItemRules | None = None
    drawn: bool = False
    sampled: Bools | None = None
    all_asked: bool | None = None

    @property
    def layout(self) -> pa.Schema:
        """The Arrow schema of its parts."""
        layout = with_ids(LAYOUTS[FOLDERS[self.side]], self.queries, self.answers)
        return layout.append(PROPENSITY) if self.drawn else layout

    @property
    def unchecked(self) -> dict[str, str]:
        """The gates that no row can fail, since nothing was asked for that they could hold it to -> why."""
        everyone = bool(self.expected.all()) if self.all_asked is None else self.all_asked
        found = {
            "rules": (self.rules is None, "no rules were asked for"),
            "seen": (self.seen is None, "what users have may be listed"),
            "denied": (self.allowed is None and self.blocked is None, "nothing was to be kept back"),
            "asked": (everyone, f"every {'user' if self.side == USERS else 'item'} was asked for"),
        }
        return {gate: why for gate, (nothing, why) in found.items() if nothing}


@dataclass(frozen=True, slots=True, eq=False)
class PartIds:
    """A part's ids, text or not, without an object for each.

    Attributes:
        codes: (N,) ints that are equal where the ids are: the ids themselves, or places among ``texts``.
        texts: string: what the codes mean; None where they are the ids.
    """

    codes: Int64s
    texts: pa.Array | None = None

    @classmethod
    def of(cls, column: pa.ChunkedArray) -> PartIds:
        """From a column of int64, of strings or of a dictionary of strings."""
        if not (pa.types.is_string(column.type) or pa.types.is_dictionary(column.type)):
            return cls(column.to_numpy())
        encoded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
        whole = encoded.unify_dictionaries().combine_chunks()
        return cls(whole.indices.to_numpy().astype(np.int64), whole.dictionary)

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, row: int) -> Id:
        code = self.codes[row]
        return plain_id(code if self.texts is None else self.texts[int(code)].as_py())

    def places(self, known: IdArray, rows: Int64s | None = None) -> Int64s:
        """Where the ids (of some rows) stand among ascending known ones; -1 where they do not."""
        codes = self.codes if rows is None else self.codes[rows]
        if self.texts is None:
            return rows_in(known, pa.array(codes))
        return rows_in(known, self.texts)[codes] if len(codes) else codes


@dataclass(frozen=True, slots=True, eq=False)
class PartLists:
    """One part, taken apart: N rows in L lists.

    Attributes:
        name: what messages call it.
        ids: (N,) whose list.
        rank: (N,) int32.
        answers: (N,) which item.
        score: (N,) float32.
        fallback: (N,) bool, whether popularity served it.
        starts: (L,) int64, first row of each list.
        lengths: (L,) int64.
        list_row: (N,) int64, the list of each row.
        query: (L,) int64, position among the known queries; -1 for an unknown one.
        answer: (N,) int64, position in the catalogue; -1 for an unknown item.
    """

    name: str
    ids: PartIds
    rank: Int32s
    answers: PartIds
    score: Float32s
    fallback: Bools
    starts: Int64s
    lengths: Int64s
    list_row: Int64s
    query: Int64s
    answer: Int64s

    def within(self, above: Id | None, up_to: Id | None) -> Bools:
        """(L,) bool: lists of ids above the first and up to the second; None is no bound."""
        codes, texts = self.ids.codes[self.starts], self.ids.texts
        ids: Any = codes if texts is None else np.array([*texts.to_pylist(), None], object)[codes]
        found = np.ones(len(codes), np.bool_)
        for bound, keeps in ((above, np.greater), (up_to, np.less_equal)):
            if bound is not None:
                found &= keeps(ids, bound).astype(np.bool_)
        return found


class SideAudit:
    """Takes parts one by one and keeps only counts per query and per item.

    It holds 4 * depth + 1 bytes a query and 24 bytes an item, beside one part at a time.

    Args:
        rules: what the lists are held against.
        part: number of the first part.

    Attributes:
        sums: what adds up.
        present: (Q,) bool, the queries with a list.
        top: (Q, depth) int32, the tops of their lists.
        strangers: lists of ids that are none of the queries expected here.
    """

    def __init__(self, rules: SideRules, part: int = 0) -> None:
        self.rules, self._part = rules, part
        self.sums, self.strangers = SideSums.nothing(len(rules.answers)), 0
        self.present = np.zeros(len(rules.queries), dtype=np.bool_)
        self.top = np.full((len(rules.queries), rules.depth), NOT_LISTED, dtype=np.int32)

    def add(self, name: str, table: pa.Table) -> None:
        """Check one part.

        Args:
            name: what messages call it.
            table: its rows, in the layout's columns; strings may be dictionaries.

        Raises:
            QualityGateError: it has other columns than the layout.
        """
        lists = self._take_apart(name, table)
        self._check_propensities(name, table)
        self._check_rows(lists)
        self._check_ids(lists)
        self._check_repeats(lists)
        self._check_lists(lists)
        self._measure(lists)

    def finish(self) -> SideSums:
        """What adds up, after the last part; who should have a list and has none counts as ``complete``."""
        rules, counts = self.rules, self.sums.counts
        wanted = rules.expected & ~self.present
        missing = np.flatnonzero(wanted & (rules.left > 0))
        if len(missing):
            self._note("complete", len(missing), f"the first is {rules.queries[missing[0]]}")
        counts["present"] += int(self.present.sum())
        counts["left"] += int(rules.left[self.present].sum())
        counts["without_any"] += int((wanted & (rules.left <= 0)).sum())
        self.sums.sample = self._some_barred()
        return self.sums

    def _some_barred(self) -> Seen:
        """What is barred in the sampled lists; items from 0."""
        rows = np.flatnonzero(self.present if self.rules.sampled is None else self.present & self.rules.sampled)
        seen = self.rules.seen
        if seen is None:
            return Seen.nothing(len(rows))
        theirs = seen.take(rows + FIRST_KNOWN)
        known = theirs.items >= FIRST_KNOWN
        return Seen.build(theirs.users[known], theirs.items[known].astype(np.int64) - FIRST_KNOWN, len(rows))

    def _take_apart(self, name: str, table: pa.Table) -> PartLists:
        if problem := layout_problem(name, table, self.rules.layout):
            raise QualityGateError(
                f"{problem}. Nothing was published; the staging folder is kept for a look until the night is "
                "published. Another program wrote this part: delete it and run the same command, which makes it again."
            )
        if nulls := sum(column.null_count for column in table.columns):
            self._note("finite", nulls, f"{name} holds a null")
        return take_apart(name, table, self.rules)

    def _check_propensities(self, name: str, table: pa.Table) -> None:
        if self.rules.drawn:
            found = table[PROPENSITY.name].to_numpy()
            if bad := int((~(found <= 0)).sum()):
                self._note("finite", bad, f"{name} holds a propensity that is no logarithm of a probability")

    def _check_rows(self, lists: PartLists) -> None:
        self._report(lists, "finite", ~np.isfinite(lists.score), "has the score {score}")
        number = np.arange(len(lists.ids)) - lists.starts[lists.list_row] + 1
        self._report(lists, "ranks", lists.rank != number, "has rank {rank}, which does not follow the one before")
        rising = np.zeros(len(lists.ids), dtype=np.bool_)
        rising[1:] = (lists.score[1:] > lists.score[:-1]) & (lists.list_row[1:] == lists.list_row[:-1])
        self._report(lists, "order", rising, "scores above the row before it in the same list")

    def _check_ids(self, lists: PartLists) -> None:
        unknown = (lists.answer < 0) | (lists.query < 0)[lists.list_row]
        self._report(lists, "known", unknown, "names {id} and item {answer}, one of which the bundle does not have")
        if self.rules.allowed is not None:
            denied = (lists.answer >= 0) & ~self.rules.allowed[lists.answer]
            self._report(lists, "denied", denied, "names item {answer} for {id}, which may not be recommended")
        if self.rules.side == TITLES:
            itself = (lists.query[lists.list_row] == lists.answer) & (lists.answer >= 0)
            self._report(lists, "itself", itself, "lists item {id} as similar to itself")

    def _check_repeats(self, lists: PartLists) -> None:
        """Items named twice and items seen, by one sort of (list, item) keys."""
        keys = lists.list_row * self._width + lists.answer + 1
        ordered = np.sort(keys)
        if (ordered[1:] == ordered[:-1]).any():
            again = pd.Series(keys).duplicated().to_numpy() & (lists.answer >= 0)
            self._report(lists, "repeats", again, "names item {answer} again for {id}")
        shows = "shows user {id} item {answer}" if self.rules.side == USERS else "lists user {answer} for item {id}"
        self._check_barred(lists, "seen", self.rules.seen, keys, ordered, f"{shows}, which they have rated")
        self._check_barred(
            lists, "denied", self.rules.blocked, keys, ordered, f"{shows}, which was to be kept from them"
        )

    def _check_barred(
        self, lists: PartLists, gate: str, barred: Seen | None, keys: Int64s, ordered: Int64s, says: str
    ) -> None:
        if barred is None:
            return
        known = np.flatnonzero(lists.query >= 0)
        theirs = barred.take(lists.query[known] + FIRST_KNOWN)
        owner = np.repeat(known, np.diff(theirs.indptr))
        items = theirs.items - FIRST_KNOWN
        self.sums.barred += np.bincount(items[~lists.fallback[lists.starts[owner]]], minlength=self._width - 1)
        wanted = owner * self._width + items + 1
        shown = wanted[rows_of(ordered, wanted) >= 0]
        if len(shown):
            self._report(lists, gate, np.isin(keys, shown), says)

    @property
    def _width(self) -> int:
        return len(self.rules.answers) + 1

    def _check_lists(self, lists: PartLists) -> None:
        known = lists.query >= 0
        query, first = np.unique(lists.query[known], return_index=True)
        again = known.copy()
        again[np.flatnonzero(known)[first]] = self.present[query]
        self._report(lists, "repeats", _at(lists, again), "begins a second list of {id}")
        self.present[query] = True
        unasked = known & ~self.rules.expected[lists.query]
        self.strangers += int((~known | unasked).sum())
        self._report(lists, "asked", _at(lists, unasked), "begins a list of {id}, which was not asked for")
        longest = np.minimum(self.rules.k, self.rules.left[lists.query])
        short = (lists.lengths < longest) & (self.rules.side != TITLES)  # few items may be like one
        if self.rules.rules is not None:
            short = self._check_rules(lists, short & known, self.rules.rules)
        wrong = known & ((lists.lengths > longest) | short)
        self._report(lists, "lengths", _at(lists, wrong), "begins a list of another length than k and what is left")

    def _check_rules(self, lists: PartLists, short: Bools, rules: ItemRules) -> Bools:
        """Count the lists that break the rules; (L,) bool, the short ones that could have been longer."""
        allowed = np.ones(len(self.rules.answers), np.bool_) if self.rules.allowed is None else self.rules.allowed
        barred = tuple(each for each in (self.rules.seen, self.rules.blocked) if each is not None)
        audit = RuleAudit(rules, np.append(np.zeros(FIRST_KNOWN, np.bool_), allowed), barred)
        query, item = np.maximum(lists.query, 0) + FIRST_KNOWN, np.maximum(lists.answer, 0) + FIRST_KNOWN
        listed = ListedItems(query, lists.starts, lists.lengths, lists.list_row, item)
        self._report(lists, "rules", _at(lists, audit.broken(listed)), "begins a list of {id} that breaks the rules")
        return audit.could_be_longer(listed, short)

    def _measure(self, lists: PartLists) -> None:
        fallback, model = lists.fallback[lists.starts], ~lists.fallback[lists.starts]
        counted = lists.query >= 0
        if self.rules.established is not None:
            counted &= self.rules.established[lists.query]
        several, ends = model & (lists.lengths > 1), lists.starts + lists.lengths - 1
        flat = several & (lists.score[lists.starts] == lists.score[ends])
        self.sums.counts.update(
            rows=len(lists.ids), lists=len(lists.starts), fallback=int(fallback.sum()),
            established=int(counted.sum()), established_fallback=int((counted & fallback).sum()),
            model_lists=int(several.sum()), flat_lists=int(flat.sum()),
        )  # fmt: skip
        self._count(lists, model)

    def _count(self, lists: PartLists, model: Bools) -> None:
        known, sums = lists.answer >= 0, self.sums
        sums.exposure += np.bincount(lists.answer[known], minlength=len(sums.exposure))
        usable = ~lists.fallback & np.isfinite(lists.score)
        sums.histogram += score_histogram(lists.score[usable])
        top = tops(lists.list_row, lists.rank, lists.answer, len(lists.starts), self.rules.depth)
        personal = top[model]
        sums.listed_in += np.bincount(personal[personal >= 0], minlength=len(sums.listed_in))
        sums.counts["personal"] += int((personal >= 0).any(axis=1).sum())
        self.top[lists.query[lists.query >= 0]] = top[lists.query >= 0]

    def _report(self, lists: PartLists, gate: str, bad: Bools, says: str) -> None:
        if bad.any():
            row = int(np.argmax(bad))
            words = says.format(
                id=lists.ids[row], rank=lists.rank[row], answer=lists.answers[row], score=lists.score[row]
            )
            self._note(gate, int(bad.sum()), f"{lists.name} row {row} {words}")

    def _note(self, gate: str, count: int, first: str) -> None:
        self.sums.note(gate, count, first, self._part)


def take_apart(name: str, table: pa.Table, rules: SideRules) -> PartLists:
    """A part's columns and where its lists begin; rows that hold a null are left out."""
    table = table.drop_null()
    columns = [table.column(column) for column in rules.layout.names[:4]]
    ids, answers, rank, score = (
        PartIds.of(columns[0]),
        PartIds.of(columns[2]),
        *(columns[at].to_numpy() for at in (1, 3)),
    )
    begins = np.append(True, ids.codes[1:] != ids.codes[:-1])[: len(ids)]
    starts = np.flatnonzero(begins)
    return PartLists(
        name=name, ids=ids, rank=rank, answers=answers, score=score,
        fallback=np.asarray(pc.equal(table.column("source"), POPULAR)).astype(np.bool_),
        starts=starts, lengths=np.diff(np.append(starts, len(ids))), list_row=np.cumsum(begins) - 1,
        query=ids.places(rules.queries, starts), answer=answers.places(rules.answers),
    )  # fmt: skip


def _at(lists: PartLists, which: Bools) -> Bools:
    """(N,) bool: the first rows of the lists that are marked."""
    rows = np.zeros(len(lists.ids), dtype=np.bool_)
    rows[lists.starts[which]] = True
    return rows
