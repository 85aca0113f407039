"""From a validated data set to a bundle: split, encode, train, measure, refit, write."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from sdk.base.config import RunConfig, TrainingConfig, to_json
from sdk.base.errors import OutputError
from sdk.base.files import digest_of, lock_of, locked, remove, standing
from sdk.base.paths import as_path
from sdk.base.rights import reason
from sdk.base.stages import Stages
from sdk.base.types import Dataset, Float32s, Interactions
from sdk.bundles.bundle import Bundle, load
from sdk.data.labels import learnable
from sdk.data.splits import Split, split
from sdk.features.encode import EncodedInteractions, Features, fit_features
from sdk.features.interactions import TRAIN, VALIDATION, StoredInteractions
from sdk.features.tables import FIRST_KNOWN
from sdk.machine.device import resolve_device
from sdk.measure.evaluation import Evaluation, evaluate
from sdk.metrics.pointwise import EpochRecord, auc
from sdk.models.content.model import ContentModel
from sdk.models.history.model import HistoryModel
from sdk.models.pair_model import PairModel
from sdk.models.predict import predict
from sdk.models.ranker import averaged, build_ranker, mixed
from sdk.training.bundle_writer import Trained, write_bundle
from sdk.training.loop import TrainingResult, seeded, train
from sdk.training.process_share import ALONE, Shard

log = logging.getLogger(__name__)

_SEEDS_APART = 1_000_003  # between two members, so that runs with neighbouring seeds share none


@dataclass(frozen=True, slots=True, eq=False)
class Where:
    """Where rankers train.

    Attributes:
        device: ``cpu`` or ``cuda``.
        shard: this process's share of every batch.
    """

    device: str = "cpu"
    shard: Shard = ALONE

    def checkpoint(self, path: Path) -> Path | None:
        """The file to go on from; none where several train, for they may have been stopped at different epochs."""
        return path if self.shard.size == 1 else None


def train_bundle(
    dataset: Dataset,
    config: RunConfig,
    out: str | Path,
    *,
    force: bool = False,
    device: str = "auto",
) -> Bundle:
    """Train the configured models on a data set and write them as one bundle.

    A run that was killed goes on from its last finished epoch when it is started again with the same data and
    configuration.

    Args:
        dataset: validated ratings and titles.
        config: everything else that the result depends on.
        out: the bundle's folder; it exists whole or not at all.
        force: whether an existing bundle may be replaced.
        device: where the rankers train: ``cpu``, ``cuda``, or ``auto`` for a GPU where there is one.

    Raises:
        UsageError: ``device`` is unknown, or ``cuda`` where torch finds no GPU.
        DataError: there are too few ratings to train on or to measure with, or of one label only where ``models`` names
            a ranker (by default, rankers are left out then, and a warning says so).
        OutputError: ``out`` exists (and ``force`` is not given), or cannot be written.
        LockedError: another run is writing the same bundle.
    """
    return train_where(dataset, config, out, Where(resolve_device(device)), force=force)


def train_where(dataset: Dataset, config: RunConfig, out: str | Path, where: Where, *, force: bool = False) -> Bundle:
    """``train_bundle``, alone or together with processes that call ``take_part``; this one measures and writes.

    Raises:
        DataError: as ``train_bundle``; so are the others.
        OutputError: see there.
        LockedError: see there.
    """
    target = as_path(out).absolute()
    require_room(target, force=force)
    parts = split(dataset.interactions, config.split)
    config = learnable(dataset.interactions, parts, config)
    busy = f"{target}: another run is training this bundle; wait for it, or choose another --out"
    with locked(lock_of(target), busy):
        work = _work_folder(target, dataset, config)
        trained = _train(dataset, config, work, where, parts)
        write_bundle(trained, dataset, config, target)
        remove(work)
    return load(target)


def require_room(target: Path, *, force: bool) -> None:
    """Refuse a bundle's folder that is taken, or whose parent cannot be made or written, before any work is done.

    Raises:
        OutputError: it is.
    """
    target = target.absolute()
    try:
        if standing(target).exists() and not force:
            message = f"{target}: already there; pass --force to replace it, or choose another --out"
            raise OutputError(message)
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=target.parent):
            pass
    except OSError as error:
        error.filename = str(target)
        message = f"{target.parent}: cannot be made or written to ({reason(error)}); choose another --out"
        raise OutputError(message) from error


def _work_folder(target: Path, dataset: Dataset, config: RunConfig) -> Path:
    """A folder beside the bundle, named by what the run depends on, for checkpoints and NVTabular's files."""
    start = f".{target.name}.marquee-work-"
    work = target.with_name(f"{start}{digest_of([dataset.fingerprint, to_json(config)])[:12]}")
    try:
        for other in target.parent.iterdir():
            if other.name.startswith(start) and (other != work or other.is_symlink() or not other.is_dir()):
                remove(other)
        work.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        message = f"{error.filename or work}: cannot be made or deleted ({reason(error, work)}); choose another --out"
        raise OutputError(message) from error
    return work


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """One fit: features of some rows, and those rows encoded."""

    features: Features
    rows: EncodedInteractions


