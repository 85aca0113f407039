"""The web app over ids that a browser's numbers cannot hold, hostile titles, and a user who has rated everything."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from flask.testing import FlaskClient
from small import dataset, ratings, run_config
from web_site import page_of

import sdk
from sdk.base.types import Dataset
from sdk.training.pipeline import train_bundle

BASE = 2**62  # in a float, each of these ids is another one
EVIL = "\u202eEvil\x1b[2J\x9b "


def odd_data() -> Dataset:
    data = dataset()
    rated = data.interactions
    users, items = data.users["user_id"].to_numpy() + BASE, data.items["item_id"].to_numpy() + BASE
    others = rated.user_id + BASE != users[0]
    every = ratings(
        np.concatenate([rated.user_id[others] + BASE, np.full(len(items), users[0])]),
        np.concatenate([rated.item_id[others] + BASE, items]),
        np.concatenate([rated.rating[others], np.full(len(items), 4.0)]),
    )
    titles = [EVIL + title for title in data.items["title"].to_pylist()]
    changed = data.items.set_column(0, data.items.schema.field(0), pa.array(items))
    return dataclasses.replace(
        data, interactions=every,
        items=changed.set_column(1, changed.schema.field(1), pa.array(titles)),
        users=data.users.set_column(0, data.users.schema.field(0), pa.array(users)),
    )  # fmt: skip


@pytest.fixture(scope="module")
def odd_bundle(tmp_path_factory: pytest.TempPathFactory) -> sdk.Bundle:
    config = run_config(models=("ncf", "history", "content"))
    return train_bundle(odd_data(), config, tmp_path_factory.mktemp("odd") / "bundle")


@pytest.fixture
def odd_client(odd_bundle: sdk.Bundle, tmp_path: Path) -> FlaskClient:
    from catalogue import Catalogue
    from nights import Nights
    from pages import Site, create_app
    from sources import Sources

    catalogue, nights = Catalogue(odd_bundle), Nights(tmp_path)
    return create_app(Site(catalogue, nights, Sources(catalogue, nights), None)).test_client()


@pytest.mark.parametrize("query", ["", "?variety=1", "?all=1", "?plain=1&all=1"])
def test_who_has_rated_everything_gets_a_page_that_says_so(odd_client, odd_bundle, query):
    sated = odd_bundle.encoded_users.known_ids[0]
    page = page_of(odd_client, f"/users/{sated}{query}")
    assert "this user has rated every title" in page.text


def test_who_likes_everything_gets_a_page_that_says_so(odd_client, odd_bundle):
    every = "&".join(f"like={item}" for item in odd_bundle.encoded_items.known_ids)
    assert "There is nothing to recommend" in page_of(odd_client, f"/visitor?{every}").text


def test_ids_reach_the_browser_whole(odd_client, odd_bundle):
    items, users = (table.known_ids.tolist() for table in (odd_bundle.encoded_items, odd_bundle.encoded_users))
    assert {one["id"] for one in odd_client.get("/suggest?q=film").json} <= set(map(str, items))
    assert odd_client.get(f"/users?user={users[1]}").headers["Location"].endswith(f"/users/{users[1]}")
    page = page_of(odd_client, f"/users/{users[1]}")
    linked = {int(a.rpartition("/")[2]) for a in page.addresses() if a.startswith("/titles/")}
    rated = odd_bundle.interactions.rows
    had = rated.item_index[rated.user_index == odd_bundle.encoded_users.index_of([users[1]])[0]]
    listed = set(odd_bundle.recommend([users[1]], 20).row(0)[0].tolist())
    assert listed <= linked <= listed | set(odd_bundle.encoded_items.ids[had].tolist())
    assert page_of(odd_client, f"/titles/{items[3]}").text.count("Evil") > 1


@pytest.mark.parametrize("text", [str(2**63), "1.5", "-1", "1e400", "9" * 400, "nan", "٧"])
def test_what_is_no_id_is_no_page(odd_client, text):
    assert odd_client.get(f"/users/{text}").status_code == 404
    assert odd_client.get(f"/titles/{text}").status_code == 404
    assert odd_client.get(f"/visitor?like={text}").status_code == 400


def test_titles_turn_no_line_around(odd_client, odd_bundle):
    item, user = odd_bundle.encoded_items.known_ids[4], odd_bundle.encoded_users.known_ids[4]
    for address in ("/", "/?q=film", f"/titles/{item}", f"/users/{user}", f"/visitor?like={item}"):
        text = odd_client.get(address).text
        assert not set(text) & {"\u202e", "\x1b", "\x9b"}, address
        assert "Evil" in text, address


@pytest.mark.parametrize("hidden", ["\u200b", "\ufeff", "\u2028", "\u061c", "\u202e", "\x00"])
def test_what_nobody_sees_in_a_search_does_not_count(odd_client, hidden):
    from inputs import query_of

    assert query_of(f"{hidden}Film{hidden}1{hidden}") == "Film 1"
    assert hidden not in odd_client.get("/", query_string={"q": f"film{hidden}"}).text
