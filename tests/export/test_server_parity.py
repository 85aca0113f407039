"""The live server's scores and lists are the SDK's: both forms, both models, HTTP and gRPC, sync and async."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small
import tritonclient.grpc as grpc_client
import tritonclient.http as http_client

from export.__main__ import main
from export.client import AsyncClient, Client, ClientOptions
from export.options import ExportOptions
from export.repository import export_repository
from export.selfcheck import sdk_scores
from export.server import ServerOptions, TritonServer
from sdk.bundles.bundle import Bundle
from sdk.data.movielens import load as load_movielens
from sdk.training.pipeline import train_bundle

pytestmark = pytest.mark.server

TOLERANCE = 1e-5  # of a logit: the same float32 sums in another order
COMBINATIONS = [(form, model) for form in ("compiled", "nvtabular") for model in ("dlrm", "ncf")]


@pytest.fixture(scope="module", params=COMBINATIONS, ids="-".join)
def served(request: pytest.FixtureRequest, exported: Callable[..., Path]) -> Iterator[tuple[TritonServer, str]]:
    form, model = request.param
    with TritonServer(exported(workflow=form, model=model), ServerOptions(stop_timeout_s=1, poll_s=0)) as running:
        yield running, model


def url_of(server: TritonServer, protocol: str) -> str:
    return server.http_url if protocol == "http" else server.grpc_url


def pairs(bundle: Bundle, count: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(count)
    users = rng.choice(np.append(bundle.encoded_users.known_ids, [-1, 0, 2**62]), count)
    return users, rng.choice(bundle.encoded_items.known_ids, count)


def expected_scores(bundle: Bundle, model: str, users: np.ndarray, items: np.ndarray) -> np.ndarray:
    return sdk_scores(bundle.model(model), bundle.encoded_users.index_of(users), bundle.encoded_items.index_of(items))


@pytest.mark.parametrize("protocol", ["http", "grpc"])
@pytest.mark.parametrize("count", [1, 2, 100, 10_000])
def test_scores(served: tuple[TritonServer, str], bundle: Bundle, protocol: str, count: int):
    server, model = served
    users, items = pairs(bundle, count)
    with Client(url_of(server, protocol), ClientOptions(protocol=protocol)) as client:
        scores = client.rank(users, items)
    assert scores.shape == (count,)
    np.testing.assert_allclose(scores, expected_scores(bundle, model, users, items), rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_lists(served: tuple[TritonServer, str], bundle: Bundle, protocol: str):
    server, model = served
    users = np.append(bundle.encoded_users.known_ids, [-1, 2**62])
    expected = bundle.recommend(users, 15, model=model)
    with Client(url_of(server, protocol), ClientOptions(protocol=protocol)) as client:
        lists = client.recommend(users.tolist(), 15)
        alike = client.similar_items(bundle.encoded_items.known_ids, 15)
    np.testing.assert_array_equal(lists.item_id, expected.item_id)
    np.testing.assert_array_equal(lists.scores, expected.scores)
    np.testing.assert_array_equal(lists.lengths, expected.lengths)
    neighbours = bundle.similar(bundle.encoded_items.known_ids, 15)
    np.testing.assert_array_equal(alike.item_id, neighbours.item_id)
    np.testing.assert_array_equal(alike.scores, neighbours.scores)


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_many_at_once_from_one_async_client(server: TritonServer, bundle: Bundle, protocol: str):
    async def ask() -> list[Any]:
        async with AsyncClient(url_of(server, protocol), ClientOptions(protocol=protocol)) as client:
            ranks = [client.rank(*pairs(bundle, n)) for n in range(1, 40)]
            users = bundle.encoded_users.known_ids[:3]
            return await asyncio.gather(*ranks, client.recommend(users, 4, exclude=[9]), client.similar_items([9], 4))

    *scores, lists, alike = asyncio.run(ask())
    model = str(bundle.info.chosen_model)
    for n, got in enumerate(scores, start=1):
        np.testing.assert_allclose(got, expected_scores(bundle, model, *pairs(bundle, n)), rtol=0, atol=TOLERANCE)
    assert 9 not in lists.item_id
    np.testing.assert_array_equal(alike.item_id, bundle.similar([9], 4).item_id)


@pytest.mark.parametrize("module", [http_client, grpc_client], ids=["http", "grpc"])
def test_bare_tritonclient_sees_the_contracts_tensors(server: TritonServer, bundle: Bundle, module: Any):
    client = module.InferenceServerClient(server.http_url if module is http_client else server.grpc_url)
    users, items = pairs(bundle, 5)
    inputs = [module.InferInput(name, [5], "INT64") for name in ("user_id", "item_id")]
    for tensor, values in zip(inputs, (users, items), strict=True):
        tensor.set_data_from_numpy(values)
    result = client.infer("rank", inputs)
    assert result.as_numpy("score").shape == (5,)
    asked = [module.InferInput("user_id", [2], "INT64"), module.InferInput("k", [1], "INT32")]
    asked[0].set_data_from_numpy(users[:2])
    asked[1].set_data_from_numpy(np.array([3], dtype=np.int32))
    lists = client.infer("recommend", asked)
    assert (lists.as_numpy("item_id").shape, lists.as_numpy("item_id").dtype) == ((2, 3), np.int64)
    assert (lists.as_numpy("score").shape, lists.as_numpy("score").dtype) == ((2, 3), np.float32)
    client.close()


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_verify_agrees(
    served: tuple[TritonServer, str], bundle: Bundle, protocol: str, capsys: pytest.CaptureFixture[str]
):
    server, model = served
    options = [
        "--bundle",
        str(bundle.path),
        "--url",
        url_of(server, protocol),
        "--protocol",
        protocol,
        "--pairs",
        "300",
    ]
    assert main(["verify", str(server.repository), *options]) == 0
    assert f"ranker: {model}" in capsys.readouterr().out


def test_verify_finds_another_model_behind_the_address(
    server: TritonServer, exported: Callable[..., Path], bundle: Bundle, capfd: pytest.CaptureFixture[str]
):
    other = "ncf" if bundle.info.chosen_model == "dlrm" else "dlrm"
    options = ["--bundle", str(bundle.path), "--url", server.http_url]
    assert main(["verify", str(exported(model=other)), *options]) == 4
    assert "the server says" in capfd.readouterr().err


@pytest.mark.slow
@pytest.mark.real_data
def test_on_movielens(real_data: Callable[..., Path], tmp_path: Path):
    data = load_movielens(real_data("ml-latest-small", "ratings.csv").parent)
    bundle = train_bundle(data, small.run_config(), tmp_path / "bundle")
    for form, model in (("compiled", "dlrm"), ("nvtabular", "ncf")):
        target = tmp_path / f"{form}-{model}"
        export_repository(bundle.path, target, ExportOptions(workflow=form, model=model))
        with TritonServer(target, ServerOptions(stop_timeout_s=1, poll_s=0)) as server:
            for protocol in ("http", "grpc"):
                where = ["--url", url_of(server, protocol), "--protocol", protocol]
                sample = ["--pairs", "10000", "--lists", "610", "--k", "100"]
                assert main(["verify", str(target), "--bundle", str(bundle.path), *where, *sample]) == 0
