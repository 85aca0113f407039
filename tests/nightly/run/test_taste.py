"""A taste of the latest night: the same from a folder and from a store, and one line where there is none."""

from __future__ import annotations

import fsspec
import pandas as pd
import pytest
from night_files import DATE, job

from batch.run.night import run
from batch.taste import main, taste


@pytest.fixture(scope="module")
def out(bundle_path, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tasted")
    run(job(bundle_path, folder))
    return folder


@pytest.fixture
def store(out):
    memory, root = fsspec.filesystem("memory"), "memory://tasted/nights"
    memory.put(f"{out}/", f"{root}/", recursive=True)
    yield root
    memory.rm("tasted", recursive=True)


def test_a_store_tastes_as_a_folder_does(bundle_path, out, store):
    here, there = (taste(bundle_path, place).splitlines() for place in (out, store))
    assert here[0] == f"published: {out}/run_date={DATE}"
    assert there[0] == f"published: {store}/run_date={DATE}"
    assert here[1:] == there[1:]


def test_it_shows_what_stands_in_the_parts(bundle_path, bundle, out):
    lines = taste(bundle_path, out, num_users=41, num_items=1, k=2).splitlines()
    rows = pd.concat(pd.read_parquet(path) for path in (out / f"run_date={DATE}" / "user_items").glob("*.parquet"))
    for user, mine in rows[rows["rank"] <= 2].groupby("user_id"):
        start = lines.index(f"user {user}:")
        shown = [f"  {n}. {name}" for n, name in enumerate(bundle.titles(mine.sort_values("rank")["item_id"]), 1)]
        assert lines[start + 1 : start + 3] == shown
    assert sum(line.startswith("like ") for line in lines) == 1


def test_its_query_gives_the_list_that_duckdb_reads(bundle_path, bundle, out, capsys):
    duckdb = pytest.importorskip("duckdb")
    assert main(["--bundle", str(bundle_path), "--out", str(out), "--users", "1", "--items", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    start = lines.index("one user's list, in DuckDB:")
    found = duckdb.sql(" ".join(lines[start + 1 : start + 3])).fetchall()
    user = bundle.users["user_id"][0].as_py()
    shown = lines[lines.index(f"user {user}:") + 1 :][: len(found)]
    assert [f"  {rank}. {title}" for rank, title, _ in found] == [line.partition(" (")[0] for line in shown]
    assert lines[start + 3].startswith("next, how good they are"), "these are data of one's own already"
    assert lines[start + 4] == f"  python -m sdk evaluate --bundle {bundle_path}"


def test_the_first_of_a_list_has_its_reason(bundle_path, bundle, out):
    lines = taste(bundle_path, out, num_users=1, num_items=0, k=2).splitlines()
    user = bundle.users["user_id"][0].as_py()
    (first,) = bundle.recommend([user], 1).row(0)[0].tolist()
    (why,) = bundle.explain_recommendation(user, [first])
    assert lines[lines.index(f"user {user}:") + 3] == f"  1 because: {why.describe(max_titles=1)}"


@pytest.mark.parametrize("pointer", [None, "gibberish", "2026-11-01"])
def test_without_a_night_to_name_it_is_one_line_and_exit_code_5(bundle_path, store, capsys, pointer):
    memory = fsspec.filesystem("memory")
    memory.rm_file("/tasted/nights/LATEST")
    if pointer is not None:
        memory.pipe_file("/tasted/nights/LATEST", pointer.encode())
    assert main(["--bundle", str(bundle_path), "--out", store]) == 5
    assert "no night is published there" in capsys.readouterr().err.splitlines()[-1]


def test_a_damaged_part_and_a_wrong_number_are_one_line(bundle_path, store, capsys):
    fsspec.filesystem("memory").pipe_file(f"/tasted/nights/run_date={DATE}/user_items/part-00000.parquet", b"PAR1")
    assert main(["--bundle", str(bundle_path), "--out", store]) == 5
    assert "cannot be read" in capsys.readouterr().err
    assert main(["--bundle", str(bundle_path), "--out", store, "--users", "-1"]) == 2
    assert "--users: got -1" in capsys.readouterr().err
