"""Several rankers averaged: one network whose logit is the weighted mean of theirs.

Networks that start elsewhere err elsewhere, so the mean errs less (deep ensembles: Lakshminarayanan, Pritzel and
Blundell 2017, arXiv:1612.01474, section 2.4). The members' layers are joined block by block into one wide top MLP, so
the whole is a model like any other: it lowers to the pair form, and nothing that scores has to know of it. A member
without a top MLP, the dot product, joins in with its dot path and biases alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate

import torch
from torch import Tensor, nn

from sdk.models.pair_model import Batch, PairModel, SideTensors, TopInputWidths
from sdk.models.torch_form import linear


class Averaged(PairModel):
    """The mean of trained rankers over the same tables. It is for scoring: train its members.

    Args:
        members: rankers; those with a top MLP are of one class and configuration.
        weights: of each member, above 0 and 1 together; None weighs all alike.
        share: what those of another kind weigh together; None where there are none.

    Raises:
        ValueError: there is no member, or not a weight for each.
    """

    def __init__(
        self, members: Sequence[PairModel], weights: Sequence[float] | None = None, share: float | None = None
    ) -> None:
        nn.Module.__init__(self)
        if not members:
            message = "averaged: got no members, expected at least one"
            raise ValueError(message)
        if weights is not None and len(weights) != len(members):
            raise ValueError(f"averaged: got {len(weights)} weights for {len(members)} members")
        self.members, self.share = nn.ModuleList(members), share
        self.weights = tuple(weights) if weights is not None else (1 / len(members),) * len(members)
        self.users, self.items = members[0].users, members[0].items
        self.id_dropout = 0.0
        deep = [(member, weight) for member, weight in zip(members, self.weights, strict=True) if member.top_mlp]
        self.top_mlp = _joined_top_mlp(*zip(*deep, strict=True)) if deep else None
        self.eval()

    def encode_users(self, rows: Tensor, batch: Batch | None = None) -> SideTensors:
        """The user side of (B,) int64 rows: the members' side by side."""
        return self._joined(lambda member: member.encode_users(rows, batch), self.weights)

    def encode_items(self, rows: Tensor, batch: Batch | None = None) -> SideTensors:
        """The item side of (B,) int64 rows: the members' side by side."""
        return self._joined(lambda member: member.encode_items(rows, batch), [1.0] * len(self.weights))

    def _joined(self, encode: Callable[[PairModel], SideTensors], dot_scales: Sequence[float]) -> SideTensors:
        sides = [encode(member) for member in self.members]  # type: ignore[arg-type]
        fields = [side.fields for side in sides if side.fields.shape[1]] or [sides[0].fields]
        return SideTensors(
            bias=self._mean([side.bias for side in sides]),
            dot=torch.cat([side.dot * scale for side, scale in zip(sides, dot_scales, strict=True)], dim=1),
            fields=torch.cat(fields, dim=1),
            mlp_in=torch.cat([side.mlp_in for side in sides], dim=1),
            penalised=self._mean([side.penalised for side in sides]),
        )

    def _mean(self, values: Sequence[Tensor]) -> Tensor:
        return torch.stack([value * weight for value, weight in zip(values, self.weights, strict=True)]).sum(0)


@torch.no_grad()
def _joined_top_mlp(members: Sequence[PairModel], shares: Sequence[float]) -> nn.Sequential:
    """The members' top MLPs as one: block-diagonal layers, and a last one that takes the weighted mean."""
    stacks = [member.top_linears() for member in members]
    layers: list[nn.Module] = [linear(_joined_first(members), torch.cat([stack[0].bias for stack in stacks]))]
    for depth in range(1, len(stacks[0])):
        weights: list[Tensor] = [stack[depth].weight for stack in stacks]
        biases: list[Tensor] = [stack[depth].bias for stack in stacks]
        is_last = depth == len(stacks[0]) - 1
        if is_last:
            weights = [weight * share for weight, share in zip(weights, shares, strict=True)]
            biases = [
                sum((bias * share for bias, share in zip(biases, shares, strict=True)), start=weights[0].new_zeros(1))
            ]
        weight = torch.cat(weights, dim=1) if is_last else torch.block_diag(*weights)
        layers += [nn.ReLU(), linear(weight, torch.cat(biases))]
    return nn.Sequential(*layers)


def _joined_first(members: Sequence[PairModel]) -> Tensor:
    """(sum of H, columns) weights of the first layer over [all user inputs, all item inputs, all interactions].

    Interactions between two members' fields weigh 0.
    """
    widths = [member.top_input_widths() for member in members]
    total = TopInputWidths(*(sum(each) for each in zip(*widths, strict=True)))
    starts = [
        TopInputWidths(*start) for start in zip(*(_starts(each) for each in zip(*widths, strict=True)), strict=True)
    ]
    blocks = []
    for member, start, width in zip(members, starts, widths, strict=True):
        weight = member.top_linears()[0].weight
        user, item, cross = weight.split([width.user, width.item, width.user_fields * width.item_fields], dim=1)
        wide_user, wide_item = weight.new_zeros(len(weight), total.user), weight.new_zeros(len(weight), total.item)
        wide_user[:, start.user : start.user + width.user] = user
        wide_item[:, start.item : start.item + width.item] = item
        pairs = weight.new_zeros(len(weight), total.user_fields, total.item_fields)
        rows, columns = slice(start.user_fields, start.user_fields + width.user_fields), start.item_fields
        pairs[:, rows, columns : columns + width.item_fields] = cross.unflatten(
            1, (width.user_fields, width.item_fields)
        )
        blocks.append(torch.cat([wide_user, wide_item, pairs.flatten(1)], dim=1))
    return torch.cat(blocks)


def _starts(sizes: Iterable[int]) -> list[int]:
    """Where each of consecutive blocks starts."""
    return [0, *accumulate(sizes)][:-1]
