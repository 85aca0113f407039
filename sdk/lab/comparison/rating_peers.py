"""Simple models that tell liked from disliked: popularity, means, biased matrix factorisation, LightGBM, myFM.

Each takes a problem and settings, and answers logits of the asked pairs with the settings that were used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sdk.base.types import Float32s, Int32s, Int64s
from sdk.features.tables import STATISTIC_NAMES, EncodedInteractions, EncodedTable
from sdk.measure.baselines import BiasedMF, MeansBaseline, popularity_scores
from sdk.training.gibbs import features_of

if TYPE_CHECKING:
    import lightgbm
    from scipy.sparse import csr_matrix

_MAX_ROUNDS = 1000
_PATIENCE = 50
_FOLDS = 5


@dataclass(frozen=True, slots=True, eq=False)
class RatingProblem:
    """Ratings to learn from and ratings to score.

    Attributes:
        users: the users' encoded table, fitted on ``rows``.
        items: the items' encoded table, fitted on ``rows``.
        rows: encoded ratings to learn from.
        asked: encoded ratings to score.
        seed: of whatever is drawn.
    """

    users: EncodedTable
    items: EncodedTable
    rows: EncodedInteractions
    asked: EncodedInteractions
    seed: int

    @property
    def shape(self) -> tuple[int, int]:
        """Rows of the users' and of the items' table."""
        return len(self.users), len(self.items)

    def sides(self, rows: EncodedInteractions) -> tuple[tuple[str, EncodedTable, Int32s], ...]:
        """Name, table and (N,) rows of either side."""
        return ("user", self.users, rows.user_index), ("item", self.items, rows.item_index)


class PeerScores(NamedTuple):
    """What a peer answers.

    Attributes:
        logits: (S,) float, of the asked pairs; any increasing scale where ``is_logit`` is False.
        settings: the settings, with what fitting chose.
        is_logit: whether the scores are logits, so that a log loss can be measured.
    """

    logits: NDArray[np.floating[Any]]
    settings: Mapping[str, Any]
    is_logit: bool = True


def popularity(problem: RatingProblem) -> PeerScores:
    """A title's number of likes."""
    scores = popularity_scores(problem.rows.item_index, problem.rows.label, problem.shape[1])
    return PeerScores(scores[problem.asked.item_index], {}, is_logit=False)


def means(problem: RatingProblem, **settings: float) -> PeerScores:
    """A user's and a title's own share of likes, added as logits; see ``MeansBaseline`` for the settings."""
    return PeerScores(_fit_and_predict(MeansBaseline(**settings), problem), settings)


def biased_mf(problem: RatingProblem, **settings: Any) -> PeerScores:
    """Biased matrix factorisation with logistic loss; see ``BiasedMF`` for the settings."""
    return PeerScores(_fit_and_predict(BiasedMF(**settings), problem), settings)


def _fit_and_predict(model: MeansBaseline | BiasedMF, problem: RatingProblem) -> Float32s:
    rows, asked = problem.rows, problem.asked
    terms = model.fit(rows.user_index, rows.item_index, rows.label, *problem.shape, seed=problem.seed)
    return terms.predict(asked.user_index, asked.item_index)


def gradient_boosting(problem: RatingProblem, *, statistics: str, ids: bool, **parameters: Any) -> PeerScores:
    """LightGBM (Ke et al. 2017) on what the DLRM is given of a user and a title.

    Without ``num_rounds`` it stops early on the asked ratings, which must then be a validation part, and adds the
    rounds that were best to the settings.

    Args:
        problem: what to learn from and to score.
        statistics: how a training pair's own label is kept out of its statistics, see ``pair_features``.
        ids: whether the two ids are features too, as categories.
        parameters: LightGBM's own.
    """
    import lightgbm as lgb

    num_rounds = parameters.pop("num_rounds", None)
    own = {"objective": "binary", "metric": "auc", "verbosity": -1, "seed": problem.seed, "num_threads": 1}
    learnt, asked = _as_datasets(problem, statistics, ids=ids)
    stopping: list[Callable[..., Any]] = [] if num_rounds else [lgb.early_stopping(_PATIENCE, verbose=False)]
    booster = lgb.train(
        {**parameters, **own, "deterministic": True, "force_row_wise": True},
        learnt,
        num_rounds or _MAX_ROUNDS,
        valid_sets=[] if num_rounds else [asked],
        callbacks=stopping,
    )
    rounds = num_rounds or booster.best_iteration
    logits = booster.predict(asked.data, raw_score=True, num_iteration=rounds)
    settings = {"statistics": statistics, "ids": ids, **parameters, "num_rounds": rounds}
    return PeerScores(np.asarray(logits), settings)


def _as_datasets(problem: RatingProblem, statistics: str, *, ids: bool) -> tuple[lightgbm.Dataset, lightgbm.Dataset]:
    import lightgbm as lgb

    features, names = pair_features(problem, problem.rows, statistics, ids=ids)
    asked, _ = pair_features(problem, problem.asked, None, ids=ids)
    sides = problem.sides(problem.rows)
    categorical = [f"{side}_{name}" for side, table, _ in sides for name in table.codes if ids or name != "id"]
    learnt = lgb.Dataset(
        features, problem.rows.label, feature_name=list(names), categorical_feature=categorical, free_raw_data=False
    )
    return learnt, lgb.Dataset(asked, problem.asked.label, reference=learnt, free_raw_data=False)


