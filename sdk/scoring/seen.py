"""The old place of `sdk.features.seen`, which repositories exported before still import. New code does not."""

from sdk.features.seen import Seen

__all__ = ["Seen"]
