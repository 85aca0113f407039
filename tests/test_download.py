"""Downloads against a real HTTP server on the loopback: every way in which a transfer can go wrong, and its repair."""

from __future__ import annotations

import hashlib
import http.server
import io
import logging
import os
import random
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import zipfile
from collections import namedtuple
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from sdk.data.download import DATASETS, download
from sdk.errors import ConfigError, DownloadError, OutputError, UsageError

ROOT = Path(__file__).resolve().parents[1]
NAME = "ml-latest-small"
ZIP = f"/{NAME}.zip"


def make_zip(seed: int, size: int = 300_000) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(f"{NAME}/ratings.csv", random.Random(seed).randbytes(size))
        archive.writestr(f"{NAME}/movies.csv", "movieId,title,genres\n1,Toy Story (1995),Comedy\n")
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


@pytest.fixture(autouse=True)
def _direct(monkeypatch: pytest.MonkeyPatch) -> None:
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
def fetch(remote: Remote, tmp_path: Path, pauses: list[float]):
    def go(**options: object) -> Path:
        given = {"base_url": remote.url, "timeout_s": 10, "wait": pauses.append, **options}
        return download(NAME, tmp_path, **given)

    return go


def assert_landed(path: Path, body: bytes = BODY) -> None:
    assert path.name == f"{NAME}.zip"
    assert path.read_bytes() == body
    assert not list(path.parent.glob("*.part*"))


# --- the plain way -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "md5", ["MD5 ({name}) = {hex}\n", "{hex}  {name}\n", "{hex} *{name}\n", "{hex}", "# sums\n{hex}  ./x/{name}\n"]
)
def test_a_file_lands_whole_with_each_way_of_writing_a_checksum(fetch, remote, pauses, md5):
    remote.md5 = md5
    assert_landed(fetch())
    assert (remote.ranges(), pauses) == ([None], [])


def test_a_finished_file_is_not_fetched_again(fetch, remote):
    first = fetch()
    stamp = first.stat().st_mtime_ns
    assert fetch() == first
    assert first.stat().st_mtime_ns == stamp
    assert len(remote.zip_requests()) == 1


def test_a_finished_file_that_differs_from_the_published_one_is_fetched_again(fetch, remote, tmp_path):
    (tmp_path / f"{NAME}.zip").write_bytes(OTHER)
    assert_landed(fetch())
    assert len(remote.zip_requests()) == 1


def test_without_a_published_checksum_the_crcs_decide_and_the_log_says_so(fetch, remote, caplog):
    remote.md5 = None
    caplog.set_level(logging.INFO)
    assert_landed(fetch())
    assert "no checksum is published" in caplog.text
    fetch()
    assert len(remote.zip_requests()) == 1


