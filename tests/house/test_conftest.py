"""The shared fixtures, tried in a pytest of their own."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]
HERE = Path(__file__).resolve().parents[1]


@pytest.fixture
def suite(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makeconftest((HERE / "conftest.py").read_text(encoding="utf-8"))
    return pytester


def test_a_golden_file_holds_until_it_is_updated(suite: pytest.Pytester) -> None:
    file = suite.path / "golden" / "help.txt"
    suite.makepyfile(f"from pathlib import Path\ndef test(golden): golden(Path({str(file)!r}), 'new')")
    suite.runpytest_subprocess().assert_outcomes(failed=1)  # missing
    assert not file.exists()
    suite.runpytest_subprocess("--update-golden").assert_outcomes(passed=1)
    suite.runpytest_subprocess().assert_outcomes(passed=1)
    file.write_text("old")
    suite.runpytest_subprocess().assert_outcomes(failed=1)
    assert file.read_text() == "old"


def test_missing_real_data_is_a_skip_that_names_it(suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    suite.makepyfile("def test(real_data): assert real_data('ml', 'ratings.csv').read_text() == 'here'")
    monkeypatch.setenv("MARQUEE_DATA", str(suite.path / "data"))
    skipped = suite.runpytest_subprocess("-rs")
    skipped.assert_outcomes(skipped=1)
    skipped.stdout.fnmatch_lines(["*no ml/ratings.csv*MARQUEE_DATA*"])
    (suite.path / "data" / "ml").mkdir(parents=True)
    (suite.path / "data" / "ml" / "ratings.csv").write_text("here")
    suite.runpytest_subprocess().assert_outcomes(passed=1)


def test_logging_that_a_test_configures_ends_with_it(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        """
        import logging, sys

        def test_configures():
            logging.basicConfig(stream=sys.stderr, force=True)
            logging.getLogger("sdk").setLevel(logging.INFO)

        def test_is_untouched(capsys, caplog):
            caplog.set_level(logging.INFO, "sdk.x")
            logging.getLogger("sdk.x").info("a line")
            assert caplog.messages == ["a line"]
            assert capsys.readouterr().err == ""
            assert logging.getLogger("sdk").level == logging.NOTSET
        """
    )
    suite.runpytest_subprocess().assert_outcomes(passed=2)


def test_a_process_that_a_test_leaves_behind_fails_and_is_ended(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        """
        import pathlib, subprocess, sys

        def test():
            left = subprocess.Popen([sys.executable, "-c", "input('left here')"], stdin=subprocess.PIPE)
            pathlib.Path("pid").write_text(str(left.pid))
        """
    )
    result = suite.runpytest_subprocess()
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*left running:*left here*"])
    stat = Path("/proc", (suite.path / "pid").read_text(), "stat")
    assert not stat.exists() or ") Z " in stat.read_text()  # gone, or waited for by nobody


def test_a_fork_of_the_process_that_runs_the_tests_fails(suite: pytest.Pytester) -> None:
    suite.makepyprojecttoml((HERE.parent / "pyproject.toml").read_text(encoding="utf-8"))
    suite.makepyfile(
        """
        import subprocess, sys

        def test():
            subprocess.run([sys.executable, "-c", ""], preexec_fn=lambda: None)
        """
    )
    result = suite.runpytest_subprocess(".")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*has threads and is forked*"])


def test_a_test_that_hangs_ends_with_where_it_stood(suite: pytest.Pytester) -> None:
    suite.makepyprojecttoml((HERE.parent / "pyproject.toml").read_text(encoding="utf-8"))
    suite.makepyfile("import threading\ndef test(): threading.Event().wait(100)")
    result = suite.runpytest_subprocess(".", "-o", "faulthandler_timeout=0.5", timeout=60)
    assert result.ret == 1
    result.stderr.fnmatch_lines(["Timeout*", "*test_a_test_that_hangs*line 2 in test"])


def test_no_test_patches_a_private_function_of_what_it_tests() -> None:
    private = re.compile(r"setattr\((?:[^,\"]+, \"_[a-z]|\"(?:sdk|batch|export)[\w.]*\._[a-z])")
    patched = [
        f"{path.relative_to(HERE)}:{number}"
        for path in sorted(HERE.rglob("test_*.py"))
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if private.search(line) and "fake_triton" not in line and path != Path(__file__)
    ]
    assert patched == []
