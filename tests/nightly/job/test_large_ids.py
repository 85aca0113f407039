"""Ids near the end of 64 bits, next to each other, and a user who has rated everything: from files to lists."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_up import tiny_config
from night_files import DATE, job

import sdk
from batch.report import main as report
from batch.run.night import run
from batch.taste import main as taste
from sdk.__main__ import main

FIRST = 2**63 - 1 - 100  # in a float, all of these are one number
USERS = [FIRST + n for n in range(12)]
ITEMS = [FIRST + 50 + n for n in range(12)]
SATED = USERS[0]


def write(folder: Path) -> Path:
    """Twelve users and films; the first user has rated every film, two of them as floats would not have kept apart."""
    folder.mkdir()
    rng = np.random.default_rng(3)
    titles = [f"{item},Film {n} ({1980 + n}),{'Drama' if n % 2 else 'Comedy'}" for n, item in enumerate(ITEMS)]
    titles[0] = titles[0].replace("Film 0", '"Film\x1b[2J 0\u202e\nand more').replace("),", ')",')
    (folder / "movies.csv").write_text("\n".join(["movieId,title,genres", *titles, ""]), "utf-8")
    rows = ["userId,movieId,rating,timestamp"]
    for n, user in enumerate(USERS):
        for item in ITEMS if user == SATED else sorted(rng.choice(ITEMS, 6, replace=False).tolist()):
            rows.append(f"{user},{item},{4.5 if (item + n) % 2 else 2.0},{1_000_000_000 + n * 100 + item % 97}")
    (folder / "ratings.csv").write_text("\n".join([*rows, ""]))
    return folder


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> sdk.Bundle:
    folder = tmp_path_factory.mktemp("large")
    dataset = sdk.load_movielens(write(folder / "ml"))
    return sdk.train(dataset, tiny_config(), folder / "bundle")


@pytest.fixture(scope="module")
def rated(bundle: sdk.Bundle) -> dict[int, set[int]]:
    rows = pd.read_csv(bundle.path.parent / "ml" / "ratings.csv")
    return rows.groupby("userId")["movieId"].apply(set).to_dict()


def test_every_id_reaches_its_list(bundle, rated):
    assert bundle.encoded_users.known_ids.tolist() == USERS
    lists = bundle.recommend(USERS, 99)
    for n, user in enumerate(USERS):
        assert set(lists.row(n)[0].tolist()) == set(ITEMS) - rated[user]
    assert set(bundle.similar([ITEMS[1]], 99).row(0)[0].tolist()) <= set(ITEMS) - {ITEMS[1]}


def test_a_night_of_large_ids_is_published_audited_and_shown(bundle, rated, tmp_path, capsys):
    (tmp_path / "users.csv").write_text("\n".join(["userId", *map(str, USERS), ""]))
    (tmp_path / "block.txt").write_text(f"{USERS[1]},{ITEMS[11]}\n")
    out = tmp_path / "out"
    files = {"users": tmp_path / "users.csv", "block": tmp_path / "block.txt"}
    for date in ("2026-11-22", DATE):  # the second is compared with the first
        run(job(bundle.path, out, run_date=date, k=99, audience=99, skip_gate=("bundle.auc",), **files))
    night = out / f"run_date={DATE}"
    shown = pd.concat(map(pd.read_parquet, sorted((night / "user_items").glob("part-*"))))
    listed = shown.groupby("user_id")["item_id"].apply(set).to_dict()
    expected = {user: set(ITEMS) - rated[user] for user in USERS if user != SATED}
    expected[USERS[1]] -= {ITEMS[11]}
    assert listed == expected
    assert taste(["--bundle", str(bundle.path), "--out", str(out), "--users", "12"]) == 0
    text = capsys.readouterr().out
    assert f"user {USERS[1]}:" in text
    after = text.split(f"user {SATED}:\n")[1]
    assert after.startswith("  no list: ")
    assert "Film\ufffd[2J 0\ufffd and more (1980)" in text
    assert report(["--bundle", str(bundle.path), "--out", str(out)]) == 0
    pages = [page.read_text("utf-8") for page in (out / "reports").glob("*.html")]
    assert any(str(USERS[1]) in page for page in pages)
    for shown_text in (text, *pages):
        assert not set(shown_text) & {"\x1b", "\u202e"}


def test_who_has_rated_everything_gets_an_empty_list_and_a_word_why(bundle, capsys):
    asked = ["recommend", "--user", str(SATED), "--bundle", str(bundle.path)]
    for options in ([], ["--why"]):
        assert main([*asked, *options]) == 0
        out = capsys.readouterr().out
        assert out.splitlines()[0].startswith(f"for user {SATED}, made ")
        assert out.splitlines()[1:] == ["  no title is left: every title of the catalogue has been rated already"]
    assert main([*asked, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["user_id"], answer["items"]) == (SATED, [])
    assert len(bundle.recommend([SATED], 5).row(0)[0]) == 0
    assert bundle.explain_recommendation(SATED, []) == []


def test_a_visitor_who_likes_every_title_gets_an_empty_list_and_a_word_why(bundle, capsys):
    liked = [word for title in bundle.titles(ITEMS) for word in ("--liked", title)]
    assert main(["recommend", *liked, "--bundle", str(bundle.path)]) == 0
    assert "no title is left" in capsys.readouterr().out
    assert main(["recommend", *liked, "--json", "--bundle", str(bundle.path)]) == 0
    assert json.loads(capsys.readouterr().out)["items"] == []
    assert bundle.explain_recommendation(None, [], liked=ITEMS) == []


def test_filters_that_leave_nothing_give_empty_lists(bundle):
    for filters in ({"candidates": []}, {"deny": ITEMS}, {"min_ratings": 10**6}, {"deny_by_user": {USERS[1]: ITEMS}}):
        lists = bundle.recommend([USERS[1]], 5, **filters)
        assert lists.lengths.tolist() == [0]
        assert len(lists.row(0)[0]) == 0
    assert len(bundle.recommend([], 5)) == 0
    assert len(bundle.similar([], 5)) == len(bundle.similar([], 5, kind="hybrid")) == 0
    assert bundle.titles([]) == []


@pytest.mark.parametrize("model", ["dlrm", "ncf", "best"])
def test_nothing_is_explained_by_any_model(bundle, capsys, model):
    assert bundle.explain_recommendation(SATED, [], model=model) == []
    assert bundle.explain_recommendation(SATED, bundle.recommend([SATED], 5, model=model).row(0)[0], model=model) == []
    for how in ([], ["--why"], ["--json"]):
        asked = ["recommend", "--user", str(SATED), "--model", model, "--bundle", str(bundle.path), *how]
        assert main(asked) == 0
    assert "Traceback" not in capsys.readouterr().err
