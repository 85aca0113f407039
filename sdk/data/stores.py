"""Where the files of a table lie: one file, a folder of parts, on this machine or wherever fsspec reaches."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote

import pyarrow as pa

from sdk.base.errors import DataError, MissingFileError, UnusableFileError, UsageError, how_to_get
from sdk.base.paths import as_location
from sdk.base.rights import reason
from sdk.data.foreign import refuse_foreign

HEAD = 1 << 18  # bytes by which a file is known
_CODECS = ((b"\x1f\x8b", "gzip"), (b"BZh", "bz2"), (b"\x28\xb5\x2f\xfd", "zstd"))
_BINARY = ((b"PAR1", "parquet"), (b"ARROW1", "arrow"), (b"\xff\xff\xff\xff", "arrow"))
_PACKED = (".gz", ".bz2", ".zst")
_TABLES = (
    ".parquet", ".pq", ".csv", ".tsv", ".txt", ".tab", ".inter", ".item", ".user", ".json", ".jsonl", ".ndjson",
    ".arrow", ".arrows", ".feather", ".ipc", ".dat",
)  # fmt: skip
_NULL = "__HIVE_DEFAULT_PARTITION__"
_WEB = ("http://", "https://")
_WANTED = "table: Parquet, CSV, JSON lines, Arrow or Feather"


@dataclass(frozen=True, slots=True, eq=False)
class File:
    """One file of a table.

    Attributes:
        where: its path or URL, for messages.
        path: as its file system names it.
        fs: the file system of fsspec; None on this machine.
        partition: column -> value, of a folder partitioned as Hive does; None where it is null.
    """

    where: str
    path: str
    fs: Any = None
    partition: Mapping[str, str | None] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """For rejects: the file's own name, and the partition it lies in."""
        parts = PurePosixPath(self.path).parts
        inside = [part for part in parts[:-1] if "=" in part]
        return "/".join([*inside, parts[-1]])

    def open(self) -> pa.NativeFile:
        """It, to be read at any place."""
        if self.fs is None:
            return pa.OSFile(self.path)
        return pa.PythonFile(self.fs.open(self.path, "rb"), "r")

    def unpacked(self) -> pa.NativeFile:
        """It, from the beginning on, and as it was before it was packed."""
        with self.open() as file:
            start = file.read(4)
        codec = next((name for magic, name in _CODECS if start.startswith(magic)), None)
        return pa.CompressedInputStream(self.open(), codec) if codec else self.open()

    def head(self) -> bytes:
        """Its first bytes, unpacked."""
        with self.readable(), self.unpacked() as file:
            return bytes(file.read(HEAD))

    def kind(self) -> str:
        """``parquet``, ``arrow``, ``json`` (a value a line) or ``csv``.

        Raises:
            UnusableFileError: it is empty, or something else.
        """
        head = self.head()
        found = next((kind for magic, kind in _BINARY if head.startswith(magic)), None)
        if found:
            return found
        if not head.strip():
            raise UnusableFileError(self.where, "it is empty", "Export it again, with its rows.")
        if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
            return "json"
        refuse_foreign(head, self.where)
        return "csv"

    @contextlib.contextmanager
    def readable(self) -> Iterator[None]:
        """Errors of reading as ours."""
        try:
            yield
        except pa.ArrowException as error:
            raise UnusableFileError(self.where, f"it is damaged ({error})", "Export or copy it again.") from error
        except OSError as error:
            why = reason(error, Path(self.path)) if self.fs is None else error
            raise UnusableFileError(self.where, f"it cannot be read ({why})", "Check it, and copy it again.") from error


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """A file or folder.

    Attributes:
        where: its path or URL.
        path: as its file system names it.
        fs: the file system of fsspec; None on this machine.
    """

    where: str
    path: str
    fs: Any = None

    @classmethod
    def of(cls, given: str) -> Place:
        """What a path or URL names.

        Raises:
            UsageError: it is no path, or fsspec cannot reach it.
        """
        where = given if given.lower().startswith(_WEB) else as_location(given)
        if "://" not in where:
            return cls(where, where)
        from fsspec.core import url_to_fs

        try:
            fs, path = url_to_fs(where)
        except (ImportError, ValueError) as error:
            scheme = where.partition("://")[0]
            extra = {"s3": "s3", "gs": "gcs", "gcs": "gcs"}.get(scheme) if isinstance(error, ImportError) else None
            remedy = f"; get what it needs: {how_to_get(extra)}" if extra else ""
            raise UsageError(f"{scheme}:// cannot be read here ({error}){remedy}") from error
        return cls(where, path, fs)

    @property
    def is_delta(self) -> bool:
        """Whether it is a table of Delta Lake.

        Raises:
            UnusableFileError: it is one of Iceberg or Hudi, of whose files some may hold deleted rows.
        """
        for mark, kind in (("metadata", "Iceberg"), (".hoodie", "Hudi")):
            marked = self._is_folder(mark) and (kind == "Hudi" or self._has_metadata(mark))
            if marked:
                problem = f"it is a table of {kind}, whose files may hold rows that are deleted"
                raise UnusableFileError(self.where, problem, "Read it with its own library, and give that table.")
        return self._is_folder("_delta_log")

    def _has_metadata(self, folder: str) -> bool:
        return any(name.endswith(".metadata.json") for name in self._found(f"{self.path}/{folder}"))

    def _is_folder(self, name: str = "") -> bool:
        path = f"{self.path}/{name}" if name else self.path
        return Path(path).is_dir() if self.fs is None else bool(self.fs.isdir(path))

    def _found(self, path: str) -> list[str]:
        if self.fs is None:
            return sorted(str(one) for one in Path(path).rglob("*") if one.is_file())
        return sorted(str(one) for one in self.fs.find(path))

    def files(self) -> list[File]:
        """Its files, by name; hidden ones and those whose name begins with _ are none of a table.

        Raises:
            MissingFileError: nothing is there, or no table.
            DataError: the store does not answer.
        """
        try:
            if not self._is_folder():
                return [self._file(self.path)]
            found = [path for path in self._found(self.path) if self._is_part(path)]
        except OSError as error:
            raise DataError(f"{self.where}: cannot be read ({error}). Check the name, credentials, network.") from error
        if not found:
            raise MissingFileError(self.where, _WANTED, [self._inside(path) for path in self._found(self.path)])
        return [self._file(path, self._inside(path)) for path in found]

    def _file(self, path: str, inside: str = "") -> File:
        if not inside and not (Path(path).exists() if self.fs is None else self.fs.exists(path)):
            raise MissingFileError(self.where, _WANTED)
        where = f"{self.where.rstrip('/')}/{inside}" if inside else self.where
        pairs = [part.split("=", 1) for part in inside.split("/")[:-1] if "=" in part]
        partition = {unquote(name): None if value == _NULL else unquote(value) for name, value in pairs}
        return File(where, path, self.fs, partition)

    def _inside(self, path: str) -> str:
        root = self.path.rstrip("/") + "/"
        return path[len(root) :] if path.startswith(root) else path

    def _is_part(self, path: str) -> bool:
        inside = PurePosixPath(self._inside(path))
        if any(part.startswith((".", "_")) for part in inside.parts):
            return False
        name = inside.name.lower()
        for packed in _PACKED:
            name = name.removesuffix(packed)
        return name.endswith(_TABLES) or "." not in name
