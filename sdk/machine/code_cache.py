"""Machine code that Numba compiled, kept on disk from one process to the next; never a reason to fail.

Numba's own cache ends the program when an index file has no bytes or a disk is full, and trusts what it reads. Here
each function, signature and processor has one file, with a checksum, shown in one rename: what cannot be read is
compiled again, what cannot be written stays in memory, and either is said once.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import getpass
import logging
import os
import pickle
import re
import shutil
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sdk.base.files import sha256_of, sweep, write_file
from sdk.base.progress import hold_up

log = logging.getLogger(__name__)
_DIGEST_BYTES = 64
_SUFFIXES = (".nbc", ".nbi", ".tmp")  # .nbi and other .nbc: what releases that used Numba's cache left
_PROBE_BYTES = 2**20
_NO_FILE_NAME = r"[\\/:*?\"<>|]"  # what PyTorch, too, replaces in the account's name
_ROOT = Path(__file__).resolve().parents[1]


class KeptCode:
    """What a Numba dispatcher asks for machine code before it compiles, and gives it to afterwards.

    Args:
        function: the Python function; its module's source and those it takes compiled functions from are part of a
            file's name, so that a new release never runs the code of an older one.
    """

    cache_path = None  # Numba shows it in its statistics

    def __init__(self, function: Callable[..., Any]) -> None:
        self._module, self._name = function.__module__, function.__qualname__

    def load_overload(self, signature: Any, target: Any) -> Any:
        """The compiled function for a signature, or None where it has to be compiled."""
        from numba.core.compiler import CompileResult

        target.refresh()
        try:
            name = self._file_name(signature, target.codegen())
            for folder in self._folders():
                if os.path.lexists(folder / name):
                    return CompileResult._rebuild(target, *pickle.loads(_payload(folder / name)))
        except Exception as error:  # whatever it is, the code can be compiled again
            _say_once(error, self._folders(), "compiled again")
        hold_up("compiling, once")
        return None

    def save_overload(self, signature: Any, compiled: Any) -> None:
        """Keep a compiled function in the first folder that takes it."""
        hold_up("")
        if compiled.lifted or compiled.library.has_dynamic_globals:  # holds addresses of this process
            return
        from numba.core.serialize import dumps

        try:
            name = self._file_name(signature, compiled.library.codegen)
            _keep(self._folders(), name, dumps(compiled._reduce()))
        except Exception as error:
            _say_once(error, self._folders(), "each process compiles for some seconds")

    def _folders(self) -> list[Path]:
        return folders_of(Path(str(sys.modules[self._module].__file__)).resolve().parent)

    def _file_name(self, signature: Any, codegen: Any) -> str:
        key = sha256_of(repr((signature, codegen.magic_tuple())).encode())[:16]
        module = self._module.rpartition(".")[2]
        return f"{module}.{self._name.replace('<locals>.', '')}-{_stamp(self._module)}-{key}.nbc"


def folders_of(source: Path) -> list[Path]:
    """Where the code of a folder of sources is looked for: NUMBA_CACHE_DIR alone, else beside them, else at home."""
    under = f"{source.name}_{sha256_of(str(source).encode())[:40]}"
    if chosen := os.environ.get("NUMBA_CACHE_DIR"):
        return [Path(chosen).absolute() / under]
    home = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))  # noqa: PTH111 - never raises
    return [source / "__pycache__", *([home / "numba" / under] if home.is_absolute() else [])]


def _keep(folders: list[Path], name: str, data: bytes) -> None:
    """Write a file into the first folder that takes it.

    Raises:
        OSError: none does; the first one's reason.
    """
    errors = []
    for folder in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # Without waiting for the disk: what a power cut leaves fails its checksum.
            write_file(folder / name, sha256_of(data).encode() + data, durable=False)
        except OSError as error:
            errors.append(error)
        else:
            return _drop_outdated(folder, name)
    raise errors[0]


def _drop_outdated(folder: Path, name: str) -> None:
    """Delete what other sources of the same function left."""
    function, stamp, _ = name.rsplit("-", 2)
    with contextlib.suppress(OSError):
        for path in folder.glob(f"{function}-*.nbc"):
            if f"-{stamp}-" not in path.name:
                path.unlink(missing_ok=True)


def _payload(path: Path) -> bytes:
    """A file's data.

    Raises:
        OSError: it cannot be read.
        ValueError: it is damaged.
    """
    data = path.read_bytes()
    if sha256_of(data[_DIGEST_BYTES:]).encode() != data[:_DIGEST_BYTES]:
        raise ValueError(f"{path} is damaged")
    return data[_DIGEST_BYTES:]


@functools.cache
def _stamp(module: str) -> str:
    """Twelve hex digits of the sources behind a module's compiled functions, of Python and of what compiles."""
    import llvmlite
    import numba

    sources: dict[str, bytes] = {}
    todo = {module, __name__, f"{__package__}.compiled"}
    ours = f"{__name__.partition('.')[0]}."
    while todo:
        name = todo.pop()
        sources[name] = Path(str(sys.modules[name].__file__)).read_bytes()
        owners = {getattr(value, "__module__", None) for value in vars(sys.modules[name]).values()}
        todo |= {str(owner) for owner in owners if str(owner).startswith(ours)} - sources.keys()
    versions = (sys.version, numba.__version__, llvmlite.__version__)
    return sha256_of(repr((versions, sorted(sources.items()))).encode())[:12]


