"""setup.sh, the Makefile and .ci/run, driven with a Python that notes what it is asked to do instead of doing it."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOOLS = (
    "sh", "dirname", "cat", "cp", "date", "rm", "rmdir", "mkdir", "sed", "awk", "make", "env", "grep", "tail",
    "bash", "mktemp", "timeout",
)  # fmt: skip
RECORDER = """#!/bin/sh
root={root}
echo "$*" >>"$root/calls"
case "$*" in
    *"-m venv "*)
        for last; do :; done
        mkdir -p "$last/bin"
        : >"$last/pyvenv.cfg"
        cp "$root/recorder" "$last/bin/python" ;;
    *"-m pip --version"*) echo "pip $(cat "$root/pip_version") from somewhere (python 3.11)" ;;
    *"-m pip install"*)
        [ ! -p "$root/slow" ] || {{ read -r _ <"$root/slow"; rm "$root/slow"; }}
        [ ! -e "$root/no_network" ] ;;
    *core_suite.py*) echo "core suite, Python 3.11: $(cat "$root/core_outcome")"; grep -q passed "$root/core_outcome" ;;
    *"-m pytest"*) env >"$root/env"; cat "$root/closing"; exit "$(cat "$root/pytest_code")" ;;
    *"-m sdk doctor"*) [ ! -e "$root/no_compiler" ] ;;
    "-m "*) ;;
    *) exec {python} "$@" ;;
esac
"""


class Project:
    """A folder with the real set-up files, a recording Python, and a PATH that holds nothing else."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = root / "project"
        self.bin = root / "bin"
        shutil.copytree(ROOT / ".ci", self.folder / ".ci")
        for name in ("setup.sh", "Makefile", "night.lock", "requirements.lock", "merlin.lock", "pyproject.toml"):
            shutil.copy(ROOT / name, self.folder / name)
        self.bin.mkdir()
        for tool in TOOLS:
            found = shutil.which(tool)
            assert found, f"this test needs {tool}"
            (self.bin / tool).symlink_to(found)
        self.executable("recorder", RECORDER.format(root=root, python=sys.executable))
        self.write(pip_version="23.2.1", closing="===== 3 passed in 0.01s =====\n", pytest_code="0")
        self.write(core_outcome="passed")

    def executable(self, name: str, text: str) -> Path:
        path = self.root / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return path

    def write(self, **texts: str) -> None:
        for name, text in texts.items():
            (self.root / name).write_text(text)

    def python_on_path(self) -> None:
        (self.bin / "python3.12").symlink_to(self.root / "recorder")

    def run(self, *command: str, **env: str) -> subprocess.CompletedProcess[str]:
        variables = {"PATH": str(self.bin), "HOME": str(self.root), **env}
        return subprocess.run(
            command, cwd=self.folder, env=variables, capture_output=True, text=True, timeout=60, check=False
        )

    def setup(self, **env: str) -> subprocess.CompletedProcess[str]:
        return self.run("sh", "setup.sh", **env)

    def calls(self) -> list[str]:
        """The interesting calls since the last time, and forget them."""
        notes = self.root / "calls"
        lines = notes.read_text().splitlines() if notes.exists() else []
        notes.unlink(missing_ok=True)
        return [line.removeprefix("-I ") for line in lines if "-m " in line and "--version" not in line]


SITE = sysconfig.get_path("purelib")  # of the Python that answers for the recorder
VENV = "-m venv .venv"
PIP = "-m pip install -qq --disable-pip-version-check --no-compile"
LOCK = f"{PIP} -r requirements.lock"
NVTABULAR = f"{PIP} --no-deps --only-binary=:all: --python-version 3.11 --target {SITE} nvtabular==23.8.0"
MERLIN = f"{PIP} --no-deps --no-build-isolation -r merlin.lock"
PACKAGES = [LOCK, NVTABULAR, MERLIN]
SELF = f"{PIP} --no-deps --no-build-isolation -e ."
WARM = "-m sdk doctor --warm-up"
NIGHT = f"{PIP} -r night.lock"


@pytest.fixture
def bare(tmp_path: Path) -> Project:
    return Project(tmp_path)


@pytest.fixture
def project(bare: Project) -> Project:
    bare.python_on_path()
    return bare


def test_a_fresh_folder_gets_an_environment_the_lock_and_the_project(project: Project) -> None:
    assert project.setup().returncode == 0
    assert project.calls() == [VENV, *PACKAGES, SELF, WARM]


