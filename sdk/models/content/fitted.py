"""What the content model has learnt, and the items that it holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from sdk.base.ids import ids_in, ids_of, title_rows
from sdk.base.types import Bools, IdArray, Ids, Int64s
from sdk.models.content.reading import Learnt, check_unique

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """What fitting learns of each field, and the fitted items.

    ``order`` sorts the items by item_id, and ``ids`` are they in that order: searched so, rows tie as ids do.
    ``together`` (N, N) has the rows of items whose row of the matrix is empty.
    """

    learnt: Mapping[str, Learnt]
    matrix: csr_matrix
    item_id: IdArray
    names: pa.Table  # item_id, title and, of films, year
    order: Int64s
    ids: IdArray
    together: csr_matrix | None = None

    @classmethod
    def of(cls, learnt: Mapping[str, Learnt], matrix: csr_matrix, names: pa.Table) -> Fitted:
        """Of what was learnt, the items' rows, and a table of their ids and names."""
        item_id = ids_in(names["item_id"])
        order = np.argsort(item_id)
        return cls(learnt, matrix, item_id, names, order, item_id[order])

    def rows(self, item_id: Ids) -> Int64s:
        """(B,) int64 rows of the matrix."""
        return self.order[title_rows(self.ids, ids_of(item_id, "item_id", self.ids))]

    @property
    def vocabulary(self) -> dict[str, list[str]]:
        """The words of each field."""
        return {field: list(learnt.words) for field, learnt in self.learnt.items()}

    @property
    def bare(self) -> Bools:
        """(N,) True where nothing is known of an item's content."""
        return np.diff(self.matrix.indptr) == 0

    def extended(self, matrix: csr_matrix, items: pa.Table) -> Fitted:
        """The same with more items, whose rows are given.

        Raises:
            DataError: an item_id occurs twice.
        """
        from scipy.sparse import vstack

        columns = [
            items[name].cast(kind) for name, kind in zip(self.names.column_names, self.names.schema.types, strict=True)
        ]
        names = pa.concat_tables([self.names, pa.table(columns, schema=self.names.schema)])
        check_unique(names)
        more = Fitted.of(self.learnt, vstack([self.matrix, matrix], format="csr"), names)
        if self.together is None:
            return more
        together = self.together.copy()
        together.resize(len(names), len(names))  # nobody has liked the new ones
        return replace(more, together=together)

    def search_matrices(self) -> tuple[csr_matrix, csr_matrix]:
        """What a ``NeighbourIndex`` searches, ascending by item_id: items as they are asked for, and as they are found.

        They are the same, but where items without content are listed by what is liked together with them: then each
        item is found in a column of its own, too, where such an item says how much.
        """
        rows = self.matrix[self.order]
        if self.together is None:
            return rows, rows
        from scipy.sparse import hstack, identity

        places = identity(rows.shape[0], np.float32, format="csr")
        asked = hstack([rows, self.together[self.order][:, self.order]], format="csr")
        asked.sort_indices()
        return asked, hstack([rows, places], format="csr")
