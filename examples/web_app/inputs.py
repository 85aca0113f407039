"""What readers send, held to its form: ids, searches and lists of ids. Nothing of it ever becomes a path."""

from __future__ import annotations

from collections.abc import Iterable

from werkzeug.exceptions import BadRequest

from sdk.base.ids import NoIdError, whole_id
from sdk.base.printable import is_hidden

LONGEST_QUERY = 200
MOST_LIKED = 50


def query_of(text: str) -> str:
    """A search without hidden characters and outer blanks.

    Raises:
        BadRequest: it is too long.
    """
    if len(text) > LONGEST_QUERY:
        raise BadRequest(f"A search may have {LONGEST_QUERY} letters; this one has {len(text)}.")
    return "".join(" " if is_hidden(char) else char for char in text).strip()


def id_of(text: str) -> int | None:
    """An id, by the rule that holds for ids everywhere; None for anything else."""
    try:
        return whole_id(text)
    except NoIdError:
        return None


def ids_of(texts: Iterable[str]) -> list[int]:
    """Ids in their order, each once.

    Raises:
        BadRequest: one is no id, or there are too many.
    """
    found = [id_of(text) for text in texts]
    if len(found) > MOST_LIKED:
        raise BadRequest(f"At most {MOST_LIKED} titles may be chosen; these are {len(found)}.")
    ids = [one for one in found if one is not None]
    if len(ids) < len(found):
        message = "A chosen title is given by its number; one of these is no number."
        raise BadRequest(message)
    return list(dict.fromkeys(ids))
