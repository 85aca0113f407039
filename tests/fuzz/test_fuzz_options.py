"""Corrupted files that options name: newer ratings, ids, gates, training configurations."""

from __future__ import annotations

import csv
import dataclasses
import gzip
import io
import re
from collections.abc import Callable
from decimal import Decimal
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from corruptions import corrupt_bytes, corrupt_json, json_bytes
from harness import Fuzz
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batch.gates.thresholds import GateConfig
from batch.gates.thresholds import read_config as read_gates
from batch.job.id_files import read_ids
from batch.job.inputs import open_job
from batch.job.job import Job
from sdk.base.config import RunConfig, to_json
from sdk.base.errors import MarqueeError, UsageError
from sdk.commands.datasets import read_config

RATINGS = "userId,movieId,rating,timestamp\n" + "".join(
    f"{user},{item},{stars},{1_100_000_000 + user}\n" for user, item, stars in
    [(1, 2, 4.0), (1, 60, 5.0), (2, 3, 0.5), (77, 5, 3.5), (77, 6, 4.5), (78, 1, 2.0), (40, 1, 1.0), (40, 2, 3.0)]
)  # fmt: skip


def slow_ids(data: bytes, columns: tuple[str, ...]) -> set[tuple[int, ...]]:
    """The ids of a text file, read line by line; anything unexpected is an error."""
    if data.startswith(b"\x1f\x8b"):
        data = gzip.decompress(data)
    lines = [line for line in data.decode("utf-8-sig").splitlines() if line.strip()]
    rows = list(csv.reader(io.StringIO("\n".join(lines))))
    if lines and re.match(r"[^0-9]*[A-Za-z_]", lines[0].strip()):
        spelt = [re.sub(r"[^a-z]", "", name.lower()).replace("movie", "item").removesuffix("id") for name in rows[0]]
        places = [[name.strip() for name in rows[0]].index(name) if name in rows[0] else spelt.index(name[:4])
                  for name in columns]  # fmt: skip
        return {tuple(slow_id(row[place]) for place in places) for row in rows[1:]}
    return {tuple(map(slow_id, row)) for row in rows}


def slow_id(text: str) -> int:
    """A number of a file; anything but an id is an error."""
    number = Decimal(text.strip())
    assert number == int(number)
    assert 0 <= number < (2**63 if re.fullmatch("[+-]?[0-9]+", text.strip()) else 2**53)
    return int(number)


def test_damaged_id_files_are_refused_or_read_as_a_slow_reader_does(tmp_path: Path) -> None:
    fuzz = Fuzz("id files")
    pairs = [(user, item) for user in range(1, 12) for item in range(1, 4)]
    texts = {
        ("user_id",): ["".join(f"{u}\n" for u in range(1, 30)), "user_id\n1\n2\n33\n", "name,user_id\nx,1\ny,2\n"],
        ("user_id", "item_id"): ["".join(f"{u},{i}\n" for u, i in pairs), "item_id,user_id\n1,2\n3,4\n"],
    }
    for seed, rng in fuzz.cases(0.08):
        columns = list(texts)[seed % 2]
        text = texts[columns][int(rng.integers(0, len(texts[columns])))]
        words, data = corrupt_bytes(rng, text.encode())
        path = tmp_path / "ids.txt"
        path.write_bytes(data)
        fuzz.run(seed, f"{columns}: {words}", partial(check_ids, path, columns), 3)


def check_ids(path: Path, columns: tuple[str, ...]) -> None:
    found = read_ids(path, *columns, may_be_empty=True)
    rows = list(zip(*(column.tolist() for column in found.columns), strict=True))
    assert rows == sorted(slow_ids(path.read_bytes(), columns)), "other ids than those that a slow reader finds"


def test_damaged_parquet_id_files_are_refused_or_name_whole_numbers(tmp_path: Path) -> None:
    fuzz, path = Fuzz("id files, parquet"), tmp_path / "ids.parquet"
    pq.write_table(pa.table({"user_id": np.arange(50), "item_id": np.arange(50) % 7}), path)
    original = path.read_bytes()
    for seed, rng in fuzz.cases(0.03):
        words, data = corrupt_bytes(rng, original)
        path.write_bytes(data)

        def read() -> None:
            for column in read_ids(path, "user_id", "item_id").columns:
                assert column.dtype == np.int64

        fuzz.run(seed, words, read, 3)


