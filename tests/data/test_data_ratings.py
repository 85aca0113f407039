"""Ratings that cannot be used: each is set aside with its line and reason, none is lost, too many stop the run."""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from data_files import RATINGS_CSV, csv_form, ratings_csv, write
from hypothesis import given, settings
from hypothesis import strategies as st

from sdk.base.config import DataConfig
from sdk.base.errors import TooManyRejectsError
from sdk.base.types import Dataset
from sdk.data import rating_lines as layout_module
from sdk.data.movielens import load, load_ratings
from sdk.data.validation import DUPLICATE_PAIR, EMPTY_LINE, NOT_UTF8, UNKNOWN_ITEM, sorted_order, superseded

LENIENT = DataConfig(max_reject_share=0.99)
GOOD = "7,1,4.0,100"
SCALE = "the rating is off the scale of 0.5 to 5 stars"


def rows(data: Dataset) -> list[tuple[int, int, float, int]]:
    i = data.interactions
    return list(zip(i.user_id.tolist(), i.item_id.tolist(), i.rating.tolist(), i.timestamp.tolist(), strict=True))


def rejects(data: Dataset) -> list[tuple[str, int, str, str]]:
    return [tuple(row.values()) for row in data.rejects.to_pylist()]  # type: ignore[misc]


FAULTS = [
    (",1,4.0,100", "the user id is missing"),
    ("NaN,1,4.0,100", "the user id is missing"),
    ("seven,1,4.0,100", "the user id is not a whole number"),
    ("7.5,1,4.0,100", "the user id is not a whole number"),
    ("0x7,1,4.0,100", "the user id is not a whole number"),
    ("٧,1,4.0,100", "the user id is not a whole number"),
    ("-7,1,4.0,100", "the user id is negative"),
    ("9223372036854775808,1,4.0,100", "the user id is too large"),
    ("9007199254740992.0,1,4.0,100", "the user id is too large for a float to be exact"),
    ("99999999999999999999,1,4.0,100", "the user id is too large"),
    ("7,,4.0,100", "the item id is missing"),
    ("7,-1,4.0,100", "the item id is negative"),
    ("7,1.5,4.0,100", "the item id is not a whole number"),
    ("7,3,4.0,100", UNKNOWN_ITEM),
    ("7,1,,100", "the rating is missing"),
    ("7,1,good,100", "the rating is not a number"),
    ("7,1,nan,100", "the rating is not a number"),
    ("7,1,4.0.0,100", "the rating is not a number"),
    ("7,1,1e999,100", SCALE),
    ("7,1,5.5,100", SCALE),
    ("7,1,0,100", SCALE),
    ("7,1,-4.0,100", SCALE),
    ("7,1,4.25,100", "the rating is not a whole or half star"),
    ("7,1,4.0,", "the timestamp is missing"),
    ("7,1,4.0,100.5", "the timestamp is not a whole number"),
    ("7,1,4.0,-100", "the timestamp is negative"),
    ("7,1,4.0,4102444800", "the timestamp is after the year 2100"),
    ("7,1,4.0", "too few fields: the line is cut short"),
    ("7,1,4.0,100,9", "too many fields"),
    ("", EMPTY_LINE),
    ('"7,1,4.0,100', "not valid CSV: unexpected end of data"),
]


@pytest.mark.parametrize(("line", "reason"), FAULTS)
def test_a_bad_line_is_set_aside_and_its_neighbours_stay(line: str, reason: str, tmp_path: Path) -> None:
    data = load(csv_form(tmp_path, ratings_csv(GOOD, line, "7,2,3.5,101")), config=LENIENT)
    assert rejects(data) == [("ratings.csv", 3, reason, line)]
    assert rows(data) == [(7, 1, 4.0, 100), (7, 2, 3.5, 101)]


DAT_FAULTS = [
    ("7::1::4::", "the timestamp is missing"),
    ("7::1::4", "too few fields: the line is cut short"),
    ("7::1::4::100::1", "too many fields"),
    ("7:1::4::100", "too few fields: the line is cut short"),
    ("7:9:1::4::100::", "the user id is not a whole number"),
    ("7::1::6::100", SCALE),
    ("7::9::5::100", UNKNOWN_ITEM),
    ("7:5:1:5:4:5:100", "too few fields: the line is cut short"),
]


