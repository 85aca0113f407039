"""Simple models that make lists: popularity, item-kNN, EASE and, from the package implicit, iALS.

Each ``fit`` function takes ratings and settings, and answers a scorer: (B,) user rows in, (B, I) float scores out.
Where the catalogue is larger than ``MOST_ITEMS``, EASE and item-kNN know the most rated items alone, as ours do.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sdk.base.errors import DataError
from sdk.base.ids import rows_of
from sdk.base.types import Bools, Float32s, Float64s, Int64s
from sdk.lab.comparison.protocols import Task
from sdk.machine import decompositions
from sdk.measure.list_evaluation import LIKE_AT, RatedCatalogue
from sdk.models.history.matrices import most_rated

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Scores: TypeAlias = NDArray[np.floating[Any]]
Scorer = Callable[[Int64s], Scores]
MOST_ITEMS = 12_000
_SCORES_AT_ONCE = 6_000_000
_USERS_AT_ONCE = 512
_DAY_S = 86_400
_FEWEST_USERS = 2


@dataclass(frozen=True, eq=False)
class RatingMatrix:
    """The training ratings of a task as rows and columns.

    Attributes:
        user: (N,) int64 rows of ``user_id``.
        item: (N,) int64 rows of ``item_id``.
        stars: (N,) float32; of implicit feedback the weights.
        user_id: (U,) int64 ascending, every user of the data set; where ids are text, their keys, as in
            ``Interactions``.
        item_id: (I,) int64 ascending, the whole catalogue; likewise.
        like_at: a rating of at least this many stars is a like.
        timestamp: (N,) int64 seconds; None where they are not known.
    """

    user: Int64s
    item: Int64s
    stars: Float32s
    user_id: Int64s
    item_id: Int64s
    like_at: float = LIKE_AT
    timestamp: Int64s | None = None

    @classmethod
    def of(cls, task: Task) -> RatingMatrix:
        """A task's training part."""
        data, train = task.dataset, task.dataset.interactions.take(task.train)
        users, items = data.user_keys, data.item_keys
        rows = rows_of(users, train.user_id), rows_of(items, train.item_id)
        return cls(*rows, train.rating, users, items, task.like_at, train.timestamp)

    @property
    def shape(self) -> tuple[int, int]:
        """(U, I)."""
        return len(self.user_id), len(self.item_id)

    def weighted(self, watched: float, counted: bool = False) -> csr_matrix:
        """(U, I) float32 sparse: 1 for a like, ``watched`` for what was rated lower.

        Args:
            watched: of what is no like.
            counted: whether a like's weight is the logarithm of the weight that it came with: 1 for the smallest, and
                1 more for e times as much.
        """
        from scipy.sparse import csr_matrix

        likes = 1.0 + np.log(self.stars / self.stars.min()) if counted else 1.0
        values = np.where(self.stars >= self.like_at, likes, watched).astype(np.float32)
        kept = values > 0
        return csr_matrix((values[kept], (self.user[kept], self.item[kept])), self.shape)

    @cached_property
    def known(self) -> Int64s:
        """(K,) int64 rows of the items that models as wide as the catalogue know: the most rated ``MOST_ITEMS``."""
        if self.shape[1] <= MOST_ITEMS:
            return np.arange(self.shape[1])
        return most_rated(np.bincount(self.item, minlength=self.shape[1]), MOST_ITEMS)

    def scattered(self, scores: Scores) -> Scores:
        """(B, I) scores of (B, K) ones of the ``known`` items; the others' are 0."""
        if len(self.known) == self.shape[1]:
            return scores
        out = np.zeros((len(scores), self.shape[1]), scores.dtype)
        out[:, self.known] = scores
        return out

    @cached_property
    def likes(self) -> Int64s:
        """(I,) int64 likes of each title."""
        return np.bincount(self.item[self.stars >= self.like_at], minlength=self.shape[1])

    @property
    def catalogue(self) -> RatedCatalogue:
        """All titles, with their ratings."""
        counts = np.bincount(self.item, minlength=self.shape[1])
        return RatedCatalogue(self.item_id, counts, len(np.unique(self.user)))

    def seen(self, rows: Int64s) -> Bools:
        """(B, I) bool, True where the user has rated the title."""
        return np.asarray(self.weighted(1.0)[rows].toarray() > 0)

    def refuse_seen(self, rows: Int64s, items: Int64s, lengths: Int64s) -> None:
        """Refuse lists that name what the user has rated: made by other rules, they would compare with nothing.

        Raises:
            DataError: the message names the first such title.
        """
        again = np.take_along_axis(self.seen(rows), rows_of(self.item_id, items), axis=1)
        again &= np.arange(items.shape[1]) < lengths[:, None]
        if again.any():
            row, rank = np.argwhere(again)[0]
            raise DataError(
                f"the list of user {self.user_id[rows[row]]} names title {items[row, rank]} at rank {rank + 1}, which "
                "the user rated in the training part; expected lists that exclude those"
            )


