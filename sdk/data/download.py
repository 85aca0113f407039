"""Fetching the public data sets: resumed where it broke off, checked against the published checksum, landed whole.

While a fetch runs, ``NAME.zip.part`` holds the bytes so far and ``NAME.zip.part.json`` says which version of the
remote file they belong to; ``NAME.zip`` appears in one rename once it is checked. A lock beside it keeps a second
download out meanwhile.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import re
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from urllib.parse import urlsplit

from sdk.base.errors import ConfigError, DownloadError, OutputError, UsageError
from sdk.base.files import lock_of, locked, new_folder, new_of, remove, show, sync_tree
from sdk.base.paths import as_path
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


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetSource:
    """Where a data set is published and how large it is.

    Attributes:
        name: what it is called here and by its publisher, e.g. ``ml-25m``.
        url: the zip's address.
        md5_url: the address of its published MD5; not every set has one.
        size_bytes: the zip's approximate size.
        about: what it is, in words.
        num_ratings: number of ratings, as the publisher states it (like the next two).
        num_users: number of users.
        num_items: number of titles.
    """

    name: str
    url: str
    md5_url: str
    size_bytes: int
    about: str
    num_ratings: int
    num_users: int
    num_items: int


def _movielens(name: str, size_bytes: int, about: str, ratings: int, users: int, items: int) -> DatasetSource:
    url = f"{_GROUPLENS}{name}.zip"
    return DatasetSource(
        name=name,
        url=url,
        md5_url=f"{url}.md5",
        size_bytes=size_bytes,
        about=about,
        num_ratings=ratings,
        num_users=users,
        num_items=items,
    )


_ALL = (
    _movielens("ml-100k", 4_900_000, "ratings of 1997 and 1998, with age, sex and job", 100_000, 943, 1_682),
    _movielens("ml-1m", 5_900_000, "ratings of 2000, with age, sex and job", 1_000_209, 6_040, 3_883),
    _movielens("ml-10m", 65_600_000, "ratings and tags to 2009", 10_000_054, 71_567, 10_681),
    _movielens("ml-20m", 198_700_000, "ratings, tags and tag genome to 2015", 20_000_263, 138_493, 27_278),
    _movielens("ml-25m", 262_000_000, "ratings, tags and tag genome to 2019", 25_000_095, 162_541, 62_423),
    _movielens("ml-32m", 239_000_000, "ratings and tags to 2023", 32_000_204, 200_948, 87_585),
    _movielens("ml-latest-small", 980_000, "for development; its content may change", 100_836, 610, 9_742),
    _movielens("ml-latest", 351_000_000, "everything; its content changes", 33_832_162, 330_975, 86_537),
)
DATASETS: Mapping[str, DatasetSource] = MappingProxyType({source.name: source for source in _ALL})
"""Every data set that :func:`download` can fetch, by name."""


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
    source = _source(name, base_url)
    _check_limits(retries, timeout_s)
    link = Link(remedy=_remedy(name), retries=retries, timeout_s=timeout_s, wait=wait)
    target = as_path(to) / f"{name}.zip"
    with writing(target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
    busy = f"{target}: another download of it is running; waiting for it to end"
    with locked(lock_of(target), busy, wait=True):
        _bring(link, source, target, progress)
        if extract:
            with _readable(target):
                _extract(target)
    return target


def _remedy(name: str) -> str:
    return f"or download {name}.zip by hand from {_PAGE} and pass the zip to --movielens."


def _source(name: str, base_url: str | None) -> DatasetSource:
    if name in _BY_HAND:
        raise DownloadError(f"{name}: {_BY_HAND[name]}")
    if name not in DATASETS:
        raise UsageError(f"no data set {name!r}; expected one of {', '.join(DATASETS)}.")
    if base_url is None:
        return DATASETS[name]
    _check_base_url(base_url)
    url = f"{base_url.rstrip('/')}/{name}.zip"
    return replace(DATASETS[name], url=url, md5_url=f"{url}.md5")


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


def _check_limits(retries: int, timeout_s: float) -> None:
    if retries < 0:
        raise ConfigError(_OWNER, "retries", retries, "0 or more")
    if not 0 < timeout_s < float("inf"):
        raise ConfigError(_OWNER, "timeout_s", timeout_s, "a number of seconds above 0")


def _bring(link: Link, source: DatasetSource, target: Path, progress: bool | None) -> None:
    part = Part(source.url, target.with_name(f"{target.name}.part"), source.size_bytes)
    try:
        md5 = _published_md5(link, source)
    except GaveUpError:
        if not target.is_file() or _fault(target, None):
            raise
        log.warning("%s: %s is out of reach; using the zip that is here", target, source.url)
        return
    if not _is_here(target, md5):
        fetch_file(link, part, progress)
        _land(part, target, source, md5)
    part.discard()


def _published_md5(link: Link, source: DatasetSource) -> str | None:
    """The zip's published MD5 in lower-case hex, or None where the publisher has none."""
    text = fetch_text(link, source.md5_url)
    if text is None:
        log.warning("%s: no checksum is published there; the zip's own CRCs are checked instead", source.md5_url)
        return None
    for line in text.splitlines():
        if found := _MD5_LINE.fullmatch(line.strip()):
            return found[1].lower()
    expected = "'MD5 (NAME) = 32 hex digits' or '32 hex digits  NAME'"
    raise DownloadError(
        f"{source.md5_url}: got {text.strip()[:60]!r}, expected {expected}. "
        f"A proxy or a login page may have answered in the server's place; check that, {link.remedy}"
    )


