"""Titles like a title, of either kind that a bundle offers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, get_args

from sdk.base.errors import UsageError
from sdk.base.ids import count_of, ids_of
from sdk.base.types import Int64s, TopK
from sdk.bundles.visitors import need_history
from sdk.models.content.hybrid import hybrid_similar

if TYPE_CHECKING:
    from sdk.bundles.view import BundleView

SimilarKind = Literal["content", "hybrid"]
"""``content``: by what titles are. ``hybrid``: by that and by who liked them."""


def similar_titles(bundle: BundleView, item_ids: Sequence[int] | Int64s, k: int, kind: SimilarKind) -> TopK:
    """See ``Bundle.similar``."""
    if kind not in get_args(SimilarKind):
        message = f"kind: got {kind!r}, expected one of {', '.join(get_args(SimilarKind))}"
        raise UsageError(message)
    wanted, k = ids_of(item_ids, "item_ids"), min(count_of(k, "k"), len(bundle.encoded_items))  # no list is longer
    if kind == "content":
        return bundle.content.similar(wanted, k)
    return hybrid_similar(bundle.content, need_history(bundle), bundle.encoded_items, wanted, k)
