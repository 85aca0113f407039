"""The web app: every page, and what it says where something is missing."""

from __future__ import annotations

import json
import re

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sources
from figures import figures, gates
from page_checks import Page
from web_site import DARK_KNIGHT, NIGHT, RISES, K, addresses, closed_port, page_of

import sdk
from export.calls import Lists
from export.repository import export_repository
from export.server import ServerOptions, TritonServer

# pages -------------------------------------------------------------------------------------------------------------


def test_every_page_is_valid_accessible_and_names_no_other_site(client, named):
    for address, status in addresses(named(DARK_KNIGHT)).items():
        page = page_of(client, address, status)
        assert all(one.startswith(("/", "#")) and not one.startswith("//") for one in page.addresses()), address


def test_every_link_leads_to_a_page(client, named):
    seen, waiting = set(), ["/", f"/titles/{named(DARK_KNIGHT)}", "/visitor?like=1", "/users/5"]
    while waiting and len(seen) < 120:
        address = waiting.pop()
        if address in seen or "#" in address:
            continue
        seen.add(address)
        answer = client.get(address)
        assert answer.status_code == 200, address
        if answer.mimetype == "text/html" and len(seen) < 40:
            waiting += [one for one in Page(answer.text).addresses() if not one.endswith(("suggest", "/titles/"))]
    assert len(seen) >= 40
    assert {"/static/style.css", "/static/search.js", "/static/icon.svg"} <= seen


def test_the_page_checks_see_what_is_wrong():
    good = '<!doctype html><html lang="en"><head><title>x</title><meta name="viewport" content="width=device-width"></head><body><a href="#main">s</a><header></header><nav></nav><main id="main"><h1>x</h1>{}</main><footer></footer></body></html>'  # noqa: E501
    assert Page(good.format("")).problems == []
    for bad in ("<p><ul></ul></p>", "<li>x</li>", "<input>", '<img src="x">', "<h3>x</h3>", "<div>", "</div>",
                '<label for="y">x</label>', '<p onclick="x">x</p>', '<i id="a"></i><i id="a"></i>', "<ul><p>x</p></ul>",
                '<p style="x">x</p>', "<a><a>x</a></a>"):  # fmt: skip
        assert Page(good.format(bad)).problems, bad


def test_a_title_page_says_what_the_bundle_knows(client, catalogue, named):
    item = named(DARK_KNIGHT)
    text = page_of(client, f"/titles/{item}").text
    row = next(row for row in catalogue.bundle.items.to_pylist() if row["item_id"] == item)
    for known in (DARK_KNIGHT, row["overview"], *row["genres"], *row["directors"], *row["cast"][:8]):
        assert known in text
    assert f"From the night of {NIGHT}, made by hybrid" in text
    assert "director Christopher Nolan" in text


def test_averages_and_counts_are_those_of_the_ratings_file(catalogue, bundle_path):
    rows = duckdb.sql(
        f"select movieId, avg(rating), count(*) from '{bundle_path.parent}/ml-sample/ratings.csv' group by 1"
    )
    expected = {item: (average, count) for item, average, count in rows.fetchall()}
    for title in catalogue.popular(len(catalogue)):
        average, count = expected.get(title.item_id, (None, 0))
        assert title.ratings == count
        assert title.average == (None if average is None else pytest.approx(average, abs=1e-5))


@pytest.mark.parametrize(("address", "side", "key", "item"), [
    ("/users/{}?all=1", "user_items", "user_id", "item_id"), ("/titles/{}", "item_items", "item_id", "similar_item_id"),
])  # fmt: skip
def test_a_list_is_the_nights(client, catalogue, out, address, side, key, item):
    files = f"{out}/run_date={NIGHT}/{side}/*.parquet"
    for one in (3, 77, 150):
        rows = duckdb.sql(f"select {item} from '{files}' where {key} = {one} order by rank").fetchall()
        expected = catalogue.bundle.titles([row[0] for row in rows])[: K if side == "user_items" else 10]
        listed = re.findall(r'<span class="name"><a href="[^"]+">([^<]+)</a>', client.get(address.format(one)).text)
        assert [name.replace("&#39;", "'").replace("&amp;", "&") for name in listed] == expected


