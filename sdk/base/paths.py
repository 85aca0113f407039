"""What a path or URL that somebody gave means, decided once: for the options of every command and for the SDK."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import unquote

from sdk.base.errors import UsageError

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
_HALF_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):(/?)(?!/)", re.DOTALL)
_VARIABLE = re.compile(r"\$(?:[A-Za-z_]\w*|\{\w+\})")
_DRIVE = re.compile(r"[A-Za-z]:[\\/]|\\\\")
_UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ufeff\u200b]")
_FILE = ("file", "local")
_BUCKETS = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "oss", "r2", "oci")
_WEB = ("http", "https")
QUERY = "duckdb"
"""What stands before the colon of a query."""
_LONGEST_NAME, _LONGEST_PATH = 255, 4095  # bytes, of file systems and of the kernel
_SCHEMES = {*_FILE, *_BUCKETS, *_WEB, "adl", "dbfs", "ftp", "hdfs", "memory", "sftp", "smb", "ssh", "webhdfs"}
_PLACE = re.compile(r"[^\s/@]+")


def as_path(given: str | os.PathLike[str]) -> Path:
    """A path on this machine: ``~`` and ``~user`` are home folders, ``file:///a%20b`` is ``/a b``.

    Raises:
        UsageError: it is empty, another kind of URL, or no path that could be meant; the message says what to give.
    """
    text = _plain(given)
    url = _URL.match(text)
    if url and url[1].lower() not in _FILE:
        raise _refused(text, "a path on this machine", "Fetch what the URL names, and give the path it has here.")
    if url:
        return _path_of_url(text, url[2])
    half = _half_url(text)
    if half and half[1].lower() in _FILE and half[2]:
        return _path_of_url(text, text[len(half[1]) + 1 :])
    if half:
        raise _refused(text, "a path, or a URL such as s3://bucket/nights", f"A URL has two slashes: {half[1]}://.")
    return _expanded(text)


def as_location(given: str | os.PathLike[str]) -> str:
    """A path on this machine, or a store's URL without its trailing slash and with its scheme in lower case.

    Raises:
        UsageError: as ``as_path``; or a URL that carries a user, a password or a query, or that names no place to
            write to.
    """
    text = _plain(given)
    url = _URL.match(text)
    if url is None or url[1].lower() in _FILE:
        return str(as_path(text))
    scheme, place = url[1].lower(), url[2].rstrip("/")
    if "@" in place.split("/")[0] or "?" in place:
        raise UsageError(
            f"a {scheme}:// URL with a user, a password or a query. "
            "Give credentials in the environment or in fsspec's configuration, never in the URL."
        )
    if scheme in _WEB:
        raise _refused(text, "a folder, or a store such as s3://bucket/nights", "A web address cannot be written to.")
    if not place or (scheme in _BUCKETS and not _PLACE.fullmatch(place.split("/")[0])):
        named = f"a bucket, such as {scheme}://bucket/nights" if scheme in _BUCKETS else f"a place after {scheme}://"
        raise _refused(text, named, "Name it.")
    return f"{scheme}://{place}"


def as_source(given: str | os.PathLike[str]) -> str:
    """Where a table is read from: a path on this machine, a store's or the web's URL, or a query, ``duckdb:SELECT …``.

    Raises:
        UsageError: as ``as_location``; or the query is empty.
    """
    text = os.fspath(given)
    scheme, _, rest = text.partition(":")
    if scheme.lower() == QUERY and rest.strip():
        return text
    url = _URL.match(text)
    return _plain(text) if url and url[1].lower() in _WEB else as_location(text)


def _plain(given: str | os.PathLike[str]) -> str:
    """The text that was given, if it could be a path or a URL."""
    text = os.fspath(given)
    if not text.strip():
        message = "got nothing, expected a path; is a variable of the command line unset?"
        raise UsageError(message)
    variable = _VARIABLE.search(text)
    unset = f"No shell put in what {variable and variable[0]} stands for: write it in double quotes or none, or write"
    cases = (
        (_UNSEEN.search(text), "a path without line breaks and control characters", "Leave them out."),
        (text != text.strip(), "a path without blanks at its ends", "Leave them out."),
        (text == "-", "a path", "Standard input and output are not used here; ./- is a file of that name."),
        (variable, "a path without variables", f"{unset} it out."),
        ("://" in text and not _URL.match(text), "a path, or one URL", "Leave out what stands before the URL."),
        (text[0] == text[-1] and text[0] in "'\"", "a path without quotes around it", "Leave them out."),
        (_DRIVE.match(text), "a path of this system, such as /data/nights", "Give it as it is named here."),
    )
    for is_so, expected, remedy in cases:
        if is_so:
            raise _refused(text, expected, remedy)
    return text


def _half_url(text: str) -> re.Match[str] | None:
    """``s3:/x``, ``file:x``; a name with a colon in it is none."""
    found = _HALF_URL.match(text)
    return found if found and (found[2] or found[1].lower() in _SCHEMES) else None


def _path_of_url(text: str, rest: str) -> Path:
    host, slash, path = rest.partition("/")
    if host.lower() not in ("", "localhost") or not slash:
        remedy = "It names another machine, or no whole path: three slashes, then the path from the root on."
        raise _refused(text, "file:///PATH", remedy)
    path = unquote(path)
    if _UNSEEN.search(path):
        raise _refused(text, "a path without line breaks and control characters", "Leave them out.")
    _refuse_too_long(path)
    return Path(f"/{path.lstrip('/')}")


def _expanded(text: str) -> Path:
    """The path; one like ``./~`` or ``./'a'`` in full, so that it keeps its meaning however often it is asked for."""
    _refuse_too_long(text)
    if not text.startswith("~"):
        path = Path(text)
        return path if _means_itself(str(path)) else path.absolute()
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        remedy = f"Nobody of that name has a home folder here; ./{text} is a file of that name."
        raise _refused(text, "a path", remedy) from error


def _means_itself(text: str) -> bool:
    """Whether a path's own text, without the dot in front, would be read as that path."""
    try:
        return not (_plain(text).startswith(("~", "$")) or _half_url(text))
    except UsageError:
        return False


def _refuse_too_long(text: str) -> None:
    """No file system here has such a name: refused before any work, as it would fail only after it."""
    longest = max((len(name.encode("utf-8", "replace")) for name in text.split("/")), default=0)
    if longest > _LONGEST_NAME or len(text.encode("utf-8", "replace")) > _LONGEST_PATH:
        expected = f"a path of at most {_LONGEST_PATH} bytes, with names of at most {_LONGEST_NAME}"
        raise _refused(f"{text[:40]}…", expected, "Give a shorter one.")


def _refused(text: str, expected: str, remedy: str) -> UsageError:
    """The error; of what might hold a password, it shows the beginning only."""
    shown = f"{text.partition(':')[0]}:…" if ":" in text and re.search("[@?]", text) else text
    return UsageError(f"got {shown!r}, expected {expected}. {remedy}")
