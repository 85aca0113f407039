"""Rules for lists: what is asked for, read and checked, and the same by the rows of one bundle's items.

    {"at_most": {"directors": 2}, "at_least": {"count": 1, "column": "year", "since": 2015}, "diversity": 0.5}

What list they make: ``sdk.scoring.rule_lists``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sdk.base.config import Amount, Checked, Size, from_json, to_json
from sdk.base.errors import ConfigError, MarqueeError, MissingFileError, UnknownItemError, UnusableFileError, UsageError
from sdk.base.files import digest_of
from sdk.base.ids import ids_of
from sdk.base.paths import as_path
from sdk.base.types import Bools, Float32s, Int32s, Int64s
from sdk.features.tables import FIRST_KNOWN, UNKNOWN, EncodedTable
from sdk.models.pair_form import PairForm

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

    from sdk.models.content.model import ContentModel

_AT_LEAST = "AtLeast"
_EXAMPLE = '{"at_most": {"genres": 3}, "diversity": 0.5}'


@dataclass(frozen=True, slots=True, kw_only=True)
class AtLeast(Checked):
    """How many places of a list are for new or pinned items: those for which any of the conditions holds.

    Attributes:
        count: of them in a list, at least, as far as there are so many; 0 asks for none.
        items: item_ids that are meant.
        max_ratings: items with at most so many training ratings are meant.
        column: of the items; together with the next.
        since: items whose ``column`` is at least this are meant.
    """

    count: Size = 0
    items: tuple[int | str, ...] = ()
    max_ratings: Size | None = None
    column: str | None = None
    since: float | None = None

    def __post_init__(self) -> None:
        Checked.__post_init__(self)
        nothing = not self.items and self.max_ratings is None and self.column is None
        if (self.column is None) != (self.since is None):
            raise ConfigError(_AT_LEAST, "since", self.since, "a number together with a column, or neither")
        if self.count and nothing:
            raise ConfigError(_AT_LEAST, "count", self.count, "items, max_ratings or column with since beside it")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules(Checked):
    """What lists must keep to, beside being the best by score.

    Attributes:
        at_most: column of the items -> how many of a list may share one of its values. Of a column with several values
            an item counts for each; where nothing is known it counts for none.
        at_least: places for new or pinned items.
        popularity: what is added to a score for each unit of log(1 + training likes); below 0 for less known items.
        diversity: what being like an item above costs: at 1, of two items that are the same, all that lies between
            the first and the k-th score of the user's list without rules (MMR, Carbonell and Goldstein 1998).
    """

    at_most: Mapping[str, int] = field(default_factory=dict)
    at_least: AtLeast = field(default_factory=AtLeast)
    popularity: float = 0.0
    diversity: Amount = 0.0

    def __post_init__(self) -> None:
        Checked.__post_init__(self)
        for column, cap in self.at_most.items():
            if cap < 1:
                raise ConfigError(Rules.__name__, f"at_most.{column}", cap, "at least 1")
        object.__setattr__(self, "at_most", MappingProxyType(dict(self.at_most)))

    def __reduce__(self) -> tuple[Any, ...]:
        return (rules_of, (to_json(self),))

    @property
    def digest(self) -> str:
        """Hex sha256 of what they say."""
        return digest_of(to_json(self))

    @property
    def choose(self) -> bool:
        """Whether they do more than move scores."""
        return bool(self.at_most or self.at_least.count or self.diversity)


RulesLike: TypeAlias = "Rules | Mapping[str, Any] | str | os.PathLike[str]"
"""Rules, the values of a JSON object of them, or the path of a file that holds one."""


def rules_of(given: RulesLike, name: str = "rules") -> Rules:
    """Rules from whatever is given.

    Args:
        given: the rules.
        name: what messages call them.

    Raises:
        UsageError: a rule is unknown or out of its range.
        DataError: the file is absent or no JSON object.
    """
    if isinstance(given, Rules):
        return given
    where = name if isinstance(given, Mapping) else f"{name} {os.fspath(given)}"
    values = given if isinstance(given, Mapping) else _read(as_path(given))
    try:
        return from_json(Rules, values)
    except MarqueeError as error:
        raise UsageError(f"{where}: {error}. A file that does: {_EXAMPLE}") from error


def _read(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        raise MissingFileError(path, f"a JSON object of rules such as {_EXAMPLE}")
    try:
        values = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise UnusableFileError(path, f"it is not JSON: {error}", f"Write it like {_EXAMPLE}.") from error
    if not isinstance(values, dict):
        problem = f"it holds a {type(values).__name__}, expected an object of rules"
        raise UnusableFileError(path, problem, f"Write it like {_EXAMPLE}.")
    return values


@dataclass(frozen=True, slots=True, eq=False)
class ItemRules:
    """Rules by the rows of an items' table.

    Attributes:
        asked: the rules.
        starts: (R + 1,) int64; row i's groups are ``groups[starts[i]:starts[i + 1]]``.
        groups: (N,) int32, numbered through all columns.
        caps: (G,) int32, how many of a list may be in each group.
        names: (G,) what each group is called, ``column=value``.
        wanted: (R,) bool, the new or pinned items.
        vectors: (R, V) float32 CSR with ascending indices, the items' content; no columns where it does not matter.
        likes: (R,) float32, log(1 + training likes).
    """

    asked: Rules
    starts: Int64s
    groups: Int32s
    caps: Int32s
    names: tuple[str, ...]
    wanted: Bools
    vectors: csr_matrix
    likes: Float32s

    @classmethod
    def of(cls, asked: Rules, table: pa.Table, items: EncodedTable, content: ContentModel | None) -> ItemRules:
        """Rules for a bundle's items.

        Args:
            asked: the rules.
            table: the items' raw table, in the order of the encoded one's known rows.
            items: the items' encoded table.
            content: the content model; None in a bundle without it.

        Raises:
            UsageError: a column or an item is not there, or not of the kind that the rule needs; or diversity is asked
                for without a content model.
        """
        starts, groups, caps, names = _groups(asked.at_most, table)
        return cls(
            asked, starts, groups, caps, names, _wanted(asked.at_least, table, items),
            _vectors(asked.diversity, items, content), np.log1p(items.statistics.likes).astype(np.float32),
        )  # fmt: skip

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Plain arrays without pickle, for a served model; ``from_arrays`` reads them back to equal rules."""
        vectors, words = self.vectors, json.dumps([to_json(self.asked), self.names])
        return {
            "rules": np.frombuffer(words.encode(), np.uint8),
            "rule_indptr": self.starts, "rule_groups": self.groups, "rule_caps": self.caps,
            "rule_wanted": self.wanted, "rule_likes": self.likes,
            "rule_vectors_indptr": vectors.indptr, "rule_vectors_indices": vectors.indices,
            "rule_vectors_data": vectors.data, "rule_vectors_width": np.array(vectors.shape[1:]),
        }  # fmt: skip

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> ItemRules:
        """The rules that ``to_arrays`` wrote."""
        from scipy.sparse import csr_matrix

        own = {name: np.array(values) for name, values in arrays.items() if name.startswith("rule_")}
        asked, names = json.loads(arrays["rules"].tobytes())
        rows = (own["rule_vectors_data"], own["rule_vectors_indices"], own["rule_vectors_indptr"])
        vectors = csr_matrix(rows, (len(own["rule_wanted"]), int(own["rule_vectors_width"][0])))
        columns = (own["rule_indptr"], own["rule_groups"], own["rule_caps"])
        return cls(from_json(Rules, asked), *columns, tuple(names), own["rule_wanted"], vectors, own["rule_likes"])

    def dialled(self, form: PairForm) -> PairForm:
        """A form whose items' scores are moved by their popularity."""
        if not self.asked.popularity:
            return form
        bias = form.items.bias + np.float32(self.asked.popularity) * self.likes
        return replace(form, items=replace(form.items, bias=bias.astype(np.float32)))


