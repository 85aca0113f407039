"""The sample data set: the real loader reads it, it is the same each time, its facts are right, its tastes show."""

from __future__ import annotations

import csv
import gzip
import os
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from sdk.base.errors import ConfigError, OutputError, UnusableFileError
from sdk.base.types import Dataset
from sdk.data import movielens, tmdb
from sdk.data.sample import films as sample_catalogue
from sdk.data.sample.films import GENRES, Film, read_films
from sdk.data.sample.writer import movielens_title, write_sample
from sdk.data.titles import split_title
from sdk.metrics.pointwise import auc

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("MARQUEE_DATA", ROOT.parent / "shared" / "data"))
FILES = (
    "ml-sample/ratings.csv", "ml-sample/movies.csv", "ml-sample/links.csv", "ml-sample/tags.csv",
    "tmdb-sample/tmdb_5000_movies.csv", "tmdb-sample/tmdb_5000_credits.csv",
)  # fmt: skip
KNOWN = (
    ("Metropolis", 1927, "Fritz Lang", "Brigitte Helm", "Sci-Fi"),
    ("King Kong", 1933, "Merian C. Cooper", "Fay Wray", "Adventure"),
    ("Citizen Kane", 1941, "Orson Welles", "Joseph Cotten", "Drama"),
    ("Casablanca", 1942, "Michael Curtiz", "Humphrey Bogart", "Romance"),
    ("Seven Samurai", 1954, "Akira Kurosawa", "Toshiro Mifune", "Action"),
    ("Psycho", 1960, "Alfred Hitchcock", "Anthony Perkins", "Horror"),
    ("2001: A Space Odyssey", 1968, "Stanley Kubrick", "Keir Dullea", "Sci-Fi"),
    ("The Godfather", 1972, "Francis Ford Coppola", "Al Pacino", "Crime"),
    ("Jaws", 1975, "Steven Spielberg", "Roy Scheider", "Thriller"),
    ("Star Wars", 1977, "George Lucas", "Harrison Ford", "Sci-Fi"),
    ("Alien", 1979, "Ridley Scott", "Sigourney Weaver", "Horror"),
    ("My Neighbor Totoro", 1988, "Hayao Miyazaki", "Noriko Hidaka", "Animation"),
    ("The Piano", 1993, "Jane Campion", "Holly Hunter", "Romance"),
    ("Pulp Fiction", 1994, "Quentin Tarantino", "Uma Thurman", "Crime"),
    ("Toy Story", 1995, "John Lasseter", "Tom Hanks", "Animation"),
    ("The Matrix", 1999, "Lana Wachowski", "Keanu Reeves", "Sci-Fi"),
    ("Spirited Away", 2001, "Hayao Miyazaki", "Rumi Hiiragi", "Fantasy"),
    ("The Hurt Locker", 2008, "Kathryn Bigelow", "Jeremy Renner", "War"),
    ("Parasite", 2019, "Bong Joon-ho", "Song Kang-ho", "Thriller"),
    ("Everything Everywhere All at Once", 2022, "Daniel Kwan", "Michelle Yeoh", "Comedy"),
)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_sample(tmp_path_factory.mktemp("sample"))


@pytest.fixture(scope="module")
def dataset(folders: tuple[Path, Path]) -> Dataset:
    return movielens.load(folders[0], tmdb=folders[1])


def rows_of(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.reader(stream))


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in FILES}


def test_the_real_loader_reads_every_row(dataset: Dataset, folders: tuple[Path, Path]) -> None:
    assert dataset.rejects.num_rows == 0
    assert dataset.name == "ml-sample"
    assert len(dataset.interactions) == len(rows_of(folders[0] / "ratings.csv")) - 1
    assert len(set(dataset.interactions.user_id.tolist())) == 1200
    assert len(dataset.interactions) >= 60_000
    assert dataset.items.num_rows == len(read_films())


def test_what_is_loaded_is_the_catalogue(dataset: Dataset) -> None:
    for row, film in zip(dataset.items.to_pylist(), read_films(), strict=True):
        assert (row["item_id"], row["title"], row["year"]) == (film.item_id, film.title, film.year)
        assert row["genres"] == sorted(film.genres)
        for name in ("directors", "cast", "keywords"):
            assert tuple(row[name]) == getattr(film, name)
        assert row["overview"] == film.overview


