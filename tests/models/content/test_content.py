"""The content model, against a slow obvious version of the same cosine and against answers a person can check."""

from __future__ import annotations

import importlib.util
import json
import math
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st

from sdk.base import schema
from sdk.base.config import CONTENT_FIELDS, ContentConfig
from sdk.base.errors import BundleError, DataError, MissingColumnError, UnknownItemError, UsageError
from sdk.models.content.model import ContentModel
from sdk.models.content.neighbours import NeighbourIndex
from sdk.models.content.title_search import name_key
from sdk.models.content.tokens import overview_words, series_name, title_words, year_tokens

ROOT = Path(__file__).resolve().parents[3]
LISTS = [field.name for field in schema.ITEMS if pa.types.is_list(field.type)]


def film(
    item_id: int, title: str, year: int | None = None, overview: str = "", **lists: list[str]
) -> dict[str, object]:
    empty: dict[str, list[str]] = {name: [] for name in LISTS}
    return {"item_id": item_id, "title": title, "year": year, "tmdb_id": None, "overview": overview, **empty, **lists}


def catalogue(*films: dict[str, object]) -> pa.Table:
    return pa.Table.from_pylist(list(films), schema=schema.ITEMS)


NOLAN, MANN = ["Christopher Nolan"], ["Michael Mann"]
FILMS = catalogue(
    film(10, "Toy Story", 1995, "A cowboy doll fears a space ranger.", genres=["Animation"], cast=["Tom Hanks"]),
    film(20, "Toy Story 2", 1999, "A collector steals a cowboy doll.", genres=["Animation"], cast=["Tom Hanks"]),
    film(30, "Toy Story 3", 2010, "A cowboy doll goes to day care.", genres=["Animation"], cast=["Tom Hanks"]),
    film(40, "Heat", 1995, "A thief and a detective.", genres=["Crime"], directors=MANN, cast=["Al Pacino"]),
    film(
        50, "Collateral", 2004, "A taxi driver meets a killer.", genres=["Crime"], directors=MANN, cast=["Tom Cruise"]
    ),
    film(60, "The Dark Knight", 2008, "A vigilante.", genres=["Crime"], directors=NOLAN, keywords=["Gotham City"]),
    film(70, "Memento", 2000, "A man forgets.", genres=["Mystery"], directors=NOLAN, tags=["twist", "twist", "noir"]),
    film(80, "It"),
    film(90, "Amélie", 2001, genres=["Romance"]),
    film(100, "Hamlet", 1990, genres=["Drama"]),
    film(110, "Hamlet", 1996, genres=["Drama"]),
    film(120, "City of Lost Children, The (Cité des enfants perdus, La)", 1995, genres=["Fantasy"]),
    film(130, "Rocky II", 1979, genres=["Sport"]),
    film(140, "Batman Begins", 2005, directors=NOLAN, keywords=["gotham city "]),
)


@pytest.fixture(scope="module")
def model() -> ContentModel:
    return ContentModel().fit(FILMS)


def neighbours(model: ContentModel, item_id: int, k: int = 100) -> list[int]:
    return model.similar(np.array([item_id]), k).row(0)[0].tolist()


# --- a slow obvious version of the same cosine


def obvious_tokens(item: dict, field: str, config: ContentConfig) -> Counter:
    value = item[field]
    if field == "year":
        near = {} if value is None else {c: 1 - abs(value - c) / 10 for c in range(0, 3000, 5) if abs(value - c) < 10}
        return Counter(near)
    if field == "overview":
        return Counter(overview_words(value))
    if field == "title":
        series = series_name(value)
        return Counter(title_words(value) + ([("series", series)] if series else []))
    value = value[: config.max_cast] if field == "cast" else value
    lower = field in ("keywords", "tags")
    return Counter(token.lower() if lower else token for token in map(str.strip, value) if token)


def obvious_vector(tokens: Counter, counts: Counter, num_items: int, field: str, least: int) -> dict:
    kept = {token: n for token, n in tokens.items() if counts[token] >= least}
    if field == "year":
        vector = kept
    else:
        vector = {t: (1 + math.log(n)) * (math.log((1 + num_items) / (1 + counts[t])) + 1) for t, n in kept.items()}
    length = math.sqrt(sum(v * v for v in vector.values()))
    return {(field, t): v / length for t, v in vector.items()}


