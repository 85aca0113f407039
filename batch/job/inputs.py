"""A night's inputs: the bundle, which can vanish or be replaced while it is read, and what is asked for beside it.

Two bundles are never mixed. Beside it: newer ratings, who gets a list, and what may stand in it.
"""

from __future__ import annotations

import contextlib
import datetime
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from batch.job.id_files import ITEM_ID, USER_ID, IdFile, read_ids
from batch.job.job import Job
from batch.job.newer import fresh_ratings, new_items
from batch.job.states import states_of
from sdk.base.errors import BundleError, UsageError
from sdk.base.files import sha256_of, standing
from sdk.base.ids import is_text, rows_of
from sdk.base.rights import reason
from sdk.base.types import Bools, IdArray, Int64s, Interactions
from sdk.bundles.bundle import INFO, Bundle, load
from sdk.bundles.fresh import FreshBundle
from sdk.bundles.new_items import NewItems
from sdk.bundles.some_users import UserSource, WholeUsers, users_of
from sdk.data.fingerprint import fingerprint
from sdk.data.validation import MAX_TIMESTAMP, sorted_order
from sdk.features.seen import Seen
from sdk.features.tables import FIRST_KNOWN, UNKNOWN, EncodedTable
from sdk.machine.device import resolve_device
from sdk.scoring.rules import ItemRules, rules_of

log = logging.getLogger(__name__)

_ID_OPTIONS = {"users": (USER_ID,), "items": (ITEM_ID,), "allow": (ITEM_ID,), "deny": (ITEM_ID,),
               "block": (USER_ID, ITEM_ID), "repeat": (ITEM_ID,)}  # fmt: skip
_MAY_BE_EMPTY = frozenset({"deny", "block", "repeat"})


@dataclass(frozen=True, eq=False)
class Asked:
    """Who gets a list, and what may stand in it, by the ids and rows of one bundle.

    Attributes:
        source: of the bundle's users.
        items: (I,) ids, ascending: the items that get one.
        audience: (A,) ids, ascending: the items that get an audience.
        named: (U,) ids, ascending: the only users who get a list; None: all do.
        allowed: (R_item,) bool, the titles that may be recommended; None allows all.
        block: what must not be given to whom, by ids; None where nothing is.
        again: (R_item,) bool, the items that may be listed for users who have them already; None: no item may.
        rules: what users' lists must keep to, by the rows of the items' table; None for no rules.
        pins: what of it the night's content depends on, for the manifest.
        counts: what was counted on the way, for the report.
    """

    source: UserSource
    items: IdArray
    audience: IdArray
    named: IdArray | None = None
    allowed: Bools | None = None
    block: IdFile | None = None
    again: Bools | None = None
    rules: ItemRules | None = None
    pins: Mapping[str, Any] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)

    @property
    def users(self) -> IdArray:
        """(U,) ids, ascending: who gets a list."""
        return self.source.ids if self.named is None else self.named

    @property
    def num_users(self) -> int:
        """How many users get a list."""
        return self.source.num_users if self.named is None else len(self.named)

    @cached_property
    def _numbers(self) -> Int64s:
        return rows_of(self.source.ids, self.users)

    def numbers(self, places: Int64s) -> Int64s:
        """(B,) int64: of some of those who get a list, their numbers among all users of the bundle, from 0."""
        return places if self.named is None else self._numbers[places]

    def of(self, bundle: Bundle) -> Asked:
        """The same, asked for all users of a bundle that has a few of them."""
        return replace(self, source=WholeUsers(bundle), named=None)

    @cached_property
    def blocked(self) -> Seen | None:
        """What must not be given to whom, by the rows of the users' table; None where nothing is."""
        return None if self.block is None else _blocked(self.block, self.source.bundle)

    @property
    def num_candidates(self) -> int | None:
        """How many titles may be recommended; None where all may."""
        return None if self.allowed is None else int(self.allowed.sum())

    def seen(self, bundle: Bundle, some: Int64s | None = None) -> Seen:
        """What each user (or those of some rows) has seen and may not be given again, by the rows of the table."""
        stored = bundle.interactions if some is None else bundle.interactions.of_users(some)
        found = stored.seen(len(bundle.encoded_users))
        if self.again is None:
            return found
        once = ~self.again[found.items]
        return Seen.build(found.users[once], found.items[once].astype(np.int64), len(found.indptr) - 1)

    def barred(self, seen: Seen) -> Seen:
        """What each user has seen or must not be given, by the rows of the users' table."""
        return seen if self.blocked is None else seen.beside(self.blocked)


