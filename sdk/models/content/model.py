"""The content model: which titles resemble each other by what they are, not by who watched them.

    model = ContentModel(ContentConfig()).fit(items)
    model.similar(np.array([1]), k=10)

Every title becomes one sparse unit vector: a TF-IDF block per field (Salton and Buckley 1988, "Term-weighting
approaches in automatic text retrieval"), each block of length 1, times the square root of the field's weight, the
whole row of length 1 again. The score of two titles is the cosine, so a field in which both agree wholly adds its
weight's share. A field that a title lacks adds nothing, and the rest of that title counts for more.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sdk.base import schema
from sdk.base.arrow_tables import as_table
from sdk.base.config import CONTENT_FIELDS, ContentConfig, from_json, to_json
from sdk.base.errors import BundleError, ConfigError, DataError, MissingColumnError, UsageError
from sdk.base.ids import count_of, id_of, ids_in, ids_of, nobody, title_rows
from sdk.base.stored_arrays import read_arrays, read_json, write_arrays, write_json
from sdk.base.types import Float32s, Float64s, Id, IdArray, Ids, Int64s, Table, TopK, keys_of
from sdk.models.content.matrix import short_vectors, smooth_idf, tfidf_block, unit_rows
from sdk.models.content.neighbours import NeighbourIndex
from sdk.models.content.reasons import Reasons, reasons
from sdk.models.content.title_search import Match, TitleIndex
from sdk.models.content.tokens import TABLE, Tokens, as_vocabulary, field_tokens

if TYPE_CHECKING:
    from typing import Self

    from scipy.sparse import csr_matrix

FORMAT_VERSION = 1
"""Version of the saved form; another one is refused."""

_ARRAYS = frozenset({"data", "indices", "indptr", "shape", "item_id", "idf"})


class SimilarBlock(NamedTuple):
    """Some titles and their neighbours.

    Attributes:
        item_id: (B,) int64, the titles asked for.
        neighbours: row b holds the titles most like ``item_id[b]``.
    """

    item_id: IdArray
    neighbours: TopK


@dataclass(frozen=True, slots=True, eq=False)
class _Fitted:
    """What fitting learns: the vocabulary of each field, the idf of each column, and the fitted titles.

    ``order`` sorts the titles by item_id, and ``ids`` are they in that order: searched so, rows tie as ids do.
    """

    vocabulary: Mapping[str, list[str]]
    idf: Float64s
    matrix: csr_matrix
    item_id: IdArray
    names: pa.Table  # item_id, title, year
    order: Int64s
    ids: IdArray

    @classmethod
    def of(cls, vocabulary: Mapping[str, list[str]], idf: Float64s, matrix: csr_matrix, items: pa.Table) -> _Fitted:
        item_id = ids_in(items["item_id"])
        order = np.argsort(item_id)
        names = items.select(["item_id", "title", "year"])
        return cls(vocabulary, idf, matrix, item_id, names, order, item_id[order])

    def rows(self, item_id: Ids) -> Int64s:
        """(B,) int64 rows of the matrix."""
        return self.order[title_rows(self.ids, ids_of(item_id, "item_id", self.ids))]


class ContentModel:
    """Cosine similarity of titles over weighted TF-IDF blocks.

    Args:
        config: weights per field, and what is read.
    """

    def __init__(self, config: ContentConfig | None = None) -> None:
        self.config = config or ContentConfig()
        self._state: _Fitted | None = None
        self._index: NeighbourIndex | None = None
        self._titles: TitleIndex | None = None

    def fit(self, items: Table) -> Self:
        """Learn vocabulary and idf, and index the titles.

        Args:
            items: ``schema.ITEMS``; item_id unique. Only the columns of fields with a weight are read, and the title.

        Raises:
            MissingColumnError: a column is missing.
            UsageError: it is no table.
            DataError: the table is empty, a column is of another kind, or an item_id occurs twice.
        """
        items = as_table(items, _layout(items), "items")
        _check_items(items)
        tokens = {field: self._tokens(items, field) for field in self.fields}

        def least(field: str) -> int:
            return self.config.min_document_count if field == "overview" else 1

        vocabulary = {field: as_vocabulary(tokens[field], least(field)) for field in self.fields}
        idf = np.concatenate([smooth_idf(tokens[f], vocabulary[f], len(items), soft=f == "year") for f in self.fields])
        matrix = self._rows(tokens, vocabulary, idf, len(items))
        return self._adopt(_Fitted.of(vocabulary, idf, matrix, items))

    def transform(self, items: Table) -> csr_matrix:
        """Titles, fitted ones or new ones, as rows of the fitted vocabulary.

        Args:
            items: ``schema.ITEMS``, N rows.

        Returns:
            (N, vocabulary) float32 CSR; each row of length 1, or empty where a title has no known token.

        Raises:
            MissingColumnError: a column is missing.
            UsageError: it is no table, or the model is not fitted.
            DataError: a column is of another kind.
        """
        state, items = self._fitted("transform"), as_table(items, _layout(items), "items")
        tokens = {field: self._tokens(items, field) for field in self.fields}
        return self._rows(tokens, state.vocabulary, state.idf, len(items))

    def fit_transform(self, items: Table) -> csr_matrix:
        """The same as ``fit(items).transform(items)``, without reading the table twice."""
        return self.fit(items)._fitted("fit_transform").matrix.copy()

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields that have a weight, in the order of their columns."""
        return tuple(field for field in CONTENT_FIELDS if self.config.weights.get(field, 0) > 0)

    @property
    def item_id(self) -> IdArray:
        """(N,) int64, or object where ids are text: the fitted titles, in the order of their rows."""
        return self._fitted("item_id").item_id

    @property
    def vocabulary(self) -> dict[str, tuple[str, ...]]:
        """The tokens of each field, in the order of their columns; the fields follow each other."""
        return {field: tuple(words) for field, words in self._fitted("vocabulary").vocabulary.items()}

    def similar(self, item_id: Ids, k: int) -> TopK:
        """The titles most like each given one.

        Exact: every fitted title is compared. Itself is left out, so are titles that share nothing (a score of 0),
        hence a row may be shorter than k. Equal scores go to the smaller item_id.

        Args:
            item_id: (B,) int64, each a fitted title.
            k: list length, at least 1.

        Returns:
            A TopK of width k, or of the number of fitted titles where that is less; past a row's length item_id is -1
            and the score -inf. Scores are cosines in (0, 1].

        Raises:
            UsageError: k is no whole number of at least 1, or the model is not fitted.
            UnknownItemError: an item_id is not among the fitted titles.
        """
        k = count_of(k, "ContentModel.similar: k")
        state = self._fitted("similar")
        self._index = self._index or NeighbourIndex(state.matrix[state.order])
        places = title_rows(state.ids, ids_of(item_id, "item_id", state.ids))
        found = self._index.nearest(places, min(k, len(state.ids)))
        ids = np.where(found.row >= 0, state.ids[found.row], nobody(state.ids))
        source = np.full(len(places), "content")
        return TopK(ids, np.minimum(found.scores, 1), found.lengths, source, "item_id", state.ids[places])

    def listing(self, item_id: Ids) -> ContentModel:
        """The same model, whose ``similar`` lists the given titles alone; every fitted title can still be asked about.

        Args:
            item_id: (N,) int64; titles that are not fitted are passed over.
        """
        state = self._fitted("listing")
        narrowed = ContentModel(self.config)._adopt(state)
        listed = np.isin(state.ids, ids_of(item_id, "item_id", state.ids))
        narrowed._index = NeighbourIndex(state.matrix[state.order], listed)
        return narrowed

    def similar_all(self, k: int, block_size: int = 4096) -> Iterator[SimilarBlock]:
        """Every fitted title's neighbours, in blocks, ascending by item_id. The block size never changes a list.

        Args:
            k: list length, at least 1.
            block_size: titles per block; a block takes about 12 x k x block_size bytes.

        Raises:
            UsageError: k or block_size is no whole number of at least 1, or the model is not fitted.
        """
        k, block_size = count_of(k, "ContentModel.similar_all: k"), count_of(block_size, "block_size")
        ids = self._fitted("similar").ids
        blocks = (ids[start : start + block_size] for start in range(0, len(ids), block_size))
        return (SimilarBlock(block, self.similar(block, k)) for block in blocks)

    def cosines(self, item_id: NDArray[np.integer[Any]]) -> Float32s:
        """(B, N) float32: the cosine of each given title with every fitted one, in the order of ``item_id``.

        Raises:
            UnknownItemError: a title is not among the fitted ones.
        """
        state = self._fitted("cosines")
        return np.asarray((state.matrix[state.rows(item_id)] @ state.matrix.T).toarray(), np.float32)

    def vectors(self, dim: int, seed: int = 0) -> Float32s:
        """The titles as short dense vectors whose dot products approach the cosines (Deerwester et al. 1990).

        By truncated SVD. Each component's sign is chosen so that its largest entry is positive; the same titles,
        dim and seed give the same vectors on the same machine.

        Args:
            dim: width, at least 1.
            seed: of the randomised SVD.

        Returns:
            (N, dim) float32, row i for ``item_id[i]``. Components past the matrix's rank are 0.

        Raises:
            UsageError: dim is no whole number of at least 1, or the model is not fitted.
        """
        dim = count_of(dim, "ContentModel.vectors: dim")
        return short_vectors(self._fitted("vectors").matrix, dim, seed)

    def explain(self, item_a: Id, item_b: Id) -> Reasons:
        """Why two titles resemble each other: what they share, and how much each field adds to the score.

        Raises:
            UnknownItemError: one of them is not a fitted title.
        """
        state = self._fitted("explain")
        item_a, item_b = (id_of(item, name, state.ids) for item, name in ((item_a, "item_a"), (item_b, "item_b")))
        a, b = state.rows([item_a, item_b])
        return reasons(item_a, item_b, state.matrix[a], state.matrix[b], state.vocabulary)

    def find_title(self, query: str, limit: int = 5) -> list[Match]:
        """Titles by name, best first; see ``TitleIndex.find``."""
        if self._titles is None:
            self._titles = TitleIndex(self._fitted("find_title").names)
        return self._titles.find(query, limit)

    def save(self, folder: Path | str) -> None:
        """Write ``content.npz`` and ``content.json``; the same model gives the same bytes. No pickle.

        ``scipy.sparse.load_npz`` reads the matrix from the first.
        """
        state, folder = self._fitted("save"), Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        matrix = {name: getattr(state.matrix, name) for name in ("data", "indices", "indptr", "shape")}
        extra = {"format": np.array(b"csr"), "item_id": keys_of(state.names, "item_id"), "idf": state.idf}
        write_arrays(folder / "content.npz", {**matrix, **extra})
        words = {"version": FORMAT_VERSION, "config": to_json(self.config), "vocabulary": dict(state.vocabulary)}
        write_json(folder / "content.json", words)

    @classmethod
    def load(cls, folder: Path | str, items: Table) -> Self:
        """Read a saved model.

        Args:
            folder: where ``save`` wrote.
            items: the table that it was fitted on (titles and years are read from it).

        Raises:
            BundleError: a file is absent, damaged or of another version, or the table holds other titles.
        """
        folder = Path(folder)
        words = read_json(folder / "content.json", version=FORMAT_VERSION)
        arrays = read_arrays(folder / "content.npz", _ARRAYS)
        items = as_table(items, _layout(items), "items")
        _check_items(items)
        if not np.array_equal(keys_of(items, "item_id"), arrays["item_id"]):
            raise BundleError(f"{folder}: fitted on other titles than those of the table given. Train and save again.")
        model = cls(_config(folder, words))
        matrix, vocabulary = _stored(folder, words.get("vocabulary", {}), arrays, model.fields)
        return model._adopt(_Fitted.of(vocabulary, arrays["idf"], matrix, items))

    def _adopt(self, state: _Fitted) -> Self:
        self._state, self._index, self._titles = state, None, None
        return self

    def _fitted(self, caller: str) -> _Fitted:
        if self._state is None:
            raise UsageError(
                f"ContentModel.{caller}: the model is not fitted. Call fit(items) or load(folder, items) first."
            )
        return self._state

    def _tokens(self, items: pa.Table, field: str) -> Tokens:
        return field_tokens(items, field, max_cast=self.config.max_cast)

    def _rows(
        self, tokens: Mapping[str, Tokens], vocabulary: Mapping[str, list[str]], idf: Float64s, num_items: int
    ) -> csr_matrix:
        from scipy.sparse import hstack

        blocks, start = [], 0
        for field in self.fields:
            stop = start + len(vocabulary[field])
            block = tfidf_block(tokens[field], vocabulary[field], idf[start:stop], num_items, soft=field == "year")
            blocks.append(block * np.sqrt(self.config.weights[field]))
            start = stop
        rows = unit_rows(hstack(blocks, format="csr")).astype(np.float32)
        rows.sort_indices()
        return rows


