"""Input files, wherever they lie: in a folder, in a folder inside it, gzipped, or inside a zip as published.

Nothing is ever extracted: members of a zip are read as streams, so no temporary file is left behind and no
member can write outside its place.
"""

from __future__ import annotations

import gzip
import io
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath
from typing import IO, TypeVar, cast

from sdk.base.errors import MissingFileError, UnusableFileError
from sdk.base.paths import as_path
from sdk.base.rights import reason
from sdk.data.foreign import refuse_foreign, refuse_tables

_BOM = b"\xef\xbb\xbf"
_HEAD = 64
_SMALL = 1 << 26
_MAX_RATIO = 100  # of unpacked to packed bytes, above _SMALL; MovieLens and TMDB pack to between a half and a fifth
_MAX_DEPTH = 3  # of folders in folders
Known = TypeVar("Known")
_MEND = "Fetch or export the file again."
_DO_NOT_USE = "Do not use this archive; fetch it again from its publisher."


@dataclass(frozen=True, slots=True)
class Source:
    """A set of named input files.

    Attributes:
        path: the folder or zip that the caller named.
        name: what the set is called: the name of the folder that holds the files.
        members: file name (without ``.gz``, in lower case) to its path on disk, or to its member name in the zip.
        zipped: whether ``path`` is a zip.
    """

    path: Path
    name: str
    members: Mapping[str, str]
    zipped: bool

    def __contains__(self, file: str) -> bool:
        return file in self.members

    def where(self, file: str) -> str:
        """The file as messages name it."""
        return f"{self.path}/{PurePosixPath(self.members.get(file, file)).name}"

    def size(self, file: str) -> int:
        """Bytes of the file as it is stored (unpacked, for a member of a zip)."""
        member = self.members[file]
        if not self.zipped:
            return Path(member).stat().st_size
        with zipfile.ZipFile(self.path) as archive:
            return archive.getinfo(member).file_size

    @contextmanager
    def open(self, file: str) -> Iterator[io.BufferedReader]:
        """Open a file for reading, past its byte order mark if it has one.

        Raises:
            MissingFileError: there is no such file.
            UnusableFileError: the file is damaged, encrypted, not readable or no text of ours, such as UTF-16 or HTML;
                raised while reading, too.
        """
        if file not in self.members:
            raise MissingFileError(self.path, file, sorted(self.members))
        member = self.members[file]
        with _damage_named(self.where(file)), ExitStack() as stack:
            raw = self._raw(member, stack)
            if member.lower().endswith(".gz"):
                raw = stack.enter_context(cast("IO[bytes]", gzip.GzipFile(fileobj=raw)))
            stream: io.BufferedReader = stack.enter_context(io.BufferedReader(cast("io.RawIOBase", raw), 1 << 16))
            head = stream.peek(_HEAD)[:_HEAD]
            refuse_foreign(head, self.where(file))
            if head.startswith(_BOM):
                stream.read(len(_BOM))
            yield stream

    def _raw(self, member: str, stack: ExitStack) -> IO[bytes]:
        if not self.zipped:
            return stack.enter_context(Path(member).open("rb"))
        archive = stack.enter_context(zipfile.ZipFile(self.path))
        try:
            return stack.enter_context(archive.open(member))
        except RuntimeError as error:  # zipfile's word for "needs a password"
            raise UnusableFileError(self.where(member), str(error), "Unpack it, and pass the folder.") from error


@contextmanager
def _damage_named(where: str) -> Iterator[None]:
    """Turn what a damaged file makes the standard library raise into one error of ours."""
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, EOFError, UnicodeDecodeError) as error:
        raise UnusableFileError(where, f"the file is damaged ({error})", _MEND) from error
    except PermissionError as error:
        remedy = "Give this account the right to read it."
        raise UnusableFileError(where, f"it cannot be read: {reason(error)}", remedy) from error
    except (OSError, NotImplementedError) as error:  # the second is zipfile's, of a way to compress it does not know
        raise UnusableFileError(where, f"the file cannot be read ({error})", _MEND) from error


def find_source(
    path: str | Path, wanted: str, form_of: Callable[[Collection[str]], Known | None]
) -> tuple[Source, Known]:
    """Find the one folder that holds a known set of files: ``path`` itself, or the nearest one inside it.

    Args:
        path: a folder, of which three levels of folders are looked into, or a zip.
        wanted: the known sets, in words, for the message.
        form_of: the form of a set with these file names; nothing where it is no known one.

    Returns:
        The set, and its form.

    Raises:
        MissingFileError: no folder holds a known set; the message says what is there.
        UnusableFileError: several do; or there is only a zip in it, which may be meant; or the path is another file,
            a damaged zip, or one with a member that points outside it.
    """
    path = as_path(path)
    with _damage_named(str(path)):
        folders = _folders(path)
    forms = {folder: form for folder, members in folders.items() if (form := form_of(members.keys()))}
    least = min((len(PurePosixPath(folder).parts) for folder in forms), default=0)
    known = [folder for folder in forms if len(PurePosixPath(folder).parts) == least]
    if not known:
        _refuse_packed(path, _names(folders))
        refuse_tables(path, _names(folders))
        raise MissingFileError(path, wanted, _names(folders))
    if len(known) > 1:
        problem = f"it holds several data sets ({', '.join(sorted(known))})"
        raise UnusableFileError(path, problem, "Pass the folder of one of them.")
    name = known[0].rsplit("/")[-1] or path.resolve().name.removesuffix(".zip")
    return Source(path, name, folders[known[0]], path.is_file()), forms[known[0]]