def _groups(at_most: Mapping[str, int], table: pa.Table) -> tuple[Int64s, Int32s, Int32s, tuple[str, ...]]:
    rows, groups, caps, names = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], list[int](), list[str]()
    for column, cap in at_most.items():
        owner, values = _values(f"at_most.{column}", column, table)
        coded = values.dictionary_encode()
        rows.append(owner)
        groups.append(coded.indices.to_numpy() + len(caps))
        names += [f"{column}={value}" for value in coded.dictionary.to_pylist()]
        caps += [cap] * len(coded.dictionary)
    owner, group = np.concatenate(rows) + FIRST_KNOWN, np.concatenate(groups)
    order = np.argsort(owner, kind="stable")
    counts = np.bincount(owner, minlength=len(table) + FIRST_KNOWN)
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return starts, group[order].astype(np.int32), np.array(caps, np.int32), tuple(names)


def _values(rule: str, name: str, table: pa.Table) -> tuple[Int64s, pa.Array]:
    """A column's values as (owner, value) pairs, each once; what is not known is left out."""
    column = _column(rule, name, table)
    if pa.types.is_list(column.type):
        owner, values = pc.list_parent_indices(column), pc.list_flatten(column)
    else:
        owner, values = pa.array(np.arange(len(column))), column
    if pa.types.is_nested(values.type) or pa.types.is_floating(values.type):
        raise UsageError(f"rules: {rule}: column {name!r} holds {values.type}, expected text or whole numbers")
    pairs = pa.table({"owner": owner, "value": values}).filter(pc.is_valid(values))
    pairs = pairs.filter(pc.not_equal(pairs["value"].cast(pa.string()), "")).group_by(["owner", "value"]).aggregate([])
    return pairs["owner"].to_numpy().astype(np.int64), pairs["value"].combine_chunks()


