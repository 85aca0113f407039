"""How good the content model's ten nearest films are, beside the usual tutorial's.

    python tests/benchmarks/content_quality.py [DATA]

DATA (default: MARQUEE_DATA, else ../shared/data) holds ``tmdb-5000`` and ``ml-latest-small``. Three figures over the
ten nearest of TMDB's 4,803 films, each a mean over the films it is defined for:

- series: share of the film's series mates found (titles with the same stem), of at most ten;
- director: share of its directors' other films found, of at most ten;
- co-liked: share of the ten that are among the film's 20 most co-liked ones: likes are MovieLens ratings of at least 4,
  likeness is the cosine over users, among the films with at least 10 likes.

The tutorial's: overview, genres, keywords, three actors and the director glued to one text, the 5,000 commonest words
counted, cosine.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from sdk import schema
from sdk.config import ContentConfig
from sdk.models.content import ContentModel

ROOT = Path(__file__).resolve().parents[2]
WRITING = ("Screenplay", "Writer", "Story", "Author", "Novel", "Characters")
CREW_JOBS = frozenset((*WRITING, "Original Music Composer", "Director of Photography", "Producer"))
K = 10


def default_data() -> Path:
    return Path(os.environ.get("MARQUEE_DATA") or ROOT.parent / "shared" / "data")


def names(cell: str) -> list[str]:
    return list(dict.fromkeys(entry["name"] for entry in json.loads(cell)))


def jobs(cell: str, wanted: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(entry["name"] for entry in json.loads(cell) if entry["job"] in wanted))


def read_tmdb(folder: Path) -> pa.Table:
    """TMDB's films as ``schema.ITEMS``, item_id = TMDB's id."""
    movies = pd.read_csv(folder / "tmdb_5000_movies.csv.gz")
    credits = pd.read_csv(folder / "tmdb_5000_credits.csv.gz").drop(columns="title")
    films = movies.merge(credits, left_on="id", right_on="movie_id").sort_values("id")
    year = pd.to_datetime(films["release_date"]).dt.year
    columns = {
        "item_id": films["id"].to_numpy(),
        "title": films["title"].tolist(),
        "year": pa.array(year, pa.float64(), from_pandas=True).cast(pa.int32()),
        "genres": [sorted(names(cell)) for cell in films["genres"]],
        "tags": [[] for _ in range(len(films))],
        "tmdb_id": films["id"].to_numpy(),
        "overview": films["overview"].fillna("").tolist(),
        "keywords": [names(cell) for cell in films["keywords"]],
        "cast": [names(cell) for cell in films["cast"]],
        "directors": [jobs(cell, {"Director"}) for cell in films["crew"]],
        "crew": [jobs(cell, CREW_JOBS) for cell in films["crew"]],
        "companies": [names(cell) for cell in films["production_companies"]],
    }
    return pa.table(columns, schema=schema.ITEMS)


def tutorial_matrix(items: pa.Table) -> csr_matrix:
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.preprocessing import normalize

    def glued(film: dict[str, list[str]]) -> str:
        people = film["genres"] + film["keywords"] + film["cast"][:3] + film["directors"][:1]
        return " ".join([str(film["overview"]), *(name.replace(" ", "") for name in people)]).lower()

    counts = CountVectorizer(max_features=5000, stop_words="english").fit_transform(map(glued, items.to_pylist()))
    return normalize(counts.astype(np.float64))


def ten_nearest(matrix: csr_matrix) -> NDArray[np.int64]:
    """(N, 10) rows, by the slow obvious way."""
    scores = np.asarray((matrix @ matrix.T).todense())
    np.fill_diagonal(scores, -1)
    return np.argsort(-scores, axis=1, kind="stable")[:, :K]


def model_nearest(items: pa.Table, config: ContentConfig) -> NDArray[np.int64]:
    """(N, 10) rows of an ascending table, -1 where the list is shorter."""
    model = ContentModel(config).fit(items)
    ids = np.concatenate([block.neighbours.item_id for block in model.similar_all(K)])
    return np.where(ids >= 0, np.searchsorted(model.item_id, ids), -1)


def stem(title: str) -> str:
    first = re.sub(r"\s+(\d+|II|III|IV|V|VI|VII|VIII)$", "", title.split(":")[0].strip())
    return re.sub(r"[^a-z ]", "", first.lower())


def mates(keys: Sequence[Iterable[str]]) -> list[set[int]]:
    """The other films that share a key, film by film."""
    films = defaultdict(set)
    for film, some in enumerate(keys):
        for key in some:
            films[key].add(film)
    return [set().union(*(films[key] for key in some)) - {film} for film, some in enumerate(keys)]


def share_found(nearest: NDArray[np.int64], wanted: list[set[int]]) -> float:
    shares = [
        len(set(row) & some) / min(K, len(some)) for row, some in zip(nearest.tolist(), wanted, strict=True) if some
    ]
    return float(np.mean(shares))


def co_liked(items: pa.Table, movielens: Path) -> list[set[int]]:
    """Each film's 20 most co-liked films as rows of the table; empty for a film with fewer than 10 likes."""
    links = pd.read_csv(movielens / "links.csv").dropna().astype({"tmdbId": np.int64}).drop_duplicates("tmdbId")
    ratings = pd.read_csv(movielens / "ratings.csv").merge(links, on="movieId")
    likes = ratings[(ratings.rating >= 4) & ratings.tmdbId.isin(items["item_id"].to_numpy())]
    likes = likes[likes.groupby("tmdbId").userId.transform("size") >= 10]
    tmdb_id, film = np.unique(likes.tmdbId, return_inverse=True)
    rows = np.searchsorted(items["item_id"].to_numpy(), tmdb_id)
    matrix = csr_matrix((np.ones(len(likes)), (film, likes.userId)))
    together = (matrix @ matrix.T).toarray()
    cosine = together / np.sqrt(np.outer(together.diagonal(), together.diagonal()))
    np.fill_diagonal(cosine, -1)
    best = rows[np.argsort(-cosine, axis=1, kind="stable")[:, :20]]
    by_row = dict(zip(rows.tolist(), map(set, best.tolist()), strict=True))
    return [by_row.get(row, set()) for row in range(items.num_rows)]


