"""Lists for a visitor of whom only some liked titles are known, by the history model, without training anything."""

from __future__ import annotations

import numpy as np

from sdk.base.errors import ScoreError
from sdk.base.types import Float32s, Int64s, TopK
from sdk.features.tables import FIRST_KNOWN, EncodedTable
from sdk.models.history.model import HistoryModel
from sdk.models.pair_form import PairForm
from sdk.scoring.recommender import HISTORY, POPULAR, popular_form


def visitor_list(history: HistoryModel, items: EncodedTable, rows: Int64s, k: int) -> TopK:
    """The k best titles beside liked ones (rows of the items' table); see ``Bundle.recommend_for``."""
    liked = np.unique(rows)
    vector = history.user_vectors(np.array([0, len(liked)]), liked)
    known = bool(vector.any())
    best, scores = best_rows(history.form_of(vector) if known else popular_form(items, 1), liked, k)
    source = np.array([HISTORY if known else POPULAR])
    return TopK(items.ids[best][None], scores[None], np.array([len(best)], dtype=np.int32), source)


def best_rows(form: PairForm, liked: Int64s, k: int) -> tuple[Int64s, Float32s]:
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
