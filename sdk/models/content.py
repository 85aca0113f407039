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
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sdk.config import CONTENT_FIELDS, ContentConfig, from_json, to_json
from sdk.errors import BundleError, DataError, MissingColumnError, UnknownItemError, UsageError
from sdk.models.content_explain import Reasons, reasons
from sdk.models.content_similar import NeighbourIndex
from sdk.models.content_store import read_arrays, read_json, write_arrays, write_json
from sdk.models.content_titles import Match, TitleIndex
from sdk.models.content_tokens import TABLE, Tokens, as_vocabulary, field_tokens
from sdk.types import Float32s, Float64s, Int64s, TopK

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

FORMAT_VERSION = 1
"""Version of the saved form; another one is refused."""

_ARRAYS = frozenset({"data", "indices", "indptr", "shape", "item_id", "idf"})


@dataclass(frozen=True, slots=True, eq=False)
class SimilarBlock:
    """Some titles and their neighbours.

    Attributes:
        item_id: (B,) int64, the titles asked for.
        neighbours: row b holds the titles most like ``item_id[b]``.
    """

    item_id: Int64s
    neighbours: TopK


@dataclass(frozen=True, slots=True, eq=False)
class _Fitted:
    """What fitting learns: the vocabulary of each field, the idf of each column, and the fitted titles' rows."""

    vocabulary: Mapping[str, list[str]]
    idf: Float64s
    matrix: csr_matrix
    item_id: Int64s


