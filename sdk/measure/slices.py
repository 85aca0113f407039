"""Parts of the users and of the items that are measured on their own, cut by rules that fit any data set.

Users: those with a training rating, by thirds of the measured users: light, middle, heavy. Items: by thirds of the
training ratings: head, the fewest items that hold a third of them; middle, those that hold the next third; tail, the
other rated ones. Users and items without a training rating are new. Equal counts never part, so thirds are rough on
small data, and a part that stays empty is left out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sdk.base.types import Bools, Int64s

USERS, ITEMS = "users", "items"


@dataclass(frozen=True, slots=True, eq=False)
class Slice:
    """One part.

    Attributes:
        name: e.g. ``light users``.
        side: ``users`` or ``items``.
        rule: its border in words: how many training ratings the users or items have.
        members: (R,) bool over the rows of the side's table.
    """

    name: str
    side: str
    rule: str
    members: Bools


def user_slices(counts: Int64s, measured: Int64s) -> tuple[Slice, ...]:
    """Light, middle, heavy and new users.

    Args:
        counts: (R,) int64 training ratings of each user row.
        measured: (B,) int64 user rows, unique: the users whose thirds set the borders.
    """
    known = np.sort(counts[measured])
    known = known[known > 0]
    if not len(known):
        return _present(USERS, measured, {"new users": ("none", counts == 0)})
    low, high = (int(known[-(-len(known) * part // 3) - 1]) for part in (1, 2))
    rules = {
        "light users": (f"1 to {low:,}", (counts > 0) & (counts <= low)),
        "middle users": (f"{low + 1:,} to {high:,}", (counts > low) & (counts <= high)),
        "heavy users": (f"over {high:,}", counts > high),
        "new users": ("none", counts == 0),
    }
    return _present(USERS, measured, rules)


def item_slices(counts: Int64s, measured: Int64s) -> tuple[Slice, ...]:
    """Head, middle, tail and new items.

    Args:
        counts: (R,) int64 training ratings of each item row.
        measured: (B,) int64 item rows: a part that holds none of them is left out.
    """
    falling = np.sort(counts)[::-1]
    held = np.cumsum(falling)
    head, middle = (int(falling[np.searchsorted(held, held[-1] * part / 3)]) for part in (1, 2))
    rules = {
        "head items": (f"{head:,} or more", counts >= max(head, 1)),
        "middle items": (f"{middle:,} to {head - 1:,}", (counts >= max(middle, 1)) & (counts < head)),
        "tail items": (f"1 to {middle - 1:,}", (counts > 0) & (counts < middle)),
        "new items": ("none", counts == 0),
    }
    return _present(ITEMS, measured, rules)


def _present(side: str, measured: Int64s, rules: dict[str, tuple[str, Bools]]) -> tuple[Slice, ...]:
    every = (Slice(name, side, rule, members) for name, (rule, members) in rules.items())
    return tuple(part for part in every if part.members[measured].any())
