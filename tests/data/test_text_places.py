"""Places of texts beside those that a dictionary of Python's gives."""

import random

import numpy as np
import pyarrow as pa
import pytest

from sdk.data.text_places import TextPlaces

MOST = 1000
ALPHABETS = {"text": "ab\x00é日-", "digits": "01"}
SIZES = {"short": (0, 1, 2, 3), "around a word": (7, 8, 9), "UUIDs": (36,), "all": (0, 1, 8, 13, 36, 200)}


def drawn(alphabet: str, sizes: tuple[int, ...], count: int, seed: int) -> list[str]:
    draw = random.Random(seed)
    return ["".join(draw.choices(alphabet, k=draw.choice(sizes))) for _ in range(count)]


def places_by_hand(places: TextPlaces, batches: list[list[str]]) -> dict[str, int]:
    """Checks that all batches' texts have the same places throughout, and that what is called new is."""
    known: dict[str, int] = {}
    for batch in batches:
        found, new = places.of(pa.array(["", *batch], pa.string()).slice(1))
        for text in (one for part in new for one in part.to_pylist()):
            assert text not in known
            known[text] = len(known)
        assert found.dtype == np.int32
        assert found.tolist() == [known[text] for text in batch]
    return known


@pytest.mark.parametrize("alphabet", ALPHABETS)
@pytest.mark.parametrize("sizes", SIZES)
def test_a_text_has_one_place_and_a_place_one_text(alphabet, sizes):
    batches = [drawn(ALPHABETS[alphabet], SIZES[sizes], count, seed) for seed, count in enumerate((5, 40_000, 0, 9))]
    known = places_by_hand(TextPlaces(MOST), batches)
    assert known.keys() == {text for batch in batches for text in batch}


def test_the_table_grows():
    names = [f"u{number}" for number in range(300_000)]
    known = places_by_hand(TextPlaces(MOST), [names[:100_000], names[50_000:], names[::-1]])
    assert len(known) == len(names)


def test_texts_of_one_hash_stay_apart():
    places = TextPlaces(MOST, np.zeros(MOST // 8 + 2, np.uint64))
    known = places_by_hand(places, [["a", "b", "a\x00", "ab", "", "a", "a" * 8, "a" * 9], ["b", "a" * 16, "c"]])
    assert len(known) == 9


def test_one_long_text_does_not_lengthen_the_others():
    places = TextPlaces(MOST)
    places_by_hand(places, [["x" * MOST, "short"], drawn("ab", (12,), 4000, 1)])
    assert len(places._words) < 60_000