def obvious_cosines(items: pa.Table, config: ContentConfig) -> np.ndarray:
    rows = items.to_pylist()
    vectors: list[dict] = [{} for _ in rows]
    for field in CONTENT_FIELDS:
        tokens = [obvious_tokens(row, field, config) for row in rows]
        counts = Counter(token for some in tokens for token in some)
        least = config.min_document_count if field == "overview" else 1
        for vector, some in zip(vectors, tokens, strict=True):
            block = obvious_vector(some, counts, len(rows), field, least)
            vector.update({t: v * math.sqrt(config.weights.get(field, 0)) for t, v in block.items()})
    columns = {token: i for i, token in enumerate(dict.fromkeys(t for vector in vectors for t in vector))}
    dense = np.zeros((len(rows), max(len(columns), 1)))
    for i, vector in enumerate(vectors):
        for token, value in vector.items():
            dense[i, columns[token]] = value
    lengths = np.linalg.norm(dense, axis=1, keepdims=True)
    dense /= np.where(lengths > 0, lengths, 1)
    return dense @ dense.T


WORDS = st.lists(st.sampled_from(["wolf", "river", "Ghost", "bank", "the", "2", "III", "night's"]), max_size=5)
NAMES = st.lists(st.sampled_from(["Ann Lee", "Bo Lee", "Cy", " Cy ", "", "Émile", "Gun", "gun"]), max_size=7)


@st.composite
def catalogues(draw: st.DrawFn) -> pa.Table:
    """Few distinct tokens, hence many ties, empty titles and shared words; ids in no order."""
    ids = draw(st.lists(st.integers(1, 10**12), min_size=1, max_size=9, unique=True))
    films = [
        film(
            item_id,
            " ".join(draw(WORDS)),
            draw(st.none() | st.integers(1990, 2012)),
            " ".join(draw(WORDS)),
            **{name: draw(NAMES) for name in draw(st.sets(st.sampled_from(LISTS)))},
        )
        for item_id in ids
    ]
    return catalogue(*films)


CONFIGS = st.builds(
    lambda weights, cast, least: ContentConfig(
        weights={**weights, "genres": 0.5}, max_cast=cast, min_document_count=least
    ),
    st.dictionaries(st.sampled_from(CONTENT_FIELDS), st.sampled_from([0.0, 0.3, 1.0])),
    st.integers(1, 3),
    st.integers(1, 3),
)


@settings(max_examples=60, deadline=None)
@given(catalogues(), CONFIGS)
def test_rows_match_the_slow_obvious_version(items: pa.Table, config: ContentConfig) -> None:
    rows = ContentModel(config).fit_transform(items)
    assert rows.dtype == np.float32
    np.testing.assert_allclose((rows @ rows.T).toarray(), obvious_cosines(items, config), atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(catalogues(), st.integers(1, 12))
def test_lists_match_the_slow_obvious_version(items: pa.Table, k: int) -> None:
    model = ContentModel().fit(items)
    cosines, ids = obvious_cosines(items, model.config), items["item_id"].to_numpy()
    np.fill_diagonal(cosines, 0)
    top = model.similar(ids, k)
    assert top.item_id.shape == (len(ids), min(k, len(ids)))
    for b in range(len(ids)):
        listed, scores = top.row(b)
        assert ids[b] not in listed.tolist()
        assert len(set(listed.tolist())) == len(listed) == min(k, (cosines[b] > 1e-9).sum())
        ideal = np.sort(cosines[b])[::-1][: len(listed)]
        places = [ids.tolist().index(item_id) for item_id in listed]
        np.testing.assert_allclose(scores, ideal, atol=1e-6)
        np.testing.assert_allclose(cosines[b, places], ideal, atol=1e-6)
        assert (top.item_id[b, len(listed) :] == -1).all()
        assert np.isneginf(top.scores[b, len(listed) :]).all()


@settings(max_examples=40, deadline=None)
@given(catalogues(), st.integers(1, 12), st.integers(1, 4), st.randoms(use_true_random=False))
def test_neither_blocks_nor_row_order_change_a_list(items: pa.Table, k: int, block_size: int, random: object) -> None:
    order = list(range(items.num_rows))
    random.shuffle(order)  # type: ignore[attr-defined]
    blocks = list(ContentModel().fit(items.take(order)).similar_all(k, block_size))
    item_id = np.concatenate([block.item_id for block in blocks])
    assert item_id.tolist() == sorted(items["item_id"].to_pylist())
    whole = ContentModel().fit(items).similar(item_id, k)
    np.testing.assert_array_equal(np.concatenate([block.neighbours.item_id for block in blocks]), whole.item_id)
    np.testing.assert_array_equal(np.concatenate([block.neighbours.scores for block in blocks]), whole.scores)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 30), st.integers(1, 25), st.integers(1, 4))
