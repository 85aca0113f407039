"""Where the bundled tritonserver lies and what it needs around it."""

from __future__ import annotations

import importlib.util
import os
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

from export.errors import ServerStartError
from sdk.base.errors import how_to_get

_REMEDY = f"Install the server with {how_to_get('server')}; or serve the repository with a Triton of your own."
_NO_BYTECODE = "import sys; sys.dont_write_bytecode = True"  # a line that a .pth file runs


def tritonserver_folder() -> Path:
    """The server's folder inside the nvidia-pytriton wheel.

    Raises:
        ServerStartError: the wheel is not installed.
    """
    spec = importlib.util.find_spec("pytriton")
    folder = Path(spec.origin).parent / "tritonserver" if spec is not None and spec.origin else None
    if folder is None or not (folder / "bin" / "tritonserver").is_file():
        raise ServerStartError(f"no tritonserver here: the package nvidia-pytriton is not installed. {_REMEDY}")
    return folder


def lay_out_backend(home: Path, folder: Path) -> Path:
    """A backend folder for this interpreter's version: links to the wheel's files, no copies.

    Raises:
        ServerStartError: the wheel has no Python backend for this version of Python.
    """
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = home / "python_backend_stubs" / version / "triton_python_backend_stub"
    if not stub.is_file():
        problem = f"the bundled server has no Python backend for Python {version}"
        there = ", ".join(sorted((path.name for path in stub.parent.parent.glob("3.*")), key=lambda v: int(v[2:])))
        remedy = "Serve with one of these, or with a current Triton (docs/serving.md)."
        raise ServerStartError(f"{stub}: {problem}, only for {there}. {remedy}")
    target = folder / "backends" / "python"
    target.mkdir(parents=True)
    for file in (home / "backends" / "python").iterdir():
        (target / file.name).symlink_to(file)
    (target / stub.name).unlink(missing_ok=True)
    (target / stub.name).symlink_to(stub)
    return target.parent


def lay_out_python(folder: Path, python_path: Sequence[str]) -> Path:
    """A virtual environment that imports from exactly the given folders and the standard library.

    The server's Python ignores PYTHONPATH and its like and takes its packages from wherever the first ``python3`` on
    the PATH belongs to; so this one comes first, and it writes no bytecode: a ``__pycache__`` in a version folder would
    change it under the server's eyes.

    Returns:
        The folder to put in front of the PATH.
    """
    environment = folder / "python"
    packages = environment / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    programs = environment / "bin"
    packages.mkdir(parents=True)
    programs.mkdir()
    (packages / "marquee.pth").write_text("".join(f"{line}\n" for line in (*python_path, _NO_BYTECODE)), "utf-8")
    base = Path(sys.base_prefix) / "bin"
    (environment / "pyvenv.cfg").write_text(f"home = {base}\ninclude-system-site-packages = false\n", "utf-8")
    for name in ("python3", "python"):
        (programs / name).symlink_to(os.path.realpath(sys.executable))
    return programs


def environment(home: Path, programs: Path) -> dict[str, str]:
    """The server's environment: its libraries, libpython, and the models' Python.

    Args:
        home: the server's folder.
        programs: what ``lay_out_python`` gave.

    Raises:
        ServerStartError: this interpreter has no shared libpython.
    """
    libraries = [str(home.parent.parent / "nvidia_pytriton.libs"), str(_libpython_folder())]
    inherited = os.environ.get("LD_LIBRARY_PATH", "")
    return {
        **os.environ,
        "PATH": os.pathsep.join([str(programs), os.environ.get("PATH", os.defpath)]),
        "LD_LIBRARY_PATH": os.pathsep.join([*libraries, *filter(None, [inherited])]),
    }


def own_python_path() -> tuple[str, ...]:
    """The folders that this interpreter imports packages from, and the one that holds ``sdk``."""
    here = str(Path(__file__).resolve().parent.parent)
    return tuple(dict.fromkeys([here, sysconfig.get_paths()["purelib"], sysconfig.get_paths()["platlib"]]))


def _libpython_folder() -> Path:
    name = str(sysconfig.get_config_var("INSTSONAME") or "")
    folder = Path(str(sysconfig.get_config_var("LIBDIR") or ""))
    for place in (folder, folder / str(sysconfig.get_config_var("MULTIARCH") or "")):
        if ".so" in name and (place / name).is_file():
            return place
    raise ServerStartError(
        f"{folder}: no shared libpython ({name or 'none'}), which the server's Python backend needs. "
        "Use a Python built with --enable-shared, or install your system's libpython3.11."
    )
