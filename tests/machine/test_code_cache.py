"""Kept machine code is a convenience: whatever is wrong with it, lists come out as before and one line says so."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCORE = """
import logging, numpy as np
logging.basicConfig(format="%(message)s")
from sdk.scoring.selection import keep_largest
keys = np.array([3, 9, 1, 7], np.uint64)
keep_largest(keys, 4, 2)
print(sorted(keys[:2].tolist()), list(keep_largest.stats.cache_hits.values()))
"""


def score(cache: Path, **env: str) -> tuple[str, list[str]]:
    """What a fresh process finds, with the number of functions it took from the cache; and the lines that it logs."""
    variables = {**os.environ, "NUMBA_CACHE_DIR": str(cache), "HOME": str(cache.parent), **env}
    done = subprocess.run([sys.executable, "-c", SCORE], cwd=ROOT, env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip(), done.stderr.splitlines()


def kept(cache: Path) -> list[Path]:
    return [path for path in cache.rglob("*") if path.is_file()]


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    cache = tmp_path_factory.mktemp("filled") / "cache"
    assert score(cache) == ("[7, 9] []", [])
    assert score(cache) == ("[7, 9] [1]", []), "the second process compiles nothing"
    return cache


def test_what_waits_for_the_compiler_is_told_so_once(tmp_path: Path) -> None:
    """A fresh installation's first night stood at 0 % for as long as it compiled, without a word."""
    told = f"import sdk.machine.code_cache as kept\nkept.hold_up = lambda words: print(repr(words))\n{SCORE}"
    env = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    runs = [
        subprocess.run([sys.executable, "-c", told], cwd=ROOT, env=env, capture_output=True, text=True, check=True)
        for _ in range(2)
    ]
    words = [run.stdout.splitlines()[:-1] for run in runs]
    assert (set(words[0]), words[0][0], words[0][-1]) == ({"'compiling, once'", "''"}, "'compiling, once'", "''")
    assert words[1] == []


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)