def test_a_night_gets_what_it_needs_and_make_test_adds_the_rest(project: Project) -> None:
    first = project.run("make", "nightly")
    assert (first.returncode, project.calls()[:4]) == (0, [VENV, NIGHT, SELF, WARM])
    (said,) = [line for line in first.stderr.splitlines() if "installing" in line]
    assert all(word in said for word in ("what a night needs", "74 packages", "minutes", "6 GB", "torch", "make test"))
    assert project.run("sh", "setup.sh", "--night").stderr == ""
    kept = project.folder / ".venv" / "kept"
    kept.touch()
    assert project.run("make", "test").returncode == 0
    assert project.calls()[:5] == [*PACKAGES, SELF, WARM]
    assert kept.exists(), "the environment is completed, not made again"
    again = project.run("sh", "setup.sh", "--night")
    assert (again.returncode, again.stderr, project.setup().stderr, project.calls()) == (0, "", "", [])


def test_on_a_terminal_a_clock_shows_that_pip_works(project: Project) -> None:
    """pip ends once the clock has struck: the second sleep lets it, and ends the clock."""
    os.mkfifo(project.root / "slow")
    text = f'#!/bin/sh\n[ -e "{project.root}/slept" ] || {{ : >"{project.root}/slept"; exit 0; }}\n'
    project.executable("bin/sleep", f'{text}[ ! -p "{project.root}/slow" ] || echo on >"{project.root}/slow"\nexit 1\n')
    ours, theirs = os.openpty()
    environment = {"PATH": str(project.bin), "HOME": str(project.root)}
    done = subprocess.run(
        ["sh", "setup.sh"], cwd=project.folder, env=environment, stderr=theirs, timeout=60, check=False
    )
    said = os.read(ours, 65536).decode()
    os.close(ours)
    os.close(theirs)
    assert done.returncode == 0
    assert "\rsetup: 5 s " in said
    assert "\rsetup: compiling" in said
    assert project.setup().stderr == ""


def test_what_has_everything_serves_a_night_as_it_is(project: Project) -> None:
    project.setup()
    project.calls()
    assert project.run("sh", "setup.sh", "--night").stderr == ""
    assert project.calls() == []
    with (project.folder / "pyproject.toml").open("a") as file:
        file.write("# changed\n")
    assert project.run("sh", "setup.sh", "--night").returncode == 0
    assert project.calls() == [SELF, WARM]
    assert project.setup().stderr == ""


@pytest.mark.parametrize(
    "changed", ["night.lock", "requirements.lock", "merlin.lock", "pyproject.toml", "moved", "broken off"]
)
@pytest.mark.parametrize("had", [[], ["--night"]], ids=["all", "night"])
def test_a_night_is_made_of_the_present_locks(project: Project, changed: str, had: list[str]) -> None:
    project.run("sh", "setup.sh", *had)
    project.calls()
    if changed == "moved":
        project.folder = project.folder.rename(project.root / "moved")
    elif changed == "broken off":
        (project.folder / ".venv" / ".installing").touch()
    else:
        with (project.folder / changed).open("a") as file:
            file.write("# changed\n")
    assert project.run("sh", "setup.sh", "--night").returncode == 0
    assert project.calls() == ([SELF, WARM] if changed == "pyproject.toml" else [VENV, NIGHT, SELF, WARM])
    assert project.run("sh", "setup.sh", "--night").stderr == ""


def test_what_cannot_be_compiled_ahead_never_fails_a_set_up(project: Project) -> None:
    project.write(no_compiler="")
    result = project.setup()
    assert (result.returncode, project.calls()) == (0, [VENV, *PACKAGES, SELF, WARM])
    assert "could not compile ahead; the first list will" in result.stderr


def test_a_second_run_installs_nothing_and_says_nothing(project: Project) -> None:
    project.setup()
    project.calls()
    again = project.setup()
    assert (again.returncode, again.stdout, again.stderr, project.calls()) == (0, "", "", [])


@pytest.mark.parametrize(
    ("changed", "calls"),
    [
        ("night.lock", [VENV, *PACKAGES, SELF, WARM]),
        ("requirements.lock", [VENV, *PACKAGES, SELF, WARM]),
        ("merlin.lock", [VENV, *PACKAGES, SELF, WARM]),
        ("pyproject.toml", [SELF, WARM]),
    ],
)
def test_a_changed_lock_makes_a_new_environment_and_a_changed_pyproject_does_not(
    project: Project, changed: str, calls: list[str]
) -> None:
    project.setup()
    project.calls()
    with (project.folder / changed).open("a") as file:
        file.write("# changed\n")
    assert project.setup().returncode == 0
    assert project.calls() == calls
    assert len(list((project.folder / ".venv").glob(".installed-*"))) == 1


