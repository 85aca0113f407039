"""What the columns of anybody's items and users are, guessed from their names, types and contents."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sdk.base.description import FILMS, Role
from sdk.base.errors import ConfigError
from sdk.data.columns import SEPARATORS, as_numbers, as_text, is_listed, parts_of, plain

Side = Literal["items", "users"]
FEW_IN_LISTS = 200
"""Lists of at most so many distinct values are of role ``list``; of more, ``terms``."""
_LOOKED_AT = 20_000  # rows, spread over the table, whose contents are looked at
_OFTEN = 0.3  # of the rows, from where on a comma or a semicolon may part values
_FEW = 10  # whole numbers of at most so many distinct values are categories


def _named(text: str) -> frozenset[str]:
    return frozenset(text.split())


_TITLES = (
    "title", "name", "item name", "product name", "item title", "product title", "movie title", "track name",
    "song name", "display name", "label", "headline", "names",
)  # fmt: skip
_GROUPS = _named(
    "brand series franchise manufacturer maker vendor seller publisher author authors director directors artist "
    "artists creator designer collection studio supplier label"
)
_WORDS = _named("description overview summary plot text abstract synopsis review body content details")
_PICTURES = _named("image images img picture photo poster thumbnail thumb cover icon")
_TIMES = _named("date time timestamp created updated released release launched published birthday born joined since")
_LISTS = _named("genres genre tags tag categories keywords cast crew companies topics features")
_CODES = _named(
    "id ids code codes key zip zipcode postcode class subclass department category subcategory segment type group"
)
_ADDRESS = r"^(?:https?:)?//\S+$|^s3://\S+$|^data:image/"
_PICTURE = r"(?i)\.(?:jpe?g|png|gif|webp|svg|avif)(?:\?\S*)?$|^data:image/"
_DATE = (
    r"^(?:1[6-9]|20)\d\d[-/.](?:0?[1-9]|1[0-2])[-/.](?:0?[1-9]|[12]\d|3[01])"
    r"(?:[ T]\d\d?:\d\d(?::\d\d(?:[.,]\d+)?)?\s*(?:Z|UTC|[+-]\d\d:?\d\d)?)?$"
)
_SUFFIXES: Mapping[str, Role] = {
    "token": "categorical", "token_seq": "list", "float": "continuous", "float_seq": "ignore"
}  # fmt: skip
"""RecBole's, after a column's name and a colon."""


@dataclass(frozen=True, slots=True)
class Guess:
    """What a column is held to be, and why in words."""

    role: Role
    why: str


@dataclass(frozen=True, slots=True, eq=False)
class _Look:
    """What is seen of a column of text: its values that are some, of the rows looked at, and counts of all rows."""

    name: str
    words: tuple[str, ...]
    values: pa.ChunkedArray
    some: int
    distinct: int

    def share(self, pattern: str) -> float:
        return float(pc.mean(pc.match_substring_regex(self.values, pattern).cast(pa.float64())).as_py() or 0)

    def recurring(self, sign: str) -> int:
        """How many values a sign parts in many rows, where they are words that come again in other ones; else 0.

        So a list of kinds is one, and "Smith, John", "Phoenix, AZ" and "Jan 5, 2020" are none.
        """
        if self.share(rf"^[^{sign}]{{1,40}}(?:{sign}[^{sign}]{{1,40}})+$") <= _OFTEN:
            return 0
        wholes = self.values.unique().to_pylist()
        parts = {part.strip() for text in wholes for part in parts_of(text, sign)} - {""}
        worded = sum(not re.search(r"[0-9]", part) for part in parts)
        return len(parts) if len(parts) <= 0.5 * len(wholes) and worded > 0.9 * len(parts) else 0

    @property
    def length(self) -> float:
        return float(pc.mean(pc.utf8_length(self.values)).as_py() or 0)

    @property
    def num_words(self) -> float:
        return 1 + float(pc.mean(pc.count_substring_regex(self.values, r"\s+")).as_py() or 0)


def guess_roles(table: pa.Table, side: Side, given: Mapping[str, str] | None = None) -> dict[str, Guess]:
    """The role of each column.

    Args:
        table: items or users, without the column of their ids.
        side: which of them. Of users no words are read, and none has a title.
        given: column -> role, which stand.

    Returns:
        Column -> role, in the order of the table; at most one is the title.

    Raises:
        ConfigError: a column that is given is not there, or its role is none.
    """
    given = dict(given or {})
    _require_sound(given, table, side)
    found: dict[str, Guess] = {}
    for name in table.column_names:
        found[name] = Guess(_role(given[name]), "as given") if name in given else _guess(name, table[name])
    if side == "users":
        return {name: _of_user(guess) if name not in given else guess for name, guess in found.items()}
    return _with_title(found, table, given)


def _require_sound(given: Mapping[str, str], table: pa.Table, side: Side) -> None:
    for name, role in given.items():
        if name not in table.column_names:
            expected = f"a column of the {side}: {', '.join(table.column_names) or 'they have none'}"
            msg = "roles"
            raise ConfigError(msg, side, name, expected)
        if role not in get_args(Role):
            msg = "roles"
            raise ConfigError(msg, f"{side}.{name}", role, f"one of {', '.join(get_args(Role))}")


def _role(text: str) -> Role:
    return next(role for role in get_args(Role) if role == text)


def _of_user(guess: Guess) -> Guess:
    if guess.role in ("text", "terms", "title", "image", "url"):
        return Guess("ignore", f"{guess.why}; of users these are not read")
    return Guess("categorical", guess.why) if guess.role == "group" else guess


def _with_title(found: dict[str, Guess], table: pa.Table, given: Mapping[str, str]) -> dict[str, Guess]:
    """The same with the column of the best name as title, unless one was given."""
    if "title" in given.values():
        return found
    texts = {name for name in table.column_names if pa.types.is_string(plain(table[name]).type)}
    may = {name: " ".join(words_of(name)) for name in texts - given.keys() if found[name].role not in ("url", "image")}
    for wanted in _TITLES:
        for name in (name for name in table.column_names if may.get(name) == wanted):
            return found | {name: Guess("title", "by its name")}
    return found


def words_of(name: str) -> tuple[str, ...]:
    """A column's name in words: ``productName``, ``PRODUCT_NAME`` and ``product name:token`` are product, name."""
    return tuple(word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name.partition(":")[0]))