class ContentModel:
    """Cosine similarity of titles over weighted TF-IDF blocks.

    Args:
        config: weights per field, and what is read.
    """

    def __init__(self, config: ContentConfig | None = None) -> None:
        self.config = config or ContentConfig()
        self._state: _Fitted | None = None
        self._items: pa.Table | None = None
        self._index: NeighbourIndex | None = None
        self._titles: TitleIndex | None = None

    def fit(self, items: pa.Table) -> ContentModel:
        """Learn vocabulary and idf, and index the titles.

        Args:
            items: ``schema.ITEMS``; item_id unique. Only the columns of fields with a weight are read, and the title.

        Raises:
            MissingColumnError: a column is missing.
            DataError: the table is empty, or an item_id occurs twice.
        """
        item_id = _item_ids(items)
        tokens = {field: self._tokens(items, field) for field in self.fields}
        vocabulary = {field: as_vocabulary(tokens[field], self._least(field)) for field in self.fields}
        idf = np.concatenate([_idf(tokens[f], vocabulary[f], len(items), soft=f == "year") for f in self.fields])
        matrix = self._rows(tokens, vocabulary, idf, len(items))
        self._adopt(_Fitted(vocabulary, idf, matrix, item_id), items)
        return self

    def transform(self, items: pa.Table) -> csr_matrix:
        """Titles, fitted ones or new ones, as rows of the fitted vocabulary.

        Args:
            items: ``schema.ITEMS``, N rows.

        Returns:
            (N, vocabulary) float32 CSR; each row of length 1, or empty where a title has no known token.

        Raises:
            MissingColumnError: a column is missing.
        """
        state = self._fitted("transform")
        tokens = {field: self._tokens(items, field) for field in self.fields}
        return self._rows(tokens, state.vocabulary, state.idf, len(items))

    def fit_transform(self, items: pa.Table) -> csr_matrix:
        """The same as ``fit(items).transform(items)``, without reading the table twice."""
        return self.fit(items)._fitted("fit_transform").matrix.copy()

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields that have a weight, in the order of their columns."""
        return tuple(field for field in CONTENT_FIELDS if self.config.weights.get(field, 0) > 0)

    @property
    def item_id(self) -> Int64s:
        """(N,) int64: the fitted titles, in the order of their rows."""
        return self._fitted("item_id").item_id

    @property
    def vocabulary(self) -> dict[str, tuple[str, ...]]:
        """The tokens of each field, in the order of their columns; the fields follow each other."""
        return {field: tuple(words) for field, words in self._fitted("vocabulary").vocabulary.items()}

    def similar(self, item_id: NDArray[np.integer[Any]], k: int) -> TopK:
        """The titles most like each given one.

        Exact: every fitted title is compared. Itself is left out, so are titles that share nothing (a score of 0),
        hence a row may be shorter than k. Equal scores go to the smaller item_id.

        Args:
            item_id: (B,) int64, each a fitted title.
            k: list length, at least 1.

        Returns:
            A TopK of width k; past a row's length item_id is -1 and the score -inf. Scores are cosines in (0, 1].

        Raises:
            UsageError: k is below 1, or the model is not fitted.
            UnknownItemError: an item_id is not among the fitted titles.
        """
        if k < 1:
            raise UsageError(f"ContentModel.similar: got k={k}, expected at least 1.")
        rows = self._rows_of(np.asarray(item_id, np.int64))
        order = np.argsort(self.item_id)
        found = self._neighbour_index(order).nearest(_inverse(order)[rows], k)
        ids = np.where(found.row >= 0, self.item_id[order][found.row], -1)
        return TopK(ids, found.scores, found.lengths, np.full(len(rows), "content"))

    def similar_all(self, k: int, block_size: int = 4096) -> Iterator[SimilarBlock]:
        """Every fitted title's neighbours, in blocks, ascending by item_id. The block size never changes a list.

        Args:
            k: list length, at least 1.
            block_size: titles per block; a block takes about 12 x k x block_size bytes.

        Raises:
            UsageError: k or block_size is below 1, or the model is not fitted.
        """
        if block_size < 1:
            raise UsageError(f"ContentModel.similar_all: got block_size={block_size}, expected at least 1.")
        ids = np.sort(self.item_id)
        for start in range(0, len(ids), block_size):
            block = ids[start : start + block_size]
            yield SimilarBlock(block, self.similar(block, k))

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
            UsageError: dim is below 1, or the model is not fitted.
        """
        if dim < 1:
            raise UsageError(f"ContentModel.vectors: got dim={dim}, expected at least 1.")
        return _short_vectors(self._fitted("vectors").matrix, dim, seed)

    def explain(self, item_a: int, item_b: int) -> Reasons:
        """Why two titles resemble each other: what they share, and how much each field adds to the score.

        Raises:
            UnknownItemError: one of them is not a fitted title.
        """
        state = self._fitted("explain")
        a, b = self._rows_of(np.array([item_a, item_b], np.int64))
        return reasons(item_a, item_b, state.matrix[a], state.matrix[b], state.vocabulary)

    def find_title(self, query: str, limit: int = 5) -> list[Match]:
        """Titles by name, best first; see ``TitleIndex.find``."""
        self._fitted("find_title")
        if self._titles is None:
            assert self._items is not None
            self._titles = TitleIndex(self._items)
        return self._titles.find(query, limit)

    def save(self, folder: Path | str) -> None:
        """Write ``content.npz`` and ``content.json``; the same model gives the same bytes. No pickle.

        ``scipy.sparse.load_npz`` reads the matrix from the first.
        """
        state, folder = self._fitted("save"), Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        matrix = {name: getattr(state.matrix, name) for name in ("data", "indices", "indptr", "shape")}
        extra = {"format": np.array(b"csr"), "item_id": state.item_id, "idf": state.idf}
        write_arrays(folder / "content.npz", {**matrix, **extra})
        words = {"version": FORMAT_VERSION, "config": to_json(self.config), "vocabulary": dict(state.vocabulary)}
        write_json(folder / "content.json", words)

    @classmethod
    def load(cls, folder: Path | str, items: pa.Table) -> ContentModel:
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
        model = cls(from_json(ContentConfig, words["config"]))
        model._adopt(_stored(folder, words["vocabulary"], arrays, model.fields), items)
        if not np.array_equal(_item_ids(items), arrays["item_id"]):
            raise BundleError(
                f"{folder}: the content model was fitted on other titles than the table given. Train again."
            )
        return model

    def _adopt(self, state: _Fitted, items: pa.Table) -> None:
        self._state = state
        self._items = items.select(["item_id", "title", "year"])
        self._index = self._titles = None

    def _fitted(self, caller: str) -> _Fitted:
        if self._state is None:
            raise UsageError(
                f"ContentModel.{caller}: the model is not fitted. Call fit(items) or load(folder, items) first."
            )
        return self._state

    def _least(self, field: str) -> int:
        return self.config.min_document_count if field == "overview" else 1

    def _tokens(self, items: pa.Table, field: str) -> Tokens:
        return field_tokens(items, field, max_cast=self.config.max_cast)

    def _rows(
        self, tokens: Mapping[str, Tokens], vocabulary: Mapping[str, list[str]], idf: Float64s, num_items: int
    ) -> csr_matrix:
        from scipy.sparse import hstack

        blocks, start = [], 0
        for field in self.fields:
            stop = start + len(vocabulary[field])
            block = _block(tokens[field], vocabulary[field], idf[start:stop], num_items, soft=field == "year")
            blocks.append(block * np.sqrt(self.config.weights[field]))
            start = stop
        rows = _unit_rows(hstack(blocks, format="csr")).astype(np.float32)
        rows.sort_indices()
        return rows

    def _rows_of(self, item_id: Int64s) -> Int64s:
        known = self._fitted("similar").item_id
        order = np.argsort(known)
        place = np.minimum(np.searchsorted(known, item_id, sorter=order), len(known) - 1)
        rows: Int64s = order[place]
        if (wrong := np.flatnonzero(known[rows] != item_id)).size:
            raise UnknownItemError(int(item_id[wrong[0]]), len(known))
        return rows

    def _neighbour_index(self, order: Int64s) -> NeighbourIndex:
        if self._index is None:
            self._index = NeighbourIndex(self._fitted("similar").matrix[order])
        return self._index


