"""How good the history model's lists are on MovieLens latest-small, beside the field's simple models.

    python tests/benchmarks/list_quality.py [DATA] [--protocol B|C|validation] [--seeds 42,43,44] [--sample]

DATA (default: MARQUEE_DATA, else ../shared/data) holds ``ml-latest-small`` and, if the content features shall know
more than MovieLens does, ``tmdb-5000``. Every model learns from the same training part, and its lists leave out what
the user rated there (``sdk.list_evaluation`` has the protocols). ``validation`` cuts a part from protocol B's training
part by the same rule: what settings are chosen on. iALS needs the package ``implicit`` and is left out without it.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from sdk.data import movielens
from sdk.data.sample import write_sample
from sdk.features.tables import FIRST_KNOWN
from sdk.list_evaluation import (
    ListMetrics,
    ListSplit,
    evaluate_lists,
    split_by_time,
    split_positives,
)
from sdk.models.content import ContentModel
from sdk.models.history import HistoryConfig, HistoryModel
from sdk.scoring.engine import Engine
from sdk.scoring.seen import Seen
from sdk.types import Dataset, Interactions

ROOT = Path(__file__).resolve().parents[2]
Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Task:
    """A training part as index columns; rows 0 to 2 are reserved, as in the encoded tables."""

    dataset: Dataset
    parts: ListSplit
    user: NDArray[np.int64]
    item: NDArray[np.int64]
    rating: NDArray[np.float32]
    user_id: NDArray[np.int64]
    item_id: NDArray[np.int64]

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.user_id) + FIRST_KNOWN, len(self.item_id) + FIRST_KNOWN

    @property
    def seen(self) -> Seen:
        return Seen.build(self.user, self.item, self.shape[0])

    def matrix(self, watched: float) -> csr_matrix:
        """(U, I) sparse: 1 for a like, ``watched`` for what was rated lower."""
        values = np.where(self.rating >= 4, 1.0, watched)
        kept = values > 0
        where = (self.user[kept] - FIRST_KNOWN, self.item[kept] - FIRST_KNOWN)
        return csr_matrix((values[kept], where), (len(self.user_id), len(self.item_id)))


def task_of(dataset: Dataset, parts: ListSplit) -> Task:
    return Task(dataset, parts, *columns_of(dataset, dataset.interactions.take(parts.train)))


def columns_of(dataset: Dataset, train: Interactions) -> tuple[Any, ...]:
    """What a task holds beside its data set and split."""
    users, items = (table.column(0).to_numpy() for table in (dataset.users, dataset.items))
    user, item = np.searchsorted(users, train.user_id), np.searchsorted(items, train.item_id)
    return user + FIRST_KNOWN, item + FIRST_KNOWN, train.rating, users, items


def lists_of_scores(task: Task, scores: Matrix) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The slow obvious way: mask, sort, take twenty."""
    scores = np.where(task.matrix(1.0).toarray() > 0, -np.inf, scores)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :20]
    return task.item_id[order], np.isfinite(np.take_along_axis(scores, order, axis=1)).sum(axis=1)


def popularity(task: Task) -> Matrix:
    return np.tile(np.asarray(task.matrix(0).sum(axis=0)), (len(task.user_id), 1))


def item_knn(task: Task) -> Matrix:
    """Cosine with shrinkage 20 over likes and, weighing 0.4, the watched; 100 neighbours."""
    ratings = task.matrix(0.4).toarray()
    norms = np.sqrt((ratings**2).sum(axis=0))
    cosine = (ratings.T @ ratings) / (np.outer(norms, norms) + 20)
    np.fill_diagonal(cosine, 0)
    cosine[cosine < np.partition(cosine, -100, axis=1)[:, -100:-99]] = 0
    return np.asarray(ratings @ cosine.T)


def ease(watched: float, penalty: float) -> Callable[[Task], Matrix]:
    """Steck 2019, arXiv:1905.03375, figure 1."""

    def scores(task: Task) -> Matrix:
        ratings = task.matrix(watched).toarray().astype(np.float32)
        gram = ratings.T @ ratings + penalty * np.eye(ratings.shape[1], dtype=np.float32)
        inverse = np.linalg.inv(gram)
        weights = inverse / -np.diagonal(inverse)
        np.fill_diagonal(weights, 0)
        return np.asarray(ratings @ weights, np.float64)

    return scores


def ials(watched: float) -> Callable[[Task], Matrix]:
    """Hu et al. 2008 from the package implicit."""

    def scores(task: Task) -> Matrix:
        from implicit.als import AlternatingLeastSquares

        model = AlternatingLeastSquares(factors=64, regularization=10, iterations=15, random_state=0)
        model.fit((5 * task.matrix(watched)).tocsr().astype(np.float32), show_progress=False)
        return np.asarray(model.user_factors @ model.item_factors.T, np.float64)

    return scores


def ours(features: NDArray[np.float32] | None, config: HistoryConfig) -> Callable[[Task], Lists]:
    def lists(task: Task) -> Lists:
        columns = (task.user, task.item, task.rating)
        model = HistoryModel.fit(*columns, *task.shape, features, config)
        form = model.to_pair_form(*columns, task.shape[0])
        rows = np.arange(FIRST_KNOWN, task.shape[0])
        found = Engine(form).top_k(rows, task.seen.take(rows), 20)
        return task.item_id[np.maximum(found.item_index - FIRST_KNOWN, 0)], found.lengths.astype(np.int64)

    return lists


