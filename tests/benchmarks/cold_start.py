"""What a visitor with a few likes, and a title without ratings, get: measured on people and titles never learnt from.

    python tests/benchmarks/cold_start.py [DATA] [--sample] [--folds 5] [--plot docs/cold_start.png]

Visitors: users are parted into folds; each fold is served by a model that learnt from the others. Of a visitor's likes
a random fifth is asked for, and the model is told 0, 1, 3, 5, 10 or all of the rest, in a random order. Lists leave
out all of the rest, told or not, so that the columns differ by what the model knows alone. New titles: a tenth of the
titles that somebody likes loses all its ratings. Ranker: AUC on ratings of users, titles or both that it never saw.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from list_data import columns_of, content_features, latest_small, sample
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from sdk.base.config import HistoryConfig, RunConfig, SplitConfig
from sdk.base.types import Bools, Dataset, Float32s, Int64s, Interactions
from sdk.bundles.bundle import Bundle
from sdk.features.tables import FIRST_KNOWN, EncodedInteractions
from sdk.machine.blas import machine
from sdk.measure.baselines import MeansBaseline, Terms
from sdk.measure.list_evaluation import LIKE_AT
from sdk.metrics.lists import RelevanceSets, ndcg, recall, user_mean
from sdk.metrics.pointwise import auc
from sdk.models.history.model import HistoryModel
from sdk.models.predict import predict
from sdk.training.pipeline import train_bundle

TOLD = (0, 1, 3, 5, 10, 1_000_000)
FEWEST_LIKES = 13  # so that ten can be told and some asked for
Scores = Callable[[csr_matrix], NDArray[np.floating]]


@dataclass(frozen=True)
class Ratings:
    """Ratings as index columns, rows 0 to 2 reserved, and what is known of the titles."""

    user: Int64s
    item: Int64s
    stars: Float32s
    features: Float32s
    shape: tuple[int, int]

    def only(self, kept: Bools) -> Ratings:
        return dataclasses.replace(self, user=self.user[kept], item=self.item[kept], stars=self.stars[kept])

    @property
    def liked(self) -> Bools:
        return self.stars >= LIKE_AT

    def matrix(self, watched: float) -> csr_matrix:
        values = np.where(self.liked, 1.0, watched).astype(np.float32)
        return csr_matrix((values, (self.user, self.item)), self.shape)


def ratings_of(dataset: Dataset) -> Ratings:
    user, item, stars, users, items = columns_of(dataset, dataset.interactions)
    shape = len(users) + FIRST_KNOWN, len(items) + FIRST_KNOWN
    return Ratings(user, item, stars, content_features(dataset.items), shape)


def ours(learnt: Ratings) -> Scores:
    model = HistoryModel.fit(learnt.user, learnt.item, learnt.stars, *learnt.shape, learnt.features, HistoryConfig())

    def scores(known: csr_matrix) -> NDArray[np.floating]:
        form = model.form_of(model.user_vectors(known.indptr, known.indices, known.data))
        return form.users.dot @ form.items.dot.T + form.items.bias

    return scores


def popularity(learnt: Ratings) -> Scores:
    likes = np.bincount(learnt.item[learnt.liked], minlength=learnt.shape[1]).astype(np.float32)
    return lambda known: np.tile(likes, (known.shape[0], 1))


def item_knn(learnt: Ratings) -> Scores:
    """Cosine with shrinkage 20 over likes and, weighing 0.4, the watched; 100 neighbours."""
    ratings = learnt.matrix(0.4)
    norms = np.sqrt(np.asarray(ratings.multiply(ratings).sum(axis=0)).ravel())
    cosine = (ratings.T @ ratings).toarray() / (np.outer(norms, norms) + 20)
    np.fill_diagonal(cosine, 0)
    cosine[cosine < np.partition(cosine, -100, axis=1)[:, -100:-99]] = 0
    return lambda known: known @ cosine.T


def ease(learnt: Ratings, penalty: float = 400.0) -> Scores:
    """Likes and, weighing 0.6, the watched; the inverse by users (Woodbury), who are fewer than the titles."""
    ratings = learnt.matrix(0.6).astype(np.float64)
    inner = np.linalg.inv((ratings @ ratings.T).toarray() + penalty * np.eye(ratings.shape[0]))
    inverse = -(ratings.T @ (inner @ ratings)) / penalty
    inverse[np.diag_indices_from(inverse)] += 1 / penalty
    weights = inverse / -np.diagonal(inverse)
    np.fill_diagonal(weights, 0)
    return lambda known: known @ weights


def content_knn(learnt: Ratings) -> Scores:
    """The sum of a title's cosines with the liked titles, by content alone."""
    length = np.linalg.norm(learnt.features, axis=1, keepdims=True)
    unit = learnt.features / np.maximum(length, 1e-9)
    return lambda known: (known @ unit) @ unit.T


