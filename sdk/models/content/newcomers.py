"""Items that were not there when a bundle was trained: what they are places them among those that were.

The content model reads them by the vocabulary that it has: they are found by items that share words and values with
them, and asked about like any other. The history model gives an item without ratings the factors that its content
says, ``F theta`` of ``b = beta + F theta`` (``sdk.models.history.fit``): the same ridge regression of fitted items'
factors on their content vectors that unrated items of the catalogue have had in training. A ranker knows nothing of
them: their row of its table is that of an unknown item, so that in a blended list it says of all newcomers the same.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa

from sdk.base.ids import ids_in
from sdk.base.types import Float32s, Int64s
from sdk.features.tables import FIRST_KNOWN, EncodedTable
from sdk.models.content.model import ContentModel
from sdk.models.history.fit import extend
from sdk.models.history.matrices import most_rated, scaled_features
from sdk.models.history.model import HistoryModel


def with_newcomers(
    history: HistoryModel, content: ContentModel, items: pa.Table, before: EncodedTable, after: EncodedTable,
    counts: Int64s, seed: int,
) -> HistoryModel:  # fmt: skip
    """The history model over a table with more items; nothing that it says of the others changes.

    Args:
        history: over the rows of ``before``.
        content: fitted on the items of ``before`` alone.
        items: the new ones, as ``ContentModel.fit`` takes them; their content is read.
        before: the items' table that the bundle was trained with.
        after: the same with rows for the new ones, whatever their place.
        counts: (R,) ratings of each row of ``before`` that were learnt from.
        seed: of the content vectors, ``RunConfig.seed``.

    Returns:
        A model over the rows of ``after``. Where it was trained without content vectors new items have factors of 0.
    """
    source = before.index_of(after.ids)
    source[:FIRST_KNOWN] = np.arange(FIRST_KNOWN)
    parts = {name: getattr(history, name)[source] for name in ("item_in", "item_out", "item_bias")}
    rows = after.index_of(ids_in(items["item_id"]))
    for values in parts.values():
        values[rows] = 0  # nobody has rated them: popularity, the last column, says nothing
    if history.config.feature_dim and history.config.content_weight:
        known, some = _features(history, content, items, before, seed)
        fitted = most_rated(counts, history.config.max_titles)
        for name in ("item_in", "item_out"):
            parts[name][rows, :-1] = extend(known[fitted], getattr(history, name)[fitted, :-1], some)
    return replace(history, **parts)


def _features(
    history: HistoryModel, content: ContentModel, items: pa.Table, before: EncodedTable, seed: int
) -> tuple[Float32s, Float32s]:
    """Content vectors as the regression had them: (R, f) of the rows of ``before``, and (M, f) of new items."""
    weight, width = history.config.content_weight, history.config.feature_dim
    known, some = content.fold_in(items, width, seed)
    vectors = np.zeros((len(before), width), np.float32)
    vectors[before.index_of(content.item_id)] = known
    wide = known.astype(np.float64)
    centre = wide.mean(axis=0)
    length = np.sqrt(((wide - centre) ** 2).sum() / len(wide))
    scaled = (some - centre) * (weight / length if length > 0 else 0.0)
    return scaled_features(vectors, len(before), weight), scaled.astype(np.float32)
