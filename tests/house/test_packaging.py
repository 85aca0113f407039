"""What a downstream pipeline gets: a light import, a complete wheel, a lock that is whole and names no host."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name
from setuptools import find_packages

from sdk.base import __version__
from sdk.commands import doctor

ROOT = Path(__file__).resolve().parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
TOP_LEVEL = ("sdk", "export", "batch", "triton_models")
HEAVY = ("torch", "pandas", "pyarrow", "nvtabular", "merlin", "sklearn", "scipy", "numba", "dask", "matplotlib")
LOCKED_PYTHONS = ("3.11", "3.12", "3.13")
MERLIN_DOES_WITHOUT = {"dask-cuda", "pynvml", "treelite", "treelite-runtime"}
LOCKS = ("night.lock", "requirements.lock", "merlin.lock")
INSTALLERS = {"pip", "setuptools"}


def shipped_files() -> set[str]:
    """Every file of our packages, relative to the project folder."""
    paths = (path for name in TOP_LEVEL for path in (ROOT / name).rglob("*"))
    return {p.relative_to(ROOT).as_posix() for p in paths if p.is_file() and "__pycache__" not in p.parts}


def run_python(*arguments: str, cwd: Path = ROOT, **env: str) -> subprocess.CompletedProcess[str]:
    variables = {**os.environ, "COLUMNS": "80", **env}
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=variables, capture_output=True, text=True, timeout=120, check=False
    )


# import sdk ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("package", ["sdk", "export", "batch"])
def test_importing_a_package_loads_nothing_heavy(package: str) -> None:
    code = f"import {package}, json, sys; print(json.dumps(sorted(sys.modules)))"
    result = run_python("-c", code)
    assert result.returncode == 0, result.stderr
    loaded = {name.split(".")[0] for name in json.loads(result.stdout)}
    assert package in loaded
    assert loaded & set(HEAVY) == set()


def test_import_sdk_takes_under_three_tenths_of_a_second() -> None:
    code = "import time; start = time.process_time(); import sdk; print(time.process_time() - start)"
    seconds = [float(run_python("-c", code).stdout) for _ in range(5)]  # CPU time: a busy machine does not count
    assert min(seconds) < 0.3, f"CPU seconds of five imports: {seconds}"


def test_every_public_name_of_sdk_is_there() -> None:
    import sdk

    for name in sdk.__all__:
        assert getattr(sdk, name) is not None


# the wheel -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy so that nothing is left in the project folder."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in TOP_LEVEL:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "MANIFEST.in"):
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, source / name)
    build = ("-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(target), str(source))
    result = run_python(*build, cwd=target)
    assert result.returncode == 0, result.stderr
    [path] = target.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which the wheel alone is installed."""
    target = tmp_path_factory.mktemp("installed")
    result = run_python("-m", "pip", "install", "--no-deps", "--no-index", "--target", str(target), str(wheel))
    assert result.returncode == 0, result.stderr
    return target


def test_the_wheel_holds_every_file_of_our_packages_and_nothing_else(wheel: Path) -> None:
    inside = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    ours = shipped_files()
    assert ours - inside == set(), "not in the wheel: name them in pyproject.toml, [tool.setuptools.package-data]"
    assert inside - ours == set()
    assert {"sdk/py.typed", "export/py.typed", "batch/py.typed"} <= inside
    assert any(re.fullmatch(r"sdk/data/sample/sample_films/.*\.tsv", name) for name in inside), "no sample films"


def test_every_package_folder_is_listed() -> None:
    folders = {path.parent for name in TOP_LEVEL for path in (ROOT / name).rglob("__init__.py")}
    listed = find_packages(str(ROOT), **PROJECT["tool"]["setuptools"]["packages"]["find"])
    assert sorted(listed) == sorted(folder.relative_to(ROOT).as_posix().replace("/", ".") for folder in folders)