def test_the_films_stand_alone_as_a_tmdb_catalogue(folders: tuple[Path, Path]) -> None:
    films, rejects = tmdb.load(folders[1])
    assert rejects.num_rows == 0
    assert not {"Sci-Fi", "Children", "Musical"} & {name for names in films["genres"].to_pylist() for name in names}
    for row, film in zip(films.to_pylist(), read_films(), strict=True):
        assert (row["title"], row["year"]) == (film.title, film.year)
        assert tmdb.movielens_genres(row["genres"]) == sorted(film.genres)


def test_votes_are_the_simulated_ratings_on_a_scale_of_ten(dataset: Dataset, folders: tuple[Path, Path]) -> None:
    header, *rows = rows_of(folders[1] / "tmdb_5000_movies.csv")
    average, votes = header.index("vote_average"), header.index("vote_count")
    for film, row in zip(read_films(), rows, strict=True):
        given = dataset.interactions.rating[dataset.interactions.item_id == film.item_id]
        assert int(row[votes]) == len(given)
        assert abs(float(row[average]) - 2 * given.mean(dtype=np.float64)) < 0.05 + 1e-9, film.title
        assert re.fullmatch(r"[0-9]+\.[0-9]", row[average])


def test_the_scale_and_the_mean_look_like_movielens(dataset: Dataset) -> None:
    rating = dataset.interactions.rating
    assert set(np.unique(2 * rating).tolist()) == set(range(1, 11))
    assert 3.3 < rating.mean() < 3.7
    assert 0.45 < np.mean(rating > 3) < 0.65


def test_popularity_is_skewed_and_every_film_is_seen(dataset: Dataset) -> None:
    counts = np.sort(np.bincount(dataset.interactions.item_id, minlength=dataset.items.num_rows + 1)[1:])
    assert counts[0] >= 1
    tenth = len(counts) // 10
    assert counts[-tenth:].sum() > 0.25 * counts.sum() > 5 * counts[:tenth].sum()


def test_users_rate_in_sessions_over_years_and_no_film_before_its_release(dataset: Dataset) -> None:
    rows = dataset.interactions
    order = np.lexsort((rows.timestamp, rows.user_id))
    same_user = np.diff(rows.user_id[order]) == 0
    pauses = np.diff(rows.timestamp[order])[same_user]
    assert np.mean(pauses < 120) > 0.9
    assert np.max(pauses) > 20 * 86_400
    assert rows.timestamp.max() - rows.timestamp.min() > 5 * 365 * 86_400
    assert datetime.fromtimestamp(int(rows.timestamp.max()), tz=UTC).year < 2027
    released = np.array([film.year for film in read_films()])[rows.item_id - 1]
    rated = rows.timestamp.astype("datetime64[s]").astype("datetime64[Y]").astype(int) + 1970
    assert np.all(rated > released)


def test_tags_are_keywords_of_films_that_the_user_liked(dataset: Dataset, folders: tuple[Path, Path]) -> None:
    keywords = {film.item_id: film.keywords for film in read_films()}
    rows = dataset.interactions
    rated = {
        (u, i): (s, t)
        for u, i, s, t in zip(
            rows.user_id.tolist(), rows.item_id.tolist(), rows.rating.tolist(), rows.timestamp.tolist(), strict=True
        )
    }
    tags = rows_of(folders[0] / "tags.csv")[1:]
    assert len(tags) > 1000
    for user, item, tag, at in tags:
        stars, timestamp = rated[int(user), int(item)]
        assert tag in keywords[int(item)]
        assert stars > 3
        assert 0 < int(at) - timestamp < 60


def test_the_same_seed_writes_the_same_bytes_in_another_process(tmp_path: Path) -> None:
    write_sample(tmp_path / "a", num_users=60)
    code = "import sys; from sdk.data.sample.writer import write_sample as w; w(sys.argv[1], num_users=60)"
    environment = os.environ | {"PYTHONHASHSEED": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "b")], check=True, env=environment)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_writing_again_replaces_the_files_and_leaves_no_other(tmp_path: Path) -> None:
    write_sample(tmp_path, num_users=5)
    before = contents(tmp_path)
    (tmp_path / FILES[0]).write_bytes(b"half a fi")
    write_sample(tmp_path, num_users=5)
    assert contents(tmp_path) == before
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.glob("*/*")) == sorted(FILES)


def test_another_seed_draws_other_ratings_over_the_same_films(tmp_path: Path) -> None:
    write_sample(tmp_path / "a", seed=1, num_users=20)
    write_sample(tmp_path / "b", seed=2, num_users=20)
    a, b = contents(tmp_path / "a"), contents(tmp_path / "b")
    assert a["ml-sample/ratings.csv"] != b["ml-sample/ratings.csv"]
    assert a["ml-sample/movies.csv"] == b["ml-sample/movies.csv"]


