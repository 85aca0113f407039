"""The one door through which served models import the SDK.

A repository that is exported carries copies of `triton_models/`, which import from here and from nowhere else: what is
behind the door may move, and repositories exported before still load. Names are only ever added.
"""

import sys

import numpy as np

from sdk.base.errors import BundleError
from sdk.base.ids import nobody
from sdk.base.types import Bools, Float32s, Float64s, IdArray, Int64s, TopK
from sdk.features.seen import Seen
from sdk.features.tables import UNKNOWN, EncodedTable, Statistics
from sdk.models.content.neighbours import NeighbourIndex
from sdk.models.form_files import form_of
from sdk.models.pair_form import Head, PairForm, Side
from sdk.scoring.recommender import Recommender
from sdk.scoring.rules import ItemRules

__all__ = [
    "UNKNOWN", "Bools", "EncodedTable", "Float32s", "Float64s", "Head", "IdArray", "Int64s", "ItemRules",
    "NeighbourIndex", "PairForm", "Recommender", "Seen", "Side", "Statistics", "TopK", "form_of", "nobody",
]  # fmt: skip


def _require_matching_backend() -> None:
    """Refuse to serve a repository of an older export in a Python backend that misreads this NumPy's arrays.

    Newer copies of `marquee_serving` look for themselves, in `shares_arrays`, which says why it is asked in this way.

    Raises:
        BundleError: the copy is older, and a small array came back as another one.
    """
    copy = sys.modules.get("marquee_serving")
    if copy is None or hasattr(copy, "shares_arrays"):
        return
    try:
        from c_python_backend_utils import Tensor  # the backend's own, which is there before Triton's module has it
    except ImportError:
        return
    known = np.arange(1, 7)
    source = Tensor("probe", known)
    shown = Tensor.from_dlpack("probe", source.to_dlpack()).as_numpy().tolist()
    if shown != known.tolist():
        problem = f"the server's Python backend misreads arrays of NumPy {np.__version__}"
        remedy = "Export the bundle again with this release, or put numpy<2 into the server's Python."
        raise BundleError(f"{copy.__file__}: {problem}: got {shown}, expected {known.tolist()}. {remedy}")


_require_matching_backend()