def test_every_module_lies_in_a_package() -> None:
    folders = {path.parent for name in ("sdk", "export", "batch") for path in (ROOT / name).rglob("*.py")}
    assert [str(folder) for folder in folders if not (folder / "__init__.py").exists()] == []


def test_the_installed_packages_are_imported_from_any_folder(installed: Path, tmp_path: Path) -> None:
    code = "import sdk, export, batch; print(sdk.__file__, export.__file__, batch.__file__)"
    result = run_python("-c", code, cwd=tmp_path, PYTHONPATH=str(installed))
    assert result.returncode == 0, result.stderr
    assert [Path(file).parents[1] for file in result.stdout.split()] == [installed] * 3


@pytest.mark.parametrize("module", ["sdk", "export", "batch.score"])
def test_the_installed_commands_run_from_any_folder(installed: Path, tmp_path: Path, module: str) -> None:
    result = run_python("-m", module, "--help", cwd=tmp_path, PYTHONPATH=str(installed))
    assert result.returncode == 0, result.stderr
    assert f"python -m {module}" in result.stdout


def test_what_installs_an_optional_part_fits_a_wheel_and_a_checkout(installed: Path, tmp_path: Path) -> None:
    code = "from sdk.base.errors import how_to_get; print(how_to_get('web'))"
    assert (
        run_python("-c", code, cwd=tmp_path, PYTHONPATH=str(installed)).stdout
        == "pip install 'flask>=3' 'waitress>=3'\n"
    )
    assert run_python("-c", code).stdout == "pip install '.[web]' in the project's folder\n"


def test_the_installed_project_has_one_command_for_all(installed: Path, tmp_path: Path) -> None:
    script = str(installed / "bin" / "marquee")
    listed = run_python(script, "--help", cwd=tmp_path, PYTHONPATH=str(installed))
    assert listed.returncode == 0, listed.stderr
    registered = PROJECT["project"]["entry-points"]["marquee.commands"]
    assert sorted(re.findall(r"^    ([a-z]+) ", listed.stdout, re.M)) == sorted(registered)
    for name in ("train", "score", "export"):
        result = run_python(script, name, "--help", cwd=tmp_path, PYTHONPATH=str(installed))
        assert result.returncode == 0, result.stderr
        assert result.stdout.startswith(f"usage: marquee {name} ")


def test_the_wheel_has_the_name_that_the_doctor_looks_for(wheel: Path) -> None:
    assert PROJECT["project"]["name"] == doctor.DISTRIBUTION != "marquee", "marquee is another project's on PyPI"
    assert wheel.name.split("-")[:2] == [doctor.DISTRIBUTION.replace("-", "_"), __version__]


ADVICE = re.compile(
    r"\bmarquee(-recs)?\[\w"  # an extra
    r"|\b(pip[x3]?|uv|poetry|pdm|conda|mamba)\b[^\n]* (install|add|run)\b[^\n]*"
    r"(?<![/\w.-])marquee(-recs)?(?![\w/.-])"
    r"|^\s*(- )?[\"']?marquee(-recs)?\s*([=<>~!]=|@)"  # a line of requirements
    r"|\b(uvx|pipx run) marquee",
    re.M,
)
"""What would install by name what is not published, or what is another project's."""
UNREAD = {".png", ".gz", ".zip", ".parquet", ".safetensors", ".npz", ".pyc", ".svg", ".woff2"}
OURS = (".ci", ".dockerignore", ".gitignore")  # of what begins with a point


def test_nobody_is_told_to_install_us_by_name() -> None:
    advised, read = [], 0
    for path in texts_of_ours():
        text, read = path.read_text("utf-8", "replace").replace("\\\n", " "), read + 1
        if found := ADVICE.search(text):
            advised.append(f"{path.relative_to(ROOT)}: {found[0]}")
    assert read > 400
    assert advised == [], "say pip install '.[extra]'; in code: sdk.base.errors.how_to_get"


