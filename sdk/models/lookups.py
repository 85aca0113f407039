"""Embedding lookups that training takes apart: rows go in as leaves of the graph, and their gradients come out.

Left to autograd, each lookup's gradient is a tensor as large as the whole table. Here a chunk of a batch looks its
vectors up as leaves; ``sdk.training.steps`` asks for the leaves' gradients and adds them to the tables row by row.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor, nn


@dataclass(frozen=True, slots=True, eq=False)
class Lookup:
    """One lookup of a chunk.

    Attributes:
        table: the embedding it reads.
        ids: (C,) int64 rows of the table. Lookups by the same ids share the tensor.
        vectors: (C, D) float32, the rows: a leaf that wants a gradient.
        penalised: whether the L2 penalty on looked-up vectors counts them. It is left to whoever updates the table,
            since its gradient is a multiple of the row itself.
    """

    table: nn.Embedding
    ids: Tensor
    vectors: Tensor
    penalised: bool


@dataclass(frozen=True, slots=True, eq=False)
class Lookups:
    """The lookups of one chunk, in the order in which the model makes them."""

    made: list[Lookup] = field(default_factory=list)

    def take(self, table: nn.Embedding, ids: Tensor, *, penalised: bool) -> Tensor:
        """(C, D) float32 rows as a new leaf."""
        vectors = table.weight.detach().index_select(0, ids).requires_grad_()
        self.made.append(Lookup(table, ids, vectors, penalised))
        return vectors


def look_up(table: nn.Embedding, ids: Tensor, lookups: Lookups | None, *, penalised: bool = True) -> Tensor:
    """(C, D) float32 rows of a table: through ``lookups`` if given, else through autograd."""
    if lookups is not None:
        return lookups.take(table, ids, penalised=penalised)
    vectors: Tensor = table(ids)
    return vectors
