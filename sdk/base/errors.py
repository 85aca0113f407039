"""One error tree; every error that a user can cause or meet has an exit code.

    MarqueeError (1)
    ├── UsageError (2)        an option or an argument is wrong
    │   ├── ConfigError (2)   a configuration value is out of its range
    │   └── UnknownItemError (2)
    ├── DataError (3)         ratings, titles or tags cannot be used
    │   ├── MissingFileError (3)
    │   ├── MissingColumnError (3)
    │   ├── UnusableFileError (3)
    │   ├── TooManyRejectsError (3)
    │   └── DownloadError (3)
    ├── BundleError (4)       a bundle is absent, incomplete, altered or of another version
    ├── ScoreError (4)        a model gave a score that is not a number
    ├── OutputError (5)       results cannot be written or published
    ├── QualityGateError (6)  a night's lists failed a check
    └── LockedError (7)       another run holds the lock

Each survives pickling on its way out of a worker process, whatever it is made of.
"""

from __future__ import annotations

import copyreg
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from sdk.base.printable import one_line

DISTRIBUTION = "marquee-recs"
_BY_OTHER_MEANS = {
    "merlin": "sh setup.sh in a checkout of the project (pip alone refuses it)",
    "server": "pip install --no-deps 'nvidia-pytriton==0.7.*'",
}


def how_to_get(extra: str) -> str:
    """What installs an optional part, in words: in a checkout from the project itself, beside an installed wheel what
    it asks for; never by a name that others may hold.
    """
    if extra in _BY_OTHER_MEANS:
        return _BY_OTHER_MEANS[extra]
    is_checkout = (Path(__file__).resolve().parents[2] / "pyproject.toml").is_file()
    asked = [] if is_checkout else _asked_by(extra)
    return f"pip install {' '.join(asked)}" if asked else f"pip install '.[{extra}]' in the project's folder"


def _asked_by(extra: str) -> list[str]:
    """What an optional part asks for, quoted for a shell; nothing where the installed project does not say."""
    import importlib.metadata

    try:
        listed = importlib.metadata.requires(DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        return []
    halves = (text.partition(";") for text in listed)
    return [f"'{asked.strip()}'" for asked, _, marker in halves if f'extra == "{extra}"' in marker.replace("'", '"')]


class MarqueeError(Exception):
    """Base of everything that Marquee raises on purpose."""

    exit_code: ClassVar[int] = 1

    def __str__(self) -> str:
        return one_line(super().__str__())

    def __reduce__(self) -> tuple[Any, ...]:
        return copyreg.__newobj__, (type(self), *self.args), self.__dict__  # type: ignore[attr-defined]  # no __init__


class UsageError(MarqueeError):
    """An option, an argument or a parameter is not usable."""

    exit_code = 2


class ConfigError(UsageError):
    """A configuration value is out of its range.

    Args:
        owner: the configuration class.
        name: the field.
        got: the value found.
        expected: what is allowed, in words.
    """

    def __init__(self, owner: str, name: str, got: object, expected: str) -> None:
        super().__init__(f"{owner}.{name}: got {got!r}, expected {expected}.")


class UnknownItemError(UsageError):
    """An item_id is not one that the model knows.

    Args:
        item_id: the first unknown one.
        num_items: number of titles known.
    """

    def __init__(self, item_id: int | str, num_items: int) -> None:
        super().__init__(
            f"item_id {item_id}: not among the model's {num_items:,} titles. "
            "Use an id of the catalogue it was trained on, or train again with this title."
        )


class DataError(MarqueeError):
    """Input data cannot be used."""

    exit_code = 3


class MissingFileError(DataError):
    """A file or folder that the input needs is not there.

    Args:
        path: where it was looked for.
        wanted: what would have done, in words.
        found: the names that are there instead (may be empty).
    """

    def __init__(self, path: object, wanted: str, found: Sequence[str] = ()) -> None:
        there = f"it has {', '.join(found[:12])}" if found else "nothing is there"
        super().__init__(f"{path}: no {wanted} ({there}). docs/movielens.md lists the files we read.")


class MissingColumnError(DataError):
    """A table lacks a column.

    Args:
        path: the file.
        column: the missing column.
        found: the columns it has.
    """

    def __init__(self, path: object, column: str, found: Sequence[str]) -> None:
        super().__init__(
            f"{path}: no column {column!r} (it has {', '.join(found[:40]) or 'no columns'}). "
            "Rename it; columns of any name and ids of any kind go through train --interactions (docs/your_data.md)."
        )


class UnusableFileError(DataError):
    """A file or folder is there, but nothing can be done with it: damaged, empty, unsafe or ambiguous.

    Args:
        path: the file or folder.
        problem: what is wrong with it, in words.
        remedy: what to do about it, in words.
    """

    def __init__(self, path: object, problem: str, remedy: str) -> None:
        super().__init__(f"{path}: {problem}. {remedy}")


class TooManyRejectsError(DataError):
    """More rows are bad than the configured share allows.

    Args:
        path: the input.
        rejected: number of bad rows.
        total: number of rows read.
        allowed_share: the configured share, 0 to 1.
        reasons: the commonest reasons, each with its count, in words.
        remedy: what mends the commonest reason, in words; "" where it is not known.
        adjustable: whether options can raise the share.
    """

    def __init__(
        self,
        path: object,
        rejected: int,
        total: int,
        allowed_share: float,
        reasons: str,
        remedy: str = "",
        adjustable: bool = True,
    ) -> None:
        few = adjustable and 2 * rejected <= total  # else hardly any data would be left
        super().__init__(
            f"{path}: {rejected:,} of {total:,} rows are bad ({reasons}); "
            f"at most {allowed_share:.1%} may be. {remedy or 'Mend the file.'}"
            + (" Or do without them: raise --max-reject-share (data.max_reject_share in --config)." if few else "")
        )


class DownloadError(DataError):
    """A data set could not be fetched or does not match its published checksum."""


class BundleError(MarqueeError):
    """A bundle is absent, incomplete, altered, or of a version that this release cannot read."""

    exit_code = 4


class ScoreError(MarqueeError):
    """A model produced a score that is not a finite number."""

    exit_code = 4


class OutputError(MarqueeError):
    """Results cannot be written or published."""

    exit_code = 5


class QualityGateError(MarqueeError):
    """A night's lists failed a check and were not published."""

    exit_code = 6


class LockedError(MarqueeError):
    """Another run holds the lock on this output."""

    exit_code = 7
