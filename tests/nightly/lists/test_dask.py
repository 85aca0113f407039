"""A night scored by the workers of a Dask cluster has the bytes of one process, whoever is killed on the way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from made_up import tiny_config, write_movielens
from night_files import DATE, PARTS, debris, job, tree

import batch.lists.workers
import sdk
import sdk.machine.cluster
from batch.lists.shards import Shard
from batch.lists.workers import check_workers, write_on_worker
from batch.run.night import run
from batch.store.journal import Journal
from batch.store.places import open_target
from sdk.__main__ import main as sdk_main
from sdk.base.errors import BundleError, OutputError, ScoreError, UsageError
from sdk.base.files import digest_of
from sdk.base.progress import Progress
from sdk.machine.cluster import ClusterConfig, connect, training_cluster

ROOT = Path(__file__).resolve().parents[3]
NIGHT, STAGING, JOURNAL = f"run_date={DATE}", f".staging-{DATE}", f".journal-{DATE}"


@pytest.fixture(scope="module")
def undisturbed(bundle_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A night of one process."""
    out = tmp_path_factory.mktemp("undisturbed")
    run(job(bundle_path, out))
    return out / NIGHT


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A cluster that stands already: two worker processes."""
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=2, threads_per_worker=1, host="127.0.0.1", worker_dashboard_address=None, silence_logs=50,
        scheduler_kwargs={"dashboard": False, "dashboard_address": "127.0.0.1:0"},
    ) as made:  # fmt: skip
        yield made


def standing(cluster: Any) -> ClusterConfig:
    return ClusterConfig(address=cluster.scheduler_address)


def inputs_of(undisturbed: Path) -> dict[str, Any]:
    inputs: dict[str, Any] = json.loads((undisturbed / "manifest.json").read_text())["inputs"]
    return inputs


def staged(out: Path) -> dict[str, tuple[int, int]]:
    """Every part that is staged: name -> (inode, mtime)."""
    paths = (out / STAGING).rglob("part-*.parquet")
    return {p.relative_to(out / STAGING).as_posix(): (p.stat().st_ino, p.stat().st_mtime_ns) for p in paths}


def on_step(monkeypatch: pytest.MonkeyPatch, when: int, action: Any) -> list[str]:
    """Do something when the driver has taken the ``when``-th record; a list that holds the parts of all records."""
    taken: list[str] = []
    real = Progress.step

    def step(self: Progress, *args: Any, **facts: Any) -> None:
        real(self, *args, **facts)
        if "fallback" not in facts:  # the audit's
            return
        taken.append(facts["shard"])
        if len(taken) == when:
            action()

    monkeypatch.setattr(Progress, "step", step)
    return taken


def test_a_standing_cluster_writes_the_same_bytes_with_few_shards_out_at_a_time(
    bundle_path, tmp_path, undisturbed, cluster, monkeypatch
):
    from distributed import Client

    out, submitted, outstanding = tmp_path / "nights", [], []
    real = Client.submit

    def submit(self: Client, *args: Any, **options: Any) -> Any:
        submitted.append(options["key"])
        outstanding.append(len(submitted) - len(taken))
        return real(self, *args, **options)

    monkeypatch.setattr(Client, "submit", submit)
    taken = on_step(monkeypatch, 0, lambda: None)
    report = run(job(bundle_path, out, cluster=standing(cluster)))
    assert tree(out / NIGHT) == tree(undisturbed)
    assert debris(out) == []
    assert len(submitted) == len(set(submitted)) == len(taken) == PARTS
    assert max(outstanding) <= 2 * 2 + 1  # two places, two shards each; a record is counted once it is logged
    assert len(report.worker_peak_memory_mib) == 2
    assert all(50 < peak < 5000 for peak in report.worker_peak_memory_mib.values())
    again = json.loads((out / "runs" / f"{NIGHT}.json").read_text())["worker_peak_memory_mib"]
    assert again == report.worker_peak_memory_mib


def worker_processes() -> set[int]:
    """Those of this process's descendants that Dask started."""
    return {p.pid for p in psutil.Process().children(recursive=True) if "spawn_main" in " ".join(p.cmdline())}


