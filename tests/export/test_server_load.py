"""Many clients at once; new versions under load; a server that dies and comes back."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import small

from export.client import Client, ClientOptions
from export.errors import ServerUnavailableError
from export.options import ExportOptions
from export.repository import export_repository
from export.selfcheck import sdk_scores
from export.server import ServerOptions, TritonServer
from sdk.bundles.bundle import Bundle
from sdk.training.pipeline import train_bundle

pytestmark = pytest.mark.server

SECONDS = float(os.environ.get("MARQUEE_LOAD_SECONDS", "5"))  # 60 by hand
CLIENTS = 64
TOLERANCE = 1e-5
COMPILED = ExportOptions(workflow="compiled")


def all_scores(bundle: Bundle) -> np.ndarray:
    """(U, I): the SDK's score of every user and title."""
    users, items = bundle.encoded_users.known_ids, bundle.encoded_items.known_ids
    rows = (
        np.repeat(bundle.encoded_users.index_of(users), len(items)),
        np.tile(bundle.encoded_items.index_of(items), len(users)),
    )
    return sdk_scores(bundle.model("best"), *rows).reshape(len(users), len(items))


class Worker(threading.Thread):
    """One client that asks until it is told to stop, and counts what came back."""

    def __init__(self, url: str, protocol: str, bundles: list[Bundle], stop: threading.Event, seed: int) -> None:
        super().__init__(daemon=True)
        self.url, self.protocol, self.bundles, self.stop, self.seed = url, protocol, bundles, stop, seed
        self.answers, self.errors = [0] * len(bundles), []
        self.users, self.items = (t.known_ids for t in (bundles[0].encoded_users, bundles[0].encoded_items))
        self.expected = [all_scores(bundle) for bundle in bundles]

    def run(self) -> None:
        rng = np.random.default_rng(self.seed)
        with Client(self.url, ClientOptions(protocol=self.protocol, retries=0)) as client:
            while not self.stop.is_set():
                try:
                    self.ask(client, rng)
                except Exception as error:
                    self.errors.append(error)

    def ask(self, client: Client, rng: np.random.Generator) -> None:
        user, items = int(rng.integers(len(self.users))), rng.integers(len(self.items), size=int(rng.integers(1, 60)))
        scores = client.rank(int(self.users[user]), self.items[items])
        gaps = [np.abs(scores - expected[user, items]).max() for expected in self.expected]
        assert min(gaps) <= TOLERANCE, f"wrong answer for user {self.users[user]}: {gaps}"
        self.answers[int(np.argmin(gaps))] += 1


@contextmanager
def load(url_of: Callable[[str], str], bundles: list[Bundle], clients: int) -> Iterator[list[Worker]]:
    stop = threading.Event()
    protocols = ["http", "grpc"]
    workers = [
        Worker(url_of(protocols[n % 2]), protocols[n % 2], bundles, stop, seed=n) for n in range(clients)
    ]  # fmt: skip
    for worker in workers:
        worker.start()
    try:
        yield workers
    finally:
        stop.set()
        for worker in workers:
            worker.join(timeout=60)
    assert not any(worker.is_alive() for worker in workers)


def resident_mib(session: int) -> float:
    """Memory of the server and its models."""
    pages = 0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if int((folder / "stat").read_text().rpartition(")")[2].split()[3]) == session:
                pages += int((folder / "statm").read_text().split()[1])
        except OSError:
            continue
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def url(server: TritonServer) -> Callable[[str], str]:
    return lambda protocol: server.http_url if protocol == "http" else server.grpc_url


