"""The one door through which served models import the SDK.

A repository that is exported carries copies of `triton_models/`, which import from here and from nowhere else: what is
behind the door may move, and repositories exported before still load. Names are only ever added.
"""

from sdk.base.types import Bools, Float32s, Float64s, Int64s, TopK
from sdk.features.seen import Seen
from sdk.features.tables import UNKNOWN, EncodedTable, Statistics
from sdk.models.content.neighbours import NeighbourIndex
from sdk.models.pair_form import Head, PairForm, Side
from sdk.scoring.recommender import Recommender

__all__ = [
    "UNKNOWN", "Bools", "EncodedTable", "Float32s", "Float64s", "Head", "Int64s", "NeighbourIndex", "PairForm",
    "Recommender", "Seen", "Side", "Statistics", "TopK",
]  # fmt: skip
