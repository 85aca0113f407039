"""What other libraries take is read as it is: the page's examples are run on tables as those libraries have them."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from sdk.base.types import Dataset
from sdk.data.column_names import columns_of
from sdk.data.whole_tables import wide

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "from_other_libraries.md").read_text("utf-8")
EXAMPLES = dict(re.findall(r"^## (.+?)\n.*?^```python\n(.*?)^```", PAGE, re.M | re.S))


def run(library: str, **given: object) -> Dataset:
    names = dict(given)
    exec(EXAMPLES[library], names)
    return names["data"]


def pairs(data: Dataset) -> dict[tuple[object, object], float]:
    users, items = (table.column(0).to_pylist() for table in (data.users, data.items))
    rows, at = data.interactions, {}
    for side, keys in (("user", data.user_keys), ("item", data.item_keys)):
        at[side] = dict(zip(keys.tolist(), users if side == "user" else items, strict=True))
    return {
        (at["user"][u], at["item"][i]): r
        for u, i, r in zip(rows.user_id.tolist(), rows.item_id.tolist(), rows.rating.tolist(), strict=True)
    }


@pytest.fixture(autouse=True)
def there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_every_example_is_run_and_has_three_lines():
    assert set(EXAMPLES) == {"RecTools", "RecBole", "LensKit", "Amazon Personalize"}
    assert all(len(code.splitlines()) == 3 for code in EXAMPLES.values())


def test_the_names_in_the_table_are_known():
    rows = re.findall(r"^\| (\w.*?) \| (.*?) \| (.*?) \| (.*?) ?\|$", PAGE, re.M)[1:]
    assert len(rows) == 7
    for library, *cells in rows:
        names = [re.findall(r"`(.*?)`", cell) for cell in cells]
        for at in range(0, len(names[0]), 2):
            columns = [*names[0][at : at + 2], *names[1][:1], *names[2]]
            assert sorted(columns_of(library, columns, {}).values()) == sorted(columns)


def test_rectools():
    interactions = pd.DataFrame(
        {
            "user_id": ["u1", "u1", "u2", "u3"], "item_id": [10, 11, 10, 12], "weight": [1, 3, 2, 1],
            "datetime": ["2021-09-01", "2021-09-02", "2021-09-03", "2021-09-03"],
        }
    )  # fmt: skip
    genres = {"id": [10, 10, 11, 12], "feature": ["genre"] * 4, "value": ["drama", "war", "drama", "comedy"]}
    sexes = {"id": ["u1", "u2"], "feature": ["sex"] * 2, "value": ["F", "M"]}
    data = run(
        "RecTools", interactions_df=interactions, item_features_df=pd.DataFrame(genres),
        user_features_df=pd.DataFrame(sexes),
    )  # fmt: skip
    assert pairs(data) == {("u1", 10): 1, ("u1", 11): 3, ("u2", 10): 2, ("u3", 12): 1}
    assert data.about.feedback == "implicit"
    assert data.items["genre"].to_pylist() == [["drama", "war"], ["drama"], ["comedy"]]
    assert data.users["sex"].to_pylist() == ["F", "M", None]


def test_recbole():
    Path("ml").mkdir()
    Path("ml/ml.inter").write_text(
        "user_id:token\titem_id:token\trating:float\ttimestamp:float\n196\t242\t3\t881250949\n186\t302\t5\t891717742\n"
    )
    Path("ml/ml.item").write_text(
        "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
        "242\tKolya\t1996\tComedy\n302\tL.A. Confidential\t1997\tCrime Mystery\n"
    )
    Path("ml/ml.user").write_text("user_id:token\tage:token\tgender:token\n196\t49\tM\n186\t39\tF\n")
    data = run("RecBole")
    assert pairs(data) == {(196, 242): 3, (186, 302): 5}
    assert data.about.feedback == "explicit"
    assert data.items["class"].to_pylist() == [["Comedy"], ["Crime", "Mystery"]]
    assert data.users["gender"].to_pylist() == ["F", "M"]


@pytest.mark.parametrize("names", [("user", "item"), ("user_id", "item_id")])
def test_lenskit(names):
    ratings = pd.DataFrame([(1, 5, 4.5, 11), (2, 5, 2.0, 12)], columns=[*names, "rating", "timestamp"])
    data = run("LensKit", ratings=ratings)
    assert pairs(data) == {(1, 5): 4.5, (2, 5): 2.0}
    assert data.interactions.timestamp.tolist() == [11, 12]


def test_personalize():
    Path("interactions.csv").write_text(
        "USER_ID,ITEM_ID,EVENT_TYPE,EVENT_VALUE,TIMESTAMP\n"
        "u1,007,click,,1586731606\nu1,007,purchase,2,1586731706\nu2,042,watch,,1586731806\nu2,042,click,,1586731906\n"
    )
    Path("items.csv").write_text(
        "ITEM_ID,GENRES,CREATION_TIMESTAMP\n007,Action|Thriller,1570003267\n042,Drama,1571730101\n"
    )
    Path("users.csv").write_text("USER_ID,MEMBERSHIP_TYPE\nu1,Gold\nu2,Silver\n")
    data = run("Amazon Personalize")
    assert pairs(data) == {("u1", "007"): pytest.approx(2.2), ("u2", "042"): pytest.approx(0.2)}
    assert data.items["GENRES"].to_pylist() == [["Action", "Thriller"], ["Drama"]]
    assert data.users["MEMBERSHIP_TYPE"].to_pylist() == ["Gold", "Silver"]


def test_features_in_rows_become_columns():
    rows = [(2, "a", "x"), (1, "b", "y"), (2, "b", None), (2, "a", "z"), (3, "b", "y")]
    table = pa.table([pa.array(column) for column in zip(*rows, strict=True)], names=["id", "feature", "value"])
    assert wide(table).to_pylist() == [
        {"id": 2, "a": ["x", "z"], "b": None}, {"id": 1, "a": None, "b": "y"}, {"id": 3, "a": None, "b": "y"},
    ]  # fmt: skip
