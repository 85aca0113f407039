"""From a validated data set to a bundle: split, encode, train, measure, learn from everything, write."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from sdk.base.config import RunConfig, TrainingConfig, to_json
from sdk.base.errors import OutputError
from sdk.base.files import digest_of, lock_of, locked, remove, sha256_of, standing
from sdk.base.paths import as_path
from sdk.base.progress import Progress
from sdk.base.rights import reason
from sdk.base.stages import Stages
from sdk.base.traces import note, span
from sdk.base.types import Dataset, Float32s, Int64s, Interactions, Repeats
from sdk.bundles.bundle import INFO, Bundle, load
from sdk.data.labels import ready
from sdk.data.splits import Split
from sdk.features.encode import Features, fit_features
from sdk.features.engine import with_engine
from sdk.features.interactions import StoredInteractions
from sdk.features.loaders import against_sampled
from sdk.features.tables import FIRST_KNOWN, EncodedInteractions
from sdk.machine.device import require_trainer, resolve_device
from sdk.measure.evaluation import evaluate, learnt_parts, learnt_words
from sdk.metrics.pointwise import EpochRecord, auc
from sdk.models.bfm import BFM
from sdk.models.content.model import ContentModel
from sdk.models.history.model import HistoryModel
from sdk.models.pair_model import PairModel
from sdk.models.predict import predict
from sdk.models.ranker import averaged, build_ranker, mixed
from sdk.training.bundle_writer import Trained, write_bundle
from sdk.training.content_fit import content_of, fit_content
from sdk.training.loop import seeded, train
from sdk.training.process_share import ALONE, Share
from sdk.training.ranker_share import ShareChoice, ShareTask
from sdk.training.sampled import sample

if TYPE_CHECKING:
    from sdk.bundles.tracking import MLflow

SHARES = (0.25, 0.45, 0.65, 0.85)
"""Of another ranker's logit in the DLRM's, which are tried on the validation part."""
_SEEDS_APART = 1_000_003  # between two members, so that runs with neighbouring seeds share none


@dataclass(frozen=True, slots=True, eq=False)
class Where:
    """Where rankers train.

    Attributes:
        device: ``cpu`` or ``cuda``.
        share: this process's share of every batch.
    """

    device: str = "cpu"
    share: Share = ALONE


@dataclass(frozen=True, slots=True, eq=False)
class _Run:
    """What all stages of a run have in common.

    Attributes:
        dataset: validated ratings and titles.
        config: of the models that can learn from them.
        parts: the split.
        work: a folder for checkpoints and NVTabular's files.
        where: where the rankers train.
        stages: how long each stage took.
        whole: the data set as it is in the end; ``dataset`` knows no event from the test part's beginning on, where the
            split is by time.
        is_final: whether it learns from everything, after another one was measured.
    """

    dataset: Dataset
    config: RunConfig
    parts: Split
    work: Path
    where: Where
    stages: Stages
    whole: Dataset
    is_final: bool = False

    @classmethod
    def of(cls, whole: Dataset, config: RunConfig, parts: Split, work: Path, where: Where) -> _Run:
        """The run that is measured."""
        pairs = whole.interactions
        if config.split.kind == "time" and len(parts.test):
            pairs = pairs.as_of(int(pairs.since[parts.test].min()))
        return cls(replace(whole, interactions=pairs), config, parts, work, where, Stages(), whole)

    @property
    def fit_name(self) -> str:
        """What it is called in logs when rankers learn again."""
        return "final fit" if self.is_final else "refit"

    def learnt_rows(self) -> Int64s:
        """(L,) int64 ascending rows that the rankers learn from in the end."""
        return self.parts.fit_rows() if self.config.training.refit else self.parts.train

    def of_everything(self) -> _Run | None:
        """The run that learns from every rating; None where it is not wanted, or this one does."""
        size = len(self.dataset.interactions)
        if not self.config.final_fit or len(self.learnt_rows()) == size:
            return None
        everything, nothing = np.arange(size, dtype=np.int64), np.zeros(0, dtype=np.int64)
        return replace(self, dataset=self.whole, parts=Split(everything, nothing, nothing), is_final=True)

    @property
    def is_implicit(self) -> bool:
        """Whether every pair is a like, and held-out ones are measured against sampled unseen items."""
        return self.dataset.about.feedback == "implicit"


def train_bundle(
    dataset: Dataset, config: RunConfig, out: str | Path, *, force: bool = False, device: str = "auto",
    mlflow: MLflow | None = None,
) -> Bundle:  # fmt: skip
    """Train the configured models on a data set and write them as one bundle.

    A run that was killed goes on from its last finished epoch when it is started again with the same data and
    configuration.

    Args:
        dataset: validated ratings and titles.
        config: everything else that the result depends on.
        out: the bundle's folder; it exists whole or not at all.
        force: whether an existing bundle may be replaced.
        device: where the rankers train: ``cpu``, ``cuda``, or ``auto`` for a GPU where there is one.
        mlflow: told of the bundle that was written; what goes wrong there is a warning.

    Raises:
        UsageError: ``device`` is unknown, or ``cuda`` where torch finds no GPU; or the features' engine is
            ``nvtabular``, or the trainer ``merlin``, where it is not installed.
        DataError: there are too few ratings to train on or to measure with, or no likes among them where ``models``
            names a ranker (by default, rankers are left out then, and a warning says so).
        OutputError: ``out`` exists (and ``force`` is not given), or cannot be written.
        LockedError: another run is writing the same bundle.
    """
    started = time.time()
    bundle = train_where(dataset, config, out, Where(resolve_device(device)), force=force)
    if mlflow is not None:
        mlflow.log_bundle(bundle, started)
    return bundle


def train_where(dataset: Dataset, config: RunConfig, out: str | Path, where: Where, *, force: bool = False) -> Bundle:
    """``train_bundle``, alone or together with processes that call ``take_part``; this one measures and writes.

    Raises:
        UsageError: the features' engine or the trainer is not installed.
        DataError: as ``train_bundle``; so are the others.
        OutputError: see there.
        LockedError: see there.
    """
    target = as_path(out).absolute()
    require_trainer(config.training.trainer)
    require_room(target, force=force)
    dataset, config, parts = ready(dataset, with_engine(config))
    busy = f"{target}: another run is training this bundle; wait for it, or choose another --out"
    try:
        with locked(lock_of(target), busy):
            work = _work_folder(target, dataset, config)
            counts = {"users": dataset.users.num_rows, "rows": len(dataset.interactions)}
            with span("training", **counts, models=config.models):
                write_bundle(*_train(_Run.of(dataset, config, parts, work, where)), target)
                note(bundle=sha256_of(standing(target) / INFO))
            remove(work)
    except OSError as error:
        found, why = error.filename or target, reason(error, target)
        message = f"{found}: cannot be written or deleted ({why}); make room there, or choose another --out"
        raise OutputError(message) from error
    return load(target)


def require_room(target: Path, *, force: bool) -> None:
    """Refuse a bundle's folder that is taken, or whose parent cannot be made or written, before any work is done.

    Raises:
        OutputError: it is.
    """
    target = target.absolute()
    try:
        if standing(target).exists() and not force:
            raise OutputError(f"{target}: already there; pass --force to replace it, or choose another --out")
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
    for other in target.parent.iterdir():
        if other.name.startswith(start) and (other != work or other.is_symlink() or not other.is_dir()):
            remove(other)
    work.mkdir(parents=True, exist_ok=True)
    return work


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
    dataset, config, parts = ready(dataset, config)
    run = _Run.of(dataset, config, parts, work, where)
    selection = _select_rankers(run, fit_content(run.dataset, run.config, run.parts))
    for fitted in (run, run.of_everything()):
        if fitted is not None:
            _fit_rankers(fitted, selection)


def _train(run: _Run) -> tuple[Trained, Trained | None]:
    """What is published, and what was measured where that is another: then the published learnt from everything."""
    with run.stages.time("content model"):
        content = fit_content(run.dataset, run.config, run.parts)
    selection = _select_rankers(run, content)
    measured = _fitted(run, selection, content)
    measured = replace(measured, shares=_ranker_shares(run, selection, measured.history))
    whole = run.of_everything()
    if whole is None:
        return measured, None
    if measured.history is not None and run.config.split.kind != "time":  # by time the latest moments say what is best
        whole = replace(whole, config=replace(whole.config, history=measured.history.config))
    if content is not None:
        content = content_of(content, run.dataset, run.config, whole.parts)
    final = _fitted(whole, selection, content)
    words = learnt_words(measured.num_learnt, final.num_learnt, run.dataset.about.feedback)
    figures = measured.evaluation and replace(measured.evaluation, learnt=words)
    return replace(final, config=run.config, evaluation=figures, shares=measured.shares), measured


def _fitted(run: _Run, selection: _Selection, content: ContentModel | None) -> Trained:
    """Everything fitted on what the run may learn from, measured on its test part."""
    fit, models = _fit_rankers(run, selection)
    stages, config, rated, features = run.stages, run.config, run.dataset.interactions, fit.features
    encoded = features.encode(rated)
    test = encoded.take(run.parts.test)
    evaluation = None
    if models and len(test):
        with stages.time("evaluation"):
            shape = (len(features.users), len(features.items))
            evaluation = evaluate(models, fit.rows, test, shape, config, known=encoded if run.is_implicit else None)
    stored = StoredInteractions.build(encoded, rated.rating, run.parts, rated.timestamp, rated.seen)
    history = None
    if "history" in config.models:
        with stages.time(f"history model{', final fit' if run.is_final else ''}") as shown:
            history = _history_model(run, stored, features, selection.history_vectors, rated.repeats)
            shown.says(f"penalty {history.config.penalty:g}")
    return Trained(
        run.dataset, config, features, stored, models,
        {name: each.history for name, each in selection.rankers.items()},
        {name: each.auc for name, each in selection.rankers.items()},
        content, history, evaluation, stages,
    )  # fmt: skip


def _ranker_shares(run: _Run, selection: _Selection, history: HistoryModel | None) -> Mapping[str, ShareChoice]:
    """How much of each ranker a list takes, by the validation part; nothing is chosen where the configuration says."""
    if history is None or run.config.history.ranker_weight is not None or not selection.rankers:
        return {}
    rated, learnt, features = run.dataset.interactions, selection.fit.rows, selection.fit.features
    known, asked = rated.take(run.parts.train), rated.take(run.parts.validation)
    with run.stages.time("rankers' shares of lists") as shown:
        whole = Split(np.arange(len(learnt)), *(np.zeros(0, np.int64),) * 2)
        stored = StoredInteractions.build(learnt, known.rating, whole, known.timestamp, known.seen)
        closed = _history_model(
            replace(run, config=replace(run.config, history=history.config)), stored, features,
            selection.history_vectors,
        )  # fmt: skip
        rows = learnt.user_index, learnt.item_index, known.rating
        form = closed.to_pair_form(*rows, len(features.users), known.timestamp)
        liked = features.encode(asked.take(np.flatnonzero(asked.rating >= history.config.like_at)))
        task = ShareTask.of(form, learnt, liked, run.config.training.seed)
        found = {} if task is None else {name: task.choose(each.model) for name, each in selection.rankers.items()}
        shown.says(", ".join(f"{name} {each.share:g}" for name, each in found.items()) or "too few likes to choose")
        return found


def _history_model(
    run: _Run, stored: StoredInteractions, features: Features, vectors: Float32s | None, repeats: Repeats | None = None
) -> HistoryModel:
    """The closed form over what the rankers learnt from: training and, with refit, validation part.

    Where the split is by time, lists are wanted over time, so it also chooses how ratings age.
    """
    config, parts = run.config.history, learnt_parts(run.config)
    learnt = stored.only(*parts)
    if repeats is not None:
        repeats = repeats.take(np.flatnonzero(np.isin(stored.part, parts)))
    with Progress("history model", "steps"):
        return HistoryModel.fit(
            learnt.rows.user_index, learnt.rows.item_index, learnt.rating, len(features.users), len(features.items),
            vectors, config, learnt.timestamp, repeats, by_time=run.config.split.kind == "time",
        )  # fmt: skip


class _Fit(NamedTuple):
    """Features of some rows, and those rows encoded."""

    features: Features
    rows: EncodedInteractions


@dataclass(frozen=True, slots=True, eq=False)
class _Selected:
    """A ranker after early stopping, or one network of it.

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
class _Selection:
    """What the validation part chose.

    Attributes:
        fit: features of the training part, and its rows.
        vectors: (R - 3, c) float32 content vectors of the items, for the rankers.
        history_vectors: (R, f) float32 those for the history model; None where it learns without.
        rankers: by name, as they are after early stopping.
        mixed_in: the other ranker that the DLRM has a share of, and the share; None where it has none.
    """

    fit: _Fit
    vectors: Float32s
    history_vectors: Float32s | None
    rankers: Mapping[str, _Selected]
    mixed_in: tuple[str, float] | None