@pytest.mark.parametrize("damage", ["a byte", "the end", "everything"])
def test_without_a_published_checksum_a_damaged_zip_is_refused(fetch, remote, tmp_path, damage):
    broken = bytearray(BODY)
    broken[len(broken) // 2] ^= 0xFF
    remote.body = {"a byte": bytes(broken), "the end": BODY[:-500], "everything": b"<html>log in</html>"}[damage]
    remote.md5 = None
    with pytest.raises(DownloadError, match="CRC" if damage == "a byte" else "not a readable zip"):
        fetch()
    assert not list(tmp_path.glob("*.zip")) + list(tmp_path.glob("*.part*"))


def test_a_body_of_unannounced_length_is_taken_to_its_end(fetch, remote):
    remote.announces_length = False
    assert_landed(fetch())


# --- broken connections ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reset", [False, True])
def test_a_connection_cut_several_times_is_resumed_each_time(fetch, remote, pauses, reset):
    remote.script = [Answer(cut_after=n, reset=reset) for n in (50_000, 60_000, 1, 70_000, 10_000)]
    assert_landed(fetch(retries=2))
    starts = [0 if wish is None else int(wish[6:-1]) for wish in remote.ranges()]
    assert len(starts) == 6
    assert starts == sorted(starts)
    if not reset:  # a reset may throw away bytes on their way
        assert starts == [0, 50_000, 110_000, 110_001, 180_001, 190_001]
        assert remote.sent == len(BODY)
        assert pauses == [1, 1, 1, 1, 1]  # every attempt brought something new


def test_each_resumed_request_names_the_version_it_continues(fetch, remote):
    remote.script = [Answer(cut_after=100)]
    fetch()
    assert remote.zip_requests()[1]["if-range"] == remote.versions()["ETag"]


def test_a_weak_etag_is_never_used_to_resume(fetch, remote):
    remote.weak = True
    remote.script = [Answer(cut_after=100)]
    assert_landed(fetch())
    assert remote.zip_requests()[1]["if-range"] == remote.versions()["Last-Modified"]


def test_without_any_version_it_starts_over(fetch, remote):
    remote.validators = ()
    remote.script = [Answer(cut_after=100)]
    assert_landed(fetch())
    assert remote.ranges() == [None, None]


def test_failures_that_bring_nothing_new_end_it_and_the_pauses_grow(fetch, remote, pauses, tmp_path):
    remote.script = [Answer(cut_after=1000)] + [Answer(cut_after=0)] * 9
    with pytest.raises(DownloadError, match=r"1,000 of .* bytes") as caught:
        fetch(retries=4)
    assert pauses == [1, 2, 4, 8]
    assert "\n" not in str(caught.value)
    assert "by hand" in str(caught.value)
    assert "--movielens" in str(caught.value)
    assert (tmp_path / f"{NAME}.zip.part").read_bytes() == BODY[:1000]  # kept, to go on from


def test_a_server_that_always_starts_over_and_breaks_off_cannot_hold_it_for_ever(fetch, remote, pauses):
    remote.script = [Answer(cut_after=n, ignore_range=True) for n in (5000, 4000) * 25]
    with pytest.raises(DownloadError, match="gave up"):
        fetch(retries=3)
    assert len(pauses) == 3


def test_pauses_never_exceed_half_a_minute(fetch, remote, pauses):
    remote.script = [Answer(status=503)] * 8
    assert_landed(fetch(retries=8))
    assert pauses == [1, 2, 4, 8, 16, 30, 30, 30]


def test_a_server_that_ignores_ranges_still_serves_the_whole_file(fetch, remote):
    remote.script = [Answer(cut_after=70_000), Answer(ignore_range=True)]
    assert_landed(fetch())
    assert remote.ranges() == [None, "bytes=70000-"]


def test_a_stalled_server_counts_as_lost(fetch, remote):
    gate = threading.Event()
    remote.script = [Answer(gate=gate)]
    path = fetch(timeout_s=0.2)
    gate.set()
    assert_landed(path)
    assert len(remote.ranges()) == 2


# --- the remote file changes, or the server lies --------------------------------------------------------------------


@pytest.mark.parametrize("validators", [("ETag",), ("Last-Modified",)])
def test_a_file_that_changed_between_attempts_starts_over(fetch, remote, validators):
    remote.validators = validators
    remote.md5 = f"{hashlib.md5(OTHER).hexdigest()}\n"
    remote.script = [Answer(cut_after=70_000), Answer(became=OTHER)]
    assert_landed(fetch(), OTHER)
    assert remote.ranges() == [None, "bytes=70000-"]


def test_a_changed_file_is_noticed_even_if_the_server_overlooks_if_range(fetch, remote):
    remote.md5 = f"{hashlib.md5(OTHER).hexdigest()}\n"
    remote.script = [Answer(cut_after=70_000), Answer(became=OTHER, ignore_if_range=True)]
    assert_landed(fetch(), OTHER)
    assert remote.ranges() == [None, "bytes=70000-", None]


def test_bytes_from_another_place_than_asked_are_not_appended(fetch, remote):
    remote.script = [Answer(cut_after=70_000), Answer(claim_start=69_000)]
    assert_landed(fetch())
    assert remote.ranges() == [None, "bytes=70000-", None]


def test_a_part_of_another_mirror_is_not_continued(fetch, remote, tmp_path):
    with serving(Remote(body=OTHER, script=[Answer(cut_after=70_000)])) as mirror, pytest.raises(DownloadError):
        fetch(base_url=mirror.url, retries=0)
    assert (tmp_path / f"{NAME}.zip.part").stat().st_size == 70_000
    assert_landed(fetch())
    assert remote.ranges() == [None]


@pytest.mark.parametrize("kept", ["all", "more"])
def test_416_means_either_nothing_is_missing_or_start_over(fetch, remote, tmp_path, kept):
    remote.script = [Answer(cut_after=1000)]
    with pytest.raises(DownloadError):
        fetch(retries=0)
    (tmp_path / f"{NAME}.zip.part").write_bytes(BODY + (b"surplus" if kept == "more" else b""))
    remote.sent = 0
    assert_landed(fetch())
    assert remote.sent == (len(BODY) if kept == "more" else 0)


@pytest.mark.parametrize("mark", ["", "[]", '{"url": 1}', "\xff"])
def test_an_unreadable_note_beside_the_part_means_start_over(fetch, remote, tmp_path, mark):
    (tmp_path / f"{NAME}.zip.part").write_bytes(OTHER[:500])
    (tmp_path / f"{NAME}.zip.part.json").write_bytes(mark.encode("latin-1"))
    assert_landed(fetch())
    assert remote.ranges() == [None]


def test_a_wrong_checksum_deletes_the_part_and_says_got_and_expected(fetch, remote, tmp_path):
    remote.md5 = f"MD5 ({NAME}.zip) = {'0' * 32}\n"
    with pytest.raises(DownloadError) as caught:
        fetch()
    assert hashlib.md5(BODY).hexdigest() in str(caught.value)
    assert "0" * 32 in str(caught.value)
    assert not list(tmp_path.glob("*.zip")) + list(tmp_path.glob("*.part*"))


def test_a_wrong_checksum_leaves_the_finished_file_alone(fetch, remote, tmp_path):
    (tmp_path / f"{NAME}.zip").write_bytes(OTHER)
    remote.md5 = "0" * 32
    with pytest.raises(DownloadError):
        fetch()
    assert (tmp_path / f"{NAME}.zip").read_bytes() == OTHER


@pytest.mark.parametrize("text", ["<html>please log in</html>", "", f"{'0' * 31}\n", "x" * 9000 + "0" * 32])
def test_a_checksum_file_that_holds_none_is_an_error(fetch, remote, text):
    remote.md5 = text
    with pytest.raises(DownloadError, match="expected 'MD5"):
        fetch()
    assert remote.zip_requests() == []


# --- refusals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [404, 403, 410, 501])
def test_a_refusal_is_final_and_one_line(fetch, remote, pauses, status):
    remote.script = [Answer(status=status)]
    with pytest.raises(DownloadError, match=rf"{ZIP}: the server answered {status} .*by hand from .*--movielens"):
        fetch()
    assert pauses == []


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_refused_connection_is_one_line_with_the_remedy(fetch, pauses, tmp_path):
    with pytest.raises(DownloadError, match=r"(?i)refused.*by hand from https://\S+ and pass the zip to --movielens"):
        fetch(base_url=f"http://127.0.0.1:{closed_port()}", retries=2)
    assert pauses == [1, 2]
    assert not list(tmp_path.glob("*.zip*[!k]"))


def test_with_the_publisher_out_of_reach_a_sound_zip_is_used_and_a_broken_one_is_not(fetch, tmp_path, caplog):
    target = tmp_path / f"{NAME}.zip"
    target.write_bytes(BODY)
    nowhere = f"http://127.0.0.1:{closed_port()}"
    assert fetch(base_url=nowhere, retries=0) == target
    assert "out of reach" in caplog.text
    target.write_bytes(BODY[:-100])
    with pytest.raises(DownloadError, match="gave up"):
        fetch(base_url=nowhere, retries=0)


def test_tmdb_says_how_to_get_it_by_hand(tmp_path):
    with pytest.raises(DownloadError, match=r"kaggle\.com.*by hand.*--tmdb"):
        download("tmdb-5000", tmp_path)


def test_an_unknown_name_lists_the_known_ones(tmp_path):
    with pytest.raises(UsageError, match=r"'ml-24m'.*ml-25m"):
        download("ml-24m", tmp_path)


@pytest.mark.parametrize(
    "options",
    [{"retries": -1}, {"timeout_s": 0}, {"timeout_s": float("nan")}]
    + [
        {"base_url": url}
        for url in ("file:///etc", "ftp://x", "http://", "x", "http://h:p", "http://u:p@h", "http://h/?a")
    ],
)
def test_arguments_out_of_range_are_refused_before_anything_is_written(tmp_path, options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        download(NAME, tmp_path / "new", **options)
    assert not (tmp_path / "new").exists()


def test_a_full_disk_is_an_output_error_before_a_byte_is_written(fetch, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")(10**6, 10**6, 1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(OutputError, match=r"needs 0\.3 MiB more, and 0\.0 MiB are free"):
        fetch()
    assert (tmp_path / f"{NAME}.zip.part").stat().st_size == 0


def test_a_folder_that_cannot_be_made_is_an_output_error(tmp_path, remote):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="file"):
        download(NAME, tmp_path / "file", base_url=remote.url)


def test_the_proxy_of_the_environment_is_used(fetch, remote, monkeypatch):
    monkeypatch.setenv("http_proxy", remote.url.removesuffix("/files"))
    assert_landed(fetch(base_url="http://films.invalid/mirror/"))
    assert [path for path, _ in remote.asked] == [
        f"http://films.invalid/mirror{ZIP}.md5",
        f"http://films.invalid/mirror{ZIP}",
    ]


# --- processes ------------------------------------------------------------------------------------------------------

KILLED_HALF_WAY = """
import logging, os, signal, sys
from pathlib import Path
from sdk.data.download import download

class DieHalfWay(logging.Handler):
    def emit(self, record):
        if " 50 % " in record.getMessage():
            os.kill(os.getpid(), signal.SIGKILL)

logging.basicConfig(level=logging.INFO, handlers=[DieHalfWay()])
download(sys.argv[1], Path(sys.argv[2]), base_url=sys.argv[3], progress=False)
"""


def test_after_a_kill_half_way_only_the_missing_bytes_are_requested(fetch, remote, tmp_path):
    remote.body = make_zip(3, 8_000_000)
    command = [sys.executable, "-c", KILLED_HALF_WAY, NAME, str(tmp_path), remote.url]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL
    kept = (tmp_path / f"{NAME}.zip.part").stat().st_size
    assert len(remote.body) // 2 <= kept < len(remote.body)
    remote.sent = 0
    assert_landed(fetch(), remote.body)
    assert remote.ranges() == [None, f"bytes={kept}-"]
    assert remote.sent == len(remote.body) - kept


def test_two_downloads_at_once_fetch_it_once(fetch, remote, caplog):
    caplog.set_level(logging.INFO)
    gate = threading.Event()

    class OpenGate(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "waiting for it to end" in record.getMessage():
                gate.set()

    remote.script = [Answer(gate=gate)]
    handler, got = OpenGate(), []
    logging.getLogger("sdk.data.download").addHandler(handler)
    try:
        threads = [threading.Thread(target=lambda: got.append(fetch())) for _ in range(2)]
        threads[0].start()
        assert remote.started.wait(30)
        threads[1].start()
        for thread in threads:
            thread.join(30)
    finally:
        logging.getLogger("sdk.data.download").removeHandler(handler)
    assert len(got) == 2
    assert_landed(got[0])
    assert len(remote.zip_requests()) == 1


# --- progress and extraction ----------------------------------------------------------------------------------------


def test_without_a_terminal_a_line_is_logged_every_tenth(fetch, remote, caplog, capsys):
    remote.body = make_zip(3, 12_000_000)
    caplog.set_level(logging.INFO, "sdk.data.transfer")
    fetch()
    shares = [int(found[1]) for line in caplog.messages if (found := re.search(r": (\d+) % \(", line))]
    assert shares == sorted(set(shares))
    assert shares[-1] == 100
    assert 5 <= len(shares) <= 11
    assert capsys.readouterr() == ("", "")


def test_a_bar_is_drawn_on_stderr_when_asked_for(fetch, remote, caplog, capsys):
    caplog.set_level(logging.INFO, "sdk.data.transfer")
    remote.script = [Answer(cut_after=70_000)]
    fetch(progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert NAME in err
    assert "100%" in err
    assert "B/s" in err
    assert not re.search(r"\d+ % \(", caplog.text)


def test_extraction_gives_the_files_and_a_second_one_changes_nothing(fetch, tmp_path):
    fetch(extract=True)
    ratings = tmp_path / NAME / "ratings.csv"
    with zipfile.ZipFile(io.BytesIO(BODY)) as archive:
        assert ratings.read_bytes() == archive.read(f"{NAME}/ratings.csv")
    stamp = ratings.stat().st_mtime_ns
    fetch(extract=True)
    assert ratings.stat().st_mtime_ns == stamp
    assert {path.name for path in tmp_path.iterdir()} <= {NAME, f"{NAME}.zip", f"{NAME}.zip.lock"}


def test_extraction_never_overwrites_a_folder_that_differs(fetch, tmp_path):
    (tmp_path / NAME).mkdir()
    (tmp_path / NAME / "ratings.csv").write_text("mine")
    (tmp_path / NAME / "movies.csv").write_text("mine too")
    with pytest.raises(OutputError, match="move it away"):
        fetch(extract=True)
    assert (tmp_path / NAME / "ratings.csv").read_text() == "mine"
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("member", ["../evil.csv", "/evil.csv", "a/../../evil.csv"])
def test_a_member_that_leads_out_of_the_folder_is_refused(fetch, remote, tmp_path, member):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr(member, "x")
    remote.body = data.getvalue()
    with pytest.raises(DownloadError, match="outside the folder"):
        fetch(extract=True)
    assert not list(tmp_path.parent.glob("evil.csv"))


def test_published_bytes_that_are_no_zip_cannot_be_extracted(fetch, remote):
    remote.body = b"not a zip, yet as published"
    with pytest.raises(DownloadError, match="not a readable zip"):
        fetch(extract=True)


def test_the_list_of_data_sets_is_complete_and_consistent():
    assert set(DATASETS) == {
        f"ml-{size}" for size in ("100k", "1m", "10m", "20m", "25m", "32m", "latest-small", "latest")
    }
    for name, source in DATASETS.items():
        assert source.name == name
        assert source.url.endswith(f"/{name}.zip")
        assert source.md5_url == f"{source.url}.md5"
        assert 1 < source.size_bytes / source.num_ratings < 60  # a zipped rating takes some bytes
        assert source.num_items < source.num_ratings > source.num_users
    with pytest.raises(TypeError):
        DATASETS["new"] = DATASETS["ml-1m"]  # type: ignore[index]
