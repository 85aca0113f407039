"""What `make nightly` does, from outside: train on the sample, score, taste; and the README against all of it."""

from __future__ import annotations

import contextlib
import doctest
import io
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest

import sdk
from export.server import ServerOptions, TritonServer

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text("utf-8")
DATE = "2026-11-23"


def run(folder: Path, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([sys.executable, "-m", *arguments], cwd=folder, capture_output=True, text=True, timeout=900)
    assert done.returncode == code, done.stderr
    return done


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the sample's bundle and one night lie, made by the commands themselves."""
    folder = tmp_path_factory.mktemp("home")
    run(folder, "sdk", "train", "--sample", "--out", "bundle")
    run(folder, "batch.score", "--bundle", "bundle", "--out", "nightly", "--run-date", DATE)
    return folder


@pytest.mark.slow
def test_dlrm_beats_ncf_beats_popularity_on_the_sample(home):
    rows = {row["model"]: row["auc"] for row in sdk.load(home / "bundle").info.metrics["test"]}
    assert rows["dlrm"] > rows["ncf"] > rows["popularity"] + 0.1
    assert rows["dlrm"] > rows["user and item means"]


@pytest.mark.slow
def test_training_leaves_nothing_but_the_bundle(home):
    assert sorted(path.name for path in home.iterdir()) == ["bundle", "nightly"]
    reports = {path.name for path in (home / "bundle" / "reports").iterdir()}
    assert {"auc_per_epoch.png", "calibration.png", "metrics.json", "metrics.md"} <= reports
    assert (home / "bundle" / "rejects.parquet").exists()


@pytest.mark.slow
def test_the_same_seed_trains_the_same_models(home, tmp_path):
    run(tmp_path, "sdk", "train", "--sample", "--out", "again", "--models", "ncf,content")
    for name in ("ncf.safetensors", "content.npz", "items.parquet", "users.parquet", "seen.parquet"):
        assert (tmp_path / "again" / name).read_bytes() == (home / "bundle" / name).read_bytes(), name


@pytest.mark.slow
def test_the_taste_names_three_users_and_three_titles(home):
    taste = run(home, "batch.taste", "--bundle", "bundle", "--out", "nightly").stdout
    assert f"run_date={DATE}" in taste
    assert "next, with data of your own (docs/your_data.md):" in taste
    assert len(re.findall(r"^user \d+:$", taste, re.M)) == 3
    assert len(re.findall(r"^like .+ \(\d{4}\):$", taste, re.M)) == 3
    assert len(re.findall(r"^  5\. .+ \(\d{4}\)$", taste, re.M)) == 6


def run_session(session: str) -> None:
    """A session of the README gives what stands below each of its lines."""
    test = doctest.DocTestParser().get_doctest(session, {}, "README.md", "README.md", 0)
    output: list[str] = []
    results = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(test, out=output.append)
    assert results.failed == 0, "".join(output)
    assert results.attempted >= 3


LIVE, SESSION = re.findall(r"```python\n(>>> .*?)```", README, re.S)


@pytest.mark.slow
def test_the_readme_session_is_real(home, monkeypatch):
    monkeypatch.chdir(home)
    run_session(SESSION)


@pytest.mark.slow
@pytest.mark.server
@pytest.mark.needs("pytriton")
def test_the_readmes_live_answer_is_real(home, tmp_path):
    run(home, "export", "--bundle", "bundle", "--out", str(tmp_path / "repository"))
    with TritonServer(tmp_path / "repository", ServerOptions()) as server:
        run_session(LIVE.replace("127.0.0.1:8000", server.http_url))


@pytest.mark.slow
@pytest.mark.needs("checkout")
def test_the_readmes_commands_print_what_it_shows_and_its_query_reads_the_night(home, tmp_path, monkeypatch):
    shutil.copytree(home / "nightly", tmp_path / "nightly")
    (tmp_path / "bundle").symlink_to(home / "bundle")
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    shown = re.findall(r"^\$ python (.*)\n((?:(?!\$|```).*\n)*)", README, re.M)
    assert len(shown) == 5
    for command, expected in shown:
        done = subprocess.run(
            [sys.executable, *shlex.split(command)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=300,
            check=True,
        )
        if expected:
            same = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
            assert doctest.OutputChecker().check_output(expected, done.stdout, same), done.stdout
    monkeypatch.chdir(tmp_path)
    query = re.search(r"```sql\n(.*?)```", README, re.S)
    assert query is not None
    rows = duckdb.sql(query[1]).fetchall()
    ids, _ = sdk.load("bundle").recommend([600], 5).row(0)
    titles = [re.sub(r" \(\d{4}\)$", "", name) for name in sdk.load("bundle").titles(ids)]
    assert [title for _, title, _ in rows] == titles


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Delete operation did not match any records:UserWarning")
def test_the_page_on_lakes_does_what_it_shows(home, tmp_path, monkeypatch):
    for package in ("deltalake", "pyiceberg"):
        pytest.importorskip(package, reason=f"no {package} here: pip install deltalake 'pyiceberg[sql-sqlite]'")
    shutil.copytree(home / "nightly", tmp_path / "nightly")
    run(tmp_path, "batch.score", "--bundle", str(home / "bundle"), "--out", "nightly", "--run-date", "2026-11-24")
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "integrations.md").read_text("utf-8")
    blocks = re.findall(r"```python\n(.*?)```\n\n```\n(.*?)```", page, re.S)
    assert len(blocks) == page.count("```python") == 4
    names: dict[str, object] = {}
    for code, expected in blocks:
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(compile(code, "integrations.md", "exec", dont_inherit=True), names)
        assert printed.getvalue() == expected


@pytest.mark.slow
def test_similar_answers_by_title_with_reasons_and_suggests_for_a_misspelt_one(home):
    good = run(home, "sdk", "similar", "The Dark Knight", "--bundle", "bundle", "--k", "3").stdout
    assert "director Christopher Nolan" in good
    bad = run(home, "sdk", "similar", "The Drak Knight", "--bundle", "bundle", code=2).stderr
    assert "Did you mean 'The Dark Knight (2008)'" in bad


@pytest.mark.slow
def test_recommend_and_evaluate_answer_on_stdout(home):
    listed = run(home, "sdk", "recommend", "--user", "600", "--bundle", "bundle", "--k", "2").stdout
    assert len(listed.splitlines()) == 3
    cold = run(home, "sdk", "recommend", "--user", "987654", "--bundle", "bundle", "--k", "2").stdout
    assert "popular" in cold
    figures = json.loads(run(home, "sdk", "evaluate", "--bundle", "bundle", "--json").stdout)
    trained = {row["model"]: row["auc"] for row in sdk.load(home / "bundle").info.metrics["test"]}
    assert {row["model"]: row["auc"] for row in figures["test"]} == pytest.approx(trained, abs=1e-12)


@pytest.mark.slow
def test_every_user_and_title_of_the_bundle_is_in_the_night(home):
    folder = home / "nightly" / f"run_date={DATE}"
    for name, table, key in (("user_items", "users", "user_id"), ("item_items", "items", "item_id")):
        got = pq.read_table(folder / name, columns=[key], partitioning=None).column(key).unique().to_pylist()
        assert set(got) == set(pq.read_table(home / "bundle" / f"{table}.parquet").column(key).to_pylist())


def test_the_pages_lines_without_make_are_the_makefiles():
    makefile = (ROOT / "Makefile").read_text("utf-8")
    start = (ROOT / "docs" / "start.md").read_text("utf-8")
    lines = dict(re.findall(r"^(sh setup\.sh.*?) && (.*)$", start, re.M))
    assert list(lines) == ["sh setup.sh --night", "sh setup.sh"]
    for line in lines.values():
        for command in line.split(" && "):
            words = shlex.split(command.replace("$(date +%F)", "DATE"))
            assert words[0] == ".venv/bin/python"
            assert f"-m {words[2]}" in makefile, command


def test_the_names_on_the_sdks_page_exist():
    page = (ROOT / "docs" / "sdk.md").read_text("utf-8")
    assert len(re.findall(r"`sdk\.(\w+)\(", page)) > 5
    for name in re.findall(r"`sdk\.(\w+)\(", page):
        assert hasattr(sdk, name), name
    for name in re.findall(r"`?bundle\.(\w+)\(", page + README):
        assert hasattr(sdk.Bundle, name), name


def test_public_names_are_the_listed_ones():
    for name in sdk.__all__:
        assert getattr(sdk, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'recomend'"):
        sdk.recomend  # noqa: B018