def _item_ids(items: pa.Table) -> Int64s:
    for name in ("item_id", "title", "year"):
        if name not in items.column_names:
            raise MissingColumnError(TABLE, name, items.column_names)
    ids = items["item_id"].to_numpy().astype(np.int64)
    values, counts = np.unique(ids, return_counts=True)
    if counts.max(initial=0) != 1:
        wrong = f"item_id {values[counts.argmax()]} occurs {counts.max()} times" if len(ids) else "the table is empty"
        raise DataError(f"items: {wrong}, expected one or more titles, each once. Mend the table.")
    return ids


def _inverse(order: Int64s) -> Int64s:
    inverse = np.empty_like(order)
    inverse[order] = np.arange(len(order))
    return inverse


def _counts(tokens: Tokens, vocabulary: list[str], num_items: int) -> csr_matrix:
    """(num_items, len(vocabulary)) float64: the summed values of each known token in each title."""
    from scipy.sparse import csr_matrix

    column = pc.index_in(tokens.token, value_set=pa.array(vocabulary, pa.string()))
    known = column.is_valid().to_numpy(zero_copy_only=False)
    place = (tokens.row[known], column.drop_null().to_numpy())
    counts = csr_matrix((tokens.value[known], place), shape=(num_items, len(vocabulary)))
    counts.sum_duplicates()
    return counts


def _idf(tokens: Tokens, vocabulary: list[str], num_items: int, *, soft: bool) -> Float64s:
    """Smooth idf, ``ln((1 + N) / (1 + df)) + 1``; 1 for soft buckets, where nearness alone counts."""
    if soft:
        return np.ones(len(vocabulary))
    document_count = np.bincount(_counts(tokens, vocabulary, num_items).indices, minlength=len(vocabulary))
    return np.log((1 + num_items) / (1 + document_count)) + 1


def _block(tokens: Tokens, vocabulary: list[str], idf: Float64s, num_items: int, *, soft: bool) -> csr_matrix:
    """One field's unit rows: sublinear tf, ``1 + ln(count)``, times idf; soft buckets keep their values."""
    block = _counts(tokens, vocabulary, num_items)
    if not soft:
        block.data = 1 + np.log(block.data)
    block.data *= idf[block.indices]
    return _unit_rows(block)


def _unit_rows(matrix: csr_matrix) -> csr_matrix:
    lengths = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1))).ravel()
    matrix.data /= np.repeat(lengths, np.diff(matrix.indptr))
    return matrix


def _short_vectors(matrix: csr_matrix, dim: int, seed: int) -> Float32s:
    from sklearn.utils.extmath import randomized_svd

    out = np.zeros((matrix.shape[0], dim), np.float32)
    width = min(dim, *matrix.shape)
    if width == 0:
        return out
    left, singular, _ = randomized_svd(matrix.astype(np.float64), width, n_iter=7, random_state=seed)
    left = left[:, singular > 1e-6 * max(singular[0], 1e-6)]
    signs = np.sign(left[np.abs(left).argmax(axis=0), np.arange(left.shape[1])])
    out[:, : left.shape[1]] = left * signs * singular[: left.shape[1]]
    return out


def _stored(
    folder: Path, vocabulary: Mapping[str, list[str]], arrays: Mapping[str, NDArray[Any]], fields: tuple[str, ...]
) -> _Fitted:
    from scipy.sparse import csr_matrix

    width = sum(len(vocabulary[field]) for field in fields)
    if len(arrays["idf"]) != width or tuple(arrays["shape"]) != (len(arrays["item_id"]), width):
        raise BundleError(f"{folder}: content.npz and content.json do not belong together. Train and save again.")
    parts = (arrays["data"], arrays["indices"], arrays["indptr"])
    matrix = csr_matrix(parts, shape=tuple(arrays["shape"]))
    ordered = {field: list(vocabulary[field]) for field in fields}
    return _Fitted(ordered, arrays["idf"], matrix, arrays["item_id"])