def test_an_installation_that_was_broken_off_is_started_afresh(project: Project) -> None:
    project.write(no_network="")
    assert project.setup().returncode != 0
    assert project.calls() == [VENV, LOCK]
    (project.root / "no_network").unlink()
    leftover = project.folder / ".venv" / "half_a_package"
    leftover.touch()
    repaired = project.setup()
    assert (repaired.returncode, project.calls()) == (0, [VENV, *PACKAGES, SELF, WARM])
    assert "starting afresh" in repaired.stderr
    assert not leftover.exists()


def test_two_installations_at_once_do_not_meet(project: Project) -> None:
    project.setup()
    (project.folder / ".venv" / ".installing").write_text(str(os.getpid()))  # this process is alive
    project.calls()
    second = project.setup()
    assert second.returncode == 1
    assert f"process {os.getpid()} is installing" in second.stderr
    assert project.calls() == []


def test_a_moved_folder_is_installed_again(project: Project) -> None:
    project.setup()
    project.calls()
    project.folder = project.folder.rename(project.root / "moved")
    assert project.setup().returncode == 0
    assert project.calls() == [VENV, *PACKAGES, SELF, WARM]


def test_a_folder_that_is_no_environment_is_left_alone(project: Project) -> None:
    precious = project.folder / "precious" / "thesis.txt"
    precious.parent.mkdir()
    precious.touch()
    result = project.setup(MARQUEE_VENV="precious")
    assert (result.returncode, len(result.stderr.splitlines())) == (1, 1)
    assert "precious is in the way" in result.stderr
    assert precious.exists()


def environment(folder: Path, recorder: Path | None) -> Path:
    """Somebody's own environment, of a Python that fits (the recorder) or of one that does not."""
    (folder / "bin").mkdir(parents=True)
    (folder / "pyvenv.cfg").touch()
    (folder / "thesis.txt").write_text("precious")
    (folder / "bin" / "python").symlink_to(recorder or "/no/such/python2")
    return folder


def everything_in(folder: Path) -> list[str]:
    return sorted(str(path) for path in folder.rglob("*"))


@pytest.mark.parametrize(
    "command", [("sh", "setup.sh"), ("make", "setup"), ("make", "clean"), ("sh", "setup.sh", "--clean")]
)
@pytest.mark.parametrize("fits", [True, False])
@pytest.mark.parametrize("named", ["by its path", "from the project", "by a link", "as .venv", "with spaces"])
def test_somebody_elses_environment_is_refused(
    project: Project, command: tuple[str, ...], fits: bool, named: str
) -> None:
    place = {"as .venv": project.folder / ".venv", "with spaces": project.root / "my own venv"}.get(named)
    theirs = environment(place or project.root / "theirs", project.root / "recorder" if fits else None)
    (project.root / "link").symlink_to(theirs)
    before = everything_in(theirs)
    value = {"from the project": "../theirs", "by a link": str(project.root / "link"), "as .venv": ""}.get(named)
    result = project.run(*command, MARQUEE_VENV=str(theirs) if value is None else value)
    assert result.returncode != 0
    assert "a virtual environment that this script did not make; move it, or set MARQUEE_VENV" in result.stderr
    assert everything_in(theirs) == before
    assert project.calls() == []


@pytest.mark.parametrize("named", ["/", ".", "..", "./", "file", "Makefile", "bin/", "dangling", "-e"])
def test_a_place_that_is_no_environment_is_refused(project: Project, named: str) -> None:
    (project.folder / "file").write_text("precious")
    (project.folder / "-e").write_text("precious")
    (project.folder / "bin").mkdir()
    (project.folder / "bin" / "precious").touch()
    (project.folder / "dangling").symlink_to("nowhere")
    before = everything_in(project.root)
    for command in (["sh", "setup.sh"], ["make", "clean"]):
        result = project.run(*command, MARQUEE_VENV=named)
        assert result.returncode != 0
        assert "is in the way" in result.stderr
    assert [path for path in everything_in(project.root) if path != str(project.root / "calls")] == before