def _guess(name: str, column: pa.ChunkedArray) -> Guess:
    if suffix := _SUFFIXES.get(name.partition(":")[2]):
        return Guess(suffix, f"by its ending {name.partition(':')[2]}")
    column, words = plain(column), words_of(name)
    if column.null_count == len(column):
        return Guess("ignore", "it is empty")
    kind = column.type
    if is_listed(kind):
        return _guess_lists(column, words)
    if pa.types.is_date(kind) or pa.types.is_timestamp(kind):
        return Guess("time", f"its type is {kind}")
    if pa.types.is_boolean(kind):
        return _unless_constant(column, Guess("categorical", "true or false"))
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return _guess_numbers(name, words, column)
    if not pa.types.is_string(kind):
        return Guess("ignore", f"its type, {kind}, is not read")
    return _guess_text(name, words, column)


def _unless_constant(column: pa.ChunkedArray, guess: Guess) -> Guess:
    is_constant = column.null_count == 0 and len(column) > 1 and len(column.unique()) == 1
    return Guess("ignore", "it is the same in every row") if is_constant else guess


def _guess_lists(column: pa.ChunkedArray, words: tuple[str, ...]) -> Guess:
    if pa.types.is_floating(column.type.value_type) or pa.types.is_nested(column.type.value_type):
        return Guess("ignore", f"its type, {column.type}, is not read")
    return _of_lists(len(pc.list_flatten(column).unique()), len(column) - column.null_count)


