"""The web app over a shop: ids that mean something in addresses, columns that are no film's, weights, no names."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import quote, unquote

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from columns import facts_of, is_safe, pictures_of
from described_shop import SHOP, shop, shop_items
from flask.testing import FlaskClient
from hypothesis import given, settings
from hypothesis import strategies as st
from inputs import id_of, ids_of
from odd_shop import ODD, ROLES, called, odd_shop, trained
from paths import AnyText
from small import run_config
from web_site import listed_in, page_of
from werkzeug.exceptions import BadRequest
from werkzeug.routing import Map, Rule

import sdk
from batch.job.job import Job
from batch.run.night import run
from sdk.base.config import HistoryConfig
from sdk.base.description import Description
from sdk.training.pipeline import train_bundle

NIGHT = "2026-11-23"
FILM_WORDS = ("title", "stars", "watched", "genre", "film", "director")


def client_over(bundle: sdk.Bundle, nights: Path) -> FlaskClient:
    from catalogue import Catalogue
    from nights import Nights
    from pages import Site, create_app
    from sources import Sources

    catalogue, store = Catalogue(bundle), Nights(nights)
    return create_app(Site(catalogue, store, Sources(catalogue, store), None)).test_client()


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> sdk.Bundle:
    return trained(odd_shop(ROLES, called), tmp_path_factory.mktemp("odd"), ("history", "content"))


@pytest.fixture(scope="module")
def night(odd: sdk.Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("night")
    run(Job(bundle=odd.path, out=out, run_date=NIGHT, k=5))
    return out


@pytest.fixture
def client(odd: sdk.Bundle, tmp_path: Path) -> FlaskClient:
    return client_over(odd, tmp_path)


def words_of(text: str) -> str:
    """What a page shows to people, lower case."""
    return re.sub(r"<[^>]*>", " ", re.sub(r"<(title|script)[^>]*>.*?</\1>", "", text, flags=re.S)).lower()


@given(st.text(min_size=1) | st.from_regex(r"~*\.{1,3}", fullmatch=True))
def test_no_address_ends_in_dots_that_a_browser_takes_out(text: str) -> None:
    routes = Map([Rule("/titles/<any:text>", endpoint="item")], converters={"any": AnyText}).bind("shop.example")
    if not any("\ud800" <= letter <= "\udfff" for letter in text):
        address = routes.build("item", {"text": text})
        assert unquote(address.removeprefix("/titles/")) not in (".", "..")
        assert routes.match(unquote(address)) == ("item", {"text": text})


@pytest.mark.parametrize("item_id", [*ODD, "SKU-00025"])
def test_every_item_has_an_address(client: FlaskClient, odd: sdk.Bundle, item_id: str) -> None:
    page = page_of(client, f"/titles/{quote(item_id, safe='')}")
    assert f"id {item_id}" in page.text
    linked = {unquote(a.removeprefix("/titles/")) for a in page.addresses() if a.startswith("/titles/")} - {""}
    assert linked == set(odd.similar([item_id], 10).row(0)[0].tolist())
    like = next(a for a in page.addresses() if a.startswith("/visitor?like="))
    assert unquote(like.removeprefix("/visitor?like=")).replace("+", " ") == item_id
    ticked = [box["value"] for box in page_of(client, like).all("input") if "checked" in box]
    assert ticked == [item_id]


def test_every_link_of_a_list_leads_to_its_item(client: FlaskClient, odd: sdk.Bundle) -> None:
    user = odd.users["user_id"][5].as_py()
    page = page_of(client, f"/users/{user}?all=1")
    linked = [a for a in page.addresses() if a.startswith("/titles/") and a != "/titles/"]
    assert listed_in(client.get(f"/users/{user}?all=1").text) == odd.recommend([user], 1000).row(0)[0].tolist()
    for address in linked:
        assert client.get(address).status_code == 200, address
    assert "Had before" in page.text


def test_an_item_is_found_by_its_id_and_by_its_name(client: FlaskClient) -> None:
    for item_id in [*ODD, "SKU-00025"]:
        assert client.get("/suggest", query_string={"q": item_id}).json[0]["id"] == item_id
    assert {one["name"] for one in client.get("/suggest?q=shirt").json} >= {"Shirt", "shirt"}


def test_a_user_is_asked_for_by_text(client: FlaskClient, odd: sdk.Bundle) -> None:
    user = odd.users["user_id"][7].as_py()
    answer = client.get("/users", query_string={"user": f" {user} "})
    assert (answer.status_code, answer.headers["Location"]) == (303, f"/users/{user}")
    page = page_of(client, "/users/no%2Fbody", 404)
    assert "no user of that id" in page.text
    assert sum(a.startswith("/users/") for a in page.addresses()) == 12
    assert 'inputmode="numeric"' not in client.get("/users").text


def test_no_page_speaks_of_films_or_stars(client: FlaskClient, odd: sdk.Bundle) -> None:
    item, user = odd.items["item_id"][9].as_py(), odd.users["user_id"][5].as_py()
    for address, status in {
        "/": 200, "/?q=thing": 200, "/?q=zzqqxxyy": 200, f"/titles/{item}": 200, "/titles/none": 404, "/users": 200,
        f"/users/{user}": 200, "/users/none": 404, "/visitor": 200, f"/visitor?like={item}": 200, "/nights": 200,
        "/nothing": 404,
    }.items():  # fmt: skip
        shown = words_of(page_of(client, address, status) and client.get(address).text)
        assert not [word for word in FILM_WORDS if word in shown], address
    assert "interactions" in client.get("/").text


def test_lists_are_the_nights_for_text_ids(odd: sdk.Bundle, night: Path) -> None:
    client = client_over(odd, night)
    for user in odd.users["user_id"].to_pylist()[::9]:
        page = page_of(client, f"/users/{user}")
        assert f"From the night of {NIGHT}" in page.text
        assert listed_in(client.get(f"/users/{user}").text) == odd.recommend([user], 5).row(0)[0].tolist()
    for item_id in ODD:
        assert f"From the night of {NIGHT}" in page_of(client, f"/titles/{quote(item_id, safe='')}").text
    shown = words_of(client.get(f"/nights/{NIGHT}").text.partition("<h2>Checks</h2>")[0])
    assert "items per list" in shown
    assert "title" not in shown


def test_text_keys_are_found_without_statistics_and_in_any_order(odd: sdk.Bundle, night: Path, tmp_path: Path) -> None:
    from nights import Nights

    rows = pq.read_table(night / f"run_date={NIGHT}" / "user_items")
    mixed = tmp_path / f"run_date={NIGHT}"
    (mixed / "user_items").mkdir(parents=True)
    shuffled = rows.take(list(range(len(rows)))[::-1])
    pq.write_table(shuffled, mixed / "user_items" / "part-00000.parquet", row_group_size=40, write_statistics=False)
    (mixed / "manifest.json").write_text("{}")
    (mixed / "_SUCCESS").touch()
    store = Nights(tmp_path)
    whole = rows.to_pylist()
    for user in ["", "zzz", *odd.users["user_id"].to_pylist()[::7]]:
        expected = sorted((row["rank"], row["item_id"]) for row in whole if row["user_id"] == user)
        found = store.rows(NIGHT, "user_items", user, 5)
        assert sorted(row.item_id for row in found) == sorted(item for _, item in expected)


@pytest.fixture(scope="module")
def rated(tmp_path_factory: pytest.TempPathFactory) -> sdk.Bundle:
    config = run_config(models=("history", "content"), history=HistoryConfig(rank=20, penalty=5.0))
    return train_bundle(shop(), config, tmp_path_factory.mktemp("rated") / "bundle")


def test_an_item_shows_its_columns_and_what_others_are_alike_by(rated: sdk.Bundle, tmp_path: Path) -> None:
    text = client_over(rated, tmp_path).get("/titles/SKU-004").text
    shown = " ".join(words_of(text).split())
    for known in ("brand acme", "category coats", "details", "of 5"):
        assert known in shown
    assert not [word for word in FILM_WORDS if word in shown]
    first = rated.similar(["SKU-004"], 1).row(0)[0][0]
    shared = rated.explain("SKU-004", first).contributions
    (bar,) = re.findall(r'class="likeness".*?aria-label="Alike by ([^"]+)"', text)[:1]
    said = dict(one.rsplit(" ", 1) for one in bar.split(", "))
    assert said.items() <= {
        "name" if n == "title" else n.replace("_", " "): f"{v:.2f}" for n, v in shared.items()
    }.items() | {("other", said.get("other"))}


def test_pages_call_items_what_the_data_set_calls_them(rated: sdk.Bundle, tmp_path: Path) -> None:
    client = client_over(rated, tmp_path)
    assert "Find a product" in client.get("/").text
    assert "Similar products" in client.get("/titles/SKU-004").text
    assert "There is no product “none”" in client.get("/titles/none").text
    for address in ("/", "/titles/SKU-004", "/users/u05", "/visitor", "/visitor?like=SKU-004", "/nights", "/nothing"):
        assert not re.search(r"\bitems?\b", words_of(client.get(address).text)), address


def test_pictures_are_shown_from_the_catalogues_own_hosts_alone(rated: sdk.Bundle, tmp_path: Path) -> None:
    answer = client_over(rated, tmp_path).get("/titles/SKU-004")
    pictures = re.findall(
        r'<img src="([^"]+)" alt="" aria-hidden="true" loading="lazy" referrerpolicy="no-referrer">', answer.text
    )
    assert pictures[0] == "https://shop.example/4.jpg"
    assert "img-src 'self' https://shop.example;" in answer.headers["Content-Security-Policy"]
    about = Description(items={"photo": "image"}, users={})
    given = ["https://a.example/1.jpg", "https://a.example/2.jpg", "http://b.example:8080/x", None, "javascript:x",
             "https://c;d.example/x", "https://ü.example/x", "//e.example/x"]  # fmt: skip
    shown, hosts = pictures_of(pa.table({"photo": given}), about)
    assert hosts == ("https://a.example", "http://b.example:8080")
    assert shown == [*given[:3], *[""] * 5]
    many = [f"https://h{n}.example/x" for n in range(30)]
    assert len(pictures_of(pa.table({"photo": many}), about)[1]) == 20


def test_what_is_known_of_an_item_is_shown_in_words() -> None:
    row = shop_items().to_pylist()[4]
    facts = {fact.name: fact.value for fact in facts_of(row, SHOP)}
    assert facts["listed"] == "2020-09-17"
    assert facts["price"].startswith("2.2255")
    assert facts["materials"] == ", ".join(row["materials"])
    assert "title" not in facts
    empty = facts_of(dict.fromkeys(row) | {"materials": [], "labels": []}, SHOP)
    assert empty == ()
    about = Description(items={"when": "time", "site": "url", "note": "ignore"}, users={})
    odd = facts_of({"when": 10**18, "site": "javascript:alert(1)", "note": "x"}, about)
    assert [(fact.name, fact.value, fact.address) for fact in odd] == [("site", "javascript:alert(1)", "")]


@pytest.mark.parametrize("good", ["https://shop.example/a.jpg", "http://10.0.0.1:8080/x?y=1&z=%20#f"])
def test_an_address_of_the_web_is_a_link(good: str) -> None:
    assert is_safe(good)


@pytest.mark.parametrize("bad", [
    "javascript:alert(1)", "JAVASCRIPT:alert(1)", "data:text/html,x", "//evil.example", "/relative", "ftp://a.example/x",
    "https://", "https://user:secret@a.example/", "https://a.example/ x", "https://a.example/\u202e", "http://[::1",
    "https://a.example/\"onload='x'", "https://a.example/" + "x" * 2000, "", "\x00https://a.example/",
])  # fmt: skip
def test_any_other_address_is_text(bad: str) -> None:
    assert not is_safe(bad)


@settings(max_examples=50)
@given(text=st.text(min_size=1, max_size=20))
def test_any_text_is_an_id_where_ids_are_text(text: str) -> None:
    known = np.array(["a"], dtype=object)
    assert id_of(text, known) == text
    assert ids_of([text, text], known) == [text]
    with pytest.raises(BadRequest, match="by its id; one of these is none"):
        ids_of([""], known, "item")
