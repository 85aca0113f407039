from __future__ import annotations

import gzip
import pickle
import zipfile
from pathlib import Path

import pytest
from data_files import MOVIES_CSV, RATINGS_CSV, csv_form, zipped

from sdk.base.errors import MissingFileError, UnusableFileError
from sdk.data.archive import find_source
from sdk.data.movielens import load


@pytest.mark.parametrize("member", ["../ratings.csv", "/etc/ratings.csv", "ml/../../x.csv", "..\\x.csv", "C:\\x.csv"])
def test_a_zip_with_a_member_that_points_outside_is_refused(member: str, tmp_path: Path) -> None:
    path = zipped(csv_form(tmp_path / "in"), tmp_path / "in.zip")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(member, "x")
    with pytest.raises(UnusableFileError, match="points outside the archive"):
        load(path)


def test_a_file_that_is_no_zip_is_called_damaged(tmp_path: Path) -> None:
    path = tmp_path / "ml.zip"
    path.write_bytes(b"<html>not found</html>")
    with pytest.raises(UnusableFileError, match=r"ml\.zip: the file is damaged"):
        load(path)


def test_the_nearest_folder_counts_however_deep_it_lies(tmp_path: Path) -> None:
    plain = load(csv_form(tmp_path / "plain"))
    deep = csv_form(tmp_path / "outer" / "a" / "b" / "ml-tiny")
    csv_form(deep / "old", ratings=RATINGS_CSV + "5,2,1.0,91\n")
    found = load(tmp_path / "outer")
    assert (found.name, found.fingerprint) == ("ml-tiny", plain.fingerprint)
    assert load(zipped(deep, tmp_path / "in.zip", top="a/b/c/d/ml-tiny")).fingerprint == plain.fingerprint


def test_a_file_in_place_of_its_folder_is_no_damage(tmp_path: Path) -> None:
    folder = csv_form(tmp_path / "ml")
    with pytest.raises(
        UnusableFileError, match=r"ratings\.csv: it is a file, and .* Pass the folder .* such as .*/ml\."
    ):
        load(folder / "ratings.csv")
    empty = tmp_path / "ml.zip"
    empty.write_bytes(b"")
    with pytest.raises(UnusableFileError, match=r"ml\.zip: the file is empty"):
        load(empty)


def test_a_zip_inside_is_named_with_what_to_do(tmp_path: Path) -> None:
    inner = zipped(csv_form(tmp_path / "in"), tmp_path / "ml-25m.zip")
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.write(inner, "ml-25m.zip")
    folder = tmp_path / "data"
    folder.mkdir()
    inner.rename(folder / "ml-25m.zip")
    with pytest.raises(UnusableFileError, match=r"packed once more \(ml-25m\.zip\)\. Pass .*/data/ml-25m\.zip itself"):
        load(folder)
    with pytest.raises(UnusableFileError, match=r"Unpack it, and pass ml-25m\.zip itself"):
        load(tmp_path / "all.zip")


def test_a_zip_cut_short_or_altered_is_called_damaged(tmp_path: Path) -> None:
    path = zipped(csv_form(tmp_path / "in"), tmp_path / "in.zip")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UnusableFileError, match="damaged"):
        load(path)
    at = whole.index(b"ratings.csv") + len("ratings.csv") + 4
    path.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
    with pytest.raises(UnusableFileError, match=r"ratings\.csv: the file is damaged"):
        load(path)


def test_gzipped_members_are_read_and_damaged_ones_named(tmp_path: Path) -> None:
    plain = load(csv_form(tmp_path / "plain"))
    folder = csv_form(tmp_path / "gz")
    (folder / "ratings.csv").unlink()
    (folder / "ratings.csv.gz").write_bytes(gzip.compress(RATINGS_CSV.encode()))
    assert load(folder).fingerprint == plain.fingerprint
    (folder / "ratings.csv.gz").write_bytes(gzip.compress(RATINGS_CSV.encode())[:-9])
    with pytest.raises(UnusableFileError, match=r"ratings\.csv\.gz: the file is damaged"):
        load(folder)


def test_what_a_mac_adds_to_a_zip_is_passed_over(tmp_path: Path) -> None:
    path = zipped(csv_form(tmp_path / "in"), tmp_path / "in.zip", top="ml-tiny")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("__MACOSX/ml-tiny/ratings.csv", "x")
        archive.writestr("__MACOSX/ml-tiny/movies.csv", "x")
    assert load(path).name == "ml-tiny"


def test_a_file_that_is_not_there_is_named_beside_those_that_are(tmp_path: Path) -> None:
    source, _ = find_source(csv_form(tmp_path), "anything", lambda names: "movies.csv" in names)
    with pytest.raises(MissingFileError, match=r"no links\.csv \(it has movies\.csv, ratings\.csv\)"):
        with source.open("links.csv"):
            pass


def test_the_size_is_that_of_the_content(tmp_path: Path) -> None:
    folder = csv_form(tmp_path / "in")
    for path in (folder, zipped(folder, tmp_path / "in.zip")):
        source, _ = find_source(path, "anything", lambda names: "movies.csv" in names)
        assert source.size("movies.csv") == len(MOVIES_CSV.encode())


def test_the_error_survives_pickling() -> None:
    error = UnusableFileError("a.zip", "it is damaged", "Fetch it again.")
    assert str(pickle.loads(pickle.dumps(error))) == "a.zip: it is damaged. Fetch it again."
