"""Fetching one file over HTTP so that a broken connection costs only the bytes that were still missing.

``FILE.part`` holds the bytes so far; ``FILE.part.json`` says which version of the remote file they belong to.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import logging
import os
import re
import shutil
import ssl
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import TypeVar

from tqdm import tqdm

from sdk.base.errors import DownloadError, OutputError
from sdk.base.printable import one_line
from sdk.base.rights import reason
from sdk.base.streams import is_terminal

log = logging.getLogger(__name__)

_BLOCK_BYTES = 1 << 18
_TEXT_BYTES = 4096
_LONGEST_PAUSE_S = 30.0
_WORTH_ANOTHER_TRY = frozenset({408, 425, 429, 500, 502, 503, 504})
_NOT_THERE = frozenset({404, 410})
_BAD_RANGE = 416
_NOT_OURS = "the server sent bytes that do not continue ours; starting over"
_NO_SUCH_RANGE = "the server has no such range; starting over"
Got = TypeVar("Got")


class GaveUpError(DownloadError):
    """The server could not be reached, or not for long enough, in all the attempts allowed."""


class _LostError(Exception):
    """A connection failed in a way that another attempt may mend."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """How to talk to a server. Proxies come from the environment, as urllib reads them.

    Attributes:
        remedy: ends every error's text, e.g. how to get the file by hand.
        retries: failures in a row that bring no new byte, borne before giving up.
        timeout_s: seconds without an answer or a byte after which a connection is lost.
        wait: called with the seconds to pause before another attempt.
    """

    remedy: str
    retries: int = 3
    timeout_s: float = 30.0
    wait: Callable[[float], None] = time.sleep


@dataclass(frozen=True, slots=True)
class Part:
    """A file on its way: its address, and where its bytes gather.

    Attributes:
        url: the address.
        path: the unfinished file.
        size_bytes: about how long it will be, used where the server does not say.
    """

    url: str
    path: Path
    size_bytes: int

    @property
    def mark(self) -> Path:
        """The note that says which version of the remote file the bytes belong to."""
        return self.path.with_name(f"{self.path.name}.json")

    def length(self) -> int:
        """Bytes gathered so far."""
        return self.path.stat().st_size if self.path.is_file() else 0

    def validator(self) -> str:
        """The ETag or date of the version that is being gathered; empty where it cannot be continued safely."""
        try:
            mark = json.loads(self.mark.read_text(encoding="utf-8"))
            return str(mark["validator"]) if mark["url"] == self.url else ""
        except (OSError, ValueError, KeyError, TypeError):
            return ""

    def start(self, validator: str) -> None:
        """Empty the file, then note the version that it is about to hold.

        Raises:
            OutputError: the folder cannot be written.
        """
        with writing(self.path):
            self.path.write_bytes(b"")
            self.mark.write_text(json.dumps({"url": self.url, "validator": validator}), encoding="utf-8")

    def discard(self) -> None:
        """Delete the file and its note, where they exist.

        Raises:
            OutputError: the folder cannot be written.
        """
        with writing(self.path):
            self.path.unlink(missing_ok=True)
            self.mark.unlink(missing_ok=True)


def fetch_text(link: Link, url: str) -> str | None:
    """The first 4 KiB at an address as text, or None where the server says that there is nothing.

    Raises:
        GaveUpError: no whole answer came in the attempts allowed.
        DownloadError: the server refused.
    """

    def attempt() -> str | None:
        try:
            with _ask(link, url, {}, _NOT_THERE) as response:
                return b"".join(_blocks(response, _TEXT_BYTES)).decode("utf-8", "replace")
        except urllib.error.HTTPError:
            return None

    return _patiently(link, url, attempt)


def fetch_file(link: Link, part: Part, progress: bool | None = None) -> None:
    """Fill a part file until it is as long as the remote file; what an earlier call left is continued.

    Args:
        link: how to talk to the server.
        part: what to fetch, and where to.
        progress: True draws a bar on stderr, False writes a log line every 10 %, None: a bar on a terminal only.

    Raises:
        GaveUpError: the connection failed too often; the part file stays, to be continued.
        DownloadError: the server refused.
        OutputError: the part file cannot be written, or would not fit on its disk.
    """
    with _meter(part, progress) as show:
        kept = part.length() if part.validator() else 0
        _patiently(link, part.url, lambda: _attempt(link, part, show), part.length, kept)


def check_space(folder: Path, needed_bytes: int, what: str) -> None:
    """Make sure that a folder's disk has room.

    Raises:
        OutputError: it has not; the message says how much is needed and how much is free.
    """
    with writing(folder):
        free_bytes = shutil.disk_usage(folder).free
    if needed_bytes > free_bytes:
        raise OutputError(
            f"{folder}: {what} needs {_mib(needed_bytes)} MiB more, and {_mib(free_bytes)} MiB are free. "
            "Free some space, or choose a folder on another disk."
        )


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn the system's refusal to write into an error that names the path.

    Raises:
        OutputError: the block raised an OSError.
    """
    try:
        yield
    except OSError as error:
        message = f"{path}: cannot write ({reason(error, path)}). Mend that, or choose another folder."
        raise OutputError(message) from error