def at_random(learnt: Ratings) -> Scores:
    rng = np.random.default_rng(0)
    return lambda known: rng.random((known.shape[0], learnt.shape[1]))


VISITED = {"recommend_for": ours, "EASE": ease, "item-kNN": item_knn, "popularity": popularity}


def top(scores: NDArray[np.floating], k: int) -> Int64s:
    scores[:, :FIRST_KNOWN] = -np.inf
    some = np.argpartition(-scores, k, axis=1)[:, :k]
    return np.take_along_axis(some, np.argsort(-np.take_along_axis(scores, some, 1), axis=1, kind="stable"), 1)


@dataclass(frozen=True)
class Visitors:
    """Row v: a visitor's likes that may be told (``place`` is their random order) and those that are asked for."""

    row: Int64s
    item: Int64s
    place: Int64s
    asked: RelevanceSets

    def told(self, count: int, num_items: int) -> csr_matrix:
        kept = self.place < count
        ones = np.ones(int(kept.sum()), np.float32)
        return csr_matrix((ones, (self.row[kept], self.item[kept])), (len(self.asked), num_items))


def visitors(ratings: Ratings, rng: np.random.Generator) -> Visitors:
    """Users with enough likes; a fifth of them, at least one, is asked for."""
    liked = ratings.only(ratings.liked)
    order = np.lexsort((rng.random(len(liked.user)), liked.user))
    _, row, size = np.unique(liked.user[order], return_inverse=True, return_counts=True)
    place = np.arange(len(order)) - (np.cumsum(size) - size)[row] - np.maximum(size // 5, 1)[row]
    enough = (size >= FEWEST_LIKES)[row]
    row = (np.cumsum(size >= FEWEST_LIKES) - 1)[row]
    asked, told, item = enough & (place < 0), enough & (place >= 0), liked.item[order]
    number = int((size >= FEWEST_LIKES).sum())
    return Visitors(row[told], item[told], place[told], RelevanceSets(row[asked], item[asked], number))


def serve(learnt: Ratings, waiting: Visitors) -> dict[tuple[str, int], tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """(model, titles told) -> each visitor's NDCG@10 and Recall@20."""
    everything = waiting.told(max(TOLD), learnt.shape[1]).nonzero()
    found = {}
    for name, fit in VISITED.items():
        scorer = fit(learnt)
        for count in TOLD:
            scores = np.array(scorer(waiting.told(count, learnt.shape[1])), np.float32)
            scores[everything] = -np.inf
            lists = top(scores, 20)
            found[name, count] = ndcg(lists, waiting.asked, 10), recall(lists, waiting.asked, 20)
    return found


def new_users(ratings: Ratings, folds: int) -> dict[tuple[str, int], tuple[float, float, int]]:
    """(model, titles told) -> mean NDCG@10, Recall@20 and number of visitors, over all folds."""
    rng = np.random.default_rng(42)
    fold = rng.integers(0, 5, ratings.shape[0])
    parts = []
    for number in range(folds):
        away = fold[ratings.user] == number
        parts.append(serve(ratings.only(~away), visitors(ratings.only(away), rng)))
    joined = {key: [np.concatenate([part[key][n] for part in parts]) for n in (0, 1)] for key in parts[0]}
    return {key: (user_mean(first), user_mean(second), len(first)) for key, (first, second) in joined.items()}


RANKED = {"history model": ours, "content kNN": content_knn, "random": at_random}


def new_titles(ratings: Ratings) -> dict[str, tuple[float, float, float]]:
    """Mean percentile (0 is best) and Recall@100 among the new titles, and Recall@100 in the full catalogue."""
    liked = np.unique(ratings.item[ratings.liked])
    new = np.random.default_rng(43).choice(liked, len(liked) // 10, replace=False)
    is_new = np.isin(np.arange(ratings.shape[1]), new)
    learnt, asked = ratings.only(~is_new[ratings.item]), ratings.only(is_new[ratings.item] & ratings.liked)
    users = np.intersect1d(asked.user, learnt.user)
    mine = np.isin(asked.user, users)
    row, item = np.searchsorted(users, asked.user[mine]), asked.item[mine]
    relevant = RelevanceSets(row, item, len(users))
    known = learnt.matrix(0.0)[users]
    weights = csr_matrix((HistoryConfig().weights(learnt.stars), (learnt.user, learnt.item)), learnt.shape)[users]
    found = {}
    for name, fit in RANKED.items():
        scores = np.array(fit(learnt)(weights if fit is ours else known), np.float32)
        rank = np.argsort(np.argsort(-scores[:, is_new], axis=1), axis=1)
        column = np.searchsorted(np.flatnonzero(is_new), item)
        percentile = float((rank[row, column] / (is_new.sum() - 1)).mean())
        within = np.flatnonzero(is_new)[np.argsort(rank, axis=1)[:, :100]]
        scores[weights.nonzero()] = -np.inf
        whole = user_mean(recall(top(scores, 100), relevant, 100))
        found[name] = percentile, user_mean(recall(within, relevant, 100)), whole
    print(f"{is_new.sum()} new titles, {len(item)} likes of them by {len(users)} users")
    return found


def ranker(dataset: Dataset) -> dict[str, dict[str, float]]:
    """AUC of the DLRM and of the means on ratings of a fifth of the users and a tenth of the titles, never learnt."""
    rows, rng = dataset.interactions, np.random.default_rng(44)
    users, items = np.unique(rows.user_id), np.unique(rows.item_id)
    new_user = np.isin(rows.user_id, rng.choice(users, len(users) // 5, replace=False))
    new_item = np.isin(rows.item_id, rng.choice(items, len(items) // 10, replace=False))
    known = dataclasses.replace(dataset, interactions=rows.take(np.flatnonzero(~new_user & ~new_item)))
    config = RunConfig(models=("dlrm", "content"), split=SplitConfig(test_share=0.0))
    with tempfile.TemporaryDirectory() as folder:
        bundle = train_bundle(known, config, Path(folder) / "bundle")
        learnt = bundle.interactions.rows
        shape = len(bundle.encoded_users), len(bundle.encoded_items)
        means = MeansBaseline().fit(learnt.user_index, learnt.item_index, learnt.label, *shape)
        parts = {
            "unseen users": new_user & ~new_item,
            "unseen titles": ~new_user & new_item,
            "both": new_user & new_item,
        }
        return {name: _aucs(bundle, means, rows.take(np.flatnonzero(part))) for name, part in parts.items()}


def _aucs(bundle: Bundle, means: Terms, rows: Interactions) -> dict[str, float]:
    label = (rows.rating > bundle.info.config.features.like_above).astype(np.int8)
    user, item = (
        table.index_of(ids).astype(np.int32)
        for table, ids in ((bundle.encoded_users, rows.user_id), (bundle.encoded_items, rows.item_id))
    )
    encoded = EncodedInteractions(user, item, label)
    return {"DLRM": auc(label, predict(bundle.model("dlrm"), encoded)), "means": auc(label, means.predict(user, item))}


def draw(
    found: Mapping[tuple[str, int], tuple[float, float, int]], titles: Mapping[str, Sequence[float]], path: Path
) -> None:
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for name, marker in zip(VISITED, "osD^", strict=True):
        left.plot(range(len(TOLD)), [found[name, count][0] for count in TOLD], marker=marker, label=name)
    left.set_xticks(range(len(TOLD)), [*map(str, TOLD[:-1]), "all"])
    left.set(xlabel="liked titles told", ylabel="NDCG@10", title="Visitors never learnt from", ylim=(0, None))
    left.legend(frameon=False)
    right.bar(list(titles), [values[1] for values in titles.values()], color=["C0", "C4", "0.6"])
    right.set(ylabel="Recall@100 among the new titles", title="Titles never rated", ylim=(0, 1))
    figure.savefig(path, dpi=110, metadata={"Software": None})


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("data", nargs="?", type=Path)
    parser.add_argument("--sample", action="store_true", help="measure on the simulated sample instead")
    parser.add_argument("--folds", type=int, default=5, choices=range(1, 6), help="how many fifths of the users")
    parser.add_argument("--plot", type=Path, help="where a chart goes")
    args = parser.parse_args(argv)
    print(machine(), flush=True)
    dataset = sample() if args.sample else latest_small(args.data)
    ratings = ratings_of(dataset)
    found = new_users(ratings, args.folds)
    print(f"NDCG@10 / Recall@20 of {found['popularity', 0][2]} visitors\n| titles told | " + " | ".join(VISITED) + " |")
    print("|---|" + "---|" * len(VISITED))
    for count in TOLD:
        cells = [f"{found[name, count][0]:.3f} / {found[name, count][1]:.3f}" for name in VISITED]
        print(f"| {count if count < max(TOLD) else 'all'} | " + " | ".join(cells) + " |", flush=True)
    titles = new_titles(ratings)
    print("| new titles | mean percentile | Recall@100 among them | Recall@100 in the catalogue |\n|---|---|---|---|")
    for name, values in titles.items():
        print(f"| {name} | " + " | ".join(f"{value:.3f}" for value in values) + " |", flush=True)
    for name, values in ranker(dataset).items():
        print(f"AUC, {name}: " + ", ".join(f"{model} {value:.3f}" for model, value in values.items()), flush=True)
    if args.plot:
        draw(found, titles, args.plot)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
