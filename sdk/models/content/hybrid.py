"""Hybrid neighbours: titles alike in content and liked by the same people, in one labelled list.

score(a, b) = (1 - w) cosine(a, b) + w s(a, b) / max_c s(a, c), with s(a, b) = <item_in[a], item_out[b]>, at least 0:
what the history model expects of b from a visitor who liked a alone. Both parts lie in 0 to 1. Only titles that
somebody has rated take part in s; a title that nobody has rated gets its content list. How w was chosen:
``docs/content.md``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sdk.base.errors import UsageError
from sdk.base.ids import ids_of
from sdk.base.types import BestRows, Float32s, IdArray, Ids, TopK, put_together

if TYPE_CHECKING:
    from sdk.features.tables import EncodedTable
    from sdk.models.content.model import ContentModel
    from sdk.models.history.model import HistoryModel

HYBRID = "hybrid"
"""The ``source`` of a hybrid list."""

LEARNED_SHARE = 0.2
"""Default w, the learned part's share of the score."""

_ROUNDING = 1e-6  # of a float32 score of at most 1
_BLOCK = 256  # titles whose scores over the whole catalogue are held at once


def hybrid_similar(
    content: ContentModel,
    history: HistoryModel,
    items: EncodedTable,
    item_ids: Ids,
    k: int,
    learned_share: float = LEARNED_SHARE,
) -> TopK:
    """The k titles most like each given one, by content and by who liked them. Exact; ties go to the smaller item_id.

    Args:
        content: fitted on the titles of ``items``.
        history: over the rows of ``items``.
        items: the items' encoded table; its statistics say who has been rated.
        item_ids: (B,) int64 known titles.
        k: list length, at least 1.
        learned_share: w, 0 to 1.

    Returns:
        A TopK of width k, or of the number of titles where that is less; past a row's length item_id is -1 and the
        score -inf. ``source`` is ``hybrid``, or ``content`` where nobody has rated the title.

    Raises:
        UsageError: k < 1, or the share lies outside 0 to 1.
        UnknownItemError: an item_id is not among the titles.
    """
    if not 0 <= learned_share <= 1:
        raise UsageError(f"hybrid_similar: got learned_share={learned_share}, expected 0 to 1")
    wanted = ids_of(item_ids, "item_ids", items.ids)
    lists = content.similar(wanted, k)
    width = lists.item_id.shape[1]  # no list is longer than the catalogue
    parts = [(np.arange(len(wanted)), lists)]
    rated = np.flatnonzero(items.statistics.count[items.index_of(wanted)] > 0)
    for start in range(0, len(rated), _BLOCK):
        rows = rated[start : start + _BLOCK]
        blended = hybrid_scores(content, history, items, wanted[rows], learned_share)
        parts.append((rows, _best(content.item_id, blended, width)))
    return put_together(parts, len(wanted), width).answering("item_id", wanted)


def learned_part(score: float, cosine: float, learned_share: float = LEARNED_SHARE) -> float:
    """What the learned part adds to a hybrid score; 0 where it is no more than rounding."""
    added = score - (1 - learned_share) * cosine
    return added if added > _ROUNDING else 0.0


def hybrid_scores(
    content: ContentModel, history: HistoryModel, items: EncodedTable, item_ids: IdArray, learned_share: float
) -> Float32s:
    """(B, N) float32 scores of all N titles of ``content.item_id``, in that order; 0 for the title itself."""
    cosine = content.cosines(item_ids)
    rows, columns = items.index_of(item_ids), items.index_of(content.item_id)
    learned = np.maximum(history.item_in[rows] @ history.item_out[columns].T, 0)
    learned[:, items.statistics.count[columns] == 0] = 0
    itself = item_ids[:, None] == content.item_id[None]
    cosine[itself] = learned[itself] = 0
    most = learned.max(axis=1, keepdims=True)
    learned = np.divide(learned, most, out=np.zeros_like(learned), where=most > 0)
    return np.asarray((1 - learned_share) * cosine + learned_share * learned, dtype=np.float32)


def _best(item_id: IdArray, scores: Float32s, k: int) -> TopK:
    """Each row's k best titles; what shares nothing (a score of 0) is left out."""
    by_id = np.argsort(item_id)
    order = by_id[np.argsort(-scores[:, by_id], axis=1, kind="stable")[:, :k]]
    best = np.take_along_axis(scores, order, axis=1)
    real = best > 0
    found = BestRows(np.where(real, order, -1), np.where(real, best, np.float32(-np.inf)), real.sum(1, dtype=np.int32))
    return found.named(item_id, np.full(len(best), HYBRID))
