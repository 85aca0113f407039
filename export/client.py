"""Clients of a served repository.

with Client("127.0.0.1:8000") as client:
    client.recommend([42], k=10).row(0)
"""

from __future__ import annotations

import asyncio
import time
from importlib import import_module
from typing import Any

from export import calls
from export.calls import Call, ClientOptions, Lists
from sdk.base.types import Float32s, Id, Ids

__all__ = ["AsyncClient", "Client", "ClientOptions", "Lists"]


class Client:
    """Asks a server, one request after the other; use one client per thread.

    Ids are whole numbers, or text where the bundle's are: they go out and come back as they are.

    Args:
        url: ``host:port``, without a scheme.
        options: protocol, time-out and retries.
    """

    def __init__(self, url: str, options: ClientOptions | None = None) -> None:
        self.url, self.options = url, options or ClientOptions()
        self._module: Any = import_module(f"tritonclient.{self.options.protocol}")
        self._connection = self._connect()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def is_ready(self) -> bool:
        """Whether the server answers and all its models are loaded."""
        try:
            return bool(self._connection.is_server_ready())
        except Exception as error:
            if calls.is_lost(error) or isinstance(error, TimeoutError):
                return False
            raise

    def rank(self, user_id: Id | Ids, item_id: Ids) -> Float32s:
        """(N,) float32 scores (logits) of N pairs.

        Args:
            user_id: N ids, or one for all titles; an unknown user gets the cold-start answer.
            item_id: N ids of known titles.

        Raises:
            UsageError: an input holds what is no id, is empty, or the lengths differ.
            RefusedRequestError: the server says that the request is wrong.
            ServerUnavailableError: there was no answer.
        """
        scores: Float32s = self._ask(calls.rank_call(user_id, item_id)).as_numpy("score")
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
        return calls.lists_of(self._ask(calls.recommend_call(user_id, k, exclude)))

    def similar_items(self, item_id: Ids, k: int = 10) -> Lists:
        """The k titles most like each of the B given ones, by content.

        Raises:
            UsageError: an input holds what is no id, or is empty.
            RefusedRequestError: the server says that the request is wrong.
            ServerUnavailableError: there was no answer.
        """
        return calls.lists_of(self._ask(calls.similar_call(item_id, k)))

    def _connect(self) -> Any:
        limit = self.options.timeout_s
        http = {"connection_timeout": limit, "network_timeout": limit} if self.options.protocol == "http" else {}
        return self._module.InferenceServerClient(self.url, **http)

    def _ask(self, call: Call, attempt: int = 0) -> Any:
        try:
            return self._infer(call)
        except Exception as error:
            wait_s = calls.seconds_to_wait(error, attempt, self.options, self.url, call)
        self._connection.close()  # one that broke off half way through an answer is not used again
        self._connection = self._connect()
        time.sleep(wait_s)
        return self._ask(call, attempt + 1)

    def _infer(self, call: Call) -> Any:
        limit = {"client_timeout": self.options.timeout_s} if self.options.protocol == "grpc" else {}
        return self._connection.infer(call.model, **call.tensors(self._module), **limit)


class AsyncClient:
    """The same for asyncio; many requests may be under way at once.

    Args:
        url: ``host:port``, without a scheme.
        options: protocol, time-out and retries.
    """

    def __init__(self, url: str, options: ClientOptions | None = None) -> None:
        self.url, self.options = url, options or ClientOptions()
        self._module: Any = import_module(f"tritonclient.{self.options.protocol}.aio")
        self._connection = self._module.InferenceServerClient(url)

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._connection.close()

    async def rank(self, user_id: Id | Ids, item_id: Ids) -> Float32s:
        """(N,) float32 scores (logits) of N pairs; see ``Client.rank``."""
        scores: Float32s = (await self._ask(calls.rank_call(user_id, item_id))).as_numpy("score")
        return scores

    async def recommend(self, user_id: Ids, k: int = 10, exclude: Ids | None = None) -> Lists:
        """Each user's k best unseen titles; see ``Client.recommend``."""
        return calls.lists_of(await self._ask(calls.recommend_call(user_id, k, exclude)))

    async def similar_items(self, item_id: Ids, k: int = 10) -> Lists:
        """The k titles most like each given one; see ``Client.similar_items``."""
        return calls.lists_of(await self._ask(calls.similar_call(item_id, k)))

    async def _ask(self, call: Call, attempt: int = 0) -> Any:
        try:
            inferring = self._connection.infer(call.model, **call.tensors(self._module))
            return await asyncio.wait_for(inferring, self.options.timeout_s)
        except Exception as error:
            wait_s = calls.seconds_to_wait(error, attempt, self.options, self.url, call)
        await asyncio.sleep(wait_s)
        return await self._ask(call, attempt + 1)
