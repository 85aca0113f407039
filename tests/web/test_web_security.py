"""The web app: what is typed into it, what it tells the browser, and posters."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import quote

import pytest
from catalogue import Catalogue, Details
from inputs import LONGEST_QUERY, MOST_LIKED
from page_checks import Page
from posters import IMAGES, Posters
from web_site import DARK_KNIGHT, WEB_APP, addresses, closed_port, page_of

# security ----------------------------------------------------------------------------------------------------------

ATTACKS = [
    "<script>alert(1)</script>", "\"><img src=x onerror=alert(1)>", "'; DROP TABLE titles; --", "1 OR 1=1",
    "../../../etc/passwd", "..%2f..%2fetc%2fpasswd", "....//....//etc/passwd", "{{7*7}}", "{% raw %}", "${7*7}",
    "%s%n", "\x00", "5\x00", "\r\nSet-Cookie: a=b", "\u202eevil", "٤٢", "１２", "1e3", "-1", "+5", "9" * 30,
    "x" * 199, "é" * 150, "🎬" * 50,
    "javascript:alert(1)", "//evil.example", "https://evil.example", "\\\\evil\\x", "file:///etc/passwd",
]  # fmt: skip
FIELDS = [
    "/?q={}", "/suggest?q={}", "/titles/{}", "/users?user={}", "/users/{}", "/users/5?variety={}",
    "/users/5?popularity={}", "/users/5?plain={}", "/users/5?all={}", "/changes?user={}", "/changes?user=5&before={}",
    "/changes?user=5&after={}", "/visitor?q={}", "/visitor?like={}", "/visitor?like=5&like={}", "/nights/{}",
    "/nights/{}/report", "/posters/{}", "/static/{}", "/{}",
]  # fmt: skip


@pytest.mark.parametrize("field", FIELDS)
def test_nothing_that_is_typed_becomes_code_a_path_or_an_address(client, field):
    for attack in ATTACKS:
        answer = client.get(field.format(quote(attack, safe="")))
        assert answer.status_code in (200, 303, 308, 400, 404), (attack, answer.status_code)
        assert "root:" not in answer.text
        assert "49" not in Page(answer.text).text if attack == "{{7*7}}" and answer.status_code == 404 else True
        location = answer.headers.get("Location", "/")
        assert location.startswith("/"), (attack, location)
        assert not location.startswith("//"), (attack, location)
        assert "Set-Cookie" not in answer.headers
        if (answer.mimetype == "text/html" and answer.status_code < 300) or answer.status_code >= 400:
            page = Page(answer.text)
            assert page.problems == [], (attack, page.problems)
            assert len(page.all("script")) == 1, attack
            assert not page.all("img"), attack


def test_nothing_in_the_data_becomes_code(client, named, monkeypatch):
    item = named(DARK_KNIGHT)
    evil = "</title><script>alert(1)</script>\" onerror='x' {{7*7}}"

    def is_evil(found):
        if isinstance(found, list):
            return [is_evil(title) for title in found]
        return found and replace(found, name=evil, genres=(evil,))

    def patched(name):
        whole = getattr(Catalogue, name)
        monkeypatch.setattr(Catalogue, name, lambda self, *args, **options: is_evil(whole(self, *args, **options)))

    for name in ("title", "find", "popular"):
        patched(name)
    monkeypatch.setattr(Catalogue, "details", lambda self, item: Details(evil, (evil,), (evil,), None))
    for address in (f"/titles/{item}", "/?q=dark", "/users/5", f"/visitor?like={item}&q=dark", "/titles/x"):
        answer = client.get(address)
        page = Page(answer.text)
        assert page.problems == [], address
        assert len(page.all("script")) == 1, address
        assert evil in page.text or "/titles/x" in address
        assert "<script>alert" not in answer.text
    assert client.get("/suggest?q=dark").json[0]["name"] == evil
    assert client.get("/suggest?q=dark").mimetype == "application/json"


def test_huge_requests_are_refused(client):
    assert client.get("/?q=" + "x" * (LONGEST_QUERY + 1)).status_code == 400
    assert client.get("/visitor?" + "&".join(f"like={one}" for one in range(1, MOST_LIKED + 2))).status_code == 400
    assert client.get("/visitor?" + "&".join(f"like={one}" for one in range(1, MOST_LIKED + 1))).status_code == 200


@pytest.mark.parametrize("method", ["post", "put", "delete", "patch"])
def test_there_is_nothing_to_write_to(client, method):
    for address in ("/", "/titles/5", "/users", "/visitor", "/nights"):
        assert getattr(client, method)(address, data="x").status_code == 405


def test_every_answer_carries_the_headers(client, named):
    for address in [*addresses(named(DARK_KNIGHT)), "/health", "/suggest?q=a", "/static/style.css", "/static/none"]:
        headers = client.get(address).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        policy = dict(part.strip().split(" ", 1) for part in headers["Content-Security-Policy"].split(";"))
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == policy["img-src"] == policy["connect-src"] == "'self'"
        assert policy["base-uri"] == policy["frame-ancestors"] == "'none'"
        assert "unsafe" not in headers["Content-Security-Policy"]


def test_a_defect_has_a_page_that_tells_nothing(client_of, monkeypatch, caplog):
    client = client_of()
    monkeypatch.setattr(Catalogue, "popular", lambda self, count: 1 / 0)
    page = page_of(client, "/", 500)
    assert "defect" in page.text
    assert "ZeroDivisionError" not in page.text
    assert "ZeroDivisionError" in caplog.text


def test_scripts_and_styles_name_no_other_site():
    for path in [*(WEB_APP / "static").iterdir(), *(WEB_APP / "templates").iterdir()]:
        text = path.read_text("utf-8").replace('xmlns="http://www.w3.org/2000/svg"', "")
        assert not re.search(r"(?:https?:)?//[a-z]", re.sub(r"^\s*//.*|; //.*", "", text, flags=re.M)), path.name
        assert "|safe" not in text, path.name
        assert "innerHTML" not in text, path.name


# posters -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def tmdb() -> Iterator[tuple[str, list[str]]]:
    """Something that answers as TMDB's API does, and what it was asked."""
    asked: list[str] = []
    answers = {
        "7": {"poster_path": "/abc_1.jpg"},
        "8": {"poster_path": None},
        "9": {"poster_path": "/../x?y=.jpg"},
        "10": [],
    }

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            body = json.dumps(answers.get(self.path.split("?")[0].split("/")[-1], "?")).encode()
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body if "/11?" not in self.path else b"{")

        def log_message(self, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_posters_address_is_asked_once_and_held_to_its_form(tmdb):
    api, asked = tmdb
    posters = Posters("secret", api)
    assert posters.address(7) == posters.address(7) == f"{IMAGES}/t/p/w342/abc_1.jpg"
    assert [posters.address(one) for one in (8, 9, 10, 11)] == [None] * 4
    assert asked[0] == "/movie/7?api_key=secret"
    assert len(asked) == 5
    assert Posters("secret", f"http://{closed_port()}").address(7) is None


def test_posters_are_shown_only_with_a_key_and_true_ids(client_of, catalogue, tmdb, monkeypatch):
    api, _ = tmdb
    with_key = Posters("secret", api)
    sample = client_of(posters=with_key)
    assert Page(sample.get("/titles/5").text).all("img") == []  # the sample's TMDB ids are its own
    monkeypatch.setitem(catalogue.bundle.info.data, "name", "ml-other")
    monkeypatch.setattr(Catalogue, "details", lambda self, item: details_with(7 if item == 5 else None))
    client = client_of(posters=with_key)
    page = page_of(client, "/titles/5")
    assert [img["src"] for img in page.all("img")] == ["/posters/5"]
    assert "not endorsed or certified by TMDB" in page.text
    assert page_of(client, "/titles/6").all("img") == []
    answer = client.get("/posters/5")
    assert answer.headers["Location"] == f"{IMAGES}/t/p/w342/abc_1.jpg"
    assert f"img-src 'self' {IMAGES};" in answer.headers["Content-Security-Policy"]
    assert client.get("/posters/6").status_code == 404
    assert "secret" not in client.get("/titles/5").text
    assert "img" not in [tag for tag, _, _ in page_of(client_of(), "/titles/5").elements]


def details_with(tmdb_id: int | None) -> Details:
    return Details("", (), (), tmdb_id)
