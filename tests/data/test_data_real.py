"""The real MovieLens latest-small and TMDB 5000, where they are at hand."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest

from sdk.base.types import Dataset
from sdk.data import tmdb
from sdk.data.movielens import load

pytestmark = pytest.mark.real_data


@pytest.fixture(scope="module")
def data(real_data: Callable[..., Path]) -> Dataset:
    return load(real_data("ml-latest-small"), tmdb=real_data("tmdb-5000"))


def test_counts_are_the_published_ones(data: Dataset) -> None:
    assert len(data.interactions) == 100_836
    assert (data.users.num_rows, data.items.num_rows, data.rejects.num_rows) == (610, 9_742, 0)
    assert data.items["tmdb_id"].null_count == 8
    assert sum(map(len, data.items["tags"].to_pylist())) == 3_683
    assert data.name == "ml-latest-small"


def test_ratings_are_those_that_the_csv_module_reads(data: Dataset, real_data: Callable[..., Path]) -> None:
    with (real_data("ml-latest-small") / "ratings.csv").open(newline="") as file:
        expected = [tuple(float(value) for value in row) for row in list(csv.reader(file))[1:]]
    i = data.interactions
    got = zip(i.user_id.tolist(), i.item_id.tolist(), i.rating.tolist(), i.timestamp.tolist(), strict=True)
    assert list(got) == expected


def test_quirks_of_the_titles(data: Dataset) -> None:
    items = {item["item_id"]: item for item in data.items.to_pylist()}
    assert (items[2571]["title"], items[2571]["year"]) == ("The Matrix", 1999)
    assert items[2571]["directors"] == ["Lilly Wachowski", "Lana Wachowski"]
    assert items[2571]["cast"][:3] == ["Keanu Reeves", "Laurence Fishburne", "Carrie-Anne Moss"]
    assert sum(not title.strip() or title != title.strip() for title in data.items["title"].to_pylist()) == 0
    described = [item for item in items.values() if item["cast"] or item["overview"]]
    assert len(described) > 3_500


def test_quirks_of_tmdb(real_data: Callable[..., Path]) -> None:
    films, rejects = tmdb.load(real_data("tmdb-5000"))
    assert (films.num_rows, rejects.num_rows) == (4_803, 0)
    empty = {
        name: sum(not value for value in films[name].to_pylist()) for name in ("genres", "keywords", "cast", "year")
    }
    assert empty == {"genres": 28, "keywords": 412, "cast": 43, "year": 1}
    overviews = films["overview"].to_pylist()
    assert sum(not text for text in overviews) == 4  # three absent, and one that is a single blank


def test_the_fingerprint_is_the_same_on_every_load(data: Dataset, real_data: Callable[..., Path]) -> None:
    assert load(real_data("ml-latest-small"), tmdb=real_data("tmdb-5000")).fingerprint == data.fingerprint
