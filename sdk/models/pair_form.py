"""The pair form: what every model lowers to, so that one engine scores them all.

    score(u, i) = tail(relu(A[u] + B[i] + W z)) + <p[u], q[i]> + a[u] + b[i],   z_k = <P_f[u], Q_g[i]>

with k running over all pairs of a user field f and an item field g. It is algebra on a trained network, not an
approximation: A and B are the first top-MLP layer's user-only and item-only parts, W its columns for the user-item
interactions. A model leaves out what it does not have.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sdk.base.errors import ScoreError
from sdk.base.types import Bools, Float32s, Int64s


@dataclass(frozen=True, slots=True, eq=False)
class Side:
    """One side of the pair form, users or items: everything that depends on that side alone.

    Attributes:
        bias: (R,) float32, a or b.
        dot: (R, d) float32, p or q; d may be 0.
        hidden: (R, H) float32, A or B; H is 0 in a model without an MLP.
        fields: (R, F, D) float32, P or Q; F is 0 in a model without interactions.
    """

    bias: Float32s
    dot: Float32s
    hidden: Float32s
    fields: Float32s

    def __len__(self) -> int:
        return len(self.bias)

    @classmethod
    def plain(cls, bias: Float32s, dot: Float32s | None = None) -> Side:
        """A side of a model without an MLP: a bias, and perhaps a dot path."""
        none = np.zeros((len(bias), 0), np.float32)
        return cls(bias, none if dot is None else dot, none, none[:, :, None])

    @property
    def parts(self) -> tuple[Float32s, Float32s, Float32s, Float32s]:
        """The four parts, in their order."""
        return self.bias, self.dot, self.hidden, self.fields

    def take(self, rows: Int64s | slice) -> Side:
        """The given rows."""
        return Side(*(part[rows] for part in self.parts))

    def check(self, side: str, rows: Int64s | None = None) -> None:
        """Refuse a side with a NaN or an infinity in it.

        Args:
            side: what messages call it.
            rows: (R,) what they call its rows; None: by their places.

        Raises:
            ScoreError: names the side, the part and the first bad row.
        """
        for name, part in zip(("bias", "dot", "hidden", "fields"), self.parts, strict=True):
            bad = np.flatnonzero(~np.isfinite(part.reshape(len(self), -1)).all(axis=1))
            if len(bad):
                row = bad[0] if rows is None else rows[bad[0]]
                raise ScoreError(
                    f"{side} row {row}: its {name!r} part holds a NaN or an infinity ({len(bad)} such rows); "
                    "the model did not train properly. Train it again, with a lower learning rate."
                )


@dataclass(frozen=True, slots=True, eq=False)
class Head:
    """What depends on neither side.

    Attributes:
        cross: (H, F_user * F_item) float32, W; the item's field runs fastest.
        tail: the layers after the first, each (weight (out, in), bias (out,)); relu between them, the last is linear
            with one output. Empty in a model without an MLP.
    """

    cross: Float32s
    tail: tuple[tuple[Float32s, Float32s], ...]

    @property
    def has_mlp(self) -> bool:
        """Whether there is an MLP at all."""
        return bool(self.tail)


NO_MLP = Head(np.zeros((0, 0), np.float32), ())
"""The head of a model whose scores are a dot product and biases."""


@dataclass(frozen=True, slots=True, eq=False)
class PairForm:
    """A lowered model: two sides, users by user_index and items by item_index, and a head.

    Attributes:
        users: by user_index.
        items: by item_index.
        head: what depends on neither.
        has_history: (R_user,) bool, True where the user's own ratings are in their row, so that it is personal even
            where the user's id has no embedding; None in a form that knows users by their ids alone.
    """

    users: Side
    items: Side
    head: Head
    has_history: Bools | None = None

    def check(self) -> None:
        """Refuse a model whose numbers are not finite.

        Raises:
            ScoreError: names the side and the first bad row.
        """
        self.users.check("user")
        self.items.check("item")
        weights = [self.head.cross, *(part for layer in self.head.tail for part in layer)]
        if not all(np.isfinite(weight).all() for weight in weights):
            message = "the top MLP holds a NaN or an infinity; train the model again, with a lower learning rate"
            raise ScoreError(message)

    def score_pairs(self, user_index: Int64s, item_index: Int64s) -> Float32s:
        """(N,) float32 logits of N (user, item) pairs. The plain statement of the formula, in NumPy."""
        user, item = self.users.take(user_index), self.items.take(item_index)
        score = user.bias + item.bias + np.einsum("nd,nd->n", user.dot, item.dot)
        if self.head.has_mlp:
            z = np.einsum("nfd,ngd->nfg", user.fields, item.fields).reshape(len(score), self.head.cross.shape[1])
            hidden = user.hidden + item.hidden + z @ self.head.cross.T
            for weight, bias in self.head.tail:
                hidden = np.maximum(hidden, 0) @ weight.T + bias
            score = score + hidden[:, 0]
        return np.asarray(score, dtype=np.float32)
