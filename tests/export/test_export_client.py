"""The client by itself: what it refuses to send, and what it does without an answer."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from export.calls import lists_of, rank_call, recommend_call, similar_call
from export.client import AsyncClient, Client, ClientOptions
from export.errors import ServerUnavailableError
from sdk.base.errors import ConfigError, UsageError

PROTOCOLS = ("http", "grpc")


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: rank_call([1, 2], [3]), "user_id has 2 ids, item_id 1"),
        (lambda: rank_call([], []), "input 'item_id' holds no id"),
        (lambda: rank_call([1.5], [3]), "rank: input 'user_id': number 1 is 1.5, which is not a whole number"),
        (lambda: rank_call(np.array([[1]]), [3]), "shape (1, 1)"),
        (lambda: rank_call([7, "7"], [3, 3]), "input 'user_id': number 2 is '7', which is text"),
        (lambda: rank_call(["7", 7], [3, 3]), "rank: input 'user_id': number 2 is 7, which is no text"),
        (lambda: rank_call([b"7"], [3]), "input 'user_id': number 1 is b'7', which is not a whole number"),
        (lambda: similar_call(["\ud800"], 5), "'item_id': number 1 is '\\ud800', which UTF-8 cannot write"),
        (lambda: recommend_call(["a"], 5, ["b", None]), "input 'exclude': number 2 is None, which is no text"),
        (lambda: rank_call(np.array([2**63], dtype=np.uint64), [3]), "is too large"),
        (lambda: recommend_call([1], 0, None), "recommend: input 'k': got 0"),
        (lambda: recommend_call([1], 2**31, None), "input 'k': got 2147483648"),
        (lambda: recommend_call([1], 5, [0.5]), "input 'exclude'"),
        (lambda: similar_call([True], 5), "input 'item_id': number 1 is True"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_model_and_input(make: Callable[[], object], reason: str):
    with pytest.raises(UsageError) as error:
        make()
    assert reason in str(error.value)


def test_one_user_may_be_given_for_all_titles():
    call = rank_call(np.int32(7), np.array([1, 2, 3], dtype=np.int16))
    assert call.inputs["user_id"].tolist() == [7, 7, 7]
    assert {v.dtype for v in call.inputs.values()} == {np.dtype(np.int64)}
    assert call.describe() == "user_id: 3 x INT64, item_id: 3 x INT64"


@pytest.mark.parametrize(
    "given",
    [
        ["Zoë", "00417"], ("Zoë", "00417"), iter(["Zoë", "00417"]), np.array(["Zoë", "00417"]),
        np.array(["Zoë", "00417"], dtype=object), pd.Series(["Zoë", "00417"]), pa.array(["Zoë", "00417"]),
        pa.chunked_array([["Zoë"], ["00417"]]),
    ],
    ids=lambda given: type(given).__name__,
)  # fmt: skip
def test_text_goes_out_as_bytes_of_utf8_whatever_holds_it(given: object):
    call = similar_call(given, 5)  # type: ignore[arg-type]
    assert call.inputs["item_id"].tolist() == [b"Zo\xc3\xab", b"00417"]
    assert call.describe() == "item_id: 2 x BYTES, k: 1 x INT32"


def test_users_may_be_text_and_items_numbers_and_one_text_is_one_user():
    call = rank_call("u-1", [5, 6])
    assert (call.inputs["user_id"].tolist(), call.inputs["item_id"].tolist()) == ([b"u-1", b"u-1"], [5, 6])


@pytest.mark.parametrize("kind", [str, str.encode], ids=["JSON", "binary"])
def test_an_answer_of_text_is_text_again(kind: Callable[[str], object]):
    texts = np.array([[kind("Zoë"), kind("b")], [kind("c"), kind("")]], dtype=object)
    scores = np.array([[2, 1], [2, -np.inf]], dtype=np.float32)
    lists = lists_of(SimpleNamespace(as_numpy={"item_id": texts, "score": scores}.get))
    assert lists.item_id.tolist() == [["Zoë", "b"], ["c", ""]]
    assert (lists.lengths.tolist(), lists.row(1)[0].tolist()) == ([2, 1], ["c"])


@pytest.mark.parametrize("wrong", [{"protocol": "ftp"}, {"timeout_s": 0}, {"retries": -1}, {"backoff_s": -1}])
def test_options_out_of_range_are_refused(wrong: dict[str, object]):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        ClientOptions(**wrong)  # type: ignore[arg-type]


def closed_port() -> int:
    with socket.socket() as each:
        each.bind(("127.0.0.1", 0))
        port: int = each.getsockname()[1]
        return port


@contextmanager
def listener(answer: Callable[[socket.socket], None]) -> Iterator[tuple[str, list[float]]]:
    """A server that does ``answer`` to each connection; the times of the connections."""
    server = socket.create_server(("127.0.0.1", 0))
    times: list[float] = []

    def accept() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            times.append(time.monotonic())
            answer(connection)

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.getsockname()[1]}", times
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join(timeout=5)


def ask(url: str, options: ClientOptions, kind: str) -> None:
    if kind == "sync":
        with Client(url, options) as client:
            client.rank([1], [2])
    else:
        asyncio.run(ask_async(url, options))


async def ask_async(url: str, options: ClientOptions) -> None:
    async with AsyncClient(url, options) as client:
        await client.rank([1], [2])


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_no_server_is_one_clear_error(protocol: str, kind: str):
    url = f"127.0.0.1:{closed_port()}"
    options = ClientOptions(protocol=protocol, retries=1, backoff_s=0.01, timeout_s=5)
    with pytest.raises(ServerUnavailableError, match=rf"{url}: no answer from model 'rank' \(.*export serve"):
        ask(url, options, kind)


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_lost_connection_is_tried_again_as_often_as_told(kind: str):
    with listener(lambda connection: connection.close()) as (url, times):
        with pytest.raises(ServerUnavailableError):
            ask(url, ClientOptions(retries=3, backoff_s=0.01, timeout_s=5), kind)
    assert len(times) >= 4


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_time_out_is_not_tried_again(protocol: str, kind: str):
    held: list[socket.socket] = []
    with listener(held.append) as (url, times):
        started = time.monotonic()
        with pytest.raises(ServerUnavailableError, match="the time-out passed"):
            ask(url, ClientOptions(protocol=protocol, retries=5, backoff_s=0.01, timeout_s=0.3), kind)
        assert time.monotonic() - started < 3
        for each in held:
            each.close()
    assert len(times) == 1


def test_a_server_that_is_not_there_is_not_ready():
    with Client(f"127.0.0.1:{closed_port()}") as client:
        assert not client.is_ready()
