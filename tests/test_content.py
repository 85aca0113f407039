"""The content model, against a slow obvious version of the same cosine and against answers a person can check."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from sdk import schema
from sdk.models.content import ContentModel


def film(
    item_id: int, title: str, year: int | None = None, overview: str = "", **lists: list[str]
) -> dict[str, object]:
    empty = {f.name: [] for f in schema.ITEMS if pa.types.is_list(f.type)}
    return {"item_id": item_id, "title": title, "year": year, "tmdb_id": None, "overview": overview, **empty, **lists}


def catalogue(*films: dict[str, object]) -> pa.Table:
    return pa.Table.from_pylist(list(films), schema=schema.ITEMS)


FILMS = catalogue(
    film(
        10, "Toy Story", 1995, "A cowboy doll meets a space ranger.", genres=["Animation"], directors=["John Lasseter"]
    ),
    film(
        20, "Toy Story 2", 1999, "A collector steals a cowboy doll.", genres=["Animation"], directors=["John Lasseter"]
    ),
    film(30, "Toy Story 3", 2010, "A cowboy doll goes to day care.", genres=["Animation"], directors=["Lee Unkrich"]),
    film(40, "Heat", 1995, "A thief and a detective.", genres=["Crime"], directors=["Michael Mann"]),
    film(50, "Collateral", 2004, "A taxi driver and a killer.", genres=["Crime"], directors=["Michael Mann"]),
    film(60, "The Dark Knight", 2008, genres=["Crime"], directors=["Christopher Nolan"]),
    film(70, "Untold"),
)


def test_a_series_comes_first():
    model = ContentModel().fit(FILMS)
    ids, scores = model.similar(np.array([10]), 3).row(0)
    assert ids[:2].tolist() == [20, 30]
    assert (np.diff(scores) <= 0).all()