def _select_rankers(run: _Run, content: ContentModel | None) -> _Selection:
    """Features of the training part, and rankers trained on it until the validation part says enough."""
    config, rated, time = run.config, run.dataset.interactions, run.stages.time
    with time("features"):
        dim = config.features.content_dim
        vectors = np.zeros((run.dataset.items.num_rows, 0), dtype=np.float32)
        if content is not None and dim:
            vectors = content.vectors(dim, seed=config.training.seed)
        for_history = _history_vectors(content, config)
        fit = _fit(run, rated.take(run.parts.train), vectors, "selecting")
    selected: dict[str, _Selected] = {}
    validation = fit.features.encode(rated.take(run.parts.validation))
    if run.is_implicit:
        known, size = fit.features.encode(rated), len(fit.features.items)
        validation = against_sampled(validation, known, size, config.training, config.split.seed)
    for name in config.rankers:
        with time(f"{name}: training") as shown:
            selected[name] = _select(run, name, fit, validation, shown)
            shown.says(f"validation AUC {selected[name].auc:.4f}")
    better, mixed_in = _with_another(run, selected, validation)
    return _Selection(fit, vectors, for_history, selected | better, mixed_in)


def _history_vectors(content: ContentModel | None, config: RunConfig) -> Float32s | None:
    dim = config.history.feature_dim
    if content is None or not dim or "history" not in config.models:
        return None
    known = content.vectors(dim, seed=config.history.seed)
    return np.vstack([np.zeros((FIRST_KNOWN, dim), dtype=np.float32), known])


