"""A training run's state after an epoch: in memory, and as one safetensors file."""

from __future__ import annotations

import dataclasses
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sdk.base.errors import OutputError
from sdk.base.files import write_file
from sdk.base.rights import reason
from sdk.metrics.pointwise import EpochRecord

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """Where training stands.

    Attributes:
        history: the finished epochs.
        best_epoch: 1-based; 0 before the first.
        best: the best epoch's weights.
    """

    history: tuple[EpochRecord, ...] = ()
    best_epoch: int = 0
    best: dict[str, Tensor] | None = None

    def after(self, record: EpochRecord, model: nn.Module, *, keep_best: bool) -> Checkpoint:
        """The state after one more epoch; it is the best if its AUC is, or if nothing is measured."""
        history = (*self.history, record)
        if not keep_best:
            return Checkpoint(history, record.epoch, None)
        if self.best_epoch and record.auc <= self.history[self.best_epoch - 1].auc:
            return Checkpoint(history, self.best_epoch, self.best)
        weights = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
        return Checkpoint(history, record.epoch, weights)

    def load_best_into(self, model: nn.Module) -> None:
        """Give the model the best epoch's weights (none kept: it has them already)."""
        if self.best is not None:
            model.load_state_dict(self.best)

    def save(self, path: Path | None, optimiser: torch.optim.Optimizer, model: nn.Module) -> None:
        """Write everything needed to go on, aside and then renamed.

        Raises:
            OutputError: the file cannot be written.
        """
        if path is None:
            return
        from safetensors import SafetensorError
        from safetensors.torch import save

        tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
        tensors |= {f"best.{name}": tensor for name, tensor in (self.best or {}).items()}
        tensors |= _optimiser_tensors(optimiser)
        history = json.dumps([dataclasses.asdict(record) for record in self.history])
        contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
        try:
            write_file(path, save(contiguous, {"history": history, "best_epoch": str(self.best_epoch)}))
        except (SafetensorError, OSError) as error:
            why = reason(error, path)
            message = f"{path}: a checkpoint cannot be written ({why}); make room there, or choose another --out"
            raise OutputError(message) from error

    @classmethod
    def restore(cls, path: Path | None, model: nn.Module, optimiser: torch.optim.Optimizer) -> Checkpoint:
        """Read a checkpoint into model and optimiser; an absent or unreadable one means a fresh start."""
        if path is None or not path.exists():
            return cls()
        from safetensors import SafetensorError

        try:
            tensors, metadata = _read(path)
            history = tuple(EpochRecord(**record) for record in json.loads(metadata["history"]))
            state = cls(history, int(metadata["best_epoch"]), _under("best.", tensors) or None)
            _require_fit(model, _under("model.", tensors))
            _require_fit(model, state.best or model.state_dict())
            _restore_optimiser(optimiser, tensors)
            model.load_state_dict(_under("model.", tensors))
        except (SafetensorError, RuntimeError, KeyError, ValueError, TypeError, OSError) as error:
            log.warning("%s: not a usable checkpoint (%s); training starts afresh", path, error)
            return cls()
        log.info("going on from %s after epoch %d", path, len(history))
        return state


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118


def _require_fit(model: nn.Module, weights: dict[str, Tensor]) -> None:
    """Refuse weights of another model before any is copied: ``load_state_dict`` would copy those that fit first."""
    mine, theirs = ({n: tuple(t.shape) for n, t in ws.items()} for ws in (model.state_dict(), weights))
    if mine != theirs:
        odd = sorted(name for name in mine.keys() | theirs.keys() if mine.get(name) != theirs.get(name))
        message = f"{odd[0]} is {theirs.get(odd[0])}, the model's {mine.get(odd[0])}"
        raise ValueError(message)


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name[len(prefix) :]: tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    return {
        f"optimiser.{number}.{name}": tensor
        for number, state in optimiser.state_dict()["state"].items()
        for name, tensor in state.items()
    }


def _restore_optimiser(optimiser: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    whole: dict[str, Any] = optimiser.state_dict()
    whole["state"] = {}
    for key, tensor in _under("optimiser.", tensors).items():
        number, name = key.split(".", 1)
        whole["state"].setdefault(int(number), {})[name] = tensor
    optimiser.load_state_dict(whole)
