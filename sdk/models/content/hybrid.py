"""Look-alikes by what items are and by who likes them, in one score.

score(a, b) = (1 - share) cosine(a, b) + share together(a, b), with together's values as they are
(``sdk.models.content.together``): they are small where few people like both, so content decides there, and an item
that nobody likes has its content list. Share and shrink are chosen on likes that were held out: one half of the
training part's users say who likes what together, the lists are held to the other half's, and the other way round.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from sdk.base.types import Float32s, Float64s
from sdk.models.content.choice import Yardstick
from sdk.models.content.together import SHRINK, Likes, co_liked

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

HYBRID = "hybrid"
"""The ``source`` of a list by content and by who likes both."""

_SHRINKS = (3.0, 10.0, 30.0, 100.0, 300.0)
_RATIOS = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0)  # of together's weight to content's
_WORTH = 0.03  # of the best NDCG: what lists nearer to content are worth
_ROUNDING = 1e-6  # of a float32 score of at most 1


@dataclass(frozen=True, slots=True)
class LikedShare:
    """How much liking together counts in a look-alike's score, and how that was chosen.

    Attributes:
        share: of together's part, 0 to below 1; 0 lists by content alone where an item has any.
        shrink: of together.
        num_items: items whose lists were measured; 0 where too few likes were there to choose by.
        by_content: NDCG@20 of lists by content alone on held-out likes.
        ndcg: of those chosen.
    """

    share: float = 0.0
    shrink: float = SHRINK
    num_items: int = 0
    by_content: float | None = None
    ndcg: float | None = None

    def __post_init__(self) -> None:
        if not (0 <= self.share < 1 and 0 <= self.shrink < np.inf):
            raise ValueError(f"share {self.share}, shrink {self.shrink}: expected 0 to below 1, and at least 0")

    def __str__(self) -> str:
        if self.ndcg is None:
            return "by content alone, as too few likes are there to choose by"
        chosen = f"share {self.share:.3g} of liking together, shrink {self.shrink:g}"
        return f"{chosen} (NDCG@20 {self.by_content:.4f} by content alone, {self.ndcg:.4f} now)"

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "share": self.share, "shrink": self.shrink, "num_items": self.num_items,
            "ndcg_at_20_by_content": self.by_content, "ndcg_at_20": self.ndcg,
        }  # fmt: skip

    @classmethod
    def from_json(cls, words: Mapping[str, Any]) -> LikedShare:
        """What ``to_json`` gave.

        Raises:
            KeyError: a value is missing.
            ValueError: one is none of its kind.
        """
        measured = words["ndcg_at_20_by_content"], words["ndcg_at_20"]
        return cls(float(words["share"]), float(words["shrink"]), int(words["num_items"]), *measured)


def liked_part(score: float, cosine: float, share: float) -> float:
    """What liking together adds to a hybrid score; 0 where it is no more than rounding."""
    added = score - (1 - share) * cosine
    return added if added > _ROUNDING else 0.0


class _Half(NamedTuple):
    """Lists of some items by one half of the users, held to the other half's likes.

    Attributes:
        yardstick: the other half's.
        cosine: (Q, C) float32.
        together: shrink -> (Q, C) float32.
    """

    yardstick: Yardstick
    cosine: Float32s
    together: Mapping[float, Float32s]

    def ndcg(self, ratio: float, shrink: float) -> Float64s:
        """(Q,) NDCG@20 of each list."""
        return self.yardstick.ndcg(self.cosine + np.float32(ratio) * self.together[shrink])


def choose_share(matrix: csr_matrix, likes: Likes) -> LikedShare:
    """The smallest shrink, and with it the smallest share, whose NDCG@20 is near enough to the best one.

    Args:
        matrix: (N, V) unit rows, the items' content.
        likes: of the training part, their items rows of the matrix.
    """
    halves = [half for learnt, held in _split(likes) if (half := _half(matrix, likes, learnt, held)) is not None]
    if not halves:
        return LikedShare()

    settings = [(shrink, ratio) for shrink in _SHRINKS for ratio in _RATIOS]
    found = [np.concatenate([half.ndcg(ratio, shrink) for half in halves]) for shrink, ratio in settings]
    best = max(found, key=lambda each: float(each.mean()))
    (shrink, ratio), chosen = next(each for each in zip(settings, found, strict=True) if _near(each[1], best))
    by_content, now = (round(float(each.mean()), 4) for each in (found[0], chosen))
    return LikedShare(ratio / (1 + ratio), shrink, len(best), by_content, now)


def _near(found: Float64s, best: Float64s) -> bool:
    """Whether (Q,) lists are the best ones' but for noise, or for what content is worth, whose reasons can be read."""
    missing = best - found
    return bool(missing.mean() <= max(2 * missing.std() / np.sqrt(len(missing)), _WORTH * best.mean()))


def _split(likes: Likes) -> Iterator[tuple[Likes, Likes]]:
    """The likes of one half of the users, and those of the other; and the other way round."""
    users = np.unique(likes.user)
    first = np.isin(likes.user, np.random.default_rng(0).permutation(users)[: len(users) // 2])
    halves = [Likes(likes.user[kept], likes.item[kept]) for kept in (first, ~first)]
    yield halves[0], halves[1]
    yield halves[1], halves[0]


def _half(matrix: csr_matrix, likes: Likes, learnt: Likes, held: Likes) -> _Half | None:
    size = matrix.shape[0]
    yardstick = Yardstick.of(held, np.bincount(likes.item, minlength=size))
    if yardstick is None:
        return None
    some, query = matrix[yardstick.candidates], yardstick.candidates[yardstick.query]
    cosine = np.asarray((some[yardstick.query] @ some.T).toarray(), np.float32)
    liked = learnt.thinned().matrix(size)
    together = {each: co_liked(liked, query, each)[:, yardstick.candidates].toarray() for each in _SHRINKS}
    return _Half(yardstick, cosine, together)