@pytest.mark.parametrize(("line", "reason"), DAT_FAULTS)
def test_the_same_holds_for_dat_files(line: str, reason: str, tmp_path: Path) -> None:
    text = f"7::1::4::100\n{line}\n7::2::3::101\n"
    data = load(
        write(tmp_path, {"ratings.dat": text, "movies.dat": "1::A (1990)::Drama\n2::B::Drama\n"}), config=LENIENT
    )
    assert rejects(data) == [("ratings.dat", 2, reason, line)]
    assert rows(data) == [(7, 1, 4.0, 100), (7, 2, 3.0, 101)]


def test_bytes_that_are_not_utf8_are_set_aside(tmp_path: Path) -> None:
    text = ratings_csv(GOOD).encode() + b"7,2,\xff4.0,101\n"
    data = load(csv_form(tmp_path, text), config=LENIENT)
    assert rejects(data) == [("ratings.csv", 3, NOT_UTF8, "7,2,�4.0,101")]


def test_long_lines_are_shortened_to_200_characters(tmp_path: Path) -> None:
    data = load(csv_form(tmp_path, ratings_csv(GOOD, "x" * 1000)), config=LENIENT)
    assert data.rejects["text"].to_pylist() == ["x" * 200]


def test_the_scale_comes_from_the_configuration(tmp_path: Path) -> None:
    config = DataConfig(rating_min=1, rating_max=10, max_reject_share=0.99)
    data = load(csv_form(tmp_path, ratings_csv("7,1,10,1", "7,2,0.5,1")), config=config)
    assert rows(data) == [(7, 1, 10.0, 1)]
    assert rejects(data) == [("ratings.csv", 3, "the rating is off the scale of 1 to 10 stars", "7,2,0.5,1")]


def test_of_a_pair_rated_twice_the_latest_stands_and_of_equals_the_later_line(tmp_path: Path) -> None:
    lines = ["7,1,1.0,50", "bad", "7,1,2.0,99", "5,2,3.0,10", "7,1,3.0,60", "5,2,4.0,10", "5,1,5.0,1"]
    data = load(csv_form(tmp_path, ratings_csv(*lines)), config=LENIENT)
    assert rows(data) == [(7, 1, 2.0, 99), (5, 2, 4.0, 10), (5, 1, 5.0, 1)]
    assert [(line, reason, text) for _, line, reason, text in rejects(data)] == [
        (2, DUPLICATE_PAIR, "7,1,1.0,50"),
        (3, "too few fields: the line is cut short", "bad"),
        (5, DUPLICATE_PAIR, "5,2,3.0,10"),
        (6, DUPLICATE_PAIR, "7,1,3.0,60"),
    ]
    clean = load(csv_form(tmp_path / "clean", ratings_csv("5,1,5.0,1", "5,2,4.0,10", "7,1,2.0,99")))
    assert data.fingerprint == clean.fingerprint


def test_too_many_bad_rows_stop_the_run_with_the_commonest_reasons(tmp_path: Path) -> None:
    lines = [f"{user},1,4.0,1" for user in range(90)] + ["x,1,4.0,1"] * 6 + ["1,1,9,1"] * 4
    folder = csv_form(tmp_path, ratings_csv(*lines))
    expected = (
        rf"ratings\.csv: 10 of 100 rows are bad \(6 x the user id is not a whole number; 4 x {SCALE}\); at most 5.0%"
    )
    with pytest.raises(TooManyRejectsError, match=expected) as caught:
        load(folder)
    assert caught.value.exit_code == 3
    assert load(folder, config=DataConfig(max_reject_share=0.1)).rejects.num_rows == 10


@pytest.mark.parametrize("line", ["0,1,2.0,5", "1000,3,2.0,5"])
def test_duplicates_and_unknown_titles_count_as_bad_rows(line: str, tmp_path: Path) -> None:
    lines = [f"{user},1,4.0,1" for user in range(9)]
    with pytest.raises(TooManyRejectsError, match="1 of 10 rows are bad"):
        load(csv_form(tmp_path, ratings_csv(*lines, line)))


