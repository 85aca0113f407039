"""Building, saving and loading a ranker by name: the one place that knows which class a name means."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from sdk.base.config import RunConfig
from sdk.base.errors import BundleError
from sdk.features.tables import EncodedTable
from sdk.models.averaged import Averaged
from sdk.models.bfm import BFM
from sdk.models.dlrm import DLRM
from sdk.models.ncf import NCF
from sdk.models.pair_model import PairModel

_SHARE = "share"


def build_ranker(name: str, config: RunConfig, users: EncodedTable, items: EncodedTable) -> PairModel:
    """An untrained ranker: ``dlrm``, ``ncf`` or ``bfm``.

    Raises:
        KeyError: no ranker has that name.
    """
    classes: dict[str, Any] = {"dlrm": DLRM, "ncf": NCF, "bfm": BFM}
    model: PairModel = classes[name](getattr(config, name), users, items)
    return model


def save_ranker(model: PairModel, path: Path) -> None:
    """Write the trained weights, a group for each member; the tables are stored once, elsewhere.

    A group's name is the member's place, with ``ncf`` or ``bfm`` in front where it is one of these in another
    ranker's mean; ``share`` is then what these weigh together.
    """
    members = members_of(model)
    kinds = {NCF: "ncf", BFM: "bfm"} if len({type(member) for member in members}) > 1 else {}
    groups = [f"{kinds.get(type(each), '')}{place}" for place, each in enumerate(members)]
    weights = {
        f"{group}.{name}": tensor.contiguous()
        for group, member in zip(groups, members, strict=True)
        for name, tensor in member.state_dict().items()
    }
    if isinstance(model, Averaged) and model.share is not None:
        weights[_SHARE] = torch.tensor([model.share], dtype=torch.float64)
    path.write_bytes(save(weights))  # not save_file, whose files only their owner may read


def load_ranker(name: str, config: RunConfig, users: EncodedTable, items: EncodedTable, path: Path) -> PairModel:
    """A trained ranker.

    Raises:
        BundleError: the weights are absent or do not fit the tables and the configuration.
    """
    try:
        weights = load_file(path)
        share = weights.pop(_SHARE, None)
        groups = sorted({key.partition(".")[0] for key in weights}, key=lambda group: int(group[len(_kind(group)) :]))
        if [int(group[len(_kind(group)) :]) for group in groups] != list(range(len(groups))):
            raise ValueError(f"its groups are {', '.join(groups)}")
        members = [build_ranker(_kind(group) or name, config, users, items) for group in groups]
        for group, member in zip(groups, members, strict=True):
            start = f"{group}."
            member.load_state_dict({key[len(start) :]: weights[key] for key in weights if key.startswith(start)})
        added = [member for group, member in zip(groups, members, strict=True) if _kind(group)]
        own = averaged(members[: len(members) - len(added)])
        if not added:
            return own.eval()
        before = config.dlrm.share_of(_kind(groups[-1]))  # where a bundle of before the share was chosen has it
        return mixed(own, averaged(added), (before or 0.0) if share is None else float(share)).eval()
    except (SafetensorError, RuntimeError, OSError, ValueError, KeyError, TypeError, MemoryError) as error:
        message = f"{path}: not the weights of this bundle's {name} ({error}). Train the bundle again."
        raise BundleError(message) from error


def _kind(group: str) -> str:
    """The ranker that a group of weights is of in another one's mean; nothing where it is the ranker's own."""
    return group.rstrip("0123456789")


def members_of(model: PairModel) -> list[PairModel]:
    """What a ranker is the mean of; itself where it is one network."""
    return list(model.members) if isinstance(model, Averaged) else [model]  # type: ignore[arg-type]


def mixed(ranker: PairModel, other: PairModel, share: float) -> PairModel:
    """The ranker with ``share`` of another's logit in the mean, as one network."""
    own, added = members_of(ranker), members_of(other)
    weights = [(1 - share) / len(own)] * len(own) + [share / len(added)] * len(added)
    return Averaged([*own, *added], weights, share)


def averaged(members: Sequence[PairModel]) -> PairModel:
    """One member as it is, several as their mean.

    Raises:
        ValueError: there is none.
    """
    return members[0] if len(members) == 1 else Averaged(members)