def test_the_index_orders_equal_scores_by_row(seed: int, num_rows: int, k: int, threads: int) -> None:
    rng = np.random.default_rng(seed)
    dense = rng.choice([0, 0, 0.25, 0.5], (num_rows, 3)).astype(np.float32)  # sums of these are exact
    found = NeighbourIndex(scipy.sparse.csr_matrix(dense)).nearest(np.arange(num_rows), k, threads=threads)
    scores = dense @ dense.T
    for b in range(num_rows):
        others = [i for i in range(num_rows) if i != b and scores[b, i] > 0]
        expected = sorted(others, key=lambda i: (-scores[b, i], i))[:k]
        assert found.row[b, : found.lengths[b]].tolist() == expected
        assert found.scores[b, : found.lengths[b]].tolist() == scores[b, expected].tolist()


# --- known answers


def test_a_series_comes_first(model: ContentModel) -> None:
    assert set(neighbours(model, 10)[:2]) == {20, 30}
    assert set(neighbours(model, 30)[:2]) == {10, 20}


def test_the_same_director_comes_before_the_same_genre(model: ContentModel) -> None:
    assert neighbours(model, 40)[0] == 50
    assert set(neighbours(model, 60)[:2]) == {70, 140}


def test_people_are_whole_names(model: ContentModel) -> None:
    config = ContentConfig(weights={"cast": 1.0})
    assert neighbours(ContentModel(config).fit(FILMS), 50) == []  # Tom Cruise is no Tom Hanks
    assert "Tom Hanks" in model.vocabulary["cast"]


def test_a_bare_title_still_has_neighbours_by_genre_and_year() -> None:
    near, far, other = film(2, "B", 1991, genres=["War"]), film(3, "C", 1940, genres=["War"]), film(4, "D", 1940)
    model = ContentModel().fit(catalogue(film(1, "A", 1990, genres=["War"]), near, far, other))
    assert neighbours(model, 1) == [2, 3]


def test_a_title_with_nothing_has_an_empty_list() -> None:
    model = ContentModel().fit(catalogue(film(1, "!?"), film(2, "Heat", 1995), film(3, "Ronin", 1998)))
    assert neighbours(model, 1) == []
    assert neighbours(model, 2) == [3]


def test_years_fade_out_over_two_decades() -> None:
    ids = list(range(1970, 2021, 5))
    model = ContentModel(ContentConfig(weights={"year": 1.0}))
    model.fit(catalogue(*(film(year, "", year) for year in ids)))
    top, scores = model.similar(np.array([1995]), 20).row(0)
    assert top.tolist() == [1990, 2000, 1985, 2005]
    assert scores[1] > 2 * scores[2]


def test_a_year_lies_in_the_buckets_around_it() -> None:
    tokens = year_tokens(pa.array([1998, None], pa.int32()))
    assert dict(zip(tokens.token.to_pylist(), tokens.value.round(6), strict=True)) == {
        "1990": 0.2,
        "1995": 0.7,
        "2000": 0.8,
        "2005": 0.3,
    }
    assert set(tokens.row) == {0}


