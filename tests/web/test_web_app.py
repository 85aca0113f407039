"""The web app: every page, and what it says where something is missing."""

from __future__ import annotations

import json
import re
import shutil

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sources
from figures import figures, gates
from markupsafe import escape
from page_checks import Page
from web_site import DARK_KNIGHT, NIGHT, RISES, K, addresses, closed_port, listed_in, page_of

import sdk
from batch.job.job import Job
from batch.run.night import run
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
    assert {"/static/style.css", "/static/app.js", "/static/icon.svg"} <= seen


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
    assert f"From the night of {NIGHT}, by what they are and who likes both." in text
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
def test_a_list_is_the_nights(client, out, address, side, key, item):
    files = f"{out}/run_date={NIGHT}/{side}/*.parquet"
    for one in (3, 77, 150):
        rows = duckdb.sql(f"select {item} from '{files}' where {key} = {one} order by rank").fetchall()
        expected = [str(row[0]) for row in rows][: K if side == "user_items" else 10]
        assert listed_in(client.get(address.format(one)).text) == expected


def test_each_item_stands_beside_what_speaks_most_for_it_and_what_they_share(client, catalogue):
    html = client.get("/users/5").text
    rows = re.findall(r'<li><span class="tile.*?</li>', html.partition("</ol>")[0], re.S)
    whys = catalogue.bundle.explain_recommendation(5, [int(one) for one in listed_in(html)], max_titles=1)
    assert len(rows) == len(whys) == 20
    for row, why in zip(rows, whys, strict=True):
        (because,) = why.because
        assert f'href="/titles/{because.item_id}"' in row.partition("because")[2]
        said = because.shared.describe(1, 2, ("text", "continuous", "time")) or "liked by the same people"
        assert f'<span class="reason">{escape(said)}</span>' in row


def test_a_user_page_lists_what_the_user_rated_best_first(client, catalogue, bundle_path):
    ratings = f"'{bundle_path.parent}/ml-sample/ratings.csv'"
    rows = duckdb.sql(
        f"select movieId, rating from {ratings} join (select movieId, count(*) as n from {ratings} group by 1) "
        "using (movieId) where userId = 5 order by rating desc, n desc, movieId"
    ).fetchall()
    had = client.get("/users/5?all=1").text.partition('id="had"')[2]
    shown = re.findall(r'href="/titles/(\d+)".*?</span> ([\d.]+)<span', had)
    assert [(int(item), float(rating)) for item, rating in shown] == rows
    assert f"Rated before: {len(rows)} titles" in page_of(client, "/users/5").text


def test_dials_change_a_list_as_the_rules_do_and_say_what_changed(client, catalogue):
    plain = listed_in(client.get("/users/5").text)
    page = client.get("/users/5?variety=2").text
    expected = catalogue.bundle.recommend([5], 20, rules={"diversity": 2.0}).row(0)[0].tolist()
    assert listed_in(page) == [str(item) for item in expected] != plain
    came, went = set(listed_in(page)) - set(plain), set(plain) - set(listed_in(page))
    assert f"{len(came)} of 20 are new against the list as it is." in Page(page).text
    taken_out = page.partition("What it takes out")[2].partition("</ul>")[0]
    assert set(re.findall(r'href="/titles/(\d+)"', taken_out)) == went != set()
    assert page.count('class="change new"') + page.count('class="change was"') == len(came)


def test_less_popularity_lists_what_fewer_like(client, catalogue):
    counts = {str(title.item_id): title.ratings for title in catalogue.popular(len(catalogue))}
    means = [
        sum(counts[item] for item in listed_in(client.get(f"/users/5?popularity={dial}").text)) for dial in (-2, 0, 2)
    ]
    assert means[0] < means[1] < means[2]


@pytest.fixture
def two_nights(out, catalogue, tmp_path):
    """A night before, whose list of user 5 has its last 10 items first, and 5 that are not in the other list's top."""
    nights = shutil.copytree(out, tmp_path / "two")
    part = nights / "run_date=2026-11-22" / "user_items" / "part-00000.parquet"
    shutil.copytree(nights / f"run_date={NIGHT}", nights / "run_date=2026-11-22")
    table = pq.read_table(part).to_pandas()
    own = (table["user_id"] == 5).to_numpy()
    items = table.loc[own, "item_id"].to_numpy()
    rated = catalogue.had(5)[0].title.item_id
    table.loc[own, "item_id"] = [rated, 424242, *items[25:28], *items[:25]]
    pq.write_table(pa.Table.from_pandas(table, pq.read_schema(part), preserve_index=False), part)
    return nights


