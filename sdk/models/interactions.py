"""Dot products of pairs of fields: the DLRM's interactions (Naumov et al. 2019, arXiv:1906.00091, section 2.1).

A pair's fields are few and narrow, which batched matrix products serve badly. While training on the CPU, compiled
loops compute the products and their gradients; elsewhere torch does. Both add the same products.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sdk.compiled import compiled_loosely
from sdk.types import Float32s


def pairs_across(left: Tensor, right: Tensor, *, fast: bool) -> Tensor:
    """(B, F * G) float32: every field of ``left`` (B, F, D) with every field of ``right`` (B, G, D)."""
    if fast:
        crossed: Tensor = _Across.apply(left, right)
        return crossed
    return torch.einsum("bfd,bgd->bfg", left, right).flatten(1)


def pairs_within(fields: Tensor, places: Tensor, *, fast: bool) -> Tensor:
    """(B, F * (F - 1) / 2) float32: every pair of the fields (B, F, D); ``places`` is ``torch.triu_indices``."""
    if fast:
        products: Tensor = _Within.apply(fields)
        return products
    return torch.einsum("bfd,bgd->bfg", fields, fields)[:, places[0], places[1]]


class _Across(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, left: Tensor, right: Tensor) -> Tensor:
        ctx.save_for_backward(left, right)
        out = left.new_empty(len(left), left.shape[1] * right.shape[1])
        _across(left.detach().numpy(), right.detach().numpy(), out.numpy())
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        left, right = ctx.saved_tensors
        to_left, to_right = torch.empty_like(left), torch.empty_like(right)
        _across_back(_plain(grads[0]), _plain(left), _plain(right), to_left.numpy(), to_right.numpy())
        return to_left, to_right


class _Within(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, fields: Tensor) -> Tensor:
        ctx.save_for_backward(fields)
        out = fields.new_empty(len(fields), fields.shape[1] * (fields.shape[1] - 1) // 2)
        _within(_plain(fields), out.numpy())
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (fields,) = ctx.saved_tensors
        to_fields = torch.zeros_like(fields)
        _within_back(_plain(grads[0]), _plain(fields), to_fields.numpy())
        return to_fields


def _plain(tensor: Tensor) -> Float32s:
    array: Float32s = tensor.detach().contiguous().numpy()
    return array


@compiled_loosely
def _across(left: Float32s, right: Float32s, out: Float32s) -> None:
    for b in range(left.shape[0]):
        for f in range(left.shape[1]):
            for g in range(right.shape[1]):
                total = left[b, f, 0] * right[b, g, 0]
                for d in range(1, left.shape[2]):
                    total += left[b, f, d] * right[b, g, d]
                out[b, f * right.shape[1] + g] = total


@compiled_loosely
def _across_back(grad: Float32s, left: Float32s, right: Float32s, to_left: Float32s, to_right: Float32s) -> None:
    for b in range(left.shape[0]):
        to_left[b] = 0
        to_right[b] = 0
        for f in range(left.shape[1]):
            for g in range(right.shape[1]):
                scale = grad[b, f * right.shape[1] + g]
                for d in range(left.shape[2]):
                    to_left[b, f, d] += scale * right[b, g, d]
                    to_right[b, g, d] += scale * left[b, f, d]


@compiled_loosely
def _within(fields: Float32s, out: Float32s) -> None:
    for b in range(fields.shape[0]):
        pair = 0
        for f in range(fields.shape[1]):
            for g in range(f + 1, fields.shape[1]):
                total = fields[b, f, 0] * fields[b, g, 0]
                for d in range(1, fields.shape[2]):
                    total += fields[b, f, d] * fields[b, g, d]
                out[b, pair] = total
                pair += 1


@compiled_loosely
def _within_back(grad: Float32s, fields: Float32s, to_fields: Float32s) -> None:
    for b in range(fields.shape[0]):
        pair = 0
        for f in range(fields.shape[1]):
            for g in range(f + 1, fields.shape[1]):
                scale = grad[b, pair]
                pair += 1
                for d in range(fields.shape[2]):
                    to_fields[b, f, d] += scale * fields[b, g, d]
                    to_fields[b, g, d] += scale * fields[b, f, d]
