"""Finished results on disk, one file each, so that a killed comparison goes on where it stopped."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sdk.base.errors import OutputError
from sdk.base.files import canonical, write_file
from sdk.base.rights import reason
from sdk.lab.comparison.workbench import Result


@dataclass(frozen=True, slots=True)
class ResultStore:
    """Results by what they depend on: a file whose facts differ from the asked ones is as good as none.

    Attributes:
        folder: made when the first result is put in.
    """

    folder: Path

    def get(self, name: str, facts: Mapping[str, Any]) -> Result | None:
        """The result that was put under this name with equal facts; None where there is none, or it is damaged."""
        try:
            values = json.loads(self._path(name).read_text("utf-8"))
            if values.pop("facts") != _plain(facts):
                return None
            values["intervals"] = {name: tuple(pair) for name, pair in values["intervals"].items()}
            columns: dict[str, Any] = {name: tuple(values.pop(name)) for name in ("users", "ndcg10", "recall20")}
            return Result(**values, **columns)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def put(self, name: str, facts: Mapping[str, Any], result: Result) -> None:
        """Write a result aside and rename it, so that it is there whole or not at all.

        Raises:
            OutputError: it cannot be written.
        """
        path = self._path(name)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_file(path, json.dumps({"facts": _plain(facts), **asdict(result)}))
        except OSError as error:
            message = f"{path}: cannot be written ({reason(error)}); choose another --out"
            raise OutputError(message) from error

    def _path(self, name: str) -> Path:
        return self.folder / f"{re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-')}.json"


def _plain(facts: Mapping[str, Any]) -> Any:
    """As JSON gives them back: tuples are lists."""
    return json.loads(canonical(facts))
