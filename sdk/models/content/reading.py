"""One column of items to one block of the content model's matrix: what is learnt of it, and what is read by that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa

from sdk.base.config import ContentConfig
from sdk.base.errors import DataError, MissingColumnError
from sdk.base.ids import ids_in
from sdk.base.types import Float64s, Table
from sdk.models.content import fields
from sdk.models.content.fields import PRESET, Roles
from sdk.models.content.matrix import smooth_idf, tfidf_block
from sdk.models.content.tokens import TABLE, Tokens, as_vocabulary, field_tokens

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

_CASELESS = frozenset({"keywords", "tags"})  # of films


class Learnt(NamedTuple):
    """What is learnt of a column.

    Attributes:
        words: its vocabulary, in the order of its block's columns.
        idf: (V,) float64, theirs.
        edges: of numbers, the centres of the buckets; None of others, and of years.
    """

    words: Sequence[str]
    idf: Float64s
    edges: Sequence[float] | None = None


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads items by what their columns mean.

    Attributes:
        config: its weights, and what is read.
        roles: the columns -> their roles.
    """

    config: ContentConfig
    roles: Roles

    @property
    def is_open(self) -> bool:
        """Whether the configuration leaves the weights open.

        Raises:
            ConfigError: it names a column that is not read.
        """
        return fields.weights_of(self.config, self.roles) is None

    @property
    def weights(self) -> Mapping[str, float]:
        """The weight of each column that has one, in the order of the blocks."""
        given = self.config.weights if not self.is_open else {n: fields.WEIGHTS[r] for n, r in self.roles.items()}
        return {name: given[name] for name in self.roles if given.get(name, 0) > 0}

    def weighing(self, weights: Mapping[str, float]) -> Reader:
        """The same with other weights; none at all reads nothing."""
        if not any(weights.values()):
            return Reader(self.config, {})
        return Reader(replace(self.config, weights=weights), self.roles)

    def layout(self, items: Table) -> pa.Schema:
        """What the columns are cast to; ``item_id`` stays text where that is what an Arrow table has."""
        is_text = (
            isinstance(items, pa.Table)
            and "item_id" in items.column_names
            and pa.types.is_string(items["item_id"].type)
        )
        return fields.column_types(self.roles).insert(0, pa.field("item_id", pa.string() if is_text else pa.int64()))

    def check(self, items: pa.Table) -> None:
        """Refuse a table that is empty, names an item twice or lacks what names it.

        Raises:
            MissingColumnError: a column is missing.
            DataError: the table is empty, or an item_id occurs twice.
        """
        for name in self.named:
            if name not in items.column_names:
                raise MissingColumnError(TABLE, name, items.column_names)
        check_unique(items)

    @property
    def named(self) -> list[str]:
        """The columns that name an item."""
        return ["item_id", "title", *(["year"] if self.roles == PRESET else [])]

    def learn(self, items: pa.Table, field: str) -> tuple[Learnt, csr_matrix]:
        """What there is to learn of a column, and the items' rows of it."""
        edges = None
        if self._is_number(field) and self.roles != PRESET:  # the films' one number is a year
            edges = fields.edges_of(field, fields.numbers(items[field]))
        tokens = self._tokens(items, field, edges)
        words = self._vocabulary(tokens, field)
        learnt = Learnt(words, smooth_idf(tokens, words, len(items), soft=self._is_number(field)), edges)
        return learnt, self._block(tokens, learnt, field, len(items))

    def block(self, items: pa.Table, field: str, learnt: Learnt) -> csr_matrix:
        """(N, V) unit rows of a column, by what was learnt of it."""
        return self._block(self._tokens(items, field, learnt.edges), learnt, field, len(items))

    def _is_number(self, field: str) -> bool:
        return self.roles[field] in fields.NUMBERS

    def _tokens(self, items: pa.Table, field: str, edges: Sequence[float] | None) -> Tokens:
        is_film = self.roles == PRESET
        first, lower = self.config.max_cast if is_film and field == "cast" else None, is_film and field in _CASELESS
        return field_tokens(items, field, self.roles[field], first=first, lower=lower, edges=edges)

    def _vocabulary(self, tokens: Tokens, field: str) -> list[str]:
        """None of a column that says the same of every item, or something else of each: it says nothing of two."""
        role = self.roles[field]
        words = as_vocabulary(tokens, self.config.min_document_count if role == "text" else 1)
        return [] if role in fields.ONE and len(words) in (1, len(tokens.row)) else words

    def _block(self, tokens: Tokens, learnt: Learnt, field: str, num_items: int) -> csr_matrix:
        return tfidf_block(tokens, list(learnt.words), learnt.idf, num_items, soft=self._is_number(field))


def check_unique(items: pa.Table) -> None:
    """Refuse a table that is empty or names an item twice.

    Raises:
        DataError: it does.
    """
    values, counts = np.unique(ids_in(items["item_id"]), return_counts=True)
    if counts.max(initial=0) != 1:
        wrong = f"item_id {values[counts.argmax()]} occurs {counts.max()} times" if len(items) else "the table is empty"
        raise DataError(f"items: {wrong}, expected one or more titles, each once. Mend the table.")
