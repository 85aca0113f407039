"""A search for better settings: Optuna's TPE on a SQLite study that can be interrupted and gone on with.

    result = tune(dataset, RunConfig(), "dlrm", "study.db", num_trials=40)
    result.best                                                       # a RunConfig

Trial n depends on the n finished trials before it and the seed alone, so an interrupted study that is gone on with
finds what an undisturbed one finds. TPE: Bergstra et al. 2011, section 4. The median rule for ending poor trials
early: Golovin et al. 2017, section 3.2.
"""

from __future__ import annotations

import logging
import math
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdk.base.config import RunConfig, to_json
from sdk.base.errors import OutputError, ScoreError, UnusableFileError, UsageError, how_to_get
from sdk.base.files import lock_of, locked
from sdk.base.ids import count_of
from sdk.base.rights import reason
from sdk.base.types import Dataset
from sdk.data.labels import for_data
from sdk.lab.tuning.objectives import Objective, Report, objective_of
from sdk.lab.tuning.space import Space, field_of, space_around, text_of, with_fields

if TYPE_CHECKING:
    import optuna

log = logging.getLogger(__name__)

_TRIALS_BEFORE_PRUNING = 5
_FACTS = "facts"


@dataclass(frozen=True, slots=True)
class Trial:
    """One finished trial.

    Attributes:
        number: from 0; those that were interrupted are left out.
        value: the objective; of a pruned trial its last report, NaN if it had none.
        pruned: whether it was ended early.
        fields: path of each searched field -> its value.
        seconds: how long it took.
    """

    number: int
    value: float
    pruned: bool
    fields: Mapping[str, Any]
    seconds: float


@dataclass(frozen=True, slots=True)
class Repeated:
    """The default's and the best trial's values with further seeds, which the search did not use.

    Attributes:
        default: one value per seed.
        best: one value per seed, the same seeds.
    """

    default: tuple[float, ...]
    best: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class TuningResult:
    """What a study holds.

    Attributes:
        model: which one was tuned.
        metric: what its values are.
        dataset: the data set's name.
        config: the run that trials varied.
        space: what they varied.
        trials: those that finished, in order; the first is of ``config`` as it is.
        importances: path of each searched field -> its share of the values' variance (fANOVA, Hutter et al. 2014);
            empty where too few trials are complete.
        repeated: None unless asked for.
    """

    model: str
    metric: str
    dataset: str
    config: RunConfig
    space: Space
    trials: tuple[Trial, ...]
    importances: Mapping[str, float]
    repeated: Repeated | None = None

    @property
    def ranked(self) -> tuple[Trial, ...]:
        """The complete trials, best first; of equal ones the earlier."""
        return tuple(sorted((t for t in self.trials if not t.pruned), key=lambda t: (-t.value, t.number)))

    @property
    def default(self) -> Trial | None:
        """The trial of the run as it was given; None before it is complete."""
        return next((trial for trial in self.ranked if trial.number == self.trials[0].number), None)

    @property
    def best(self) -> RunConfig:
        """The given run with the best trial's fields."""
        return with_fields(self.config, self.ranked[0].fields) if self.ranked else self.config


