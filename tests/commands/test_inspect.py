"""``inspect`` tells what tables hold and what is odd, and writes the description that the other commands read."""

from __future__ import annotations

import json
import shutil
import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import sdk
from sdk.__main__ import build_parser, main
from sdk.base.errors import ConfigError, UsageError
from sdk.commands.datasets import read_dataset
from sdk.commands.inspect import _one_of
from sdk.data.dataset_file import DatasetFile, Files, as_toml, read_dataset_file

NOW = 1_780_000_000


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """Interactions of one giant, one bot and others, items of which some have one name, and users."""
    rng = np.random.default_rng(3)
    users = np.concatenate([np.repeat(np.arange(60), 12), np.full(150, 60), np.full(400, 61)])
    items = rng.integers(0, 500, len(users))
    when = NOW - rng.integers(10**6, 10**8, len(users))
    when[users == 60] = NOW - 10**7 + np.arange((users == 60).sum())
    when[-1] = NOW + 10**9
    kind = rng.choice(["view", "buy"], len(users))
    table = {"customer": [f"c{n:02d}" for n in users], "sku": [f"{n:04d}" for n in items], "event": kind, "ts": when}
    pq.write_table(pa.table(table), tmp_path / "log.parquet")
    names = [f"Thing {n % 300}" for n in range(500)]
    catalogue = {"sku": [f"{n:04d}" for n in range(500)], "name": names, "brand": rng.choice(["A", "B"], 500)}
    pd.DataFrame(catalogue).to_csv(tmp_path / "things.csv", index=False)
    people = {"customer": [f"c{n:02d}" for n in range(62)], "country": rng.choice(["DE", "FR"], 62)}
    pd.DataFrame(people).to_csv(tmp_path / "people.csv", index=False)
    return tmp_path


def inspect(folder: Path, *more: str) -> int:
    return main(["inspect", *(str(folder / name) for name in ("people.csv", "things.csv", "log.parquet")), *more])


