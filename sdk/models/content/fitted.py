"""What the content model has learnt, and the items that it holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from sdk.base.ids import ids_in, ids_of, title_rows
from sdk.base.types import Bools, Float32s, IdArray, Ids, Int64s
from sdk.models.content.matrix import SparseRows
from sdk.models.content.reading import Learnt, check_unique

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """What fitting learns of each field, and the fitted items.

    ``order`` sorts the items by item_id, and ``ids`` are they in that order: searched so, rows tie as ids do.
    ``together`` (N, N) says how much items are liked together with others: the rows of those whose row of the matrix is
    empty or, where the ``share`` of its part of a score is above 0, of all that somebody likes.
    """

    learnt: Mapping[str, Learnt]
    contents: SparseRows
    item_id: IdArray
    names: pa.Table  # item_id, title and, of films, year
    order: Int64s
    ids: IdArray
    together: SparseRows | None = None
    share: float = 0.0

    @classmethod
    def of(cls, learnt: Mapping[str, Learnt], contents: SparseRows, names: pa.Table) -> Fitted:
        """Of what was learnt, the items' rows, and a table of their ids and names."""
        item_id = ids_in(names["item_id"])
        order = np.argsort(item_id)
        return cls(learnt, contents, item_id, names, order, item_id[order])

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
        return self.contents.is_empty

    @property
    def matrix(self) -> csr_matrix:
        """(N, F) the items' rows."""
        return self.contents.whole

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
        more = Fitted.of(self.learnt, SparseRows.of(vstack([self.matrix, matrix], format="csr")), names)
        if self.together is None:
            return more
        together = self.together.whole.copy()
        together.resize(len(names), len(names))  # nobody has liked the new ones
        return replace(more, together=SparseRows.of(together))

    @property
    def shares(self) -> Float32s:
        """(N,) float32: of each item's scores, what is liking together's part."""
        if self.together is None:
            return np.zeros(len(self.item_id), np.float32)
        share = np.where(self.bare, 1, self.share) * ~self.together.is_empty
        return np.asarray(share, np.float32)

    def search_matrices(self) -> tuple[csr_matrix, csr_matrix]:
        """What a ``NeighbourIndex`` searches, ascending by item_id: items as they are asked for, and as they are found.

        They are the same, but where items are listed by what is liked together with them: then each item is found in a
        column of its own, too, where another says how much; both parts are asked for by their shares.
        """
        rows, shares = self.matrix[self.order], self.shares[self.order]
        if self.together is None or not shares.any():
            return rows, rows
        from scipy.sparse import csr_matrix, diags, hstack, identity

        liked = csr_matrix(diags(shares) @ self.together.whole[self.order][:, self.order])
        liked.eliminate_zeros()
        asked = hstack([diags(1 - shares) @ rows, liked], format="csr", dtype=np.float32)
        asked.sort_indices()
        return asked, hstack([rows, identity(rows.shape[0], np.float32, format="csr")], format="csr")
