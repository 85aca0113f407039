"""The role of a column is told by its name, its type and what it holds; what was said stands."""

from __future__ import annotations

import datetime

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from sdk.base.description import FILMS
from sdk.base.errors import ConfigError, DataError
from sdk.data.columns import as_lists, as_numbers, as_seconds, of_role, unread
from sdk.data.roles import guess_roles

N = 400
RNG = np.random.default_rng(0)
WORDS = ["warm", "soft", "light", "blue", "heavy", "round", "old", "new"]
COLUMNS = {
    "name": ([f"Thing {n}" for n in range(N)], "title"),
    "brand": (RNG.choice(["Acme", "Böhm", "Zeta"], N), "group"),
    "Manufacturer": (RNG.choice(["Acme", "Böhm", "Zeta"], N), "group"),
    "category": (RNG.choice(["a", "b"], N), "categorical"),
    "sellable": (RNG.random(N) < 0.5, "categorical"),
    "size": (RNG.integers(1, 6, N), "categorical"),
    "department_id": (RNG.integers(1, 60, N), "categorical"),
    "price": (RNG.random(N), "continuous"),
    "price_as_text": ([f"{n / 7:.2f}" for n in range(N)], "continuous"),
    "stock": (RNG.integers(0, 90, N), "continuous"),
    "year": (RNG.integers(1950, 2020, N), "continuous"),
    "tags": (["|".join(RNG.choice(WORDS, 2)) for _ in range(N)], "list"),
    "kinds": ([", ".join(RNG.choice(WORDS, 3, replace=False)) for _ in range(N)], "list"),
    "uses": ([";".join(RNG.choice(WORDS, 3, replace=False)) for _ in range(N)], "list"),
    "place": ([f"{RNG.choice(WORDS)}ville, {RNG.choice(['AZ', 'ON'])}" for _ in range(N)], "categorical"),
    "told by": ([f"Surname{n:c}, First{n % 7:c}" for n in range(65, 65 + N)], "text"),
    "some": ([list(RNG.choice(WORDS, 2)) for _ in range(N)], "list"),
    "of json": (['["x", "y"]', '["z"]'] * (N // 2), "list"),
    "keywords": ([[str(k) for k in RNG.integers(0, 2000, 5)] for _ in range(N)], "terms"),
    "description": ([" ".join(RNG.choice(WORDS, 5)) for _ in range(N)], "text"),
    "remarks": ([" ".join(RNG.choice(WORDS, 12)) for _ in range(N)], "text"),
    "photo": ([f"https://x.example/{n}.jpg" for n in range(N)], "image"),
    "page": ([f"https://x.example/{n}" for n in range(N)], "url"),
    "listed": (pd.date_range("2020-01-01", periods=N), "time"),
    "day": ([datetime.date(2020, 1, 1) + datetime.timedelta(n) for n in range(N)], "time"),
    "since": ([f"2020-0{n % 9 + 1}-11" for n in range(N)], "time"),
    "created_at": (1_600_000_000 + np.arange(N), "time"),
    "ean": ([f"{n:013d}" for n in range(N)], "ignore"),
    "constant": (["all the same"] * N, "ignore"),
    "empty": (pa.nulls(N), "ignore"),
    "vector": ([[0.5, 1.5]] * N, "ignore"),
    "genre:token_seq": (["a b"] * N, "list"),
    "age:float": (np.arange(N), "continuous"),
}
TABLE = pa.table({name: values for name, (values, _) in COLUMNS.items()})


def test_roles_are_told_by_names_types_and_contents():
    found = {name: guess.role for name, guess in guess_roles(TABLE, "items").items()}
    assert found == {name: role for name, (_, role) in COLUMNS.items()}


def test_movielens_columns_have_the_roles_of_the_preset():
    rows = 500
    table = pa.table(
        {
            "title": [f"film {n}" for n in range(rows)],
            "year": RNG.integers(1920, 2020, rows),
            "genres": ["|".join(RNG.choice(["Drama", "War"], 1)) for _ in range(rows)],
            "overview": [" ".join(RNG.choice(WORDS, 20)) for _ in range(rows)],
            "cast": [[str(k) for k in RNG.integers(0, 900, 4)] for _ in range(rows)],
        }
    )
    assert {name: guess.role for name, guess in guess_roles(table, "items").items()} == {
        name: FILMS[name] for name in table.column_names
    }


def test_of_users_no_words_are_read_and_none_has_a_title():
    found = {name: guess.role for name, guess in guess_roles(TABLE, "users").items()}
    assert (found["name"], found["description"], found["keywords"], found["photo"]) == ("ignore",) * 4
    assert (found["brand"], found["stock"], found["tags"]) == ("categorical", "continuous", "list")


def test_what_is_said_stands_and_must_be_there():
    found = guess_roles(TABLE, "items", {"brand": "title", "stock": "categorical"})
    assert [name for name, guess in found.items() if guess.role == "title"] == ["brand"]
    assert found["stock"].role == "categorical"
    with pytest.raises(ConfigError, match=r"'Brand', expected a column of the items: name, brand"):
        guess_roles(TABLE, "items", {"Brand": "title"})
    with pytest.raises(ConfigError, match=r"items\.brand: got 'brand', expected one of categorical"):
        guess_roles(TABLE, "items", {"brand": "brand"})


def column(*values: object) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(values)])