@dataclass(frozen=True, eq=False)
class OpenedJob:
    """A job's bundle with the job's newer ratings in it, and what the job asks for.

    Attributes:
        bundle: its files are read as they are needed.
        sha256: of its ``bundle.json``, taken before the bundle was checked and opened.
        asked: who gets a list, and of what.
    """

    bundle: Bundle
    sha256: str
    asked: Asked

    @cached_property
    def states(self) -> pa.Table:
        """What users' lists follow from beyond the bundle; see ``states_of``."""
        return states_of(self.bundle, self.asked.blocked)


def open_bundle(path: Path) -> tuple[Bundle, str]:
    """A bundle, after checking every file's sha256, and the sha256 of its ``bundle.json``, taken before.

    Raises:
        BundleError: it is absent, altered or of another version.
    """
    try:
        info = standing(path) / INFO
        sha256 = sha256_of(info) if info.is_file() else ""
        return load(path), sha256
    except OSError as error:
        raise _vanished(path, error) from error


@contextlib.contextmanager
def reading(path: Path, sha256: str) -> Iterator[None]:
    """Read more of a bundle that was opened before.

    Raises:
        BundleError: a file of it is gone, unreadable or broken, or another bundle stands there since it was opened.
    """
    try:
        yield
        now = sha256_of(path / INFO)
    except (OSError, pa.ArrowException) as error:
        if isinstance(error, PermissionError) and path.absolute() not in Path(str(error.filename)).absolute().parents:
            raise  # of another input that is read meanwhile
        raise _vanished(path, error) from error
    if now != sha256:
        raise BundleError(f"{path}: was replaced while it was read. Nothing was published; run the same command again.")


def _vanished(path: Path, error: Exception) -> BundleError:
    if isinstance(error, PermissionError):
        return BundleError(f"{error.filename or path}: cannot be read: {reason(error, path)}. Nothing was published.")
    return BundleError(
        f"{path}: vanished or changed while it was read ({error}). "
        "Nothing was published. Put the bundle back, whole, and run the same command."
    )


def open_job(job: Job, *, counted: bool = True) -> OpenedJob:
    """Open a job's bundle and read every file that the job names.

    Args:
        job: the job.
        counted: whether to count, and say, which of the ids to be blocked are unknown: for that all users' are read.

    Raises:
        BundleError: the bundle is absent, altered or of another version.
        DataError: a file of ratings or ids cannot be used.
        UsageError: an id is unknown that must be known, or the options do not go together.
    """
    opened, sha256 = open_bundle(job.bundle)
    with reading(opened.path, sha256):
        pins: dict[str, Any] = {}
        counts: dict[str, int] = {}
        items = _new_items(job, opened, pins, counts)
        bundle = _with_newer(job, opened, items, pins, counts)
        return OpenedJob(bundle, sha256, _asked(job, bundle, pins, counts, counted=counted))


def everything(bundle: Bundle) -> Asked:
    """A list for every user and title, of all titles."""
    items = bundle.encoded_items.known_ids
    return Asked(WholeUsers(bundle), items, items)


def _new_items(job: Job, bundle: Bundle, pins: dict[str, Any], counts: dict[str, int]) -> NewItems | None:
    """The job's new items; their pins and counts join the others."""
    if job.new_items is None:
        return None
    items, known, rejects = new_items(bundle, job.new_items)
    counts |= {"new_items": len(items.table), "items_known_already": known, "rejected_items": rejects.num_rows}
    _say_rejects(job.new_items, rejects)
    none = np.zeros(0, np.int64)
    found = fingerprint(Interactions(none, none, none.astype(np.float32), none), items.table, pa.table({}), None)
    pins["new_items"] = {"fingerprint": found, "rows": len(items.table)}
    return items