def _say_once(error: Exception, folders: list[Path], consequence: str) -> None:
    """One warning a process; the rest are details."""
    level = logging.DEBUG if _said else logging.WARNING
    _said.append(True)
    text = "%s: compiled code is not kept (%s); %s. See: python -m sdk doctor"
    log.log(level, text, folders[0], str(error) or type(error).__name__, consequence)


_said: list[bool] = []


def give_torch_a_folder() -> None:
    """Name a folder for PyTorch's compiled code where the usual one cannot be made: its optimisers would not load."""
    try:
        usual = Path(tempfile.gettempdir()) / f"torchinductor_{re.sub(_NO_FILE_NAME, '_', getpass.getuser())}"
        Path(os.environ.get("TORCHINDUCTOR_CACHE_DIR") or usual).mkdir(parents=True, exist_ok=True)
    except (OSError, KeyError) as error:  # KeyError: the account has no name
        folder = tempfile.mkdtemp(prefix="marquee-torch-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = folder
        log.warning("PyTorch's cache folder cannot be made (%s); taking %s for now", error, folder)


@dataclass(frozen=True, slots=True)
class CodeCache:
    """The state of one folder of compiled code.

    Attributes:
        folder: where it is.
        kept: number of files that are whole.
        removed: names of the files that were damaged, or that an earlier release left, and are deleted now.
        problem: why nothing can be read or written there; empty where both can be.
    """

    folder: str
    kept: int
    removed: tuple[str, ...]
    problem: str


def mend() -> list[CodeCache]:
    """Look at the folders that this installation keeps compiled code in; delete files of ours that are damaged."""
    sources = sorted({path.parent for path in _ROOT.rglob("*.py") if "@compiled" in path.read_text("utf-8")})
    return [
        _mended(source, folder)
        for source in sources  # in the folders that hold code, and else in the first one that would be tried
        for folder in [each for each in folders_of(source) if any(_ours(source, each))] or folders_of(source)[:1]
    ]


def _ours(source: Path, folder: Path) -> Iterator[Path]:
    """Files of compiled code in a folder that belong to the modules of a folder of sources."""
    for module in sorted(source.glob("*.py")):
        yield from (path for path in folder.glob(f"{module.stem}.*") if path.suffix in _SUFFIXES)


def _mended(source: Path, folder: Path) -> CodeCache:
    kept, removed, problem = 0, [], _write_problem(folder)
    sweep(folder)
    for path in _ours(source, folder):
        try:
            try:
                _payload(path)
                kept += 1
            except ValueError:
                path.unlink(missing_ok=True)
                removed.append(path.name)
        except OSError as error:
            problem = problem or str(error)
    return CodeCache(str(folder), kept, tuple(removed), problem)


def _write_problem(folder: Path) -> str:
    probe = folder / f"{uuid.uuid4().hex}.tmp"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_file(probe, b"x" * _PROBE_BYTES, durable=False)
        probe.unlink()
    except OSError as error:
        return str(error)
    return ""
