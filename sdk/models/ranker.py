"""Building, saving and loading a ranker by name: the one place that knows which class a name means."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from sdk.config import RunConfig
from sdk.errors import BundleError
from sdk.features.tables import EncodedTable
from sdk.models.averaged import Averaged
from sdk.models.dlrm import DLRM
from sdk.models.ncf import NCF
from sdk.models.pair_model import PairModel


def build_ranker(name: str, config: RunConfig, users: EncodedTable, items: EncodedTable) -> PairModel:
    """An untrained ranker: ``dlrm`` or ``ncf``.

    Raises:
        KeyError: no ranker has that name.
    """
    builders = {
        "dlrm": lambda: DLRM(config.dlrm, users, items),
        "ncf": lambda: NCF(config.ncf, users, items),
    }
    return builders[name]()


def save_ranker(model: PairModel, path: Path) -> None:
    """Write the trained weights, a group for each member; the tables are stored once, elsewhere."""
    members = model.members if isinstance(model, Averaged) else (model,)
    save_file(
        {
            f"{place}.{name}": tensor.contiguous()
            for place, member in enumerate(members)
            for name, tensor in member.state_dict().items()
        },
        path,
    )


def load_ranker(name: str, config: RunConfig, users: EncodedTable, items: EncodedTable, path: Path) -> PairModel:
    """A trained ranker.

    Raises:
        BundleError: the weights are absent or do not fit the tables and the configuration.
    """
    try:
        weights = load_file(path)
        members = [build_ranker(name, config, users, items) for _ in {key.partition(".")[0] for key in weights}]
        for place, member in enumerate(members):
            start = f"{place}."
            member.load_state_dict({key[len(start) :]: weights[key] for key in weights if key.startswith(start)})
        return averaged(members).eval()
    except (SafetensorError, RuntimeError, OSError, ValueError, KeyError, TypeError, MemoryError) as error:
        message = f"{path}: not the weights of this bundle's {name} ({error}). Train the bundle again."
        raise BundleError(message) from error


def averaged(members: Sequence[PairModel]) -> PairModel:
    """One member as it is, several as their mean.

    Raises:
        ValueError: there is none.
    """
    return members[0] if len(members) == 1 else Averaged(members)
