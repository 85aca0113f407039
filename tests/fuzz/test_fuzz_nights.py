"""Corrupted outputs: what was published is refused or still right; what was unfinished is mended to the same bytes."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from corruptions import Rng, corrupt_bytes, corrupt_json, json_bytes
from harness import Fuzz

import batch.run.night
from batch.job.job import Job
from batch.report import rebuild
from batch.run.night import dry_run, run
from batch.store.nights import rollback, verify
from sdk.base.files import digest_of

FIRST, SECOND = "2026-11-22", "2026-11-23"


class Crash(BaseException):
    """As if the process had been killed."""


def job(bundle: Path, out: Path, date: str, **options: Any) -> Job:
    settings: dict[str, Any] = {"k": 5, "users_per_part": 25, "threads": 1, "audience": 3}
    return Job(bundle=bundle, out=out, run_date=date, **(settings | options))


def tree(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def restore(folder: Path, files: dict[str, bytes]) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


@pytest.fixture(scope="module", autouse=True)
def no_flushing() -> Iterator[None]:
    """No power fails here, and a flush to the disk for each of so many small files takes most of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


@pytest.fixture(scope="module")
def published(bundle_path: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Two undisturbed nights."""
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    for date in (FIRST, SECOND):
        run(job(bundle_path, out, date))
    return {name: data for name, data in tree(out).items() if name != ".lock"}


@pytest.fixture(scope="module")
def unfinished(bundle_path: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """One published night, and one whose parts are all staged and recorded."""
    out = tmp_path_factory.mktemp("unfinished") / "out"
    run(job(bundle_path, out, FIRST))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batch.run.night, "publish", raise_crash)
        with pytest.raises(Crash):
            run(job(bundle_path, out, SECOND))
    return {name: data for name, data in tree(out).items() if name != ".lock"}


def raise_crash(*_: object) -> None:
    raise Crash


def nights_of(files: dict[str, bytes]) -> dict[str, bytes]:
    return {name: data for name, data in files.items() if name.startswith("run_date=")}


def damaged(rng: Rng, name: str, data: bytes) -> tuple[str, bytes | None]:
    """A file's damaged bytes; None where it goes."""
    if rng.random() < 0.1:
        return f"{name}: gone", None
    if name.endswith(".json") and rng.random() < 0.6:
        words, value = corrupt_json(rng, json.loads(data))
        return f"{name}: {words}", json_bytes(value)
    words, changed = corrupt_bytes(rng, data)
    return f"{name}: {words}", changed


def put(out: Path, name: str, data: bytes | None) -> None:
    if data is None:
        (out / name).unlink()
    else:
        (out / name).write_bytes(data)


def test_an_unfinished_night_with_a_damaged_file_is_finished_to_the_bytes_of_an_undisturbed_one(
    bundle_path: Path, unfinished: dict[str, bytes], published: dict[str, bytes], tmp_path: Path
) -> None:
    fuzz, out = Fuzz("journal and staged parts"), tmp_path / "out"
    names = sorted(name for name in unfinished if name.startswith((".staging", ".journal")))
    for seed, rng in fuzz.cases(0.02):
        restore(out, unfinished)
        name = names[seed % len(names)]
        words, data = damaged(rng, name, unfinished[name])
        put(out, name, data)

        def finish() -> None:
            assert run(job(bundle_path, out, SECOND)).status == "published"
            assert nights_of(tree(out)) == nights_of(published), "other bytes than an undisturbed night's"
            assert not [p.name for p in out.iterdir() if p.name.startswith((".staging", ".journal", ".publishing"))]

        assert fuzz.run(seed, words, finish) == "correct output" or fuzz.failures, f"seed {seed}: {words}: not mended"


def test_a_damaged_file_of_a_published_night_is_refused_or_changes_nothing(
    bundle_path: Path, published: dict[str, bytes], tmp_path: Path
) -> None:
    fuzz, out = Fuzz("published nights"), tmp_path / "out"
    restore(out, published)
    names = [*sorted(name for name in published if SECOND in name and "reports" not in name), "LATEST"]

    def whole(date: str) -> None:
        verify(out, date)
        night = {name: data for name, data in nights_of(tree(out)).items() if date in name}
        expected = {name: data for name, data in nights_of(published).items() if date in name}
        manifest, marker = f"run_date={date}/manifest.json", f"run_date={date}/_SUCCESS"
        night[marker] = expected[marker]  # that it is there is all that it says
        assert json.loads(night.pop(manifest)) == json.loads(expected.pop(manifest))
        assert night == expected, "verified, though its bytes are others"

    def use() -> None:
        assert run(job(bundle_path, out, SECOND)).status == "already published"
        dry_run(job(bundle_path, out, "2026-11-24"))
        whole(SECOND)
        rebuild(bundle_path, out, SECOND)

    for seed, rng in fuzz.cases(0.02):
        name = names[seed % len(names)]
        words, data = damaged(rng, name, published[name])
        put(out, name, data)
        outcome = fuzz.run(seed, words, use, 5)
        part = name.startswith("run_date=") and name.endswith((".parquet", "_SUCCESS"))
        if part and data is None and outcome == "correct output":
            fuzz.fail(seed, words, "a night without this file passed for whole")
        if seed % 10 == 0:
            fuzz.run(seed, f"{words}, rolled back", lambda: rollback(out), 5)
        put(out, name, published[name])
        put(out, "LATEST", published["LATEST"])


def test_a_manifest_sealed_anew_gives_an_error_or_a_night_held_to_it(
    bundle_path: Path, published: dict[str, bytes], tmp_path: Path
) -> None:
    fuzz, out = Fuzz("manifest, resealed"), tmp_path / "out"
    original = json.loads(published[f"run_date={FIRST}/manifest.json"])
    for seed, rng in fuzz.cases(0.006):
        restore(out, {name: data for name, data in published.items() if SECOND not in name})
        words, manifest = corrupt_json(rng, original)
        manifest = {name: value for name, value in manifest.items() if name != "checksum"}
        put(out, f"run_date={FIRST}/manifest.json", json_bytes({**manifest, "checksum": digest_of(manifest)}))
        works: list[Callable[[], object]] = [
            lambda: rebuild(bundle_path, out, FIRST),
            lambda: run(job(bundle_path, out, FIRST)),
            lambda: verify(out, FIRST),
        ]
        for work in works:
            fuzz.run(seed, words, work, 5)

        def next_night() -> None:
            run(job(bundle_path, out, SECOND))
            lists = {n: d for n, d in nights_of(tree(out)).items() if SECOND in n and n.endswith("parquet")}
            assert lists == {n: d for n, d in nights_of(published).items() if SECOND in n and n.endswith("parquet")}

        fuzz.run(seed, f"{words}, the next night", next_night, 5, 6)


def test_forcing_a_damaged_night_gives_the_bytes_of_an_undisturbed_one(
    bundle_path: Path, published: dict[str, bytes], tmp_path: Path
) -> None:
    fuzz, out = Fuzz("published, then forced"), tmp_path / "out"
    names = [*sorted(name for name in published if SECOND in name and "reports" not in name), "LATEST"]
    for seed, rng in fuzz.cases(0.005):
        restore(out, published)
        name = names[int(rng.integers(0, len(names)))]
        words, data = damaged(rng, name, published[name])
        put(out, name, data)

        def again() -> None:
            run(job(bundle_path, out, SECOND, force=True))
            assert nights_of(tree(out)) == nights_of(published)

        assert fuzz.run(seed, words, again, 5) == "correct output" or fuzz.failures
