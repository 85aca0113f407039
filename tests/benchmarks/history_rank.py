"""What the history model's rank costs and gives, on made-up ratings whose tastes no small rank explains.

    python tests/benchmarks/history_rank.py [DATA] [--users 6040] [--titles 3706] [--ranks 256,512]

Each user mixes four real users' titles of MovieLens latest-small, popularity, and one or two steps from titles of their
own to neighbours: titles that the same people rate, or of like content. A fifth of the likes is asked for. Penalties
are chosen by the model's own rule. CPU seconds are of all threads.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from list_data import columns_of, content_features, latest_small
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from sdk.base.config import HistoryConfig
from sdk.features.seen import Seen
from sdk.features.tables import FIRST_KNOWN
from sdk.metrics.lists import RelevanceSets, ndcg, recall, user_mean
from sdk.models.history.matrices import most_rated
from sdk.models.history.model import HistoryModel
from sdk.scoring.engine import Engine

NEIGHBOURS, STEEPNESS = 40, 1.6
Floats = NDArray[np.floating]
Columns = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]


@dataclass(frozen=True)
class World:
    """Titles 0 to N - 1.

    Attributes:
        rated: (users, N) real histories, 1 where rated.
        mean: (N,) stars.
        popularity: (N,) shares.
        neighbours: (N, 40) each title's nearest, the nearest first.
        features: (N, f) content vectors.
    """

    rated: csr_matrix
    mean: Floats
    popularity: Floats
    neighbours: NDArray[np.int64]
    features: NDArray[np.float32]


def world(folder: Path | None, num_titles: int, rng: np.random.Generator) -> World:
    dataset = latest_small(folder)
    user, item, stars, users, items = columns_of(dataset, dataset.interactions)
    counts = np.bincount(item, minlength=len(items) + FIRST_KNOWN)
    kept = most_rated(counts, num_titles)
    shape = len(users) + FIRST_KNOWN, len(counts)
    rated = csr_matrix((np.ones(len(item)), (user, item)), shape)[:, kept]
    total = np.asarray(csr_matrix((stars.astype(np.float64), (user, item)), shape)[:, kept].sum(axis=0))[0]
    features = content_features(dataset.items)[kept]
    popularity = (counts[kept] + 1.0) ** 1.25
    rated = rated[np.diff(rated.indptr) > 0]
    return World(
        rated, (total + 17) / (counts[kept] + 5), popularity / popularity.sum(), near(rated, features, rng), features
    )


def near(rated: csr_matrix, features: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.int64]:
    """By shared users and shared content, and by chance: made-up neighbourhoods are not quite the real ones."""
    shared = (rated.T @ rated).toarray()
    counts = np.diagonal(shared)
    cosine = shared / np.sqrt(np.outer(counts, counts)) * shared / (shared + 4)
    unit = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-9)
    closeness = 0.6 * cosine / cosine.std() + 4 * np.maximum(unit @ unit.T, 0) + 0.3 * rng.gumbel(size=shared.shape)
    np.fill_diagonal(closeness, -np.inf)
    return np.argsort(-closeness, axis=1)[:, :NEIGHBOURS]


def one_user(places: World, size: int, rng: np.random.Generator) -> tuple[NDArray[np.int64], Floats]:
    """Some ``size`` titles, ascending, and stars."""
    num_titles = len(places.mean)
    mixed = rng.dirichlet(np.full(4, 0.6))
    taste = np.zeros(num_titles)
    for weight, row in zip(mixed, rng.choice(places.rated.shape[0], 4), strict=True):
        own = places.rated[row].indices
        taste[own] += weight / len(own)
    anchors = rng.choice(num_titles, max(3, size // 12), p=0.6 * taste + 0.4 * places.popularity)
    steps = np.arange(1, NEIGHBOURS + 1.0) ** -STEEPNESS
    titles = set(anchors.tolist())
    while len(titles) < size:
        many = 2 * (size - len(titles)) + 10
        first, second = (rng.choice(NEIGHBOURS, many, p=steps / steps.sum()) for _ in range(2))
        one = places.neighbours[rng.choice(anchors, many), first]
        far = rng.choice(num_titles, many, p=0.7 * taste + 0.3 * places.popularity)
        kind = rng.random(many)
        found = np.where(kind < 0.5, one, np.where(kind < 0.65, places.neighbours[one, second], far))
        titles.update(found[: size - len(titles)].tolist())
    item = np.sort(np.fromiter(titles, np.int64))
    close = np.isin(item, places.neighbours[anchors[:8], :15])
    liking = places.mean[item] + 0.5 * close + 0.5 * (taste[item] > 0) - 0.25 + 0.4 * rng.standard_normal()
    return item, np.clip(np.round(liking + 0.85 * rng.standard_normal(len(item))), 1, 5)


def generated(places: World, num_users: int, rng: np.random.Generator) -> Columns:
    """(user row, item row, stars), ascending by user and item."""
    most = len(places.mean) // 2
    sizes = np.clip(np.exp(np.log(96) + rng.standard_normal(num_users)), 20, most).astype(np.int64)
    drawn = [one_user(places, int(size), rng) for size in sizes]
    user = np.repeat(np.arange(num_users), [len(item) for item, _ in drawn]) + FIRST_KNOWN
    item, stars = (np.concatenate([each[n] for each in drawn]) for n in (0, 1))
    return user, item + FIRST_KNOWN, stars.astype(np.float32)


def measure(columns: Columns, shape: tuple[int, int], features: NDArray[np.float32], rank: int) -> str:
    user, item, stars = columns
    held = (stars >= HistoryConfig().like_at) & (np.random.default_rng(42).random(len(user)) < 0.2)
    learnt = user[~held], item[~held], stars[~held]
    start = time.process_time()
    model = HistoryModel.fit(*learnt, *shape, features, HistoryConfig(rank=rank))
    fitting = time.process_time() - start
    asked, row = np.unique(user[held], return_inverse=True)
    engine, seen = Engine(model.to_pair_form(*learnt, shape[0])), Seen.build(*learnt[:2], shape[0]).take(asked)
    start = time.process_time()
    lists = engine.top_k(asked, seen, 20)
    listing = time.process_time() - start
    relevant = RelevanceSets(row.astype(np.int64), item[held], len(asked))
    figures = user_mean(ndcg(lists.item_index, relevant, 10)), user_mean(recall(lists.item_index, relevant, 20))
    titles = len(np.unique(lists.item_index[:, :10]))
    return (
        f"| {model.config.rank} | {model.config.penalty:g} | {figures[0]:.4f} | {figures[1]:.4f} | {titles} "
        f"| {fitting:.0f} | {listing:.1f} | {(model.item_in.nbytes + model.item_out.nbytes) / 2**20:.0f} |"
    )


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("data", nargs="?", type=Path)
    parser.add_argument("--users", type=int, default=6040)
    parser.add_argument("--titles", type=int, default=3706)
    parser.add_argument("--ranks", default="256,512")
    args = parser.parse_args(argv)
    rng = np.random.default_rng(2)
    places = world(args.data, args.titles, rng)
    columns = generated(places, args.users, rng)
    features = np.vstack([np.zeros((FIRST_KNOWN, places.features.shape[1]), np.float32), places.features])
    shape = args.users + FIRST_KNOWN, len(features)
    print(f"{len(columns[0]):,} ratings of {args.titles:,} titles by {args.users:,} users")
    print("| rank | penalty | NDCG@10 | Recall@20 | titles | CPU s, fit | CPU s, lists | MiB |\n" + "|---" * 8 + "|")
    for rank in args.ranks.split(","):
        print(measure(columns, shape, features, int(rank)), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