def test_it_tells_what_the_tables_are_and_what_is_odd(shop, capsys, monkeypatch):
    monkeypatch.setattr("time.time", lambda: NOW)
    assert inspect(shop, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    text = {name: "\n".join(lines) for name, lines in found.items()}
    assert "user_id = customer, item_id = sku, event = event, timestamp = ts" in text["interactions"]
    assert "1,270 rows of interactions: " in text["interactions"]
    assert "name: title (by its name)" in text["items"]
    assert "country: categorical (2 distinct values)" in text["users"]
    assert "models: " in text["training"]
    for odd in (
        "user c61 has ", "users act every second or faster, such as c60", "200 items have another's title",
        "1 times lie in the future", "2 events (buy, view): --events",
    ):  # fmt: skip
        assert odd in text["warnings"]


def test_the_description_gives_the_data_set_that_the_options_give(shop, capsys):
    out = shop / "deep" / "dataset.toml"
    assert inspect(shop, "--events", "buy=1,view=0.25", "--seen", "buy", "--out", str(out)) == 0
    assert "description: " in capsys.readouterr().out
    said = tomllib.loads(out.read_text("utf-8"))
    assert said["events"] == {"buy": 1.0, "view": 0.25}
    assert (said["seen"], said["items"]) == (["buy"], {"name": "title", "brand": "group"})
    assert said["item"] == sdk.dataset(out).about.item == "thing"
    tables = ("--interactions", "log.parquet", "--items", "things.csv", "--users", "people.csv")
    options = [str(shop / word) if "." in word else word for word in tables]
    options += ["--events", "buy=1,view=0.25", "--seen", "buy"]
    found = [of(["--dataset", str(out)]), of(options), sdk.dataset(out)]
    assert len({data.fingerprint for data in found}) == 1
    assert found[0].name == "log"
    assert inspect(shop, "--out", str(out)) == 5
    out.write_text(out.read_text("utf-8").replace('brand = "group"', 'brand = "ignore"'), "utf-8")
    assert sdk.dataset(out).about.items["brand"] == "ignore"


def of(options: list[str]) -> sdk.Dataset:
    return read_dataset(build_parser().parse_args(["train", "--out", "nowhere", *options]), sdk.RunConfig())


def test_paths_lie_beside_the_description(shop):
    out = shop / "dataset.toml"
    assert inspect(shop, "--out", str(out)) == 0
    assert tomllib.loads(out.read_text("utf-8"))["files"] == {
        "interactions": ["log.parquet"], "items": ["things.csv"], "users": ["people.csv"],
    }  # fmt: skip
    moved = shop / "moved"
    moved.mkdir()
    for name in ("log.parquet", "things.csv", "people.csv", "dataset.toml"):
        (shop / name).rename(moved / name)
    assert len(sdk.dataset(moved / "dataset.toml").items) == 500


@pytest.mark.parametrize(("table", "word"), [
    ("products.csv", "product"), ("s3://x/Books.parquet", "book"), ("catalogue.csv", ""), ("news.csv", ""),
    ("series.csv", ""),
    ("dishes.csv", ""), ("items.csv", ""), ("glass.csv", ""), ("menus_2.csv", ""), ("classes", ""), ("boxes", ""),
])  # fmt: skip
def test_an_item_is_called_after_its_table_where_that_is_a_plain_plural(table, word):
    assert _one_of([table, "more.csv"]) == word
    assert _one_of([]) == ""


@pytest.mark.parametrize("word", ["<b>", "7up", "a\nb", "x" * 41, " "])
def test_what_is_no_word_for_an_item_is_refused(shop, word):
    with pytest.raises(ConfigError, match="a word for one item"):
        sdk.dataset(shop / "log.parquet", item=word)


def test_what_is_written_is_read_again_whatever_stands_in_it(tmp_path):
    said = DatasetFile(
        files=Files(interactions=("a b.csv", "s3://x/y")), name='a "name"\n#', item="dish", feedback="explicit",
        scale=(0.0, 1e-3),
        columns={"user_id": "wer: ü"}, events={"buy it\\": 1.0, "[x]": 0.5}, items={"a.b": "text", "": "ignore"},
    )  # fmt: skip
    (tmp_path / "x.toml").write_text(as_toml(said, {"items.a.b": "two\nlines"}, ["head"]), "utf-8")
    assert read_dataset_file(tmp_path / "x.toml") == said


WRONG = {
    "not = [toml": "no description of a data set",
    "nme = 'x'": "got 'x', expected one of the fields files",
    "[files]\ninteractions = 'x'": "expected a value of type",
    "name = 'x'": "files",
}


@pytest.mark.parametrize("text", WRONG)
def test_what_is_no_description_is_said(text, tmp_path):
    (tmp_path / "x.toml").write_text(text, "utf-8")
    with pytest.raises(UsageError, match=f"x.toml: .*{WRONG[text]}"):
        read_dataset_file(tmp_path / "x.toml")


REFUSED = {
    ("--sample", "--items", "x.csv"): "--items: goes with --interactions; leave the option out (give --interactions)",
    ("--dataset", "x.toml", "--seen", "a"): "--seen: goes with --interactions; leave the option out (dataset.toml says",
    ("--interactions", "x.csv", "--tmdb", "y"): "--tmdb: goes with --movielens; give what is known of your items as",
}


@pytest.mark.parametrize("options", REFUSED)
def test_options_that_do_not_go_together_are_refused(options, tmp_path, capsys):
    assert main(["train", *options, "--out", str(tmp_path / "bundle")]) == 2
    assert REFUSED[options] in capsys.readouterr().err


def test_pairs_and_tables_are_told_apart_from_nonsense(capsys):
    for option, wrong in (("--events", "buy"), ("--events", "buy=much"), ("--columns", ","), ("--items", "")):
        with pytest.raises(SystemExit) as left:
            main(["train", "--interactions", "x.csv", "--out", "y", option, wrong])
        assert left.value.code == 2
    assert "expected NAME= and a number, pairs joined by commas" in capsys.readouterr().err
    assert main(["inspect"]) == 2


def test_a_table_of_neither_users_nor_items_is_refused_with_the_option_that_mends_it(tmp_path, capsys):
    pd.DataFrame({"nick": ["a"], "good": ["b"]}).to_csv(tmp_path / "x.csv", index=False)
    assert main(["inspect", str(tmp_path / "x.csv")]) == 3
    assert "--columns user_id=COLUMN,item_id=COLUMN" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_movielens_as_it_was_published_needs_no_inspection(tmp_path, capsys, kind):
    """Its README was taken for a table whose first line names no columns."""
    folder = tmp_path / "ml-latest-small"
    folder.mkdir()
    for name in ("ratings.csv", "movies.csv", "README.txt"):
        (folder / name).write_text("Summary\n", "utf-8")
    place = folder if kind == "folder" else Path(shutil.make_archive(str(folder), "zip", folder))
    assert main(["inspect", str(place)]) == 2
    assert f"python -m sdk train --movielens {place} --out bundle" in capsys.readouterr().err