def _is_here(target: Path, md5: str | None) -> bool:
    if not target.is_file():
        return False
    fault = _fault(target, md5)
    if fault:
        log.warning("%s: %s; fetching it again", target, fault)
    else:
        log.info("%s: already here and sound", target)
    return not fault


def _land(part: Part, target: Path, source: DatasetSource, md5: str | None) -> None:
    """Check what came and give it its final name in one rename."""
    fault = _fault(part.path, md5)
    if fault:
        part.discard()
        origin = f" as published at {source.md5_url}" if md5 else ""
        raise DownloadError(
            f"{source.url}: {fault}{origin}. The partial file was deleted; run it again, {_remedy(source.name)}"
        )
    with writing(target):
        show(part.path, target)
    log.info("%s: fetched and sound", target)


def _fault(path: Path, md5: str | None) -> str:
    """What is wrong with a zip, in words; empty if nothing is. Without an MD5, its CRCs decide."""
    if md5 is None:
        return _broken_member(path)
    got = _md5_of(path)
    return "" if got == md5 else f"got MD5 {got} ({path.stat().st_size:,} bytes), expected {md5}"


def _md5_of(path: Path) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _broken_member(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        return f"got {path.stat().st_size:,} bytes that are not a readable zip ({error}), expected a whole one"
    return f"got a zip whose member {broken!r} fails its CRC, expected a whole one" if broken else ""


@contextlib.contextmanager
def _readable(target: Path) -> Iterator[None]:
    try:
        yield
    except zipfile.BadZipFile as error:
        raise DownloadError(
            f"{target}: not a readable zip ({error}), though its checksum is the published one. Tell the publisher, "
            f"{_remedy(target.stem)}"
        ) from error


def _extract(target: Path) -> None:
    """Unpack beside the zip: aside first, then each top-level entry in one rename."""
    folder = target.parent
    with writing(folder):
        remove(new_of(folder / target.stem))  # a killed run's
    with zipfile.ZipFile(target) as archive:
        members = archive.infolist()
        tops = _top_entries(target, members)
        odd = {_top(member) for member in members if not _is_unpacked(folder, member)}
        if not odd:
            log.info("%s: already unpacked", target)
            return
        taken = [str(folder / top) for top in tops if top in odd and (folder / top).exists()]
        if taken:
            raise OutputError(f"{', '.join(taken)}: exists and differs from {target}; move it away, then run it again.")
        check_space(folder, sum(member.file_size for member in members), f"unpacking {target.name}")
        with writing(folder), new_folder(folder / target.stem) as aside:
            archive.extractall(aside)
            sync_tree(aside)
            for top in sorted(odd):
                show(aside / top, folder / top)


def _top_entries(target: Path, members: list[zipfile.ZipInfo]) -> list[str]:
    """The names at the zip's top level, after making sure that none leads out of the folder."""
    paths = [PurePosixPath(member.filename.replace("\\", "/")) for member in members]
    for path in paths:
        if path.is_absolute() or ".." in path.parts or not path.parts:
            raise DownloadError(
                f"{target}: its member {str(path)!r} would be written outside the folder, expected only paths inside. "
                "Delete the zip and fetch it from its publisher."
            )
    return sorted({path.parts[0] for path in paths})


def _top(member: zipfile.ZipInfo) -> str:
    return PurePosixPath(member.filename.replace("\\", "/")).parts[0]


def _is_unpacked(folder: Path, member: zipfile.ZipInfo) -> bool:
    path = folder / member.filename
    return path.is_dir() if member.is_dir() else path.is_file() and path.stat().st_size == member.file_size