def test_damaged_newer_ratings_and_lists_are_refused_or_make_a_job_that_opens(
    bundle_path: Path, tmp_path: Path
) -> None:
    fuzz = Fuzz("--ratings, --block, --deny")
    files = {"ratings": RATINGS, "block": "1,2\n2,3\n999,4\n", "deny": "1\n2\n3\n", "users": "1\n2\n40\n"}
    for seed, rng in fuzz.cases(0.06):
        option = sorted(files)[seed % len(files)]
        words, data = corrupt_bytes(rng, files[option].encode())
        path = tmp_path / ("ratings.csv" if option == "ratings" else "ids.csv")
        path.write_bytes(data)
        job = Job(bundle=bundle_path, out=tmp_path / "out", run_date="2026-11-23", k=5, **{option: path})

        fuzz.run(seed, f"{option}: {words}", partial(check_job, job), 2, 3)


def check_job(job: Job) -> None:
    """A list for whoever is asked for, without what was rated."""
    opened = open_job(job)
    bundle, asked = opened.bundle, opened.asked
    rows = bundle.encoded_users.index_of(asked.users)
    barred = asked.barred(bundle.interactions.seen(len(bundle.encoded_users))).take(rows)
    found = bundle.recommender().recommend(rows, barred, 5, asked.allowed)
    rated = bundle.interactions.rows
    for b, row in enumerate(rows.tolist()):
        listed = set(bundle.encoded_items.index_of(found.row(b)[0]).tolist())
        assert not listed & set(rated.item_index[rated.user_index == row].tolist()), "lists a seen title"


def test_damaged_gates_are_refused_or_are_gates(tmp_path: Path) -> None:
    fuzz, path = Fuzz("gates.json"), tmp_path / "gates.json"
    original = dataclasses.asdict(GateConfig())
    for seed, rng in fuzz.cases(0.06):
        words, value = corrupt_json(rng, original)
        path.write_bytes(json_bytes(value) if rng.random() < 0.8 else corrupt_bytes(rng, json_bytes(value))[1])

        def read() -> None:
            for name, threshold in dataclasses.asdict(read_gates(path)).items():
                assert 0 <= threshold < np.inf, name

        fuzz.run(seed, words, read, 2)


def test_damaged_training_configurations_are_refused_or_are_configurations(tmp_path: Path) -> None:
    fuzz, path = Fuzz("train --config"), tmp_path / "config.json"
    original = to_json(RunConfig())
    for seed, rng in fuzz.cases(0.08):
        words, value = corrupt_json(rng, original)
        path.write_bytes(json_bytes(value) if rng.random() < 0.8 else corrupt_bytes(rng, json_bytes(value))[1])

        def read() -> None:
            config = read_config(path)
            assert {k: type(v) for k, v in to_json(config).items()} == {k: type(v) for k, v in original.items()}
            hash_free = to_json(config)
            assert hash_free == to_json(read_config(path))

        fuzz.run(seed, words, read, 2)


@pytest.mark.parametrize("read", [read_config, read_gates])
@pytest.mark.parametrize("text", [b"[" * 200_000, b'{"a":' * 200_000, b"\xff\xfe", b"1" * 5000, b""])
def test_settings_that_are_nested_without_end_or_are_no_text_are_refused(read: Callable[[Path], object], text: bytes,
                                                                         tmp_path: Path) -> None:  # fmt: skip
    (tmp_path / "settings.json").write_bytes(text)
    with pytest.raises(UsageError):
        read(tmp_path / "settings.json")


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
_SECTIONS = sorted(to_json(RunConfig()))
_FIELDS = sorted({name for part in to_json(RunConfig()).values() if isinstance(part, dict) for name in part})


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(st.sampled_from(_SECTIONS), _JSON | st.dictionaries(st.sampled_from(_FIELDS), _JSON, max_size=2))
)
def test_any_json_as_a_configuration_is_refused_or_read(tmp_path: Path, value: dict[str, object]) -> None:
    (tmp_path / "config.json").write_bytes(json_bytes(value))
    try:
        config = read_config(tmp_path / "config.json")
    except MarqueeError as error:
        assert error.exit_code == 2  # noqa: PT017
    else:
        assert isinstance(config, RunConfig)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200) | st.text(alphabet="0123456789,\n\r user_id\"'-", max_size=60).map(str.encode))
def test_any_bytes_as_ids_are_refused_or_read_as_a_slow_reader_does(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "ids.txt"
    path.write_bytes(data)
    try:
        found = read_ids(path, "user_id", may_be_empty=True)
    except MarqueeError as error:
        assert error.exit_code == 3  # noqa: PT017
    else:
        assert [(one,) for one in found.ids.tolist()] == sorted(slow_ids(data, ("user_id",)))
