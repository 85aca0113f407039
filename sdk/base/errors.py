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

Arguments are kept in ``args`` and the text is made in ``__str__``, so each error survives pickling on its
way out of a worker process.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from sdk.base.printable import one_line


class MarqueeError(Exception):
    """Base of everything that Marquee raises on purpose."""

    exit_code: ClassVar[int] = 1

    def __str__(self) -> str:
        return one_line(super().__str__())


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
        super().__init__(owner, name, got, expected)
        self.owner, self.name, self.got, self.expected = owner, name, got, expected

    def __str__(self) -> str:
        return f"{self.owner}.{self.name}: got {self.got!r}, expected {self.expected}."


class UnknownItemError(UsageError):
    """An item_id is not one that the model knows.

    Args:
        item_id: the first unknown one.
        num_items: number of titles known.
    """

    def __init__(self, item_id: int, num_items: int) -> None:
        super().__init__(item_id, num_items)
        self.item_id, self.num_items = item_id, num_items

    def __str__(self) -> str:
        return (
            f"item_id {self.item_id}: not among the model's {self.num_items:,} titles. "
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
        super().__init__(path, wanted, tuple(found))
        self.path, self.wanted, self.found = path, wanted, tuple(found)

    def __str__(self) -> str:
        there = f"it has {', '.join(self.found[:12])}" if self.found else "nothing is there"
        return one_line(f"{self.path}: no {self.wanted} ({there}). See 'Inputs' in README.md for the files we read.")


class MissingColumnError(DataError):
    """A table lacks a column.

    Args:
        path: the file.
        column: the missing column.
        found: the columns it has.
    """

    def __init__(self, path: object, column: str, found: Sequence[str]) -> None:
        super().__init__(path, column, tuple(found))
        self.path, self.column, self.found = path, column, tuple(found)

    def __str__(self) -> str:
        return one_line(
            f"{self.path}: no column {self.column!r} (it has {', '.join(self.found[:40]) or 'no columns'}). "
            "Rename it, or see 'Inputs' in README.md for the columns we read."
        )


class UnusableFileError(DataError):
    """A file or folder is there, but nothing can be done with it: damaged, empty, unsafe or ambiguous.

    Args:
        path: the file or folder.
        problem: what is wrong with it, in words.
        remedy: what to do about it, in words.
    """

    def __init__(self, path: object, problem: str, remedy: str) -> None:
        super().__init__(path, problem, remedy)
        self.path, self.problem, self.remedy = path, problem, remedy

    def __str__(self) -> str:
        return one_line(f"{self.path}: {self.problem}. {self.remedy}")


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
        super().__init__(path, rejected, total, allowed_share, reasons, remedy, adjustable)
        self.path, self.rejected, self.total = path, rejected, total
        self.allowed_share, self.reasons = allowed_share, reasons
        self.remedy, self.adjustable = remedy, adjustable

    def __str__(self) -> str:
        few = self.adjustable and 2 * self.rejected <= self.total  # else hardly any data would be left
        return one_line(
            f"{self.path}: {self.rejected:,} of {self.total:,} rows are bad ({self.reasons}); "
            f"at most {self.allowed_share:.1%} may be. {self.remedy or 'Mend the file.'}"
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
