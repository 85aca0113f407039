"""How good the content model's ten nearest films are, beside the usual tutorial's.

    python tests/benchmarks/content_quality.py [DATA] [--part tmdb|movielens|weights|hybrid]

DATA (default: MARQUEE_DATA, else ../shared/data) holds ``tmdb-5000`` and ``ml-latest-small``. Three figures over the
ten nearest titles, each a mean over the titles it is defined for:

- series: share of the film's series mates found (titles with the same stem), of at most ten;
- director: share of its directors' other films found, of at most ten;
- co-liked: share of the ten that are among the film's 20 most co-liked ones: likes are MovieLens ratings of at least 4,
  likeness is the cosine over users, among the films with at least 10 likes.

They are printed for TMDB's 4,803 films (``tmdb``), for all titles of latest-small (``movielens``), for weights chosen
on one half and measured on the other (``weights``), and for hybrid lists on likes that they have not seen
(``hybrid``). ``docs/content.md`` and ``docs/research/content.md`` have the figures.

The tutorial's: overview, genres, keywords, three actors and the director glued to one text, the 5,000 commonest words
counted, cosine.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from sdk.base import schema
from sdk.base.config import ContentConfig
from sdk.machine.blas import machine
from sdk.models.content.model import ContentModel

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


def co_liked(items: pa.Table, movielens: Path, user_parity: int | None = None) -> list[set[int]]:
    """Each film's most co-liked films; of users with even (0) or odd (1) ids alone where a parity is given."""
    links = pd.read_csv(movielens / "links.csv").dropna().astype({"tmdbId": np.int64}).drop_duplicates("tmdbId")
    ratings = pd.read_csv(movielens / "ratings.csv").merge(links, on="movieId")
    likes = ratings[(ratings.rating >= 4) & ratings.tmdbId.isin(items["item_id"].to_numpy())]
    likes = likes if user_parity is None else likes[likes.userId % 2 == user_parity]
    rows = np.searchsorted(items["item_id"].to_numpy(), likes.tmdbId.to_numpy())
    return most_co_liked(rows, likes.userId.to_numpy(), items.num_rows)


def most_co_liked(row: NDArray[np.int64], user_id: NDArray[np.int64], num_films: int) -> list[set[int]]:
    """Of likes: each film's 20 most co-liked films, as rows; empty for a film with fewer than 10 likes."""
    often = np.bincount(row, minlength=num_films)[row] >= 10
    films, film = np.unique(row[often], return_inverse=True)
    matrix = csr_matrix((np.ones(len(film)), (film, user_id[often])))
    together = (matrix @ matrix.T).toarray()
    cosine = together / np.sqrt(np.outer(together.diagonal(), together.diagonal()))
    np.fill_diagonal(cosine, -1)
    best = films[np.argsort(-cosine, axis=1, kind="stable")[:, :20]]
    by_row = dict(zip(films.tolist(), map(set, best.tolist()), strict=True))
    return [by_row.get(film, set()) for film in range(num_films)]


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

    def of(self, films: NDArray[np.bool_]) -> Yardstick:
        """The same for some films alone."""
        parts = (self.series, self.director, self.liked)
        return Yardstick(*([some if keep else set() for some, keep in zip(part, films, strict=True)] for part in parts))

    def films(self) -> NDArray[np.int64]:
        """(Q,) rows of the films that something should be found for."""
        parts = zip(self.series, self.director, self.liked, strict=True)
        return np.flatnonzero([any(some) for some in parts])

    def sizes(self) -> str:
        series, director, liked = (sum(map(bool, some)) for some in (self.series, self.director, self.liked))
        return f"{len(self.series)} films: {series} in a series, {director} by a director of others, {liked} liked"


def yardstick(items: pa.Table, movielens: Path, user_parity: int | None = None) -> Yardstick:
    return Yardstick(*title_mates(items), co_liked(items, movielens, user_parity))


def title_mates(items: pa.Table) -> tuple[list[set[int]], list[set[int]]]:
    """Each film's series mates and its directors' other films."""
    stems = [[stem(title)] if stem(title) else [] for title in items["title"].to_pylist()]
    return mates(stems), mates(items["directors"].to_pylist())