def _fit_rankers(run: _Run, selection: _Selection) -> tuple[_Fit, dict[str, PairModel]]:
    """The features and rankers of what the run may learn from; where that is the training part, those selected."""
    fit, models = selection.fit, {name: each.model for name, each in selection.rankers.items()}
    if run.is_final or (models and run.config.training.refit):
        with run.stages.time(f"features, {run.fit_name}"):
            rows = run.dataset.interactions.take(run.learnt_rows())
            fit = _fit(run, rows, selection.vectors, run.fit_name.replace(" ", "-"))
        for name in run.config.rankers:
            with run.stages.time(f"{name}: {run.fit_name}") as shown:
                models[name] = _refit(run, name, fit, selection.rankers[name], shown)
        if selection.mixed_in is not None:
            other, share = selection.mixed_in
            models["dlrm"] = mixed(models["dlrm"], models[other], share)
    run.where.share.meet()
    return fit, models


def _fit(run: _Run, rows: Interactions, vectors: Float32s, folder: str) -> _Fit:
    work = run.work / folder
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    data = run.dataset
    features = fit_features(rows, data.users, data.items, vectors, run.config.features, work, data.about)
    return _Fit(features, features.encode(rows))


def _select(run: _Run, name: str, fit: _Fit, validation: EncodedInteractions, shown: Progress) -> _Selected:
    """Train each member with early stopping on the validation part; the first also with each of the settings tried."""
    settings, num_others = run.config.training_of(name), run.config.members_of(name, len(fit.rows)) - 1
    shown.rounds = len(settings) + num_others
    tried = [
        _trained(
            run, name, fit, validation, training, f", settings {number}" if number else "", f"selecting-0.{number}",
            shown=shown,
        )
        for number, training in enumerate(settings)
    ]  # fmt: skip
    best = max(tried, key=lambda member: member.auc)
    others = [
        _trained(
            run, name, fit, validation, best.training, f" member {place + 1}", f"selecting-{place}", place, shown=shown
        )
        for place in range(1, num_others + 1)
    ]
    members = [best, *others]
    model = averaged([member.model for member in members])
    epochs = tuple(member.epochs[0] for member in members)
    return replace(
        best,
        model=model,
        epochs=epochs,
        auc=_validation_auc(run, _validation_logits(run, model, validation), validation),
    )


