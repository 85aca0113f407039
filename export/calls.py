"""What the sync and the async client share: requests made of arrays, answers read, errors put into words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from export.errors import RefusedRequestError, ServerUnavailableError
from sdk.base.config import Amount, Checked, Positive, Size
from sdk.base.errors import MarqueeError, UsageError
from sdk.base.ids import count_of, ids_of, text_ids
from sdk.base.types import Float32s, Id, IdArray, Ids, Int32s

Protocol = Literal["http", "grpc"]
_DTYPES = {"int64": "INT64", "int32": "INT32", "object": "BYTES"}
_TEXT = text_ids([])


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientOptions(Checked):
    """How a client asks.

    Attributes:
        protocol: what the address speaks, ``http`` or ``grpc``.
        timeout_s: how long one attempt may take, connecting included.
        retries: further attempts after a lost connection; a refusal or a time-out is never tried again.
        backoff_s: wait before the first further attempt; it doubles with each.
    """

    protocol: Protocol = "http"
    timeout_s: Positive = 30.0
    retries: Size = 2
    backoff_s: Amount = 0.1


@dataclass(frozen=True, slots=True, eq=False)
class Lists:
    """Titles and their scores, one list per row asked for, best first.

    Attributes:
        item_id: (B, k) int64, or object, str, where ids are text; -1 or "" past the end of a short list.
        scores: (B, k) float32; -inf past the end of a short list.
        lengths: (B,) int32.
    """

    item_id: IdArray
    scores: Float32s
    lengths: Int32s

    def row(self, b: int) -> tuple[IdArray, Float32s]:
        """Row b's real item ids and scores."""
        n = int(self.lengths[b])
        return self.item_id[b, :n], self.scores[b, :n]


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """One request.

    Attributes:
        model: the model asked.
        inputs: name -> flat int64 or int32 values, or object, text as the bytes of its UTF-8.
        outputs: the tensors wanted.
    """

    model: str
    inputs: Mapping[str, NDArray[Any]]
    outputs: tuple[str, ...]

    def describe(self) -> str:
        """The inputs in words, for an error."""
        return ", ".join(f"{name}: {len(v)} x {_DTYPES[str(v.dtype)]}" for name, v in self.inputs.items())

    def tensors(self, module: Any) -> dict[str, Any]:
        """The ``inputs`` and ``outputs`` of a tritonclient's ``infer``, made with its own classes."""
        inputs = [module.InferInput(name, [len(v)], _DTYPES[str(v.dtype)]) for name, v in self.inputs.items()]
        for tensor, values in zip(inputs, self.inputs.values(), strict=True):
            tensor.set_data_from_numpy(values)
        return {"inputs": inputs, "outputs": [module.InferRequestedOutput(name) for name in self.outputs]}


def rank_call(user_id: Id | Ids, item_id: Ids) -> Call:
    """Scores of pairs; one user may be given for all titles.

    Raises:
        UsageError: an input holds what is no id, is empty, or the lengths differ.
    """
    items, users = _ids("rank", "item_id", item_id), _ids("rank", "user_id", user_id)
    if isinstance(user_id, str) or np.ndim(user_id) == 0:  # type: ignore[arg-type]
        users = np.repeat(users, len(items))
    if len(users) != len(items):
        raise UsageError(f"rank: user_id has {len(users)} ids, item_id {len(items)}; expected as many of both")
    return Call("rank", {"user_id": users, "item_id": items}, ("score",))


def recommend_call(user_id: Ids, k: int, exclude: Ids | None) -> Call:
    """Lists for users.

    Raises:
        UsageError: an input holds what is no id, or is empty.
    """
    excluded = _of_any_kind(() if exclude is None else exclude, "recommend: input 'exclude'")
    return _list_call("recommend", "user_id", user_id, k, {"exclude": excluded} if len(excluded) else {})


def similar_call(item_id: Ids, k: int) -> Call:
    """Lists for titles.

    Raises:
        UsageError: an input holds what is no id, or is empty.
    """
    return _list_call("similar_items", "item_id", item_id, k, {})


