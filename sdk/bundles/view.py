"""What lists and reasons need of a bundle, so that they need not know how one is stored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from sdk.base.types import Int64s

if TYPE_CHECKING:
    from pathlib import Path

    from sdk.features.interactions import StoredInteractions
    from sdk.features.tables import EncodedTable
    from sdk.models.content.model import ContentModel
    from sdk.models.history.model import HistoryModel
    from sdk.scoring.recommender import Recommender


class BundleView(Protocol):
    """The part of ``sdk.bundles.bundle.Bundle`` that is read; its attributes are described there."""

    path: Path

    @property
    def encoded_users(self) -> EncodedTable:
        """The users' encoded table."""

    @property
    def encoded_items(self) -> EncodedTable:
        """The items' encoded table."""

    @property
    def interactions(self) -> StoredInteractions:
        """Every rating."""

    @property
    def content(self) -> ContentModel:
        """The content model."""

    @property
    def has_content(self) -> bool:
        """Whether there is one."""

    @property
    def history(self) -> HistoryModel | None:
        """The history model."""

    def kept_recommender(self, model: str) -> Recommender:
        """What makes the lists of a model."""

    def titles(self, item_ids: Sequence[int] | Int64s) -> list[str]:
        """Display names with years."""
