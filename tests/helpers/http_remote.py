"""A real HTTP server on the loopback that publishes a zip and fails on request, with the fixtures around it."""

from __future__ import annotations

import hashlib
import http.server
import io
import random
import re
import socket
import struct
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from sdk.data.download import download

ROOT = Path(__file__).resolve().parents[2]
NAME = "ml-latest-small"
ZIP = f"/{NAME}.zip"


def make_zip(seed: int, size: int = 300_000) -> bytes:
    """The same bytes at any time: they decide the day at which the server says that the file changed."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(zipfile.ZipInfo(f"{NAME}/ratings.csv"), random.Random(seed).randbytes(size))
        archive.writestr(zipfile.ZipInfo(f"{NAME}/movies.csv"), "movieId,title,genres\n1,Toy Story (1995),Comedy\n")
    return data.getvalue()


BODY = make_zip(1)
OTHER = make_zip(2)


@dataclass
class Answer:
    """How the server treats one request for the zip; the default is to serve it rightly."""

    cut_after: int | None = None  # close the connection after so many body bytes
    reset: bool = False  # ... with a TCP reset instead of an orderly end
    ignore_range: bool = False
    ignore_if_range: bool = False
    claim_start: int | None = None  # lie in Content-Range
    status: int | None = None
    gate: threading.Event | None = None  # hold the body until it is set
    became: bytes | None = None  # the file is replaced just before this answer


@dataclass
class Remote:
    """What the server publishes, and what it was asked."""

    body: bytes = BODY
    md5: str | None = "{hex}  {name}\n"
    validators: tuple[str, ...] = ("ETag", "Last-Modified")
    weak: bool = False
    announces_length: bool = True
    script: list[Answer] = field(default_factory=list)
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    sent: int = 0
    started: threading.Event = field(default_factory=threading.Event)
    url: str = ""

    def zip_requests(self) -> list[dict[str, str]]:
        return [headers for path, headers in self.asked if path.endswith(ZIP)]

    def ranges(self) -> list[str | None]:
        return [headers.get("range") for headers in self.zip_requests()]

    def versions(self) -> dict[str, str]:
        digest = hashlib.sha256(self.body).hexdigest()
        day = 1 + int(digest[:4], 16) % 28
        every = {
            "ETag": f'{"W/" if self.weak else ""}"{digest[:16]}"',
            "Last-Modified": f"Mon, {day:02} Nov 2019 10:00:00 GMT",
        }
        return {name: every[name] for name in self.validators}


class Handler(http.server.BaseHTTPRequestHandler):
    remote: Remote

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        self.remote.asked.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
        if self.path.endswith(".md5"):
            self.serve_md5()
        elif self.path.endswith(ZIP):
            self.serve_zip(self.remote.script.pop(0) if self.remote.script else Answer())
        else:
            self.send_error(404)

    def serve_md5(self) -> None:
        if self.remote.md5 is None:
            self.send_error(404)
            return
        text = self.remote.md5.format(hex=hashlib.md5(self.remote.body).hexdigest(), name=ZIP[1:]).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def serve_zip(self, answer: Answer) -> None:
        remote = self.remote
        remote.body = answer.became or remote.body
        if answer.status:
            self.send_error(answer.status)
            return
        start = self.range_start(answer)
        if start is not None and start >= len(remote.body):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(remote.body)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_headers(answer, start)
        remote.started.set()
        if answer.gate:
            assert answer.gate.wait(30)
        self.send_body(answer, remote.body[start or 0 :])

    def range_start(self, answer: Answer) -> int | None:
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        same = self.headers.get("If-Range") in self.remote.versions().values()
        return int(wanted[1]) if wanted and not answer.ignore_range and (same or answer.ignore_if_range) else None

    def send_headers(self, answer: Answer, start: int | None) -> None:
        size = len(self.remote.body)
        self.send_response(200 if start is None else 206)
        if start is not None:
            claimed = start if answer.claim_start is None else answer.claim_start
            self.send_header("Content-Range", f"bytes {claimed}-{size - 1}/{size}")
        for name, value in self.remote.versions().items():
            self.send_header(name, value)
        if self.remote.announces_length:
            self.send_header("Content-Length", str(size - (start or 0)))
        self.end_headers()

    def send_body(self, answer: Answer, body: bytes) -> None:
        body = body[: answer.cut_after]
        try:
            self.wfile.write(body)
        except ConnectionError:  # the client was killed
            return
        self.remote.sent += len(body)
        if answer.reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()


@contextmanager
def serving(remote: Remote) -> Iterator[Remote]:
    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = False  # so that server_close joins every handler

        def handle_error(self, request: object, client_address: object) -> None:
            pass  # a reset on purpose

    server = Server(("127.0.0.1", 0), type("Bound", (Handler,), {"remote": remote}))
    remote.url = f"http://127.0.0.1:{server.server_port}/files"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield remote
    finally:
        server.shutdown()
        server.server_close()
        thread.join(30)
        assert not thread.is_alive()


def without_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def remote() -> Iterator[Remote]:
    with serving(Remote()) as running:
        yield running


@pytest.fixture
def pauses() -> list[float]:
    return []


@pytest.fixture
def fetch(remote: Remote, tmp_path: Path, pauses: list[float], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    without_proxies(monkeypatch)

    def go(**options: object) -> Path:
        given = {"base_url": remote.url, "timeout_s": 10, "wait": pauses.append, **options}
        return download(NAME, tmp_path, **given)

    return go


def assert_landed(path: Path, body: bytes = BODY) -> None:
    assert path.name == f"{NAME}.zip"
    assert path.read_bytes() == body
    assert not list(path.parent.glob("*.part*"))


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
