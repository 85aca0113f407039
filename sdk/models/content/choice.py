"""What a column of each role weighs in the content model: chosen by what the people of the training part like together.

Content knows nothing of ratings, so all of the training part's likes are news to it. Of some items the nearest by
content are ranked, and held to the items that are liked together with them: NDCG@20, whose gains are
``sdk.models.content.together``'s (``Yardstick``). Each role's weights are multiplied by one number of a small grid,
role by role, twice over. The test part is never looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from sdk.base.description import Role
from sdk.base.types import Float32s, Float64s, Int64s
from sdk.models.content.together import Likes, co_liked

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

_GRID = (0.0, 0.5, 2.0, 4.0)
_ROUNDS = 2
_K = 20
_FEWEST, _QUERIES, _CANDIDATES, _USERS = 20, 200, 5000, 20_000
_BETTER = 1e-3  # a difference of NDCG that counts
_JITTER = 1e-5  # parts equal cosines by chance, as no row number is better than another


@dataclass(frozen=True, slots=True)
class WeightChoice:
    """How the weights were chosen.

    Attributes:
        num_items: items whose neighbours were measured.
        before: NDCG@20 with the weights that stood before.
        after: with those chosen.
        factors: role -> what its columns' weights were multiplied by.
    """

    num_items: int
    before: float
    after: float
    factors: Mapping[str, float]

    def __str__(self) -> str:
        return f"NDCG@20 of {self.num_items} items {self.before:.4f} before the choice, {self.after:.4f} now"

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "num_items": self.num_items, "ndcg_at_20_before": self.before, "ndcg_at_20": self.after,
            "factors": dict(self.factors),
        }  # fmt: skip


class Yardstick(NamedTuple):
    """Some items, and which others they are liked together with: lists of them are held to that.

    Attributes:
        candidates: (C,) rows of the items that are ranked, ascending.
        query: (Q,) places among the candidates.
        gain: (Q, C) float32.
        ideal: (Q,) float64, the best DCG.
        jitter: (C,) float32.
    """

    candidates: Int64s
    query: Int64s
    gain: Float32s
    ideal: Float64s
    jitter: Float32s

    @classmethod
    def of(cls, likes: Likes, count: Int64s) -> Yardstick | None:
        """By some likes, among the items of largest (N,) counts; None where too few are liked together with others."""
        rng = np.random.default_rng(0)
        candidates = np.sort(np.argsort(-count, kind="stable")[:_CANDIDATES])
        candidates = candidates[count[candidates] > 0]
        query, gain = _gains(likes, candidates, len(count), rng)
        if len(query) < _FEWEST:
            return None
        ideal = _dcg(-np.sort(-gain, axis=1)[:, :_K])
        jitter = (rng.permutation(len(candidates)) / len(candidates) * _JITTER).astype(np.float32)
        return cls(candidates, query, gain, ideal, jitter)

    def ndcg(self, score: Float32s) -> Float64s:
        """(Q,) NDCG@20 of the neighbours by (Q, C) scores, which are overwritten."""
        score += self.jitter
        score[np.arange(len(self.query)), self.query] = -1
        k = min(_K, score.shape[1])
        best = np.argpartition(-score, k - 1, axis=1)[:, :k]
        best = np.take_along_axis(best, np.argsort(-np.take_along_axis(score, best, 1), axis=1), 1)
        return np.asarray(_dcg(np.take_along_axis(self.gain, best, 1)) / self.ideal)


def _dcg(gain: Float32s) -> Float64s:
    """(Q,) of (Q, k) gains in the order of ranks."""
    found: Float64s = gain.astype(np.float64) @ (1 / np.log2(np.arange(gain.shape[1]) + 2))
    return found


def _gains(likes: Likes, candidates: Int64s, num_items: int, rng: np.random.Generator) -> tuple[Int64s, Float32s]:
    """Some candidates that are liked together with others, and with which."""
    users = np.unique(likes.user)
    users = np.sort(rng.choice(users, _USERS, replace=False)) if len(users) > _USERS else users
    place = np.full(num_items, -1)
    place[candidates] = np.arange(len(candidates))
    kept = np.isin(likes.user, users) & (place[likes.item] >= 0)
    liked = Likes(likes.user[kept], place[likes.item[kept]]).thinned().matrix(len(candidates))
    often = np.flatnonzero(np.asarray(liked.sum(axis=0)).ravel() > 1)
    query = np.sort(rng.choice(often, min(_QUERIES, len(often)), replace=False))
    gain: Float32s = co_liked(liked, query).toarray()
    told = gain.any(axis=1)
    return query[told], gain[told]


class _Trial(NamedTuple):
    """What weights are tried on.

    Attributes:
        yardstick: some items, and what they are liked with.
        cosine: role -> (Q, C) float32 sums over its columns of weight times cosine with the candidates.
        present: role -> (C,) float64 sums of its columns' weights, where an item has them.
    """

    yardstick: Yardstick
    cosine: Mapping[Role, Float32s]
    present: Mapping[Role, Float64s]

    def ndcg(self, factors: Mapping[Role, float]) -> float:
        """Mean NDCG@20 of the neighbours by these factors."""
        shape = self.yardstick.gain.shape
        score, length = np.zeros(shape, np.float32), np.zeros(shape[1])
        for role, factor in factors.items():
            score += np.float32(factor) * self.cosine[role]
            length += factor * self.present[role]
        score /= np.sqrt(np.maximum(length, 1e-9)).astype(np.float32)
        return float(self.yardstick.ndcg(score).mean())


def choose_weights(
    blocks: Mapping[str, csr_matrix], roles: Mapping[str, Role], weights: Mapping[str, float], likes: Likes
) -> tuple[dict[str, float], WeightChoice | None]:
    """The weight of each column, and how it was chosen; the weights as given and None where there are too few likes.

    Args:
        blocks: column -> (N, V) unit rows.
        roles: of each column.
        weights: of each column, above 0.
        likes: of the training part.
    """
    kinds = list(dict.fromkeys(roles[name] for name, block in blocks.items() if block.nnz))
    trial = _trial(blocks, roles, weights, likes) if kinds else None
    if trial is None:
        return dict(weights), None
    factors: dict[Role, float] = dict.fromkeys(kinds, 1.0)
    before = best = trial.ndcg(factors)
    for _ in range(_ROUNDS):
        for kind in kinds:
            for factor in _GRID:
                tried = {**factors, kind: factor}
                if any(tried.values()) and (found := trial.ndcg(tried)) > best + _BETTER:
                    best, factors = found, tried
    chosen = {name: weight * factors.get(roles[name], 1.0) for name, weight in weights.items()}
    named = {str(kind): factor for kind, factor in factors.items()}
    return chosen, WeightChoice(len(trial.yardstick.query), round(before, 4), round(best, 4), named)


def _trial(
    blocks: Mapping[str, csr_matrix], roles: Mapping[str, Role], weights: Mapping[str, float], likes: Likes
) -> _Trial | None:
    yardstick = Yardstick.of(likes, np.bincount(likes.item, minlength=next(iter(blocks.values())).shape[0]))
    if yardstick is None:
        return None
    cosine: dict[Role, Float32s] = {}
    present: dict[Role, Float64s] = {}
    for name, block in blocks.items():
        some, role, weight = block[yardstick.candidates], roles[name], weights[name]
        likeness = np.asarray((some[yardstick.query] @ some.T).toarray(), np.float32) * np.float32(weight)
        has = (np.diff(some.indptr) > 0) * weight
        cosine[role] = cosine[role] + likeness if role in cosine else likeness
        present[role] = present[role] + has if role in present else has
    return _Trial(yardstick, cosine, present)
