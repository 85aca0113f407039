"""What ``bundle.json`` says, and that the folder holds exactly the files it names, each with its sha256."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sdk.base.config import RANKERS, RunConfig, from_json
from sdk.base.description import Description
from sdk.base.errors import BundleError, UsageError
from sdk.base.files import digest_of, sha256_of

FORMAT_VERSION = 2
INFO = "bundle.json"
MEASURED = "measured"
"""The folder of the bundle that the figures are of, where the bundle around it learnt from more afterwards."""
IN_MEASURED = f"{MEASURED}/{INFO}"
LISTS = "lists.npz"
"""What lists are ranked by, in pair form; bundles of early releases have none, and make it anew."""
_CHECKSUM = "checksum"
_SHA256 = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[^/\\:\0]+(?:/[^/\\:\0]+)*")
_GROUPS = ("data", "tables", "metrics", "packages", "files")


@dataclass(frozen=True, slots=True, eq=False)
class BundleInfo:
    """What ``bundle.json`` says.

    Attributes:
        created: when it was written, ISO 8601, UTC.
        data: name, fingerprint and row counts of the data set.
        config: the run's configuration.
        tables: what the encoded tables need beside their Parquet files.
        models: the models it holds.
        chosen_model: the ranker with the best validation AUC; None where it holds no ranker.
        metrics: validation AUC per ranker, and the table of test metrics.
        packages: versions that it was trained with.
        files: relative path -> hex sha256 of every other file.
        about: what the columns of the data mean: ``description`` in ``data``, which MovieLens has not.

    Raises:
        ValueError: a value is of another type than described, or names a model that is none.
    """

    created: str
    data: Mapping[str, Any]
    config: RunConfig
    tables: Mapping[str, Any]
    models: tuple[str, ...]
    chosen_model: str | None
    metrics: Mapping[str, Any]
    packages: Mapping[str, str]
    files: Mapping[str, str]
    about: Description = field(default_factory=Description)

    def __post_init__(self) -> None:
        wrong = [
            not isinstance(self.created, str) and "created",
            not {"name", "fingerprint"} <= set(self.data) and "data",
            not all(isinstance(self.tables.get(side), dict) for side in ("users", "items")) and "tables",
            list(self.models) != list(self.config.models) and "models",
            self.chosen_model not in (self.config.rankers or (None,)) and "chosen_model",
            not all(isinstance(sha, str) and _SHA256.fullmatch(sha) for sha in self.files.values()) and "files",
            not _are_aucs(self.metrics.get("validation_auc")) and "metrics.validation_auc",
        ]
        named = [name for name in wrong if name]
        if named:
            raise ValueError(f"{named[0]} is not what a bundle holds there")


def _are_aucs(values: object) -> bool:
    if not isinstance(values, dict):
        return False
    return all(name in RANKERS and type(auc) in (int, float) and 0 <= auc <= 1 for name, auc in values.items())


def sealed(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values with a ``checksum``, the sha256 of all others, whatever the order of their keys."""
    body = {name: value for name, value in values.items() if name != _CHECKSUM}
    return {**body, _CHECKSUM: digest_of(body)}


def read_info(folder: Path) -> BundleInfo:
    """Read a bundle's ``bundle.json``.

    Its ``checksum`` is held to the rest; bundles from before it was written have none.

    Raises:
        BundleError: it is absent, altered, of another version, or not of this form.
    """
    values = _read_values(folder)
    try:
        config = _with_its_engine(from_json(RunConfig, values.pop("config")))
        parts: dict[str, Any] = {name: dict(values.pop(name)) for name in _GROUPS}
        about = Description.of_json(parts["data"].get("description", {}))
        return BundleInfo(config=config, models=tuple(values.pop("models")), about=about, **parts, **values)
    except (TypeError, KeyError, ValueError, AttributeError, UsageError) as error:
        message = f"{folder / INFO}: not a bundle of this release ({error}). Train the bundle again."
        raise BundleError(message) from error


def _with_its_engine(config: RunConfig) -> RunConfig:
    """A bundle names the engine that fitted its features; one of an early release, which has none, is NVTabular's."""
    if config.features.engine != "auto":
        return config
    return replace(config, features=replace(config.features, engine="nvtabular"))


def _read_values(folder: Path) -> dict[str, Any]:
    """The object that it holds, without version and checksum, which are those expected."""
    if not (folder / INFO).is_file():
        held = sorted(path.name for path in folder.iterdir())[:8] if folder.is_dir() else None
        absent = "it is no folder" if folder.exists() else "nothing is there"
        found = absent if held is None else f"it has {', '.join(held) or 'nothing in it'}"
        raise BundleError(f"{folder}: no {INFO} ({found}). Train a bundle first: python -m sdk train --help.")
    try:
        values: dict[str, Any] = json.loads((folder / INFO).read_text("utf-8"))
        version = values.pop("format_version")
        checksum = values.pop(_CHECKSUM, None)
        expected = digest_of({**values, "format_version": version})
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BundleError(f"{folder / INFO}: not readable ({error}). Train the bundle again.") from error
    if version != FORMAT_VERSION:
        message = f"{folder / INFO}: format version {version!r}, this release reads {FORMAT_VERSION}. Train it again."
        raise BundleError(message)
    if checksum not in (None, expected):
        message = f"{folder / INFO}: altered since it was written. Copy the bundle again, whole, or train it again."
        raise BundleError(message)
    return values


def is_measured(name: str) -> bool:
    """Whether a file of a bundle is one of the measured bundle within it."""
    return name.startswith(f"{MEASURED}/")


def verify(folder: Path, files: Mapping[str, str]) -> None:
    """Hold a bundle's folder to the files that it should have: all of them, unaltered, and no others.

    Of a measured bundle within it that is its ``bundle.json``; the files which that names are held to it when the
    measured bundle is opened.

    Raises:
        BundleError: a name leads outside the bundle; a file is absent, altered, a link, or not listed.
    """
    for name in sorted(files):
        if not _NAME.fullmatch(name) or {".", ".."} & set(name.split("/")) or name == INFO:
            message = f"{folder / INFO}: names {name!r}, which lies outside the bundle. Do not use this bundle."
            raise BundleError(message)
    _refuse_strangers(folder, files)
    for name, expected in sorted(files.items()):
        path = folder / name
        if not path.is_file():
            raise BundleError(f"{path}: missing from the bundle. Copy the bundle again, whole, or train it again.")
        got = sha256_of(path)
        if got != expected:
            message = f"{path}: altered since it was written (sha256 {got[:12]}…, expected {expected[:12]}…). Copy or train it again."  # noqa: E501
            raise BundleError(message)


def _refuse_strangers(folder: Path, files: Mapping[str, str]) -> None:
    found = {path.relative_to(folder).as_posix(): path for path in _contents(folder)}
    links = sorted(name for name, path in found.items() if path.is_symlink())
    if links:
        message = f"{folder / links[0]}: a link. A bundle holds files alone; copy it again with what the links name."
        raise BundleError(message)
    inner = {name for name in found if IN_MEASURED in files and is_measured(name)}
    strangers = sorted(found.keys() - files.keys() - inner - {INFO})
    if strangers:
        named = ", ".join(strangers[:5]) + (f" and {len(strangers) - 5} more" if len(strangers) > 5 else "")
        message = f"{folder}: holds files that {INFO} does not list: {named}. Move them away, or copy the bundle again."
        raise BundleError(message)


def _contents(folder: Path) -> Iterator[Path]:
    """Everything in a folder and below it that is no folder; links are not followed."""
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            yield from _contents(path)
        else:
            yield path