@dataclass(frozen=True, slots=True, eq=False)
class _Rankers:
    """The trained rankers: the last fit of the features, the models by name, and how each was selected."""

    fit: _Part
    models: dict[str, PairModel]
    selected: dict[str, _Selected]


def take_part(dataset: Dataset, config: RunConfig, work: Path, where: Where) -> None:
    """Train the rankers together with the process that calls ``train_where``, and keep nothing.

    Args:
        dataset: the same as that process's.
        config: the same as that process's.
        work: an empty folder for NVTabular's files.
        where: this process's device and share.

    Raises:
        DataError: as ``train_bundle``.
    """
    parts = split(dataset.interactions, config.split)
    config = learnable(dataset.interactions, parts, config)
    content = _content_model(dataset, config)
    _train_rankers(dataset, config, work, where, parts, content, Stages())


def _train(dataset: Dataset, config: RunConfig, work: Path, where: Where, parts: Split) -> Trained:
    stages = Stages()
    with stages.time("content model"):
        content = _content_model(dataset, config)
    rankers = _train_rankers(dataset, config, work, where, parts, content, stages)
    fit, models, selected = rankers.fit, rankers.models, rankers.selected
    with stages.time("evaluation"):
        stored, evaluation = _measure(dataset, config, parts, fit, models)
    with stages.time("history model"):
        history = _fit_history(stored, fit.features, content, config) if "history" in config.models else None
    histories = {name: each.history for name, each in selected.items()}
    validation_auc = {name: each.auc for name, each in selected.items()}
    return Trained(fit.features, stored, models, histories, validation_auc, content, history, evaluation, stages)


def _train_rankers(
    dataset: Dataset,
    config: RunConfig,
    work: Path,
    where: Where,
    parts: Split,
    content: ContentModel | None,
    stages: Stages,
) -> _Rankers:
    """Features and rankers of the training part; with refit, again of training and validation part together."""
    with stages.time("features"):
        vectors = _content_vectors(content, dataset, config)
        fit = _fit(dataset, dataset.interactions.take(parts.train), vectors, config, work / "selecting")
    selected: dict[str, _Selected] = {}
    validation = fit.features.encode(dataset.interactions.take(parts.validation))
    for name in config.rankers:
        with stages.time(f"{name}: training"):
            selected[name] = _select(name, fit, validation, config, work, where)
    models: dict[str, PairModel] = {name: each.model for name, each in selected.items()}
    better = _with_ncf(selected, validation, config, where)
    if models and config.training.refit:
        with stages.time("features, refit"):
            fit = _fit(dataset, dataset.interactions.take(parts.fit_rows()), vectors, config, work / "refitting")
        for name in config.rankers:
            with stages.time(f"{name}: refit"):
                models[name] = _refit(name, fit, selected[name], config, work, where)
    if better is not None:
        selected["dlrm"] = better
        models["dlrm"] = mixed(models["dlrm"], models["ncf"], config.dlrm.ncf_share)
    where.shard.meet()
    return _Rankers(fit, models, selected)


def _content_model(dataset: Dataset, config: RunConfig) -> ContentModel | None:
    return ContentModel(config.content).fit(dataset.items) if "content" in config.models else None


def _content_vectors(content: ContentModel | None, dataset: Dataset, config: RunConfig) -> Float32s:
    dim = config.features.content_dim if content is not None else 0
    if content is None or dim == 0:
        return np.zeros((dataset.items.num_rows, 0), dtype=np.float32)
    return content.vectors(dim, seed=config.training.seed)


def _fit(dataset: Dataset, rows: Interactions, vectors: Float32s, config: RunConfig, work: Path) -> _Part:
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    features = fit_features(rows, dataset.users, dataset.items, vectors, config.features, work)
    return _Part(features, features.encode(rows))


@dataclass(frozen=True, slots=True, eq=False)
class _Selected:
    """A ranker after early stopping.

    Attributes:
        model: the ranker.
        training: the settings that were best on the validation part, with the first member's seed.
        history: its first member's epochs.
        epochs: each member's best number of epochs.
        auc: of the whole ranker, on the validation part.
    """

    model: PairModel
    training: TrainingConfig
    history: tuple[EpochRecord, ...]
    epochs: tuple[int, ...]
    auc: float


@dataclass(frozen=True, slots=True, eq=False)
class _Member:
    """One network after early stopping, and what it was trained with."""

    model: PairModel
    training: TrainingConfig
    result: TrainingResult

    @property
    def auc(self) -> float:
        """Of its best epoch, on the validation part."""
        return self.result.history[self.result.best_epoch - 1].auc


