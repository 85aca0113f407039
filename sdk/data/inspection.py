"""What a data set holds, in words: columns and their roles, counts, dirt, what is odd, and what training would take."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sdk.base.ids import rows_of
from sdk.base.types import Bools, Dataset, Int64s
from sdk.data.catalogue import Tables
from sdk.data.labels import Ready
from sdk.data.roles import Guess, guess_roles
from sdk.data.side_tables import SideName, SideTable

Lines = list[str]
_GIANT = 0.05  # of all pairs
_MANY = 100  # pairs, from which on a user's pace tells something
_MOST = 0.5  # of a user's pairs
_SHOWN = 12
_MIB, _PER_PAIR_BYTES, _OF_WIDTH = 700.0, 290.0, 30.0  # as measured: docs/research/lists.md


@dataclass(frozen=True, slots=True, eq=False)
class Inspection:
    """What was found.

    Attributes:
        sections: heading -> lines.
        warnings: what is odd, each with what to do.
        why: section and key of a ``dataset.toml`` -> a comment.
    """

    sections: Mapping[str, Lines]
    warnings: Lines
    why: Mapping[str, str]


def inspect_data(gathered: Tables, run: Ready, now: float | None = None) -> Inspection:
    """Look at a data set.

    Args:
        gathered: its tables as they were read.
        run: the same put together, and what would be trained on it.
        now: seconds since 1970-01-01 UTC, for times that lie ahead; None asks the clock.
    """
    dataset = run.dataset
    guesses = {side: guesses_of(gathered, side) for side in ("items", "users")}
    sections = {
        "interactions": list(_interactions(gathered, dataset)),
        "items": list(_side(gathered.items, guesses["items"], dataset.items)),
        "users": list(_side(gathered.users, guesses["users"], dataset.users)),
        "set aside": list(_dirt(dataset)),
        "training": list(_training(run)),
    }
    why = {f"{side}.{name}": guess.why for side, found in guesses.items() for name, guess in found.items()}
    warnings = list(_warnings(gathered, dataset, time.time() if now is None else now))
    return Inspection({name: lines for name, lines in sections.items() if lines}, warnings, why)


def guesses_of(gathered: Tables, side: SideName) -> dict[str, Guess]:
    """The role of each column of the items or users that were given, and why."""
    read, given = (gathered.items, gathered.item_roles) if side == "items" else (gathered.users, gathered.user_roles)
    if read is None or (side == "items" and gathered.films):
        return {}
    return guess_roles(read.table, side, given)


def understood(dataset: Dataset) -> Lines:
    """What was made of a data set, in two or three lines."""
    about, counts = dataset.about, dataset.counts
    kind = "ratings" if about.feedback == "explicit" else "likes by weight (implicit feedback)"
    sizes = (f"{number:,}" for number in (len(dataset.interactions), dataset.users.num_rows, dataset.items.num_rows))
    lines = ["{} {} of {} users and {} items".format(*_around(kind, sizes))]
    if counts:
        parts = ", ".join(f"{number:,} {_WORDS[name]}" for name, number in counts.items() if name in _WORDS and number)
        lines.append(f"{counts['rows']:,} rows of interactions: {parts}")
    for side, roles in (("items", about.items), ("users", about.users)):
        if named := ", ".join(f"{name} ({role})" for name, role in roles.items() if role != "ignore"):
            lines.append(f"{side}: {named}")
    return lines


_WORDS = {
    "kept": "kept", "merged": "merged with others of their pair", "rejected": "set aside",
    "other_events": "of events that do not count", "later": "later than asked for",
}  # fmt: skip


def _around(kind: str, sizes: Iterator[str]) -> tuple[str, str, str, str]:
    pairs, users, items = sizes
    return pairs, kind, users, items


def _interactions(gathered: Tables, dataset: Dataset) -> Iterator[str]:
    loaded, pairs = gathered.loaded, dataset.interactions
    yield "columns: " + ", ".join(f"{role} = {column}" for role, column in loaded.columns.items())
    yield from understood(dataset)[:2]
    if loaded.events:
        yield "events: " + ", ".join(f"{name} {times:,}" for name, times in list(loaded.events.items())[:_SHOWN])
    if loaded.cap is not None and loaded.counts.get("capped"):
        yield f"{loaded.counts['capped']:,} pairs weighed more than {loaded.cap:g}, and were cut to it"
    least, most = loaded.scale
    yield f"{'ratings' if loaded.feedback == 'explicit' else 'weights'} from {least:g} to {most:g}"
    users, items = dataset.users.num_rows, dataset.items.num_rows
    yield f"density {len(pairs) / (users * items):.2%}; {_per(pairs.user_id, 'user')}; {_per(pairs.item_id, 'item')}"
    if loaded.has_times:
        first, last = (_day(int(at)) for at in (pairs.timestamp.min(), pairs.timestamp.max()))
        yield f"from {first} to {last}"
    else:
        yield "no times: they are split at random, and nothing ages"


def _per(keys: Int64s, name: str) -> str:
    counts = _counts(keys)
    return f"median {np.median(counts):g}, at most {counts.max():,} for one {name}"


def _counts(keys: Int64s) -> Int64s:
    found: Int64s = np.unique(keys, return_counts=True)[1]
    return found


def _day(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d")


def _side(side: SideTable | None, guesses: Mapping[str, Guess], table: pa.Table) -> Iterator[str]:
    if side is None:
        return
    yield f"{table.num_rows:,} rows of {side.where}"
    if not guesses and side.table.num_columns:
        yield f"MovieLens's columns: {', '.join(table.column_names)}"
    for name, guess in guesses.items():
        yield f"{name}: {guess.role} ({guess.why})"


def _dirt(dataset: Dataset) -> Iterator[str]:
    counts = pc.value_counts(dataset.rejects["reason"].combine_chunks()).to_pylist()
    for entry in sorted(counts, key=lambda entry: (-entry["counts"], entry["values"]))[:_SHOWN]:
        row = pc.index(dataset.rejects["reason"], entry["values"]).as_py()
        first = dataset.rejects.slice(row, 1).to_pylist()[0]
        yield f"{entry['counts']:,} x {entry['values']} (first: {first['file']}, row {first['line']})"


def _training(run: Ready) -> Iterator[str]:
    """What is known of it beforehand; how long it takes is not: the validation part says when it is enough."""
    config, pairs, rows = run.config, len(run.dataset.interactions), len(run.parts.train)
    training, width = config.training, min(run.dataset.items.num_rows, config.history.max_titles)
    mib = _MIB + (_PER_PAIR_BYTES * pairs + _OF_WIDTH * width**2 * ("history" in config.models)) / 2**20
    yield f"models: {', '.join(config.models)}"
    if config.rankers:
        rows *= 1 + training.num_negatives * (training.negatives != "none")
        end = f"they end when the validation part gets no better, after {training.max_epochs} at most"
        yield f"epochs of {rows:,} rows for a ranker: {end}"
    yield f"roughly {mib / 1024:.1f} GiB of memory"


def _warnings(gathered: Tables, dataset: Dataset, now: float) -> Iterator[str]:
    pairs = dataset.interactions
    yield from _of_events(gathered)
    yield from _of_users(dataset)
    yield from _of_items(gathered, dataset)
    rating = pairs.rating
    if gathered.loaded.feedback == "explicit" and rating.min() == rating.max():
        yield f'all ratings are {rating[0]:g}: say feedback = "implicit" if they are likes'
    if ahead := int((pairs.timestamp > now).sum()):
        yield f"{ahead:,} times lie in the future, the latest on {_day(int(pairs.timestamp.max()))}: check their unit"
    if len(pairs) < 1000:
        yield f"{len(pairs):,} pairs are few: figures measured on them say little"


def _of_events(gathered: Tables) -> Iterator[str]:
    names = sorted(gathered.loaded.events)
    weights = np.unique(gathered.loaded.interactions.rating)
    if len(names) > 1 and gathered.loaded.interactions.seen is None:
        listed = ", ".join(names[:_SHOWN])
        said = "--events says how much each counts, --seen which take items out"
        yield f"there are {len(names)} events ({listed}): {said}"
    elif len(names) > 1 and len(weights) == 1:
        yield "all events weigh the same: --events says how much each counts"


def _of_users(dataset: Dataset) -> Iterator[str]:
    pairs = dataset.interactions
    users, counts = np.unique(pairs.user_id, return_counts=True)
    keys, ids = dataset.user_keys, dataset.users["user_id"]
    if counts.max() > _GIANT * len(pairs) and len(users) > 2 / _GIANT:
        who = ids[int(rows_of(keys, users[counts.argmax()]))].as_py()
        yield f"user {who} has {counts.max() / len(pairs):.0%} of all pairs: leave them out if they are not one person"
    fast = _fast(pairs.user_id, pairs.timestamp, users[counts >= _MANY])
    if len(fast):
        who = ids[int(rows_of(keys, fast[0]))].as_py()
        yield f"{len(fast):,} users act every second or faster, such as {who}: leave out bots and imports"


def _fast(user: Int64s, when: Int64s, many: Int64s) -> Int64s:
    """Of users with many pairs, those with one moment for all, or with most moments a second after another.

    A basket is one moment, however much is in it.
    """
    chosen: Bools = np.isin(user, many)
    user, when = user[chosen], when[chosen]
    if not when.any():
        return user[:0]
    user, when = np.unique(np.column_stack([user, when]), axis=0).T
    quick = np.append((user[1:] == user[:-1]) & (np.diff(when) <= 1), False)
    of, moments = rows_of(many, user), np.bincount(rows_of(many, user), minlength=len(many))
    share = np.bincount(of, quick, minlength=len(many)) / np.maximum(moments - 1, 1)
    return many[(share > _MOST) | (moments == 1)]


def _of_items(gathered: Tables, dataset: Dataset) -> Iterator[str]:
    cold = dataset.items.num_rows - len(np.unique(dataset.interactions.item_id))
    if cold > dataset.items.num_rows / 2:
        yield f"{cold:,} of {dataset.items.num_rows:,} items have no interaction: their lists come from their columns"
    if dataset.about.items.get("title") == "title":
        titles = dataset.items["title"]
        again = len(titles) - len(titles.unique())
        if again > 0.01 * len(titles):
            yield f"{again:,} items have another's title: are some of them the same thing?"
    if gathered.items is None:
        yield "no items were given: lists of like items come from who took them together; --items gives them columns"
