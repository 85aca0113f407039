"""How much of a ranker's logit a list takes: none, unless the validation part says that it pays.

A ranker learns who likes what among the items that people met, the closed form also what they meet at all; whether
the first adds anything to a list depends on the data. So both are fitted on the training part, and some shares are
tried on the lists of the validation part's users. A share is taken only where the lists gain by it beyond doubt, user
by user, and by more than ``WORTH``: a list with a ranker in it takes some fifty times as long to make.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from sdk.base.ids import rows_of
from sdk.base.types import Float32s, Float64s, Int64s
from sdk.features.seen import Seen
from sdk.features.tables import FIRST_KNOWN, EncodedInteractions
from sdk.metrics.lists import RelevanceSets, best_columns, ndcg, user_mean
from sdk.models.pair_form import PairForm
from sdk.models.pair_model import PairModel
from sdk.scoring.engine import Engine

log = logging.getLogger(__name__)

TRIED = (0.03, 0.1, 0.3, 1.0)
"""Shares, as the spread of what the ranker adds to that of the closed form's scores."""
WORTH = 0.01
"""Of the closed form's NDCG@10, what a share must add to it at least."""
_DOUBT = 2.0  # standard errors; several shares are tried
_MOST_PAIRS, _FEWEST_USERS, _MOST_USERS = 6_000_000, 100, 1000
_LIST = 10


@dataclass(frozen=True, slots=True)
class ShareChoice:
    """What was chosen, and by what.

    Attributes:
        share: of the ranker's logit, added to the closed form's score; 0 where it does not pay.
        ndcg10: share -> mean NDCG@10 of the lists, 0 being the closed form alone.
        num_users: whose lists were measured.
    """

    share: float
    ndcg10: Mapping[float, float]
    num_users: int

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        table = [[share, round(value, 6)] for share, value in self.ndcg10.items()]
        return {"share": self.share, "ndcg10": table, "num_users": self.num_users}


@dataclass(frozen=True, slots=True, eq=False)
class ShareTask:
    """Whose lists are measured.

    Attributes:
        users: (U,) int64 rows of the users' table.
        closed: (U, R) float32 the closed form's scores of every item; of those that may not be listed minus infinity.
        relevant: what the lists should name.
    """

    users: Int64s
    closed: Float32s
    relevant: RelevanceSets

    @classmethod
    def of(cls, form: PairForm, learnt: EncodedInteractions, liked: EncodedInteractions, seed: int) -> ShareTask | None:
        """The task of some likes; None where too few users have any.

        Args:
            form: of the closed form, without an MLP, fitted on what is ``learnt``.
            learnt: the training part; nobody's list names what they have there.
            liked: the validation part's likes.
            seed: draws the users where there are many.
        """
        known = (liked.user_index >= FIRST_KNOWN) & (liked.item_index >= FIRST_KNOWN)
        liked = liked.take(known & np.isin(liked.user_index, learnt.user_index))
        users = np.unique(liked.user_index).astype(np.int64)
        if len(users) < _FEWEST_USERS:
            return None
        most = min(_MOST_USERS, max(_FEWEST_USERS, _MOST_PAIRS // len(form.items)))
        if len(users) > most:
            users = np.sort(np.random.default_rng(seed).choice(users, most, replace=False))
        closed = form.users.dot[users] @ form.items.dot.T + form.items.bias
        closed[:, :FIRST_KNOWN] = -np.inf
        place = rows_of(users, learnt.user_index.astype(np.int64))
        closed[place[place >= 0], learnt.item_index[place >= 0]] = -np.inf
        place, asked = rows_of(users, liked.user_index.astype(np.int64)), liked.item_index.astype(np.int64)
        relevant = RelevanceSets(place[place >= 0], asked[place >= 0], len(users))
        return cls(users, np.asarray(closed, np.float32), relevant)

    def choose(self, ranker: PairModel) -> ShareChoice:
        """The share of a ranker that was trained on the same part."""
        found = self._chosen(self._logits(ranker))
        measured = ", ".join(f"{share:g}: {value:.4f}" for share, value in found.ndcg10.items())
        log.debug("NDCG@10 of lists by a ranker's share: %s; %g is taken", measured, found.share)
        return found

    def _logits(self, ranker: PairModel) -> Float32s:
        """(U, R) float32 of every item, by the engine that would make the lists."""
        every = Engine(ranker.lower()).top_k(self.users, Seen.nothing(len(self.users)), len(self.closed[0]))
        logits = np.full(self.closed.shape, -np.inf, np.float32)
        np.put_along_axis(logits, every.row.astype(np.int64), every.scores, axis=1)
        return logits

    def _chosen(self, logits: Float32s) -> ShareChoice:
        listed = np.isfinite(self.closed)
        unit = float(self.closed[listed].std() / max(float(logits[listed].std()), 1e-12))
        alone = self._ndcg10(self.closed)
        found, surely = {0.0: user_mean(alone)}, {0.0: 0.0}
        for part in TRIED:
            share = float(f"{part * unit:.2g}")
            each = self._ndcg10(self.closed + np.float32(share) * logits)
            found[share], gain = user_mean(each), each - alone
            least = user_mean(gain) - _DOUBT * float(np.nanstd(gain)) / len(gain) ** 0.5
            surely[share] = least if found[share] >= (1 + WORTH) * found[0.0] else -1.0
        return ShareChoice(max(surely, key=lambda share: surely[share]), found, len(self.users))

    def _ndcg10(self, scores: Float32s) -> Float64s:
        return ndcg(best_columns(scores, _LIST), self.relevant, _LIST)
