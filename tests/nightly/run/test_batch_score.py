"""The nightly job against its contract, read back by other libraries and compared with the model itself."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from filelock import FileLock
from made_up import BARE_ITEM, COLD_USER, NUM_ITEMS, NUM_USERS, tiny_config, write_movielens

import sdk
from batch.job.job import Job
from batch.run import Report, run
from batch.score import main
from sdk.base import schema
from sdk.base.errors import UsageError

DATE = "2026-11-23"
ROOT = Path(__file__).resolve().parents[3]


def night(bundle_path: Path, out: Path, **options: object) -> tuple[Report, Path]:
    job = Job(bundle=bundle_path, out=out, run_date=DATE, **{"k": 10, **options})  # type: ignore[arg-type]
    return run(job), job.night


def read(folder: Path) -> pd.DataFrame:
    return pd.concat([pd.read_parquet(path) for path in sorted(folder.glob("part-*.parquet"))], ignore_index=True)


@pytest.fixture(scope="module")
def published(bundle_path: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Report, Path]:
    return night(bundle_path, tmp_path_factory.mktemp("nights"))


def test_every_user_and_every_title_has_a_list_with_dense_ranks(published, bundle):
    for name, key, expected in (("user_items", "user_id", bundle.users), ("item_items", "item_id", bundle.items)):
        lists = read(published[1] / name)
        assert set(lists[key]) == set(expected.column(key).to_pylist())
        for _, rows in lists.groupby(key):
            assert rows["rank"].tolist() == list(range(1, len(rows) + 1))
            assert rows["score"].is_monotonic_decreasing
            assert np.isfinite(rows["score"]).all()


def test_columns_are_the_contracts(published):
    for name, layout in (("user_items", schema.USER_ITEMS), ("item_items", schema.ITEM_ITEMS)):
        for path in (published[1] / name).glob("*.parquet"):
            assert pq.read_schema(path) == layout


def logits(bundle, user):
    """One user's logits of every known title, by the ranker's own forward pass."""
    rows = torch.arange(3, 3 + len(bundle.encoded_items.known_ids))
    index = int(bundle.encoded_users.index_of([user])[0])
    with torch.no_grad():
        return bundle.model()(torch.full_like(rows, index), rows).numpy()


def history_scores(bundle, user):
    """The same by the history model, written out: what each rated title adds."""
    rows, history = bundle.interactions.rows, bundle.history
    mine = rows.user_index == bundle.encoded_users.index_of([user])[0]
    weights = history.config.weights(bundle.interactions.rating[mine])
    vector = (weights[:, None] * history.item_in[rows.item_index[mine]]).sum(axis=0)
    popularity = 1 + history.config.popularity_boost / (weights.sum() + history.config.boost_titles)
    return (history.item_out @ vector + popularity * history.item_bias)[3:]


def test_lists_equal_history_plus_a_share_of_the_rankers_own_forward_pass_over_all_pairs(published, bundle):
    lists = read(published[1] / "user_items")
    seen, ids = bundle.interactions.seen(len(bundle.encoded_users)), bundle.encoded_items.known_ids
    for user, got in lists[lists["source"] != "popular"].groupby("user_id"):
        scores = history_scores(bundle, user) + bundle.info.config.history.ranker_weight * logits(bundle, user)
        unseen = np.setdiff1d(np.arange(len(ids)), seen.row(int(bundle.encoded_users.index_of([user])[0])) - 3)
        best = unseen[np.lexsort((unseen, -scores[unseen]))][:10]
        np.testing.assert_allclose(got["score"], scores[best], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(scores[np.searchsorted(ids, got["item_id"])], scores[best], rtol=1e-5, atol=1e-6)


def test_without_the_history_model_lists_are_the_rankers_alone(tmp_path):
    dataset = sdk.load_movielens(write_movielens(tmp_path / "ml"))
    config = dataclasses.replace(tiny_config(), models=("ncf",))
    bundle = sdk.train(dataset, config, tmp_path / "bundle")
    report, folder = night(tmp_path / "bundle", tmp_path / "out", k=1)
    assert report.model == "ncf"
    lists = read(folder / "user_items")
    assert set(lists["source"]) == {"ncf", "popular"}
    seen = bundle.interactions.seen(len(bundle.encoded_users))
    for user, got in lists[lists["source"] == "ncf"].groupby("user_id"):
        scores = logits(bundle, user)
        scores[seen.row(int(bundle.encoded_users.index_of([user])[0])) - 3] = -np.inf
        np.testing.assert_allclose(got["score"], scores.max(), rtol=1e-5)


def test_nobody_is_shown_what_they_have_rated_unless_asked(published, bundle_path, bundle, tmp_path):
    rated = {
        (int(bundle.encoded_users.ids[u]), int(bundle.encoded_items.ids[i]))
        for u, i in zip(bundle.interactions.rows.user_index, bundle.interactions.rows.item_index, strict=True)
    }
    shown = read(published[1] / "user_items")
    assert not rated & set(zip(shown["user_id"], shown["item_id"], strict=True))
    _, folder = night(bundle_path, tmp_path, include_seen=True)
    shown = read(folder / "user_items")
    assert rated & set(zip(shown["user_id"], shown["item_id"], strict=True))


def test_a_user_with_one_rating_is_ranked_by_it_and_says_so(published, bundle):
    users = read(published[1] / "user_items")
    cold = users[users["user_id"] == COLD_USER]
    assert set(cold["source"]) == {"history"}
    assert published[0].fallback_users == 0
    shared = history_scores(bundle, COLD_USER) + bundle.info.config.history.ranker_weight * logits(bundle, COLD_USER)
    shared[bundle.encoded_items.index_of([1])[0] - 3] = -np.inf
    np.testing.assert_allclose(cold["score"], np.sort(shared)[::-1][:10], rtol=0, atol=1e-4)


def test_a_bare_title_gets_popular_titles_and_says_so(published):
    items = read(published[1] / "item_items")
    assert set(items[items["item_id"] == BARE_ITEM]["source"]) == {"popular"}
    assert set(items[items["item_id"] == 1]["source"]) == {"hybrid"}
    assert BARE_ITEM not in set(items[items["item_id"] == BARE_ITEM]["similar_item_id"])
    assert published[0].fallback_items == 1


def test_a_user_who_has_seen_nearly_everything_gets_a_short_list(bundle_path, tmp_path):
    _, folder = night(bundle_path, tmp_path, k=1000)
    lengths = read(folder / "user_items").groupby("user_id").size()
    assert lengths[COLD_USER] == NUM_ITEMS  # 61 titles, one of them rated
    assert (lengths.drop(COLD_USER) == NUM_ITEMS + 1 - 25).all()


def test_a_second_run_writes_identical_bytes(published, bundle_path, tmp_path):
    report, folder = night(bundle_path, tmp_path)
    assert report.status == "published"
    for path in sorted(published[1].rglob("*")):
        if path.is_file():
            assert (folder / path.relative_to(published[1])).read_bytes() == path.read_bytes(), path


def test_part_size_and_threads_never_change_a_list(published, bundle_path, tmp_path):
    _, folder = night(bundle_path, tmp_path, users_per_part=7, threads=3, memory_mib=0.1)
    assert len(list((folder / "user_items").glob("*.parquet"))) == -(-(NUM_USERS + 1) // 7)
    for name in ("user_items", "item_items"):
        pd.testing.assert_frame_equal(read(folder / name), read(published[1] / name))


def test_manifest_marker_and_pointer_are_there(published):
    _, folder = published
    manifest = json.loads((folder / "manifest.json").read_text())
    assert {p.relative_to(folder).as_posix() for p in folder.rglob("*.parquet")} == set(manifest["files"])
    assert (folder / "_SUCCESS").exists()
    assert (folder.parent / "LATEST").read_text().strip() == DATE
    assert manifest["counts"]["user_rows"] == len(read(folder / "user_items"))
    assert not list(folder.parent.glob(".staging*"))


def test_any_engine_reads_it(published):
    folder = published[1]
    by_pandas = pd.read_parquet(folder / "user_items")
    by_duckdb = duckdb.sql(f"SELECT * FROM '{folder}/user_items/*.parquet' ORDER BY user_id, rank").df()
    for column in ("user_id", "rank", "item_id", "score"):
        np.testing.assert_array_equal(by_pandas[column], by_duckdb[column])


def test_a_published_night_is_left_alone_and_forced_to_the_same_bytes(bundle_path, tmp_path):
    _, folder = night(bundle_path, tmp_path)
    before = {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.rglob("*") if p.is_file()}
    assert night(bundle_path, tmp_path)[0].status == "already published"
    assert {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.rglob("*") if p.is_file()} == before
    assert night(bundle_path, tmp_path, force=True)[0].status == "published"
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == {p: b for p, (b, _) in before.items()}


def command(bundle_path: Path, out: Path, *extra: str) -> list[str]:
    return ["--bundle", str(bundle_path), "--out", str(out), "--run-date", DATE, "--k", "5", *extra]


def test_the_command_prints_one_json_line_on_stdout(bundle_path, tmp_path, capsys):
    assert main(command(bundle_path, tmp_path, "--json")) == 0
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert json.loads(out)["status"] == "published"


def test_people_get_a_few_lines_and_the_way_on_and_a_log_one_line_a_stage(bundle_path, tmp_path, capsys):
    assert main(command(bundle_path, tmp_path, "--users-per-part", "7", "--skip-gate", "auc")) == 0
    said = capsys.readouterr()
    heads = [line.partition(": ")[0] for line in said.out.splitlines()]
    assert heads == ["published", "lists", "gates", "took", "report"]
    assert Path(said.out.splitlines()[-1].removeprefix("report: ")).exists()
    assert said.err.splitlines()[-1] == f"next: python -m batch.taste --bundle {bundle_path} --out {tmp_path}"
    stages = [line.partition(": ")[0] for line in said.err.splitlines()[:-1]]
    assert len(stages) == len(set(stages)), "one line a stage"
    assert main(command(bundle_path, tmp_path, "--force", "-v", "--users-per-part", "7", "--skip-gate", "auc")) == 0
    said = capsys.readouterr()
    assert len(said.out.splitlines()) > 15
    assert "scoring users: part 2/" in said.err


def test_a_dry_run_plans_and_writes_nothing(bundle_path, tmp_path, capsys):
    assert main(command(bundle_path, tmp_path / "out", "--json", "--dry-run")) == 0
    planned = json.loads(capsys.readouterr().out)
    assert planned["num_pairs"] == (NUM_USERS + 1) * (NUM_ITEMS + 1)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("extra", "code", "says"),
    [
        (["--k", "0"], 2, "--k"),
        (["--run-date", "2026-02-30"], 2, "2026-02-30"),
        (["--run-date", "20261123"], 2, "2026-11-23"),
        (["--model", "svd"], 2, "svd"),
        (["--bundle", "/nowhere/at/all"], 4, "/nowhere/at/all"),
        (["--users-per-part", "0"], 2, "--users-per-part"),
        (["--threads", "0"], 2, "--threads"),
        (["--memory-mib", "0"], 2, "--memory-mib"),
    ],
)
def test_what_is_wrong_is_one_line_and_an_exit_code(bundle_path, tmp_path, capsys, extra, code, says):
    assert main(command(bundle_path, tmp_path / "out", *extra)) == code
    err = capsys.readouterr().err.strip().splitlines()
    assert says in err[-1]
    assert "Traceback" not in "\n".join(err)
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").glob("run_date=*"))


def test_another_night_from_other_inputs_is_not_overwritten(bundle_path, tmp_path, capsys):
    assert main(command(bundle_path, tmp_path)) == 0
    assert main([*command(bundle_path, tmp_path), "--k", "6"]) == 5
    assert "--force" in capsys.readouterr().err
    assert main([*command(bundle_path, tmp_path), "--k", "6", "--force"]) == 0


def test_an_altered_bundle_is_refused(bundle_path, tmp_path, capsys):
    copy = tmp_path / "bundle"
    shutil.copytree(bundle_path, copy)
    with (copy / "dlrm.safetensors").open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\x7f")
    assert main(command(copy, tmp_path / "out")) == 4
    assert "dlrm.safetensors" in capsys.readouterr().err


def test_an_output_that_cannot_be_written_is_exit_code_5(bundle_path, tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    assert main(command(bundle_path, tmp_path / "file" / "out")) == 5
    assert "file" in capsys.readouterr().err


def test_a_second_run_at_once_is_turned_away(bundle_path, tmp_path, capsys):
    with FileLock(tmp_path / ".lock"):
        assert main(command(bundle_path, tmp_path)) == 7
    assert "another run" in capsys.readouterr().err


def test_job_refuses_an_unknown_device(bundle_path, tmp_path):
    with pytest.raises(UsageError, match="abacus"):
        Job(bundle=bundle_path, out=tmp_path, run_date=DATE, device="abacus")


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_an_interrupted_night_publishes_nothing(bundle_path, tmp_path, sent, code):
    arguments = [sys.executable, "-m", "batch.score", *command(bundle_path, tmp_path, "--users-per-part", "1", "-v")]
    process = subprocess.Popen(arguments, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if "part 1/" in line:
            process.send_signal(sent)
            break
    rest = process.stderr.read()
    assert process.wait(timeout=60) == code, rest
    process.stderr.close()
    assert not list(tmp_path.glob("run_date=*"))
    assert not (tmp_path / "LATEST").exists()


def test_recommend_from_the_sdk_gives_the_nights_lists(published, bundle):
    lists = read(published[1] / "user_items")
    users = bundle.users.column("user_id").to_pylist()
    got = bundle.recommend(users, 10)
    for b, user in enumerate(users):
        ids, scores = got.row(b)
        rows = lists[lists["user_id"] == user]
        assert ids.tolist() == rows["item_id"].tolist()
        np.testing.assert_array_equal(scores, rows["score"].to_numpy(np.float32))


def test_a_bundle_without_rankers_serves_popular_titles(tmp_path, bundle_path):
    dataset = sdk.load_movielens(write_movielens(tmp_path / "ml"))
    sdk.train(dataset, sdk.RunConfig(models=("content",)), tmp_path / "bundle")
    report, folder = night(tmp_path / "bundle", tmp_path / "out")
    assert report.model == "popular"
    assert set(read(folder / "user_items")["source"]) == {"popular"}
