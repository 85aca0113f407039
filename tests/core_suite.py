"""The core suite: the wheel, installed with the newest packages in a fresh environment, and the tests that it can pass.

    python tests/core_suite.py 3.11 3.14     on these Pythons, each in an environment of its own, one after the other
    python tests/core_suite.py --ends        on the oldest and the newest that are there
    python tests/core_suite.py               on the Python that runs it
    python tests/core_suite.py --here        in this environment, into which the wheel is installed

Nothing of Merlin, Dask, matplotlib or a server is installed, and nothing is imported from the checkout. A Python that
is not there is said, and is no failure. Needs the standard library alone. With --lowest each package of the core is the
oldest that pyproject.toml allows; --keep FOLDER leaves the environments there.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
TOOLS = ("pytest>=9", "pytest-xdist>=3.6", "hypothesis>=6", "duckdb>=1", "polars>=1", "pyyaml>=6")
SHIPPED = ("sdk", "export", "batch", "triton_models", "pyproject.toml", "README.md")
BESIDE = ("tests", "examples", "docs", "README.md", "pyproject.toml")
ROOMS = (
    "base/test_arrow_tables.py", "base/test_config.py", "base/test_ids.py", "base/test_stored_arrays.py", "bundles",
    "commands", "data", "export", "features", "machine/test_cluster.py", "machine/test_device.py", "measure", "metrics",
    "models", "nightly/checks", "nightly/gates", "nightly/job", "nightly/run/test_batch_score.py",
    "nightly/run/test_taste.py", "scoring", "training",
)  # fmt: skip
"""What other packages and another Python can break. The rest is of the sources themselves, of shells, of killed and
damaged things, or takes minutes: the whole suite runs it."""
CHOSEN = "not slow and not server and not gpu"


def found_python(version: str) -> str | None:
    """An interpreter of this version: on PATH, of pyenv, or the one that runs this."""
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    of_pyenv = sorted((root / "versions").glob(f"{version}*/bin/python"))
    for candidate in (sys.executable, shutil.which(f"python{version}"), *map(str, reversed(of_pyenv))):
        if candidate and version_of(candidate) == version:
            return candidate
    return None


def version_of(python: str) -> str | None:
    """``3.13``; nothing where it does not run (as a shim of pyenv may) or cannot make an environment."""
    code = "import sys, venv, ensurepip; print('%d.%d' % sys.version_info[:2])"
    done = subprocess.run([python, "-I", "-c", code], capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None


def copy(names: tuple[str, ...], target: Path) -> Path:
    """These files and folders of the checkout, in a folder of their own."""
    for name in names:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, target / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target / name)
    return target


def lowest() -> Iterator[str]:
    """``numpy==1.26`` of ``numpy>=1.26``, for every package of the core."""
    listed = re.search(r"^dependencies = \[(.*?)^\]", (ROOT / "pyproject.toml").read_text("utf-8"), re.M | re.S)
    assert listed
    yield from (text.replace(">=", "==") for text in re.findall(r'"(.+?)"', listed[1]))


def run_here(python: Path | str, work: Path, oldest: bool) -> int:
    """Build the wheel, install it into this interpreter's environment, run the suite there; pytest's exit code."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environment.setdefault("MARQUEE_DATA", str(ROOT.parent / "shared" / "data"))
    pip = [python, "-I", "-m", "pip", "--disable-pip-version-check", "-q"]
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", work, copy(SHIPPED, work / "source")], check=True)
    (wheel,) = work.glob("*.whl")
    subprocess.run([*pip, "install", "--upgrade", wheel, *TOOLS, *(lowest() if oldest else ())], check=True)
    subprocess.run([*pip, "install", "--no-deps", "--force-reinstall", wheel], check=True)  # another of this version
    tests = copy(BESIDE, work / "run")
    chosen = [f"tests/{room}" for room in ROOMS]
    options = ["-q", "-p", "no:cacheprovider", "--durations=20", "-n", "2", "--dist", "worksteal", "-m", CHOSEN]
    pytest = [python, "-m", "pytest", *options, *chosen]
    return subprocess.run(pytest, cwd=tests, env=environment, check=False).returncode


def main() -> int:
    """Run it on each Python that was asked for; 1 where the suite failed on one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("versions", nargs="*", default=[version_of(sys.executable)], help="such as 3.11 3.14")
    parser.add_argument("--ends", action="store_true", help="the oldest and the newest Python that are there")
    parser.add_argument("--here", action="store_true", help="use this environment, which is changed")
    parser.add_argument("--lowest", action="store_true", help="the oldest packages that are allowed")
    parser.add_argument("--keep", type=Path, help="where the environments are left, and found again")
    args = parser.parse_args()
    results: dict[str, str] = {}
    if args.ends:
        results = {version: "not there" for version in PYTHONS if found_python(version) is None}
        there = [version for version in PYTHONS if version not in results]
        args.versions = sorted({there[0], there[-1]})
    for version in args.versions:
        with tempfile.TemporaryDirectory(prefix="marquee-core-") as folder:
            work = Path(folder)
            if args.here:
                python: str | Path | None = sys.executable
            elif python := found_python(version):
                home = (args.keep or work) / f"python{version}"
                if not (home / "bin" / "python").exists():
                    subprocess.run([python, "-I", "-m", "venv", home], check=True)
                python = home / "bin" / "python"
            if python is None:
                results[version] = "not there"
                continue
            start = time.monotonic()
            outcome = "passed" if run_here(python, work, args.lowest) == 0 else "FAILED"
            results[version] = f"{outcome} in {time.monotonic() - start:.0f} s"
    for version, result in results.items():
        print(f"core suite, Python {version}: {result}")
    return int(any("FAILED" in result for result in results.values()))


if __name__ == "__main__":
    sys.exit(main())