def _layout(items: Table) -> pa.Schema:
    """``schema.ITEMS``, with text as ``item_id`` where that is what an Arrow table has."""
    is_text = isinstance(items, pa.Table) and "item_id" in items.column_names and items["item_id"].type == pa.string()
    return schema.ITEMS.set(0, schema.ITEMS.field(0).with_type(pa.string())) if is_text else schema.ITEMS


def _check_items(items: pa.Table) -> None:
    for name in ("item_id", "title", "year"):
        if name not in items.column_names:
            raise MissingColumnError(TABLE, name, items.column_names)
    values, counts = np.unique(ids_in(items["item_id"]), return_counts=True)
    if counts.max(initial=0) != 1:
        wrong = f"item_id {values[counts.argmax()]} occurs {counts.max()} times" if len(items) else "the table is empty"
        raise DataError(f"items: {wrong}, expected one or more titles, each once. Mend the table.")


def _config(folder: Path, words: Mapping[str, Any]) -> ContentConfig:
    try:
        return from_json(ContentConfig, words["config"])
    except (KeyError, TypeError, AttributeError, ConfigError) as error:
        raise BundleError(f"{folder / 'content.json'}: no usable config ({error}). Train and save again.") from error


def _stored(
    folder: Path, vocabulary: Mapping[str, list[str]], arrays: Mapping[str, NDArray[Any]], fields: tuple[str, ...]
) -> tuple[csr_matrix, dict[str, list[str]]]:
    from scipy.sparse import csr_matrix

    try:
        ordered = {field: list(vocabulary.get(field, ())) for field in fields}
        shape = len(arrays["item_id"]), sum(map(len, ordered.values()))
        _check(arrays, ordered, shape)
        return csr_matrix((arrays["data"], arrays["indices"], arrays["indptr"]), shape), ordered
    except (ValueError, TypeError, AttributeError, IndexError, OverflowError) as error:
        raise BundleError(
            f"{folder}: content.npz does not fit content.json ({error}). Train and save again."
        ) from error