def tune(
    dataset: Dataset,
    config: RunConfig,
    model: str,
    study: str | Path,
    *,
    num_trials: int,
    repeats: int = 2,
    confirm: int = 0,
    timeout_s: float | None = None,
) -> TuningResult:
    """Search for a model's best settings on validation parts, going on with the study if it is there.

    Args:
        dataset: validated ratings and titles.
        config: what is not searched, and the first trial; ``config.training.seed`` seeds the search too.
        model: ``dlrm``, ``ncf`` or ``history``.
        study: SQLite file; it can hold one study per model.
        num_trials: finished trials that the study shall have in all, at least 1.
        repeats: training seeds (draws, for the history model) whose mean is a trial's value, at least 1.
        confirm: further seeds with which the given run and the best one are repeated at the end.
        timeout_s: no trial is started after this many seconds.

    Raises:
        UsageError: Optuna is not installed, the study is of other data or settings, or a number is out of range.
        DataError: the data are too few to measure on.
        UnusableFileError: the file is no study.
        OutputError: the study cannot be written.
        LockedError: another run is using the study.
    """
    for name, number, least in (("num_trials", num_trials, 1), ("repeats", repeats, 1), ("confirm", confirm, 0)):
        count_of(number, name, least)
    dataset, config = for_data(dataset, config)
    space = space_around(model, config)
    facts = _facts(dataset, config, model, space, repeats)
    with opened_study(Path(study), model, facts) as opened, tempfile.TemporaryDirectory(prefix="marquee-tune-") as work:
        objective = objective_of(model, dataset, config, Path(work))
        search = Search(opened, objective, config, space, repeats)
        search.run(num_trials, timeout_s)
        trials, shares = search.trials(), importances(opened)
        found = TuningResult(model, objective.metric, dataset.name, config, space, trials, shares)
        if not confirm or not found.ranked:
            return found
        further = range(repeats, repeats + confirm)
        pair = (tuple(objective.once(each, repeat) for repeat in further) for each in (found.config, found.best))
        return replace(found, repeated=Repeated(*pair))


def _facts(dataset: Dataset, config: RunConfig, model: str, space: Space, repeats: int) -> dict[str, Any]:
    """What a study's values depend on, in words that its file keeps."""
    return {
        "data": dataset.fingerprint,
        "configuration": to_json(config),
        "model": model,
        "search space": [[type(parameter).__name__, *map(str, to_json(parameter).values())] for parameter in space],
        "number of repeats": repeats,
    }


class Search:
    """Trials of one objective in one study.

    Args:
        study: an Optuna study that maximises.
        objective: measured once per trial.
        config: the run that trials vary, and the first of them.
        space: what varies.
        repeats: passed on to the objective.
    """

    def __init__(
        self, study: optuna.Study, objective: Objective, config: RunConfig, space: Space, repeats: int
    ) -> None:
        self._study, self._objective, self._config = study, objective, config
        self._space, self._repeats = space, repeats

    def run(self, num_trials: int, timeout_s: float | None = None) -> None:
        """Add trials until ``num_trials`` are finished in all, or the time is up."""
        from optuna.pruners import MedianPruner

        start = time.perf_counter()
        self._study.pruner = MedianPruner(_TRIALS_BEFORE_PRUNING, n_warmup_steps=self._objective.patience)
        if not self._study.trials:
            log.info("a new study of %s: %d trials", self._objective.metric, num_trials)
        while (finished := len(_finished(self._study))) < num_trials:
            if timeout_s is not None and time.perf_counter() - start >= timeout_s:
                log.warning("time is up after %d of %d trials; the same command goes on", finished, num_trials)
                return
            self._add(finished)

    def trials(self) -> tuple[Trial, ...]:
        """The finished trials, in order."""
        return tuple(self._trial(frozen) for frozen in _finished(self._study))

    def _add(self, finished: int) -> None:
        import optuna

        if finished == 0 and not self._study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.WAITING,)):
            self._study.enqueue_trial({p.field: p.raw(field_of(self._config, p.field)) for p in self._space})
        self._study.sampler = optuna.samplers.TPESampler(seed=self._config.training.seed * 1_000_003 + finished)
        trial = self._study.ask({p.field: p.distribution for p in self._space})
        try:
            config = with_fields(self._config, self._fields(trial.params))
            frozen = self._study.tell(trial, self._objective.measure(config, self._repeats, _reporter(trial)))
        except (optuna.TrialPruned, ScoreError):  # a loss that is not a number is the learning rate's fault
            frozen = self._study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        except BaseException:
            self._study.tell(trial, state=optuna.trial.TrialState.FAIL)
            raise
        self._log(frozen)

    def _fields(self, params: Mapping[str, Any]) -> dict[str, Any]:
        by_field = {parameter.field: parameter for parameter in self._space}
        return {field: by_field[field].value_of(raw) for field, raw in params.items()}

    def _trial(self, frozen: optuna.trial.FrozenTrial) -> Trial:
        pruned, reports = frozen.state.name == "PRUNED", frozen.intermediate_values
        last = reports[max(reports)] if reports else math.nan
        value = last if pruned or frozen.value is None else frozen.value
        seconds = frozen.duration.total_seconds() if frozen.duration else math.nan
        return Trial(frozen.number, value, pruned, self._fields(frozen.params), seconds)

    def _log(self, frozen: optuna.trial.FrozenTrial) -> None:
        trial = self._trial(frozen)
        fields = ", ".join(f"{path.split('.')[-1]} {text_of(value)}" for path, value in trial.fields.items())
        end = "pruned at" if trial.pruned else self._objective.metric
        log.info("trial %d: %s %.4f, %.0f s (%s)", trial.number, end, trial.value, trial.seconds, fields)