def test_two_nights_are_compared_for_a_user(client_of, two_nights, catalogue, out):
    client = client_of(nights=two_nights)
    assert "What the last night changed" in page_of(client, "/users/5").text
    html = client.get("/changes?user=5").text
    page = page_of(client, "/changes?user=5")
    assert "5 came, 5 went, 15 stayed." in page.text
    night = duckdb.sql(
        f"select item_id from '{out}/run_date={NIGHT}/user_items/*.parquet' where user_id = 5 order by rank"
    )
    items = [str(row[0]) for row in night.fetchall()]
    came = html.partition("<h2>Went</h2>")[0]
    assert re.findall(r'class="name"><a href="/titles/(\d+)">[^<]*</a> <span class="change', came) == items[15:20]
    assert [f">was {n}st<" in came or f">was {n}nd<" in came or f">was {n}th<" in came for n in (21, 22, 24)] == [
        True
    ] * 3
    gone = Page(html).text.partition(" Went ")[2]
    assert gone.count("rated since") == 1
    assert gone.count("no longer in the catalogue") == 1
    assert [f"now {place}th" in gone for place in (26, 27, 28)] == [True] * 3
    assert "There is no night of" in page_of(client, "/changes?user=5&before=2020-01-01", 404).text


def test_an_audience_is_the_nights(client_of, two_nights, bundle_path, tmp_path):
    run(Job(bundle=bundle_path, out=tmp_path / "wide", run_date=NIGHT, k=5, audience=7))
    rows = duckdb.sql(
        f"select user_id from '{tmp_path}/wide/run_date={NIGHT}/item_users/*.parquet' where item_id = 5 order by rank"
    )
    html = client_of(nights=tmp_path / "wide").get("/titles/5").text.partition("Whom the night would show it")[2]
    assert [int(one) for one in re.findall(r'href="/users/(\d+)"', html)] == [row[0] for row in rows.fetchall()] != []
    assert "Whom the night" not in client_of().get("/titles/5").text


def test_nights_stand_in_a_table_with_their_figures_and_refused_ones(client_of, two_nights):
    manifest = json.loads((two_nights / f"run_date={NIGHT}" / "manifest.json").read_text())
    manifest["checks"]["user_items"] |= {"overlap": 0.8125, "coverage": 0.25}
    (two_nights / f"run_date={NIGHT}" / "manifest.json").write_text(json.dumps(manifest))
    (two_nights / "reports").mkdir(exist_ok=True)
    (two_nights / "reports" / "refused-2026-11-24.html").write_text("<!doctype html><title>Refused</title>")
    client = client_of(nights=two_nights)
    text = page_of(client, "/nights").text
    assert re.search(rf"2026-11-24 refused – – – – {NIGHT} in use 81.2% 25.0% .* 2026-11-22 published –", text)
    drawn = [svg["aria-label"] for svg in page_of(client, "/nights").all("svg")]
    assert any(
        label.startswith("Catalogue shown: from") and "over 2 nights, 0.25 in the last" in label for label in drawn
    )
    assert "Refused" in client.get("/nights/2026-11-24/report").text


def test_the_effect_of_a_nights_rules_is_shown(client_of, bundle_path, catalogue, tmp_path):
    rules = {"at_most": {"genres": 3}, "diversity": 0.5, "popularity": -0.01}
    run(Job(bundle=bundle_path, out=tmp_path / "ruled", run_date=NIGHT, k=10, rules=json_file(tmp_path, rules)))
    client = client_of(nights=tmp_path / "ruled")
    page = page_of(client, "/users/5")
    said = "at most 3 that share genres; more variety than by score alone; what is popular counts less"
    assert said in page.text
    assert said in page_of(client, f"/nights/{NIGHT}").text
    assert "/users/5?plain=1" in page.addresses()
    without = client.get("/users/5?plain=1").text
    assert listed_in(without) == [str(item) for item in catalogue.bundle.recommend([5], 20).row(0)[0]]
    assert "Without the night’s rules and draws." in Page(without).text


def test_a_list_that_is_a_draw_says_so(client_of, bundle_path, tmp_path):
    run(Job(bundle=bundle_path, out=tmp_path / "drawn", run_date=NIGHT, k=10, explore=0.5, explore_share=0.5))
    rows = duckdb.sql(
        f"select user_id, max(propensity != 0) from '{tmp_path}/drawn/run_date={NIGHT}/user_items/*.parquet' group by 1"
    )
    drawn = dict(rows.fetchall())
    client = client_of(nights=tmp_path / "drawn")
    for user in list(drawn)[:12]:
        assert ("This list is a draw" in client.get(f"/users/{user}").text) == drawn[user], user
    assert {drawn[user] for user in list(drawn)[:12]} == {True, False}
    assert "50.0% of the users get a draw" in page_of(client, f"/nights/{NIGHT}").text


def json_file(folder, values):
    (folder / "rules.json").write_text(json.dumps(values))
    return folder / "rules.json"


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
        assert gate["name"].replace(".", ": ").replace("_", " ") in text
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
    assert "Computed now, made from what they had. No night is published yet." in text
    for name in catalogue.bundle.titles(catalogue.bundle.recommend([5], 20).row(0)[0]):
        assert name in text
    assert "Computed now" in page_of(client, "/titles/5").text
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
        assert listed_in(page) == [str(item) for item in found.row(0)[0].tolist()[::-1]]
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
            assert listed_in(client.get(address).text) == [str(item) for item in found.row(0)[0].tolist()]
    assert "does not answer" in page_of(client, "/users/5", 503).text