def _check(arrays: Mapping[str, NDArray[Any]], vocabulary: Mapping[str, list[str]], shape: tuple[int, int]) -> None:
    """Refuse numbers that are none, and a CSR matrix whose rows or columns lie outside it: compiled code would read
    there.

    SciPy's own check passes over a matrix whose last pointer is 0, and over unsigned pointers that fall.
    """
    if not all(isinstance(word, str) for words in vocabulary.values() for word in words):
        message = "a word of the vocabulary is no text"
        raise ValueError(message)
    data, idf = arrays["data"], arrays["idf"]
    if data.dtype != np.float32 or idf.dtype != np.float64 or not (np.isfinite(data).all() and np.isfinite(idf).all()):
        raise ValueError(f"data and idf are {data.dtype} and {idf.dtype}, expected finite float32 and float64")
    indices, indptr, ids = arrays["indices"], arrays["indptr"], arrays["item_id"]
    if not all(a.dtype in (np.int32, np.int64) and a.ndim == 1 for a in (indices, indptr, ids)):
        raise ValueError(f"indices, indptr and item_id are {indices.dtype}, {indptr.dtype} and {ids.dtype}")
    if len(indptr) != shape[0] + 1 or indptr[0] != 0 or (np.diff(indptr) < 0).any():
        raise ValueError(f"{len(indptr)} row pointers that do not rise from 0, for {shape[0]} titles")
    if not indptr[-1] == len(indices) == data.size or data.ndim != 1:
        raise ValueError(f"row pointers to {indptr[-1]}, for {len(indices)} columns and {data.size} values")
    if len(indices) and not (indices.min() >= 0 and indices.max() < shape[1]):
        raise ValueError(f"columns run from {indices.min()} to {indices.max()}, expected 0 to {shape[1] - 1}")
    if idf.shape != shape[1:] or tuple(arrays["shape"]) != shape:
        raise ValueError(f"{idf.shape} idf and a matrix of shape {arrays['shape']}, expected {shape}")
