"""Data sets like MovieLens latest-small, but of another size and form: the protocols on data that are not at hand.

    python tests/benchmarks/movielens_like.py /tmp/like --form 100k --users 943 --titles 1682 --ratings 100000
    python -m sdk compare --movielens /tmp/like --protocols A --out compared

Ratings come from one draw of the posterior of a biased matrix factorisation of latest-small's stars (Salakhutdinov and
Mnih 2008, Bayesian probabilistic matrix factorization, section 3), so biases, tastes and noise are about as large as
the real ones, as far as so few ratings tell. Titles keep their names, genres and years; users are mixtures of two real
ones; who watches what follows popularity and taste.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sdk.base.types import Dataset, Int64s
from sdk.machine.blas import machine

RANK, SWEEPS = 12, 40
FORMS = ("csv", "100k", "1m")
GENRES = (
    "unknown", "Action", "Adventure", "Animation", "Children", "Comedy", "Crime", "Documentary", "Drama", "Fantasy",
    "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
)  # fmt: skip
JOBS = ("student", "engineer", "writer", "lawyer", "artist", "retired")
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Tastes:
    """stars(u, i) = mean + user[u, 0] + item[i, 0] + <user[u, 1:], item[i, 1:]> + noise * N(0, 1)."""

    mean: float
    user: Floats
    item: Floats
    noise: float


def drawn_tastes(user: Int64s, item: Int64s, stars: Floats, rng: np.random.Generator) -> Tastes:
    """One draw by Gibbs sampling: biases and vectors have normal priors, whose deviations are drawn too."""
    mean, noise = float(stars.mean()), 1.0
    users = 0.1 * rng.standard_normal((user.max() + 1, RANK + 1))
    items = 0.1 * rng.standard_normal((item.max() + 1, RANK + 1))
    by_user, by_item = np.argsort(user, kind="stable"), np.argsort(item, kind="stable")
    for _ in range(SWEEPS):
        _draw_side(users, items, user[by_user], item[by_user], stars[by_user] - mean, noise, rng)
        _draw_side(items, users, item[by_item], user[by_item], stars[by_item] - mean, noise, rng)
        error = stars - mean - users[user, 0] - items[item, 0] - (users[user, 1:] * items[item, 1:]).sum(1)
        noise = float(np.sqrt((error**2).sum() / rng.chisquare(len(stars))))
    return Tastes(mean, users, items, noise)


def _draw_side(
    own: Floats, other: Floats, rows: Int64s, columns: Int64s, target: Floats, noise: float, rng: np.random.Generator
) -> None:
    """Draw every row's bias and vector given the other side's; ``rows`` ascend."""
    precision = np.diag(rng.chisquare(len(own), RANK + 1) / (own**2).sum(axis=0))
    inputs = np.hstack([np.ones((len(rows), 1)), other[columns, 1:]])
    wanted = target - other[columns, 0]
    starts = np.searchsorted(rows, np.arange(len(own) + 1))
    for row in range(len(own)):
        part = slice(starts[row], starts[row + 1])
        root = np.linalg.cholesky(precision + inputs[part].T @ inputs[part] / noise**2)
        middle = np.linalg.solve(root, inputs[part].T @ wanted[part] / noise**2)
        own[row] = np.linalg.solve(root.T, middle + rng.standard_normal(RANK + 1))


@dataclass(frozen=True, eq=False)
class Shape:
    """How large the made set is.

    Attributes:
        users: number of users.
        titles: number of titles, those that latest-small's users rated most.
        ratings: about so many.
        whole: share of users who give whole stars only.
    """

    users: int
    titles: int
    ratings: int
    whole: float


@dataclass(frozen=True, eq=False)
class Made:
    """Ratings as rows of the chosen titles, and the users' bias and vectors."""

    user: Int64s
    place: Int64s
    halves: Int64s
    title: Int64s
    tastes: Floats


def make(known: Dataset, shape: Shape, seed: int) -> Made:
    """Draw a data set; the seed decides everything."""
    rng = np.random.default_rng(seed)
    rated = known.interactions
    _, user = np.unique(rated.user_id, return_inverse=True)
    item_ids, item = np.unique(rated.item_id, return_inverse=True)
    drawn = drawn_tastes(user, item, rated.rating.astype(np.float64), rng)
    counts = np.bincount(item)
    title = np.sort(np.argsort(-counts, kind="stable")[: shape.titles])
    first, second = rng.integers(0, len(drawn.user), (2, shape.users))
    tastes = 0.8 * drawn.user[first] + 0.6 * drawn.user[second]  # the same covariance as the real ones'
    liking = drawn.mean + tastes[:, :1] + drawn.item[title, 0] + tastes[:, 1:] @ drawn.item[title, 1:].T
    watched = _watched(counts[title], liking, shape, rng)
    row, place = np.nonzero(watched)
    stars = liking[watched] + drawn.noise * rng.standard_normal(len(row))
    step = np.where(rng.random(shape.users) < shape.whole, 2.0, 1.0)[row]
    halves = np.clip(np.rint(2 * stars / step) * step, step, 10)
    return Made(row, place, halves.astype(np.int64), item_ids[title], tastes)


