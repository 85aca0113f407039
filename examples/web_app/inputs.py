"""What readers send, held to its form: ids, searches and lists of ids. Nothing of it ever becomes a path."""

from __future__ import annotations

from collections.abc import Iterable

from werkzeug.exceptions import BadRequest

from sdk.base.ids import NoIdError, is_text, whole_id
from sdk.base.printable import is_hidden
from sdk.base.types import Id, IdArray

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


def id_of(text: str, known: IdArray) -> Id | None:
    """An id of the kind of the known ones, by the rule that holds for ids everywhere; None for anything else."""
    if is_text(known):
        return text or None
    try:
        return whole_id(text)
    except NoIdError:
        return None


def ids_of(texts: Iterable[str], known: IdArray, word: str = "title") -> list[Id]:
    """Ids in their order, each once.

    Args:
        texts: what was sent.
        known: ids of the kind that is meant.
        word: for what they are ids of.

    Raises:
        BadRequest: one is no id, or there are too many.
    """
    found = [id_of(text, known) for text in texts]
    if len(found) > MOST_LIKED:
        raise BadRequest(f"At most {MOST_LIKED} {word}s may be chosen; these are {len(found)}.")
    ids = [one for one in found if one is not None]
    if len(ids) < len(found):
        how = "id; one of these is none" if is_text(known) else "number; one of these is no number"
        raise BadRequest(f"A chosen {word} is given by its {how}.")
    return list(dict.fromkeys(ids))
