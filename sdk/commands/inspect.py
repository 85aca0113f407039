"""python -m sdk inspect: look at tables before anything is trained, and write down what they are."""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from sdk.base.config import RunConfig
from sdk.base.errors import DataError, OutputError, UsageError
from sdk.base.files import write_file
from sdk.base.rights import reason
from sdk.commands.datasets import TABLE, add_tables
from sdk.shell.cli import new_parser, path_argument
from sdk.shell.terminal import say

if TYPE_CHECKING:
    from sdk.data.catalogue import Tables
    from sdk.data.dataset_file import DatasetFile
    from sdk.data.inspection import Inspection

log = logging.getLogger(__name__)
_MOST_EVENTS = 50
_PLURAL = re.compile(r"([a-z]{3,}(?<![swi])(?<![ihxs]e))s")  # none that may end otherwise, as news, series, dishes
_HEAD = (
    "What Marquee takes this data set for; written by python -m sdk inspect. Mend what is wrong, then:",
    "    python -m sdk train --dataset {path} --out bundle",
    "Roles: categorical, group (a brand, a series), list, terms (lists for words alone), continuous, time, text,",
    "title (one at most), image, url, ignore.",
)


def add(commands: Any) -> None:
    """The command's options."""
    parser = new_parser(
        commands.add_parser, "inspect", "look at your tables; write dataset.toml",
        "python -m sdk inspect plays.parquet catalogue.parquet --out dataset.toml",
        "Which table is which is told by its columns.", work=_inspect, only_prints=True,
    )  # fmt: skip
    required, common = parser.group("required"), parser.group("common")
    required.add_argument("files", **{**TABLE, "nargs": "*", "metavar": "TABLE"}, help="tables, in any order")
    common.add_argument("--interactions", **TABLE, help="which are interactions, where it is not told by their columns")
    add_tables(parser)
    written = "the description, which is written for train --dataset; none is unless given"
    common.add_argument("--out", type=path_argument, metavar="FILE.toml", help=written)
    common.add_argument("--force", action="store_true", help="replace the file that is there")
    common.add_argument("--json", action="store_true", help="print JSON instead of text")


def _inspect(args: argparse.Namespace) -> int:
    from sdk.data.catalogue import gather
    from sdk.data.inspection import inspect_data
    from sdk.data.labels import ready

    _require_room(args)
    tables = _tables(args)
    gathered = gather(
        tables["interactions"],
        tables["items"],
        tables["users"],
        columns=args.columns or {},
        events=args.events,
        seen=args.seen,
    )
    found = inspect_data(gathered, ready(gathered.together(), RunConfig(), level=logging.DEBUG))
    if args.out is not None:
        _write(args.out, _description(gathered, tables, args), found)
    if args.json:
        print(json.dumps({**found.sections, "warnings": found.warnings}, ensure_ascii=False))
    else:
        _show(found)
        say(*([f"description: {args.out}"] if args.out is not None else []))
    return 0


def _require_room(args: argparse.Namespace) -> None:
    if args.out is not None and args.out.exists() and not args.force:
        raise OutputError(f"{args.out}: already there; pass --force to replace it, or choose another --out")


def _tables(args: argparse.Namespace) -> dict[str, list[str] | None]:
    """The tables of each kind, those that no option names by what their columns tell."""
    from sdk.data.side_tables import kind_of

    found = {name: list(getattr(args, name) or ()) for name in ("interactions", "items", "users")}
    for place in args.files:
        _refuse_movielens(place)
        found[kind_of(place, args.columns or {})].append(place)
    if not found["interactions"]:
        named = "none of the tables has users and items" if args.files else "got no table"
        message = f"{named}, expected one of interactions at least. Give it by --interactions TABLE"
        raise UsageError(f"{message}, and say which column is what: --columns user_id=COLUMN,item_id=COLUMN.")
    return {name: places or None for name, places in found.items()}


def _refuse_movielens(place: str) -> None:
    """A published folder or zip of it is no table, and nothing in it has to be told apart."""
    from sdk.data.forms import find_form

    if not (Path(place).is_dir() or place.endswith(".zip")):
        return
    with contextlib.suppress(DataError):
        find_form(place)
        way = f"python -m sdk train --movielens {place} --out bundle"
        raise UsageError(
            f"{place}: MovieLens, which needs no description: {way}. Or give its tables, each by its path."
        )


def _description(gathered: Tables, tables: Mapping[str, Sequence[str] | None], args: argparse.Namespace) -> DatasetFile:
    from sdk.data.dataset_file import DatasetFile, Files
    from sdk.data.inspection import guesses_of

    folder, loaded = args.out.absolute().parent, gathered.loaded
    files = {name: tuple(_shown(place, folder) for place in places or ()) for name, places in tables.items()}
    events = args.events or (dict.fromkeys(loaded.events, 1.0) if len(loaded.events) <= _MOST_EVENTS else {})
    roles = {side: {n: g.role for n, g in guesses_of(gathered, side).items()} for side in ("items", "users")}
    return DatasetFile(
        files=Files(**files), name=gathered.name, item=_one_of(files["items"]), feedback=loaded.feedback,
        seen=tuple(args.seen or ()), scale=loaded.scale if loaded.feedback == "explicit" else (),
        columns=loaded.columns, events=events, **roles,
    )  # fmt: skip


def _one_of(items: Sequence[str]) -> str:
    """What one item is called, after its table's name: ``product`` of ``products.csv``; "" where that says nothing."""
    found = _PLURAL.fullmatch(PurePath(items[0]).stem.lower()) if items else None
    return found[1] if found and found[1] != "item" else ""


def _shown(place: str, folder: Path) -> str:
    """A path from the description's folder on, where it lies there; others as they are, and whole."""
    if ":" in place.partition("/")[0]:
        return place
    path = Path(place).expanduser().absolute()
    return os.path.relpath(path, folder) if path.is_relative_to(folder) else str(path)


def _write(out: Path, said: DatasetFile, found: Inspection) -> None:
    from sdk.data.dataset_file import as_toml

    notes = {
        "item": "what one of the items is called",
        "feedback": "explicit: ratings; implicit: every pair is a like of its weight",
        "seen": "events that take an item out of the user's lists; none: all do",
        "scale": "the least and the greatest rating",
        "columns": "our name = yours", "events": "how much one of each counts", **found.why,
    }  # fmt: skip
    head = [*(line.format(path=out) for line in _HEAD), "", *(f"! {warning}" for warning in found.warnings)]
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_file(out, as_toml(said, notes, head).encode())
    except OSError as error:
        raise OutputError(f"{out}: cannot be written ({reason(error)}); choose another --out") from error


def _show(found: Inspection) -> None:
    for heading, lines in found.sections.items():
        say(heading, *(f"  {line}" for line in lines), "")
    if found.warnings:
        say("look at this", *(f"  {line}" for line in found.warnings), "")
