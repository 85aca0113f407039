"""Files that are no CSV though they are given as one: what each is, and what makes it one."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path, PurePath

from sdk.base.errors import UnusableFileError

_AGAIN = (
    "Download the file itself: open its page in a browser, log in if it asks, and save what the download link gives."
)
_EXCEL = "In Excel or LibreOffice save each sheet as 'CSV UTF-8'."
_STARTS = (
    (b"PAR1", "it is Parquet", "parquet"),
    (b"PK\x03\x04", "it is a zip or an Excel workbook", f"Unpack it if it is a zip. {_EXCEL}"),
    (b"\xd0\xcf\x11\xe0", "it is an Excel workbook", _EXCEL),
    (b"\x1f\x8b", "it is packed by gzip", "Rename it so that its name ends in .gz."),
    (b"BZh", "it is packed by bzip2", "Unpack it: bunzip2 FILE"),
    (b"\xfd7zXZ\x00", "it is packed by xz", "Unpack it: unxz FILE"),
    (b"version https://git-lfs", "it is a pointer of Git LFS, not the file", "Run git lfs pull where it was cloned."),
)
_ENCODINGS = (
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\x00\x00\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
_TABLES = {".parquet": "parquet", ".pq": "parquet", ".feather": "feather", ".json": "json"}
_PLAIN_NAME = re.compile(r"[\w.-]+")
_PACKED = {".7z": "7z x", ".rar": "unrar x", ".tar": "tar -xf", ".tgz": "tar -xf"}


def resaved(options: str, reader: str = "read_csv", into: str = "FILE") -> str:
    """A command that saves a table as a CSV that we read; see ``runnable``."""
    options = f", {options}" if options else ""
    return f"python -c \"import pandas; pandas.{reader}('FILE'{options}).to_csv('{into}', index=False)\""


def runnable(remedy: str, where: object) -> str:
    """A remedy for one file, with the file's name in place of FILE, and word of how to unpack it first.

    Args:
        remedy: in words, or a command, to be run where the file lies.
        where: the file as messages name it; a member of a zip stands below the zip.
    """
    if "FILE" not in remedy:
        return remedy
    path = PurePath(str(where))
    name, packed_in = path.name, Path(path.parent)
    plain = name[:-3] if name.lower().endswith(".gz") else name
    first = f"Unpack it: gunzip {name}. " if plain != name else ""
    if packed_in.is_file():
        first = f"Unpack {packed_in.name} (python -m zipfile -e {packed_in.name} FOLDER), and pass FOLDER. {first}"
    return first + (remedy.replace("FILE", plain) if _PLAIN_NAME.fullmatch(plain) else remedy)


def refuse_foreign(head: bytes, where: str) -> None:
    """Refuse a file that by its first bytes is something else than text of one byte a letter, or UTF-8.

    Args:
        head: the first bytes; the more the better.
        where: the file, for the message.

    Raises:
        UnusableFileError: it is.
    """
    for start, problem, remedy in _STARTS:
        if head.startswith(start):
            raise UnusableFileError(where, f"{problem}, where CSV was expected", _table_remedy(where, remedy))
    if encoding := _wide_encoding(head):
        options = f"encoding='{encoding}', sep=None, engine='python', dtype=str, keep_default_na=False"
        problem = f"its encoding is {encoding.upper()}, where UTF-8 was expected"
        raise UnusableFileError(where, problem, runnable(f"Save it as UTF-8: {resaved(options)}", where))
    if head.lstrip()[:15].lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        raise UnusableFileError(where, "it is a web page (HTML), where CSV was expected", _AGAIN)
    if head.lstrip()[:1] in (b"{", b"["):
        raise UnusableFileError(where, "it is JSON, where CSV was expected", _table_remedy(where, "json"))


def _wide_encoding(head: bytes) -> str:
    """UTF-16 or UTF-32 by its mark, or by the zeros that Latin letters have in it; "" for neither."""
    for mark, encoding in _ENCODINGS:
        if head.startswith(mark):
            return encoding
    for zeros, encoding in ((b"\x00\x00\x00", "utf-32"), (b"\x00", "utf-16")):
        if len(head) > 4 and head[1:].startswith(zeros) and head[0]:
            return f"{encoding}-le"
        if head.startswith(zeros) and head[len(zeros) : len(zeros) + 1].isalnum():
            return f"{encoding}-be"
    return ""


def _table_remedy(where: str, remedy: str) -> str:
    """The remedy, or how to save a table that its reader in pandas is given for."""
    if remedy in _TABLES.values():
        into = PurePath(where.lower().removesuffix(".gz")).with_suffix(".csv").name
        remedy = f"Save it as CSV: {resaved('', f'read_{remedy}', into)}"
    return runnable(remedy, where)


def refuse_tables(path: object, names: Collection[str]) -> None:
    """Where no known file is there, but tables of another kind or a packed one, say what to do with them.

    Args:
        path: the folder, zip or file that was given.
        names: what is in it.

    Raises:
        UnusableFileError: such a table is there.
    """
    for name in sorted(names):
        suffix = ".tar" if ".tar." in name else PurePath(name).suffix.lower()
        if suffix in _TABLES:
            remedy = _table_remedy(f"{path}/{name}", _TABLES[suffix])
        elif suffix in (".xlsx", ".xls", ".ods") or name == "[Content_Types].xml":
            remedy = _EXCEL
        elif suffix in _PACKED:
            remedy = f"Unpack it: {_PACKED[suffix]} {PurePath(name).name}"
        else:
            continue
        raise UnusableFileError(path, f"it has {name}, where CSV files were expected", remedy)
