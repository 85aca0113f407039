"""A part's lists held to the rules that were asked for: how many share a group, and how many are new or pinned."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy.sparse import csr_matrix

from sdk.base.types import Bools, Int64s
from sdk.features.seen import Seen
from sdk.features.tables import FIRST_KNOWN
from sdk.scoring.rules import ItemRules


@dataclass(frozen=True, slots=True, eq=False)
class ListedItems:
    """The lists of one part, by rows of the encoded tables.

    Attributes:
        user: (L,) int64, whose each list is.
        starts: (L,) int64, first row of each list.
        lengths: (L,) int64.
        owner: (N,) int64, the list of each row.
        item: (N,) int64.
    """

    user: Int64s
    starts: Int64s
    lengths: Int64s
    owner: Int64s
    item: Int64s


@dataclass(frozen=True, eq=False)
class RuleAudit:
    """What lists under rules are held to.

    Attributes:
        rules: the rules.
        allowed: (R,) bool, the items that may be listed.
        barred: what must not be given to whom.
    """

    rules: ItemRules
    allowed: Bools
    barred: tuple[Seen, ...]
    _groups: csr_matrix = field(init=False)

    def __post_init__(self) -> None:
        rules = self.rules
        shape = len(rules.wanted), len(rules.caps)
        groups = csr_matrix((np.ones(len(rules.groups), np.int32), rules.groups, rules.starts), shape)
        object.__setattr__(self, "_groups", groups)

    def broken(self, lists: ListedItems) -> Bools:
        """(L,) bool: lists with more items of a group than may be, or fewer new or pinned ones than there could be."""
        used = self._used(lists)
        over = np.asarray((used > self.rules.caps).sum(axis=1)).ravel() > 0 if used.shape[1] else np.zeros(
            len(lists.user), np.bool_
        )  # fmt: skip
        new = np.bincount(lists.owner[self.rules.wanted[lists.item]], minlength=len(lists.user))
        few = np.flatnonzero(new < np.minimum(self.rules.asked.at_least.count, lists.lengths))
        over[few[[bool((self._open(lists, used, at) & self.rules.wanted).any()) for at in few.tolist()]]] = True
        return over

    def could_be_longer(self, lists: ListedItems, which: Bools) -> Bools:
        """(L,) bool: of the marked lists, those that another item could have joined."""
        used, found = self._used(lists), np.zeros(len(which), np.bool_)
        for at in np.flatnonzero(which).tolist():
            found[at] = self._open(lists, used, at).any()
        return found

    def _used(self, lists: ListedItems) -> csr_matrix:
        """(L, G): how many items of each list are in each group."""
        listed = csr_matrix(
            (np.ones(len(lists.item), np.int32), lists.item, np.append(lists.starts, len(lists.item))),
            (len(lists.user), len(self.rules.wanted)),
        )
        return listed @ self._groups

    def _open(self, lists: ListedItems, used: csr_matrix, at: int) -> Bools:
        """(R,) bool: the items that could still join a list."""
        full = (np.asarray(used[at].toarray()).ravel() >= self.rules.caps).astype(np.int32)
        found: Bools = self.allowed & (self._groups @ full == 0)
        found[:FIRST_KNOWN] = False
        found[lists.item[lists.starts[at] : lists.starts[at] + lists.lengths[at]]] = False
        for barred in self.barred:
            found[barred.row(int(lists.user[at]))] = False
        return found
