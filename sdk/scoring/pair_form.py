"""The old place of `sdk.models.pair_form`, which repositories exported before still import. New code does not."""

from sdk.models.pair_form import Head, PairForm, Side

__all__ = ["Head", "PairForm", "Side"]