def _refit(run: _Run, name: str, fit: _Fit, selected: _Selected, shown: Progress) -> PairModel:
    """Train on training and validation part together, each member for as many epochs as were its best."""
    members = []
    shown.rounds = len(selected.epochs)
    for place, num_epochs in enumerate(selected.epochs):
        label, file = f" {run.fit_name}{f' {place + 1}' if place else ''}", f"{run.fit_name.split()[0]}-{place}"
        one = _trained(run, name, fit, None, selected.training, label, file, place, num_epochs, shown=shown)
        members.append(one.model)
    return averaged(members)


def _trained(
    run: _Run, name: str, fit: _Fit, validation: EncodedInteractions | None, training: TrainingConfig,
    label: str, file: str, place: int = 0, num_epochs: int | None = None, *, shown: Progress,
) -> _Selected:  # fmt: skip
    """One network; where several processes train it there is no checkpoint: they may stop at different epochs."""
    share, features = run.where.share, fit.features
    shown.rounds -= 1
    training = replace(training, seed=training.seed + _SEEDS_APART * place)
    model = seeded(lambda: build_ranker(name, run.config, features.users, features.items), training)
    checkpoint = run.work / f"{name}.{file}.safetensors" if share.size == 1 else None
    if isinstance(model, BFM):
        history = sample(
            model, features, fit.rows, validation, replace(run.config, training=training),
            name=f"{name}{label}", num_epochs=num_epochs, progress=shown,
        )  # fmt: skip
        return _Selected(model, training, history, (len(history),), history[-1].auc)
    result = train(
        model, fit.rows, validation, training, name=f"{name}{label}", num_epochs=num_epochs,
        checkpoint=checkpoint, device=run.where.device, share=share, progress=shown,
    )  # fmt: skip
    return _Selected(model, training, result.history, (result.best_epoch,), result.history[result.best_epoch - 1].auc)