def test_lists_are_read_in_every_way_they_are_written():
    expected = [["a", "b"], [], ["c"]]
    assert as_lists(column(["a", " b", None], None, ["c"])).to_pylist() == expected
    assert as_lists(column("a|b", "", "c")).to_pylist() == expected
    assert as_lists(column("a, b", "", "c")).to_pylist() == expected
    assert as_lists(column("a; b", "", "c")).to_pylist() == expected
    assert as_lists(column("a, x|b", "", "c")).to_pylist() == [["a, x", "b"], [], ["c"]]
    assert as_lists(column('["a", "b"]', None, '["c"]')).to_pylist() == expected
    assert as_lists(column("['a', 'b']", "[]", "['c']")).to_pylist() == expected
    assert as_lists(column('[{"id": 1, "name": "a"}, {"name": "b"}]', "", "c")).to_pylist() == expected
    assert as_lists(column([1, 2])).to_pylist() == [["1", "2"]]
    assert of_role(column("b|a|b"), "list", "x").to_pylist() == [["a", "b"]]
    assert of_role(column("b|a|b"), "terms", "x").to_pylist() == [["b", "a", "b"]]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_times_are_seconds_whatever_they_were(unit):
    when = pa.array([1_300_086_400, 1_600_000_000]).cast(pa.timestamp("s")).cast(pa.timestamp(unit, "UTC"))
    seconds = [1_300_086_400, 1_600_000_000]
    assert as_seconds(pa.chunked_array([when])).to_pylist() == seconds
    assert as_seconds(pa.chunked_array([when.cast(pa.int64())])).to_pylist() == seconds
    texts = [datetime.datetime.fromtimestamp(one, datetime.UTC).isoformat() for one in seconds]
    assert as_seconds(column(*texts, "soon", "")).to_pylist() == [*seconds, None, None]


def test_what_is_no_value_of_a_role_is_empty_and_counted():
    given = column("1.5", "many", "", None, "inf", "2")
    found = of_role(given, "continuous", "x")
    assert found.to_pylist() == [1.5, None, None, None, None, 2.0]
    assert unread(given, found) == 2
    assert as_numbers(column(1, None, 3)).to_pylist() == [1.0, None, 3.0]
    assert of_role(column(1.0, 2.5, float("nan")), "categorical", "x").to_pylist() == ["1", "2.5", None]
    assert of_role(column("a", None), "text", "x").to_pylist() == ["a", ""]


def test_a_type_without_such_values_is_refused():
    with pytest.raises(DataError, match=r"items\.csv: column 'x' is struct<.*>, which has no values of role 'time'"):
        of_role(column({"a": 1}), "time", "items.csv: column 'x'")