def factorisation_machine(problem: RatingProblem, *, rank: int, sweeps: int) -> PeerScores:
    """myFM: a Bayesian factorisation machine with probit labels, by Gibbs sampling, a fifth of the sweeps burnt in.

    Its features are ids, what our BFM is told of a row, and by 1 / sqrt(number) the ids that a row was rated with.
    """
    import myfm
    from scipy.sparse import csr_matrix

    rows, asked = problem.rows, problem.asked
    of_both = [_with_ids_of_others(*side) for side in _both_sides(problem)]
    model = myfm.MyFMClassifier(rank, random_seed=problem.seed)

    def blocks(pairs: EncodedInteractions) -> list[Any]:
        index = pairs.user_index.astype(np.int64), pairs.item_index.astype(np.int64)
        return [myfm.RelationBlock(each, matrix) for each, (matrix, _) in zip(index, of_both, strict=True)]

    model.fit(
        csr_matrix((len(rows), 0)), rows.label.astype(np.float64), blocks(rows), n_iter=sweeps,
        n_kept_samples=sweeps - sweeps // 5, group_shapes=[size for _, sizes in of_both for size in sizes],
    )  # fmt: skip
    liked = np.clip(model.predict_proba(csr_matrix((len(asked), 0)), blocks(asked)), 1e-9, 1 - 1e-9)
    return PeerScores(np.log(liked / (1 - liked)), {"rank": rank, "sweeps": sweeps})


def _both_sides(problem: RatingProblem) -> list[tuple[EncodedTable, Int32s, Int32s, int]]:
    """Of either side: its table, its rows, the other's, and how many the other has."""
    (_, users, user), (_, items, item) = problem.sides(problem.rows)
    return [(users, user, item, len(items)), (items, item, user, len(users))]


def _with_ids_of_others(
    table: EncodedTable, own: Int32s, other: Int32s, num_others: int
) -> tuple[csr_matrix, list[int]]:
    """(R, F) features of a table's rows, and the number of each kind."""
    from scipy.sparse import csc_matrix, csr_matrix, diags_array, eye_array, hstack

    rated = csr_matrix((np.ones(len(own)), (own, other)), (len(table), num_others))
    shares = diags_array(1 / np.sqrt(np.maximum(np.diff(rated.indptr), 1))) @ rated
    told = [csc_matrix((values, rows, starts), (len(table), len(starts) - 1))
            for starts, rows, values in features_of(table)]  # fmt: skip
    kinds = [eye_array(len(table)), shares, *told]
    return csr_matrix(hstack(kinds)), [kind.shape[1] for kind in kinds]


def pair_features(
    problem: RatingProblem, rows: EncodedInteractions, statistics: str | None, *, ids: bool = False
) -> tuple[Float32s, tuple[str, ...]]:
    """What the DLRM is given of each pair: numbers, categories and list fields of both sides.

    Args:
        problem: whose tables are read.
        rows: pairs to describe; with ``statistics``, the problem's own training rows.
        statistics: ``leave-one-out`` takes each pair's own rating out of its count and share of likes, as the DLRM's
            training does; ``out-of-fold`` takes the share from the four fifths of the rows that the pair is not in
            (trees can read a label off a share that one label was left out of); None leaves nothing out.
        ids: whether the two ids follow, as codes.

    Returns:
        (N, F) float32, and the F names.
    """
    columns: dict[str, NDArray[Any]] = {}
    for side, table, index in problem.sides(rows):
        own = table.dense[index, : len(STATISTIC_NAMES)]
        if statistics is not None:
            leave_out = _leave_one_out if statistics == "leave-one-out" else _out_of_fold
            own = leave_out(table, index.astype(np.int64), rows.label, problem.seed)
        dense = np.hstack([own, table.dense[index, len(STATISTIC_NAMES) :]])
        columns |= {f"{side}_{name}": dense[:, at] for at, name in enumerate(table.dense_names)}
        columns |= {f"{side}_{name}": codes[index] for name, codes in table.codes.items() if name != "id"}
        for name, shares in table.multi_hot.items():
            columns |= {f"{side}_{name}_{code}": shares[index, code] for code in range(shares.shape[1])}
    if ids:
        columns |= {f"{side}_id": table.codes["id"][index] for side, table, index in problem.sides(rows)}
    return np.column_stack(list(columns.values())).astype(np.float32), tuple(columns)


def _leave_one_out(table: EncodedTable, index: Int64s, label: NDArray[np.int8], seed: int) -> Float32s:
    """By the very code of the DLRM's training."""
    import torch

    from sdk.models.pair_model import Batch, TableBuffers

    likes = torch.from_numpy(label.astype(np.float32))
    batch = Batch(likes, torch.ones_like(likes), torch.Generator())
    dense = TableBuffers(table).dense_of(torch.from_numpy(index), batch)
    return np.asarray(dense[:, : len(STATISTIC_NAMES)].numpy(), np.float32)


def _out_of_fold(table: EncodedTable, index: Int64s, label: NDArray[np.int8], seed: int) -> Float32s:
    """The share of likes from the other folds; the count stays whole, since it holds no label."""
    known, folds = table.statistics, np.random.default_rng(seed).integers(0, _FOLDS, len(index))
    values = table.dense[index, : len(STATISTIC_NAMES)].astype(np.float64)
    for fold in range(_FOLDS):
        inside = folds == fold
        count = known.count - np.bincount(index[inside], minlength=len(table))
        likes = known.likes - np.bincount(index[inside], weights=label[inside], minlength=len(table))
        rate = (likes + known.prior_count * known.prior_rate) / np.maximum(count + known.prior_count, 1e-9)
        rate = np.where(count + known.prior_count > 0, rate, known.prior_rate)
        values[inside, 1] = (rate[index[inside]] - known.mean[1]) / known.std[1]
    return values.astype(np.float32)