@pytest.mark.parametrize(
    ("title", "series"),
    [
        ("Toy Story 2", "toy story"),
        ("The Godfather: Part III", "godfather"),
        ("Rocky IV", "rocky"),
        ("Star Wars: Episode V - The Empire Strikes Back", "star wars"),
        ("Police Academy 4: Citizens on Patrol", "police academy"),
        ("(500) Days of Summer", "days summer"),
        ("1984", "1984"),
        ("It", "it"),
        ("X-Men", "x-men"),
        ("Amélie", "amelie"),
        ("Alien³", "alien"),
        ("", ""),
    ],
)
def test_series_names(title: str, series: str) -> None:
    assert series_name(title) == series


def test_overview_words_leave_out_what_says_nothing() -> None:
    assert overview_words("The Hobbit's 2 rings, and a café — don't!") == ["hobbit", "rings", "cafe", "don't"]


def test_repeated_tags_count_sublinearly() -> None:
    once, thrice = film(1, "", tags=["noir", "slow"]), film(2, "", tags=["noir"] * 3 + ["slow"])
    row = ContentModel().fit(catalogue(once, thrice)).transform(catalogue(thrice)).toarray()[0]
    noir, slow = sorted(row[row > 0])[::-1]
    assert noir / slow == pytest.approx(1 + math.log(3))


# --- transform, vectors


def test_transform_of_new_titles_uses_the_fitted_words(model: ContentModel) -> None:
    new = catalogue(film(7, "Toy Story 9", 2030, genres=["Animation", "Unheard Of"]), film(8, "Unheard", 2090))
    rows = model.transform(new)
    assert rows.shape == (2, sum(map(len, model.vocabulary.values())))
    assert np.linalg.norm(rows.toarray(), axis=1) == pytest.approx([1, 0])
    scores = (rows @ model.transform(FILMS).T).toarray()[0]
    assert set(np.argsort(-scores)[:3]) == {0, 1, 2}


def test_transform_reads_a_slice_and_chunks_as_well(model: ContentModel) -> None:
    whole = model.transform(FILMS).toarray()
    np.testing.assert_array_equal(model.transform(FILMS.slice(3, 5)).toarray(), whole[3:8])
    chunked = pa.concat_tables([FILMS.slice(0, 4), FILMS.slice(4)])
    np.testing.assert_array_equal(model.transform(chunked).toarray(), whole)


def test_null_lists_and_texts_count_as_empty() -> None:
    loose = pa.schema([pa.field(field.name, field.type) for field in schema.ITEMS])
    nulls = {"item_id": 1, "title": "Heat", "year": None, "genres": [None, "War"]}
    items = pa.Table.from_pylist([nulls, {"item_id": 2, "title": "Ronin", "genres": ["War"]}], schema=loose)
    assert neighbours(ContentModel().fit(items), 1) == [2]


def test_wide_vectors_keep_the_cosines_and_pad_with_zeros(model: ContentModel) -> None:
    vectors = model.vectors(40, seed=3)
    assert vectors.dtype == np.float32
    assert vectors.shape == (FILMS.num_rows, 40)
    np.testing.assert_allclose(vectors @ vectors.T, obvious_cosines(FILMS, model.config), atol=1e-5)
    assert (vectors[:, FILMS.num_rows :] == 0).all()


def test_vectors_are_the_best_of_their_width_and_reproducible(model: ContentModel) -> None:
    vectors = model.vectors(4, seed=1)
    np.testing.assert_array_equal(vectors, ContentModel().fit(FILMS).vectors(4, seed=1))
    values, directions = np.linalg.eigh(obvious_cosines(FILMS, model.config))
    best = (directions[:, -4:] * values[-4:]) @ directions[:, -4:].T
    np.testing.assert_allclose(vectors @ vectors.T, best, atol=1e-4)
    assert (vectors[np.abs(vectors).argmax(axis=0), range(4)] > 0).all()


def test_vectors_follow_the_order_of_the_table() -> None:
    shuffled = FILMS.take(np.random.default_rng(0).permutation(FILMS.num_rows))
    model = ContentModel().fit(shuffled)
    vectors = model.vectors(40)
    np.testing.assert_allclose(vectors @ vectors.T, obvious_cosines(shuffled, model.config), atol=1e-5)
    assert model.item_id.tolist() == shuffled["item_id"].to_pylist()


