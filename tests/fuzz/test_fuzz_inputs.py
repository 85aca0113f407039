"""Corrupted input files: every row ends up accepted or set aside, or the file is refused with exit code 3."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import zipfile
from decimal import Decimal
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from corruptions import Rng, corrupt_bytes, corrupt_json
from harness import Fuzz

import sdk
from sdk.base.config import DataConfig
from sdk.base.errors import DataError, MarqueeError, UnusableFileError
from sdk.data.movielens import load_ratings

LENIENT = DataConfig(max_reject_share=0.99)
FILES = {
    "csv": {
        "ratings.csv": "userId,movieId,rating,timestamp\n" + "".join(f"{u},{i},{r},{978300000 + u * i}\n" for u, i, r in
                       [(u, i, [0.5, 3.0, 4.5, 5.0][(u * i) % 4]) for u in range(1, 9) for i in range(1, 7)]),
        "movies.csv": "movieId,title,genres\n" + "".join(f'{i},"Film, The {i} (19{70 + i})",Comedy|Drama\n'
                      for i in range(1, 7)),
        "tags.csv": "userId,movieId,tag,timestamp\n1,2,quiet,978300001\n2,3,\"loud, odd\",978300002\n",
        "links.csv": "movieId,imdbId,tmdbId\n1,0114709,862\n2,0113497,\n3,0113228,15602.0\n",
    },
    "1m": {
        "ratings.dat": "".join(f"{u}::{i}::{1 + (u * i) % 5}::{978300000 + u * i}\n" for u in range(1, 9)
                       for i in range(1, 7)),
        "movies.dat": "".join(f"{i}::Film {i} (19{70 + i})::Comedy|Drama\n" for i in range(1, 7)),
        "users.dat": "".join(f"{u}::{'FM'[u % 2]}::25::{u}::12345\n" for u in range(1, 9)),
    },
    "100k": {
        "u.data": "".join(f"{u}\t{i}\t{1 + (u * i) % 5}\t{978300000 + u * i}\n" for u in range(1, 9)
                  for i in range(1, 7)),
        "u.item": "".join(f"{i}|Film {i} (19{70 + i})|01-Jan-1995||http://x/{i}|" + "|".join("01"[i % 2] * 1
                  for _ in range(19)) + "\n" for i in range(1, 7)),
        "u.user": "".join(f"{u}|25|{'FM'[u % 2]}|writer|12345\n" for u in range(1, 9)),
    },
}  # fmt: skip


def write(folder: Path, files: dict[str, str]) -> Path:
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


@pytest.mark.parametrize(("form", "share"), [("csv", 0.08), ("1m", 0.04), ("100k", 0.03)])
def test_a_damaged_data_set_is_refused_or_every_row_is_accounted_for(form: str, share: float, tmp_path: Path) -> None:
    fuzz, folder, names = Fuzz(f"movielens {form}"), write(tmp_path / "ml", FILES[form]), sorted(FILES[form])
    for seed, rng in fuzz.cases(share):
        path = folder / names[seed % len(names)]
        original = path.read_bytes()
        words, damaged = corrupt_text(rng, original) if rng.random() < 0.5 else corrupt_bytes(rng, original)
        path.write_bytes(damaged)
        fuzz.run(seed, f"{path.name}: {words}", lambda: check_dataset(sdk.load_movielens(folder, config=LENIENT)), 3)
        path.write_bytes(original)


def corrupt_text(rng: Rng, data: bytes) -> tuple[str, bytes]:
    """One field of one line replaced by something that a spreadsheet, a script or a joker might have put there."""
    odd = ["", "-1", "NaN", "1e3", "inf", "99999999999999999999", '"', "0x1F", "½", "4,5", "\x00", "null", "  3 ", "٣",
           "1_000", "+5", "5.", ".5", "TRUE", "\r", "\n", "::", "|", "2000-01-01", "9" * 400]  # fmt: skip
    lines = data.split(b"\n")
    at = int(rng.integers(0, len(lines)))
    fields = re.split(rb"(::|[,\t|])", lines[at])
    field = int(rng.integers(0, len(fields)))
    word = odd[int(rng.integers(0, len(odd)))]
    fields[field] = word.encode()
    return f"line {at + 1}, field {field}: {word!r:.30}", b"\n".join([*lines[:at], b"".join(fields), *lines[at + 1 :]])


def check_dataset(dataset: sdk.Dataset) -> None:
    ratings = dataset.interactions
    assert len(ratings), "an empty data set was accepted"
    assert np.isfinite(ratings.rating).all()
    assert set((ratings.rating * 2) % 1) == {0.0}
    assert ((ratings.rating >= 0.5) & (ratings.rating <= 5)).all()
    assert len(set(zip(ratings.user_id.tolist(), ratings.item_id.tolist(), strict=True))) == len(ratings)
    assert set(ratings.item_id.tolist()) <= set(dataset.items["item_id"].to_pylist())
    assert set(ratings.user_id.tolist()) <= set(dataset.users["user_id"].to_pylist())
    assert (ratings.user_id >= 0).all()
    dataset.items.validate(full=True)
    dataset.users.validate(full=True)
    dataset.rejects.validate(full=True)


@pytest.mark.parametrize("rating", ["9" * 400, "1e999", "1e38", "-1e999"])
def test_a_rating_beyond_all_bounds_is_set_aside(rating: str, tmp_path: Path) -> None:
    folder = write(tmp_path / "ml", FILES["csv"])
    with (folder / "ratings.csv").open("a") as file:
        file.write(f"9,1,{rating},978300000\n")
    dataset = sdk.load_movielens(folder)
    assert dataset.rejects["line"].to_pylist() == [50]
    assert len(dataset.interactions) == 48


@pytest.mark.parametrize("header", ["a\rb,c", '"', ""])
def test_a_first_line_that_is_no_csv_header_is_refused(header: str, tmp_path: Path) -> None:
    folder = write(tmp_path / "ml", FILES["csv"])
    (folder / "tags.csv").write_bytes(f"{header}\n1,2,quiet,978300001\n".encode())
    with pytest.raises(DataError, match=r"tags\.csv"):
        sdk.load_movielens(folder)


def test_a_line_longer_than_any_of_ours_is_refused_before_it_fills_memory(tmp_path: Path) -> None:
    folder = write(tmp_path / "ml", FILES["csv"])
    for name in ("ratings.csv", "tags.csv"):
        text = FILES["csv"][name]
        with gzip.open(folder / f"{name}.gz", "wb", compresslevel=1) as file:
            file.write(text.encode() + b"1" * ((1 << 27) + (1 << 25)))
        (folder / name).unlink()
        with pytest.raises(UnusableFileError, match=rf"{name}\.gz: a line is longer than 128 MiB"):
            sdk.load_movielens(folder)
        (folder / f"{name}.gz").unlink()
        (folder / name).write_text(text)


# --- the accepted rows are those of a slow reader -----------------------------------------------------------------


def is_id(text: str) -> bool:
    """Digits up to 64 bits, or a number that is whole and below 2**53."""
    if re.fullmatch(r"[+-]?[0-9]+", text, re.ASCII):
        return 0 <= int(text) < 2**63
    number = re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", text, re.ASCII)
    return bool(number) and 0 <= Decimal(text) < 2**53 and Decimal(text) % 1 == 0


def slow_rows(data: bytes) -> dict[tuple[int, int], tuple[float, int]]:
    """(user, item) -> rating and time of the good lines of a ratings.csv with its own header: the latest counts."""
    found: dict[tuple[int, int], tuple[float, int]] = {}
    for line in data.split(b"\n")[1:]:
        try:
            fields = next(csv.reader([line.decode("utf-8").rstrip("\r")], strict=True), [])
        except (UnicodeDecodeError, csv.Error):
            continue
        if len(fields) != 4 or "\x00" in "".join(fields):
            continue
        user, item, rating, time = (field.strip() for field in fields)
        if not all(map(is_id, (user, item, time))):
            continue
        if not re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", rating, re.ASCII):
            continue
        stars, when = float(rating), int(Decimal(time))
        if not 0.5 <= stars <= 5 or (2 * stars) % 1 or when > 4_102_444_799:
            continue
        key = (int(Decimal(user)), int(Decimal(item)))
        if key not in found or when >= found[key][1]:
            found[key] = (stars, when)
    return found


def test_what_is_accepted_of_a_damaged_ratings_file_is_what_a_slow_reader_accepts(tmp_path: Path) -> None:
    fuzz, folder = Fuzz("ratings, slow reader"), write(tmp_path / "ml", FILES["csv"])
    path, header = folder / "ratings.csv", FILES["csv"]["ratings.csv"].index("\n") + 1
    original, compared = path.read_bytes(), 0
    for seed, rng in fuzz.cases(0.06):
        words, body = (corrupt_text if rng.random() < 0.6 else corrupt_bytes)(rng, original[header:])
        path.write_bytes(original[:header] + body)

        def compare() -> None:
            nonlocal compared
            got = load_ratings(path, config=LENIENT).interactions
            rows = zip(
                got.user_id.tolist(), got.item_id.tolist(), got.rating.tolist(), got.timestamp.tolist(), strict=True
            )
            read = {(user, item): (rating, when) for user, item, rating, when in rows}
            expected = slow_rows(path.read_bytes())
            assert read == expected, f"{len(read)} rows, the slow reader has {len(expected)}"
            compared += 1

        fuzz.run(seed, words, compare, 3)
    assert compared or fuzz.failures == []


# --- TMDB -------------------------------------------------------------------------------------------------------------

GENRES = [{"id": 1, "name": "Drama"}, {"id": 2, "name": "Comedy"}]
CAST = [{"cast_id": 1, "name": "Ann", "order": 0, "id": 5, "character": "a"}, {"name": "Bo", "order": 1, "id": 6}]
CREW = [{"job": "Director", "department": "Directing", "name": "Cy", "id": 7}]


def tmdb_row(number: int, changed: dict[str, object]) -> tuple[list[object], list[object]]:
    column = {
        "genres": GENRES,
        "keywords": GENRES,
        "cast": CAST,
        "crew": CREW,
        "production_companies": GENRES,
        **changed,
    }
    text = {name: json.dumps(value) for name, value in column.items()}
    movie = [
        1,
        text["genres"],
        "",
        number,
        text["keywords"],
        "en",
        f"Film {number}",
        "A tale.",
        1.0,
        text["production_companies"],
        "[]",
        "1999-01-02",
        1,
        100,
        "[]",
        "Released",
        "",
        f"Film {number}",
        7,
        9,
    ]
    return movie, [number, f"Film {number}", text["cast"], text["crew"]]  # fmt: skip


MOVIE_HEADER = [
    "budget",
    "genres",
    "homepage",
    "id",
    "keywords",
    "original_language",
    "original_title",
    "overview",
    "popularity",
    "production_companies",
    "production_countries",
    "release_date",
    "revenue",
    "runtime",
    "spoken_languages",
    "status",
    "tagline",
    "title",
    "vote_average",
    "vote_count",
]


def write_tmdb(folder: Path, changed: dict[str, object]) -> None:
    rows = [tmdb_row(number, changed if number == 2 else {}) for number in range(1, 6)]
    tables = {
        "tmdb_5000_movies.csv": (MOVIE_HEADER, 0),
        "tmdb_5000_credits.csv": (["movie_id", "title", "cast", "crew"], 1),
    }
    for name, (header, side) in tables.items():
        buffer = io.StringIO()
        csv.writer(buffer).writerows([header, *(row[side] for row in rows)])
        (folder / name).write_text(buffer.getvalue(), encoding="utf-8", errors="surrogatepass")


def test_damaged_tmdb_files_are_refused_or_their_rows_accounted_for(tmp_path: Path) -> None:
    fuzz, folder = Fuzz("tmdb"), tmp_path / "tmdb"
    folder.mkdir()
    columns = {"genres": GENRES, "keywords": GENRES, "cast": CAST, "crew": CREW, "production_companies": GENRES}

    def load() -> None:
        items, rejects = tmdb_load(folder)
        items.validate(full=True)
        assert items.num_rows
        rejects.validate(full=True)

    for seed, rng in fuzz.cases(0.06):
        changed: dict[str, object] = {}
        words = ""
        if rng.random() < 0.6:
            name = str(rng.choice(sorted(columns)))
            words, value = corrupt_json(rng, {"value": columns[name]})
            changed, words = {name: value.get("value")}, f"{name}: {words}"
        write_tmdb(folder, changed)
        if not changed:
            path = folder / ["tmdb_5000_movies.csv", "tmdb_5000_credits.csv"][seed % 2]
            words, data = (corrupt_text if rng.random() < 0.5 else corrupt_bytes)(rng, path.read_bytes())
            path.write_bytes(data)
        fuzz.run(seed, words, load, 3)


def tmdb_load(folder: Path):
    from sdk.data import tmdb

    return tmdb.load(folder, LENIENT)


# --- zips ------------------------------------------------------------------------------------------------------------


def zipped(path: Path, files: dict[str, str], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return path


def test_a_damaged_zip_is_refused_or_every_row_is_accounted_for(tmp_path: Path) -> None:
    fuzz = Fuzz("movielens zip")
    forms = [zipped(tmp_path / f"{form}.zip", {f"ml/{n}": t for n, t in FILES[form].items()}, method)
             for form, method in (("csv", zipfile.ZIP_DEFLATED), ("1m", zipfile.ZIP_STORED))]  # fmt: skip
    for seed, rng in fuzz.cases(0.06):
        path = forms[seed % 2]
        original = path.read_bytes()
        words, damaged = corrupt_bytes(rng, original)
        path.write_bytes(damaged)
        fuzz.run(seed, words, partial(check_file, path), 3)
        path.write_bytes(original)


def check_file(path: Path) -> None:
    check_dataset(sdk.load_movielens(path, config=LENIENT))


ESCAPES = ["../ratings.csv", "a/../../x", "/etc/passwd", "\\x", "C:\\x", "a\\..\\..\\x", "//x"]


@pytest.mark.parametrize("name", ESCAPES)
def test_a_zip_with_a_member_that_points_outside_is_refused_and_writes_nothing(name: str, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    path = zipped(tmp_path / "in" / "ml.zip", {**{f"ml/{n}": t for n, t in FILES["csv"].items()}, name: "x"})
    before = sorted(p for p in tmp_path.rglob("*"))
    with pytest.raises(UnusableFileError, match="points outside"):
        sdk.load_movielens(path)
    assert sorted(p for p in tmp_path.rglob("*")) == before


def test_a_zip_with_a_member_without_a_name_is_refused(tmp_path: Path) -> None:
    path = zipped(tmp_path / "ml.zip", {**{f"ml/{n}": t for n, t in FILES["csv"].items()}, "QQQ": "x"})
    path.write_bytes(path.read_bytes().replace(b"QQQ", b"\0QQ"))  # zipfile reads a name up to its first NUL
    with pytest.raises(UnusableFileError, match="points outside"):
        sdk.load_movielens(path)


def test_a_member_that_unpacks_to_much_more_than_it_takes_is_refused_before_it_fills_memory(tmp_path: Path) -> None:
    files = {f"ml/{n}": t for n, t in FILES["csv"].items()}
    path = zipped(tmp_path / "ml.zip", {**files, "ml/tags.csv": files["ml/tags.csv"] + "\0" * (1 << 28)})
    with pytest.raises(MarqueeError, match="unpacks to"):
        sdk.load_movielens(path)