DAMAGES = {
    "no bytes": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "one byte": flipped,
    "garbage": lambda path: path.write_bytes(b"\x80\x05garbage"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_files_are_compiled_again_and_replaced(filled: Path, tmp_path: Path, damage: str) -> None:
    cache = shutil.copytree(filled, tmp_path / "cache")
    for path in kept(cache):
        DAMAGES[damage](path)
    found, lines = score(cache)
    assert found == "[7, 9] []"
    assert len(lines) == 1
    assert str(cache) in lines[0]
    assert "sdk doctor" in lines[0]
    assert score(cache) == ("[7, 9] [1]", [])


def test_a_folder_in_a_files_place_is_no_reason_to_fail(filled: Path, tmp_path: Path) -> None:
    cache = shutil.copytree(filled, tmp_path / "cache")
    for path in kept(cache):
        path.unlink()
        path.mkdir()
    found, lines = score(cache)
    assert (found, len(lines)) == ("[7, 9] []", 1)


@pytest.mark.parametrize("place", ["a file", "below a file", "/proc/nowhere", "/dev/full"])
def test_without_a_folder_it_compiles_in_memory(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    folder = {"a file": tmp_path / "file", "below a file": tmp_path / "file" / "below"}.get(place, Path(place))
    found, lines = score(folder, HOME=str(tmp_path))
    assert (found, len(lines)) == ("[7, 9] []", 1)
    assert str(folder) in lines[0]
    assert "not kept" in lines[0]


def test_a_full_disk_is_no_reason_to_fail(tmp_path: Path) -> None:
    """As on a full disk, files can be made there but hold nothing: no more than 0 bytes each."""
    import_resource = "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)"
    limited = f"{import_resource}\nresource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n{SCORE}"
    env = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    done = subprocess.run([sys.executable, "-c", limited], cwd=ROOT, env=env, capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, "[7, 9] []")
    assert len(done.stderr.splitlines()) == 1
    assert kept(tmp_path) == [], "nothing half written is left"


def test_two_processes_at_once_leave_whole_files(tmp_path: Path) -> None:
    """Both are told to go when both have imported everything, so that both compile, or the later finds the file."""
    env = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    told = SCORE.replace("keys = ", "import sys; print('here', flush=True); sys.stdin.readline()\nkeys = ", 1)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    both = [subprocess.Popen([sys.executable, "-c", told], cwd=ROOT, env=env, **pipes) for _ in range(2)]
    assert [one.stdout.readline() for one in both if one.stdout] == ["here\n"] * 2
    for one in both:
        assert one.stdin is not None
        one.stdin.write("go\n")
        one.stdin.flush()
    ended = sorted((*one.communicate(), one.returncode) for one in both)
    assert "[7, 9] []\n" in {out for out, *_ in ended} <= {"[7, 9] []\n", "[7, 9] [1]\n"}
    assert [rest for _, *rest in ended] == [["", 0]] * 2
    assert score(tmp_path / "cache") == ("[7, 9] [1]", [])


def test_another_processor_and_other_sources_have_files_of_their_own(filled: Path, tmp_path: Path) -> None:
    cache = shutil.copytree(filled, tmp_path / "cache")
    assert score(cache, NUMBA_CPU_NAME="generic", NUMBA_CPU_FEATURES="") == ("[7, 9] []", [])
    assert score(cache) == ("[7, 9] [1]", [])
    project = tmp_path / "project"
    shutil.copytree(ROOT / "sdk", project / "sdk", ignore=shutil.ignore_patterns("__pycache__"))
    with (project / "sdk" / "scoring" / "kernels.py").open("a") as file:
        file.write("# another release: selection.py itself is as before, what it is built on is not\n")
    for path in (cache / folder.name for folder in cache.iterdir()):
        shutil.copytree(path, project / "sdk" / "scoring" / "__pycache__")
    env = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"}
    done = subprocess.run(
        [sys.executable, "-c", SCORE],
        cwd=project,
        env=env | {"PYTHONPATH": str(project)},
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == "[7, 9] []", done.stderr


def test_the_doctor_deletes_what_is_damaged_and_nothing_else(filled: Path, tmp_path: Path) -> None:
    cache = shutil.copytree(filled, tmp_path / "cache")
    (good,) = kept(cache)
    bad = good.with_name(f"selection.clean{good.name.removeprefix('selection.keep_largest')}")
    bad.write_bytes(b"")
    left_by_numba, theirs = bad.with_name("selection.clean-71.py311.nbi"), bad.with_name("somebody.else.nbc")
    left_by_numba.touch()
    theirs.touch()
    env = {**os.environ, "NUMBA_CACHE_DIR": str(cache)}
    run = [sys.executable, "-m", "sdk", "doctor", "--json"]
    done = subprocess.run(run, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (found,) = [one for one in json.loads(done.stdout)["compiled_code"] if one["folder"] == str(good.parent)]
    assert sorted(found["removed"]) == sorted([bad.name, left_by_numba.name])
    assert (found["kept"], found["problem"]) == (len(kept(cache)) - 1, "")
    assert not bad.exists()
    assert theirs.exists()


def test_the_doctor_says_where_nothing_can_be_kept(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    env = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "file")}
    done = subprocess.run([sys.executable, "-m", "sdk", "doctor"], cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, "lists come all the same"
    assert f"'{tmp_path / 'file'}" in done.stdout
    assert "NUMBA_CACHE_DIR" in done.stdout


TRAIN = """
import sys, warnings
sys.path[:0] = ["tests/helpers"]
from small import dataset, run_config
import sdk
sdk.train(dataset(), run_config(models=("ncf",)), sys.argv[1])
"""


def test_no_librarys_cache_ends_a_training(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    names = ("NUMBA_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "MPLCONFIGDIR", "XDG_CACHE_HOME", "HOME")
    env = {**os.environ, **dict.fromkeys(names, str(tmp_path / "file" / "below"))}
    run = [sys.executable, "-c", TRAIN, str(tmp_path / "bundle")]
    done = subprocess.run(run, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "bundle" / "bundle.json").exists()
    assert sum("PyTorch's cache folder" in line for line in done.stderr.splitlines()) == 1
    assert sum("compiled code is not kept" in line for line in done.stderr.splitlines()) == 1
