"""What the environment and a command line hold in confidence is in nothing that a night writes or says."""

from __future__ import annotations

import base64
import logging
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from batch.score import main
from sdk.base.errors import UsageError
from sdk.base.paths import as_location

SECRET = "canary-4f1d8c20b7"
NAMES = ("AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "AWS_SESSION_TOKEN", "AZURE_STORAGE_KEY", "DB_PASSWORD",
         "GOOGLE_APPLICATION_CREDENTIALS", "MARQUEE_TOKEN")  # fmt: skip
SPELLINGS = {
    SECRET.encode(),
    SECRET.upper().encode(),
    base64.b64encode(SECRET.encode()),
    SECRET.encode().hex().encode(),
}


@pytest.fixture(autouse=True)
def secrets_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.setenv(name, SECRET)


@pytest.fixture
def memory() -> Iterator[str]:
    store = fsspec.filesystem("memory")
    store.mkdirs("/fuzz-secrets", exist_ok=True)
    yield "memory://fuzz-secrets/nights"
    store.rm("/fuzz-secrets", recursive=True)


def everything_said(folder: Path, *texts: str) -> dict[str, bytes]:
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return {**files, **{f"text {n}": text.encode() for n, text in enumerate(texts)}}


def leaks(said: dict[str, bytes]) -> list[str]:
    return [name for name, data in said.items() if any(spelling in data for spelling in SPELLINGS)]


@pytest.mark.parametrize("store", ["local", "memory"])
@pytest.mark.parametrize("outcome", ["published", "refused"])
def test_a_nights_files_logs_report_and_figures_hold_no_secret_of_the_environment(
    store: str, outcome: str, bundle_path: Path, tmp_path: Path, memory: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "out") if store == "local" else memory
    (tmp_path / "gates.json").write_text('{"min_coverage": 1.0}' if outcome == "refused" else "{}")
    code = main(["--bundle", str(bundle_path), "--out", out, "--run-date", "2026-11-23", "--json",
                 "--log-format", "json", "-v", "--gates", str(tmp_path / "gates.json"), "--metrics-file",
                 str(tmp_path / "marquee.prom"), "--k", "3"])  # fmt: skip
    assert code == (6 if outcome == "refused" else 0)
    fsspec.filesystem("memory").touch("/fuzz-secrets/nights/x")
    written = {
        name: fsspec.filesystem("memory").cat(name) for name in fsspec.filesystem("memory").find("/fuzz-secrets")
    }
    printed = capsys.readouterr()
    said = {**everything_said(tmp_path, printed.out, printed.err), **written}
    assert len(said) > (8 if store == "local" else 5)
    assert any(name.endswith("manifest.json") for name in said) == (outcome == "published")
    assert leaks(said) == []
    assert leaks({"probe": f"x{SECRET}y".encode()}) == ["probe"]


URLS = (
    f"s3://key:{SECRET}@bucket/nights",
    f"s3://{SECRET}@bucket/nights",
    f"https://host/x?token={SECRET}",
    f"abfs://box@account/x?sig={SECRET}",
    f"gs://user:{SECRET}@bucket",
    f"s3://bucket/x?X-Amz-Signature={SECRET}",
)


@pytest.mark.parametrize("url", URLS)
def test_a_url_with_a_secret_is_refused_without_repeating_it(
    url: str, bundle_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(UsageError) as caught:
        as_location(url)
    assert SECRET not in str(caught.value)
    assert "environment" in str(caught.value)
    with pytest.raises(SystemExit) as stopped:
        main(["--bundle", str(bundle_path), "--out", url, "--run-date", "2026-11-23"])
    assert stopped.value.code == 2
    printed = capsys.readouterr()
    assert SECRET not in printed.out + printed.err + caplog.text
