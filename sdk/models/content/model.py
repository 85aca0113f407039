"""The content model: which items resemble each other, by what they are and by who likes them.

    model = ContentModel(ContentConfig()).fit(items)
    model.similar(np.array([1]), k=10)

Every item becomes one sparse unit vector: a TF-IDF block per field (Salton and Buckley 1988, "Term-weighting
approaches in automatic text retrieval"), each block of length 1, times the square root of the field's weight, the
whole row of length 1 again. The score of two items is the cosine, so a field in which both agree wholly adds its
weight's share. A field that an item lacks adds nothing, and the rest of that item counts for more.

The fields are MovieLens's and TMDB's, or the columns that a description names, each read as its role says. What
is liked together may have a share of the score (``hybrid``); an item without content is listed by that alone.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sdk.base.arrow_tables import as_table
from sdk.base.config import ContentConfig, to_json
from sdk.base.description import Description
from sdk.base.errors import BundleError, UsageError
from sdk.base.ids import count_of, id_of, ids_of, nobody, title_rows
from sdk.base.stored_arrays import read_arrays, read_json, write_arrays, write_json
from sdk.base.types import Bools, Float32s, Id, IdArray, Ids, Table, TopK, keys_of
from sdk.models.content import storage
from sdk.models.content.choice import WeightChoice, choose_weights
from sdk.models.content.fields import PRESET, Roles, roles_of
from sdk.models.content.fitted import Fitted
from sdk.models.content.hybrid import HYBRID, LikedShare, choose_share
from sdk.models.content.matrix import SparseRows, joined, short_vectors
from sdk.models.content.neighbours import NeighbourIndex
from sdk.models.content.reading import Reader
from sdk.models.content.reasons import Reasons, reasons
from sdk.models.content.title_search import Match, TitleIndex
from sdk.models.content.together import TOGETHER, Likes, neighbours

log = logging.getLogger(__name__)
if TYPE_CHECKING:
    from typing import Self

    from scipy.sparse import csr_matrix

FORMAT_VERSION = 1
"""Version of the saved form; another one is refused."""

CONTENT = "content"
"""The ``source`` of a list of what an item resembles."""
_ARRAYS = frozenset({"data", "indices", "indptr", "shape", "item_id", "idf"})


class SimilarBlock(NamedTuple):
    """Some titles and their neighbours.

    Attributes:
        item_id: (B,) int64, the titles asked for.
        neighbours: row b holds the titles most like ``item_id[b]``.
    """

    item_id: IdArray
    neighbours: TopK


class ContentModel:
    """Cosine similarity of items over weighted TF-IDF blocks.

    Args:
        config: weights per field, and what is read.

    Attributes:
        choice: how weights were chosen that the configuration leaves open; None where none were.
        liked: how much liking together counts in a score; None where no likes were given.
    """

    def __init__(self, config: ContentConfig | None = None) -> None:
        self._reader = Reader(config or ContentConfig(), PRESET)
        self.choice: WeightChoice | None = None
        self.liked: LikedShare | None = None
        self._state: Fitted | None = None
        self._index: NeighbourIndex | None = None
        self._titles: TitleIndex | None = None

    def fit(self, items: Table, about: Description | None = None, likes: Likes | None = None) -> Self:
        """Learn vocabulary and idf, and index the items.

        Args:
            items: ``schema.ITEMS``, or what ``about`` describes; item_id unique. Only the columns of fields with a
                weight are read, and the title.
            about: what the columns mean; None is MovieLens with TMDB.
            likes: of the training part. They choose what liking together counts in a score and, of other data than
                MovieLens, the weights that the configuration leaves open.

        Raises:
            MissingColumnError: a column is missing.
            UsageError: it is no table.
            ConfigError: the configuration gives a weight to a column that is not read.
            DataError: the table is empty, a column is of another kind, or an item_id occurs twice.
        """
        reader, self.choice = Reader(self._reader.config, roles_of(about)), None
        items = as_table(items, reader.layout(items), "items")
        reader.check(items)
        found = {field: reader.learn(items, field) for field in reader.weights}
        blocks = {field: block for field, (_, block) in found.items()}
        if reader.is_open:
            reader = reader.weighing(self._chosen(reader, blocks, likes))
        matrix = joined(blocks, reader.weights, len(items))
        self._reader, self.liked = reader, None
        if likes is not None:
            self.liked = choose_share(matrix, likes)
            log.info("look-alikes: %s", self.liked)
        return self._adopt(
            Fitted.of({f: found[f][0] for f in reader.weights}, SparseRows.of(matrix), items.select(reader.named))
        )

    def _chosen(self, reader: Reader, blocks: Mapping[str, csr_matrix], likes: Likes | None) -> Mapping[str, float]:
        """The weights of columns that hold anything, by what is liked together where that is known."""
        weights = {name: weight for name, weight in reader.weights.items() if blocks[name].nnz}
        if likes is not None and weights:
            weights, self.choice = choose_weights({n: blocks[n] for n in weights}, reader.roles, weights, likes)
        named = (
            ", ".join(f"{name} {weight:g}" for name, weight in weights.items()) or "none, as no column says anything"
        )
        found = (
            "" if self.choice is None else f" (NDCG@20 {self.choice.before:.4f} before, {self.choice.after:.4f} now)"
        )
        log.info("content model: weights %s%s", named, found)
        return weights

    def listing_together(self, likes: Likes) -> Self:
        """The same model, whose lists are also of what is liked together, by the share that was chosen.

        Args:
            likes: of the parts that are learnt from.
        """
        state, liked = self._fitted("listing_together"), self.liked or LikedShare()
        num_items = len(state.item_id)
        listed = np.arange(num_items) if liked.share else np.flatnonzero(state.bare)
        if not np.isin(listed, likes.item).any():
            return self
        together = neighbours(likes, listed, num_items, liked.shrink)
        return copy(self)._adopt(replace(state, together=SparseRows.of(together), share=liked.share))

    def by_content(self) -> Self:
        """The same model, whose lists are by content alone; what is liked together makes those of items without any."""
        return copy(self)._adopt(replace(self._fitted("by_content"), share=0.0))

    def transform(self, items: Table) -> csr_matrix:
        """Items, fitted ones or new ones, as rows of the fitted vocabulary.

        Args:
            items: as ``fit``, N rows.

        Returns:
            (N, vocabulary) float32 CSR; each row of length 1, or empty where an item has no known token.

        Raises:
            MissingColumnError: a column is missing.
            UsageError: it is no table, or the model is not fitted.
            DataError: a column is of another kind.
        """
        state, items = self._fitted("transform"), as_table(items, self._reader.layout(items), "items")
        blocks = {field: self._reader.block(items, field, learnt) for field, learnt in state.learnt.items()}
        return joined(blocks, self._reader.weights, len(items))

    @property
    def matrix(self) -> csr_matrix:
        """(N, vocabulary) float32, the fitted items in the order of ``item_id``."""
        return self._fitted("matrix").matrix

    def fit_transform(self, items: Table) -> csr_matrix:
        """The same as ``fit(items).transform(items)``, without reading the table twice."""
        return self.fit(items)._fitted("fit_transform").matrix.copy()

    @property
    def config(self) -> ContentConfig:
        """As it was given; after ``fit``, with the weights that were used."""
        return self._reader.config

    @property
    def roles(self) -> Roles:
        """The columns that it reads -> their roles."""
        return self._reader.roles

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields that have a weight, in the order of their columns."""
        return tuple(self._reader.weights)

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
            and the score -inf. Scores are in (0, 1]: cosines where ``source`` is ``content``, of what is liked together
            where it is ``together``, as nothing is known of a title, and the sum of their shares where ``hybrid``.

        Raises:
            UsageError: k is no whole number of at least 1, or the model is not fitted.
            UnknownItemError: an item_id is not among the fitted titles.
        """
        k = count_of(k, "ContentModel.similar: k")
        state = self._fitted("similar")
        self._index = self._index or self._indexed(None)
        places = title_rows(state.ids, ids_of(item_id, "item_id", state.ids))
        found = self._index.nearest(places, min(k, len(state.ids)))
        ids = np.where(found.row >= 0, state.ids[found.row], nobody(state.ids))
        row = state.order[places]
        bare = state.bare[row] if state.together is not None else np.zeros(len(row), np.bool_)
        source = np.where(bare, TOGETHER, np.where(state.shares[row] > 0, HYBRID, CONTENT))
        return TopK(ids, np.minimum(found.scores, 1), found.lengths, source, "item_id", state.ids[places])

    def listing(self, item_id: Ids) -> Self:
        """The same model, whose ``similar`` lists the given titles alone; every fitted title can still be asked about.

        Args:
            item_id: (N,) int64; titles that are not fitted are passed over.
        """
        state = self._fitted("listing")
        narrowed = copy(self)._adopt(state)
        listed = np.isin(state.ids, ids_of(item_id, "item_id", state.ids))
        narrowed._index = self._indexed(listed)
        return narrowed

    def _indexed(self, listed: Bools | None) -> NeighbourIndex:
        asked, found = self.search_matrices()
        return NeighbourIndex(found, listed, asked)

    def search_matrices(self) -> tuple[csr_matrix, csr_matrix]:
        """What a ``NeighbourIndex`` searches, as ``Fitted.search_matrices`` says."""
        return self._fitted("search_matrices").search_matrices()

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

    def with_items(self, items: Table) -> Self:
        """The same model with more items, which are found and asked about like the fitted ones; it learns no word.

        Args:
            items: as ``fit``; none of them is a fitted one.

        Raises:
            DataError: an item_id occurs twice, or is a fitted one.
        """
        items = as_table(items, self._reader.layout(items), "items")
        return copy(self)._adopt(self._fitted("with_items").extended(self.transform(items), items))

    def shares(self, item_id: Ids) -> Float32s:
        """(B,) float32: of the scores in each given title's list, what is liking together's part.

        Raises:
            UnknownItemError: a title is not among the fitted ones.
        """
        state = self._fitted("shares")
        return state.shares[state.rows(item_id)]

    def explain(self, item_a: Id, item_b: Id) -> Reasons:
        """Why two titles resemble each other: what they share, and how much each field adds to the score.

        Raises:
            UnknownItemError: one of them is not a fitted title.
        """
        state = self._fitted("explain")
        item_a, item_b = (id_of(item, name, state.ids) for item, name in ((item_a, "item_a"), (item_b, "item_b")))
        a, b = state.rows([item_a, item_b])
        words = {field: learnt.words for field, learnt in state.learnt.items()}
        return reasons(item_a, item_b, state.contents.row(a), state.contents.row(b), words, self.roles)

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
        idf = np.concatenate([np.zeros(0), *(learnt.idf for learnt in state.learnt.values())])
        extra = {"format": np.array(b"csr"), "item_id": keys_of(state.names, "item_id"), "idf": idf}
        arrays = storage.arrays_of(state.contents, storage.MATRIX) | {"shape": np.array(state.contents.shape)} | extra
        words = {"version": FORMAT_VERSION, "config": to_json(self.config), "vocabulary": state.vocabulary}
        if self.roles != PRESET:  # pairs, for an object's keys are sorted
            words["roles"] = [list(pair) for pair in self.roles.items()]
            words["edges"] = {field: learnt.edges for field, learnt in state.learnt.items()}
            words["choice"] = None if self.choice is None else self.choice.to_json()
        if state.together is not None:
            arrays |= storage.arrays_of(state.together, storage.ALIKE)
            words["alike"] = (self.liked or LikedShare()).to_json()
        write_arrays(folder / "content.npz", arrays)
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
        model = cls()
        model._reader = reader = Reader(*storage.settings(folder, words))
        items = as_table(items, reader.layout(items), "items")
        reader.check(items)
        if not np.array_equal(keys_of(items, "item_id"), arrays["item_id"]):
            raise BundleError(f"{folder}: fitted on other titles than those of the table given. Train and save again.")
        matrix, learnt = storage.stored_rows(folder, words, arrays, model.fields)
        state = Fitted.of(learnt, matrix, items.select(reader.named))
        together, model.liked = storage.stored_together(folder, words, arrays)
        share = 0.0 if model.liked is None else model.liked.share
        return model._adopt(replace(state, together=together, share=share))

    def _adopt(self, state: Fitted) -> Self:
        self._state, self._index, self._titles = state, None, None
        return self

    def _fitted(self, caller: str) -> Fitted:
        if self._state is None:
            raise UsageError(
                f"ContentModel.{caller}: the model is not fitted. Call fit(items) or load(folder, items) first."
            )
        return self._state
