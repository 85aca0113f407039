"""Why two items resemble each other."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sdk.base.description import Role
from sdk.base.types import Float32s, Id
from sdk.models.content.fields import PRESET, Roles
from sdk.models.content.tokens import SERIES_MARK

Row: TypeAlias = tuple[NDArray[np.integer[Any]], Float32s]


@dataclass(frozen=True, slots=True)
class Reasons:
    """What two titles share.

    Attributes:
        item_a: item_id.
        item_b: item_id.
        score: their cosine, 0 to 1 up to rounding.
        contributions: how much each field adds; the values sum to ``score``. Fields that add nothing are left out.
        shared: the shared tokens of each field, the weightiest first. Of ``title`` the series name and the words; of
            numbers, as ``year``, the centres of the buckets in which both lie.
        roles: of each field; MovieLens's and TMDB's have words of their own.
    """

    item_a: Id
    item_b: Id
    score: float
    contributions: Mapping[str, float]
    shared: Mapping[str, tuple[str, ...]]
    roles: Roles = field(default_factory=lambda: dict(PRESET))

    def describe(self, max_fields: int = 4, max_tokens: int = 3, leave_out: Collection[str] = ()) -> str:
        """The weightiest reasons in words: "director John Lasseter; cast Tim Allen, Tom Hanks".

        Args:
            max_fields: how many fields are named.
            max_tokens: how many shared things of each.
            leave_out: fields, or roles, that are not named.
        """
        words = _FIELD_WORDS if self.roles == PRESET else {n: _words(n, role) for n, role in self.roles.items()}
        kept = [name for name in words if not {name, self.roles[name]} & set(leave_out)]
        named = [name for name in kept if self.shared.get(name)]
        named.sort(key=lambda name: -self.contributions.get(name, 0.0))
        parts = (f"{words[name]} {', '.join(self.shared[name][:max_tokens])}" for name in named[:max_fields])
        return "; ".join(parts)


def _words(name: str, role: Role) -> str:
    """What stands before the things that are shared: "same brand:", "price around"."""
    column = name.replace("_", " ")
    return _ROLE_WORDS.get(role, "{}").format(column)


_ROLE_WORDS: Mapping[Role, str] = {
    "title": "name", "group": "same {}:", "text": "{} says", "continuous": "{} around", "time": "{} around",
}  # fmt: skip
_FIELD_WORDS = {
    "title": "title", "directors": "director", "cast": "cast", "crew": "crew", "keywords": "keywords", "tags": "tags",
    "genres": "genres", "companies": "made by", "overview": "overview says", "year": "years around",
}  # fmt: skip


def reasons(
    item_a: Id, item_b: Id, row_a: Row, row_b: Row, vocabulary: Mapping[str, Sequence[str]],
    roles: Roles = PRESET,
) -> Reasons:  # fmt: skip
    """Take the score of two rows apart.

    Args:
        item_a: item_id.
        item_b: item_id.
        row_a: columns and float32 values, as ``SparseRows.row`` gives them.
        row_b: the same.
        vocabulary: the tokens of each field; the fields follow each other over the F columns.
        roles: of each field.
    """
    both, at, beside = np.intersect1d(row_a[0], row_b[0], assume_unique=True, return_indices=True)
    products = row_a[1][at].astype(np.float64) * row_b[1][beside]
    order = np.lexsort((both, -products))
    columns, values = both[order], products[order]
    contributions, shared, start = {}, {}, 0
    for name, words in vocabulary.items():
        inside = (columns >= start) & (columns < start + len(words))
        if inside.any():
            contributions[name] = float(values[inside].sum())
            tokens = (words[column - start].removeprefix(SERIES_MARK) for column in columns[inside].tolist())
            shared[name] = tuple(dict.fromkeys(tokens))
        start += len(words)
    return Reasons(item_a, item_b, sum(contributions.values()), contributions, shared, dict(roles))