@pytest.mark.parametrize("named", ["my venv", "deep/er/venv", "./venv", "-venv", "venv/", "empty", "link"])
def test_an_environment_of_its_own_is_made_kept_and_deleted_anywhere(project: Project, named: str) -> None:
    (project.folder / "empty").mkdir()
    (project.root / "elsewhere").mkdir()
    (project.folder / "link").symlink_to(project.root / "elsewhere")
    assert project.setup(MARQUEE_VENV=named).returncode == 0
    assert len(project.calls()) == 3 + len(PACKAGES)
    assert project.setup(MARQUEE_VENV=named).returncode == 0
    assert project.run("make", "setup", MARQUEE_VENV=named).returncode == 0
    assert project.calls() == []
    assert project.run("make", "clean", MARQUEE_VENV=named).returncode == 0
    assert not os.path.lexists(project.folder / named)


def test_an_environment_of_another_copy_of_the_project_stays_its_own(project: Project) -> None:
    shared = str(project.root / "shared")
    assert project.setup(MARQUEE_VENV=shared).returncode == 0
    first, project.folder = project.folder, Path(shutil.copytree(project.folder, project.root / "copy"))
    before = everything_in(Path(shared))
    refused = project.setup(MARQUEE_VENV=shared)
    assert refused.returncode == 1
    assert f"is the environment of the project in {first}" in refused.stderr
    assert everything_in(Path(shared)) == before
    first.rename(project.root / "gone")
    assert project.setup(MARQUEE_VENV=shared).returncode == 0, "a project that moved has its environment made again"


def test_a_copy_of_the_project_makes_its_own_environment_again(project: Project) -> None:
    project.setup()
    project.calls()
    project.folder = Path(shutil.copytree(project.folder, project.root / "copy"))
    assert project.setup().returncode == 0
    assert project.calls() == [VENV, *PACKAGES, SELF, WARM]


def test_clean_keeps_what_is_not_its_own(project: Project) -> None:
    project.setup()
    for name in ("build", "dist", "bundle", "nightly"):
        (project.folder / name).mkdir()
        (project.folder / name / "precious").touch()
    assert project.run("make", "clean").returncode == 0
    assert not (project.folder / ".venv").exists()
    assert len(list(project.folder.glob("*/precious"))) == 4
    assert project.run("make", "clean").returncode == 0


def test_no_fitting_python_is_one_clear_line(bare: Project) -> None:
    result = bare.setup()
    assert (result.returncode, result.stdout) == (1, "")
    assert len(result.stderr.splitlines()) == 1
    assert "no Python 3.11, 3.12 or 3.13" in result.stderr
    assert "PYTHON=" in result.stderr
    assert not (bare.folder / ".venv").exists()


def test_pythons_that_do_not_fit_are_named_with_the_reason(bare: Project) -> None:
    bare.executable("bin/python3.11", "#!/bin/sh\nexit 127\n")
    bare.executable("bin/python3", "#!/bin/sh\ncase $3 in *ensurepip,*) exit 1;; esac\necho 'Python 3.9'\n")
    said = bare.setup().stderr
    assert len(said.splitlines()) == 1
    assert f"{bare.bin}/python3.11 is there: does not run; {bare.bin}/python3 is there: Python 3.9." in said
    chosen = bare.setup(PYTHON=str(bare.bin / "python3")).stderr
    assert "no Python 3.11, 3.12 or 3.13 that can make a virtual environment (Python 3.9); name another." in chosen


def test_make_passes_on_the_clear_line(bare: Project) -> None:
    result = bare.run("make", "nightly")
    assert result.returncode == 2
    assert result.stderr.splitlines()[0].startswith("setup: no Python 3.11, 3.12 or 3.13")


@pytest.mark.parametrize("unfit", ["exit 127", "exit 1", "echo 'command not found' >&2; exit 127"])
def test_a_python_that_does_not_run_or_does_not_fit_is_passed_over(bare: Project, unfit: str) -> None:
    shims = bare.executable("shims/python3.12", f"#!/bin/sh\n{unfit}\n").parent
    bare.python_on_path()
    result = bare.setup(PATH=f"{shims}:{bare.bin}")
    assert result.returncode == 0
    assert f"with {bare.bin}/python3.12" in result.stderr
    assert "command not found" not in result.stderr


