"""Users: everyone who rated, and what 100K and 1M tell about them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from sdk.base import schema
from sdk.base.config import DataConfig
from sdk.base.types import Int64s
from sdk.data.archive import Source
from sdk.data.forms import Form
from sdk.data.records import add_once, read_rows
from sdk.data.validation import BadRowError, whole_number

OCCUPATIONS = (
    "other or not specified", "academic/educator", "artist", "clerical/admin", "college/grad student",
    "customer service", "doctor/health care", "executive/managerial", "farmer", "homemaker", "K-12 student", "lawyer",
    "programmer", "retired", "sales/marketing", "scientist", "self-employed", "technician/engineer",
    "tradesman/craftsman", "unemployed", "writer",
)  # fmt: skip
"""1M's occupations by their number (MovieLens 1M README)."""
_FIELDS_100K = ("user id", "age", "gender", "occupation", "zip code")
_FIELDS_1M = ("UserID", "Gender", "Age", "Occupation", "Zip-code")
_OLDEST = 130


def read_users(source: Source, form: Form, rated: Int64s, config: DataConfig) -> tuple[pa.Table, pa.Table]:
    """All users: those with a rating and those with attributes.

    Args:
        source: where the files lie.
        form: which form they have. Ages are years in 100K; in 1M the first year of a bracket, and 1 for under 18.
        rated: (N,) int64, the user of every accepted rating.
        config: how many rows may be bad.

    Returns:
        ``schema.USERS``, ascending by user_id, and the rejected rows, ``schema.REJECTS``.

    Raises:
        TooManyRejectsError: more rows are bad than the configuration allows.
    """
    known, rejects = _read_attributes(source, form, config)
    ids = sorted(known.keys() | set(pc.unique(pa.array(rated)).to_pylist()))
    if not known:
        columns = [pa.array(ids, pa.int64()), *(pa.nulls(len(ids), field.type) for field in list(schema.USERS)[1:])]
        return pa.Table.from_arrays(columns, schema=schema.USERS), rejects
    return pa.Table.from_pylist([known.get(i, {"user_id": i}) for i in ids], schema=schema.USERS), rejects


def _read_attributes(source: Source, form: Form, config: DataConfig) -> tuple[dict[int, dict[str, Any]], pa.Table]:
    known: dict[int, dict[str, Any]] = {}
    columns, separator, parse = (
        (_FIELDS_100K, "|", _user_100k) if form.name == "100k" else (_FIELDS_1M, form.separator, _user_1m)
    )

    def add(fields: Sequence[str]) -> None:
        user = parse(*fields)
        add_once(known, user["user_id"], user)

    return known, read_rows(source, form.users, columns, add, config, separator=separator, encoding=form.encoding)


def _user_100k(user_id: str, age: str, gender: str, occupation: str, zip_code: str) -> dict[str, Any]:
    return _user(user_id, gender, age, occupation.strip(), zip_code)


def _user_1m(user_id: str, gender: str, age: str, occupation: str, zip_code: str) -> dict[str, Any]:
    number = whole_number(occupation, "occupation")
    if number >= len(OCCUPATIONS):
        raise BadRowError(f"the occupation is none of 0 to {len(OCCUPATIONS) - 1}")
    return _user(user_id, gender, age, OCCUPATIONS[number], zip_code)


def _user(user_id: str, gender: str, age: str, occupation: str, zip_code: str) -> dict[str, Any]:
    years = whole_number(age, "age")
    if years > _OLDEST:
        raise BadRowError(f"the age is above {_OLDEST}")
    return {
        "user_id": whole_number(user_id, "user id"),
        "gender": gender.strip() or None,
        "age": years,
        "occupation": occupation or None,
        "zip_prefix": zip_code.strip()[:3] or None,
    }
