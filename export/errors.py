"""What can go wrong between a bundle and an answer from a server.

MarqueeError (1)
├── UsageError (2)
│   └── RefusedRequestError (2)     the server answered: this request is wrong
├── BundleError (4)
│   ├── RepositoryError (4)         a model repository is absent, incomplete or altered
│   ├── ServerStartError (4)        the server did not start, or a model did not load
│   └── ParityError (4)             the server's answers differ from the SDK's
└── OutputError (5)
    └── ServerUnavailableError (5)  no answer: no connection, or none in time
"""

from __future__ import annotations

from sdk.base.errors import BundleError, OutputError, UsageError


class RepositoryError(BundleError):
    """A model repository is absent, incomplete or altered."""


class ServerStartError(BundleError):
    """The server did not start, or a model in the repository did not load."""


class ParityError(BundleError):
    """The server's answers differ from the SDK's."""


class RefusedRequestError(UsageError):
    """The server answered that this request is wrong; the next one may be right.

    Args:
        model: the model asked.
        tensors: the inputs sent, each with shape and type, in words.
        reason: the server's own words.
    """

    def __init__(self, model: str, tensors: str, reason: str) -> None:
        super().__init__(f"model {model!r} refused the request ({tensors}): {reason}")


class ServerUnavailableError(OutputError):
    """There was no answer: no connection could be made, it was lost, or the time-out passed.

    Args:
        url: the address asked.
        model: the model asked.
        problem: what happened, in words.
    """

    def __init__(self, url: str, model: str, problem: str) -> None:
        remedy = "Check that the server runs (python -m export serve REPO) and that the address is its own."
        super().__init__(f"{url}: no answer from model {model!r} ({problem}). {remedy}")