def test_one_user_is_enough_to_write(tmp_path: Path) -> None:
    movielens_folder, tmdb_folder = write_sample(tmp_path, num_users=1)
    alone = movielens.load(movielens_folder, tmdb=tmdb_folder)
    assert set(alone.interactions.user_id.tolist()) == {1}
    assert len(alone.interactions) >= 20
    assert alone.rejects.num_rows == 0


def test_lines_end_in_newline_only(folders: tuple[Path, Path]) -> None:
    for name, data in contents(folders[0].parent).items():
        assert b"\r" not in data, name
        assert data.endswith(b"\n"), name


@pytest.mark.real_data
@pytest.mark.parametrize("name", FILES)
def test_columns_are_the_published_ones(folders: tuple[Path, Path], name: str) -> None:
    ours = folders[0].parent / name
    kind, file = name.split("/")
    published = DATA / ("ml-latest-small" if kind == "ml-sample" else "tmdb-5000") / file
    packed = published.with_name(f"{file}.gz")
    if not published.is_file() and not packed.is_file():
        pytest.skip(f"no {published}: set MARQUEE_DATA to the folder that holds {published.parent.name}")
    with gzip.open(packed) if packed.is_file() else published.open("rb") as stream:
        header = stream.readline().decode().strip()
    assert rows_of(ours)[0] == header.split(",")


@pytest.mark.parametrize(("options", "field"), [({"seed": -1}, "seed"), ({"num_users": 0}, "num_users")])
def test_an_impossible_option_is_named(tmp_path: Path, options: dict[str, int], field: str) -> None:
    with pytest.raises(ConfigError, match=field):
        write_sample(tmp_path, **options)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="file/ml-sample"):
        write_sample(tmp_path / "file", num_users=2)


def test_no_film_stands_twice() -> None:
    names = [(re.sub(r"\W", "", film.title).lower(), film.year) for film in read_films()]
    assert len(set(names)) == len(names) >= 900


def test_item_ids_follow_year_and_title() -> None:
    films = read_films()
    assert [film.item_id for film in films] == list(range(1, len(films) + 1))
    assert [(film.year, film.title) for film in films] == sorted((film.year, film.title) for film in films)


@pytest.mark.parametrize("name", ["genres", "directors", "cast", "keywords"])
def test_every_list_is_filled_clean_and_free_of_repeats(name: str) -> None:
    for film in read_films():
        values = getattr(film, name)
        assert values, film.title
        assert len(set(values)) == len(values), film.title
        assert all(value and value == value.strip() for value in values), film.title


def test_facts_are_in_their_ranges() -> None:
    for film in read_films():
        assert 1925 <= film.year <= 2022, film.title
        assert set(film.genres) <= set(GENRES), film.title
        assert len(film.cast) >= 3, film.title
        assert 40 <= len(film.overview) <= 300, film.title
        assert film.overview.endswith("."), film.title