def test_reasons_come_when_asked_for(client, catalogue):
    without, with_reasons = page_of(client, "/users/5").text, page_of(client, "/users/5?why=1").text
    ids = [int(one) for one in re.findall(r'class="name"><a href="/titles/(\d+)"', client.get("/users/5").text)]
    expected = [one.describe() for one in catalogue.bundle.explain_recommendation(5, ids, max_titles=2)]
    assert len(expected) == 20
    for reason in expected:
        assert " ".join(reason.split()) in with_reasons
        assert reason not in without


def test_a_visitors_list_is_the_bundles_and_keeps_the_titles_in_the_address(client, catalogue, named):
    liked = [named(DARK_KNIGHT), named("Toy Story (1995)")]
    page = page_of(client, f"/visitor?like={liked[0]}&like={liked[1]}")
    listed = catalogue.bundle.recommend_for(liked, 20).row(0)[0]
    for name in catalogue.bundle.titles(listed):
        assert name in page.text
    ticked = [int(box["value"]) for box in page.all("input") if "checked" in box]
    assert ticked == liked
    assert "Set-Cookie" not in client.get("/visitor").headers


def test_no_page_sets_a_cookie(client, named):
    for address in addresses(named(DARK_KNIGHT)):
        assert "Set-Cookie" not in client.get(address).headers


def test_a_user_who_is_typed_in_gets_a_page(client):
    answer = client.get("/users?user=+5+")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/users/5")
    near = page_of(client, "/users/77777", 404)
    assert "User 150" in near.text


def test_unknown_titles_get_suggestions(client):
    assert RISES in page_of(client, "/titles/dark%20knigt%20rises", 404).text
    assert "Rated most" in page_of(client, "/titles/999999", 404).text


def test_a_search_without_a_result_says_so(client):
    assert "No title is like “zzqqxxyy”" in page_of(client, "/?q=zzqqxxyy").text
    assert "No further title is like" in page_of(client, "/visitor?q=zzqqxxyy").text


def test_a_night_page_shows_the_manifest(client, out):
    manifest = json.loads((out / f"run_date={NIGHT}" / "manifest.json").read_text())
    text = page_of(client, f"/nights/{NIGHT}").text
    assert f"Rows in users' lists {manifest['counts']['user_rows']:,}" in text
    for gate in manifest["checks"]["gates"]:
        assert gate["name"] in text
    assert "Readers use this night now." in text


def test_figures_leave_out_what_a_manifest_lacks():
    assert figures({}) == gates({}) == []
    assert figures({"inputs": {"k": 5, "data": "broken"}, "checks": []}) == [("Titles per list", "5")]
    failed = {"name": "a", "got": 0.25, "threshold": 0.5, "at_most": False, "passed": False, "skipped": False}
    found = gates(
        {"checks": {"gates": [{"name": "b", "passed": True}, {"name": "c", "got": 1, "passed": True}, failed, "x"]}}
    )
    assert (found[0].name, found[0].state, found[0].got, found[0].bound) == ("a", "failed", "0.25", "at least 0.5")
    assert [(gate.name, gate.state) for gate in found[1:]] == [("c", "passed"), ("b", "not compared")]


def test_a_nights_report_is_shown_but_may_run_nothing(client_of, out, tmp_path):
    (tmp_path / "nightly").symlink_to(out)
    (out / "reports").mkdir(exist_ok=True)
    report = out / "reports" / f"run_date={NIGHT}.html"
    before = report.read_bytes() if report.exists() else None
    report.write_text("<!doctype html><title>Report</title><script>alert(1)</script>", "utf-8")
    try:
        client = client_of()
        assert f"/nights/{NIGHT}/report" in client.get(f"/nights/{NIGHT}").text
        answer = client.get(f"/nights/{NIGHT}/report")
        assert answer.data == report.read_bytes()
        assert "sandbox" in answer.headers["Content-Security-Policy"]
        assert "script-src" not in answer.headers["Content-Security-Policy"]
    finally:
        report.unlink() if before is None else report.write_bytes(before)


# without a night, without a server ---------------------------------------------------------------------------------


def test_without_a_night_lists_are_computed_and_say_so(client_of, catalogue, tmp_path):
    client = client_of(nights=tmp_path / "nothing")
    text = page_of(client, "/users/5").text
    assert "No night is published yet, so this list was computed now." in text
    for name in catalogue.bundle.titles(catalogue.bundle.recommend([5], 20).row(0)[0]):
        assert name in text
    assert "computed now" in page_of(client, "/titles/5").text
    assert "No night is published yet" in page_of(client, "/nights").text
    assert client.get("/health").json["night"] is None


