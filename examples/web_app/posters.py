"""Posters from TMDB, only where the operator gives a key: this asks for their addresses, the reader for the pictures.

This product uses the TMDB API but is not endorsed or certified by TMDB.
"""

from __future__ import annotations

import json
import re
import urllib.parse
import urllib.request
from collections import OrderedDict
from threading import BoundedSemaphore, Lock

API = "https://api.themoviedb.org/3"
IMAGES = "https://image.tmdb.org"
_PATH = re.compile(r"/[A-Za-z0-9_-]{1,64}\.(?:jpg|jpeg|png|webp|svg)")
_MOST_KEPT = 20_000
_MOST_AT_ONCE = 2
_TIMEOUT_S = 3.0
_LARGEST_ANSWER = 1 << 20


class Posters:
    """Finds where a title's poster lies.

    Args:
        key: of the TMDB API, version 3. It goes to the API alone: never into a page or a log.
        api: base address of the API.
    """

    def __init__(self, key: str, api: str = API) -> None:
        self._key, self._api = key, api
        self._known: OrderedDict[int, str | None] = OrderedDict()
        self._lock, self._asking = Lock(), BoundedSemaphore(_MOST_AT_ONCE)

    def address(self, tmdb_id: int) -> str | None:
        """The picture's address at TMDB's image host; None where there is none, or TMDB does not answer in time."""
        with self._lock:
            if tmdb_id in self._known:
                return self._known[tmdb_id]
        if not self._asking.acquire(blocking=False):
            return None
        try:
            return self._keep(tmdb_id, self._ask(tmdb_id))
        except (OSError, ValueError):  # no network, refused, no JSON: a page without a picture is still a page
            return None
        finally:
            self._asking.release()

    def _ask(self, tmdb_id: int) -> str | None:
        query = urllib.parse.urlencode({"api_key": self._key})
        with urllib.request.urlopen(f"{self._api}/movie/{tmdb_id}?{query}", timeout=_TIMEOUT_S) as answer:
            found = json.loads(answer.read(_LARGEST_ANSWER))
        path = found.get("poster_path") if isinstance(found, dict) else None
        return f"{IMAGES}/t/p/w342{path}" if isinstance(path, str) and _PATH.fullmatch(path) else None

    def _keep(self, tmdb_id: int, address: str | None) -> str | None:
        with self._lock:
            self._known[tmdb_id] = address
            if len(self._known) > _MOST_KEPT:
                self._known.popitem(last=False)
        return address