def test_a_worker_killed_in_the_middle_costs_only_its_shards(bundle_path, tmp_path, undisturbed, monkeypatch):
    """The workers are started by the run itself. A part that was taken before the kill is not written again."""
    before: dict[str, tuple[int, int]] = {}

    def kill() -> None:
        before.update({name: where for name, where in staged(tmp_path).items() if name in taken})
        children = worker_processes() - others
        assert len(children) == 2
        os.kill(min(children), signal.SIGKILL)

    others = worker_processes()
    taken = on_step(monkeypatch, 3, kill)
    report = run(job(bundle_path, tmp_path, cluster=ClusterConfig(workers=2)))
    assert len(before) == 3
    assert report.status == "published"
    assert sorted(taken) == sorted(name for name in tree(undisturbed) if name.endswith(".parquet"))
    after = {name: ((p := tmp_path / NIGHT / name).stat().st_ino, p.stat().st_mtime_ns) for name in before}
    assert after == before, "a finished part was written again"
    assert tree(tmp_path / NIGHT) == tree(undisturbed)
    assert debris(tmp_path) == []
    assert worker_processes() <= others, "a worker outlived the run"


@pytest.mark.slow
def test_a_run_killed_with_its_workers_is_taken_up_by_one_process(bundle_path, tmp_path, undisturbed):
    out = tmp_path / "nights"
    command = [sys.executable, "-m", "batch.score", "--bundle", str(bundle_path), "--out", str(out), "--run-date", DATE,
               "--k", "5", "--users-per-part", "7", "--threads", "2", "--workers", "2", "-v"]  # fmt: skip
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as driver:
        assert driver.stderr is not None
        lines = []
        for line in driver.stderr:  # until the first record
            lines.append(line)
            if "users: part" in line:
                break
        children = psutil.Process(driver.pid).children(recursive=True)
        driver.kill()
    assert any("users: part" in line for line in lines), "".join(lines)
    gone, alive = psutil.wait_procs(children, timeout=60)
    assert len(gone) >= 2
    assert not alive, "workers outlived their driver"
    report = run(job(bundle_path, out))
    assert report.resumed_parts >= 1
    assert tree(out / NIGHT) == tree(undisturbed)
    assert debris(out) == []


def python(*arguments: str, **options: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", *arguments], cwd=ROOT, text=True, stderr=subprocess.DEVNULL, **options
    )


@pytest.mark.slow
def test_a_scheduler_killed_in_the_middle_ends_the_run_with_one_line(bundle_path, tmp_path, undisturbed, monkeypatch):
    file = tmp_path / "scheduler.json"
    loopback = ("--host", "127.0.0.1", "--no-dashboard", "--scheduler-file", str(file))
    with python("distributed.cli.dask_scheduler", *loopback, "--port", "0") as scheduler:
        with python("distributed.cli.dask_worker", *loopback, "--nthreads", "1", "--no-nanny") as worker:
            try:
                end_when_killed(bundle_path, tmp_path / "nights", file, scheduler, monkeypatch)
            finally:
                worker.kill()
                scheduler.kill()
    monkeypatch.undo()
    assert run(job(bundle_path, tmp_path / "nights")).resumed_parts >= 2
    assert tree(tmp_path / "nights" / NIGHT) == tree(undisturbed)