def lists_of(scorer: Scorer, ratings: RatingMatrix, rows: Int64s, k: int) -> tuple[Int64s, Int64s]:
    """The k best unseen titles of each user row, exactly.

    Equal scores go to the smaller item id. Where a model says nothing of a user (all scores are 0), popularity
    speaks, as it does for ours.

    Returns:
        (B, min(k, I)) int64 item ids, and (B,) int64 how many of each row are real.
    """
    step = max(1, min(_USERS_AT_ONCE, _SCORES_AT_ONCE // ratings.shape[1]))
    parts = [_block(scorer, ratings, rows[start : start + step], k) for start in range(0, len(rows), step)]
    return np.concatenate([items for items, _ in parts]), np.concatenate([lengths for _, lengths in parts])


def _block(scorer: Scorer, ratings: RatingMatrix, rows: Int64s, k: int) -> tuple[Int64s, Int64s]:
    scores = np.array(scorer(rows), np.float64)
    scores[~scores.any(axis=1)] = ratings.likes
    scores[ratings.seen(rows)] = -np.inf
    k = min(k, scores.shape[1])
    least = np.partition(scores, -k, axis=1)[:, -k]
    order = np.stack([_best(row, limit, k) for row, limit in zip(scores, least, strict=True)])
    return ratings.item_id[order], np.isfinite(np.take_along_axis(scores, order, axis=1)).sum(axis=1)


def _best(scores: Scores, least: float, k: int) -> Int64s:
    """Places of the k best, the first of equals first, given the k-th best score."""
    candidates = np.flatnonzero(scores >= least)
    return candidates[np.argsort(-scores[candidates], kind="stable")[:k]]


def popularity(ratings: RatingMatrix) -> Scorer:
    """The same list for everybody: titles by number of likes."""
    return lambda rows: np.tile(ratings.likes, (len(rows), 1))


def recent_popularity(days: float) -> Callable[[RatingMatrix], Scorer]:
    """Popularity of the last days before the training ratings end; among titles without a like then, of all time.

    By time it is no weak peer (Ji et al. 2020, "A re-visit of the popularity baseline in recommender systems").
    """

    def fit(ratings: RatingMatrix) -> Scorer:
        times = np.zeros(len(ratings.item), np.int64) if ratings.timestamp is None else ratings.timestamp
        lately = (ratings.stars >= ratings.like_at) & (times > times.max(initial=0) - days * _DAY_S)
        counts = np.bincount(ratings.item[lately], minlength=ratings.shape[1])
        scores = counts + ratings.likes / (1.0 + ratings.likes.max(initial=0))
        return lambda rows: np.tile(scores, (len(rows), 1))

    return fit


def item_knn(
    ratings: RatingMatrix, *, neighbours: int, shrinkage: float, watched: float = 0.0, counted: bool = False
) -> Scorer:
    """Item-item cosine, shrunk (Sarwar et al. 2001; Bell and Koren 2007): each item listens to its nearest ones."""
    history = ratings.weighted(watched, counted)[:, ratings.known]
    cosine = _cosine(history, shrinkage)
    for start, end in itertools.pairwise(cosine.indptr.tolist()):
        if end - start > neighbours:
            own = cosine.data[start:end]
            own[own < np.partition(own, -neighbours)[-neighbours]] = 0
    cosine.eliminate_zeros()
    weights = cosine.T.tocsr()
    return lambda rows: ratings.scattered((history[rows] @ weights).toarray())


def _cosine(history: csr_matrix, shrinkage: float) -> csr_matrix:
    """(I, I) shrunk cosines of items, none of an item with itself."""
    norms = np.sqrt(np.asarray(history.multiply(history).sum(axis=0))[0])
    cosine = (history.T @ history).tocsr()
    row = np.repeat(np.arange(len(norms)), np.diff(cosine.indptr))
    cosine.data /= norms[row] * norms[cosine.indices] + shrinkage
    cosine.data[row == cosine.indices] = 0
    cosine.eliminate_zeros()
    return cosine


def ease(
    ratings: RatingMatrix, *, penalty: float, watched: float = 0.0, counted: bool = False, dropout: float = 0.0
) -> Scorer:
    """EASE (Steck 2019, arXiv:1905.03375, figure 1), exactly, by inverting whichever side is smaller.

    With ``dropout`` p it is EDLAE (Steck 2020, "Autoencoders that don't overfit towards the identity", section 3.2):
    each item's penalty L gets p / (1 - p) of its own inner product more. With K = X L^-1 X' and M = (1 + K)^-1,
    Woodbury's identity gives X P = M X L^-1 and diag(P) = (1 - diag(X' M X) / L) / L for P = (X'X + L)^-1, so the
    scores X - X P / diag(P) need no matrix as wide as the catalogue.
    """
    history = ratings.weighted(watched, counted)[:, ratings.known].astype(np.float64)
    penalties = penalty + dropout / (1 - dropout) * np.asarray(history.multiply(history).sum(axis=0))[0]
    scorer = (_ease_by_items if history.shape[1] < history.shape[0] else _ease_by_users)(history, penalties)
    return lambda rows: ratings.scattered(scorer(rows))


def _ease_by_users(history: csr_matrix, penalties: Float64s) -> Scorer:
    dense = history.toarray()
    gram = history.multiply(1 / penalties).tocsr() @ history.T
    regressed = decompositions.solve(np.eye(len(dense)) + gram.toarray(), dense)
    rest = 1 - (dense * regressed).sum(axis=0) / penalties
    return lambda rows: dense[rows] - regressed[rows] / rest


def _ease_by_items(history: csr_matrix, penalties: Float64s) -> Scorer:
    gram = (history.T @ history).toarray()
    gram[np.diag_indices(len(gram))] += penalties
    inverse = decompositions.inverse(gram)
    weights = inverse / -np.diagonal(inverse)
    np.fill_diagonal(weights, 0)
    return lambda rows: history[rows] @ weights


def slim(
    ratings: RatingMatrix, *, l1: float, l2: float, neighbours: int, watched: float = 0.0, counted: bool = False
) -> Scorer:
    """SLIM by scikit-learn's elastic net (Ning and Karypis 2011, section 4, and their fsSLIM).

    Each item's column is regressed, with weights of at least 0, on those of the items that are nearest to it by
    cosine. Items that fewer than two users have listen to nobody.
    """
    from scipy.sparse import csr_matrix
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import ElasticNet

    history = ratings.weighted(watched, counted)[:, ratings.known].tocsc()
    cosine, size, total = _cosine(history, 0.0), history.shape[0], l1 + l2
    net = ElasticNet(total / size, l1_ratio=l1 / total, fit_intercept=False, positive=True, max_iter=50, tol=1e-3)
    found: list[tuple[Int64s, Int64s, Scores]] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the settings that stop early are measured like others
        for item in np.flatnonzero(np.diff(history.indptr) >= _FEWEST_USERS).tolist():
            near, like = (each[cosine.indptr[item] : cosine.indptr[item + 1]] for each in (cosine.indices, cosine.data))
            near = np.sort(near[np.argsort(-like, kind="stable")[:neighbours]])
            if len(near):
                weight = net.fit(history[:, near].toarray(), history[:, [item]].toarray()[:, 0]).coef_
                found.append((near, np.full(len(near), item), weight))
    if not found:
        return lambda rows: np.zeros((len(rows), ratings.shape[1]))
    row, column, value = (np.concatenate(each) for each in zip(*found, strict=True))
    weights, rated = csr_matrix((value, (row, column)), cosine.shape), history.tocsr()
    return lambda rows: ratings.scattered((rated[rows] @ weights).toarray())


def ials(ratings: RatingMatrix, **settings: Any) -> Scorer:
    """Implicit ALS (Hu et al. 2008) from the package implicit; see ``fit_ials`` for the settings."""
    model = fit_ials(ratings, **settings)
    return lambda rows: model.user_factors[rows] @ model.item_factors.T


def fit_ials(
    ratings: RatingMatrix,
    *,
    factors: int,
    regularization: float,
    alpha: float,
    iterations: int,
    watched: float = 0.0,
    counted: bool = False,
) -> Any:
    """The package's fitted model; ``alpha`` times a rating's weight is the confidence in it."""
    from implicit.cpu.als import AlternatingLeastSquares
    from threadpoolctl import threadpool_limits

    confidence = (alpha * ratings.weighted(watched, counted)).tocsr()
    with threadpool_limits(1, "blas"):  # implicit asks for it: its own threads and the BLAS's would fight
        model = AlternatingLeastSquares(
            factors=factors, regularization=regularization, iterations=iterations, random_state=0, num_threads=1
        )
        model.fit(confidence, show_progress=False)
    return model
