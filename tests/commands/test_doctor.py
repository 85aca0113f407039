"""The doctor says what is there and how to get the rest."""

from __future__ import annotations

import importlib.metadata
import json
import re
import sys
import tomllib
from pathlib import Path

import pytest

from sdk.__main__ import main
from sdk.base.errors import how_to_get
from sdk.commands import doctor

PROJECT = tomllib.loads((Path(__file__).resolve().parents[2] / "pyproject.toml").read_text("utf-8"))["project"]


def test_every_optional_part_has_its_purpose():
    assert set(doctor.EXTRAS) == (set(PROJECT["optional-dependencies"]) - {"dev"}) | {"merlin"}


def test_it_finds_the_versions_that_pip_installed():
    found = {package.name: package for package in doctor.examine().packages}
    assert len(found) == sum("extra ==" not in line for line in importlib.metadata.requires(doctor.DISTRIBUTION))
    for name in ("torch", "numpy", "pandas"):
        assert (found[name].found, found[name].state) == (importlib.metadata.version(name), "ok")


@pytest.mark.parametrize(
    ("requirement", "state"),
    [
        ("numpy>=1.0", "ok"),
        ("numpy>=999", "other version"),
        ("no-such-package-of-that-name>=1", "absent"),
        ('no-such-package-of-that-name; extra == "tune"', "absent"),
        ("numpy", "ok"),
    ],
)
def test_a_package_is_compared_with_what_is_asked(requirement, state):
    (package,) = doctor.packages_of([requirement])
    assert package.state == state
    assert package.extra == ("tune" if "extra" in requirement else "")


def test_requirements_of_other_interpreters_and_of_developers_are_left_out():
    assert doctor.packages_of(['numpy; python_version < "3"', 'ruff; extra == "dev"']) == []


def test_a_healthy_environment_is_exit_code_0_and_strict_json(capsys):
    assert main(["doctor", "--json"]) == 0
    values = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert values["healthy"]
    assert values["cores"] >= 1
    assert set(values["extras"]) == set(doctor.EXTRAS)


def test_a_missing_package_is_named_with_the_remedy(monkeypatch, capsys):
    asked = ["numpy>=1.0", "no-such-package-of-that-name>=1", 'another-absent-one>=2; extra == "tune"']
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: asked)
    assert main(["doctor"]) == 2
    text = capsys.readouterr().out
    assert "NOT complete" in text
    assert "sh setup.sh" in text
    assert re.search(rf"^ +{re.escape(how_to_get('tune'))}( \(another-absent-one\))?$", text, re.M)


def test_from_a_checkout_that_is_not_installed_it_says_so(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "DISTRIBUTION", "no-such-package-of-that-name")
    assert main(["doctor"]) == 2
    text = capsys.readouterr().out
    assert re.search(r"^marquee +[0-9.]+$", text, re.M)
    assert re.search(r"^  no-such-package-of-that-name +absent", text, re.M)
    assert "sh setup.sh" in text


def test_without_packaging_it_says_that_it_lacks(monkeypatch, capsys):
    for name in ("packaging", "packaging.requirements", "packaging.specifiers"):
        monkeypatch.setitem(sys.modules, name, None)
    assert main(["doctor"]) == 2
    assert re.search(r"^  packaging +absent", capsys.readouterr().out, re.M)


@pytest.mark.parametrize("version", [None, "23.8.0"])
def test_merlin_is_an_optional_part_that_a_checkout_sets_up(monkeypatch, version):
    def found(name):
        if version is None:
            raise importlib.metadata.PackageNotFoundError(name)
        return version

    monkeypatch.setattr(importlib.metadata, "version", found)
    remedy = doctor.examine().remedy("merlin")
    assert remedy == "" if version else "sh setup.sh in a checkout" in remedy


def test_versions_stand_in_one_column_whatever_their_length(monkeypatch, capsys):
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: ["a-rather-long-name", "torch>=1", "numpy>=1"])
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "23.10.0a230928" if "-" in name else "1.0")
    assert main(["doctor"]) == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if re.match(r"  \S+ +[0-9.a]+ +ok$", line)]
    assert [line.split()[0] for line in rows] == ["a-rather-long-name", "torch", "numpy"]
    assert len({re.search(r" +(?=[0-9])", line).end() for line in rows}) == 1
    assert len({line.rindex("ok") for line in rows}) == 1


def test_optional_parts_stand_on_80_columns(monkeypatch, capsys):
    listed = ["numpy>=1", *(f'{extra}-package; extra == "{extra}"' for extra in doctor.EXTRAS)]
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: listed)
    main(["doctor"])
    lines = capsys.readouterr().out.partition("optional parts:\n")[2].splitlines()
    purposes = [line for line in lines if line.startswith("  ") and not line.startswith("   ")]
    assert [line.split()[0] for line in purposes] == list(doctor.EXTRAS)
    assert [line for line in purposes if len(line) > 80] == []
    assert [line for line in lines if len(line) > 80 and "merlin" not in line] == []
