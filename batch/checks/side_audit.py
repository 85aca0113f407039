"""One pass over one side's parts: what is wrong row by row, and the figures that gates look at."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from batch.checks.drift import NOT_LISTED, SCORE_BINS, sameness, score_histogram, tops
from sdk.base.errors import QualityGateError
from sdk.base.types import Bools, Float32s, Int32s, Int64s
from sdk.features.seen import Seen
from sdk.features.tables import FIRST_KNOWN
from sdk.scoring.recommender import POPULAR

_DENSE_IDS = 1 << 25


class Lookup:
    """The position of an id among known ones.

    Args:
        known: (N,) int64, ascending, unique.
    """

    def __init__(self, known: Int64s) -> None:
        self.known = known
        self._table: Int32s | None = None
        if len(known) and known[0] >= 0 and known[-1] < _DENSE_IDS:
            self._table = np.full(int(known[-1]) + 1, -1, dtype=np.int32)
            self._table[known] = np.arange(len(known), dtype=np.int32)

    def __len__(self) -> int:
        return len(self.known)

    def find(self, ids: Int64s) -> Int64s:
        """(B,) int64 positions; -1 for an id that is not known."""
        if not len(self.known):
            return np.full(len(ids), -1, dtype=np.int64)
        if self._table is None:
            at = np.minimum(np.searchsorted(self.known, ids), len(self.known) - 1)
            return np.where(self.known[at] == ids, at, -1)
        inside = (ids >= 0) & (ids < len(self._table))
        return np.where(inside, self._table[np.where(inside, ids, 0)], -1).astype(np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class SideRules:
    """What one side's lists are held against.

    Attributes:
        layout: the Arrow schema of its parts.
        queries: the ids that may have a list, Q of them.
        answers: the catalogue, I titles.
        expected: (Q,) bool, which of them must have a list.
        left: (Q,) int64, titles that could be listed for each: the longest list that it can have.
        k: list length asked for.
        may_be_short: whether a list may be shorter than both k and what is left.
        seen: rows of the encoded tables: what must not be shown to whom; None where anything may be.
        not_itself: whether a list must not name the id that it answers.
        established: (Q,) bool, the queries that the model should know.
        depth: ranks that count as a list's top.
        allowed: (I,) bool, the titles that may be listed; None allows all.
        blocked: rows of the encoded tables: what was to be kept from whom; None where nothing was.
    """

    layout: pa.Schema
    queries: Lookup
    answers: Lookup
    expected: Bools
    left: Int64s
    k: int
    may_be_short: bool
    seen: Seen | None
    not_itself: bool
    established: Bools
    depth: int
    allowed: Bools | None = None
    blocked: Seen | None = None


@dataclass(slots=True)
class Problems:
    """How often each check failed, and where first."""

    counts: dict[str, int] = field(default_factory=dict)
    first: dict[str, str] = field(default_factory=dict)

    def add(self, gate: str, count: int, first: str) -> None:
        """Count failures of one check."""
        if count:
            self.counts[gate] = self.counts.get(gate, 0) + int(count)
            self.first.setdefault(gate, first)


@dataclass(frozen=True, slots=True, eq=False)
class Lists:
    """One part, taken apart: N rows in L lists.

    Attributes:
        name: what messages call it.
        ids: (N,) int64, whose list.
        rank: (N,) int32.
        answers: (N,) int64, which title.
        score: (N,) float32.
        fallback: (N,) bool, whether popularity served it.
        starts: (L,) int64, first row of each list.
        lengths: (L,) int64.
        list_row: (N,) int64, the list of each row.
        query: (L,) int64, position among the known queries; -1 for an unknown one.
        answer: (N,) int64, position in the catalogue; -1 for an unknown title.
    """

    name: str
    ids: Int64s
    rank: Int32s
    answers: Int64s
    score: Float32s
    fallback: Bools
    starts: Int64s
    lengths: Int64s
    list_row: Int64s
    query: Int64s
    answer: Int64s


class SideAudit:
    """Takes parts one by one and keeps only counts per query and per title.

    It holds 4 * depth + 1 bytes a query and 24 bytes a title, beside one part at a time.

    Args:
        rules: what the lists are held against.
    """

    def __init__(self, rules: SideRules) -> None:
        self.rules = rules
        self.problems = Problems()
        self.rows = self.lists = self.fallback = 0
        self.personal = self.model_lists = self.flat_lists = 0
        self.established = self.established_fallback = 0
        self.present = np.zeros(len(rules.queries), dtype=np.bool_)
        self.exposure = np.zeros(len(rules.answers), dtype=np.int64)
        self.listed_in = np.zeros(len(rules.answers), dtype=np.int64)
        self.barred = np.zeros(len(rules.answers), dtype=np.int64)
        self.histogram = np.zeros(SCORE_BINS, dtype=np.int64)
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
        self._check_rows(lists)
        self._check_ids(lists)
        self._check_repeats(lists)
        self._check_lists(lists)
        self._measure(lists)

    def finish(self) -> None:
        """Count what should have a list and has none as ``complete``; after the last part."""
        missing = np.flatnonzero(self.rules.expected & (self.rules.left > 0) & ~self.present)
        if len(missing):
            self.problems.add("complete", len(missing), f"the first is {self.rules.queries.known[missing[0]]}")

    def sameness(self) -> float | None:
        """See ``drift.sameness``; None where lists choose among fewer than twice the titles that their tops hold."""
        choice = self.rules.left[self.present].mean() if self.present.any() else 0.0
        if choice < 2 * self.rules.depth:
            return None
        return sameness(self.listed_in, np.maximum(self.personal - self.barred, self.listed_in))

    def _take_apart(self, name: str, table: pa.Table) -> Lists:
        if problem := layout_problem(name, table, self.rules.layout):
            message = (
                f"{problem}. Nothing was published; the staging folder is kept for a look until the night is "
                "published. Another program wrote this part: delete it and run the same command, which makes it again."
            )
            raise QualityGateError(message)
        if nulls := sum(column.null_count for column in table.columns):
            self.problems.add("finite", nulls, f"{name} holds a null")
        return take_apart(name, table, self.rules)

    def _check_rows(self, lists: Lists) -> None:
        self._report(lists, "finite", ~np.isfinite(lists.score), "has the score {score}")
        number = np.arange(len(lists.ids)) - lists.starts[lists.list_row] + 1
        self._report(lists, "ranks", lists.rank != number, "has rank {rank}, which does not follow the one before")
        rising = np.zeros(len(lists.ids), dtype=np.bool_)
        rising[1:] = (lists.score[1:] > lists.score[:-1]) & (lists.list_row[1:] == lists.list_row[:-1])
        self._report(lists, "order", rising, "scores above the row before it in the same list")

    def _check_ids(self, lists: Lists) -> None:
        unknown = (lists.answer < 0) | (lists.query < 0)[lists.list_row]
        self._report(lists, "known", unknown, "names {id} and title {answer}, one of which the bundle does not have")
        if self.rules.allowed is not None:
            denied = (lists.answer >= 0) & ~self.rules.allowed[lists.answer]
            self._report(lists, "denied", denied, "names title {answer} for {id}, which may not be recommended")
        if self.rules.not_itself:
            self._report(lists, "itself", lists.ids == lists.answers, "lists title {id} as similar to itself")

    def _check_repeats(self, lists: Lists) -> None:
        """Titles named twice and titles seen, by one sort of (list, title) keys."""
        keys = lists.list_row * self._width + lists.answer + 1
        ordered = np.sort(keys)
        twice = ordered[1:][(ordered[1:] == ordered[:-1]) & (ordered[1:] % self._width > 0)]
        if len(twice):
            again = np.isin(keys, twice) & ~_first_of_each(keys)
            self._report(lists, "repeats", again, "names title {answer} again for {id}")
        if self.rules.seen is not None:
            says = f"{self._shows}, which they have rated"
            self._check_barred(lists, self.rules.seen, keys, ordered, ("seen", says))
        if self.rules.blocked is not None:
            says = f"{self._shows}, which was to be kept from them"
            self._check_barred(lists, self.rules.blocked, keys, ordered, ("denied", says))

    def _check_barred(self, lists: Lists, seen: Seen, keys: Int64s, ordered: Int64s, report: tuple[str, str]) -> None:
        known = np.flatnonzero(lists.query >= 0)
        theirs = seen.take(lists.query[known] + FIRST_KNOWN)
        owner = np.repeat(known, np.diff(theirs.indptr))
        titles = theirs.items - FIRST_KNOWN
        self.barred += np.bincount(titles[~lists.fallback[lists.starts[owner]]], minlength=len(self.barred))
        shown = _in_common(owner * self._width + titles + 1, ordered)
        if len(shown):
            self._report(lists, report[0], np.isin(keys, shown), report[1])

    @property
    def _shows(self) -> str:
        """What a row says, in words."""
        asks_users = self.rules.layout.names[0] == "user_id"
        return "shows user {id} title {answer}" if asks_users else "lists user {answer} for title {id}"

    @property
    def _width(self) -> int:
        return len(self.rules.answers) + 1

    def _check_lists(self, lists: Lists) -> None:
        known = lists.query >= 0
        query, first = np.unique(lists.query[known], return_index=True)
        again = known.copy()
        again[np.flatnonzero(known)[first]] = self.present[query]
        self._report(lists, "repeats", _at(lists, again), "begins a second list of {id}")
        self.present[query] = True
        unasked = known & ~self.rules.expected[lists.query]
        self._report(lists, "asked", _at(lists, unasked), "begins a list of {id}, which was not asked for")
        longest = np.minimum(self.rules.k, self.rules.left[lists.query])
        wrong = known & ((lists.lengths > longest) | ((lists.lengths < longest) & (not self.rules.may_be_short)))
        self._report(lists, "lengths", _at(lists, wrong), "begins a list of another length than k and what is left")

    def _measure(self, lists: Lists) -> None:
        self.rows += len(lists.ids)
        self.lists += len(lists.starts)
        fallback, model = lists.fallback[lists.starts], ~lists.fallback[lists.starts]
        counted = self.rules.established[lists.query] & (lists.query >= 0)
        self.fallback += int(fallback.sum())
        self.established += int(counted.sum())
        self.established_fallback += int((counted & fallback).sum())
        ends = lists.starts + lists.lengths - 1
        several = model & (lists.lengths > 1)
        self.model_lists += int(several.sum())
        self.flat_lists += int((several & (lists.score[lists.starts] == lists.score[ends])).sum())
        self._count(lists, model)

    def _count(self, lists: Lists, model: Bools) -> None:
        known = lists.answer >= 0
        self.exposure += np.bincount(lists.answer[known], minlength=len(self.exposure))
        usable = ~lists.fallback & np.isfinite(lists.score)
        self.histogram += score_histogram(lists.score[usable])
        top = tops(lists.list_row, lists.rank, lists.answer, len(lists.starts), self.rules.depth)
        personal = top[model]
        self.listed_in += np.bincount(personal[personal >= 0], minlength=len(self.listed_in))
        self.personal += int((personal >= 0).any(axis=1).sum())
        self.top[lists.query[lists.query >= 0]] = top[lists.query >= 0]

    def _report(self, lists: Lists, gate: str, bad: Bools, says: str) -> None:
        if bad.any():
            row = int(np.argmax(bad))
            facts = {
                "id": lists.ids[row],
                "rank": lists.rank[row],
                "answer": lists.answers[row],
                "score": lists.score[row],
            }
            self.problems.add(gate, int(bad.sum()), f"{lists.name} row {row} {says.format(**facts)}")


def take_apart(name: str, table: pa.Table, rules: SideRules) -> Lists:
    """A part's columns and where its lists begin; rows that hold a null are left out."""
    if any(column.null_count for column in table.columns):
        table = table.drop_null()
    ids, rank, answers, score = (table.column(column).to_numpy() for column in rules.layout.names[:4])
    begins = np.append(True, ids[1:] != ids[:-1])[: len(ids)]
    starts = np.flatnonzero(begins)
    return Lists(
        name=name,
        ids=ids,
        rank=rank,
        answers=answers,
        score=score,
        fallback=np.asarray(pc.equal(table.column("source"), POPULAR)).astype(np.bool_),
        starts=starts,
        lengths=np.diff(np.append(starts, len(ids))),
        list_row=np.cumsum(begins) - 1,
        query=rules.queries.find(ids[starts]),
        answer=rules.answers.find(answers),
    )