def _of_lists(distinct: int, rows: int) -> Guess:
    if distinct <= FEW_IN_LISTS and distinct < max(3, rows):
        return Guess("list", f"lists of {distinct:,} values")
    return Guess("terms", f"lists of {distinct:,} values, too many for a field")


def _guess_numbers(name: str, words: tuple[str, ...], column: pa.ChunkedArray) -> Guess:
    values = as_numbers(column).drop_null()
    numbers = values.to_numpy()
    if not len(numbers):
        return Guess("ignore", "it has no finite number")
    whole = bool((numbers == np.floor(numbers)).all())
    distinct = len(np.unique(numbers))
    if distinct == 1:
        return _unless_constant(column, Guess("continuous", "numbers"))
    if whole and _TIMES & set(words) and numbers.min() > 1e8:
        return Guess("time", "by its name, in seconds or less since 1970")
    is_code = bool(set(words[-1:]) & _CODES)
    if whole and is_code and distinct > 0.5 * len(numbers):
        return Guess("ignore", "by its name an id, nearly every one another")
    if whole and (is_code or (distinct <= _FEW and len(numbers) >= 10 * distinct)):
        return Guess("categorical", f"{distinct:,} distinct whole numbers")
    return Guess("continuous", "numbers")


def _guess_text(name: str, words: tuple[str, ...], column: pa.ChunkedArray) -> Guess:
    texts = as_text(column).drop_null()
    if not len(texts):
        return Guess("ignore", "it is empty")
    some = texts.take(pa.array(np.linspace(0, len(texts) - 1, min(len(texts), _LOOKED_AT)).astype(np.int64)))
    look = _Look(name, words, some, len(texts), len(texts.unique()))
    numbers = as_numbers(some)
    if numbers.null_count <= 0.02 * len(some) and look.share(r"^0[0-9]") == 0:
        return _guess_numbers(name, words, as_numbers(texts))
    if look.distinct == 1 and len(texts) == len(column) > 1:
        return Guess("ignore", "it is the same in every row")
    return _guess_shape(look) or _guess_words(look)


def _guess_shape(look: _Look) -> Guess | None:
    """By what the texts look like; None where they are just words."""
    if look.share(_ADDRESS) > 0.9 or look.share(_PICTURE) > 0.9:
        pictures = look.share(_PICTURE) > 0.5 or bool(_PICTURES & set(look.words))
        return Guess("image" if pictures else "url", "addresses")
    if look.share(r"^\[.*\]$") > 0.9 or look.share(r"^[^|]{1,60}(?:\|[^|]{1,60})+$") > 0.1:
        parts = {part.strip() for text in look.values.unique().to_pylist() for part in parts_of(text)}
        return _of_lists(len(parts - {""}), look.some)
    if recurring := max(map(look.recurring, SEPARATORS[1:])):
        return _of_lists(recurring, look.some)
    if look.share(_DATE) > 0.95 or (_TIMES & set(look.words) and look.share(_DATE) > 0.5):
        return Guess("time", "dates")
    return None


def _guess_words(look: _Look) -> Guess:
    words = set(look.words)
    if (words & _WORDS or look.num_words >= 6 or look.length >= 60) and (look.distinct > 20 or words & _WORDS):
        return Guess("text", "words")
    if (words & _LISTS or FILMS.get(look.name) == "list") and look.distinct <= FEW_IN_LISTS:
        return Guess("list", "by its name")
    if words & _GROUPS:
        return Guess("group", "by its name")
    return _guess_values(look)


def _guess_values(look: _Look) -> Guess:
    unique = look.distinct / look.some
    if unique > 0.5 and look.some > 20:
        if look.num_words >= 2:
            return Guess("text", "words, in nearly every row others")
        return Guess("ignore", f"{look.distinct:,} distinct values in {look.some:,} rows")
    return Guess("categorical", f"{look.distinct:,} distinct values")
