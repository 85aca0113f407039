"""Wrong requests to the live server: each gets its own clear error, and the next request its answer."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as grpc_client
import tritonclient.http as http_client
from tritonclient.utils import InferenceServerException

from export.client import Client, ClientOptions
from export.errors import RefusedRequestError
from export.server import TritonServer
from sdk.bundles.bundle import Bundle

pytestmark = pytest.mark.server

INT64, INT32, FP32 = np.int64, np.int32, np.float32
NAMES = {INT64: "INT64", INT32: "INT32", FP32: "FP32"}
MILLION = np.full(1_000_000, 9, dtype=INT64)
NAN_BYTES = np.full(2, np.nan).view(INT64)


def ids(*values: int) -> np.ndarray:
    return np.array(values, dtype=INT64)


def k_of(value: int) -> np.ndarray:
    return np.array([value], dtype=INT32)


BATTERY: dict[str, tuple[str, dict[str, np.ndarray], str]] = {
    "unknown title": ("rank", {"user_id": ids(7, 7), "item_id": ids(9, 10)}, "item_id 10: not among the 50 titles"),
    "negative title": ("rank", {"user_id": ids(7), "item_id": ids(-9)}, "item_id -9: not among"),
    "more users": ("rank", {"user_id": ids(7, 14), "item_id": ids(9)}, "batch size does not match"),
    "more titles": ("rank", {"user_id": ids(7), "item_id": ids(9, 12)}, "batch size does not match"),
    "32 bit ids": ("rank", {"user_id": k_of(7), "item_id": ids(9)}, "'user_id' data-type is 'INT32'"),
    "float ids": ("rank", {"user_id": ids(7), "item_id": np.array([9], dtype=FP32)}, "'item_id' data-type is 'FP32'"),
    "missing input": ("rank", {"user_id": ids(7)}, "expected 2 inputs but got 1"),
    "extra input": ("rank", {"user_id": ids(7), "item_id": ids(9), "k": k_of(1)}, "expected 2 inputs but got 3"),
    "other input": ("rank", {"user_id": ids(7), "title": ids(9)}, "'title'"),
    "empty": ("rank", {"user_id": ids(), "item_id": ids()}, "byte size mismatch"),
    "two dimensions": ("rank", {"user_id": ids(7)[None], "item_id": ids(9)[None]}, "unexpected shape"),
    "a million pairs": ("rank", {"user_id": MILLION, "item_id": MILLION}, "must be <= 65536"),
    "NaN bytes": ("rank", {"user_id": NAN_BYTES, "item_id": NAN_BYTES}, "not among the 50 titles"),
    "k of 0": ("recommend", {"user_id": ids(7), "k": k_of(0)}, "'k': got 0, expected 1 to 1000"),
    "negative k": ("recommend", {"user_id": ids(7), "k": k_of(-1)}, "'k': got -1"),
    "huge k": ("recommend", {"user_id": ids(7), "k": k_of(2**31 - 1)}, "'k': got 2147483647"),
    "64 bit k": ("recommend", {"user_id": ids(7), "k": ids(5)}, "'k' data-type is 'INT64'"),
    "two k": ("recommend", {"user_id": ids(7), "k": np.array([5, 5], dtype=INT32)}, "unexpected shape for input 'k'"),
    "no k": ("recommend", {"user_id": ids(7)}, "expected"),
    "no users": ("recommend", {"user_id": ids(), "k": k_of(5)}, "'user_id': got 0 ids"),
    "a million users": ("recommend", {"user_id": MILLION, "k": k_of(5)}, "got 1000000 ids, expected 1 to 65536"),
    "a million excluded": (
        "recommend",
        {"user_id": ids(7), "k": k_of(5), "exclude": MILLION},
        "input 'exclude': got 1000000 ids",
    ),
    "a huge answer": ("recommend", {"user_id": MILLION[:65536], "k": k_of(1000)}, "65536000 results, expected at most"),
    "unknown neighbour": ("similar_items", {"item_id": ids(9, -1), "k": k_of(5)}, "item_id -1: not among"),
    "neighbours of none": ("similar_items", {"item_id": ids(), "k": k_of(5)}, "'item_id': got 0 ids"),
    "neighbours, k of 0": ("similar_items", {"item_id": ids(9), "k": k_of(0)}, "'k': got 0"),
    "a million titles": ("similar_items", {"item_id": MILLION, "k": k_of(5)}, "got 1000000 ids"),
    "no such model": ("rnak", {"user_id": ids(7), "item_id": ids(9)}, "unknown model: 'rnak'"),
    "rows outside": ("ranker", {"user_index": ids(-1)[None], "item_index": ids(9)[None]}, "row numbers lie outside"),
}


@pytest.fixture(scope="module", params=[http_client, grpc_client], ids=["http", "grpc"])
def bare(request: pytest.FixtureRequest, server: TritonServer) -> Iterator[tuple[Any, Any]]:
    module = request.param
    client = module.InferenceServerClient(server.http_url if module is http_client else server.grpc_url)
    yield module, client
    client.close()


def send(bare: tuple[Any, Any], model: str, inputs: dict[str, np.ndarray]) -> Any:
    module, client = bare
    tensors = []
    for name, values in inputs.items():
        tensor = module.InferInput(name, list(values.shape), NAMES[values.dtype.type])
        tensor.set_data_from_numpy(values)
        tensors.append(tensor)
    return client.infer(model, tensors)


def assert_answers(bare: tuple[Any, Any], bundle: Bundle) -> None:
    lists = send(bare, "recommend", {"user_id": ids(21), "k": k_of(5)})
    np.testing.assert_array_equal(lists.as_numpy("item_id"), bundle.recommend([21], 5).item_id)
    assert np.isfinite(send(bare, "rank", {"user_id": ids(21), "item_id": ids(9)}).as_numpy("score")).all()


@pytest.mark.parametrize("case", BATTERY)
def test_each_wrong_request_is_its_own_clear_error(bare: tuple[Any, Any], bundle: Bundle, case: str):
    model, inputs, reason = BATTERY[case]
    with pytest.raises(InferenceServerException) as error:
        send(bare, model, inputs)
    assert reason in str(error.value)
    assert "Traceback" not in str(error.value)
    assert_answers(bare, bundle)


def test_an_unknown_user_gets_the_cold_start_answer(server: TritonServer, bundle: Bundle):
    with Client(server.http_url) as client:
        lists = client.recommend([-1, 2**62, 21], 6)
        known, unknown = client.rank([21, -1], [9, 9])
    np.testing.assert_array_equal(lists.item_id, bundle.recommend([-1, 2**62, 21], 6).item_id)
    assert known != unknown


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_the_client_names_the_model_and_what_was_sent(server: TritonServer, protocol: str):
    url = server.http_url if protocol == "http" else server.grpc_url
    with Client(url, ClientOptions(protocol=protocol)) as client:
        with pytest.raises(RefusedRequestError, match=r"'rank' refused .*item_id: 1 x INT64.*item_id 10: not among"):
            client.rank([7], [10])
        with pytest.raises(RefusedRequestError, match=r"'recommend' refused .*got 2000, expected 1 to 1000"):
            client.recommend([7], 2000)


def post(server: TritonServer, model: str, body: bytes, **headers: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection(server.http_url, timeout=20)
    try:
        connection.request("POST", f"/v2/models/{model}/infer", body, headers)
        response = connection.getresponse()
        return response.status, response.read().decode("utf-8", "replace")
    finally:
        connection.close()


def body_of(user_id: Any, item_id: Any) -> bytes:
    tensors = [("user_id", user_id), ("item_id", item_id)]
    inputs = [{"name": n, "shape": [len(v)], "datatype": "INT64", "data": v} for n, v in tensors]
    return json.dumps({"inputs": inputs}).encode()


@pytest.mark.parametrize(
    "body",
    [b"", b"not json", b"[]", b"{}", body_of([7], [1.5]), body_of([7], ["nine"]), body_of([7], [10**30]),
     body_of([7], [9])[:-5], body_of([7], [9]).replace(b'"shape": [1]', b'"shape": [-1]'),
     body_of([7], [9]).replace(b'"shape": [1]', b'"shape": [3]')],
    ids=lambda body: body[-30:].decode() or "nothing",
)  # fmt: skip
def test_malformed_json_is_refused(server: TritonServer, body: bytes):
    status, text = post(server, "rank", body, **{"Content-Type": "application/json"})
    assert status >= 400  # Triton's own code for JSON that it cannot read is 500
    assert json.loads(text)["error"]
    assert post(server, "rank", body_of([7], [9]))[0] == 200


def test_plain_json_is_answered(server: TritonServer, bundle: Bundle):
    status, text = post(server, "rank", body_of([21, -1], [9, 9]))
    assert status == 200
    with Client(server.http_url) as client:
        expected = client.rank([21, -1], [9, 9])
    np.testing.assert_allclose(json.loads(text)["outputs"][0]["data"], expected, rtol=1e-6)
