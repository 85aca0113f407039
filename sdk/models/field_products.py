"""Dot products of pairs of fields: the DLRM's interactions (Naumov et al. 2019, arXiv:1906.00091, section 2.1)."""

from __future__ import annotations

import torch
from torch import Tensor


def pairs_across(left: Tensor, right: Tensor) -> Tensor:
    """(B, F * G) float32: every field of ``left`` (B, F, D) with every field of ``right`` (B, G, D)."""
    return torch.einsum("bfd,bgd->bfg", left, right).flatten(1)


def pairs_within(fields: Tensor, places: Tensor) -> Tensor:
    """(B, F * (F - 1) / 2) float32: every pair of the fields (B, F, D); ``places`` is ``torch.triu_indices``."""
    return torch.einsum("bfd,bgd->bfg", fields, fields)[:, places[0], places[1]]