def _column(rule: str, name: str, table: pa.Table) -> pa.Array:
    if name not in table.column_names:
        have = ", ".join(sorted(table.column_names))
        raise UsageError(f"rules: {rule}: the items have no column {name!r}, expected one of {have}")
    return table[name].combine_chunks()


def _wanted(asked: AtLeast, table: pa.Table, items: EncodedTable) -> Bools:
    found = np.zeros(len(items), np.bool_)
    if not asked.count:
        return found
    if asked.items:
        rows = items.index_of(ids_of(list(asked.items), "rules: at_least.items", items.ids))
        if (rows == UNKNOWN).any():
            raise UnknownItemError(asked.items[int(np.argmax(rows == UNKNOWN))], len(table))
        found[rows] = True
    if asked.max_ratings is not None:
        found[FIRST_KNOWN:] |= items.statistics.count[FIRST_KNOWN:] <= asked.max_ratings
    if asked.column is not None:
        column = _column("at_least.column", asked.column, table)
        if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
            raise UsageError(f"rules: at_least.column: {asked.column!r} holds {column.type}, expected numbers")
        late = pc.fill_null(pc.greater_equal(column, asked.since), False)
        found[FIRST_KNOWN:] |= late.to_numpy(zero_copy_only=False)
    return found


def _vectors(diversity: float, items: EncodedTable, content: ContentModel | None) -> csr_matrix:
    from scipy.sparse import csr_matrix, vstack

    if not diversity:
        return csr_matrix((len(items), 0), dtype=np.float32)
    if content is None:
        message = "rules: diversity: the bundle was trained without the content model, which says what is alike"
        raise UsageError(f"{message}; train it again without --models")
    place = np.full(len(items), len(content.item_id))
    place[items.index_of(content.item_id)] = np.arange(len(content.item_id))
    matrix = vstack([content.matrix, csr_matrix((1, content.matrix.shape[1]), dtype=np.float32)], format="csr")[place]
    matrix.sort_indices()
    return matrix