def end_when_killed(bundle_path: Path, out: Path, file: Path, scheduler: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    while not file.exists() or not file.read_text().endswith("}"):
        assert scheduler.poll() is None
        os.sched_yield()
    address = json.loads(file.read_text())["address"]
    on_step(monkeypatch, 2, scheduler.kill)
    monkeypatch.setattr(sdk.machine.cluster, "ANSWER_S", 30.0)
    with pytest.raises(OutputError, match=r"the connection was lost.*Run the same command again") as caught:
        run(job(bundle_path, out, cluster=ClusterConfig(address=address)))
    assert caught.value.exit_code == 5
    assert not (out / NIGHT).exists()


def fail_on_third(job: Any, shard: Shard) -> Any:
    from batch.lists.shards import write_shard

    if shard.number == 3:
        message = "made up: a score is not a number"
        raise ScoreError(message)
    return write_shard(job, shard)


def test_a_shard_that_fails_ends_the_run_with_its_error_and_keeps_the_others(
    bundle_path, tmp_path, undisturbed, cluster
):
    from distributed import Client

    with Client(cluster.scheduler_address) as client:
        client.run(replace_write_shard, fail_on_third)
        try:
            with pytest.raises(ScoreError, match=r"^made up: a score is not a number$"):
                run(job(bundle_path, tmp_path, cluster=standing(cluster)))
        finally:
            client.run(replace_write_shard, batch.lists.workers.write_shard)
    kept = len(list((tmp_path / JOURNAL).rglob("part-*.json")))
    assert 1 <= kept < PARTS
    assert not (tmp_path / NIGHT).exists()
    assert run(job(bundle_path, tmp_path, cluster=standing(cluster))).resumed_parts == kept
    assert tree(tmp_path / NIGHT) == tree(undisturbed)


def replace_write_shard(function: Any) -> None:
    batch.lists.workers.write_shard = function


def test_a_worker_that_writes_elsewhere_is_refused(bundle_path, cluster):
    with pytest.raises(OutputError, match=r"worker tcp://.*is not seen here. Give an --out that every") as caught:
        run(job(bundle_path, "memory://nights", cluster=standing(cluster)))
    assert caught.value.exit_code == 5


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("bundle_sha256", "0" * 64, "is another bundle there.*Put the same bundle at the same path on every worker"),
        ("packages", {"numpy": "0.1"}, r"packages there.*'numpy': '[12]\..*here.*'numpy': '0.1'.*the same environment"),
        ("device", "cuda", "device there cpu, here cuda.*the same environment"),
    ],
)
def test_a_worker_with_other_inputs_is_refused(bundle_path, tmp_path, undisturbed, cluster, name, value, expected):
    from distributed import Client

    inputs = {**inputs_of(undisturbed), name: value}
    journal = Journal(open_target(str(tmp_path)), DATE, digest_of(inputs))
    with Client(cluster.scheduler_address) as client, pytest.raises(BundleError, match=expected):
        check_workers(client, job(bundle_path, tmp_path), inputs, journal)
    assert tree(tmp_path) == {}


def test_a_worker_that_comes_later_with_other_inputs_is_refused(bundle_path, tmp_path, cluster):
    from distributed import Client

    with Client(cluster.scheduler_address) as client:
        future = client.submit(
            write_on_worker, job(bundle_path, tmp_path), Shard("user_items", 0, 0, 7), "x", pure=False
        )
        with pytest.raises(BundleError, match="not those that this night began with"):
            future.result()
    assert tree(tmp_path) == {}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"workers": 2, "address": "tcp://127.0.0.1:8786"}, "--workers and --dask: give one"),
        ({"workers": 0}, "--workers: got 0, expected at least 1"),
        ({"address": "127.0.0.1:8786"}, "--dask: got '127.0.0.1:8786', expected.* such as tcp://"),
        ({"address": "tcp://127.0.0.1:8786", "worker_memory": "4GiB"}, "--worker-memory: goes with --workers"),
        ({"workers": 2, "worker_memory": "much"}, "--worker-memory: got 'much', expected a size such as 4GiB"),
        ({"workers": 2, "worker_memory": "5MiB"}, "--worker-memory: got '5MiB', expected at least 512MiB"),
    ],
)
def test_options_that_do_not_go_together_are_refused(options, expected):
    with pytest.raises(UsageError, match=expected):
        ClusterConfig(**options)


