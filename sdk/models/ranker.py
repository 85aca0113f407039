"""Building, saving and loading a ranker by name: the one place that knows which class a name means."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from sdk.config import RunConfig
from sdk.errors import BundleError
from sdk.features.tables import EncodedTable
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
    """Write the trained weights; the tables are stored once, elsewhere."""
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, path)


def load_ranker(name: str, config: RunConfig, users: EncodedTable, items: EncodedTable, path: Path) -> PairModel:
    """A trained ranker.

    Raises:
        BundleError: the weights are absent or do not fit the tables and the configuration.
    """
    model = build_ranker(name, config, users, items)
    try:
        model.load_state_dict(load_file(path))
    except (SafetensorError, RuntimeError, OSError) as error:
        message = f"{path}: not the weights of this bundle's {name} ({error}). Train the bundle again."
        raise BundleError(message) from error
    return model.eval()
