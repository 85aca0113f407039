"""Were the content model's weights chosen well, or fitted to the films they are measured on?

The shipped weights were chosen by hand on all of TMDB 5000 and all of latest-small's likes. Here a plain coordinate
search chooses weights anew on one half (films with even ids, likes of users with even ids), and both sets of weights
are measured on the other half; then the other way round. What is measured was never seen by the weights searched for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sdk.base.config import CONTENT_FIELDS, ContentConfig
from sdk.models.content.model import ContentModel

if TYPE_CHECKING:
    from content_quality import Yardstick

GRID = (0.0, 0.1, 0.2, 0.35, 0.5, 0.7, 1.0, 1.4)
ROUNDS = 2
K = 10


@dataclass(frozen=True)
class FieldScores:
    """What some films share with all films, field by field; weights then make the model's cosine of it.

    Attributes:
        films: (Q,) rows of the films asked for.
        cosine: field -> (Q, N) float32 cosines by that field alone.
        present: field -> (N,) float32, 1 where a film has the field.
    """

    films: NDArray[np.int64]
    cosine: Mapping[str, NDArray[np.float32]]
    present: Mapping[str, NDArray[np.float32]]

    @classmethod
    def of(cls, items: pa.Table, films: NDArray[np.int64]) -> FieldScores:
        cosine, present = {}, {}
        for field in CONTENT_FIELDS:
            rows = ContentModel(ContentConfig(weights={field: 1.0})).fit_transform(items)
            if rows.nnz:
                cosine[field] = (rows[films] @ rows.T).toarray().astype(np.float32)
                present[field] = (np.diff(rows.indptr) > 0).astype(np.float32)
        return cls(films, cosine, present)

    def take(self, rows: NDArray[np.bool_]) -> FieldScores:
        return FieldScores(self.films[rows], {f: c[rows] for f, c in self.cosine.items()}, self.present)

    def weighted(self, weights: Mapping[str, float]) -> NDArray[np.float32]:
        """(Q, N): the sum over the fields, not yet divided by the films' lengths."""
        out = np.zeros((len(self.films), len(next(iter(self.present.values())))), np.float32)
        for field, cosine in self.cosine.items():
            if weights.get(field, 0):
                out += np.float32(weights[field]) * cosine
        return out

    def nearest(self, weighted: NDArray[np.float32], weights: Mapping[str, float]) -> NDArray[np.int64]:
        """(N, 10) rows of the nearest films; the films not asked for have -1."""
        length = sum(np.float32(weights.get(field, 0)) * present for field, present in self.present.items())
        scores = weighted / np.sqrt(np.maximum(length, 1e-9))
        scores[np.arange(len(self.films)), self.films] = -1
        out = np.full((scores.shape[1], K), -1)
        out[self.films] = np.argpartition(-scores, K, axis=1)[:, :K]
        return out


def worth(figures: Mapping[str, float]) -> float:
    """The geometric mean of the three figures: a percent of any of them counts the same."""
    return float(np.prod(list(figures.values())) ** (1 / len(figures)))


def choose(scores: FieldScores, wanted: Yardstick) -> dict[str, float]:
    """Coordinate search from equal weights: each field in turn takes the best weight of the grid, twice over."""
    weights = dict.fromkeys(scores.cosine, 0.5)
    for _ in range(ROUNDS):
        for field, cosine in scores.cosine.items():
            rest = scores.weighted({**weights, field: 0.0})
            tried = {}
            for weight in GRID:
                trial = {**weights, field: weight}
                nearest = scores.nearest(rest + np.float32(weight) * cosine, trial)
                tried[weight] = worth(wanted.measure(nearest))
            weights[field] = max(tried, key=lambda weight: tried[weight])
    return weights


def measured(scores: FieldScores, wanted: Yardstick, weights: Mapping[str, float]) -> dict[str, float]:
    return wanted.measure(scores.nearest(scores.weighted(weights), weights))
