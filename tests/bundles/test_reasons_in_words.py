"""What a reason says first, and which title a name is taken for."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from small import item_table

from sdk.base.description import Description
from sdk.base.errors import UsageError
from sdk.bundles.answers import Because, Explanation
from sdk.commands.naming import item_named
from sdk.commands.recommend import score_lines
from sdk.models.content.title_search import TitleIndex


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        ({"liked": 0.3, "watched": -0.1, "popularity": 0.1, "ranker": 0.15}, "liked Heat"),
        ({"liked": 0.3, "watched": -0.1, "popularity": 0.3, "ranker": 0.2}, "liked by many; liked Heat"),
        ({"liked": 0.3, "watched": -0.1, "popularity": 0.1, "ranker": 0.3}, "ranked high by the ranker; liked Heat"),
    ],
)
def test_what_outweighs_the_history_is_said_first(parts, says):
    heat = Because(1, "Heat", None, True, parts["liked"], None)
    why = Explanation(2, "Ronin", "ncf", sum(parts.values()), itself=0.0, because=(heat,), note="", **parts)
    assert why.describe() == says


def test_of_several_titles_of_a_name_the_first_is_taken_and_the_others_are_named(caplog):
    films = item_table([5, 8, 9], title=["Hamlet", "Hamlet", "Heat"], year=[1948, 1990, 1995])
    names = TitleIndex(films)
    ids = SimpleNamespace(ids=films["item_id"].to_numpy())
    bundle = SimpleNamespace(
        find_title=names.find, titles=names.display, path="bundle", about=Description(),
        encoded_items=ids,
    )  # fmt: skip
    with caplog.at_level("INFO", logger="sdk"):
        assert item_named(bundle, "hamlet") == 5
        assert item_named(bundle, "Hamlet (1990)") == 8
    assert [record.getMessage() for record in caplog.records] == [
        "'hamlet': taken as Hamlet (1948); there is Hamlet (1990), too"
    ]
    with pytest.raises(UsageError, match="no title like 'zzzzqqq' in bundle"):
        item_named(bundle, "zzzzqqq")


@pytest.mark.parametrize("liked", [True, False])
def test_the_lines_of_a_score_add_up_to_it_whatever_titles_are_named(liked):
    named = (Because(1, "Heat", 4.0, liked, 0.25, None), Because(3, "Thief", 4.0, liked, 0.125, None))
    parts = {"liked": 0.5, "watched": 0.4375, "itself": 0.0625, "popularity": 0.03125, "ranker": -0.25}
    why = Explanation(2, "Ronin", "dlrm", sum(parts.values()), because=named, note="", **parts)
    lines = list(score_lines(why))
    assert sum(float(line.split()[0]) for line in lines) == pytest.approx(why.score, abs=4e-4)
    assert [line.split("  ")[1] for line in lines[:2]] == [
        f"{'liked' if liked else 'watched'} {t}" for t in ("Heat", "Thief")
    ]