def _refuse_packed(path: Path, names: Sequence[str]) -> None:
    """Where all that could be meant is a zip inside, or a zip for each file, say so."""
    zips = [name for name in names if name.lower().endswith(".zip")]
    if zips:
        mend = f"Pass {path / zips[0]} itself." if path.is_dir() else f"Unpack it, and pass {zips[0]} itself."
        if len(zips) > 1 and path.is_dir():
            mend = f"Unpack each beside itself (python -m zipfile -e {zips[0]} .), and pass {path} again."
        raise UnusableFileError(path, f"its data are packed once more ({', '.join(zips[:12])})", mend)


def _names(folders: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Every file as it is spelt, below its folder."""
    return sorted(
        f"{folder}/{PurePath(member).name}".lstrip("/")
        for folder, files in folders.items()
        for member in files.values()
    )


def _folders(path: Path) -> dict[str, dict[str, str]]:
    """Each folder inside ``path`` ("" is ``path`` itself) with its files by name."""
    if path.is_dir():
        return _of_directory(path)
    if not path.exists():
        raise MissingFileError(path, "folder or zip")
    if not path.is_file():
        remedy = "Write it to a file first: cat PIPE > ratings.csv"
        raise UnusableFileError(path, "it is a pipe or a device, and these files are read more than once", remedy)
    if path.suffix.lower() != ".zip" and not zipfile.is_zipfile(path):
        refuse_tables(path.parent, [path.name])
        problem = "it is a file, and neither a folder nor a zip"
        raise UnusableFileError(path, problem, f"Pass the folder that holds the files, such as {path.parent}.")
    if path.stat().st_size == 0:
        raise UnusableFileError(path, "the file is empty", _MEND)
    return _of_zip(path)


def _of_directory(path: Path, depth: int = _MAX_DEPTH, name: str = "") -> dict[str, dict[str, str]]:
    children = sorted(path.iterdir())
    found = {name: _by_name(str(child) for child in children if child.is_file())}
    for child in children if depth else []:
        if child.is_dir() and not child.name.startswith("."):
            found |= _of_directory(child, depth - 1, f"{name}/{child.name}".lstrip("/"))
    return found


def _by_name(members: Iterable[str]) -> dict[str, str]:
    """Members by their names without ``.gz`` in lower case; of several, one that is so spelt, then a plain one."""

    def rank(member: str) -> tuple[bool, bool, str]:
        name = PurePath(member).name
        return name != name.lower(), name.lower().endswith(".gz"), member

    best_last = sorted(members, key=rank, reverse=True)
    return {PurePath(member).name.lower().removesuffix(".gz"): member for member in best_last}


def _of_zip(path: Path) -> dict[str, dict[str, str]]:
    folders: dict[str, list[str]] = {}
    with zipfile.ZipFile(path) as archive:
        infos = [info for info in archive.infolist() if not info.filename.endswith("/")]
    for info in infos:
        _refuse_bomb(path, info)
        parts_inside(path, info.filename)
        folder = info.filename.rpartition("/")[0]
        if not folder.startswith("__MACOSX"):
            folders.setdefault(folder, []).append(info.filename)
    return {folder: _by_name(members) for folder, members in folders.items()}


def _refuse_bomb(path: Path, info: zipfile.ZipInfo) -> None:
    """A member is never unpacked beyond the size that the archive states, so that size is what is judged."""
    if info.file_size > max(_SMALL, _MAX_RATIO * info.compress_size):
        problem = f"its member {info.filename!r} unpacks to {info.file_size:,} bytes from {info.compress_size:,}"
        raise UnusableFileError(path, problem, _DO_NOT_USE)


def parts_inside(path: Path, member: str) -> tuple[str, ...]:
    """The parts of a member's path in an archive.

    Raises:
        UnusableFileError: it leads out of the archive.
    """
    parts = PurePosixPath(member.replace("\\", "/")).parts
    if not parts or ".." in parts or member.startswith(("/", "\\")) or ":" in parts[0]:
        raise UnusableFileError(path, f"its member {member!r} points outside the archive", _DO_NOT_USE)
    return parts