@dataclass(frozen=True)
class Yardstick:
    """What should be found for each film; an empty set leaves the film out."""

    series: list[set[int]]
    director: list[set[int]]
    liked: list[set[int]]

    def measure(self, nearest: NDArray[np.int64]) -> dict[str, float]:
        hits = [len(set(row) & some) / K for row, some in zip(nearest.tolist(), self.liked, strict=True) if some]
        found = {"series": share_found(nearest, self.series), "director": share_found(nearest, self.director)}
        return {**found, "co-liked": float(np.mean(hits))}

    def sizes(self) -> str:
        series, director, liked = (sum(map(bool, some)) for some in (self.series, self.director, self.liked))
        return f"{len(self.series)} films: {series} in a series, {director} by a director of others, {liked} liked"


def yardstick(items: pa.Table, movielens: Path) -> Yardstick:
    stems = [[stem(title)] if stem(title) else [] for title in items["title"].to_pylist()]
    return Yardstick(mates(stems), mates(items["directors"].to_pylist()), co_liked(items, movielens))


def main(argv: Sequence[str]) -> int:
    data = Path(argv[0]) if argv else default_data()
    items = read_tmdb(data / "tmdb-5000")
    wanted = yardstick(items, data / "ml-latest-small")
    start = time.perf_counter()
    ours = model_nearest(items, ContentConfig())
    seconds = time.perf_counter() - start
    print(wanted.sizes())
    for name, nearest in {"tutorial": ten_nearest(tutorial_matrix(items)), "content model": ours}.items():
        print(f"{name:14}" + "".join(f"  {what} {share:.3f}" for what, share in wanted.measure(nearest).items()))
    print(f"content model fitted and searched in {seconds:.1f} s, compilation included")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
