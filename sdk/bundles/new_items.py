"""Items that are newer than a bundle: listed by their content among those it was trained with; nothing is trained.

To a model a new item is the mean of the known items that are most like it by content, the likest weighing most: of what
ranks lists, and of what it adds to the history of who has it. An item that shares nothing with a known one stays
unknown to every model.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from sdk.base.errors import UsageError
from sdk.base.ids import ids_in, rows_of
from sdk.base.types import Float32s, IdArray, Int64s
from sdk.features.tables import FIRST_KNOWN, UNKNOWN, EncodedTable

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

    from sdk.bundles.bundle import Bundle
    from sdk.models.content.model import ContentModel

NEAREST = 20
"""Known items that a new one is the mean of, at most."""


@dataclass(frozen=True, eq=False)
class NewItems:
    """Items beside a bundle's.

    Attributes:
        bundle: the bundle.
        table: (N,) rows in the form of the bundle's items, ascending by id, none of them the bundle's.
    """

    bundle: Bundle
    table: pa.Table

    @classmethod
    def of(cls, bundle: Bundle, table: pa.Table) -> NewItems:
        """Those of some items, in the form of the bundle's, that the bundle does not have.

        Raises:
            UsageError: the bundle has no content model.
        """
        if not bundle.has_content:
            message = f"{bundle.path}: trained without the content model, by which new items are listed; train it with --models {','.join(bundle.info.models)},content"  # noqa: E501
            raise UsageError(message)
        new = rows_of(bundle.encoded_items.known_ids, ids_in(table["item_id"])) < 0
        return cls(bundle, table.filter(pa.array(new)).sort_by("item_id").combine_chunks())

    @property
    def ids(self) -> IdArray:
        """(N,) ids, ascending."""
        return ids_in(self.table["item_id"])

    @cached_property
    def likeness(self) -> csr_matrix:
        """(N, R_item) float32: the share of each of the bundle's item rows in a new item; rows sum to 1, or to 0."""
        from scipy.sparse import csr_matrix

        content, known = self.bundle.content, self.bundle.encoded_items
        order = rows_of(known.known_ids, content.item_id) + FIRST_KNOWN
        cosines = (content.transform(self.table) @ content.matrix.T).tocsr()
        rows: list[int] = []
        columns, values = [np.zeros(0, np.int64)], [np.zeros(0, np.float32)]
        for row in range(cosines.shape[0]):
            part = slice(cosines.indptr[row], cosines.indptr[row + 1])
            at, found = order[cosines.indices[part]], cosines.data[part]
            best = np.lexsort((at, -found))[:NEAREST]
            best = best[found[best] > 0]
            rows += [row] * len(best)
            columns.append(at[best])
            values.append(found[best] / max(found[best].sum(), 1e-12))
        shares = np.concatenate(values).astype(np.float32)
        return csr_matrix((shares, (rows, np.concatenate(columns))), (len(self.table), len(known)))

    def mean(self, values: Float32s, items: EncodedTable) -> Float32s:
        """(R_item + N, ...) float32: what a model holds of each item row, by the rows of a table with the new ones too.

        Args:
            values: (R_item, ...) by the bundle's rows, or already by the rows of ``items``.
            items: the table with both.
        """
        old, new = self.moved(items), items.index_of(self.ids)
        ours = values if len(values) == len(self.bundle.encoded_items) else values[old]
        flat = ours.reshape(len(ours), -1)
        found = np.zeros((len(items), flat.shape[1]), np.float32)
        found[:FIRST_KNOWN] = flat[:FIRST_KNOWN]
        found[old] = flat
        found[new] = self.likeness @ flat
        bare = np.diff(self.likeness.indptr) == 0
        found[new[bare]] = flat[UNKNOWN]
        return found.reshape(len(items), *values.shape[1:])

    def moved(self, items: EncodedTable) -> Int64s:
        """(R_item,) the row that each of the bundle's item rows has in a table with the new ones, too."""
        known = items.index_of(self.bundle.encoded_items.known_ids)
        return np.concatenate([np.arange(FIRST_KNOWN), known])

    def content(self) -> ContentModel:
        """The bundle's content model with these items in it."""
        return self.bundle.content.with_items(self.table)