def test_a_cluster_that_is_not_there_is_one_line(bundle_path, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(sdk.machine.cluster, "ANSWER_S", 1.0)
    with pytest.raises(OutputError, match=r"^tcp://127.0.0.1:9: no Dask scheduler with a worker answers") as caught:
        run(job(bundle_path, tmp_path, cluster=ClusterConfig(address="tcp://127.0.0.1:9")))
    assert caught.value.exit_code == 5
    data = write_movielens(tmp_path / "ml")
    options = ["--movielens", str(data), "--out", str(tmp_path / "bundle"), "--dask", "tcp://127.0.0.1:9"]
    assert sdk_main(["train", *options]) == 5
    said = capfd.readouterr().err
    assert "no Dask scheduler with a worker answers" in said
    assert "Traceback" not in said
    assert not (tmp_path / "bundle").exists()


def test_a_cluster_without_workers_is_one_line(monkeypatch):
    from distributed import LocalCluster

    monkeypatch.setattr(sdk.machine.cluster, "WORKERS_S", 0.5)
    with LocalCluster(
        n_workers=0, processes=False, protocol="tcp", host="127.0.0.1", silence_logs=50,
        scheduler_kwargs={"dashboard": False, "dashboard_address": "127.0.0.1:0"},
    ) as empty:  # fmt: skip
        with pytest.raises(OutputError, match="no Dask scheduler with a worker answers"):
            with connect(standing(empty)):
                pass


@pytest.mark.parametrize(
    ("found", "missing", "expected"),
    [
        (0, False, "torch finds no GPU"),
        (1, False, "--workers: got 2, expected at most 1"),
        (2, True, "needs dask-cuda"),
    ],
)
def test_workers_on_gpus_need_gpus_and_dask_cuda(monkeypatch, found, missing, expected):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: found > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: found)
    if missing:
        monkeypatch.setitem(sys.modules, "dask_cuda", None)
    with pytest.raises(UsageError, match=expected):
        with connect(ClusterConfig(workers=2), "cuda"):
            pass


OF_A_RUN = ("bundle.json", "reports/stages.json")
"""What two trainings differ in, too: times."""


def test_training_on_a_cluster_gives_the_same_bundle(tmp_path, cluster, monkeypatch):
    """Ratings in five partitions."""
    from dataclasses import replace

    monkeypatch.setattr("sdk.features.workflows.PARTITION_ROWS", 200)
    dataset = sdk.load_movielens(write_movielens(tmp_path / "ml"))
    config = replace(tiny_config(), models=("dlrm",), training=replace(tiny_config().training, max_epochs=1))
    sdk.train(dataset, config, tmp_path / "alone")
    before = executed(cluster)
    with training_cluster(standing(cluster), tmp_path / "together"):
        sdk.train(dataset, config, tmp_path / "together")
    assert executed(cluster) > before + 50
    alone, together = (
        {name: data for name, data in tree(tmp_path / folder).items() if not name.endswith(OF_A_RUN)}
        for folder in ("alone", "together")
    )
    assert alone.keys() == together.keys()
    assert [name for name in alone if alone[name] != together[name]] == []
    assert not list(tmp_path.glob(".worker-*"))


def executed(cluster: Any) -> int:
    """How many tasks the workers have done so far."""
    from distributed import Client

    with Client(cluster.scheduler_address, set_as_default=False) as client:
        return sum(client.run(lambda dask_worker: dask_worker.state.executed_count).values())


def test_a_training_worker_with_other_packages_is_refused(tmp_path, cluster, monkeypatch):
    monkeypatch.setattr("importlib.metadata.version", lambda name: "0.1")
    with pytest.raises(UsageError, match=r"has .*'numpy': '[12]\..*here are .*'numpy': '0.1'.*the same environment"):
        with training_cluster(standing(cluster), tmp_path / "bundle"):
            pass
    assert tree(tmp_path) == {}