def _with_newer(
    job: Job, bundle: Bundle, items: NewItems | None, pins: dict[str, Any], counts: dict[str, int]
) -> Bundle:
    """The bundle with the job's new items and ratings; pins and counts of the ratings join the others."""
    trained = bundle
    if items is not None:
        bundle = FreshBundle(trained, None, items)
    if job.ratings is None:
        return bundle
    until = MAX_TIMESTAMP if job.ratings_until is None else end_of_day(job.ratings_until)
    fresh, rejects = fresh_ratings(bundle, job.ratings, until)
    rated = fresh.ratings
    counts |= {
        "fresh_ratings": len(rated), "fresh_users": len(fresh.user_ids), "new_users": len(fresh.new_users),
        "ratings_of_unknown_titles": fresh.unknown_items, "rejected_ratings": rejects.num_rows,
    }  # fmt: skip
    _say_rejects(job.ratings, rejects)
    if fresh.unknown_items:
        said = "%s: %d ratings are of titles that the bundle does not have: ignored"
        log.warning(said, job.ratings, fresh.unknown_items)
    # whatever the order of their rows, so that a file that grew gives an old night again
    names = _names(ITEM_ID, fresh.items), _names(USER_ID, fresh.users)
    found = fingerprint(rated, *names, sorted_order(rated.user_id, rated.item_id))
    pins["ratings"] = {"fingerprint": found, "rows": len(rated)}
    return FreshBundle(trained, fresh, items)


def _say_rejects(path: Path, rejects: pa.Table) -> None:
    if rejected := rejects.num_rows:
        first = rejects.slice(0, 1).to_pylist()[0]
        said = "%s: %d rows set aside; the first is line %d: %s"
        log.warning(said, path, rejected, first["line"], first["reason"])


def _names(column: str, ids: IdArray | None) -> pa.Table:
    """What keys mean, as a table; an empty one where they are the ids."""
    return pa.table({} if ids is None else {column: pa.array(ids, pa.string())})


def end_of_day(date: str) -> int:
    """The last second of a day in UTC, in seconds since 1970-01-01 UTC."""
    midnight = datetime.datetime.fromisoformat(date).replace(tzinfo=datetime.UTC)
    return int(midnight.timestamp()) + 24 * 3600 - 1  # without the day after, which 9999-12-31 does not have


def _asked(job: Job, bundle: Bundle, pins: dict[str, Any], counts: dict[str, int], *, counted: bool) -> Asked:
    source, items = users_of(bundle), bundle.encoded_items
    files = _read_files(job, {USER_ID: source.has_text_ids, ITEM_ID: is_text(items.ids)})
    if "users" in files:
        _require_known(files["users"].ids, source.ids, f"--users {job.users}")
    if "items" in files:
        _require_known(files["items"].ids, items.known_ids, f"--items {job.items}")
    allowed = _allowed(files, items, counts)
    some = files["items"].ids if "items" in files else items.known_ids
    audience = some if allowed is None else some[allowed[items.index_of(some)]]
    if job.audience is not None:
        _check_audience(job, bundle)
    rules = None if job.rules is None else bundle.item_rules(rules_of(job.rules, "--rules"))
    if rules is not None:
        pins["rules"] = {"sha256": rules.asked.digest}
    if counted and "block" in files:
        counts |= _count_blocked(files["block"], source.ids, items.known_ids)
    return Asked(
        source=source,
        named=files["users"].ids if "users" in files else None,
        items=some,
        audience=audience if job.audience is not None else audience[:0],
        allowed=allowed,
        block=files.get("block"),
        again=_again(files.get("repeat"), items, counts),
        rules=rules,
        pins={**pins, **{name: {"sha256": file.sha256, "rows": len(file)} for name, file in files.items()}},
        counts=counts,
    )