def texts_of_ours() -> Iterator[Path]:
    """Every file of the project that people may read, whatever it is; not the two that quote the old advice."""
    tops = [path for path in ROOT.iterdir() if not path.name.startswith(".") or path.name in OURS]
    for path in (path for top in tops for path in ([top] if top.is_file() else top.rglob("*"))):
        is_text = path.is_file() and path.suffix not in UNREAD and "__pycache__" not in path.parts
        if is_text and path.name not in ("CHANGELOG.md", Path(__file__).name) and path.stat().st_size < 2**20:
            yield path


@pytest.mark.parametrize(
    "text",
    [
        "pip install 'marquee[gcs]'", "pip install -U marquee", "the extra marquee-recs[s3]",
        "pip3 install marquee-recs", "python -m pip install --user marquee==0.1", "uv pip install marquee",
        "uv add marquee", "pipx install marquee",
        "uv tool install marquee", "pipx run marquee", "uvx marquee train", "poetry add 'marquee'",
        "conda install marquee", "  - marquee>=0.1", "marquee-recs==0.1.0", '"marquee ~= 0.1",',
    ],
)  # fmt: skip
def test_old_advice_is_recognised(text: str) -> None:
    assert ADVICE.search(text)


@pytest.mark.parametrize(
    "text",
    [
        "pip install '.[gcs]'", "pip install . in marquee/", "pip install marquee_recs-0.1.0-py3-none-any.whl",
        "pip install ./dist/marquee-recs.whl", "pip install /srv/marquee", "marquee train --sample",
    ],
)  # fmt: skip
def test_advice_that_installs_what_we_ship_is_let_be(text: str) -> None:
    assert not ADVICE.search(text)


def test_every_extra_that_is_advised_exists() -> None:
    advised = re.compile(r"pip install '\.\[(\w+)\]'|how_to_get\([\"'](\w+)[\"']\)")
    paths = [*ROOT.glob("*.md"), *(p for name in (*TOP_LEVEL, "docs") for p in (ROOT / name).rglob("*.*"))]
    texts = [p.read_text("utf-8") for p in paths if p.suffix in (".py", ".md") and p.name != "CHANGELOG.md"]
    extras = {one or other for text in texts for one, other in advised.findall(text)}
    assert {"onnx", "server", "tensorflow", "tune", "compare"} <= extras
    assert extras <= set(PROJECT["project"]["optional-dependencies"]) | {"merlin"}


# the lock ------------------------------------------------------------------------------------------------------------


def lock_lines(*files: str) -> list[str]:
    lines = [line for file in files for line in (ROOT / file).read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if line and not line.startswith(("#", "-r "))]


MERLIN_NEEDS = [*lock_lines("merlin.lock"), "merlin-models[pytorch]", "nvidia-ml-py"]  # the last has pynvml's module
MERLIN = {canonicalize_name(Requirement(line).name) for line in lock_lines("merlin.lock")}


def lock(python: str, *files: str) -> dict[NormalizedName, str]:
    """Package to version, as locked for a Python version: in these files, or in all."""
    pins = [Requirement(line) for line in lock_lines(*(files or LOCKS))]
    chosen = [pin for pin in pins if pin.marker is None or pin.marker.evaluate({"python_version": python})]
    versions = {canonicalize_name(pin.name): str(pin.specifier).removeprefix("==") for pin in chosen}
    assert len(versions) == len(chosen), "a package is locked twice"
    return versions


def wanted() -> list[Requirement]:
    """What pyproject.toml asks for, with the extras that the locks cover, and Merlin."""
    extras = PROJECT["project"]["optional-dependencies"]
    covered = [text for extra in ("dask", "plots", "server", "dev") for text in extras[extra]]
    return [Requirement(text) for text in [*PROJECT["project"]["dependencies"], *covered, *MERLIN_NEEDS]]


