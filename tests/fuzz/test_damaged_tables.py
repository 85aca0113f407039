"""Tables that are damaged anywhere are read with every row accounted for, or refused in words of ours."""

from __future__ import annotations

import gzip
import io
import json

import hypothesis.strategies as st
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings

from sdk.base.config import DataConfig
from sdk.base.errors import MarqueeError
from sdk.data.events import read_interactions

ROWS = pa.table(
    {
        "user_id": ["00417", "b7", "Ünsal", "00417", "x"] * 4,
        "item_id": [f"s{n % 7}" for n in range(20)],
        "event": ["view", "buy"] * 10,
        "weight": [1.0, 0.5, 2.5, 3.0] * 5,
        "timestamp": ["2020-01-01 10:00:00"] * 20,
    }
)
LENIENT = DataConfig(max_reject_share=0.9)


def _bytes(form: str) -> bytes:
    sink = io.BytesIO()
    if form == "parquet":
        pq.write_table(ROWS, sink)
    elif form == "feather":
        feather.write_feather(ROWS, sink, compression="uncompressed")
    elif form == "jsonl":
        return "\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS.to_pylist()).encode()
    else:
        ROWS.to_pandas().to_csv(sink, index=False)
    return gzip.compress(sink.getvalue(), mtime=0) if form == "csv.gz" else sink.getvalue()


SOUND = {form: _bytes(form) for form in ("csv", "csv.gz", "jsonl", "parquet", "feather")}
CHUNKS = st.one_of(
    st.binary(max_size=4), st.sampled_from([b'"', b"\n", b",", b"\t", b"\x00", b"\xff", b"\xef\xbb\xbf", b'""', b"\r"])
)
DAMAGE = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 30), CHUNKS), min_size=1, max_size=4)


def damaged(data: bytes, damage: list[tuple[float, int, bytes]]) -> bytes:
    for place, gone, instead in damage:
        at = int(place * len(data))
        data = data[:at] + instead + data[at + gone :]
    return data


@pytest.mark.parametrize("form", SOUND)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(damage=DAMAGE)
def test_damage_is_accounted_for_or_refused(tmp_path, form, damage):
    path = tmp_path / f"plays.{form}"
    path.write_bytes(damaged(SOUND[form], damage))
    try:
        loaded = read_interactions(str(path), events={"view": 1, "buy": 2}, config=LENIENT)
    except MarqueeError:
        return
    counts = loaded.counts
    parts = [counts[name] for name in ("kept", "merged", "rejected", "other_events", "later")]
    assert counts["rows"] == sum(parts)
    assert len(loaded.interactions) == counts["kept"] > 0
    assert loaded.rejects.num_rows == counts["rejected"]
    assert loaded.rejects["line"].to_pylist() == sorted(loaded.rejects["line"].to_pylist())
