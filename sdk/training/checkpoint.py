"""A training run's state after an epoch: in memory, and as one safetensors file."""

from __future__ import annotations

import dataclasses
import json
import logging
from dataclasses import dataclass
from pathlib import Path

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

        groups = {"model": model.state_dict(), "best": self.best or {}}
        groups |= {f"optimiser.{number}": state for number, state in optimiser.state_dict()["state"].items()}
        tensors = {f"{group}.{name}": t.contiguous() for group, parts in groups.items() for name, t in parts.items()}
        history = json.dumps([dataclasses.asdict(record) for record in self.history])
        try:
            write_file(path, save(tensors, {"history": history, "best_epoch": str(self.best_epoch)}))
        except (SafetensorError, OSError) as error:
            why = reason(error, path)
            message = f"{path}: a checkpoint cannot be written ({why}); make room there, or choose another --out"
            raise OutputError(message) from error

    @classmethod
    def restore(cls, path: Path | None, model: nn.Module, optimiser: torch.optim.Optimizer) -> Checkpoint:
        """Read a checkpoint into model and optimiser; an absent or unreadable one means a fresh start."""
        if path is None or not path.exists():
            return cls()
        from safetensors import SafetensorError, safe_open

        try:
            groups: dict[str, dict[str, Tensor]] = {"model": {}, "best": {}, "optimiser": {}}
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata()
                for key in file.keys():  # noqa: SIM118
                    group, _, name = key.partition(".")
                    groups[group][name] = file.get_tensor(key)
            history = tuple(EpochRecord(**record) for record in json.loads(metadata["history"]))
            state = cls(history, int(metadata["best_epoch"]), groups["best"] or None)
            _require_fit(model, groups["model"])
            _require_fit(model, state.best or groups["model"])
            _restore_optimiser(optimiser, groups["optimiser"])
            model.load_state_dict(groups["model"])
        except (SafetensorError, RuntimeError, KeyError, ValueError, TypeError, OSError) as error:
            log.warning("%s: not a usable checkpoint (%s); training starts afresh", path, error)
            return cls()
        log.info("going on from %s after epoch %d", path, len(history))
        return state


def _require_fit(model: nn.Module, weights: dict[str, Tensor]) -> None:
    """Refuse weights of another model before any is copied: ``load_state_dict`` would copy those that fit first."""
    mine, theirs = ({n: tuple(t.shape) for n, t in ws.items()} for ws in (model.state_dict(), weights))
    if mine != theirs:
        odd = min(name for name in mine.keys() | theirs.keys() if mine.get(name) != theirs.get(name))
        message = f"{odd} is {theirs.get(odd)}, the model's {mine.get(odd)}"
        raise ValueError(message)


def _restore_optimiser(optimiser: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        number, _, name = key.partition(".")
        state.setdefault(int(number), {})[name] = tensor
    optimiser.load_state_dict({**optimiser.state_dict(), "state": state})