def _list_call(model: str, name: str, ids: Ids, k: int, others: Mapping[str, IdArray]) -> Call:
    length, most = count_of(k, f"{model}: input 'k'"), np.iinfo(np.int32).max
    if length > most:
        raise UsageError(f"{model}: input 'k': got {length}, expected at most {most}")
    inputs: dict[str, Any] = {name: _ids(model, name, ids), "k": np.array([length], dtype=np.int32), **others}
    return Call(model, inputs, ("item_id", "score"))


def _ids(model: str, name: str, values: Id | Ids) -> IdArray:
    ids = _of_any_kind(values, f"{model}: input {name!r}")
    if not len(ids):
        raise UsageError(f"{model}: input {name!r} holds no id; expected one or more")
    return ids


def _of_any_kind(values: Any, name: str) -> IdArray:
    """(N,) int64, or object of UTF-8 where the first of them is text."""
    values = list(values) if isinstance(values, Iterator) else values
    if not _is_text(values):
        return ids_of(values, name)
    texts = ids_of(values, name, _TEXT)
    return np.fromiter((_utf8(at, text, name) for at, text in enumerate(texts)), object, len(texts))


def _is_text(values: Any) -> bool:
    is_row = isinstance(values, Iterable) and not isinstance(values, str) and getattr(values, "ndim", 1) > 0
    first: Any = next(iter(values), None) if is_row else values
    return isinstance(first.as_py() if hasattr(first, "as_py") else first, str)


def _utf8(at: int, text: str, name: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"{name}: number {at + 1} is {text!r}, which UTF-8 cannot write") from error


def lists_of(result: Any) -> Lists:
    """An answer of ``recommend`` or ``similar_items``."""
    item_id = result.as_numpy("item_id")
    if item_id.dtype == object:
        texts = [text if isinstance(text, str) else text.decode() for text in item_id.ravel()]
        item_id = text_ids(texts).reshape(item_id.shape)
    real = item_id != "" if item_id.dtype == object else item_id >= 0
    return Lists(item_id, result.as_numpy("score"), real.sum(axis=1).astype(np.int32))


def is_lost(error: BaseException) -> bool:
    """Whether the connection could not be made or was lost: then, and only then, another attempt may help."""
    if is_timeout(error):
        return False
    return isinstance(error, OSError) or _status(error) == "UNAVAILABLE" or _is_client_error(error)


def is_timeout(error: BaseException) -> bool:
    """Whether the time-out passed."""
    return isinstance(error, TimeoutError) or type(error).__name__ == "TimeoutError" or _status(error) in _TIMEOUTS


_TIMEOUTS = ("DEADLINE_EXCEEDED", "499")
_OURS_TO_MEND = ("400", "404", "INVALID_ARGUMENT", "NOT_FOUND", "OUT_OF_RANGE", "RESOURCE_EXHAUSTED", "413")


def _status(error: BaseException) -> str:
    status = getattr(error, "status", None)
    return str(status() if callable(status) else status or "").removeprefix("StatusCode.")


def _is_client_error(error: BaseException) -> bool:
    """An error of aiohttp, geventhttpclient or of the HTTP grammar: an answer broke off."""
    return type(error).__module__.partition(".")[0] in ("aiohttp", "geventhttpclient", "http")


def seconds_to_wait(error: Exception, attempt: int, options: ClientOptions, url: str, call: Call) -> float:
    """How long to wait before the next attempt.

    Raises:
        RefusedRequestError: the server says that the request is wrong.
        ServerUnavailableError: there was no answer, and another attempt is not allowed or would not help.
    """
    if is_lost(error) and attempt < options.retries:
        return options.backoff_s * 2**attempt
    raise _translated(error, url, call) from error


def _translated(error: Exception, url: str, call: Call) -> MarqueeError:
    """What a failed request means, naming the model and its inputs."""
    if is_timeout(error):
        return ServerUnavailableError(url, call.model, "the time-out passed")
    message = getattr(error, "message", None)
    text = str(message()) if callable(message) else str(error) or type(error).__name__
    if not is_lost(error) and _status(error) in _OURS_TO_MEND:
        return RefusedRequestError(call.model, call.describe(), text)
    return ServerUnavailableError(url, call.model, text if is_lost(error) else f"the server failed: {text}")