def _validation_logits(run: _Run, model: PairModel, validation: EncodedInteractions) -> Float32s:
    logits = predict(model.to(run.where.device), validation)
    model.to("cpu")
    return logits


def _validation_auc(run: _Run, logits: Float32s, validation: EncodedInteractions) -> float:
    return run.where.share.first_ones(auc(validation.label, logits), torch.device(run.where.device))


def _with_another(
    run: _Run, selected: Mapping[str, _Selected], validation: EncodedInteractions
) -> tuple[dict[str, _Selected], tuple[str, float] | None]:
    """The selected DLRM with a share of another's logit, whose and how much, where that is better on validation."""
    if (own := selected.get("dlrm")) is None:
        return {}, None
    config, best, mixed_in = run.config, own.auc, None
    logits = _validation_logits(run, own.model, validation)
    for name in (each for each in selected if each == "bfm" or (each == "ncf" and config.ncf.variant == "dot")):
        given, others = config.dlrm.share_of(name), _validation_logits(run, selected[name].model, validation)
        for share in SHARES if given is None else filter(None, (given,)):
            score = _validation_auc(run, (1 - share) * logits + share * others, validation)
            if score > best:
                best, mixed_in = score, (name, share)
    if mixed_in is None:
        return {}, None
    model = mixed(own.model, selected[mixed_in[0]].model, mixed_in[1])
    return {"dlrm": replace(own, model=model, auc=best)}, mixed_in