def show(name: str, figures: Mapping[str, float]) -> None:
    print(f"  {name:30}" + "".join(f"  {what} {share:.3f}" for what, share in figures.items()))


def on_tmdb(data: Path) -> None:
    items = read_tmdb(data / "tmdb-5000")
    wanted = yardstick(items, data / "ml-latest-small")
    start = time.perf_counter()
    ours = model_nearest(items, ContentConfig())
    seconds = time.perf_counter() - start
    print(f"TMDB 5000. {wanted.sizes()}")
    show("tutorial", wanted.measure(ten_nearest(tutorial_matrix(items))))
    show("content model", wanted.measure(ours))
    print(f"  content model fitted and searched in {seconds:.1f} s, compilation included")


def on_movielens(data: Path) -> None:
    import content_movielens as all_titles

    dataset = all_titles.read(data)
    items = dataset.items
    wanted = Yardstick(*title_mates(items), most_co_liked(*all_titles.likes_of(dataset), items.num_rows))
    linked = sum(bool(overview) for overview in items["overview"].to_pylist())
    print(f"\nAll titles of MovieLens latest-small, {linked} of them with TMDB's features. {wanted.sizes()}")
    show("tutorial", wanted.measure(ten_nearest(tutorial_matrix(items))))
    show("content model", wanted.measure(model_nearest(items, ContentConfig())))


def on_halves(data: Path) -> None:
    import content_choice as choice

    items = read_tmdb(data / "tmdb-5000")
    folder, even = data / "ml-latest-small", items["item_id"].to_numpy() % 2 == 0
    halves = [yardstick(items, folder, parity).of(even == (parity == 0)) for parity in (0, 1)]
    tutorial = ten_nearest(tutorial_matrix(items))
    scores = [choice.FieldScores.of(items, wanted.films()) for wanted in halves]
    for chosen_on, measured_on in ((0, 1), (1, 0)):
        wanted, told = halves[measured_on], scores[measured_on]
        weights = choice.choose(scores[chosen_on], halves[chosen_on])
        print(f"\nTMDB 5000, films and users with {('even', 'odd')[measured_on]} ids. {wanted.sizes()}")
        show("tutorial", wanted.measure(tutorial))
        show("equal weights", choice.measured(told, wanted, dict.fromkeys(weights, 1.0)))
        show("weights chosen on other half", choice.measured(told, wanted, weights))
        show("shipped weights", choice.measured(told, wanted, ContentConfig().weights))
        print("  chosen on the other half: " + ", ".join(f"{field} {weight:g}" for field, weight in weights.items()))


def on_unseen_likes(data: Path) -> None:
    import content_movielens as all_titles

    dataset = all_titles.read(data)
    items, even = dataset.items, dataset.interactions.user_id % 2 == 0
    tutorial = ten_nearest(tutorial_matrix(items))
    for learns, name in ((~even, "even"), (even, "odd")):
        liked = most_co_liked(*all_titles.likes_of(dataset, ~learns), items.num_rows)
        wanted = Yardstick(*title_mates(items), liked)
        print(f"\nAll titles, likes of users with {name} ids, which hybrid lists have not seen. {wanted.sizes()}")
        show("tutorial", wanted.measure(tutorial))
        model = all_titles.half_model(dataset, learns)
        show("content model", wanted.measure(all_titles.nearest(model.by_content(), wanted.films())))
        show("hybrid", wanted.measure(all_titles.nearest(model, wanted.films())))
        print(f"  {model.liked}")


PARTS = {"tmdb": on_tmdb, "movielens": on_movielens, "weights": on_halves, "hybrid": on_unseen_likes}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", type=Path, default=default_data(), help="the folder that holds both")
    parser.add_argument(
        "--part", action="append", choices=tuple(PARTS), help="measure this part alone; may be repeated"
    )
    args = parser.parse_args(argv)
    print(machine(), flush=True)
    for name in args.part or PARTS:
        PARTS[name](args.data)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