def layout_problem(name: str, table: pa.Table, layout: pa.Schema) -> str:
    """How a part's columns differ from the layout's, in words; empty where they do not.

    A dictionary of strings is as good as strings.
    """
    got = [(f.name, f.type.value_type if pa.types.is_dictionary(f.type) else f.type) for f in table.schema]
    wanted = [(f.name, f.type) for f in layout]
    if got == wanted:
        return ""
    have, want = (", ".join(f"{column} {kind}" for column, kind in columns) for columns in (got, wanted))
    return f"{name}: its columns are {have}, expected {want}"


def _first_of_each(keys: Int64s) -> Bools:
    first = np.zeros(len(keys), dtype=np.bool_)
    first[np.unique(keys, return_index=True)[1]] = True
    return first


def _in_common(ascending: Int64s, wanted: Int64s) -> Int64s:
    """Those of ``wanted`` that stand in ``ascending``."""
    if not len(ascending):
        return wanted[:0]
    at = np.minimum(np.searchsorted(ascending, wanted), len(ascending) - 1)
    return wanted[ascending[at] == wanted]


def _at(lists: Lists, which: Bools) -> Bools:
    """(N,) bool: the first rows of the lists that are marked."""
    rows = np.zeros(len(lists.ids), dtype=np.bool_)
    rows[lists.starts[which]] = True
    return rows
