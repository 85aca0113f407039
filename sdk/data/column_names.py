"""Which column of a table of interactions is what: by the names that data sets and libraries give them, or as told."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from sdk.base.errors import DataError, MissingColumnError, UsageError

ROLES = ("user_id", "item_id", "rating", "weight", "event", "timestamp")
_REQUIRED = ("user_id", "item_id")
_KNOWN: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "user_id": (
            "userid user uid",
            "customerid customer customerkey clientid visitorid memberid accountid householdid householdkey "
            "reviewerid subscriberid playerid listenerid profileid",
            "sessionid session",
        ),
        "item_id": (
            "itemid item iid",
            "movieid productid sku articleid parentasin trackid songid artistid bookid isbn jokeid businessid "
            "restaurantid placeid venueid gameid animeid recipeid newsid videoid contentid titleid offerid courseid",
            "asin product movie article track song artist book joke restaurant",
        ),
        "rating": ("rating ratings stars", "overall bookrating reviewrating reviewscore", "score"),
        "weight": (
            "weight",
            "count plays playcount listens numplays eventvalue clicks purchases views",
        ),
        "event": ("event eventtype eventname", "action behavior behaviour behaviortype interactiontype actiontype"),
        "timestamp": (
            "timestamp datetime time",
            "ts date eventtime eventtimestamp eventdate unixreviewtime transactiontimestamp transactiondt "
            "transactiondate orderdate purchasedate createdat utctime timestampms tdat",
        ),
    }
)
"""Names without case and marks. Of a role's groups, the first that a table has a name of counts."""
COUNTED = "If its first row is no header, count the columns: --columns user_id=1,item_id=2,timestamp=4"
_TYPED = re.compile(r":(token|token_seq|float|float_seq)$")


def plain_name(name: str) -> str:
    """A column's name without RecBole's type, case and marks."""
    return re.sub(r"[^a-z0-9]", "", _TYPED.sub("", name.strip().lower()))


def columns_of(where: str, found: Sequence[str], told: Mapping[str, str]) -> dict[str, str]:
    """Role -> column, of those that the table has.

    Args:
        where: the table, for messages.
        found: its columns.
        told: role -> column; "" for a role that no column should have.

    Raises:
        UsageError: a role is none.
        MissingColumnError: a column that was told is not there.
        DataError: none is known for users or items, or two could be meant.
    """
    _check(where, found, told)
    used = {role: name for role, name in told.items() if name}
    free = [name for name in found if name not in used.values()]
    for role in ROLES:
        if role not in told and (fitting := recognised(where, role, free)):
            used[role] = fitting
    for role in _REQUIRED:
        if role not in used:
            raise _missing(where, role, found)
    if "rating" in used and "weight" in used:
        used.pop("weight" if told.get("rating") or not told.get("weight") else "rating")
    return {role: used[role] for role in ROLES if role in used}


def _check(where: str, found: Sequence[str], told: Mapping[str, str]) -> None:
    if strange := [role for role in told if role not in ROLES]:
        raise UsageError(f"--columns: got {strange[0]}=…, expected one of {', '.join(ROLES)} before the =.")
    for name in told.values():
        if name and name not in found:
            raise MissingColumnError(where, name, found)
    if told.get("rating") and told.get("weight"):
        message = "--columns: got a rating and a weight, expected one of them. Give ratings or weights."
        raise UsageError(message)
    named = [name for name in told.values() if name]
    if twice := next((name for name in named if named.count(name) > 1), None):
        message = f"--columns: {twice!r} is named twice, expected another column for each."
        raise UsageError(message)


def is_no_header(names: Sequence[str]) -> bool:
    """Whether a first row is more likely one of the data: one of its fields is a number."""
    return any(re.fullmatch(r"-?[0-9]+(\.[0-9]*)?", name.strip()) for name in names)


def recognised(where: str, role: str, names: Sequence[str]) -> str | None:
    """The column whose name is known to be a role's; None where there is none.

    Raises:
        DataError: two could be meant.
    """
    for group in _KNOWN[role]:
        fitting = [name for name in names if plain_name(name) in group.split()]
        if len(fitting) > 1:
            several = " and ".join(repr(name) for name in fitting)
            raise DataError(f"{where}: {several} may each be the {role}. Say which: --columns {role}={fitting[0]}")
        if fitting:
            return fitting[0]
    return None


def _missing(where: str, role: str, found: Sequence[str]) -> DataError:
    names = ", ".join(found[:40])
    remedy = COUNTED if is_no_header(found) else f"Name it: --columns {role}={found[0] if found else 'NAME'}"
    return DataError(f"{where}: no column is known to be the {role} (it has {names}). {remedy}")