def _patiently(
    link: Link, url: str, attempt: Callable[[], Got], reached: Callable[[], int] = lambda: 0, best: int = 0
) -> Got:
    """Try until an attempt ends, with a longer pause after each failure in a row that brought nothing new.

    Args:
        link: how many failures are borne.
        url: for the messages.
        attempt: raises ``_LostError`` where another try may help.
        reached: how many bytes there are.
        best: how many there were before.

    Raises:
        GaveUpError: there were too many failures.
    """
    failures = 0
    while True:
        try:
            return attempt()
        except _LostError as error:
            got = reached()
            failures = 1 if got > best else failures + 1
            best = max(best, got)
            if failures > link.retries:
                raise GaveUpError(
                    f"{url}: gave up, failed attempts in a row: {failures} ({error}). "
                    f"Check the network and the proxy settings and run it again, {link.remedy}"
                ) from error
            pause_s = min(_LONGEST_PAUSE_S, 2.0 ** (failures - 1))
            log.warning("%s: %s; retry %d of %d in %g s", url, error, failures, link.retries, pause_s)
            link.wait(pause_s)


def _ask(link: Link, url: str, headers: Mapping[str, str], taken: Collection[int]) -> http.client.HTTPResponse:
    """Open an address. HTTPError comes through only for the codes that the caller knows how to take."""
    request = urllib.request.Request(url, headers={"User-Agent": "marquee", **headers})
    try:
        response: http.client.HTTPResponse = urllib.request.build_opener().open(request, timeout=link.timeout_s)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code in taken:
            raise
        answer = f"the server answered {error.code} {error.reason}"
        if error.code in _WORTH_ANOTHER_TRY:
            raise _LostError(answer) from error
        raise DownloadError(f"{url}: {answer}, expected the file. Check the address, {link.remedy}") from error
    except (OSError, http.client.HTTPException) as error:
        cause = getattr(error, "reason", error)
        if isinstance(cause, ssl.SSLCertVerificationError):
            distrust = f"the server's certificate is not trusted ({cause.verify_message})"
            remedy = f"Install your proxy's or mirror's certificate, {link.remedy}"
            raise DownloadError(f"{url}: {distrust}. {remedy}") from error
        raise _LostError(_in_words(cause)) from error
    return response


def _in_words(reason: object) -> str:
    return " ".join(str(reason).split()) or type(reason).__name__


def _blocks(response: http.client.HTTPResponse, most: int | None) -> Iterator[bytes]:
    """The body as it comes, at most ``most`` bytes; a failure to read is a lost connection."""
    done = 0
    while most is None or done < most:
        try:
            block = response.read1(_BLOCK_BYTES if most is None else min(_BLOCK_BYTES, most - done))
        except (OSError, http.client.HTTPException) as error:
            raise _LostError(_in_words(error)) from error
        if not block:
            return
        done += len(block)
        yield block


def _attempt(link: Link, part: Part, show: Callable[[int, int | None], None]) -> None:
    validator = part.validator()
    start = part.length() if validator else 0
    wish = {"Range": f"bytes={start}-", "If-Range": validator} if start else {}
    try:
        with _ask(link, part.url, wish, [_BAD_RANGE]) as response:
            if start and response.status == http.HTTPStatus.PARTIAL_CONTENT:
                _check_continues(part, response.headers, start, validator)
            else:
                _start_over(part, response.headers)
            _append(part, response, show)
    except urllib.error.HTTPError as error:
        if start and error.headers["Content-Range"] == f"bytes */{start}":
            return  # nothing was missing: an earlier run ended between the last byte and the rename
        part.discard()
        raise _LostError(_NO_SUCH_RANGE) from error


def _check_continues(part: Part, headers: Message, start: int, validator: str) -> None:
    """A server may overlook If-Range, or send other bytes than those asked for: then nothing kept can be trusted."""
    versions = {headers["ETag"], headers["Last-Modified"]} - {None}
    begin = re.match(r"bytes (\d+)-", headers["Content-Range"] or "")
    if (versions and validator not in versions) or not begin or int(begin[1]) != start:
        part.discard()
        raise _LostError(_NOT_OURS)


def _start_over(part: Part, headers: Message) -> None:
    if part.length():
        log.info("%s: starting from the first byte (changed since, or the server cannot resume)", part.url)
    etag = headers["ETag"] or ""
    strong = etag if not etag.startswith("W/") else ""  # RFC 9110, 13.1.5: If-Range takes no weak ETag
    part.start(strong or headers["Last-Modified"] or "")


def _append(part: Part, response: http.client.HTTPResponse, show: Callable[[int, int | None], None]) -> None:
    done, length = part.length(), response.headers["Content-Length"]
    missing = int(length) if length and length.isdecimal() else None
    total = None if missing is None else done + missing
    check_space(part.path.parent, max(0, part.size_bytes - done) if missing is None else missing, part.path.stem)
    with writing(part.path), part.path.open("ab") as sink:
        for block in _blocks(response, missing):
            sink.write(block)
            sink.flush()  # so that a killed process loses none of what came
            done += len(block)
            show(done, total)
        os.fsync(sink.fileno())
    if total is not None and done < total:
        raise _LostError(f"the connection closed after {done:,} of {total:,} bytes")


@contextlib.contextmanager
def _meter(part: Part, progress: bool | None) -> Iterator[Callable[[int, int | None], None]]:
    """Shows how far a transfer is: a bar on a terminal, elsewhere a log line every 10 %."""
    shown = is_terminal(sys.stderr) if progress is None else progress
    name, tenths_shown = one_line(part.path.stem), -1
    size, start = part.size_bytes, part.length()
    with tqdm(
        total=size, initial=start, desc=name, unit="B", unit_scale=True, unit_divisor=1024, disable=not shown
    ) as bar:

        def show(done: int, total: int | None) -> None:
            nonlocal tenths_shown
            bar.total = total
            bar.update(done - bar.n)
            tenths = 10 * done // total if total else -1
            if not shown and total and tenths != tenths_shown:
                log.info("%s: %d %% (%s of %s MiB)", name, 10 * tenths, _mib(done), _mib(total))
            tenths_shown = tenths

        yield show


def _mib(num_bytes: int) -> str:
    return f"{num_bytes / 2**20:,.1f}"
