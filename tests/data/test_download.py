"""Downloads against a real HTTP server on the loopback: what lands, what is refused, what the user is told."""

from __future__ import annotations

import io
import logging
import re
import shutil
import zipfile
from collections import namedtuple

import http_remote
import pytest
from http_remote import BODY, NAME, OTHER, ZIP, Answer, assert_landed, closed_port, make_zip

from sdk.base.errors import ConfigError, DownloadError, OutputError, UnusableFileError, UsageError
from sdk.data.download import DATASETS, download
from sdk.data.transfer import Link, Part, fetch_file

remote, pauses, fetch = http_remote.remote, http_remote.pauses, http_remote.fetch


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


# --- refusals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [404, 403, 410, 501])
def test_a_refusal_is_final_and_one_line(fetch, remote, pauses, status):
    remote.script = [Answer(status=status)]
    with pytest.raises(DownloadError, match=rf"{ZIP}: the server answered {status} .*by hand from .*--movielens"):
        fetch()
    assert pauses == []


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
    with pytest.raises(UnusableFileError, match="points outside the archive"):
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
    for name, size_bytes in DATASETS.items():
        ratings = {"ml-latest-small": 100_836, "ml-latest": 33_832_162}.get(name)
        ratings = ratings or int(name[3:-1]) * {"k": 1_000, "m": 1_000_000}[name[-1]]
        assert 1 < size_bytes / ratings < 60  # a zipped rating takes some bytes
    with pytest.raises(TypeError):
        DATASETS["new"] = DATASETS["ml-1m"]  # type: ignore[index]


def test_the_bar_and_the_lines_show_no_control_character_of_a_files_name(remote, tmp_path, caplog, capsys):
    caplog.set_level(logging.INFO, "sdk.data.transfer")
    for shown in (True, False):
        part = Part(f"{remote.url}/{ZIP}", tmp_path / f"\x1b[2J\u202eset{shown}.part", 10)
        fetch_file(Link(remedy="none"), part, progress=shown)
    told = capsys.readouterr().err + caplog.text
    assert "[2J" in told
    assert "\x1b[2J" not in told
    assert "\u202e" not in told
