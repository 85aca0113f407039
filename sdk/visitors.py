"""Lists for a visitor of whom only some liked titles are known, by the history model, without training anything."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from sdk.errors import UsageError
from sdk.scoring.engine import Engine
from sdk.scoring.filters import rows_of
from sdk.scoring.recommender import HISTORY, POPULAR, popular_form
from sdk.scoring.seen import Seen
from sdk.types import Int64s, TopK

if TYPE_CHECKING:
    from sdk.bundle_view import BundleView
    from sdk.models.history import HistoryModel


def need_history(bundle: BundleView) -> HistoryModel:
    """The bundle's history model.

    Raises:
        UsageError: it was trained without one.
    """
    if bundle.history is None:
        message = f"{bundle.path}: trained without the history model; train it with --models dlrm,ncf,history,content"
        raise UsageError(message)
    return bundle.history


def visitor_list(bundle: BundleView, item_ids: Sequence[int] | Int64s, k: int) -> TopK:
    """See ``Bundle.recommend_for``."""
    history = need_history(bundle)
    liked = np.unique(rows_of(bundle.encoded_items, item_ids))
    vector = history.user_vectors(np.array([0, len(liked)]), liked)
    known = bool(vector.any())
    form = history.form_of(vector) if known else popular_form(bundle.encoded_items, 1)
    seen = Seen.build(np.zeros(len(liked), dtype=np.int64), liked, 1)
    found = Engine(form).top_k(np.zeros(1, dtype=np.int64), seen, k)
    source = np.array([HISTORY if known else POPULAR])
    return TopK(bundle.encoded_items.ids[found.item_index], found.scores, found.lengths, source)