def _read_files(job: Job, has_text: Mapping[str, bool]) -> dict[str, IdFile]:
    text, found = [name for name, are_text in has_text.items() if are_text], {}
    for name, columns in _ID_OPTIONS.items():
        path: Path | None = getattr(job, name)
        if path is not None and job.cluster.is_used and path.exists() and not (path.is_file() or path.is_dir()):
            raise UsageError(f"--{name}: {path} can be read only once, and --workers read it, too; give it as a file")
        if path is not None:
            found[name] = read_ids(path, *columns, may_be_empty=name in _MAY_BE_EMPTY, text=text)
    return found


def _require_known(ids: IdArray, known: IdArray, option: str) -> None:
    """Refuse ids of a file that the bundle does not have.

    Raises:
        UsageError: there are such; the message names the first few.
    """
    unknown = ids[rows_of(known, ids) < 0]
    if len(unknown):
        named = ", ".join(map(str, unknown[:5].tolist()))
        remedy = "Leave them out, or give their --ratings." if option.startswith("--users") else "Leave them out."
        raise UsageError(f"{option}: {len(unknown)} ids are not in the bundle; the first are {named}. {remedy}")


def _allowed(files: Mapping[str, IdFile], items: EncodedTable, counts: dict[str, int]) -> Bools | None:
    """(R_item,) bool from the lists of allowed and of denied titles; None without any."""
    if "allow" not in files and "deny" not in files:
        return None
    allowed = np.full(len(items), "allow" not in files)
    for option, value in (("allow", True), ("deny", False)):
        if option in files:
            allowed[_rows(files[option].ids, items, option, counts)] = value
    allowed[:FIRST_KNOWN] = False
    counts["titles_that_may_be_listed"] = int(allowed.sum())
    if not allowed.any():
        message = "--allow and --deny leave no title of the bundle to recommend; see that they hold the right ids"
        raise UsageError(message)
    return allowed


def _again(file: IdFile | None, items: EncodedTable, counts: dict[str, int]) -> Bools | None:
    """(R_item,) bool from the list of items that may come again; None without one."""
    if file is None:
        return None
    again = np.zeros(len(items), dtype=np.bool_)
    again[_rows(file.ids, items, "repeat", counts)] = True
    return again


def _rows(item_ids: IdArray, items: EncodedTable, option: str, counts: dict[str, int]) -> Int64s:
    """The rows of the known ones; the others are counted."""
    rows = items.index_of(item_ids)
    unknown = int((rows == UNKNOWN).sum())
    counts[f"unknown_in_{option}"] = unknown
    if unknown:
        log.warning("--%s: %d of %d ids are not in the bundle: ignored", option, unknown, len(rows))
    return rows[rows != UNKNOWN]


def _blocked(file: IdFile, bundle: Bundle) -> Seen:
    """Each user's block list, by the rows of the users' table; pairs of unknown ids are left out."""
    users, items = bundle.encoded_users, bundle.encoded_items
    user, item = users.index_of(file.columns[0]), items.index_of(file.columns[1])
    known = (user != UNKNOWN) & (item != UNKNOWN)
    return Seen.build(user[known], item[known], len(users))


def _count_blocked(file: IdFile, users: IdArray, items: IdArray) -> dict[str, int]:
    """How many pairs are known and unknown; says so where some are unknown."""
    known = (rows_of(users, file.columns[0]) >= 0) & (rows_of(items, file.columns[1]) >= 0)
    if not known.all():
        log.warning("--block: %d of %d pairs name an id that is not in the bundle: ignored", (~known).sum(), len(known))
    return {"blocked_pairs": int(known.sum()), "unknown_in_block": int((~known).sum())}


def _check_audience(job: Job, bundle: Bundle) -> None:
    if bundle.resolve_model(job.model) is None and bundle.history is None:
        remedy = "train it with --models dlrm,history,content"
        raise UsageError(f"--audience: {bundle.path} holds no model of users; {remedy}")
    if resolve_device(job.device) != "cpu":
        limit = "audiences are made with --device cpu only"
        raise UsageError(f"--audience: got --device {job.device}, a GPU here; {limit}")