def test_a_night_without_a_list_for_a_user_says_so(client_of, out, tmp_path):
    night = tmp_path / f"run_date={NIGHT}"
    (night / "user_items").mkdir(parents=True)
    table = pq.read_table(out / f"run_date={NIGHT}" / "user_items")
    pq.write_table(table.filter(pa.compute.not_equal(table["user_id"], 5)), night / "user_items" / "part-00000.parquet")
    (night / "manifest.json").write_text("{}")
    (night / "_SUCCESS").touch()
    (tmp_path / "LATEST").write_text(NIGHT)
    assert f"The night of {NIGHT} has no list for this user" in page_of(client_of(nights=tmp_path), "/users/5").text
    assert f"From the night of {NIGHT}" in page_of(client_of(nights=tmp_path), "/users/6").text


@pytest.mark.parametrize("damaged", ["manifest.json", "user_items/part-00000.parquet"])
def test_a_damaged_night_has_a_page(client_of, out, tmp_path, damaged):
    night = tmp_path / f"run_date={NIGHT}"
    for name in ("manifest.json", "_SUCCESS", "user_items/part-00000.parquet"):
        (night / name).parent.mkdir(parents=True, exist_ok=True)
        (night / name).write_bytes(b"not this" if name == damaged else (out / f"run_date={NIGHT}" / name).read_bytes())
    (tmp_path / "LATEST").write_text(NIGHT)
    address = f"/nights/{NIGHT}" if damaged == "manifest.json" else "/users/5"
    assert "cannot be read" in page_of(client_of(nights=tmp_path), address, 503).text


def test_a_server_that_is_down_has_a_page(client_of, named):
    server = closed_port()
    client = client_of(server=server)
    for address in ("/users/5", f"/titles/{named(DARK_KNIGHT)}"):
        text = page_of(client, address, 503).text
        assert f"The recommendation server at {server} does not answer" in text
        assert "python -m export serve" in text
    assert "Heath Ledger" in text  # what the bundle knows is shown all the same
    assert client.get("/health").json["server"] == "down"
    assert client.get("/visitor?like=5").status_code == 200


class FakeServer:
    """Answers as the served models do, every list turned round so that nobody else can have made it."""

    def __init__(self, bundle: sdk.Bundle) -> None:
        self._bundle = bundle

    def _turned(self, found: sdk.TopK) -> Lists:
        return Lists(found.item_id[:, ::-1].copy(), found.scores[:, ::-1].copy(), found.lengths)

    def recommend(self, user_id: list[int], k: int) -> Lists:
        return self._turned(self._bundle.recommend(user_id, k))

    def similar_items(self, item_id: list[int], k: int) -> Lists:
        return self._turned(self._bundle.similar(item_id, k))

    def is_ready(self) -> bool:
        return True


def test_lists_come_from_the_live_server_where_one_is_given(client_of, catalogue, named, monkeypatch):
    monkeypatch.setattr(sources, "Client", lambda server, options: FakeServer(catalogue.bundle))
    client = client_of(server="triton:8000")
    item = named(DARK_KNIGHT)
    for address, found in (("/users/5", catalogue.bundle.recommend([5], 20)),
                           (f"/titles/{item}", catalogue.bundle.similar([item], 10))):  # fmt: skip
        page = client.get(address).text
        listed = [int(one) for one in re.findall(r'class="name"><a href="/titles/(\d+)"', page)]
        assert listed == found.row(0)[0].tolist()[::-1]
        assert "From the live server at triton:8000" in Page(page).text
    assert client.get("/health").json["server"] == "ok"


@pytest.mark.slow
@pytest.mark.server
def test_a_real_server_is_asked_and_missed_when_it_stops(client_of, catalogue, bundle_path, tmp_path):
    export_repository(bundle_path, tmp_path / "repository")
    with TritonServer(tmp_path / "repository", ServerOptions()) as server:
        client = client_of(server=server.http_url.removeprefix("http://"), timeout_s=30.0)
        assert client.get("/health").json["server"] == "ok"
        for address, found in (("/users/5", catalogue.bundle.recommend([5], 20)),
                               ("/titles/5", catalogue.bundle.similar([5], 10))):  # fmt: skip
            listed = [int(one) for one in re.findall(r'class="name"><a href="/titles/(\d+)"', client.get(address).text)]
            assert listed == found.row(0)[0].tolist()
    assert "does not answer" in page_of(client, "/users/5", 503).text
