"""Real work in a process of its own that is killed, or whose system call fails, at one step after the other."""

from __future__ import annotations

import errno
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from typing import Any

from children import Child


def steps_of(work: Callable[..., object], *args: Any, how: str, exchanging: bool = True) -> Iterator[int]:
    """Start the work once for each of its steps; it is over, one way or the other, when the step is yielded.

    A step is a rename, an exchange of two folders or the deletion of a folder, as the work itself asks for them.

    Args:
        work: a function of a module; it is given ``args``, the first of which is called with the step's number.
        args: what it is given; callables are called in this process, before each start.
        how: ``kill`` (SIGKILL) or ``fail`` (an OSError).
        exchanging: False as on a file system where two folders cannot change places.
    """
    for when in range(1, 100):
        given = [arg(when) if callable(arg) else arg for arg in args]
        code, said = Child(_stepped, work, given, when, how, exchanging).end()
        if code == 0:
            return
        assert code == (-signal.SIGKILL if how == "kill" else 1), (code, said)
        yield when
    raise AssertionError("more than a hundred steps")


def _stepped(work: Callable[..., object], args: list[Any], when: int, how: str, exchanging: bool) -> int:
    import sdk.base.files
    from sdk.base.errors import MarqueeError

    calls = 0

    def stepped(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **named: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == when and how == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if calls == when:
                raise OSError(errno.EIO, "made up", str(given[0]))
            return real(*given, **named)

        return call

    os.replace = stepped(os.replace)
    shutil.rmtree = stepped(shutil.rmtree)
    real_exchange = sdk.base.files.exchange
    sdk.base.files.exchange = stepped(real_exchange) if exchanging else lambda first, second: False
    try:
        work(*args)
    except (OSError, MarqueeError):
        return 1
    return 1 if how == "fail" and calls >= when else 0  # a failure that costs nothing ends like any other
