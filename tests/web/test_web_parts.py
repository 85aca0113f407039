"""The web app's parts: search, nights, chart and command."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from app import build_parser, main
from catalogue import Title
from charts import WIDTH, legend_of, likeness_bar
from dials import Dials
from flask.testing import FlaskClient
from hypothesis import given, settings
from hypothesis import strategies as st
from nights import Nights
from search import SearchIndex, fold
from web_site import DARK_KNIGHT, NIGHT, RISES, WEB_APP

# search ------------------------------------------------------------------------------------------------------------


def suggested(client: FlaskClient, query: str) -> list[str]:
    return [one["name"] for one in client.get("/suggest", query_string={"q": query}).json]


def test_suggestions_follow_what_is_typed(client, catalogue):
    every = [f" {fold(title.name)}" for title in catalogue.popular(len(catalogue))]
    for typed in ("t", "th", "the d", "dark", "dark kn", "DARK KNIGHT R"):
        names = suggested(client, typed)
        possible = sum(f" {fold(typed)}" in name for name in every)
        starting = [f" {fold(typed)}" in f" {fold(name)}" for name in names]
        assert sum(starting) == min(8, possible) > 0, typed
        assert starting == sorted(starting, reverse=True), typed
    assert suggested(client, "dark knight rises")[0] == RISES
    assert suggested(client, "the dark knight")[0] == DARK_KNIGHT
    assert suggested(client, "rises knight dark")[0] == RISES
    assert suggested(client, "amélie") == suggested(client, "amelie") != []


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_a_title_with_two_letters_swapped_is_found(catalogue, which, where):
    titles = [title for title in catalogue.popular(len(catalogue)) if len(title.name) >= 14]
    title = titles[which % len(titles)]
    name = title.name[:-7]
    at = where % (len(name) - 1)
    typed = name[:at] + name[at + 1] + name[at] + name[at + 2 :]
    assert title.item_id in [found.item_id for found in catalogue.find(typed, 8)], typed


def test_the_index_finds_what_a_plain_scan_finds():
    rng = np.random.default_rng(0)
    vocabulary = ["red", "reds", "star", "stars", "the", "night", "a", "II", "x"]
    names = [
        " ".join(rng.choice(vocabulary, rng.integers(1, 5))) + f" ({year})" for year in rng.integers(1990, 1999, 400)
    ]
    popularity = rng.integers(0, 10**6, 400)
    index = SearchIndex(names, popularity)
    bare = [re.sub(r" [0-9]{4}$", "", fold(name)) for name in names]
    for query in ("r", "red", "reds s", "the", "star n", "x 199", "night"):
        starts = [row for row, name in enumerate(names) if f" {fold(query)}" in f" {fold(name)}"]
        whole = [query in (name, re.sub("^(the|a) (?=.)", "", name)) for name in bare]
        expected = sorted(starts, key=lambda row: (not whole[row], -popularity[row], row))
        assert index.find(query, 10)[: len(expected)] == expected[:10], query


def test_what_is_not_a_name_finds_nothing_at_once(client):
    for query in ("", " ", "!!!", "\x00", "　"):
        assert suggested(client, query) == []


# nights ------------------------------------------------------------------------------------------------------------


def test_a_list_is_found_whatever_the_order_and_the_row_groups(tmp_path):
    rng = np.random.default_rng(1)
    users = np.repeat(np.arange(0, 200, 2), 7)
    table = pa.table({"user_id": users, "rank": np.tile(np.arange(1, 8, dtype=np.int32), 100),
                      "item_id": rng.integers(0, 10**12, 700), "score": rng.random(700).astype(np.float32),
                      "source": np.where(users % 4, "dlrm", "popular")})  # fmt: skip
    night = tmp_path / "run_date=2026-01-02"
    (night / "user_items").mkdir(parents=True)
    shuffled = table.slice(420).take(rng.permutation(280))
    pq.write_table(table.slice(0, 420), night / "user_items" / "part-00000.parquet", row_group_size=100)
    pq.write_table(shuffled, night / "user_items" / "part-00001.parquet", write_statistics=False)
    (night / "manifest.json").write_text("{}")
    (night / "_SUCCESS").touch()
    for cache_mib in (0, 100):
        store = Nights(tmp_path, cache_mib)
        for user in rng.permutation(220):
            expected = table.filter(pa.compute.equal(table["user_id"], int(user)))
            got = store.rows("2026-01-02", "user_items", int(user), 5)
            assert [row.item_id for row in got] == expected["item_id"].to_pylist()[:5], user
            assert [row.source for row in got] == expected["source"].to_pylist()[:5]


@pytest.fixture
def own_night(out, tmp_path):
    """A copy of the night whose parts may be deleted."""
    return Path(shutil.copytree(out, tmp_path / "own"))


def without_parts(night):
    for part in night.rglob("*.parquet"):
        part.unlink()


def test_only_the_row_group_with_the_id_is_read(own_night):
    store, other = Nights(own_night), Nights(own_night)
    expected = other.rows(NIGHT, "user_items", 6, 3)
    store.rows(NIGHT, "user_items", 5, 3)
    without_parts(own_night)
    assert store.rows(NIGHT, "user_items", 6, 3) == expected != []
    assert store.rows(NIGHT, "user_items", 10**9, 3) == []


def test_a_warm_cache_needs_no_file_and_a_damaged_night_does_not_stop_the_start(own_night, tmp_path, caplog):
    store, cold = Nights(own_night), Nights(own_night)
    expected = cold.rows(NIGHT, "user_items", 5, 9), cold.rows(NIGHT, "item_items", 5, 9)
    store.warm()
    without_parts(own_night)
    assert (store.rows(NIGHT, "user_items", 5, 9), store.rows(NIGHT, "item_items", 5, 9)) == expected
    night = tmp_path / f"run_date={NIGHT}"
    (night / "user_items").mkdir(parents=True)
    for name in ("manifest.json", "_SUCCESS", "user_items/part-00000.parquet"):
        (night / name).write_text("not this")
    (tmp_path / "LATEST").write_text(NIGHT)
    Nights(tmp_path).warm()
    assert "cannot be read" in caplog.text
    Nights(tmp_path / "nothing").warm()


def test_nights_that_are_not_complete_are_not_shown(tmp_path):
    for name in ("run_date=2026-01-01", "run_date=2026-01-02", ".staging-2026-01-03", "run_date=x"):
        (tmp_path / name).mkdir()
    (tmp_path / "run_date=2026-01-01" / "_SUCCESS").touch()
    store = Nights(tmp_path)
    assert store.dates() == ["2026-01-01"]
    for latest, expected in (("2026-01-02", None), ("2026-01-01\n", "2026-01-01"), ("../../etc", None), ("\xff", None)):
        (tmp_path / "LATEST").write_text(latest, "latin-1")
        assert store.latest() == expected


# chart and command -------------------------------------------------------------------------------------------------


def test_a_bars_pieces_are_as_long_as_what_each_field_adds():
    rows = [{"<b>cast": 0.5, "genres": 0.25}, {f"f{n}": 0.01 * n for n in range(1, 7)}]
    legend = legend_of(rows)
    assert legend == ("<b>cast", "genres", "f6", "f5", "f4", "other")
    first, second = (str(likeness_bar(row, legend, 0.75)) for row in rows)
    pieces = re.findall(r'class="(f\d)" x="([\d.]+)" y="0" width="([\d.]+)"', first)
    assert [(name, float(x), float(width)) for name, x, width in pieces] == [("f0", 0, 160), ("f1", 160, WIDTH - 160)]
    assert "&lt;b&gt;cast 0.50, genres 0.25" in first
    widths = [float(width) for width in re.findall(r' width="([\d.]+)"', second)]
    assert widths == pytest.approx([0.06 * 320, 0.05 * 320, 0.04 * 320, 0.06 * 320], abs=0.1)  # f1, f2 and f3 are other


@pytest.mark.parametrize(("name", "initials"), [
    ("The Lord of the Rings (2001)", "LR"), ("Heat (1995)", "H"), ("1984 (1984)", "1"), ("2012", "2"), ("The", "T"),
    ("\u202eévil  item", "ÉI"), ("!!!", ""), ("SKU-000742", "S0"),
])  # fmt: skip
def test_a_tile_shows_the_first_letters_of_a_name(name, initials):
    assert Title(1, name, None, (), None, 0).initials == initials


def test_items_of_one_genre_have_one_colour():
    hues = {Title(n, f"x{n}", None, (genre,), None, 0).hue for n in range(9) for genre in ("Drama",)}
    assert len(hues) == 1
    assert len({Title(n, f"x{n}", None, (f"genre {n}",), None, 0).hue for n in range(99)}) == 12


@pytest.mark.parametrize("text", ["x", "nan", "inf", "-3", "2.5", "1e9", "0" * 30, "1_0", ""])
def test_a_dial_that_is_no_number_in_its_range_is_refused(client, text):
    for name in ("popularity", "variety"):
        page = client.get("/users/5", query_string={name: text})
        assert page.status_code == 400
        assert f"The dial of {name} goes from" in page.text


def test_a_dial_at_one_moves_the_ends_of_a_list_by_its_whole_spread():
    scores, likes = np.array([5.0, 4.0, 3.0], np.float32), np.array([0.0, 9.0, 99.0], np.float32)
    rules = Dials(popularity=1, variety=0.5).rules({"diversity": 1, "at_most": {"brand": 2}}, scores, likes)
    moved = rules.popularity * np.log1p(likes)
    assert moved[2] - moved[0] == pytest.approx(scores[0] - scores[2])
    assert (rules.diversity, dict(rules.at_most)) == (1.5, {"brand": 2})
    assert Dials(plain=True).rules({"diversity": 1}, scores, likes).diversity == 0
    assert Dials(popularity=1).rules({}, scores[:0], likes[:0]).popularity == 0


def test_procfile_and_dockerfile_start_the_app_as_it_takes_its_options(monkeypatch):
    monkeypatch.delenv("PORT", raising=False)
    procfile = (WEB_APP / "Procfile").read_text().removeprefix("web: ")
    docker = json.loads((WEB_APP / "Dockerfile").read_text().rpartition("CMD ")[2])
    for words in (shlex.split(re.sub(r"\$\{\w+:-(\w+)\}", r"\1", procfile)), docker):
        assert words[:2] == ["python", "examples/web_app/app.py"]
        args = build_parser().parse_args(words[2:])
        assert (args.host, args.port) == ("0.0.0.0", 8080)


def test_the_readme_names_every_option():
    readme = (WEB_APP / "README.md").read_text()
    rows = [line.split("|")[1] for line in readme.splitlines() if line.startswith("| `--")]
    named = {option for row in rows for option in re.findall(r"--[a-z-]+", row)}
    assert named == {option for action in build_parser()._actions for option in action.option_strings} - {
        "-h",
        "--help",
    }


def test_readers_at_the_same_time_get_what_one_gets_alone(client_of):
    addresses = ["/users/5", "/visitor?like=5&like=9", "/titles/5", "/suggest?q=dark", "/users/6?variety=1"]
    client = client_of()
    alone = {address: client.get(address).data for address in addresses}
    app = client.application
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda address: (address, app.test_client().get(address).data), addresses * 12))
    assert all(data == alone[address] for address, data in found)


def test_the_port_is_the_environments_unless_one_is_given(monkeypatch):
    monkeypatch.setenv("PORT", "5005")
    given = ["--bundle", "b", "--nightly", "n"]
    assert build_parser().parse_args(given).port == 5005
    assert build_parser().parse_args([*given, "--port", "0"]).port == 0


def test_a_port_that_is_none_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--bundle", str(tmp_path), "--nightly", str(tmp_path), "--port", "99999"])
    assert stop.value.code == 2
    assert "got '99999', expected a port from 0 to 65535" in capsys.readouterr().err


def test_a_bundle_that_is_none_is_said_in_one_line(tmp_path, caplog):
    assert main(["--bundle", str(tmp_path), "--nightly", str(tmp_path)]) == 4
    assert "no bundle.json" in caplog.text


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_the_command_says_where_it_is_ready_and_stops_cleanly(bundle_path, out, stop):
    command = [
        sys.executable,
        str(WEB_APP / "app.py"),
        "--bundle",
        str(bundle_path),
        "--nightly",
        str(out),
        "--port",
        "0",
    ]
    environment = {name: value for name, value in os.environ.items() if name != "TMDB_API_KEY"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            line = process.stdout.readline()
            assert re.fullmatch(r"ready: http://127\.0\.0\.1:\d+/\n", line)
            with urllib.request.urlopen(line.split()[1] + "health", timeout=30) as answer:
                assert json.load(answer)["status"] == "ok"
        finally:
            process.send_signal(stop)
        _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (0, "")
