"""Titles of one name and year: each can be named, and every message tells them apart."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

import pyarrow as pa
import pytest
from data_files import film, tmdb_form, write
from small import dataset

from sdk.__main__ import main
from sdk.base.config import RunConfig
from sdk.base.errors import UsageError
from sdk.bundles.bundle import Bundle
from sdk.commands.naming import item_named
from sdk.data.movielens import load
from sdk.training.pipeline import train_bundle

DATA = dataset()
NUM_ALIKE = 3


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A catalogue whose first three titles are all Hamlet (2000)."""
    titles = ["Hamlet"] * NUM_ALIKE + [f"Film {number}" for number in range(DATA.items.num_rows - NUM_ALIKE)]
    years = [2000] * NUM_ALIKE + DATA.items["year"].to_pylist()[NUM_ALIKE:]
    items = DATA.items
    for name, values in (("title", titles), ("year", years)):
        place = items.schema.get_field_index(name)
        items = items.set_column(place, items.schema.field(name), pa.array(values, items.schema.field(name).type))
    config = RunConfig(models=("history", "content"))
    out = tmp_path_factory.mktemp("same") / "bundle"
    return train_bundle(dataclasses.replace(DATA, items=items), config, out)


def test_the_others_are_named_by_their_ids_and_can_be_asked_for(
    bundle: Bundle, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second, third = bundle.items["item_id"].to_pylist()[:NUM_ALIKE]
    with caplog.at_level(logging.INFO):
        assert item_named(bundle, "Hamlet (2000)") == first
    said = f"taken as Hamlet (2000) #{first}; there is Hamlet (2000) #{second}, Hamlet (2000) #{third}, too"
    assert said in caplog.text
    assert f"(each by its id: '#{second}')" in caplog.text
    assert item_named(bundle, f"#{second}") == second
    assert main(["similar", f"#{third}", "--bundle", str(bundle.path), "--json"]) == 0
    assert f'"item_id": {third}' in capsys.readouterr().out.splitlines()[0]


def test_an_id_that_is_not_there_is_an_error(bundle: Bundle) -> None:
    with pytest.raises(UsageError, match="item_id 987654321: not among"):
        item_named(bundle, "#987654321")


def test_a_misspelt_name_gives_each_of_them(bundle: Bundle) -> None:
    first = bundle.items["item_id"][0].as_py()
    with pytest.raises(UsageError, match=rf"Did you mean 'Hamlet \(2000\) #{first}', 'Hamlet \(2000\) #"):
        item_named(bundle, "Hamlett")


def test_titles_that_cannot_be_told_apart_are_joined_to_no_film_and_the_log_says_what_joins_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files: dict[str, str | bytes] = {
        "ratings.csv": "userId,movieId,rating,timestamp\n1,1,4,1\n1,2,4,1\n1,3,4,1\n1,4,4,1\n",
        "movies.csv": "movieId,title,genres\n"
        + "".join(f"{n},Hamlet (2000),Drama\n" for n in (1, 2, 3))
        + "4,Heat (1995),Crime\n",
    }
    folder = write(tmp_path / "ml", files)
    films = [film(10, "Hamlet", released="2000-01-01"), film(11, "Heat", released="1995-01-01")]
    tmdb = tmdb_form(tmp_path / "tmdb", films)
    with caplog.at_level(logging.INFO, "sdk"):
        assert load(folder, tmdb=tmdb).items["tmdb_id"].to_pylist() == [None, None, None, 11]
    assert "3 titles share a name and a year with others or fit several films" in caplog.text
    write(folder, {"links.csv": "movieId,tmdbId\n1,10\n4,11\n"})
    assert load(folder, tmdb=tmdb).items["tmdb_id"].to_pylist() == [10, None, None, 11]