def wait_for(condition: Callable[[], bool], what: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen in {seconds} s"
        time.sleep(0.02)


def test_many_clients_at_once(server: TritonServer, bundle: Bundle):
    with load(url(server), [bundle], CLIENTS) as workers:
        wait_for(lambda: sum(w.answers[0] for w in workers) > 20 * CLIENTS, "warming up")
        before, started = resident_mib(server.pid), time.monotonic()
        wait_for(lambda: time.monotonic() > started + SECONDS, "the end", SECONDS + 60)
        after = resident_mib(server.pid)
    assert [error for w in workers for error in w.errors] == []
    assert all(w.answers[0] > 0 for w in workers)
    assert after - before < 32, f"{before:.0f} MiB before, {after:.0f} MiB after"
    print(f"{sum(w.answers[0] for w in workers)} answers, {before:.0f} to {after:.0f} MiB")


def test_waiting_requests_are_scored_together(server: TritonServer, bundle: Bundle):
    import tritonclient.http as http_client

    statistics = http_client.InferenceServerClient(server.http_url)

    def counts() -> tuple[int, int]:
        (stats,) = statistics.get_inference_statistics("ranker")["model_stats"]
        return stats["inference_stats"]["success"]["count"], stats["execution_count"]

    def is_shared() -> bool:
        """Whether more than 400 requests, of all so far, needed fewer than 0.8 executions each."""
        more_requests, more_executions = counts()
        return more_requests - requests > 400 and more_executions - executions < 0.8 * (more_requests - requests)

    requests, executions = counts()
    with load(url(server), [bundle], 16):
        wait_for(is_shared, "scoring waiting requests together")
    statistics.close()


@pytest.fixture(scope="module")
def next_bundle(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The same users and titles, trained otherwise: other scores, and other row numbers would not fit."""
    folder = tmp_path_factory.mktemp("next") / "bundle"
    config = small.run_config().with_seed(9)
    return train_bundle(small.dataset(3, num_users=60, num_items=50), config, folder)


@pytest.mark.parametrize("workflow", ["compiled", "nvtabular"])
def test_a_new_version_is_picked_up_without_dropping_or_mixing_a_request(
    bundle: Bundle, next_bundle: Bundle, tmp_path: Path, workflow: str
):
    target, options = tmp_path / "repository", ExportOptions(workflow=workflow)
    export_repository(bundle.path, target, options)
    with TritonServer(target, ServerOptions(stop_timeout_s=1, poll_s=1)) as running:
        with load(url(running), [bundle, next_bundle], 4) as workers:
            wait_for(lambda: all(w.answers[0] > 10 for w in workers), "answers of version 1")
            export_repository(next_bundle.path, target, options)
            wait_for(lambda: all(w.answers[1] > 50 for w in workers), "answers of version 2")
            first = sum(w.answers[0] for w in workers)
            wait_for(lambda: all(w.answers[1] > 100 for w in workers), "more answers of version 2")
            assert sum(w.answers[0] for w in workers) == first, "version 1 answered again"
        assert [error for w in workers for error in w.errors] == []
        with Client(running.http_url) as client:
            lists = client.recommend(next_bundle.encoded_users.known_ids, 9)
        expected = next_bundle.recommend(next_bundle.encoded_users.known_ids, 9)
        np.testing.assert_array_equal(lists.item_id, expected.item_id)


def test_a_killed_server_is_a_clear_error_and_the_client_recovers(exported: Callable[..., Path], bundle: Bundle):
    first = TritonServer(exported(), ServerOptions(stop_timeout_s=1, poll_s=0)).start()
    assert first.ports is not None
    ports = {"http_port": first.ports.http, "grpc_port": first.ports.grpc, "metrics_port": first.ports.metrics}
    expected = bundle.recommend([21], 5).item_id
    options = ClientOptions(retries=1, backoff_s=0.05, timeout_s=10)
    with Client(first.http_url, options) as client:
        np.testing.assert_array_equal(client.recommend([21], 5).item_id, expected)
        first.kill()
        with pytest.raises(ServerUnavailableError, match=r"no answer from model 'recommend'"):
            client.recommend([21], 5)
        with TritonServer(exported(), ServerOptions(stop_timeout_s=1, poll_s=0, **ports)) as second:
            patient = ClientOptions(retries=6, backoff_s=0.1)
            with Client(second.http_url, patient) as fresh:
                np.testing.assert_array_equal(fresh.recommend([21], 5).item_id, expected)
            wait_for(client.is_ready, "the old client's recovery", 30)
            np.testing.assert_array_equal(client.recommend([21], 5).item_id, expected)


def test_a_server_killed_under_load_costs_clear_errors_only(exported: Callable[..., Path], bundle: Bundle):
    first = TritonServer(exported(), ServerOptions(stop_timeout_s=1, poll_s=0)).start()
    assert first.ports is not None
    ports = {"http_port": first.ports.http, "grpc_port": first.ports.grpc, "metrics_port": first.ports.metrics}
    with load(url(first), [bundle], 8) as workers:
        wait_for(lambda: all(w.answers[0] > 10 for w in workers), "answers before")
        first.kill()
        wait_for(lambda: all(w.errors for w in workers), "errors")
        before = [w.answers[0] for w in workers]
        with TritonServer(exported(), ServerOptions(stop_timeout_s=1, poll_s=0, **ports)):
            wait_for(lambda: all(w.answers[0] > n + 10 for w, n in zip(workers, before, strict=True)), "answers after")
            for worker in workers:
                worker.stop.set()
                worker.join(timeout=30)
    assert {type(error) for w in workers for error in w.errors} == {ServerUnavailableError}
