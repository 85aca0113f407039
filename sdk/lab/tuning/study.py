"""A study's file: opened by one run at a time, refused where it is of something else, left fit to go on with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdk.base.errors import OutputError, UnusableFileError, UsageError
from sdk.base.files import lock_of, locked
from sdk.base.rights import reason

if TYPE_CHECKING:
    import optuna

_FACTS = "facts"


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
        message = "tune needs Optuna, which is not installed: pip install 'marquee[tune]'"
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
