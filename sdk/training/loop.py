"""The training loop: binary cross-entropy, Adam, whole-set validation after every epoch, early stopping.

The state after an epoch depends on the data, the configs and the seed alone: order, negatives and dropped ids come
from generators seeded by (seed, epoch), so a run resumed from a checkpoint ends where an undisturbed one ends.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from sdk.base.config import TrainingConfig
from sdk.base.errors import OutputError, ScoreError
from sdk.base.files import write_file
from sdk.base.progress import Progress
from sdk.base.rights import reason
from sdk.features.loaders import InteractionLoader, NegativeSampling, PairBatch
from sdk.features.tables import EncodedInteractions
from sdk.machine.code_cache import give_torch_a_folder
from sdk.machine.device import require_trainer
from sdk.metrics.pointwise import EpochRecord, auc, log_loss
from sdk.models.pair_model import PairModel, initialise_embeddings
from sdk.models.predict import one_torch_thread, predict
from sdk.training.device_step import DeviceStep
from sdk.training.process_share import ALONE, Share
from sdk.training.steps import ChunkedStep
from sdk.training.table_adam import group_places

if TYPE_CHECKING:
    from sdk.training.merlin_route import MerlinEpochs

log = logging.getLogger(__name__)
Step = Callable[[PairBatch, torch.Generator], float | Tensor]
Epoch = Callable[[InteractionLoader, torch.Generator, Callable[[int], object]], tuple[float | Tensor, int]]
"""One pass over a loader's rows, which tells of each batch's: summed loss, number of rows."""


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
        history = json.dumps([asdict(record) for record in self.history])
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


def batch_size_for(num_rows: int) -> int:
    """The default batch size: a power of two near a 64th of the rows, from 256 to 65,536."""
    return int(2 ** min(16, max(8, round(math.log2(max(num_rows, 1) / 64)))))


def seeded(build: Callable[[], PairModel], config: TrainingConfig) -> PairModel:
    """Build a model whose initial weights depend on the config's seed alone, whatever ran before."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = build()
    initialise_embeddings(model, config.embedding_std, config.seed)
    return model


@contextmanager
def _denormals_flushed() -> Iterator[None]:
    """Count denormal numbers as 0 meanwhile: denormal embeddings slow a CPU down by an order of magnitude.

    Put back afterwards, because it holds for the whole thread: NumPy would warn of it in the caller's own code.
    """
    give_torch_a_folder()
    group_places(np.zeros(1, dtype=np.int64), 1)  # Numba's first use imports SciPy, which asks for the least number
    before = bool((torch.full((1,), 1e-310, dtype=torch.float64) * 1.0).item() == 0.0)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


@_denormals_flushed()
def train(
    model: PairModel,
    rows: EncodedInteractions,
    validation: EncodedInteractions | None,
    config: TrainingConfig,
    *,
    name: str,
    num_epochs: int | None = None,
    checkpoint: Path | None = None,
    on_epoch: Callable[[EpochRecord], None] | None = None,
    device: str = "cpu",
    share: Share = ALONE,
    bf16: bool = False,
    progress: Progress | None = None,
) -> Checkpoint:
    """Train in place.

    Args:
        model: freshly built; left holding the best epoch's weights (the last epoch's without validation).
        rows: encoded training ratings.
        validation: measured whole after each epoch, for early stopping on AUC; None trains ``num_epochs`` epochs.
        config: the loop's settings.
        name: shown in progress and logs.
        num_epochs: overrides ``config.max_epochs``.
        checkpoint: file written after each epoch; if it exists and fits, training goes on from it.
        device: where to train, in torch's words; the model is moved there, and back to the CPU at the end.
        share: this process's share of every batch, where several train one model; all must call this alike.
        bf16: whether a GPU computes matrix products in bfloat16.
        on_epoch: told of each epoch once it is saved; whatever it raises ends training and is passed on.
        progress: of the stage that this belongs to, whose rounds are networks; None shows the training by itself.

    Raises:
        ScoreError: the loss became NaN or infinite.
    """
    model.to(device)
    batch_size = config.batch_size or batch_size_for(len(rows))
    sampling = NegativeSampling.build(rows, model.items.num_rows, config.negatives, config.num_negatives)
    loader = InteractionLoader(rows, batch_size, seed=config.seed, negatives=sampling, device=device)
    route = _route_for(model, config)
    optimiser = route.optimiser if route else torch.optim.Adam(model.parameters(), lr=config.learning_rate, fused=True)
    state = Checkpoint.restore(checkpoint, model, optimiser)
    last, is_measured = num_epochs or config.max_epochs, validation is not None
    with nullcontext(progress) if progress else Progress(name) as shown:
        while len(state.history) < last and not (is_measured and _is_past_best(state, config)):
            loader.set_epoch(len(state.history) + 1)
            title = f"{name} epoch {loader.epoch}/{last}"
            _expect(shown, loader, state, last, config.patience if is_measured else last)
            with nullcontext(route) if route else _step_for(model, optimiser, config, share, bf16=bf16) as epoch:
                loss, rows_per_s = _run_epoch(model, loader, epoch, config.seed, shown)
            if not math.isfinite(loss):
                message = f"{name}: the training loss became {loss} in epoch {loader.epoch}. Lower the learning rate."
                raise ScoreError(message)
            score = validation_loss = math.nan
            if validation is not None:
                scores = predict(model, validation)
                score = share.first_ones(auc(validation.label, scores), model.users.dense.device)
                validation_loss = log_loss(validation.label, scores)
                shown.show_best(score)
            record = EpochRecord(loader.epoch, loss, score, validation_loss, rows_per_s)
            state = state.after(record, model, keep_best=is_measured)
            figures = f", validation AUC {score:.4f}, log loss {validation_loss:.4f}" if is_measured else ""
            log.debug("%s: training loss %.4f%s, %s rows/s", title, loss, figures, f"{rows_per_s:,.0f}")
            state.save(checkpoint, optimiser, model)
            if on_epoch is not None:
                on_epoch(record)
    state.load_best_into(model)
    model.to("cpu").eval()
    return state