def test_empty_lines_inside_are_set_aside_and_those_at_the_end_are_not(tmp_path: Path) -> None:
    text = RATINGS_CSV.replace("7,2,", "\n  \n7,2,") + "\n\r\n\n"
    data = load(csv_form(tmp_path, text), config=LENIENT)
    assert [(line, reason) for _, line, reason, _ in rejects(data)] == [(3, EMPTY_LINE), (4, EMPTY_LINE)]
    assert len(data.interactions) == 3


def test_lines_are_numbered_rightly_across_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [f"{user},{item},3.0,{user}" for user in range(300) for item in (1, 2)]
    lines[7], lines[311], lines[599] = "broken", "4,9,3.0,1", "7,1,3.5,9"  # the last one supersedes line 16
    folder = csv_form(tmp_path, ratings_csv(*lines))
    whole = load(folder)
    monkeypatch.setattr(layout_module, "BLOCK_BYTES", 64)
    blocks = load(folder)
    assert [line for _, line, _, _ in rejects(blocks)] == [9, 16, 313]
    assert rejects(blocks) == rejects(whole)
    assert blocks.fingerprint == whole.fingerprint
    np.testing.assert_array_equal(blocks.interactions.user_id, whole.interactions.user_id)


PAIRS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=40)


@given(PAIRS, st.sampled_from([0, 2**40, 10**18 - 8]))
def test_superseded_rows_match_the_slow_obvious_version(pairs: list[tuple[int, int, int]], offset: int) -> None:
    user, item, time = np.array(pairs, dtype=np.int64).T
    got = superseded(user + offset, item + offset // 3, time, sorted_order(user + offset, item + offset // 3))
    best: dict[tuple[int, int], int] = {}
    for row, (u, i, t) in enumerate(pairs):
        if (u, i) not in best or t >= pairs[best[u, i]][2]:
            best[u, i] = row
    lost = sorted(set(range(len(pairs))) - set(best.values()))
    assert ([] if got is None else np.flatnonzero(got).tolist()) == lost


def clean_lines(count: int) -> list[bytes]:
    return [b"%d,%d,%d.5,%d" % (row // 2, row % 2 + 1, row % 5, row) for row in range(count)]


BYTES = st.sampled_from([b"", b",", b"x", b"-", b"\xff", b'"', b" ", b"9", b".", b"\r", b"\x00", b"::", b"NaN", b"0x1"])
DAMAGE = st.lists(st.tuples(st.integers(0, 11), st.integers(0, 12), st.integers(0, 3), BYTES), max_size=8)


@settings(deadline=None, max_examples=150)
@given(DAMAGE, st.sampled_from([b"\n", b"\r\n"]), st.sampled_from([24, 1 << 20]))
def test_no_damage_loses_a_line_silently(
    damage: list[tuple[int, int, int, bytes]], line_end: bytes, block_bytes: int
) -> None:
    lines = [*clean_lines(12), b"99,1,3.0,1"]  # the last line stays sound, so no empty line ends the file
    for row, at, cut, put in damage:
        lines[row] = lines[row][:at] + put + lines[row][at + cut :]
    text = b"userId,movieId,rating,timestamp\n" + line_end.join(lines) + line_end
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout_module, "BLOCK_BYTES", block_bytes)
        data = load(csv_form(Path(folder), text), config=LENIENT)
    found = {line: (reason, text) for _, line, reason, text in rejects(data)}
    assert len(data.interactions) + len(found) == data.rejects.num_rows + len(data.interactions) == len(lines)
    untouched = set(range(len(lines))) - {row for row, *_ in damage}
    for row in untouched:  # a sound line gives way only to a damaged one that became its duplicate
        user, item, rating, time = (float(value) for value in lines[row].split(b","))
        assert (user, item, rating, time) in rows(data) or found[row + 2][0] == DUPLICATE_PAIR
    for line, (_, shown) in found.items():
        physical = lines[line - 2] + line_end
        assert shown == physical.removesuffix(b"\n").removesuffix(b"\r").decode("utf-8", "replace")


def test_the_bar_shows_no_control_character_of_a_files_name(tmp_path, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    file = tmp_path / "ra\u202etings.csv"  # a path with an escape sequence is refused
    file.write_text("userId,movieId,rating,timestamp\n1,1,4.0,100\n")
    monkeypatch.setattr("sys.stderr", Terminal())
    load_ratings(file)
    shown = sys.stderr.getvalue()
    assert "tings.csv" in shown
    assert "\u202e" not in shown
