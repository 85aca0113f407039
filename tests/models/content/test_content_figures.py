"""The benchmark that measures content lists, held to slow obvious versions and to floors on real titles."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from small import item_table

from sdk.base.config import ContentConfig
from sdk.models.content.model import ContentModel

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def load() -> Iterator[Callable[[str], ModuleType]]:
    """Loads a benchmark by its name; it is forgotten afterwards."""
    names: list[str] = []

    def loaded(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        names.append(name)
        spec.loader.exec_module(module)
        return module

    yield loaded
    for name in names:
        sys.modules.pop(name, None)


@pytest.mark.parametrize("seed", range(3))
def test_fields_put_together_are_the_models_lists(load: Callable[[str], ModuleType], seed: int) -> None:
    rng = np.random.default_rng(seed)
    people = [[f"Actor {n}" for n in rng.choice(8, rng.integers(0, 4), replace=False)] for _ in range(30)]
    items = item_table(range(30), rng, cast=people)
    weights = {"genres": 0.3, "cast": 0.9, "overview": 0.5, "year": 0.2}
    films = np.arange(0, 30, 2)
    scores = load("content_choice").FieldScores.of(items, films)
    nearest = scores.nearest(scores.weighted(weights), weights)
    model = ContentModel(ContentConfig(weights=weights)).fit(items)
    cosine = model.cosines(items["item_id"].to_numpy())
    np.fill_diagonal(cosine, -1)
    for film in range(30):
        if film % 2:
            assert set(nearest[film]) == {-1}
            continue
        assert len(set(nearest[film])) == 10
        ideal = np.sort(cosine[film])[::-1][:10]
        np.testing.assert_allclose(np.sort(cosine[film, nearest[film]])[::-1], ideal, rtol=0, atol=1e-5)


def test_co_liked_films_are_those_of_the_nearest_sets_of_people(load: Callable[[str], ModuleType]) -> None:
    rng = np.random.default_rng(1)
    fans = {film: set(rng.choice(60, size, replace=False).tolist()) for film, size in enumerate([9, *[25] * 24, 10])}
    pairs = np.array([(film, user) for film, users in fans.items() for user in users])
    found = load("content_quality").most_co_liked(pairs[:, 0], pairs[:, 1], 26)
    assert found[0] == set(), "nine likes are too few"
    for film in range(1, 26):
        likeness = {
            other: len(fans[film] & fans[other]) / np.sqrt(len(fans[film]) * len(fans[other]))
            for other in range(1, 26)
            if other != film
        }
        assert len(found[film]) == 20
        least = sorted(likeness.values(), reverse=True)[19]
        assert min(likeness[other] for other in found[film]) == pytest.approx(least)


@pytest.mark.slow
@pytest.mark.real_data
def test_hybrid_lists_hold_many_more_of_the_titles_that_unseen_people_like_together(
    load: Callable[[str], ModuleType], real_data: Callable[..., Path]
) -> None:
    real_data("tmdb-5000", "tmdb_5000_movies.csv.gz")
    quality, titles = load("content_quality"), load("content_movielens")
    dataset = titles.read(real_data("ml-latest-small", "ratings.csv").parent.parent)
    learns = dataset.interactions.user_id % 2 == 0
    liked = quality.most_co_liked(*titles.likes_of(dataset, ~learns), dataset.items.num_rows)
    films = np.flatnonzero([bool(some) for some in liked])
    model = titles.half_model(dataset, learns)
    alone, hybrid = (
        np.mean([len(set(nearest[film]) & liked[film]) / 10 for film in films])
        for nearest in (titles.nearest(each, films) for each in (model.by_content(), model))
    )
    assert alone > 0.045
    assert hybrid > 3 * alone
