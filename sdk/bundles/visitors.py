"""Lists for a visitor of whom only some liked titles are known, by the history model, without training anything."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from sdk.base.errors import ScoreError, UsageError
from sdk.base.ids import count_of
from sdk.base.types import Float32s, Int64s, TopK
from sdk.features.tables import FIRST_KNOWN
from sdk.scoring.filters import rows_of
from sdk.scoring.recommender import HISTORY, POPULAR, popular_form

if TYPE_CHECKING:
    from sdk.bundles.view import BundleView
    from sdk.models.history.model import HistoryModel
    from sdk.models.pair_form import PairForm


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
    history, k = need_history(bundle), count_of(k, "k")
    liked = np.unique(rows_of(bundle.encoded_items, item_ids))
    vector = history.user_vectors(np.array([0, len(liked)]), liked)
    known = bool(vector.any())
    form = history.form_of(vector) if known else popular_form(bundle.encoded_items, 1)
    rows, scores = _best_rows(form, liked, k)
    length = np.array([len(rows)], dtype=np.int32)
    source = np.array([HISTORY if known else POPULAR])
    return TopK(bundle.encoded_items.ids[rows][None], scores[None], length, source)


def _best_rows(form: PairForm, liked: Int64s, k: int) -> tuple[Int64s, Float32s]:
    """The best rows of one user without an MLP, and their scores: one product, since the engine's layout of a whole
    catalogue takes longer than that and serves many users. Equal scores go to the smaller row, as in the engine.

    Raises:
        ScoreError: a score is infinite or NaN.
    """
    score = np.asarray(form.items.dot @ form.users.dot[0] + form.items.bias + form.users.bias[0], dtype=np.float32)
    allowed = np.setdiff1d(np.arange(FIRST_KNOWN, len(score)), liked)
    if not np.isfinite(score[allowed]).all():
        message = "a visitor's scores are not all finite: the history model is damaged. Train the bundle again."
        raise ScoreError(message)
    if len(allowed) > k:
        worst = np.partition(score[allowed], len(allowed) - k)[len(allowed) - k]
        allowed = allowed[score[allowed] >= worst]
    best = allowed[np.lexsort((allowed, -score[allowed]))][:k]
    return best, score[best]