Lists = tuple[NDArray[np.int64], NDArray[np.int64]]
PEERS: dict[str, Callable[[Task], Matrix]] = {
    "popularity": popularity,
    "item-kNN": item_knn,
    "iALS, likes": ials(0),
    "iALS, likes and watched": ials(0.4),
    "EASE, likes (penalty 100)": ease(0, 100),
    "EASE, likes and watched": ease(0.6, 400),
}


def peer(scores: Callable[[Task], Matrix]) -> Callable[[Task], Lists]:
    return lambda task: lists_of_scores(task, scores(task))


def has_implicit() -> bool:
    try:
        import implicit.als  # noqa: F401
    except ImportError:
        return False
    return True


def content_features(items: object, dim: int = 256) -> NDArray[np.float32]:
    vectors = ContentModel().fit(items).vectors(dim)  # type: ignore[arg-type]
    return np.vstack([np.zeros((FIRST_KNOWN, dim), np.float32), vectors])


def contenders(dataset: Dataset) -> dict[str, Callable[[Task], Lists]]:
    known = {name: peer(scores) for name, scores in PEERS.items() if has_implicit() or not name.startswith("iALS")}
    features = content_features(dataset.items)
    mine = {
        "ours, no content": ours(None, HistoryConfig()),
        "ours": ours(features, HistoryConfig()),
        "ours, penalty 300": ours(features, HistoryConfig(penalty=300.0)),
        "ours, rank 600": ours(features, HistoryConfig(rank=600)),
    }
    return {**known, **mine}


def measure(dataset: Dataset, parts: ListSplit, lists: Callable[[Task], Lists]) -> tuple[ListMetrics, float]:
    task = task_of(dataset, parts)
    start = time.perf_counter()
    items, lengths = lists(task)
    seconds = time.perf_counter() - start
    return evaluate_lists(items, lengths, task.user_id, dataset.interactions, parts, task.item_id), seconds


def splits(dataset: Dataset, protocol: str, seeds: Sequence[int]) -> dict[str, ListSplit]:
    ratings = dataset.interactions
    if protocol == "C":
        return {"by time": split_by_time(ratings)}
    chosen = {f"seed {seed}": split_positives(ratings, seed=seed) for seed in seeds}
    if protocol == "B":
        return chosen
    draws = range(7, 11)
    return {
        f"{name}, draw {draw}": split_positives(ratings, seed=draw, within=parts.train)
        for name, parts in chosen.items()
        for draw in draws
    }


def line(name: str, results: Sequence[tuple[ListMetrics, float]]) -> str:
    def mean(what: str) -> float:
        return float(np.mean([getattr(metrics, what) for metrics, _ in results]))

    seconds = float(np.mean([seconds for _, seconds in results]))
    figures = "  ".join(f"{mean(what):.3f}" for what in ("ndcg10", "recall20", "map10", "hit_rate10", "gini"))
    low, high = results[0][0].intervals["ndcg10"]
    interval = f"  NDCG {low:.3f} to {high:.3f}" if len(results) == 1 else ""
    return f"{name:28}{figures}  {mean('distinct_in_top10'):6.0f}  {mean('novelty'):5.2f}  {seconds:6.1f} s{interval}"


def sample() -> Dataset:
    with TemporaryDirectory() as folder:
        ratings, films = write_sample(Path(folder))
        return movielens.load(ratings, tmdb=films)


def latest_small(folder: Path | None) -> Dataset:
    data = folder or Path(os.environ.get("MARQUEE_DATA") or ROOT.parent / "shared" / "data")
    tmdb = data / "tmdb-5000"
    return movielens.load(data / "ml-latest-small", tmdb=tmdb if tmdb.exists() else None)


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("data", nargs="?", type=Path)
    parser.add_argument("--protocol", choices=("B", "C", "validation"), default="B")
    parser.add_argument("--sample", action="store_true", help="measure on the simulated sample instead")
    parser.add_argument("--seeds", default="42,43,44", help="of the split; several are averaged, too")
    args = parser.parse_args(argv)
    dataset = sample() if args.sample else latest_small(args.data)
    chosen = splits(dataset, args.protocol, [int(seed) for seed in args.seeds.split(",")])
    print(f"protocol {args.protocol}: {', '.join(chosen)}; NumPy {np.__version__}, {os.cpu_count()} cores")
    print(f"{'':28}NDCG   recall MAP    hits   Gini   titles  novelty")
    results: dict[str, list[tuple[ListMetrics, float]]] = {}
    for split_name, parts in chosen.items():
        for name, lists in contenders(dataset).items():
            results.setdefault(name, []).append(measure(dataset, parts, lists))
            if args.protocol != "validation":
                print(line(f"{name} ({split_name})"[:28], results[name][-1:]), flush=True)
    for name, rows in results.items() if len(chosen) > 1 else ():
        print(line(name, rows), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
