"""Hashes of everything in a repository: per version, so that a model checks its own before it loads anything."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from export.errors import RepositoryError
from sdk.base.files import json_text, sha256_of
from sdk.base.rights import reason

MANIFEST = "manifest.json"
FORMAT_VERSION = 1
MODELS = ("nvt_workflow", "ranker", "recommend", "similar_items", "rank")  # rank last: it refers to the others


def write_manifest(folder: Path, facts: Mapping[str, Any]) -> None:
    """Write ``manifest.json`` with the sha256 of every other file below ``folder``, and the given facts."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
    hashes = {path.relative_to(folder).as_posix(): sha256_of(path) for path in files}
    (folder / MANIFEST).write_text(json_text({"format_version": FORMAT_VERSION, **facts, "files": hashes}), "utf-8")


def read_manifest(folder: Path) -> dict[str, Any]:
    """What ``write_manifest`` wrote.

    Raises:
        RepositoryError: it is absent, not readable, or of another format version.
    """
    path = folder / MANIFEST
    try:
        values: dict[str, Any] = json.loads(path.read_text("utf-8"))
        version = values["format_version"]
    except OSError as error:
        raise _unreadable(error, path) from error
    except (ValueError, KeyError, TypeError) as error:
        raise RepositoryError(f"{path}: not readable ({error}). Export the repository again.") from error
    if version != FORMAT_VERSION:
        problem = f"format version {version!r}, this release reads {FORMAT_VERSION}"
        raise RepositoryError(f"{path}: {problem}. Export it again.")
    return values


def version_folders(repository: Path) -> Iterator[Path]:
    """Every version folder of every model, models in the order of ``MODELS``."""
    for model in MODELS:
        numbers = sorted(int(path.name) for path in (repository / model).glob("[0-9]*") if path.name.isdigit())
        yield from (repository / model / str(number) for number in numbers)


def check_repository(repository: Path) -> dict[str, Any]:
    """Compare every file of every version with its manifest.

    Returns:
        What the repository's own ``manifest.json`` says.

    Raises:
        RepositoryError: the folder is no repository, or a file is absent or altered.
    """
    try:
        if not (repository / MANIFEST).exists():
            problem = f"no {MANIFEST}, so no model repository of ours"
            raise RepositoryError(f"{repository}: {problem}. Write one: python -m export --help.")
        facts = read_manifest(repository)
        for model in facts["models"]:
            if not (config := repository / model / "config.pbtxt").is_file():
                raise RepositoryError(f"{config}: missing. Copy the repository again, whole.")
        for folder in version_folders(repository):
            _check_version(folder)
    except OSError as error:
        raise _unreadable(error, repository) from error
    return facts


def _unreadable(error: OSError, path: Path) -> RepositoryError:
    return RepositoryError(f"{error.filename or path}: not readable ({reason(error, path)})")


def _check_version(folder: Path) -> None:
    for name, expected in sorted(read_manifest(folder)["files"].items()):
        path = folder / name
        got = sha256_of(path) if path.is_file() else None
        if got != expected:
            what = "missing" if got is None else f"altered (sha256 {got[:12]}, expected {expected[:12]})"
            raise RepositoryError(f"{path}: {what}. Copy the repository again, whole, or export it again.")