def test_every_genre_and_decade_has_films() -> None:
    films = read_films()
    assert {genre for film in films for genre in film.genres} == set(GENRES)
    assert {film.year // 10 for film in films} == set(range(192, 203))


@pytest.mark.parametrize(("title", "year", "director", "actor", "genre"), KNOWN)
def test_well_known_facts(title: str, year: int, director: str, actor: str, genre: str) -> None:
    (film,) = [film for film in read_films() if film.title == title and film.year == year]
    assert director in film.directors
    assert actor in film.cast
    assert genre in film.genres


@pytest.mark.parametrize(
    ("title", "year", "published"),
    [
        ("The Matrix", 1999, "Matrix, The (1999)"),
        ("A Bug's Life", 1998, "Bug's Life, A (1998)"),
        ("An American Tail", 1986, "American Tail, An (1986)"),
        ("La Dolce Vita", 1960, "Dolce Vita, La (1960)"),
        ("La La Land", 2016, "La La Land (2016)"),
        ("Die Hard", 1988, "Die Hard (1988)"),
        ("A.I. Artificial Intelligence", 2001, "A.I. Artificial Intelligence (2001)"),
        ("Z", 1969, "Z (1969)"),
    ],
)
def test_titles_are_written_as_movielens_writes_them(title: str, year: int, published: str) -> None:
    assert movielens_title(title, year) == published


def test_every_title_comes_back_from_its_movielens_form() -> None:
    for film in read_films():
        assert split_title(movielens_title(film.title, film.year)) == (film.title, film.year)


def item_means(dataset: Dataset, rows: np.ndarray) -> np.ndarray:
    """(I + 1,) mean rating by item_id over the given rows, towards 3.5 where there are few."""
    size = dataset.items.num_rows + 1
    counts = np.bincount(dataset.interactions.item_id[rows], minlength=size)
    sums = np.bincount(dataset.interactions.item_id[rows], weights=dataset.interactions.rating[rows], minlength=size)
    return np.asarray((sums + 5 * 3.5) / (counts + 5))


def test_some_films_are_better_than_others_and_shuffled_ratings_would_not_show_it(dataset: Dataset) -> None:
    rows = dataset.interactions
    order = np.random.default_rng(0).permutation(len(rows))
    train, test = order[len(order) // 5 :], order[: len(order) // 5]
    liked = (rows.rating > 3).astype(np.int8)
    means = item_means(dataset, train)
    assert auc(liked[test], means[rows.item_id[test]].astype(np.float32)) > 0.58
    shuffled = np.random.default_rng(1).permutation(liked[test])
    assert abs(auc(shuffled, means[rows.item_id[test]].astype(np.float32)) - 0.5) < 0.02


def has_genre(genre: str) -> np.ndarray:
    return np.array([False, *(genre in film.genres for film in read_films())])


@pytest.mark.parametrize("genre", ["Horror", "Children", "Romance", "Sci-Fi", "Western", "Musical"])
def test_a_users_taste_shows_in_what_they_watch_and_in_their_stars(dataset: Dataset, genre: str) -> None:
    """Who rates a genre above their own mean in one half of their ratings watches and likes it in the other half."""
    rows = dataset.interactions
    of_genre, half = has_genre(genre)[rows.item_id], np.random.default_rng(3).random(len(rows)) < 0.5
    size = int(rows.user_id.max()) + 1
    count = np.bincount(rows.user_id, minlength=size)
    above = (
        rows.rating
        - (np.bincount(rows.user_id, weights=rows.rating, minlength=size) / np.maximum(count, 1))[rows.user_id]
    )

    def mean_above(chosen: np.ndarray) -> np.ndarray:
        sums = np.bincount(rows.user_id[chosen], weights=above[chosen], minlength=size)
        return np.asarray(sums / (np.bincount(rows.user_id[chosen], minlength=size) + 2))

    liking = mean_above(of_genre & half)
    fans = np.isin(rows.user_id, np.argsort(-liking, kind="stable")[:120])
    others = np.isin(rows.user_id, np.argsort(liking, kind="stable")[:120])
    assert above[fans & of_genre & ~half].mean() > above[others & of_genre & ~half].mean() + 0.3
    assert of_genre[fans & ~half].mean() > 1.3 * of_genre[others & ~half].mean()


def film_line(title: str, year: int) -> str:
    return f"{title}\t{year}\tDrama\tSomeone\tA|B\tfamily|war\tSomething happens.\n"


def test_a_damaged_catalogue_line_is_named(tmp_path: Path) -> None:
    header = "\t".join(sample_catalogue.COLUMNS) + "\n"
    (tmp_path / "favourites.tsv").write_text("title\tyear\n")
    (tmp_path / "1_films.tsv").write_text(header + film_line("One", 1999) + "Two\t2000\n")
    with pytest.raises(UnusableFileError, match=r"1_films.tsv: line 3"):
        read_films(tmp_path)


def test_a_missing_catalogue_and_a_wrong_header_are_named(tmp_path: Path) -> None:
    with pytest.raises(UnusableFileError, match=r"no .*tsv is there"):
        read_films(tmp_path)
    (tmp_path / "1_films.tsv").write_text("name\tyear\n")
    with pytest.raises(UnusableFileError, match="its header is not title"):
        read_films(tmp_path)


def test_a_favourite_must_be_in_the_catalogue(tmp_path: Path) -> None:
    header = "\t".join(sample_catalogue.COLUMNS) + "\n"
    (tmp_path / "1_films.tsv").write_text(header + film_line("B", 1999) + film_line("A", 1999))
    (tmp_path / "favourites.tsv").write_text("title\tyear\nA\t1999\n")
    assert [(film.item_id, film.title, film.is_favourite) for film in read_films(tmp_path)] == [
        (1, "A", True),
        (2, "B", False),
    ]
    assert isinstance(read_films(tmp_path)[0], Film)
    (tmp_path / "favourites.tsv").write_text("title\tyear\nC\t1999\n")
    with pytest.raises(UnusableFileError, match="'C', '1999'"):
        read_films(tmp_path)
