"""Compiling ahead what scores and finds similar titles, so that a fresh container's first list need not wait for it."""

from __future__ import annotations

import numpy as np

from sdk.features.seen import Seen
from sdk.models.pair_form import Head, PairForm, Side
from sdk.scoring.engine import Engine


def warm_up() -> None:
    """Score a made-up model of each kind once, and ask for similar titles."""
    from scipy.sparse import csr_matrix

    from sdk.models.content.neighbours import NeighbourIndex

    for hidden in (0, 2):
        Engine(_form(hidden), threads=1).top_k_and_audience(np.arange(2), Seen.nothing(2), 1)
    NeighbourIndex(csr_matrix(np.ones((2, 1), np.float32))).nearest(np.arange(2), 1, threads=1)


def _form(hidden: int) -> PairForm:
    fields = int(hidden > 0)

    def zeros(*shape: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        return np.zeros(shape, np.float32)

    side = Side(zeros(4), zeros(4, 2), zeros(4, hidden), zeros(4, fields, 2))
    tail = ((zeros(hidden, hidden), zeros(hidden)), (zeros(1, hidden), zeros(1))) if hidden else ()
    return PairForm(side, side, Head(zeros(hidden, fields), tail))