def _is_past_best(state: Checkpoint, config: TrainingConfig) -> bool:
    return len(state.history) - state.best_epoch >= config.patience


def _expect(shown: Progress, loader: InteractionLoader, state: Checkpoint, last: int, patience: int) -> None:
    """Rows to come if no epoch is better than the best so far, and as many for each network after this one."""
    likely = min(last, max(state.best_epoch, 1) + patience)
    if shown.unit != "rows":
        shown.count("rows", 0)
    shown.expect((likely - len(state.history)) * loader.num_rows, likely * loader.num_rows)


def _route_for(model: PairModel, config: TrainingConfig) -> MerlinEpochs | None:
    """What trains the model instead of our own steps, if the configuration says so."""
    if config.trainer == "builtin":
        return None
    require_trainer(config.trainer)
    from sdk.training.merlin_route import MerlinEpochs

    return MerlinEpochs(model, config)


@contextmanager
def _step_for(
    model: PairModel, optimiser: torch.optim.Optimizer, config: TrainingConfig, share: Share, *, bf16: bool
) -> Iterator[Epoch]:
    """An epoch by the step that suits the model's device; on a CPU, torch itself runs single-threaded meanwhile."""
    if model.users.dense.device.type != "cpu" or share.size > 1:
        yield _by(DeviceStep(model, optimiser, config, share=share, bf16=bf16))
        return
    with one_torch_thread(), ChunkedStep(model, optimiser, config) as step:
        yield _by(step)


def _by(step: Step) -> Epoch:
    def epoch(
        loader: InteractionLoader, generator: torch.Generator, advance: Callable[[int], object]
    ) -> tuple[float | Tensor, int]:
        summed: float | Tensor = 0.0
        done = 0
        for batch in loader:
            summed += step(batch, generator) * len(batch.label)
            done += len(batch.label)
            advance(len(batch.label))
        return summed, done

    return epoch


def _run_epoch(
    model: PairModel, loader: InteractionLoader, epoch: Epoch, seed: int, shown: Progress
) -> tuple[float, float]:
    """One pass over the rows: (mean training loss, rows/s)."""
    model.train()
    generator = torch.Generator(loader.device).manual_seed(seed * 1_000_003 + loader.epoch)
    start = time.perf_counter()
    summed, done = epoch(loader, generator, shown.advance)
    total = float(summed)  # waits for the device
    return total / max(done, 1), done / max(time.perf_counter() - start, 1e-9)


def _require_fit(model: nn.Module, weights: dict[str, Tensor]) -> None:
    """Refuse weights of another model before any is copied: ``load_state_dict`` would copy those that fit first."""
    mine, theirs = ({n: tuple(t.shape) for n, t in ws.items()} for ws in (model.state_dict(), weights))
    if mine != theirs:
        odd = min(name for name in mine.keys() | theirs.keys() if mine.get(name) != theirs.get(name))
        raise ValueError(f"{odd} is {theirs.get(odd)}, the model's {mine.get(odd)}")


def _restore_optimiser(optimiser: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        number, _, name = key.partition(".")
        state.setdefault(int(number), {})[name] = tensor
    optimiser.load_state_dict({**optimiser.state_dict(), "state": state})
