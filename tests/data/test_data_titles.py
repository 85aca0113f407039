from __future__ import annotations

import pytest

from sdk.data.titles import clean_genres, split_title


@pytest.mark.parametrize(
    ("raw", "title", "year"),
    [
        ("Toy Story (1995)", "Toy Story", 1995),
        ("Superman/Doomsday (2007) ", "Superman/Doomsday", 2007),
        ("Matrix, The (1999)", "The Matrix", 1999),
        ("Beautiful Mind, A (2001)", "A Beautiful Mind", 2001),
        ("American Werewolf in London, An (1981)", "An American Werewolf in London", 1981),
        ("Misérables, Les (1998)", "Les Misérables", 1998),
        ("Atalante, L' (1934)", "L'Atalante", 1934),
        ("Boot, Das (Boat, The) (1981)", "Das Boot (The Boat)", 1981),
        ("City of Lost Children, The (Cité des enfants perdus, La) (1995)",
         "The City of Lost Children (La Cité des enfants perdus)", 1995),
        ("Crazies, The (a.k.a. Code Name: Trixie) (1973)", "The Crazies (a.k.a. Code Name: Trixie)", 1973),
        ("City of the Living Dead (a.k.a. Gates of Hell, The) (1980)",
         "City of the Living Dead (a.k.a. Gates of Hell, The)", 1980),
        ("Good, the Bad and the Ugly, The (1966)", "The Good, the Bad and the Ugly", 1966),
        ("Monsters, Inc. (2001)", "Monsters, Inc.", 2001),
        ("I Love You, Man (2009)", "I Love You, Man", 2009),
        ("Death Note: Desu nôto (2006–2007)", "Death Note: Desu nôto", 2006),
        ("Fawlty Towers (1975-)", "Fawlty Towers", 1975),
        ("Babylon 5", "Babylon 5", None),
        ("1984 (1984)", "1984", 1984),
        ("Blade Runner (2049) Redux", "Blade Runner (2049) Redux", None),
        ("(1995)", "(1995)", None),
        ("  ", "", None),
    ],
)  # fmt: skip
def test_title_and_year_are_what_people_would_write(raw: str, title: str, year: int | None) -> None:
    assert split_title(raw) == (title, year)


def test_genres_are_sorted_each_once_and_none_where_none_are_listed() -> None:
    assert clean_genres(["Sci-Fi", "Children's", "Action", "Children"]) == ["Action", "Children", "Sci-Fi"]
    assert clean_genres(["(no genres listed)"]) == clean_genres(["unknown"]) == clean_genres([""]) == []
