"""Fetching the public data sets: resumed where it broke off, checked against the published checksum, landed whole.

While a fetch runs, ``NAME.zip.part`` holds the bytes so far and ``NAME.zip.part.json`` says which version of the
remote file they belong to; ``NAME.zip`` appears in one rename once it is checked. A lock beside it keeps a second
download out meanwhile.
"""

from __future__ import annotations

import hashlib
import logging
import re
import time
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from urllib.parse import urlsplit

from sdk.base.errors import ConfigError, DownloadError, OutputError, UsageError
from sdk.base.files import lock_of, locked, new_folder, new_of, remove, show, sync_tree
from sdk.base.paths import as_path
from sdk.data.archive import parts_inside
from sdk.data.transfer import GaveUpError, Link, Part, check_space, fetch_file, fetch_text, writing

log = logging.getLogger(__name__)

_GROUPLENS = "https://files.grouplens.org/datasets/movielens/"
_PAGE = "https://grouplens.org/datasets/movielens/"
_BLOCK_BYTES = 1 << 20
_OWNER = "download"
_MD5_LINE = re.compile(r"(?:MD5 ?\([^)]*\) ?= ?)?([0-9a-f]{32})(?:\s+\S.*)?", re.IGNORECASE)
_BY_HAND = {
    "tmdb-5000": "TMDB 5000 lies behind a login at https://www.kaggle.com/datasets/tmdb/tmdb-movie-metadata and cannot "
    "be fetched without one. Download tmdb_5000_movies.csv and tmdb_5000_credits.csv by hand into one folder, then "
    "pass that folder to --tmdb."
}


DATASETS: Mapping[str, int] = MappingProxyType(
    {
        "ml-100k": 4_900_000,
        "ml-1m": 5_900_000,
        "ml-10m": 65_600_000,
        "ml-20m": 198_700_000,
        "ml-25m": 262_000_000,
        "ml-32m": 239_000_000,
        "ml-latest-small": 980_000,
        "ml-latest": 351_000_000,
    }
)
"""Every data set that :func:`download` can fetch, by name, and about how many bytes its zip has."""


