"""Downloads over a bad line or from a server that changes, lies or dies: every fault, and its repair."""

from __future__ import annotations

import hashlib
import logging
import os
import signal
import subprocess
import sys
import threading

import http_remote
import pytest
from http_remote import BODY, NAME, OTHER, ROOT, Answer, Remote, assert_landed, make_zip, serving

from sdk.base.errors import DownloadError

remote, pauses, fetch = http_remote.remote, http_remote.pauses, http_remote.fetch


# --- broken connections ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reset", [False, True])
def test_a_connection_cut_several_times_is_resumed_each_time(fetch, remote, pauses, reset):
    remote.script = [Answer(cut_after=n, reset=reset) for n in (50_000, 60_000, 1, 70_000, 10_000)]
    assert_landed(fetch(retries=5 if reset else 2))
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
    path = fetch(timeout_s=1.0)
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
    logging.getLogger("sdk.base.files").addHandler(handler)
    try:
        threads = [threading.Thread(target=lambda: got.append(fetch())) for _ in range(2)]
        threads[0].start()
        assert remote.started.wait(30)
        threads[1].start()
        for thread in threads:
            thread.join(30)
    finally:
        logging.getLogger("sdk.base.files").removeHandler(handler)
    assert len(got) == 2
    assert_landed(got[0])
    assert len(remote.zip_requests()) == 1