def _reporter(trial: optuna.Trial) -> Report:
    def report(step: int, value: float) -> None:
        import optuna

        trial.report(value, step)
        if trial.should_prune():
            raise optuna.TrialPruned

    return report


def _finished(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    return [trial for trial in study.get_trials(deepcopy=False) if trial.state.name in ("COMPLETE", "PRUNED")]


def importances(study: optuna.Study) -> dict[str, float]:
    """Each searched field's share of the variance of the complete trials' values, greatest first."""
    import optuna

    values = {trial.value for trial in _finished(study) if trial.state.name == "COMPLETE"}
    if len(values) < 4:
        return {}
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    return dict(optuna.importance.get_param_importances(study, evaluator=evaluator))


@contextmanager
def opened_study(path: Path, model: str, facts: Mapping[str, Any]) -> Iterator[optuna.Study]:
    """A model's study in a file, made if absent and locked meanwhile; what a killed run left running is closed.

    Args:
        path: SQLite file.
        model: the study's name in the file.
        facts: plain JSON values that the study's values depend on, by a name in words.

    Raises:
        UsageError: Optuna is not installed, or the study is of other facts.
        UnusableFileError: the file is no study.
        OutputError: the study cannot be written.
        LockedError: another run is using the file.
    """
    require_optuna()
    try:
        path.absolute().parent.mkdir(parents=True, exist_ok=True)
        path.open("ab").close()  # SQLite would only say that it cannot open it
    except OSError as error:
        message = f"{path}: a study cannot be kept there ({reason(error, path)}); choose another --study"
        raise OutputError(message) from error
    busy = f"{path}: another run is using this study; wait for it, or choose another --study"
    with locked(lock_of(path), busy), _stored(path) as storage:
        yield _study_of(storage, path, model, facts)


def require_optuna() -> None:
    """Refuse to go on without Optuna.

    Raises:
        UsageError: it is not installed.
    """
    try:
        import optuna
    except ImportError as error:
        message = f"tune needs Optuna, which is not installed: {how_to_get('tune')}"
        raise UsageError(message) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)


@contextmanager
def _stored(path: Path) -> Iterator[optuna.storages.RDBStorage]:
    import optuna
    from sqlalchemy.exc import SQLAlchemyError

    try:
        storage = optuna.storages.RDBStorage(f"sqlite:///{path.absolute()}")
    except (SQLAlchemyError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise UnusableFileError(path, f"no study can be kept in it ({reason})", "Choose another --study.") from error
    try:
        yield storage
    except optuna.exceptions.StorageInternalError as error:
        raise OutputError(f"{path}: the study cannot be written ({error}); make room there") from error
    finally:
        storage.remove_session()
        storage.engine.dispose()


def _study_of(storage: optuna.storages.RDBStorage, path: Path, model: str, facts: Mapping[str, Any]) -> optuna.Study:
    import optuna

    study = optuna.create_study(storage=storage, study_name=model, direction="maximize", load_if_exists=True)
    known = study.user_attrs.get(_FACTS)
    if known is None:
        study.set_user_attr(_FACTS, facts)
    elif known != facts:
        odd = [name for name, value in facts.items() if known.get(name) != value]
        raise UsageError(
            f"{path}: its {model} study is of another {' and another '.join(odd)}, so its trials do not compare. "
            "Give what it was started with, or choose another --study."
        )
    for trial in study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
    return study