def _select(
    name: str, part: _Part, validation: EncodedInteractions, config: RunConfig, work: Path, where: Where
) -> _Selected:
    """Train each member with early stopping on the validation part; the first also with each of the settings tried."""

    def stopped(training: TrainingConfig, label: str, file: str) -> _Member:
        model = _untrained(name, part, config, training)
        result = train(
            model, part.rows, validation, training, name=label,
            checkpoint=where.checkpoint(work / f"{file}.safetensors"), device=where.device, shard=where.shard,
        )  # fmt: skip
        return _Member(model, training, result)

    best = max(
        (
            stopped(training, f"{name}, settings {number}" if number else name, f"{name}.selecting-0.{number}")
            for number, training in enumerate(config.training_of(name))
        ),
        key=lambda member: member.auc,
    )
    others = [
        stopped(_member_training(best.training, place), f"{name} member {place + 1}", f"{name}.selecting-{place}")
        for place in range(1, config.members_of(name, len(part.rows)))
    ]
    members = [best, *others]
    model = averaged([member.model for member in members])
    epochs = tuple(member.result.best_epoch for member in members)
    score = _validation_auc(model, validation, where)
    return _Selected(model, best.training, best.result.history, epochs, score)


def _validation_auc(model: PairModel, validation: EncodedInteractions, where: Where) -> float:
    score = auc(validation.label, predict(model.to(where.device), validation))
    model.to("cpu")
    return where.shard.first_ones(score, torch.device(where.device))


def _refit(name: str, part: _Part, selected: _Selected, config: RunConfig, work: Path, where: Where) -> PairModel:
    """Train on training and validation part together, each member for as many epochs as were its best."""
    members = []
    for place, num_epochs in enumerate(selected.epochs):
        training = _member_training(selected.training, place)
        members.append(_untrained(name, part, config, training))
        train(
            members[-1], part.rows, None, training, name=f"{name} refit" + (f" {place + 1}" if place else ""),
            num_epochs=num_epochs, checkpoint=where.checkpoint(work / f"{name}.refitting-{place}.safetensors"),
            device=where.device, shard=where.shard,
        )  # fmt: skip
    return averaged(members)


def _with_ncf(
    selected: Mapping[str, _Selected], validation: EncodedInteractions, config: RunConfig, where: Where
) -> _Selected | None:
    """The selected DLRM with its share of the selected NCF, where that is better on the validation part."""
    if not {"dlrm", "ncf"} <= set(selected) or not config.dlrm.ncf_share or config.ncf.variant != "dot":
        return None
    model = mixed(selected["dlrm"].model, selected["ncf"].model, config.dlrm.ncf_share)
    score = _validation_auc(model, validation, where)
    return replace(selected["dlrm"], model=model, auc=score) if score > selected["dlrm"].auc else None


def _member_training(training: TrainingConfig, place: int) -> TrainingConfig:
    """A member's settings: members differ by their seed."""
    return replace(training, seed=training.seed + _SEEDS_APART * place)


def _untrained(name: str, part: _Part, config: RunConfig, training: TrainingConfig) -> PairModel:
    return seeded(lambda: build_ranker(name, config, part.features.users, part.features.items), training)


def _measure(
    dataset: Dataset, config: RunConfig, parts: Split, fit: _Part, models: Mapping[str, PairModel]
) -> tuple[StoredInteractions, Evaluation | None]:
    """Every rating encoded, and the metrics on the test part, if there is one and a ranker."""
    encoded = fit.features.encode(dataset.interactions)
    shape = (len(fit.features.users), len(fit.features.items))
    test = encoded.take(parts.test)
    evaluation = evaluate(models, fit.rows, test, shape, config) if models and len(test) else None
    rated = dataset.interactions
    return StoredInteractions.build(encoded, rated.rating, parts, rated.timestamp), evaluation


def _fit_history(
    stored: StoredInteractions, features: Features, content: ContentModel | None, config: RunConfig
) -> HistoryModel:
    """The closed form over what the rankers learnt from: training and, with refit, validation part.

    Where the split is by time, lists are wanted over time, so it also chooses how ratings age.
    """
    dim, num_items = config.history.feature_dim, len(features.items)
    vectors = None
    if content is not None and dim:
        known = content.vectors(dim, seed=config.history.seed)
        vectors = np.vstack([np.zeros((FIRST_KNOWN, dim), dtype=np.float32), known])
    learnt = np.isin(stored.part, (TRAIN, VALIDATION) if config.training.refit else (TRAIN,))
    rows = stored.rows.take(learnt)
    by_time = config.split.kind == "time" and stored.timestamp is not None
    return HistoryModel.fit(
        rows.user_index, rows.item_index, stored.rating[learnt], len(features.users), num_items, vectors,
        config.history, stored.timestamp[learnt] if by_time and stored.timestamp is not None else None,
    )  # fmt: skip
