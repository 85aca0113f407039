"""The old place of `NeighbourIndex`, which repositories exported before still import. New code does not."""

from sdk.models.content.neighbours import NeighbourIndex

__all__ = ["NeighbourIndex"]