def test_vectors_of_titles_with_nothing_are_zero() -> None:
    assert (ContentModel().fit(catalogue(film(1, ""), film(2, "?"))).vectors(3) == 0).all()


# --- explain


def test_reasons_name_what_two_films_share(model: ContentModel) -> None:
    reasons = model.explain(60, 140)
    assert reasons.shared["directors"] == ("Christopher Nolan",)
    assert reasons.shared["keywords"] == ("gotham city",)
    assert set(reasons.shared) == set(reasons.contributions)
    assert set(reasons.contributions) == {"directors", "keywords", "year"}
    toys = model.explain(10, 20)
    assert toys.shared["cast"] == ("Tom Hanks",)
    assert toys.shared["genres"] == ("Animation",)
    assert set(toys.shared["title"]) == {"toy story", "toy", "story"}
    assert set(toys.shared["overview"]) == {"cowboy", "doll"}


@settings(max_examples=40, deadline=None)
@given(catalogues())
def test_contributions_sum_to_the_score_that_similar_gives(items: pa.Table) -> None:
    model = ContentModel().fit(items)
    for block in model.similar_all(20):
        for b, item_a in enumerate(block.item_id.tolist()):
            listed, scores = block.neighbours.row(b)
            for item_b, score in zip(listed.tolist(), scores.tolist(), strict=True):
                reasons = model.explain(item_a, item_b)
                assert sum(reasons.contributions.values()) == pytest.approx(score, abs=1e-6)
                assert reasons.score == pytest.approx(score, abs=1e-6)
                assert all(value > 0 for value in reasons.contributions.values())
                assert set(reasons.shared) == set(reasons.contributions)


def test_titles_that_share_nothing_have_no_reasons(model: ContentModel) -> None:
    reasons = model.explain(80, 90)
    assert (reasons.score, dict(reasons.contributions), dict(reasons.shared)) == (0, {}, {})


# --- titles


@pytest.mark.parametrize(
    ("query", "item_id"),
    [
        ("the dark knight", 60),
        ("Dark Knight, The", 60),
        ("DARK KNIGHT (2008)", 60),
        ("amelie", 90),
        ("Hamlet (1996)", 110),
        ("cite des enfants perdus", None),
        ("La Cité des Enfants Perdus", 120),
        ("The City of Lost Children", 120),
        ("city of lost children (1995)", 120),
        ("rocky 2", 130),
        ("Rocky, Part II", 130),
        ("it", 80),
    ],
)
def test_a_title_is_found_however_it_is_written(model: ContentModel, query: str, item_id: int | None) -> None:
    found = model.find_title(query)
    if item_id is None:
        assert found[0].item_id == 120
        assert not found[0].exact
    else:
        assert [(match.item_id, match.exact, match.score) for match in found] == [(item_id, True, 1.0)]


@pytest.mark.parametrize(
    ("query", "item_id"),
    [
        ("The Drak Knight", 60),
        ("Toy Stroy 2", 20),
        ("colateral", 50),
        ("Momento (2000)", 70),
        ("lost children", 120),
        ("Lost Chidlren", 120),
    ],
)
def test_a_misspelt_title_is_suggested(model: ContentModel, query: str, item_id: int) -> None:
    first = model.find_title(query)[0]
    assert (first.item_id, first.exact) == (item_id, False)
    assert 0.6 <= first.score < 1


def test_a_name_that_two_films_bear_gives_both_and_a_wrong_year_only_suggests(model: ContentModel) -> None:
    assert [(match.item_id, match.exact) for match in model.find_title("Hamlet")] == [(100, True), (110, True)]
    assert len(model.find_title("Hamlet", limit=1)) == 1
    wrong = model.find_title("Hamlet (2000)")
    assert [(match.item_id, match.exact) for match in wrong] == [(100, False), (110, False)]


@pytest.mark.parametrize("query", ["", "   ", "!!!", "zzzzqqqq"])
def test_nonsense_finds_nothing(model: ContentModel, query: str) -> None:
    assert model.find_title(query) == []


