"""Clients of a served repository.

with Client("127.0.0.1:8000") as client:
    client.recommend([42], k=10).row(0)
"""

from __future__ import annotations

import asyncio
import time
from types import TracebackType
from typing import Any

from export.calls import (
    Call,
    ClientOptions,
    Ids,
    Lists,
    is_lost,
    lists_of,
    rank_call,
    recommend_call,
    similar_call,
    translated,
)
from sdk.base.types import Float32s

__all__ = ["AsyncClient", "Client", "ClientOptions", "Lists"]


class Client:
    """Asks a server, one request after the other; use one client per thread.

    Args:
        url: ``host:port``, without a scheme.
        options: protocol, time-out and retries.
    """

    def __init__(self, url: str, options: ClientOptions | None = None) -> None:
        self.url, self.options = url, options or ClientOptions()
        self._module = _sync_module(self.options.protocol)
        self._connection = self._connect()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def is_ready(self) -> bool:
        """Whether the server answers and all its models are loaded."""
        try:
            return bool(self._connection.is_server_ready())
        except Exception as error:
            if is_lost(error) or isinstance(error, TimeoutError):
                return False
            raise

    def rank(self, user_id: int | Ids, item_id: Ids) -> Float32s:
        """(N,) float32 scores (logits) of N pairs.

        Args:
            user_id: N ids, or one for all titles; an unknown user gets the cold-start answer.
            item_id: N ids of known titles.

        Raises:
            UsageError: an input holds what is no id, is empty, or the lengths differ.
            RefusedRequestError: the server says that the request is wrong.
            ServerUnavailableError: there was no answer.
        """
        scores: Float32s = self._ask(rank_call(user_id, item_id)).as_numpy("score")
        return scores

    def recommend(self, user_id: Ids, k: int = 10, exclude: Ids | None = None) -> Lists:
        """Each user's k best unseen titles over the whole catalogue.

        Args:
            user_id: B ids; an unknown user gets the most popular titles.
            k: list length, at least 1.
            exclude: titles that none of them shall get.

        Raises:
            UsageError: an input holds what is no id, or is empty.
            RefusedRequestError: the server says that the request is wrong.
            ServerUnavailableError: there was no answer.
        """
        return lists_of(self._ask(recommend_call(user_id, k, exclude)))

    def similar_items(self, item_id: Ids, k: int = 10) -> Lists:
        """The k titles most like each of the B given ones, by content.

        Raises:
            UsageError: an input holds what is no id, or is empty.
            RefusedRequestError: the server says that the request is wrong.
            ServerUnavailableError: there was no answer.
        """
        return lists_of(self._ask(similar_call(item_id, k)))

    def _connect(self) -> Any:
        limit = self.options.timeout_s
        http = {"connection_timeout": limit, "network_timeout": limit} if self.options.protocol == "http" else {}
        return self._module.InferenceServerClient(self.url, **http)

    def _ask(self, call: Call) -> Any:
        for attempt in range(self.options.retries + 1):
            try:
                return self._infer(call)
            except Exception as error:
                if not is_lost(error) or attempt == self.options.retries:
                    raise translated(error, self.url, call) from error
                self._reconnect()
                time.sleep(self.options.backoff_s * 2**attempt)
        raise AssertionError

    def _infer(self, call: Call) -> Any:
        limit = {"client_timeout": self.options.timeout_s} if self.options.protocol == "grpc" else {}
        return self._connection.infer(call.model, **call.tensors(self._module), **limit)

    def _reconnect(self) -> None:
        """A connection that broke off half way through an answer is not used again."""
        self._connection.close()
        self._connection = self._connect()


class AsyncClient:
    """The same for asyncio; many requests may be under way at once.

    Args:
        url: ``host:port``, without a scheme.
        options: protocol, time-out and retries.
    """

    def __init__(self, url: str, options: ClientOptions | None = None) -> None:
        self.url, self.options = url, options or ClientOptions()
        self._module = _async_module(self.options.protocol)
        self._connection = self._module.InferenceServerClient(url)

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._connection.close()

    async def rank(self, user_id: int | Ids, item_id: Ids) -> Float32s:
        """(N,) float32 scores (logits) of N pairs; see ``Client.rank``."""
        scores: Float32s = (await self._ask(rank_call(user_id, item_id))).as_numpy("score")
        return scores

    async def recommend(self, user_id: Ids, k: int = 10, exclude: Ids | None = None) -> Lists:
        """Each user's k best unseen titles; see ``Client.recommend``."""
        return lists_of(await self._ask(recommend_call(user_id, k, exclude)))

    async def similar_items(self, item_id: Ids, k: int = 10) -> Lists:
        """The k titles most like each given one; see ``Client.similar_items``."""
        return lists_of(await self._ask(similar_call(item_id, k)))

    async def _ask(self, call: Call) -> Any:
        for attempt in range(self.options.retries + 1):
            try:
                inferring = self._connection.infer(call.model, **call.tensors(self._module))
                return await asyncio.wait_for(inferring, self.options.timeout_s)
            except Exception as error:
                if not is_lost(error) or attempt == self.options.retries:
                    raise translated(error, self.url, call) from error
                await asyncio.sleep(self.options.backoff_s * 2**attempt)
        raise AssertionError


def _sync_module(protocol: str) -> Any:
    if protocol == "grpc":
        import tritonclient.grpc as grpc_module

        return grpc_module
    import tritonclient.http as http_module

    return http_module


def _async_module(protocol: str) -> Any:
    if protocol == "grpc":
        import tritonclient.grpc.aio as grpc_module

        return grpc_module
    import tritonclient.http.aio as http_module

    return http_module