def download(
    name: str,
    to: Path,
    *,
    base_url: str | None = None,
    retries: int = 3,
    timeout_s: float = 30.0,
    extract: bool = False,
    progress: bool | None = None,
    wait: Callable[[float], None] = time.sleep,
) -> Path:
    """Fetch a data set's zip into a folder, or find it already there and sound.

    An interrupted fetch goes on where it stopped, in this call or the next, unless the remote file has changed. The
    zip is held against its published MD5; where none is published, against the CRCs inside it. With the publisher
    out of reach, a zip that is there already and whole by its CRCs is used, with a warning. A second download of the
    same set into the same folder waits for the first.

    Args:
        name: a key of ``DATASETS``.
        to: the folder, made if absent.
        base_url: http(s) address of a mirror's folder that holds ``NAME.zip`` and ``NAME.zip.md5``.
        retries: how many failures in a row that bring no new byte are borne, with growing pauses between.
        timeout_s: seconds without an answer or a byte after which a connection counts as lost.
        extract: also unpack the zip into ``to``; a folder that is there already is never overwritten.
        progress: True draws a bar on stderr, False writes a log line every 10 %, None: a bar on a terminal only.
        wait: called with the seconds to pause before another attempt.

    Returns:
        The path of the zip, ``to/NAME.zip``.

    Raises:
        UsageError: no such data set, or an argument is out of its range.
        DownloadError: it cannot be fetched, or what came is not what was published.
        OutputError: the folder cannot be written, its disk is too full, or extraction would overwrite something.
    """
    url = _address(name, base_url)
    if retries < 0:
        raise ConfigError(_OWNER, "retries", retries, "0 or more")
    if not 0 < timeout_s < float("inf"):
        raise ConfigError(_OWNER, "timeout_s", timeout_s, "a number of seconds above 0")
    remedy = f"or download {name}.zip by hand from {_PAGE} and pass the zip to --movielens."
    link = Link(remedy=remedy, retries=retries, timeout_s=timeout_s, wait=wait)
    target = as_path(to) / f"{name}.zip"
    with writing(target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
    busy = f"{target}: another download of it is running; waiting for it to end"
    with locked(lock_of(target), busy, wait=True):
        _bring(link, Part(url, target.with_name(f"{target.name}.part"), DATASETS[name]), target, progress)
        if extract:
            _extract(target, remedy)
    return target


def _address(name: str, base_url: str | None) -> str:
    if name in _BY_HAND:
        raise DownloadError(f"{name}: {_BY_HAND[name]}")
    if name not in DATASETS:
        raise UsageError(f"no data set {name!r}; expected one of {', '.join(DATASETS)}.")
    if base_url is not None:
        _check_base_url(base_url)
    return f"{(base_url or _GROUPLENS).rstrip('/')}/{name}.zip"


def _check_base_url(base_url: str) -> None:
    wanted = "an http:// or https:// address of a folder, without login, query or blanks"
    try:
        parts = urlsplit(base_url)
        port_is_fine = parts.port is None or parts.port > 0
    except ValueError as error:
        raise ConfigError(_OWNER, "base_url", base_url, wanted) from error
    plain = not (parts.username or parts.query or parts.fragment or re.search(r"\s", base_url))
    if parts.scheme not in {"http", "https"} or not (parts.hostname and port_is_fine and plain):
        raise ConfigError(_OWNER, "base_url", base_url, wanted)


def _bring(link: Link, part: Part, target: Path, progress: bool | None) -> None:
    try:
        md5 = _published_md5(link, f"{part.url}.md5")
    except GaveUpError:
        if not target.is_file() or _fault(target, None):
            raise
        log.warning("%s: %s is out of reach; using the zip that is here", target, part.url)
        return
    if not _is_here(target, md5):
        fetch_file(link, part, progress)
        _land(link, part, target, md5)
    part.discard()


def _published_md5(link: Link, url: str) -> str | None:
    """The zip's published MD5 in lower-case hex, or None where the publisher has none."""
    text = fetch_text(link, url)
    if text is None:
        log.warning("%s: no checksum is published there; the zip's own CRCs are checked instead", url)
        return None
    for line in text.splitlines():
        if found := _MD5_LINE.fullmatch(line.strip()):
            return found[1].lower()
    raise DownloadError(
        f"{url}: got {text.strip()[:60]!r}, expected 'MD5 (NAME) = 32 hex digits' or '32 hex digits  NAME'. "
        f"A proxy or a login page may have answered in the server's place; check that, {link.remedy}"
    )


def _is_here(target: Path, md5: str | None) -> bool:
    if not target.is_file():
        return False
    if fault := _fault(target, md5):
        log.warning("%s: %s; fetching it again", target, fault)
        return False
    log.info("%s: already here and sound", target)
    return True


def _land(link: Link, part: Part, target: Path, md5: str | None) -> None:
    """Check what came and give it its final name in one rename."""
    if fault := _fault(part.path, md5):
        part.discard()
        origin = f" as published at {part.url}.md5" if md5 else ""
        raise DownloadError(f"{part.url}: {fault}{origin}. The partial file was deleted; run it again, {link.remedy}")
    with writing(target):
        show(part.path, target)
    log.info("%s: fetched and sound", target)


def _fault(path: Path, md5: str | None) -> str:
    """What is wrong with a zip, in words; empty if nothing is. Without an MD5, its CRCs decide."""
    if md5 is None:
        return _broken_member(path)
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    got = digest.hexdigest()
    return "" if got == md5 else f"got MD5 {got} ({path.stat().st_size:,} bytes), expected {md5}"


def _broken_member(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        return f"got {path.stat().st_size:,} bytes that are not a readable zip ({error}), expected a whole one"
    return f"got a zip whose member {broken!r} fails its CRC, expected a whole one" if broken else ""


def _extract(target: Path, remedy: str) -> None:
    """Unpack beside the zip: aside first, then each top-level entry in one rename."""
    folder = target.parent
    with writing(folder):
        remove(new_of(folder / target.stem))  # a killed run's
    try:
        with zipfile.ZipFile(target) as archive:
            _unpack(archive, target, folder)
    except zipfile.BadZipFile as error:
        problem = f"not a readable zip ({error}), though its checksum is the published one"
        raise DownloadError(f"{target}: {problem}. Tell the publisher, {remedy}") from error


def _unpack(archive: zipfile.ZipFile, target: Path, folder: Path) -> None:
    tops = {member: parts_inside(target, member.filename)[0] for member in archive.infolist()}
    odd = sorted({top for member, top in tops.items() if not _is_unpacked(folder, member)})
    if not odd:
        log.info("%s: already unpacked", target)
        return
    if taken := [str(folder / top) for top in odd if (folder / top).exists()]:
        raise OutputError(f"{', '.join(taken)}: exists and differs from {target}; move it away, then run it again.")
    check_space(folder, sum(member.file_size for member in tops), f"unpacking {target.name}")
    with writing(folder), new_folder(folder / target.stem) as aside:
        archive.extractall(aside)
        sync_tree(aside)
        for top in odd:
            show(aside / top, folder / top)


def _is_unpacked(folder: Path, member: zipfile.ZipInfo) -> bool:
    path = folder / member.filename
    return path.is_dir() if member.is_dir() else path.is_file() and path.stat().st_size == member.file_size