def needed(package: NormalizedName, extras: set[str]) -> set[tuple[NormalizedName, frozenset[str]]]:
    """What an installed package needs here, each with the extras asked for."""
    requirements = [Requirement(text) for text in importlib.metadata.requires(package) or []]
    return {
        (canonicalize_name(r.name), frozenset(r.extras))
        for r in requirements
        if r.marker is None or any(r.marker.evaluate({"extra": extra}) for extra in ("", *extras))
        if package not in MERLIN or canonicalize_name(r.name) not in MERLIN_DOES_WITHOUT
    }


def closure(wanted: Iterable[Requirement]) -> set[NormalizedName]:
    """All that these lead to. What torch alone needs is left to torch: it differs by machine."""
    todo = {(canonicalize_name(r.name), frozenset(r.extras)) for r in wanted}
    done: set[tuple[NormalizedName, frozenset[str]]] = set()
    while todo - done:
        package, extras = (todo - done).pop()
        done.add((package, extras))
        more = needed(package, set(extras))
        todo |= {n for n in more if not (package == "torch" and n[0].startswith(("nvidia-", "cuda-", "triton")))}
    return {package for package, _ in done}


def test_every_line_of_the_lock_pins_one_version_and_names_no_place() -> None:
    pin = re.compile(r'[a-z0-9-]+==[0-9][0-9a-z.]*(; python_version (>=|<) "3\.12")?')
    assert [line for line in lock_lines(*LOCKS) if not pin.fullmatch(line)] == []


@pytest.mark.parametrize("python", LOCKED_PYTHONS)
def test_the_lock_satisfies_pyproject(python: str) -> None:
    versions = lock(python)
    for requirement in wanted():
        version = versions[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version, prereleases=True), f"{requirement} but locked {version}"


def test_the_lock_holds_exactly_what_pyproject_leads_to() -> None:
    names = set(lock(".".join(map(str, sys.version_info[:2]))))
    assert closure(wanted()) - names - INSTALLERS == set(), "needed, not locked"
    assert names - closure(wanted()) - INSTALLERS == set(), "locked, not needed"


def test_a_night_gets_what_the_project_asks_for_with_charts_and_the_web_app() -> None:
    extras = PROJECT["project"]["optional-dependencies"]
    asked = [Requirement(text) for text in [*PROJECT["project"]["dependencies"], *extras["plots"], *extras["web"]]]
    assert (
        lock(".".join(map(str, sys.version_info[:2])), "night.lock").keys() - INSTALLERS == closure(asked) - INSTALLERS
    )


@pytest.mark.parametrize("image", ["schedulers", "web_app"])
def test_an_image_gets_the_locks_versions_of_what_a_night_needs(image: str) -> None:
    """Not as constraints: the lock takes newer packages than tritonclient's extras allow, and pip would refuse."""
    lines = (ROOT / "examples" / image / "Dockerfile").read_text("utf-8")
    assert "COPY night.lock pyproject.toml README.md ./" in lines
    assert "pip install -r night.lock" in lines.replace("--no-cache-dir ", "")
    assert "--constraint" not in lines
    assert "!night.lock" in (ROOT / ".dockerignore").read_text("utf-8").splitlines()


def test_the_lock_is_what_is_installed_here() -> None:
    for name, version in lock(".".join(map(str, sys.version_info[:2]))).items():
        found = importlib.metadata.version(name).split("+")[0]  # torch 2.13.0+cpu is 2.13.0 for the lock
        assert found == version, f"{name}: locked {version}, installed {found}; run make setup"


def test_the_declared_pythons_are_the_locked_ones() -> None:
    allowed = Requirement(f"python{PROJECT['project']['requires-python']}").specifier
    assert [v for v in (f"3.{minor}" for minor in range(8, 14)) if allowed.contains(v)] == list(LOCKED_PYTHONS)


@pytest.mark.parametrize("name", ["Makefile", "setup.sh", ".ci/run", "pyproject.toml", *LOCKS])
def test_the_set_up_names_no_host_and_no_private_path(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    assert (
        re.findall(r"\w+://\S+|--(?:extra-)?index-url|--find-links|pypi\.\S+|/(?:root|home|work|opt)/\S+", text) == []
    )