def _watched(counts: Int64s, liking: Floats, shape: Shape, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Who watches what: a draw without replacement by popularity and liking (Gumbel top-k)."""
    own = liking - liking.mean(axis=1, keepdims=True)
    appeal = np.log(counts + 1.0) + 0.5 * own / own.std() + rng.gumbel(size=liking.shape)
    many = np.exp(0.9 * rng.standard_normal(shape.users))
    many = np.clip(many * (shape.ratings / shape.users - 20) / many.mean() + 20, 20, shape.titles // 2)
    rank = np.argsort(np.argsort(-appeal, axis=1), axis=1)
    return rank < many.astype(np.int64)[:, None]


def write(known: Dataset, made: Made, form: str, folder: Path, seed: int) -> None:
    """Write the files of one of MovieLens's forms."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng([seed, 1])
    at = (964_000_000 + np.sort(rng.integers(0, 400_000_000, len(made.user)))).tolist()
    item_id = (np.arange(len(made.title)) + 1 if form != "csv" else made.title)[made.place].tolist()
    columns = list(zip((made.user + 1).tolist(), item_id, (made.halves / 2).tolist(), at, strict=True))
    titles = _titles(known, made.title)
    if form == "csv":
        _lines(folder / "ratings.csv", ",", columns, "userId,movieId,rating,timestamp")
        quoted = [(number, f'"{name.replace(chr(34), chr(39))}"', "|".join(genres)) for number, name, genres in titles]
        _lines(folder / "movies.csv", ",", quoted, "movieId,title,genres")
        return
    whole = [(user, item, int(stars), at) for user, item, stars, at in columns]
    renumbered = [(number + 1, name, genres) for number, (_, name, genres) in enumerate(titles)]
    if form == "100k":
        _lines(folder / "u.data", "\t", whole)
        _lines(folder / "u.item", "|", [_flagged(*title) for title in renumbered])
        _lines(folder / "u.user", "|", _people(made.tastes, rng, JOBS))
        return
    _lines(folder / "ratings.dat", "::", whole)
    _lines(folder / "movies.dat", "::", [(number, name, "|".join(genres)) for number, name, genres in renumbered])
    people = [(u, sex, age, job, code) for u, age, sex, job, code in _people(made.tastes, rng, tuple(range(21)))]
    _lines(folder / "users.dat", "::", people)


def _titles(known: Dataset, title: Int64s) -> list[tuple[int, str, list[str]]]:
    """The chosen titles' ids, names with the year, and genres, in Latin-1 and without the forms' separators."""
    named = {row["item_id"]: row for row in known.items.select(["item_id", "title", "year", "genres"]).to_pylist()}
    rows = [named[item_id] for item_id in title.tolist()]
    plain = [row["title"].encode("latin-1", "replace").decode("latin-1").replace("|", " ") for row in rows]
    years = [f" ({row['year']})" if row["year"] else "" for row in rows]
    return [
        (row["item_id"], f"{name}{year}", row["genres"]) for row, name, year in zip(rows, plain, years, strict=True)
    ]


def _flagged(number: int, name: str, genres: list[str]) -> tuple[object, ...]:
    return (number, name, "", "", "", *(int(genre in genres) for genre in GENRES))


def _people(tastes: Floats, rng: np.random.Generator, jobs: tuple[object, ...]) -> list[tuple[object, ...]]:
    """User, age, gender, occupation, zip code: the first three lean on tastes, the zip code on nothing."""
    own = tastes[:, 1:] / tastes[:, 1:].std(axis=0)
    towards = own @ rng.standard_normal((own.shape[1], 3)) / np.sqrt(own.shape[1])
    leaning = towards + rng.standard_normal(towards.shape)
    age = np.clip(33 + 9 * leaning[:, 0], 7, 73).astype(int)
    job = np.clip((leaning[:, 2] / 3 + 0.5) * len(jobs), 0, len(jobs) - 1).astype(int)
    codes = rng.integers(10_000, 99_999, len(own))
    return [
        (u + 1, age[u], "F" if leaning[u, 1] > 0.8 else "M", jobs[job[u]], f"{codes[u]:05d}") for u in range(len(own))
    ]


def _lines(path: Path, separator: str, rows: list[tuple[object, ...]], header: str = "") -> None:
    text = "\n".join([*([header] if header else []), *(separator.join(map(str, row)) for row in rows), ""])
    path.write_bytes(text.encode("utf-8" if header else "latin-1"))


def main() -> None:
    from list_data import latest_small

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", type=Path, help="the folder that holds ml-latest-small")
    parser.add_argument("--form", choices=FORMS, default="csv")
    parser.add_argument("--users", type=int, default=2000)
    parser.add_argument("--titles", type=int, default=3000)
    parser.add_argument("--ratings", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    print(machine(), flush=True)
    known = latest_small(args.data)
    shape = Shape(args.users, args.titles, args.ratings, whole=0.4 if args.form == "csv" else 1.0)
    write(known, make(known, shape, args.seed), args.form, args.out, args.seed)


if __name__ == "__main__":
    main()