def test_an_article_is_moved_only_where_it_is_one() -> None:
    assert name_key("Monsters, Inc") == "monsters inc"
    assert name_key("Avventura, L'") == name_key("L'avventura")
    assert name_key("Haine, La") == name_key("La Haine")
    assert name_key("The The") == "the"


def test_raised_digits_are_digits() -> None:
    assert name_key("Alien³") == name_key("Alien 3") == name_key("Alien III")


# --- save and load


def test_a_loaded_model_is_the_same(model: ContentModel, tmp_path: Path) -> None:
    model.save(tmp_path / "a")
    loaded = ContentModel.load(tmp_path / "a", FILMS)
    ids = FILMS["item_id"].to_numpy()
    np.testing.assert_array_equal(loaded.similar(ids, 5).item_id, model.similar(ids, 5).item_id)
    np.testing.assert_array_equal(loaded.similar(ids, 5).scores, model.similar(ids, 5).scores)
    np.testing.assert_array_equal(loaded.vectors(4), model.vectors(4))
    np.testing.assert_array_equal(loaded.transform(FILMS).toarray(), model.transform(FILMS).toarray())
    assert loaded.explain(10, 20) == model.explain(10, 20)
    assert loaded.find_title("heat") == model.find_title("heat")
    assert loaded.config == model.config


def test_the_same_model_gives_the_same_bytes(model: ContentModel, tmp_path: Path) -> None:
    model.save(tmp_path / "a")
    ContentModel.load(tmp_path / "a", FILMS).save(tmp_path / "b")
    ContentModel().fit(FILMS).save(tmp_path / "c")
    for name in ("content.npz", "content.json"):
        contents = {(tmp_path / folder / name).read_bytes() for folder in "abc"}
        assert len(contents) == 1, name


def test_the_saved_matrix_is_scipys_own_format(model: ContentModel, tmp_path: Path) -> None:
    model.save(tmp_path)
    matrix = scipy.sparse.load_npz(tmp_path / "content.npz")
    np.testing.assert_array_equal(matrix.toarray(), model.transform(FILMS).toarray())


def test_other_titles_are_refused(model: ContentModel, tmp_path: Path) -> None:
    model.save(tmp_path)
    with pytest.raises(BundleError, match="other titles"):
        ContentModel.load(tmp_path, FILMS.slice(1))


def test_damaged_files_are_refused(model: ContentModel, tmp_path: Path) -> None:
    model.save(tmp_path / "good")
    words = json.loads((tmp_path / "good" / "content.json").read_text())
    short = {**words, "vocabulary": {**words["vocabulary"], "cast": []}}
    wrong = {
        "version 99": {**words, "version": 99},
        "no usable config": {**words, "config": {"weights": {"colour": 1.0}}},
        "does not fit": short,
    }
    for message, value in wrong.items():
        folder = shutil.copytree(tmp_path / "good", tmp_path / message)
        (folder / "content.json").write_text(json.dumps(value))
        with pytest.raises(BundleError, match=message):
            ContentModel.load(folder, FILMS)


@pytest.mark.parametrize("name", ["content.npz", "content.json"])
def test_absent_and_cut_files_are_refused(model: ContentModel, tmp_path: Path, name: str) -> None:
    model.save(tmp_path)
    path = tmp_path / name
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(BundleError, match=name):
        ContentModel.load(tmp_path, FILMS)
    path.unlink()
    with pytest.raises(BundleError, match=name):
        ContentModel.load(tmp_path, FILMS)


def test_a_column_out_of_range_never_reaches_compiled_code(model: ContentModel, tmp_path: Path) -> None:
    model.save(tmp_path)
    with np.load(tmp_path / "content.npz") as archive:
        arrays = dict(archive)
    arrays["indices"][0] = 10**6
    np.savez(tmp_path / "content.npz", **arrays)
    with pytest.raises(BundleError, match="does not fit"):
        ContentModel.load(tmp_path, FILMS)


# --- refusals