def test_a_python_of_pyenv_that_is_not_on_the_path_is_found(bare: Project) -> None:
    folder = bare.root / ".pyenv" / "versions" / "3.11.7" / "bin"
    folder.mkdir(parents=True)
    (folder / "python").symlink_to(bare.root / "recorder")
    result = bare.setup()
    assert (result.returncode, bare.calls()) == (0, [VENV, *PACKAGES, SELF, WARM])


def test_the_newest_python_wins_wherever_it_is(bare: Project) -> None:
    bare.python_on_path()
    folder = bare.root / ".pyenv" / "versions" / "3.13.0" / "bin"
    folder.mkdir(parents=True)
    (folder / "python").symlink_to(bare.root / "recorder")
    assert f"with {folder}/python" in bare.setup().stderr
    assert bare.run("sh", "setup.sh", "--clean").returncode == 0
    (folder / "python").unlink()
    assert f"with {bare.bin}/python3.12" in bare.setup().stderr


def test_a_named_python_is_used_and_an_unfit_one_refused(project: Project) -> None:
    unfit = project.executable("python2", "#!/bin/sh\nexit 1\n")
    refused = project.setup(PYTHON=str(unfit))
    assert (refused.returncode, len(refused.stderr.splitlines())) == (1, 1)
    assert str(unfit) in refused.stderr
    taken = project.run("make", "setup", f"PYTHON={project.root / 'recorder'}")
    assert f"with {project.root / 'recorder'}" in taken.stderr


@pytest.mark.parametrize(("version", "replaced"), [("23.2.1", False), ("25.3", False), ("26.0", True)])
def test_only_a_pip_that_refuses_merlin_is_replaced(project: Project, version: str, replaced: bool) -> None:
    project.write(pip_version=version)
    project.setup()
    assert ("-m pip install -qq pip<26" in project.calls()) == replaced


def test_nightly_trains_once_then_scores_and_shows(project: Project) -> None:
    project.setup()
    project.calls()
    assert project.run("make", "nightly", "RUN_DATE=2026-11-23").returncode == 0
    score = "-m batch.score --bundle bundle --out nightly --run-date 2026-11-23"
    taste = "-m batch.taste --bundle bundle --out nightly"
    assert project.calls() == ["-m sdk train --sample --out bundle", score, taste]
    (project.folder / "bundle").mkdir()
    (project.folder / "bundle" / "bundle.json").touch()
    project.run("make", "nightly", "RUN_DATE=2026-11-23")
    assert project.calls() == [score, taste]


def test_test_checks_style_and_types_before_it_runs_the_suite(project: Project) -> None:
    project.setup()
    project.calls()
    assert project.run("make", "test").returncode == 0
    checks = ["-m ruff check .", "-m ruff format --check .", "-m mypy"]
    assert project.calls() == [*checks, "-m pytest -n 2 --dist worksteal"]


def test_make_alone_lists_every_target(bare: Project) -> None:
    listed = [line.split()[:2] for line in bare.run("make").stdout.splitlines()]
    assert listed == [["make", name] for name in ("help", "setup", "nightly", "test", "clean")]


@pytest.mark.parametrize(("code", "core"), [(0, "passed"), (1, "passed"), (0, "FAILED")])
def test_ci_runs_the_tests_elsewhere_and_passes_on_codes_and_closing_lines(
    project: Project, code: int, core: str
) -> None:
    closing = "===== 1 failed, 2 passed in 0.02s =====" if code else "===== 3 passed in 0.01s ====="
    project.write(pytest_code=str(code), closing=f"tests ...\n{closing}\n", core_outcome=core)
    result = project.run(".ci/run", PYTHONPATH="/elsewhere", VIRTUAL_ENV="/elsewhere", OMP_NUM_THREADS="7")
    assert (result.returncode == 0) == (code == 0 and core == "passed")
    outcome, times, last = result.stdout.splitlines()[-3:]
    assert (outcome, last) == (f"core suite, Python 3.11: {core}", closing)
    assert re.fullmatch(r"\.ci/run: set-up: \d+ s, style, types and tests: \d+ s, core suite: \d+ s", times)
    seen = (project.root / "env").read_text()
    assert not any(name in seen for name in ("PYTHONPATH", "VIRTUAL_ENV", "OMP_NUM_THREADS"))
    assert not (project.folder / ".venv").exists()


def test_ci_says_so_when_the_tests_never_began(bare: Project) -> None:
    result = bare.run(".ci/run")
    assert result.returncode == 2
    assert result.stdout.splitlines()[-1] == ".ci/run: make test ended before pytest (exit code 2)"