def test_what_cannot_be_asked_is_refused(model: ContentModel) -> None:
    with pytest.raises(UnknownItemError, match="item_id 15: not among the model's 14 titles"):
        model.similar(np.array([10, 15]), 3)
    with pytest.raises(UnknownItemError, match="item_id 999"):
        model.explain(10, 999)
    with pytest.raises(UsageError, match="k: got 0"):
        model.similar(np.array([10]), 0)
    with pytest.raises(UsageError, match="block_size: got 0"):
        model.similar_all(3, 0)
    with pytest.raises(UsageError, match="dim: got 0"):
        model.vectors(0)
    with pytest.raises(UsageError, match="limit: got 0"):
        model.find_title("heat", 0)


@pytest.mark.parametrize("k", [10**12, 2**63 - 1, 10**40])
def test_a_list_as_long_as_nothing_is_cut_to_the_catalogue(model: ContentModel, k: int) -> None:
    every = model.similar(model.item_id, len(model.item_id))
    np.testing.assert_array_equal(model.similar(model.item_id, k).item_id, every.item_id)
    blocks = list(model.similar_all(k, 10**40))
    assert sum(len(block.item_id) for block in blocks) == len(model.item_id)
    assert len(model.find_title("heat", k)) == len(model.find_title("heat", 10**3))


@pytest.mark.parametrize("wrong", ["5", True, 2.5, None, float("nan")])
def test_a_number_of_things_is_a_whole_number(model: ContentModel, wrong: Any) -> None:
    for ask in (
        lambda: model.similar(model.item_id[:1], wrong),
        lambda: model.similar_all(wrong),
        lambda: model.similar_all(1, wrong),
        lambda: model.vectors(wrong),
        lambda: model.find_title("heat", wrong),
    ):
        with pytest.raises(UsageError, match="expected a whole number of at least 1"):
            ask()


@pytest.mark.parametrize("query", [None, 5, b"heat", ["heat"]])
def test_a_name_is_text(model: ContentModel, query: Any) -> None:
    with pytest.raises(UsageError, match=r"find_title: got .* expected text"):
        model.find_title(query)


def test_an_unfitted_model_says_so(tmp_path: Path) -> None:
    model = ContentModel()
    for ask in (
        lambda: model.similar(np.array([1]), 1),
        lambda: model.transform(FILMS),
        lambda: model.find_title("heat"),
        lambda: model.save(tmp_path),
    ):
        with pytest.raises(UsageError, match="not fitted"):
            ask()


def test_tables_that_cannot_be_fitted_are_refused() -> None:
    with pytest.raises(DataError, match="item_id 10 occurs 2 times"):
        ContentModel().fit(pa.concat_tables([FILMS, FILMS.slice(0, 1)]))
    with pytest.raises(DataError, match="empty"):
        ContentModel().fit(FILMS.slice(0, 0))
    with pytest.raises(MissingColumnError, match="no column 'crew'"):
        ContentModel().fit(FILMS.drop_columns(["crew"]))


def test_columns_without_weight_need_not_be_there() -> None:
    model = ContentModel(ContentConfig(weights={"genres": 1.0}))
    assert neighbours(model.fit(FILMS.select(["item_id", "title", "year", "genres"])), 100) == [110]


def test_no_item_is_an_empty_answer(model: ContentModel) -> None:
    assert model.similar(np.array([], np.int64), 3).item_id.shape == (0, 3)


# --- the rest


def test_importing_the_model_loads_nothing_heavy() -> None:
    heavy = {"numba", "sklearn", "torch", "rapidfuzz"}
    code = f"import sys, sdk.models.content.model; print(*sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("content_quality", ROOT / "tests/benchmarks/content_quality.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.real_data
def test_quality_on_real_films_stays_above_its_floors(real_data: Callable[..., Path]) -> None:
    real_data("tmdb-5000", "tmdb_5000_movies.csv.gz")
    data = real_data("ml-latest-small", "ratings.csv").parent.parent
    quality = benchmark()
    items = quality.read_tmdb(data / "tmdb-5000")
    nearest = quality.model_nearest(items, ContentConfig())
    figures = quality.yardstick(items, data / "ml-latest-small").measure(nearest)
    floors = {"series": 0.95, "director": 0.85, "co-liked": 0.085}
    assert {name for name, floor in floors.items() if figures[name] < floor} == set(), figures
